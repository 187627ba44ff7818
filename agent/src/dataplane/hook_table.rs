//! Programs on hooks: attached, replaced without a gap, found again after a restart, and put right when somebody moved them.
//!
//! Links are pinned, so what is attached outlives the agent. A link is never taken off before its successor stands: another
//! program is put into it in place, and to stand in front again a second link with a second program comes before the first
//! one goes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use super::clsact::{self, HANDLES, PRIORITY};
use super::error::Error;
use super::hooks::{Finding, Flaw, HookStatus, Hooks, Means, Place, Role, Xdp};
use super::pins::{self, Root};
use super::programs::{Hook, Program, Programs};
use super::sys;
use super::sys::link::{self, Site, XdpMode};

/// Loopback, which is there in every namespace.
const LOOPBACK: u32 = 1;
/// What a classifier returns to have a packet dropped (`TC_ACT_SHOT`).
const DROP: u32 = 2;

#[derive(Debug)]
enum Attached {
    Link(OwnedFd),
    /// Which of our handles the filter has.
    Filter(usize),
    Off(String),
}

/// The hooks that programs are attached to.
#[derive(Debug)]
pub(super) struct Table {
    links: PathBuf,
    tcx: bool,
    xdp: Xdp,
    attached: BTreeMap<Place, Attached>,
    flaws: BTreeMap<Flaw, u64>,
}

impl Table {
    /// A table without hooks; asks the kernel whether it has tcx.
    pub(super) fn new(root: &Root, hooks: Hooks, xdp: Xdp) -> Self {
        let tcx = match hooks {
            Hooks::Tcx => true,
            Hooks::Clsact => false,
            // Kernels without it do not know what is asked for (EINVAL).
            Hooks::Auto => link::programs_at(LOOPBACK, Site::TcxIngress).is_ok(),
        };
        Self { links: root.links(), tcx, xdp, attached: BTreeMap::new(), flaws: BTreeMap::new() }
    }

    /// Puts the programs into all links that an agent before this one left; forgets those whose device is gone. Gives how
    /// many there are now.
    pub(super) fn adopt(&mut self, programs: &Programs) -> Result<usize, Error> {
        for name in pins::names(&self.links)? {
            let path = self.links.join(&name);
            let Some(place) = Place::parse(&name) else {
                // Left by an agent that ended between attaching and renaming: the link beside it still stands.
                if name.ends_with("-next") {
                    pins::remove(&path)?;
                }
                continue;
            };
            if !self.adopt_link(place, programs)? {
                pins::remove(&path)?;
            }
        }
        Ok(self.attached.len())
    }

    /// False if there is no link there, or none that holds anything.
    fn adopt_link(&mut self, place: Place, programs: &Programs) -> Result<bool, Error> {
        let path = self.links.join(place.pin());
        let Some(link) = sys::pinned(&path).map_err(place.failed("open the pinned link"))? else {
            return Ok(false);
        };
        let info = link::link_info(&link).map_err(place.failed("ask what a link holds"))?;
        if info.interface != place.interface {
            return Ok(false);
        }
        if !programs.is_ours(place.hook, info.program) {
            link::update(link.as_fd(), programs.hook(place.hook).fd())
                .map_err(place.failed("replace the program"))?;
        }
        self.attached.insert(place, Attached::Link(link));
        Ok(true)
    }

    /// Attaches the programs of a role to an interface. What is there already stays.
    pub(super) fn attach(&mut self, interface: u32, role: Role, programs: &Programs) -> Result<(), Error> {
        // All that can be attached is, whatever fails: half closed is better than open.
        let mut first = Ok(());
        for hook in role.hooks() {
            let place = Place { interface, hook: *hook };
            let attached =
                if self.attached.contains_key(&place) { Ok(()) } else { self.attach_at(place, programs) };
            // Whatever was attached before, or a failed check would be forgotten with the next look.
            first = first.and(attached.and_then(|()| self.check(place, programs)));
        }
        first
    }

    fn attach_at(&mut self, place: Place, programs: &Programs) -> Result<(), Error> {
        let path = self.links.join(place.pin());
        if place.hook == Hook::Early {
            return self.attach_early(place, programs);
        }
        if !self.tcx {
            let handle = set_filter(place, programs.hook(place.hook))?;
            self.attached.insert(place, Attached::Filter(handle));
            // From a time when it was attached by tcx.
            return pins::remove(&path);
        }
        if !self.adopt_link(place, programs)? {
            pins::remove(&path)?;
            let program = programs.hook(place.hook);
            let link = link::attach_first(program.fd(), place.interface, place.site())
                .map_err(place.failed("attach by tcx"))?;
            self.keep(place, link)?;
        }
        remove_filters(place)
    }

    fn attach_early(&mut self, place: Place, programs: &Programs) -> Result<(), Error> {
        if self.xdp == Xdp::Off {
            pins::remove(&self.links.join(place.pin()))?;
            self.attached.insert(place, Attached::Off("switched off by --xdp off".to_owned()));
            return Ok(());
        }
        if self.adopt_link(place, programs)? {
            return Ok(());
        }
        pins::remove(&self.links.join(place.pin()))?;
        let modes: &[XdpMode] = match self.xdp {
            Xdp::Native => &[XdpMode::Native],
            Xdp::Generic => &[XdpMode::Generic],
            Xdp::Auto | Xdp::Off => &[XdpMode::Native, XdpMode::Generic],
        };
        let mut refusals = Vec::new();
        for mode in modes {
            match link::attach_xdp(programs.hook(place.hook).fd(), place.interface, *mode) {
                Ok(link) => return self.keep(place, link),
                Err(error) if is_taken(&error) => {
                    refusals.push("another XDP program is there".to_owned());
                    break;
                }
                Err(error) => refusals.push(format!("{mode:?}: {error}")),
            }
        }
        self.attached.insert(place, Attached::Off(refusals.join("; ")));
        Ok(())
    }

    /// Pins a link; if that cannot be, the link goes again.
    fn keep(&mut self, place: Place, link: OwnedFd) -> Result<(), Error> {
        sys::pin(link.as_fd(), &self.links.join(place.pin())).map_err(place.failed("pin the link"))?;
        self.attached.insert(place, Attached::Link(link));
        Ok(())
    }

    /// Takes all programs off an interface, which may be gone already.
    pub(super) fn detach(&mut self, interface: u32) -> Result<(), Error> {
        let places: Vec<Place> =
            self.attached.keys().filter(|place| place.interface == interface).copied().collect();
        for place in places {
            pins::remove(&self.links.join(place.pin()))?;
            if let Some(Attached::Filter(which)) = self.attached.remove(&place) {
                clsact::remove(interface, place.side(), HANDLES[which])
                    .map_err(place.failed("remove the filter"))?;
            }
        }
        Ok(())
    }

    /// The hooks that programs are attached to, or were.
    pub(super) fn status(&self) -> Vec<HookStatus> {
        let status = |(place, attached): (&Place, &Attached)| {
            let (means, position) = match attached {
                Attached::Link(link) if place.hook == Hook::Early => {
                    let there = link::link_info(link).is_ok_and(|info| info.interface == place.interface);
                    (Means::Xdp, there.then_some(0))
                }
                Attached::Link(link) => (Means::Tcx, link_position(*place, link).ok().flatten()),
                Attached::Filter(which) => (Means::Clsact, filter_position(*place, *which).ok().flatten()),
                Attached::Off(reason) => (Means::Off(reason.clone()), None),
            };
            HookStatus { place: *place, means, position: position.and_then(|at| u32::try_from(at).ok()) }
        };
        self.attached.iter().map(status).collect()
    }

    /// How many flaws of each kind were found so far.
    pub(super) fn flaws(&self) -> &BTreeMap<Flaw, u64> {
        &self.flaws
    }

    /// Looks at every hook and puts right what is not as it should be. Hooks of devices that are gone are forgotten.
    pub(super) fn verify(&mut self, programs: &mut Programs) -> Vec<Finding> {
        let places: Vec<Place> = self.attached.keys().copied().collect();
        let mut findings = Vec::new();
        for place in places {
            let (flaw, failure) = match self.flaw(place, programs) {
                Ok(None) => continue,
                Ok(Some(flaw)) => (flaw, self.repair(place, flaw, programs).err()),
                Err(error) if is_gone(&error) => {
                    let failure = self.detach(place.interface).err();
                    match failure {
                        None => continue,
                        Some(error) => (Flaw::Gone, Some(error)),
                    }
                }
                Err(error) => (Flaw::Gone, Some(error)),
            };
            *self.flaws.entry(flaw).or_default() += 1;
            findings.push(Finding { place, flaw, failure });
        }
        findings
    }

    fn flaw(&self, place: Place, programs: &Programs) -> Result<Option<Flaw>, Error> {
        let failed = || place.failed("ask what is attached");
        let (program, position) = match self.attached.get(&place) {
            None | Some(Attached::Off(_)) => return Ok(None),
            Some(Attached::Filter(which)) => {
                let filters = clsact::filters(place.interface, place.side()).map_err(failed())?;
                let position = filters.iter().position(|filter| is_ours(filter, HANDLES[*which]));
                (position.and_then(|at| filters[at].program).unwrap_or(0), position)
            }
            Some(Attached::Link(link)) if place.hook == Hook::Early => {
                let info = link::link_info(link).map_err(failed())?;
                (info.program, (info.interface == place.interface).then_some(0))
            }
            Some(Attached::Link(link)) => {
                let program = link::link_info(link).map_err(failed())?.program;
                (program, link_position(place, link).map_err(failed())?)
            }
        };
        let is_link = matches!(self.attached.get(&place), Some(Attached::Link(_)));
        Ok(match position {
            None => Some(Flaw::Gone),
            Some(_) if !programs.is_ours(place.hook, program) => Some(Flaw::Replaced),
            Some(1..) => Some(Flaw::Behind),
            Some(0) if is_link && !self.links.join(place.pin()).exists() => Some(Flaw::Unpinned),
            Some(0) => None,
        })
    }

    fn repair(&mut self, place: Place, flaw: Flaw, programs: &mut Programs) -> Result<(), Error> {
        match (self.attached.get(&place), flaw) {
            (Some(Attached::Filter(which)), _) => {
                let which = *which;
                self.renew_filter(place, which, flaw, programs)
            }
            (Some(Attached::Link(link)), Flaw::Unpinned) => {
                sys::pin(link.as_fd(), &self.links.join(place.pin())).map_err(place.failed("pin the link"))
            }
            (Some(Attached::Link(link)), Flaw::Replaced) => {
                link::update(link.as_fd(), programs.hook(place.hook).fd())
                    .map_err(place.failed("replace the program"))
            }
            (Some(Attached::Link(_)), Flaw::Gone) if place.hook == Hook::Early => {
                self.attached.remove(&place);
                pins::remove(&self.links.join(place.pin()))?;
                self.attach_early(place, programs)
            }
            (Some(Attached::Link(_)), Flaw::Gone) => {
                // Nothing of ours is there, so the kernel takes the program that is loaded already.
                self.come_first(place, programs.hook(place.hook))
            }
            (Some(Attached::Link(link)), Flaw::Behind) => {
                let held = link::link_info(link).map_err(place.failed("ask what a link holds"))?.program;
                self.come_first(place, programs.other(place.hook, held)?)
            }
            (Some(Attached::Off(_)) | None, _) => Ok(()),
        }?;
        self.check(place, programs)
    }

    /// A second link, with a program that is not there yet, first on the hook; only then the one before goes.
    fn come_first(&mut self, place: Place, program: &Program) -> Result<(), Error> {
        let link = link::attach_first(program.fd(), place.interface, place.site())
            .map_err(place.failed("attach in front"))?;
        let (pin, next) = (self.links.join(place.pin()), self.links.join(format!("{}-next", place.pin())));
        pins::remove(&next)?;
        sys::pin(link.as_fd(), &next).map_err(place.failed("pin the link"))?;
        fs::rename(&next, &pin).map_err(place.failed("rename the pin of the link"))?;
        self.attached.insert(place, Attached::Link(link));
        Ok(())
    }

    fn renew_filter(
        &mut self,
        place: Place,
        which: usize,
        flaw: Flaw,
        programs: &Programs,
    ) -> Result<(), Error> {
        let failed = || place.failed("attach by clsact");
        let program = programs.hook(place.hook);
        let next = if flaw == Flaw::Behind { 1 - which } else { which };
        clsact::add_qdisc(place.interface).map_err(failed())?;
        clsact::set(place.interface, place.side(), HANDLES[next], program.fd(), place.hook.program())
            .map_err(failed())?;
        self.attached.insert(place, Attached::Filter(next));
        if next != which {
            clsact::remove(place.interface, place.side(), HANDLES[which]).map_err(failed())?;
        }
        Ok(())
    }

    /// Whether the program that is really attached drops a packet of an interface that it knows nothing of. (To a test run
    /// all packets are of loopback, which has never a row.)
    fn check(&self, place: Place, programs: &Programs) -> Result<(), Error> {
        if !matches!(place.hook, Hook::FromPod | Hook::ToPod) {
            return Ok(());
        }
        let failed = || place.failed("run the attached program");
        let id = match self.attached.get(&place) {
            Some(Attached::Link(link)) => link::link_info(link).map_err(failed())?.program,
            Some(Attached::Filter(which)) => {
                let filters = clsact::filters(place.interface, place.side()).map_err(failed())?;
                let ours = filters.iter().find(|filter| is_ours(filter, HANDLES[*which]));
                ours.and_then(|filter| filter.program).unwrap_or(0)
            }
            _ => return Ok(()),
        };
        let Some(program) = programs.by_id(place.hook, id) else {
            return Err(failed()(io::Error::other(format!(
                "the program attached there has the id {id}, which is none of ours"
            ))));
        };
        match sys::run(program.fd(), &FRAME).map_err(failed())? {
            DROP => Ok(()),
            returned => Err(Error::Open { place, returned }),
        }
    }
}

/// Ethernet, IPv4 (192.0.2.1 to 192.0.2.2, of RFC 5737), TCP SYN to port 80.
const FRAME: [u8; 54] = [
    2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, // Ethernet
    0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0xf6, 0xcd, 192, 0, 2, 1, 192, 0, 2, 2, // IPv4
    0x80, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0, // TCP
];

fn is_ours(filter: &clsact::Filter, handle: u32) -> bool {
    filter.priority == PRIORITY && filter.handle == handle
}

/// Where a link's program stands on its hook.
fn link_position(place: Place, link: &OwnedFd) -> io::Result<Option<usize>> {
    let info = link::link_info(link)?;
    let there = link::programs_at(place.interface, place.site())?;
    Ok(there.iter().position(|id| *id == info.program && info.interface == place.interface))
}

fn filter_position(place: Place, which: usize) -> io::Result<Option<usize>> {
    let filters = clsact::filters(place.interface, place.side())?;
    Ok(filters.iter().position(|filter| is_ours(filter, HANDLES[which])))
}

/// Sets the filter of the handle that is there already, or of the first. Gives which.
fn set_filter(place: Place, program: &Program) -> Result<usize, Error> {
    let failed = || place.failed("attach by clsact");
    clsact::add_qdisc(place.interface).map_err(failed())?;
    let filters = clsact::filters(place.interface, place.side()).map_err(failed())?;
    let is_there = |handle: &u32| filters.iter().any(|filter| is_ours(filter, *handle));
    let which = HANDLES.iter().position(is_there).unwrap_or(0);
    clsact::set(place.interface, place.side(), HANDLES[which], program.fd(), place.hook.program())
        .map_err(failed())?;
    Ok(which)
}

/// Filters from a time when programs were attached by clsact.
fn remove_filters(place: Place) -> Result<(), Error> {
    let failed = || place.failed("remove a filter of an earlier time");
    let filters = clsact::filters(place.interface, place.side()).map_err(failed())?;
    for handle in HANDLES {
        if filters.iter().any(|filter| is_ours(filter, handle)) {
            clsact::remove(place.interface, place.side(), handle).map_err(failed())?;
        }
    }
    Ok(())
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST))
}

/// Whether the device is gone.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Hook { error, .. } if error.raw_os_error() == Some(libc::ENODEV))
}
