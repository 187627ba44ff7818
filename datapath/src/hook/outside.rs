//! Packets at the node's uplinks and tunnel devices.

use super::detour::{answered, cut, depart, redirected};
use super::fast::Speaks;
use super::judgement::{
    Asked, Followed, Known, begin, fault, followed, has_no_ports, in_full, known, permitted, remember,
    settle, unread,
};
use super::{Act, Arrival, Bench, Kernel, Outcome, Work};
use crate::abi::Direction;
use crate::family::{Ipv4, Ipv6};
use crate::fault::Fault;
use crate::lookup::Origin;
use crate::mark::Mark;
use crate::packet::{Frame, Part, Readable, ether_type, protocol};

const EGRESS: Direction = Direction::Egress;

/// What happens to a frame that comes in from outside: it is marked as no packet of the node's own, and tunnelled traffic
/// of strangers is dropped.
#[inline(always)]
pub fn from_outside<K4, K6, F>(four: &K4, six: &K6, frame: &F, arrival: &Arrival) -> Outcome
where
    K4: Kernel<Ipv4>,
    K6: Kernel<Ipv6>,
    F: Frame,
{
    let settings = four.settings();
    let stranger = settings.nodes_known != 0
        && match arrival.ether_type {
            ether_type::IPV4 => is_strange(four, frame),
            ether_type::IPV6 => is_strange(six, frame),
            _ => false,
        };
    if stranger {
        return unread(four, arrival, Direction::Ingress, Fault::TunnelStranger.into());
    }
    if settings.proxies[0] != 0 && !matches!(Mark::of(arrival.mark, settings.mark_shift), Mark::Proxied(_)) {
        let answer = match arrival.ether_type {
            ether_type::IPV4 => answered(four, frame),
            ether_type::IPV6 => answered(six, frame),
            _ => Outcome::OPEN,
        };
        if answer != Outcome::OPEN {
            return if answer.act() == Act::Redirect {
                answer
            } else {
                unread(four, arrival, Direction::Ingress, Fault::RequestUnread.into())
            };
        }
    }
    arrival.marked(Mark::Outside, settings)
}

#[inline(always)]
fn is_strange<A: Readable, K: Kernel<A>, F: Frame>(kernel: &K, frame: &F) -> bool {
    A::common(frame).is_some_and(|headers| {
        headers.protocol == protocol::UDP
            && kernel.settings().is_tunnel(headers.destination_port)
            && kernel.is_node(headers.destination)
            && !kernel.is_node(headers.source)
    })
}

/// What happens to a frame that leaves the node: where the sending pod's policy is still to be asked, it is.
#[inline(always)]
pub fn to_outside<K4, K6, F, B>(four: &K4, six: &K6, frame: &F, arrival: &Arrival, mut bench: B) -> Outcome
where
    K4: Kernel<Ipv4>,
    K6: Kernel<Ipv6>,
    F: Frame,
    B: Bench,
{
    let Mark::Deferred(index) = Mark::of(arrival.mark, four.settings().mark_shift) else {
        return Outcome::pass(arrival.mark);
    };
    match arrival.ether_type {
        ether_type::IPV4 => {
            in_full(four, arrival, EGRESS, bench.four(), |work| deferred(four, frame, arrival, index, work))
        }
        ether_type::IPV6 => {
            in_full(six, arrival, EGRESS, bench.six(), |work| deferred(six, frame, arrival, index, work))
        }
        _ => unread(four, arrival, EGRESS, Fault::NotIp.into()),
    }
}

#[inline(never)]
fn deferred<A: Readable, K: Kernel<A>, F: Frame>(
    kernel: &K,
    frame: &F,
    arrival: &Arrival,
    index: u16,
    work: &mut Work<A>,
) -> Outcome {
    if let Err(why) = A::read(frame, &mut work.headers) {
        return fault(work, arrival, EGRESS, why);
    }
    let number = kernel.number(index);
    let Some(pod) = kernel.interface(number) else {
        return fault(work, arrival, EGRESS, Fault::Spoofed);
    };
    let generation = kernel.generation();
    // Behind this hook there may be another one, of the device that carries the tunnel.
    let settled = arrival.marked(Mark::From(index), kernel.settings());
    if work.headers.part == Part::Later {
        match followed(kernel, &work.headers, arrival, EGRESS, generation) {
            Followed::Yes | Followed::Deferred => return settled,
            Followed::No if has_no_ports(&work.headers) => {}
            Followed::No => return fault(work, arrival, EGRESS, Fault::Fragment),
        }
    }
    let known = known(kernel, work) == Known::Yes && work.flow.began() == work.sender;
    if !(known && work.flow.is_judged(work.sender, number, generation)) {
        let (peer, port) = (work.headers.destination, work.headers.destination_port);
        let (direction, origin) = (EGRESS, Origin::Elsewhere);
        work.asked = Asked { number, direction, peer, port, origin, fresh: !known };
        let act = permitted(kernel, work);
        if act != Act::Pass {
            return Outcome::stop(act);
        }
        if work.asks != 0 && !known {
            begin(work, pod);
            work.flow = work.flow.detoured_outside();
            return depart(kernel, frame, work, arrival, pod);
        }
        if work.asks != 0 && !work.flow.is_read() {
            return cut(work, arrival, EGRESS);
        }
    }
    if !known {
        begin(work, pod);
    }
    // Without an entry the next packet is judged in full again: slower, and no less right.
    let _tracked = settle(kernel, work, pod, generation, Speaks::ForSender);
    if known && work.flow.is_detoured_outside() {
        return redirected(kernel, work, arrival, (EGRESS, index));
    }
    remember(kernel, &work.headers, arrival, EGRESS, (generation, true));
    settled
}
