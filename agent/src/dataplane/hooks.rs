//! The hooks of an interface, and what can be wrong with one.

use std::fmt;
use std::io;

use super::clsact::Side;
use super::error::Error;
use super::programs::Hook;
use super::sys::link::Site;

/// How classifiers are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Hooks {
    /// By tcx if the kernel has it (Linux 6.6), else by clsact.
    #[default]
    Auto,
    /// By tcx: links that are first on their hook.
    Tcx,
    /// As filters of the clsact qdisc.
    Clsact,
}

/// How the XDP program is attached to uplinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Xdp {
    /// In the driver if it can, else generic.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// Behind the driver.
    Generic,
    /// Not at all.
    Off,
}

impl Role {
    /// The hooks of an interface.
    pub(super) fn hooks(self) -> &'static [Hook] {
        match self {
            Self::Pod => &[Hook::FromPod, Hook::ToPod],
            Self::Outside { early: false } => &[Hook::FromOutside, Hook::ToOutside],
            Self::Outside { early: true } => &[Hook::FromOutside, Hook::ToOutside, Hook::Early],
            Self::Proxy => &[Hook::FromProxy],
        }
    }
}

/// What leads through an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A pod is at the other end.
    Pod,
    /// Packets come from outside the node by it.
    Outside {
        /// Whether frames are looked at early: on uplinks, not on tunnel devices.
        early: bool,
    },
    /// A proxy is at the other end.
    Proxy,
}

/// A hook of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The interface's index.
    pub interface: u32,
    /// The hook.
    pub hook: Hook,
}

/// By which means a program is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Means {
    /// A tcx link.
    Tcx,
    /// A filter of the clsact qdisc.
    Clsact,
    /// An XDP link.
    Xdp,
    /// Not attached, which costs nothing but time: the reason.
    Off(String),
}

/// What was not as it should be at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flaw {
    /// No program of ours was there.
    Gone,
    /// Another program stood in front of ours.
    Behind,
    /// The link held another program.
    Replaced,
    /// The link's pin was gone: it would not have outlived the agent.
    Unpinned,
}

/// A flaw that was found, and whether it could be put right.
#[derive(Debug)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// What.
    pub flaw: Flaw,
    /// Why it is still there, if it is.
    pub failure: Option<Error>,
}

/// A hook, as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookStatus {
    /// Where.
    pub place: Place,
    /// By which means.
    pub means: Means,
    /// How many programs are in front; `None` if ours is not there.
    pub position: Option<u32>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hook {} of interface {}", self.hook.name(), self.interface)
    }
}

impl Place {
    pub(super) fn pin(self) -> String {
        format!("{}-{}", self.interface, self.hook.name())
    }

    pub(super) fn parse(pin: &str) -> Option<Self> {
        let (interface, hook) = pin.split_once('-')?;
        let hook = Hook::ALL.into_iter().find(|known| known.name() == hook)?;
        Some(Self { interface: interface.parse().ok()?, hook })
    }

    pub(super) fn failed(self, operation: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |error| Error::Hook { place: self, operation, error }
    }

    pub(super) const fn site(self) -> Site {
        match self.hook {
            Hook::FromPod | Hook::FromOutside | Hook::FromProxy => Site::TcxIngress,
            Hook::ToPod | Hook::ToOutside => Site::TcxEgress,
            Hook::Early => Site::Xdp,
        }
    }

    pub(super) const fn side(self) -> Side {
        match self.hook {
            Hook::FromPod | Hook::FromOutside | Hook::FromProxy | Hook::Early => Side::Ingress,
            Hook::ToPod | Hook::ToOutside => Side::Egress,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_again_by_the_name_of_its_pin() {
        for hook in Hook::ALL {
            let place = Place { interface: 7, hook };
            assert_eq!(Place::parse(&place.pin()), Some(place));
            assert_eq!(Place::parse(&format!("{}-next", place.pin())), None);
        }
    }
}
