//! Connections of which what is asked decides: to the proxy, and back from it.
//!
//! The first packet of such a connection makes a flow that says so, and a [`Detour`]; from then on what arrives at the hook from
//! either side goes to the proxy, whatever policy says of it later, until the connection ends. What the proxy sends in the name of
//! an end comes back to the same hook with a mark; there it is looked at as that end's, and only goes on if it is of such a flow.

use super::fast::{Speaks, note};
use super::judgement::{Asked, fault, in_full, permitted, service, settle, unread};
use super::{Act, Arrival, Bench, Kernel, Outcome, Work};
use crate::abi::{Direction, Endpoint};
use crate::detour::Detour;
use crate::family::{Family, Ipv4, Ipv6};
use crate::fault::Fault;
use crate::flow::{FlowKey, Side};
use crate::interface::Interface;
use crate::lookup::Origin;
use crate::mark::Mark;
use crate::packet::{Frame, Readable, ether_type, protocol};

/// For how many seconds after the last packet that went by the proxy an interface is looked at as one with such connections: as
/// long as a connection may be silent (RFC 5382 section 5).
const REMEMBERED: u32 = 7440;

/// Where a packet of the proxy comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Return {
    /// The interface.
    pub interface: u32,
    /// Whether it comes back as if the interface had received it; else the interface sends it.
    pub received: bool,
    /// The first twelve bytes of the frame, as they are to lie.
    pub macs: [u32; 3],
    /// The mark with which it goes on.
    pub mark: u32,
}

/// Whether connections of an endpoint may go by the proxy at its interface, though no policy may speak about it any more (or
/// never did: the policy was that of who called it).
#[inline(always)]
pub(super) fn is_remembered<A: Family, K: Kernel<A>>(kernel: &K, index: u16) -> bool {
    let settings = kernel.settings();
    if settings.proxies[0] == 0 {
        return false;
    }
    let last = kernel.detoured(index);
    last != 0 && kernel.now().wrapping_sub(last) <= settings.second.saturating_mul(REMEMBERED)
}

/// A packet of a flow goes to the proxy that has its connection; open if there is none any more.
#[inline(never)]
pub(super) fn way<A: Family, K: Kernel<A>>(kernel: &K, key: &FlowKey<A>, index: u16) -> Outcome {
    match kernel.detour(key) {
        Some(detour) if kernel.settings().is_proxy(detour.proxy) => {
            kernel.note_detour(index);
            Outcome::redirect(detour.proxy)
        }
        _ => Outcome::OPEN,
    }
}

/// A packet of the flow in `work`, which goes by the proxy, goes there; if that proxy is gone, its sender is told.
#[inline(always)]
pub(super) fn redirected<A: Family, K: Kernel<A>>(
    kernel: &K,
    work: &mut Work<A>,
    arrival: &Arrival,
    (direction, index): (Direction, u16),
) -> Outcome {
    let outcome = way(kernel, &work.key, index);
    if outcome == Outcome::OPEN { cut(work, arrival, direction) } else { outcome }
}

/// What happens to an answer from outside to a connection that goes by the proxy where it leaves the node; open if it is none.
/// Without its proxy it is dropped.
#[inline(never)]
pub(super) fn answered<A: Readable, K: Kernel<A>, F: Frame>(kernel: &K, frame: &F) -> Outcome {
    let Some(headers) = A::common(frame) else { return Outcome::OPEN };
    if headers.protocol != protocol::TCP {
        return Outcome::OPEN;
    }
    let (key, sender) = FlowKey::of(&headers);
    match kernel.flow(&key) {
        Some(flow) if flow.is_detoured_outside() && flow.began() != sender => {
            match way(kernel, &key, flow.index(flow.began())) {
                Outcome::OPEN => Outcome::drop(),
                there => there,
            }
        }
        _ => Outcome::OPEN,
    }
}

/// Ends a connection of which what is asked decides, and that nobody reads: its sender is told.
#[inline(always)]
pub(super) fn cut<A: Family>(work: &mut Work<A>, arrival: &Arrival, direction: Direction) -> Outcome {
    let _told = fault(work, arrival, direction, Fault::RequestUnread);
    Outcome::stop(Act::Reject)
}

/// The first packet of a connection goes to the proxy. `work.flow` is the flow as it is to be written down, and says where its
/// detour is.
#[inline(never)]
pub(super) fn depart<A, K, F>(
    kernel: &K,
    frame: &F,
    work: &mut Work<A>,
    arrival: &Arrival,
    own: &Interface,
) -> Outcome
where
    A: Readable,
    K: Kernel<A>,
    F: Frame,
{
    let from_inner = work.flow.is_detoured_outside() || work.flow.is_detoured(work.sender);
    let direction = if from_inner { Direction::Egress } else { Direction::Ingress };
    let proxy = kernel.settings().proxies[0];
    let Some(macs) = frame.words::<3>(0) else { return fault(work, arrival, direction, Fault::Malformed) };
    if proxy == 0 || !work.headers.is_syn() {
        return cut(work, arrival, direction);
    }
    let inner = if from_inner { work.sender } else { work.sender.other() };
    let detour = Detour::new(proxy, arrival.interface, own.index, inner, work.flow.is_detoured_outside())
        .with_macs(macs, work.sender);
    let speaks = if from_inner { Speaks::ForSender } else { Speaks::ForReceiver };
    // In this order: user space removes detours of which there is no flow.
    if !settle(kernel, work, own, kernel.generation(), speaks) || !kernel.set_detour(&work.key, &detour) {
        return fault(work, arrival, direction, Fault::FlowShare);
    }
    kernel.note_detour(own.index);
    Outcome::redirect(proxy)
}

/// Says in `work.asked` what policy is asked about an end of the flow in `work`: that of the endpoint there.
#[inline(always)]
pub(super) fn ask_of<A: Family, K: Kernel<A>>(kernel: &K, work: &mut Work<A>, own: &Interface, side: Side) {
    let (other, flow) = (side.other(), &work.flow);
    let (shown, port) = work.key.end(other);
    let near = kernel.interface(kernel.number(flow.index(other)));
    work.asked = if flow.began() == side {
        let origin = if shown == A::own(own) { Origin::OwnAddress } else { Origin::Elsewhere };
        // As it was asked at first: a service shows its own address only where its backend is the node itself.
        let (peer, port) = service(kernel, (shown, port), work.headers.protocol)
            .and_then(|service| service.backend)
            .unwrap_or((shown, port));
        Asked { number: own.number, direction: Direction::Egress, peer, port, origin, fresh: false }
    } else {
        // The peer's address may be that of the node in front of it; the flow remembers whose it really is.
        let peer = near.map(A::own).filter(|own| !own.is_unspecified()).unwrap_or(shown);
        let origin = if flow.is_of_node() {
            Origin::OwnNode
        } else if near.is_some_and(|near| near.number == own.number) {
            Origin::OwnAddress
        } else {
            Origin::Elsewhere
        };
        let (direction, port) = (Direction::Ingress, work.key.end(side).1);
        Asked { number: own.number, direction, peer, port, origin, fresh: false }
    };
}

/// What happens to a packet of the proxy at a pod's interface.
///
/// Not a part of how other packets are looked at, for the sake of the stack.
#[inline(never)]
pub(super) fn returned<K4, K6, F, B>(
    four: &K4,
    six: &K6,
    frame: &F,
    arrival: &Arrival,
    mut bench: B,
) -> Outcome
where
    K4: Kernel<Ipv4>,
    K6: Kernel<Ipv6>,
    F: Frame,
    B: Bench,
{
    match arrival.ether_type {
        ether_type::IPV4 => {
            in_full(four, arrival, Direction::Egress, bench.four(), |work| onward(four, frame, work, arrival))
        }
        ether_type::IPV6 => {
            in_full(six, arrival, Direction::Egress, bench.six(), |work| onward(six, frame, work, arrival))
        }
        _ => unread(four, arrival, Direction::Egress, Fault::NotIp.into()),
    }
}

/// It goes on if its flow goes by the proxy there, and policy does not deny it by now. What is asked is the proxy's to judge.
#[inline(never)]
fn onward<A: Readable, K: Kernel<A>, F: Frame>(
    kernel: &K,
    frame: &F,
    work: &mut Work<A>,
    arrival: &Arrival,
) -> Outcome {
    // Which of the pod's two hooks this is follows from whose packet it is.
    if let Err(why) = A::read(frame, &mut work.headers) {
        return fault(work, arrival, Direction::Egress, why);
    }
    let Some(own) = kernel.interface(arrival.interface) else {
        return fault(work, arrival, Direction::Egress, Fault::Held);
    };
    (work.key, work.sender) = FlowKey::of(&work.headers);
    let generation = kernel.generation();
    let known = kernel.flow(&work.key).filter(|flow| flow.is_read() && !flow.is_over(kernel.now()));
    let Some(flow) = known.filter(|_| own.endpoint.at(generation) != Endpoint::HOLD) else {
        return fault(work, arrival, Direction::Egress, Fault::RequestUnread);
    };
    work.flow = flow;
    let (side, speaks) = if flow.is_detoured(work.sender) && flow.index(work.sender) == own.index {
        (work.sender, Speaks::ForSender)
    } else {
        (work.sender.other(), Speaks::ForReceiver)
    };
    if !flow.is_detoured(side) || flow.index(side) != own.index {
        return fault(work, arrival, Direction::Egress, Fault::RequestUnread);
    }
    if flow.is_judged(side, own.number, generation) {
        note(kernel, &work.key, &flow, work.sender, &work.headers);
    } else {
        ask_of(kernel, work, own, side);
        let act = permitted(kernel, work);
        if act != Act::Pass {
            return Outcome::stop(act);
        }
        if !settle(kernel, work, own, generation, speaks) {
            return fault(work, arrival, Direction::Egress, Fault::FlowShare);
        }
    }
    let mark = if speaks == Speaks::ForSender { Mark::From(own.index) } else { Mark::Proxied(own.index) };
    arrival.marked(mark, kernel.settings())
}

/// Where a frame that comes from a proxy goes on; `None`: it is of no connection that went there.
#[inline(always)]
pub fn from_proxy<K4, K6, F>(four: &K4, six: &K6, frame: &F, arrival: &Arrival) -> Option<Return>
where
    K4: Kernel<Ipv4>,
    K6: Kernel<Ipv6>,
    F: Frame,
{
    let back = match arrival.ether_type {
        ether_type::IPV4 => back(four, frame, arrival),
        ether_type::IPV6 => back(six, frame, arrival),
        _ => None,
    };
    if back.is_none() {
        let _dropped = unread(four, arrival, Direction::Egress, Fault::RequestUnread.into());
    }
    back
}

#[inline(always)]
fn back<A: Readable, K: Kernel<A>, F: Frame>(kernel: &K, frame: &F, arrival: &Arrival) -> Option<Return> {
    let headers = A::common(frame)?;
    let (key, sender) = FlowKey::of(&headers);
    let detour = kernel.detour(&key).filter(|detour| detour.proxy == arrival.interface)?;
    Some(Return {
        interface: detour.interface,
        received: detour.is_received(sender),
        macs: detour.macs(sender),
        mark: Mark::Proxied(detour.index).put(arrival.mark, kernel.settings().mark_shift),
    })
}
