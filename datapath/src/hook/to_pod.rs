//! Packets that reach a pod: TC egress of the host side of its veth.

use super::detour::{cut, depart, redirected, returned, way};
use super::fast::{Speaks, established};
use super::from_pod::is_free;
use super::judgement::{
    Asked, Followed, Known, before, begin, begins, fault, followed, has_no_ports, in_full, is_related, known,
    permitted, remember, settled, unread,
};
use super::{Act, Arrival, Bench, Kernel, Outcome, Work};
use crate::abi::{Direction, Endpoint, Generation};
use crate::family::{Family, Ipv4, Ipv6};
use crate::fault::Fault;
use crate::flow::{End, FlowKey, Side};
use crate::interface::Interface;
use crate::lookup::Origin;
use crate::mark::Mark;
use crate::packet::{Frame, Icmp, Part, Quoting, Readable, ether_type};
use crate::verdict::Reason;

const INGRESS: Direction = Direction::Ingress;

/// What happens to a frame on its way to a pod.
#[inline(always)]
pub fn to_pod<K4, K6, F, B>(four: &K4, six: &K6, frame: &F, arrival: &Arrival, mut bench: B) -> Outcome
where
    K4: Kernel<Ipv4>,
    K6: Kernel<Ipv6>,
    F: Frame,
    B: Bench,
{
    let Some(own) = four.interface(arrival.interface) else {
        return unread(four, arrival, INGRESS, Reason::UnknownEndpoint.into());
    };
    let mark = Mark::of(arrival.mark, four.settings().mark_shift);
    if mark == Mark::Judged(own.index) {
        return Outcome::pass(arrival.mark);
    }
    if mark == Mark::Proxied(own.index) {
        return returned(four, six, frame, arrival, bench);
    }
    let generation = four.generation();
    let endpoint = own.endpoint.at(generation);
    if endpoint == Endpoint::HOLD {
        return unread(four, arrival, INGRESS, Fault::Held.into());
    }
    if !matches!(mark, Mark::Deferred(_)) && is_free(four, own, generation) {
        return Outcome::pass(arrival.mark);
    }
    let what_is_wrong = if arrival.tagged {
        Fault::Vlan
    } else {
        match arrival.ether_type {
            ether_type::IPV4 => {
                let outcome = everyday(four, frame, arrival, own, generation);
                if outcome != Outcome::OPEN {
                    return outcome;
                }
                return in_full(four, arrival, INGRESS, bench.four(), |work| {
                    otherwise(four, frame, arrival, work)
                });
            }
            ether_type::IPV6 => {
                let outcome = everyday(six, frame, arrival, own, generation);
                if outcome != Outcome::OPEN {
                    return outcome;
                }
                return in_full(six, arrival, INGRESS, bench.six(), |work| {
                    otherwise(six, frame, arrival, work)
                });
            }
            // Who may claim what is looked at where it is sent.
            ether_type::ARP => return Outcome::pass(arrival.mark),
            _ => Fault::NotIp,
        }
    };
    unread(four, arrival, INGRESS, what_is_wrong.into())
}

/// The everyday packet passes after one look-up, or goes to the proxy after two. If the outcome is open, it is to be looked at in
/// full. (Not inlined for the sake of the stack.)
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
    let Some(found) = established(kernel, &headers, arrival.interface, generation, Speaks::ForReceiver)
    else {
        return Outcome::OPEN;
    };
    // The sender's policy is still to be asked, unless it was, about this very flow.
    if let Mark::Deferred(index) = Mark::of(arrival.mark, kernel.settings().mark_shift) {
        let sender = found.flow.end(found.sender);
        if sender.judged != generation || sender.interface != kernel.number(index) {
            return Outcome::OPEN;
        }
    }
    if found.flow.is_detoured(found.sender.other()) {
        return way(kernel, &FlowKey::of(&headers).0, own.index);
    }
    Outcome::pass(arrival.mark)
}

/// Who sent a packet, as far as the mark tells.
#[derive(Clone, Copy)]
struct Sender<'a> {
    /// The local pod that sent it, whatever its source address says by now.
    pod: Option<&'a Interface>,
    /// Whether that pod's own policy is still to be asked.
    deferred: bool,
    /// A process of the node.
    is_node: bool,
}

impl<'a> Sender<'a> {
    #[inline(always)]
    fn of<A: Family, K: Kernel<A>>(kernel: &'a K, arrival: &Arrival) -> Option<Self> {
        let nobody = Self { pod: None, deferred: false, is_node: false };
        match Mark::of(arrival.mark, kernel.settings().mark_shift) {
            Mark::None => Some(Self { is_node: arrival.has_socket, ..nobody }),
            Mark::Outside | Mark::Judged(_) | Mark::Proxied(_) => Some(nobody),
            Mark::From(index) => Some(Self { pod: kernel.interface(kernel.number(index)), ..nobody }),
            // Its policy cannot be asked if it is gone.
            Mark::Deferred(index) => kernel.interface(kernel.number(index)).map(|pod| Self {
                pod: Some(pod),
                deferred: true,
                is_node: false,
            }),
        }
    }
}

/// Every other packet.
#[inline(never)]
fn otherwise<A, K, F>(kernel: &K, frame: &F, arrival: &Arrival, work: &mut Work<A>) -> Outcome
where
    A: Readable + Quoting,
    K: Kernel<A>,
    F: Frame,
{
    if let Err(why) = A::read(frame, &mut work.headers) {
        return fault(work, arrival, INGRESS, why);
    }
    let Some(own) = kernel.interface(arrival.interface) else {
        return fault(work, arrival, INGRESS, Fault::Held);
    };
    let Some(sender) = Sender::of(kernel, arrival) else {
        return fault(work, arrival, INGRESS, Fault::Spoofed);
    };
    let generation = kernel.generation();
    if work.headers.icmp.is_of_link() {
        return of_link(work, arrival, sender);
    }
    if work.headers.part == Part::Later {
        match followed(kernel, &work.headers, arrival, INGRESS, generation) {
            Followed::Yes | Followed::Deferred => return Outcome::pass(arrival.mark),
            Followed::No if has_no_ports(&work.headers) => {}
            Followed::No => return fault(work, arrival, INGRESS, Fault::Fragment),
        }
    }
    if work.headers.icmp == Icmp::Error && !sender.deferred && is_about_what_it_sent(kernel, frame, work, own)
    {
        return if sent_by_proxy(kernel, work) {
            redirected(kernel, work, arrival, (INGRESS, own.index))
        } else {
            Outcome::pass(arrival.mark)
        };
    }
    tracked(kernel, frame, work, arrival, own)
}

/// Discovery on the link. What a pod says was looked at where it said it; routers are the node's own.
#[inline(always)]
fn of_link<A: Family>(work: &mut Work<A>, arrival: &Arrival, sender: Sender<'_>) -> Outcome {
    let passes = match work.headers.icmp {
        Icmp::Router => sender.is_node,
        // A bridge asks for listeners itself, without a socket.
        Icmp::Listener => sender.pod.is_none() && work.headers.hops == 1,
        Icmp::RouterSolicitation => false,
        _ => work.headers.hops == 255 && !work.headers.extended,
    };
    if passes { Outcome::pass(arrival.mark) } else { fault(work, arrival, INGRESS, Fault::Router) }
}

/// Whether an error is about a packet that the pod sent in a flow.
#[inline(always)]
fn is_about_what_it_sent<A, K, F>(kernel: &K, frame: &F, work: &mut Work<A>, own: &Interface) -> bool
where
    A: Readable + Quoting,
    K: Kernel<A>,
    F: Frame,
{
    let Some(sender) = A::quoted(frame, usize::from(work.headers.payload), &mut work.key) else {
        return false;
    };
    work.key.end(sender).0 == work.headers.destination && is_related(kernel, &work.key, sender, own.number)
}

/// Whether what an error is about was sent by the proxy, in the pod's name. (Path MTU discovery is between those who speak.)
#[inline(never)]
fn sent_by_proxy<A: Family, K: Kernel<A>>(kernel: &K, work: &Work<A>) -> bool {
    let own = if work.key.end(Side::Low).0 == work.headers.destination { Side::Low } else { Side::High };
    kernel.flow(&work.key).is_some_and(|flow| flow.is_detoured(own))
}

/// A packet of a flow to be judged again, or of a new one.
#[inline(always)]
fn tracked<A, K, F>(kernel: &K, frame: &F, work: &mut Work<A>, arrival: &Arrival, own: &Interface) -> Outcome
where
    A: Readable,
    K: Kernel<A>,
    F: Frame,
{
    let generation = kernel.generation();
    let known = known(kernel, work);
    if known == Known::Yes && work.flow.began() != work.sender {
        return answer(kernel, work, arrival, own, generation);
    }
    let fresh = known != Known::Yes;
    let Some(sender) = Sender::of(kernel, arrival) else {
        return fault(work, arrival, INGRESS, Fault::Spoofed);
    };
    let hairpin = sender.pod.is_some_and(|pod| pod.index == own.index);
    if let Some(pod) = sender.pod
        && sender.deferred
    {
        let (peer, port) = (work.headers.destination, work.headers.destination_port);
        let origin = if hairpin { Origin::OwnAddress } else { Origin::Elsewhere };
        work.asked = Asked { number: pod.number, direction: Direction::Egress, peer, port, origin, fresh };
        let act = permitted(kernel, work);
        if act != Act::Pass {
            return Outcome::stop(act);
        }
    }
    let origin = if hairpin {
        Origin::OwnAddress
    } else if sender.is_node {
        Origin::OwnNode
    } else {
        Origin::Elsewhere
    };
    let peer = real_address(sender.pod, work.headers.source);
    let port = work.headers.destination_port;
    work.asked = Asked { number: own.number, direction: INGRESS, peer, port, origin, fresh };
    let act = permitted(kernel, work);
    if act != Act::Pass {
        return Outcome::stop(act);
    }
    let judged_here = sender.pod.is_some() && !sender.deferred && known != Known::No;
    if work.asks != 0 {
        // The proxy that reads it at its sender's interface judges for this end as well.
        let is_read =
            if work.asked.fresh { judged_here && was_detoured(kernel, work) } else { work.flow.is_read() };
        if is_read {
            work.asks = 0;
        } else if !work.asked.fresh {
            return cut(work, arrival, INGRESS);
        }
    }
    let begins = !work.asked.fresh
        || work.asks != 0
        || begins(&work.headers, kernel.now(), kernel.settings().second, own);
    if begins && (work.asks != 0 || !is_free(kernel, own, generation)) {
        if work.asked.fresh {
            renew(kernel, work, own, judged_here);
        }
        if let Some(pod) = sender.pod {
            let judged = End { interface: pod.number, judged: generation };
            let end = if sender.deferred { judged } else { work.flow.end(work.sender) };
            work.flow = work.flow.judged(work.sender, end, pod.index);
        }
        work.flow = work.flow.of_node(sender.is_node);
        if work.asks != 0 {
            work.flow = work.flow.detoured(work.sender.other());
            return depart(kernel, frame, work, arrival, own);
        }
        if !settled(kernel, work, own, generation, Speaks::ForReceiver, Direction::Egress) {
            return fault(work, arrival, INGRESS, Fault::FlowShare);
        }
    }
    if !work.asked.fresh && work.flow.is_detoured(work.sender.other()) {
        return redirected(kernel, work, arrival, (INGRESS, own.index));
    }
    remember(kernel, &work.headers, arrival, INGRESS, (generation, false));
    Outcome::pass(arrival.mark)
}

/// Whether the connection that a packet begins goes by the proxy at the interface of its sender, whose hook saw this very packet
/// a moment ago.
#[inline(never)]
fn was_detoured<A: Family, K: Kernel<A>>(kernel: &K, work: &mut Work<A>) -> bool {
    before(kernel, work) == Known::Before
        && work.flow.began() == work.sender
        && work.flow.is_detoured(work.sender)
}

/// Makes `work.flow` one that the packet's sender begins. If its hook judged this very packet a moment ago, that stands.
///
/// Not inlined: the verifier then walks what follows once, whatever was found here.
#[inline(never)]
fn renew<A: Family, K: Kernel<A>>(kernel: &K, work: &mut Work<A>, own: &Interface, judged_here: bool) {
    let mut end = End::default();
    let mut detoured = false;
    if judged_here && before(kernel, work) == Known::Before && work.flow.began() == work.sender {
        end = work.flow.end(work.sender);
        detoured = work.flow.is_detoured(work.sender);
    }
    begin(work, own);
    work.flow = work.flow.judged(work.sender, end, 0);
    if detoured {
        work.flow = work.flow.detoured(work.sender);
    }
}

/// The address of the pod that really sent a packet, of the family of `shown`.
#[inline(always)]
fn real_address<A: Family>(pod: Option<&Interface>, shown: A) -> A {
    pod.map(A::own).filter(|own| !own.is_unspecified() && !shown.is_link_local()).unwrap_or(shown)
}

/// An answer to the pod in a flow that it began: may it still?
#[inline(always)]
fn answer<A: Readable, K: Kernel<A>>(
    kernel: &K,
    work: &mut Work<A>,
    arrival: &Arrival,
    own: &Interface,
    generation: Generation,
) -> Outcome {
    // Of a service address only its backend can be judged, and was, on the way there.
    if !work.flow.is_deferred() && !work.flow.is_judged(work.sender.other(), own.number, generation) {
        let (peer, port) = (work.headers.source, work.headers.source_port);
        let (direction, origin) = (Direction::Egress, Origin::Elsewhere);
        work.asked = Asked { number: own.number, direction, peer, port, origin, fresh: false };
        let act = permitted(kernel, work);
        if act != Act::Pass {
            return Outcome::stop(act);
        }
        if work.asks != 0 && !work.flow.is_read() {
            return cut(work, arrival, INGRESS);
        }
    }
    if !settled(kernel, work, own, generation, Speaks::ForReceiver, INGRESS) {
        return fault(work, arrival, INGRESS, Fault::FlowShare);
    }
    if work.flow.is_detoured(work.sender.other()) {
        return redirected(kernel, work, arrival, (INGRESS, own.index));
    }
    remember(kernel, &work.headers, arrival, INGRESS, (generation, false));
    Outcome::pass(arrival.mark)
}
