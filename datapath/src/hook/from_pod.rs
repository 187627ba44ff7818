//! Packets that leave a pod: TC ingress of the host side of its veth.

use super::detour::{ask_of, cut, depart, is_remembered, redirected, returned, way};
use super::fast::{Speaks, established};
use super::judgement::{
    Asked, Followed, Known, begin, begins, fault, followed, has_no_ports, in_full, is_related, known,
    permitted, remember, service, settled, unread,
};
use super::neighbour::{Linked, arp, is_own_mac};
use super::{Act, Arrival, Bench, Kernel, Outcome, Work};
use crate::abi::{Direction, Endpoint, Generation};
use crate::family::{Ipv4, Ipv6};
use crate::fault::Fault;
use crate::flow::{Flow, FlowKey, Side};
use crate::interface::Interface;
use crate::lookup::Origin;
use crate::mark::Mark;
use crate::packet::{Frame, Headers, Icmp, Part, Quoting, Readable, ether_type, protocol};
use crate::verdict::Reason;

const EGRESS: Direction = Direction::Egress;

/// What happens to a frame that a pod sends.
#[inline(always)]
pub fn from_pod<K4, K6, F, B>(four: &K4, six: &K6, frame: &F, arrival: &Arrival, mut bench: B) -> Outcome
where
    K4: Kernel<Ipv4>,
    K6: Kernel<Ipv6>,
    F: Frame,
    B: Bench,
{
    let Some(own) = four.interface(arrival.interface) else {
        return unread(four, arrival, EGRESS, Reason::UnknownEndpoint.into());
    };
    // A pod's own packets have no mark when they arrive here.
    let mark = Mark::of(arrival.mark, four.settings().mark_shift);
    if mark == Mark::Judged(own.index) {
        // A rejection that we sent in the pod's name.
        return Outcome::pass(arrival.mark);
    }
    if mark == Mark::Proxied(own.index) {
        return returned(four, six, frame, arrival, bench);
    }
    let generation = four.generation();
    let endpoint = own.endpoint.at(generation);
    let what_is_wrong = if endpoint == Endpoint::HOLD {
        Fault::Held
    } else if arrival.tagged {
        Fault::Vlan
    } else {
        match arrival.ether_type {
            ether_type::IPV4 => {
                let outcome = everyday(four, frame, arrival, own, generation);
                if outcome != Outcome::OPEN {
                    return outcome;
                }
                return in_full(four, arrival, EGRESS, bench.four(), |work| {
                    otherwise(four, frame, arrival, work)
                });
            }
            ether_type::IPV6 => {
                let outcome = everyday(six, frame, arrival, own, generation);
                if outcome != Outcome::OPEN {
                    return outcome;
                }
                return in_full(six, arrival, EGRESS, bench.six(), |work| {
                    otherwise(six, frame, arrival, work)
                });
            }
            ether_type::ARP => return arp(four, frame, arrival, own),
            _ => Fault::NotIp,
        }
    };
    unread(four, arrival, EGRESS, what_is_wrong.into())
}

/// The everyday packet: one look-up, or none where no policy speaks about the pod, or two where it goes to the proxy. If the
/// outcome is open, it is to be looked at in full.
///
/// Not inlined: what it needs of a program's small stack is free again when the packet is looked at in full.
#[inline(never)]
fn everyday<A, K, F>(
    kernel: &K,
    frame: &F,
    arrival: &Arrival,
    own: &Interface,
    generation: Generation,
) -> Outcome
where
    A: Readable,
    K: Kernel<A>,
    F: Frame,
{
    let Some(headers) = A::common(frame) else { return Outcome::OPEN };
    if !is_own_mac(frame, own) || headers.source != A::own(own) || headers.source.is_unspecified() {
        return Outcome::OPEN;
    }
    if is_free(kernel, own, generation) {
        let suspect = headers.destination.is_loopback()
            || headers.destination.is_unspecified()
            || headers.protocol == protocol::UDP && kernel.settings().is_tunnel(headers.destination_port);
        return if suspect {
            Outcome::OPEN
        } else {
            arrival.marked(Mark::From(own.index), kernel.settings())
        };
    }
    let Some(found) = established(kernel, &headers, arrival.interface, generation, Speaks::ForSender) else {
        return Outcome::OPEN;
    };
    if found.flow.is_detoured(found.sender) {
        return way(kernel, &FlowKey::of(&headers).0, own.index);
    }
    arrival.marked(onward(&found.flow, found.sender, own.index, generation), kernel.settings())
}

/// Whether flows of an endpoint are not tracked: no policy speaks about it, and none of its connections goes by the proxy.
#[inline(always)]
pub(super) fn is_free<A: Readable, K: Kernel<A>>(
    kernel: &K,
    own: &Interface,
    generation: Generation,
) -> bool {
    let endpoint = own.endpoint.at(generation);
    endpoint.rule_set(Direction::Ingress).is_none()
        && endpoint.rule_set(Direction::Egress).is_none()
        && !is_remembered(kernel, own.index)
}

/// What the next hook is told of a packet of a flow that passes here.
#[inline(always)]
fn onward(flow: &Flow, sender: Side, index: u16, generation: Generation) -> Mark {
    // What goes by the proxy where it leaves the node goes to a service, and has to be found there, under whichever address.
    if flow.is_deferred() || flow.is_detoured_outside() {
        return if flow.began() == sender { Mark::Deferred(index) } else { Mark::From(index) };
    }
    let other = flow.end(sender.other());
    // At an interface where it goes by the proxy nothing is judged for good.
    if other.interface != 0 && other.judged == generation && !flow.is_read() {
        Mark::Judged(flow.index(sender.other()))
    } else {
        Mark::From(index)
    }
}

/// Every other packet.
#[inline(never)]
fn otherwise<A, K, F>(kernel: &K, frame: &F, arrival: &Arrival, work: &mut Work<A>) -> Outcome
where
    A: Readable + Quoting + Linked,
    K: Kernel<A>,
    F: Frame,
{
    if let Err(why) = A::read(frame, &mut work.headers) {
        return fault(work, arrival, EGRESS, why);
    }
    let Some(own) = kernel.interface(arrival.interface) else {
        return fault(work, arrival, EGRESS, Fault::Held);
    };
    if let Some(why) = dishonest(kernel, frame, &work.headers, own) {
        return fault(work, arrival, EGRESS, why);
    }
    let generation = kernel.generation();
    let from = arrival.marked(Mark::From(own.index), kernel.settings());
    if work.headers.icmp.is_of_link() || is_free(kernel, own, generation) {
        return from;
    }
    if work.headers.part == Part::Later {
        match followed(kernel, &work.headers, arrival, EGRESS, generation) {
            Followed::Deferred => return arrival.marked(Mark::Deferred(own.index), kernel.settings()),
            Followed::Yes => return from,
            Followed::No if has_no_ports(&work.headers) => {}
            Followed::No => return fault(work, arrival, EGRESS, Fault::Fragment),
        }
    }
    if work.headers.icmp == Icmp::Error && answers_what_it_got(kernel, frame, work, own) {
        return from;
    }
    tracked(kernel, frame, work, arrival, own)
}

/// What of a packet shows that it is not the pod's own, or not for a pod to send.
#[inline(never)]
fn dishonest<A, K, F>(kernel: &K, frame: &F, headers: &Headers<A>, own: &Interface) -> Option<Fault>
where
    A: Readable + Linked,
    K: Kernel<A>,
    F: Frame,
{
    if !is_own_mac(frame, own) {
        return Some(Fault::Spoofed);
    }
    if headers.icmp.is_of_link()
        && let Some(why) = A::wrong_from_pod(frame, headers, own)
    {
        return Some(why);
    }
    let source = headers.source;
    let named = !source.is_unspecified() && (source == A::own(own) || source == A::own_link_local(own));
    // Neighbour discovery without a source address was looked at above.
    if !(named || headers.icmp.is_of_link() && source.is_unspecified()) {
        return Some(if source.is_loopback() { Fault::Loopback } else { Fault::Spoofed });
    }
    if headers.destination.is_loopback() || headers.destination.is_unspecified() {
        return Some(Fault::Loopback);
    }
    let tunnels = match headers.protocol {
        // A later fragment has no ports to look at; its first one was refused.
        protocol::UDP => kernel.settings().is_tunnel(headers.destination_port),
        protocol::IPIP | protocol::IPV6 | protocol::GRE => true,
        _ => false,
    };
    if tunnels && kernel.is_node(headers.destination) { Some(Fault::Encapsulated) } else { None }
}

/// Whether an error is about a packet that the pod got in a flow.
#[inline(always)]
fn answers_what_it_got<A, K, F>(kernel: &K, frame: &F, work: &mut Work<A>, own: &Interface) -> bool
where
    A: Readable + Quoting,
    K: Kernel<A>,
    F: Frame,
{
    let Some(sender) = A::quoted(frame, usize::from(work.headers.payload), &mut work.key) else {
        return false;
    };
    work.key.end(sender.other()).0 == work.headers.source
        && work.key.end(sender).0 == work.headers.destination
        && is_related(kernel, &work.key, sender.other(), own.number)
}

/// A packet of a pod that policy speaks about: one of a flow to be judged again, or of a new one.
#[inline(always)]
fn tracked<A, K, F>(kernel: &K, frame: &F, work: &mut Work<A>, arrival: &Arrival, own: &Interface) -> Outcome
where
    A: Readable,
    K: Kernel<A>,
    F: Frame,
{
    let generation = kernel.generation();
    let known = known(kernel, work) == Known::Yes;
    if known && work.flow.began() != work.sender {
        return reply(kernel, work, arrival, own, generation);
    }
    let (peer, port) = (work.headers.destination, work.headers.destination_port);
    let service = service(kernel, (peer, port), work.headers.protocol);
    let deferred = service.is_some();
    let origin = if peer == A::own(own) { Origin::OwnAddress } else { Origin::Elsewhere };
    work.asked = Asked { number: own.number, direction: EGRESS, peer, port, origin, fresh: !known };
    let asks = match service {
        None => true,
        Some(service) => match service.backend {
            // A backend on the node itself is behind no further hook: it is asked about here.
            Some((peer, port)) => {
                (work.asked.peer, work.asked.port) = (peer, port);
                true
            }
            None => false,
        },
    };
    if asks {
        let act = permitted(kernel, work);
        if act != Act::Pass {
            return Outcome::stop(act);
        }
        if work.asks != 0 && work.asked.fresh {
            begin(work, own);
            work.flow = work.flow.detoured(work.sender);
            return depart(kernel, frame, work, arrival, own);
        }
        // A connection that was there before the rule is cut: nobody has read it.
        if work.asks != 0 && !work.flow.is_read() {
            return cut(work, arrival, EGRESS);
        }
    }
    if !work.asked.fresh || begins(&work.headers, kernel.now(), kernel.settings().second, own) {
        if work.asked.fresh {
            begin(work, own);
        }
        work.flow = work.flow.deferred(deferred);
        if !settled(kernel, work, own, generation, Speaks::ForSender, Direction::Ingress) {
            return fault(work, arrival, EGRESS, Fault::FlowShare);
        }
    }
    if !work.asked.fresh && work.flow.is_detoured(work.sender) {
        return redirected(kernel, work, arrival, (EGRESS, own.index));
    }
    remember(kernel, &work.headers, arrival, EGRESS, (generation, deferred));
    // The service may be gone by now, and what goes by the proxy outside still has to be found there.
    let outside = !work.asked.fresh && work.flow.is_detoured_outside();
    let mark = if deferred || outside { Mark::Deferred(own.index) } else { Mark::From(own.index) };
    arrival.marked(mark, kernel.settings())
}

/// An answer of the pod in a flow that its peer began: is the peer still allowed to?
#[inline(always)]
fn reply<A: Readable, K: Kernel<A>>(
    kernel: &K,
    work: &mut Work<A>,
    arrival: &Arrival,
    own: &Interface,
    generation: Generation,
) -> Outcome {
    let sender = work.sender;
    if !work.flow.is_judged(sender, own.number, generation) {
        ask_of(kernel, work, own, sender);
        let act = permitted(kernel, work);
        if act != Act::Pass {
            return Outcome::stop(act);
        }
        if work.asks != 0 && !work.flow.is_read() {
            return cut(work, arrival, EGRESS);
        }
    }
    if !settled(kernel, work, own, generation, Speaks::ForSender, EGRESS) {
        return fault(work, arrival, EGRESS, Fault::FlowShare);
    }
    if work.flow.is_detoured(sender) {
        return redirected(kernel, work, arrival, (EGRESS, own.index));
    }
    remember(kernel, &work.headers, arrival, EGRESS, (generation, false));
    arrival.marked(onward(&work.flow, sender, own.index, generation), kernel.settings())
}
