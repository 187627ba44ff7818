//! What happens to a packet at each hook.
//!
//! ```text
//! pod ──> from_pod ──┬──> to_pod ──> pod          Each hook: whose interface, headers, flow.
//!                    └──> to_outside ──> wire     A flow judged here under this generation passes (fast.rs).
//! wire ──> early (XDP) ──> from_outside ──> to_pod Everything else is looked at in full (from_pod.rs, to_pod.rs, ...).
//!
//! any of them ──> proxy ──> from_proxy ──> the same hook   Where what is asked decides (detour.rs).
//! ```
//!
//! Effects are those of [`Kernel`]: reading maps, writing flows, reporting. What happens to the packet is the value that
//! comes back.

mod detour;
mod early;
mod fast;
mod from_pod;
mod judgement;
mod neighbour;
mod outside;
mod to_pod;

use judgement::Asked;

pub use detour::{Return, from_proxy};
pub use early::early;
pub use from_pod::from_pod;
pub use outside::{from_outside, to_outside};
pub use to_pod::to_pod;

use crate::abi::Direction;
use crate::detour::Detour;
use crate::event::{Report, Subject};
use crate::family::{Family, Ipv4, Ipv6};
use crate::fault::Cause;
use crate::flow::{Flow, FlowKey, Fragment, FragmentKey, Side};
use crate::interface::Interface;
use crate::lookup::{Maps, Origin};
use crate::mark::Mark;
use crate::packet::Headers;
use crate::settings::Settings;

/// The maps beyond those of the look-up, the clock, and the way to tell. The kernel implements it over BPF maps.
pub trait Kernel<A: Family>: Maps<EndpointKey = u32> {
    /// What the agent said.
    fn settings(&self) -> &Settings;
    /// The clock, in ticks; it wraps around.
    fn now(&self) -> u32;
    /// A pod's interface.
    fn interface(&self, number: u32) -> Option<&Interface>;
    /// The interface with this number of ours, 0 if there is none.
    fn number(&self, index: u16) -> u32;
    /// The interface of the local pod with this address, 0 if there is none.
    fn local(&self, address: A) -> u32;
    /// Whether an address is one of a node.
    fn is_node(&self, address: A) -> bool;
    /// A service address.
    fn service(&self, key: &ServiceKey) -> Option<Service<A>>;
    /// A flow.
    fn flow(&self, key: &FlowKey<A>) -> Option<Flow>;
    /// Writes down, in place, that a packet of a flow was seen.
    fn note(&self, key: &FlowKey<A>, flow: &Flow);
    /// Adds a flow, or replaces it as a whole but for its owner: an entry stays in the share that it counts in. Fails if
    /// there is no room for one more, in the owner's share or at all.
    #[must_use]
    fn track(&self, key: &FlowKey<A>, flow: &Flow) -> bool;
    /// A first fragment that was let through.
    fn fragment(&self, key: &FragmentKey<A>) -> Option<Fragment>;
    /// Remembers a first fragment that is let through.
    fn remember(&self, key: &FragmentKey<A>, fragment: &Fragment);
    /// Where a flow goes by the proxy.
    fn detour(&self, key: &FlowKey<A>) -> Option<Detour>;
    /// Sets it; false if there is no room.
    #[must_use]
    fn set_detour(&self, key: &FlowKey<A>, detour: &Detour) -> bool;
    /// When a packet last went by the proxy at the interface with this number of ours, in ticks; 0 is never.
    fn detoured(&self, index: u16) -> u32;
    /// Writes down that one does now.
    fn note_detour(&self, index: u16);
    /// Counts and reports a verdict on a new flow, or a drop.
    fn report(&self, report: &Report, subject: &Subject);
}

/// Key of the service map: address (IPv4 in the first four bytes), family, protocol, port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct ServiceKey {
    /// The address.
    pub address: [u8; 16],
    /// The port, in the order of the machine.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// 4 or 6.
    pub family: u8,
}

impl ServiceKey {
    /// The key of an address and a port.
    #[inline(always)]
    pub fn new<A: Family>(address: A, port: u16, protocol: u8) -> Self {
        let family = if A::IS_V4 { 4 } else { 6 };
        Self { address: event_bytes(address), port, protocol, family }
    }
}

/// Value of the service map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ServiceRow {
    /// A backend that is an address of the node itself, at which no further hook will see the packet; all zero if none is.
    pub backend: [u8; 16],
    /// Its port, in the order of the machine.
    pub port: u16,
    /// Explicit padding.
    pub pad: u16,
}

/// A service address, as hooks see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service<A> {
    /// A backend that is an address of the node itself, at which no further hook will see the packet.
    pub backend: Option<(A, u16)>,
}

/// A packet's arrival at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The interface at whose hook the packet is.
    pub interface: u32,
    /// The Ethernet type that the kernel saw, in the order of the machine.
    pub ether_type: u16,
    /// Whether the kernel took an 802.1Q tag off the frame.
    pub tagged: bool,
    /// Whether the packet belongs to a socket of some process on this machine.
    pub has_socket: bool,
    /// The packet's mark.
    pub mark: u32,
    /// Length of the frame.
    pub length: u32,
}

/// Where a packet is looked at in full: too much for the stack of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work<A> {
    /// What the packet says.
    pub headers: Headers<A>,
    /// Its flow's key.
    pub key: FlowKey<A>,
    /// Which end of the flow sent it.
    pub sender: Side,
    /// Its flow.
    pub flow: Flow,
    /// What policy is asked.
    asked: Asked<A>,
    /// Up to two verdicts to be told: of the policy of whoever sent it, and of whoever is to get it.
    reports: [Report; 2],
    /// How many.
    news: u32,
    /// 1 if what is asked over the connection decides.
    asks: u32,
    /// What its sender is told.
    pub answer: [u8; crate::reject::LONGEST],
}

impl<A: Family> Work<A> {
    /// An empty one. (Any address does; none is looked at before it is written.)
    pub fn new(address: A) -> Self {
        let (key, side) = FlowKey::new(0, (address, 0), (address, 0));
        Self {
            headers: Headers::new(address, address, 0, 0, 0),
            key,
            sender: side,
            flow: Flow::begun_by(side),
            asked: Asked {
                number: 0,
                direction: Direction::Ingress,
                peer: address,
                port: 0,
                origin: Origin::Elsewhere,
                fresh: false,
            },
            reports: [Report::new(0, Direction::Ingress, Cause::default(), None); 2],
            news: 0,
            asks: 0,
            answer: [0; crate::reject::LONGEST],
        }
    }
}

/// Where to find a [`Work`] of each family; asked only for packets that need it.
pub trait Bench {
    /// For IPv4.
    fn four(&mut self) -> Option<&mut Work<Ipv4>>;
    /// For IPv6.
    fn six(&mut self) -> Option<&mut Work<Ipv6>>;
}

/// What happens to the packet: an [`Act`], and the mark with which it goes on.
///
/// One number, because programs hand it from function to function: a function of a program has one register to answer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
#[must_use]
pub struct Outcome(u64);

/// Whether a packet goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Act {
    /// It goes on.
    Pass,
    /// It is dropped.
    Drop,
    /// It is dropped, and its sender is told.
    Reject,
    /// It goes to the proxy.
    Redirect,
}

impl Outcome {
    /// Not found out yet: never leaves a hook.
    const OPEN: Self = Self(u64::MAX);

    /// It goes on, with this mark.
    #[inline(always)]
    pub const fn pass(mark: u32) -> Self {
        Self(mark as u64)
    }

    #[inline(always)]
    const fn drop() -> Self {
        Self(1 << 32)
    }

    /// Of an act that does not let it go on.
    #[inline(always)]
    const fn stop(act: Act) -> Self {
        match act {
            Act::Pass | Act::Drop | Act::Redirect => Self::drop(),
            Act::Reject => Self(2 << 32),
        }
    }

    /// It goes to the proxy behind this device.
    #[inline(always)]
    const fn redirect(device: u32) -> Self {
        Self(3 << 32 | device as u64)
    }

    /// Whether it goes on.
    #[inline(always)]
    pub const fn act(self) -> Act {
        match self.0 >> 32 {
            0 => Act::Pass,
            2 => Act::Reject,
            3 => Act::Redirect,
            _ => Act::Drop,
        }
    }

    /// The mark with which it goes on.
    #[inline(always)]
    pub const fn mark(self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are the mark")]
        let mark = self.0 as u32;
        mark
    }

    /// The device behind which the proxy is.
    #[inline(always)]
    pub const fn device(self) -> u32 {
        self.mark()
    }
}

impl Arrival {
    #[inline(always)]
    const fn marked(&self, mark: Mark, settings: &Settings) -> Outcome {
        Outcome::pass(mark.put(self.mark, settings.mark_shift))
    }
}

/// The bytes of an address in events and keys of both families.
#[inline(always)]
fn event_bytes<A: Family>(address: A) -> [u8; 16] {
    match address.address() {
        crate::abi::Address::V4([a, b, c, d]) => [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        crate::abi::Address::V6(bytes) => bytes,
    }
}

const _: () =
    assert!(size_of::<ServiceKey>() == 20 && size_of::<ServiceRow>() == 20 && size_of::<Outcome>() == 8);
