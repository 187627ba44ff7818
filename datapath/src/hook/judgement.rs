//! Policy is asked, and the answer is written down and told.

use super::fast::Speaks;
use super::{Act, Arrival, Kernel, Outcome, ServiceKey, Work, event_bytes};
use crate::abi::{Direction, Generation, Transport};
use crate::event::{Report, Subject};
use crate::family::Family;
use crate::fault::{Cause, Fault};
use crate::flow::{End, Flow, FlowKey, Fragment, FragmentKey, Side, tcp};
use crate::interface::Interface;
use crate::lookup::{Origin, Query, judge};
use crate::packet::{Headers, Icmp, Part, protocol};
use crate::verdict::{Reason, Verdict};

/// What policy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked<A> {
    /// The interface of the endpoint whose policy is asked.
    pub(super) number: u32,
    /// Its direction.
    pub(super) direction: Direction,
    /// The other end.
    pub(super) peer: A,
    /// The port asked about: that of whoever did not begin.
    pub(super) port: u16,
    /// How the other end stands to the endpoint.
    pub(super) origin: Origin,
    /// Whether an answer that allows is news.
    pub(super) fresh: bool,
}

/// Asks policy what `work.asked` says; leaves a report of what it denies, and of what it allows if that is news. Where what is
/// asked over the connection decides, the packet passes here, and `work.asks` says so.
#[inline(never)]
pub(super) fn permitted<A: Family, K: Kernel<A>>(kernel: &K, work: &mut Work<A>) -> Act {
    let asked = &work.asked;
    let port = Transport::from_ip_protocol(work.headers.protocol).map(|transport| (transport, asked.port));
    let query = Query { direction: asked.direction, peer: asked.peer.address(), port, origin: asked.origin };
    let decision = judge(kernel, &asked.number, &query);
    let passes = matches!(decision.verdict, Verdict::Allow | Verdict::Redirect);
    if asked.fresh || !passes {
        let report = Report::new(asked.number, asked.direction, decision.reason.into(), decision.rule);
        // Two at most: a third one would be a defect of a hook, and take the place of the second.
        if work.news == 0 {
            work.reports[0] = report;
            work.news = 1;
        } else {
            work.reports[1] = report;
            work.news = 2;
        }
    }
    match decision.verdict {
        Verdict::Allow => Act::Pass,
        Verdict::Deny => Act::Drop,
        Verdict::Reject => Act::Reject,
        Verdict::Redirect => {
            work.asks = 1;
            Act::Pass
        }
    }
}

/// Looks at a packet in full, and tells what was found.
#[inline(always)]
pub(super) fn in_full<A: Family, K: Kernel<A>>(
    kernel: &K,
    arrival: &Arrival,
    direction: Direction,
    work: Option<&mut Work<A>>,
    look: impl FnOnce(&mut Work<A>) -> Outcome,
) -> Outcome {
    let Some(work) = work else { return unread(kernel, arrival, direction, Reason::UnknownEndpoint.into()) };
    (work.news, work.asks) = (0, 0);
    let outcome = look(work);
    if work.news != 0 {
        tell(kernel, work, arrival);
    }
    outcome
}

/// Tells what was found out about a packet. It is done last, when the stack of everything else is free again.
#[inline(never)]
pub(super) fn tell<A: Family, K: Kernel<A>>(kernel: &K, work: &Work<A>, arrival: &Arrival) {
    let subject = subject(&work.headers, arrival);
    if work.news >= 1 {
        kernel.report(&work.reports[0], &subject);
    }
    if work.news >= 2 {
        kernel.report(&work.reports[1], &subject);
    }
}

/// Drops a packet whose headers could be read.
#[inline(always)]
pub(super) fn fault<A: Family>(
    work: &mut Work<A>,
    arrival: &Arrival,
    direction: Direction,
    fault: Fault,
) -> Outcome {
    work.reports[0] = Report::new(arrival.interface, direction, fault.into(), None);
    work.news = 1;
    Outcome::drop()
}

/// What is known of a packet's flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// The packet begins a flow whatever was before: what was, was not looked up. Policy is asked in any case, and a packet
    /// that it denies has no use for an entry.
    Unasked,
    /// Nothing.
    No,
    /// There is an entry, in `work.flow`, but the packet begins a flow whatever was before, or the entry is over.
    Before,
    /// The packet belongs to the flow in `work.flow`.
    Yes,
}

/// Finds the flow of a packet.
#[inline(always)]
pub(super) fn known<A: Family, K: Kernel<A>>(kernel: &K, work: &mut Work<A>) -> Known {
    (work.key, work.sender) = FlowKey::of(&work.headers);
    if work.headers.is_syn() { Known::Unasked } else { before(kernel, work) }
}

/// Looks up what was before a packet whose key is known.
#[inline(always)]
pub(super) fn before<A: Family, K: Kernel<A>>(kernel: &K, work: &mut Work<A>) -> Known {
    let Some(flow) = kernel.flow(&work.key) else { return Known::No };
    work.flow = flow;
    // A question is never an answer, though it has the identifier of one.
    let asks = work.headers.icmp == Icmp::Request && flow.began() != work.sender;
    if work.headers.is_syn() || asks || flow.is_over(kernel.now()) { Known::Before } else { Known::Yes }
}

/// Makes `work.flow` one that the packet's sender begins. (An entry that is there stays in the share that it counts in:
/// [`Kernel::track`].)
#[inline(always)]
pub(super) fn begin<A: Family>(work: &mut Work<A>, own: &Interface) {
    work.flow = Flow::begun_by(work.sender).owned_by(own.index);
}

/// Writes down that the end of the flow for which a hook speaks is judged now, and that a packet was seen.
#[inline(never)]
pub(super) fn settle<A: Family, K: Kernel<A>>(
    kernel: &K,
    work: &mut Work<A>,
    own: &Interface,
    judged: Generation,
    speaks: Speaks,
) -> bool {
    let side = if speaks == Speaks::ForSender { work.sender } else { work.sender.other() };
    let (protocol, flags) = (work.headers.protocol, work.headers.tcp_flags);
    work.flow = work.flow.judged(side, End { interface: own.number, judged }, own.index).noted(
        work.sender,
        protocol,
        flags,
        kernel.now(),
        kernel.settings(),
    );
    kernel.track(&work.key, &work.flow)
}

/// As [`settle`]. Without an entry, packets of direction `back` would be judged as if they began a flow: then nothing goes on
/// unless they are free.
#[inline(always)]
pub(super) fn settled<A: Family, K: Kernel<A>>(
    kernel: &K,
    work: &mut Work<A>,
    own: &Interface,
    judged: Generation,
    speaks: Speaks,
    back: Direction,
) -> bool {
    settle(kernel, work, own, judged, speaks) || own.endpoint.at(judged).rule_set(back).is_none()
}

/// What of a packet is told.
#[inline(always)]
fn subject<A: Family>(headers: &Headers<A>, arrival: &Arrival) -> Subject {
    Subject {
        source: event_bytes(headers.source),
        destination: event_bytes(headers.destination),
        source_port: headers.source_port,
        destination_port: headers.destination_port,
        protocol: headers.protocol,
        family: if A::IS_V4 { 4 } else { 6 },
        tcp_flags: headers.tcp_flags,
        ether_type: arrival.ether_type,
        length: arrival.length,
    }
}

/// Drops a frame whose headers were not read, or could not be.
#[inline(never)]
pub(super) fn unread<A: Family, K: Kernel<A>>(
    kernel: &K,
    arrival: &Arrival,
    direction: Direction,
    cause: Cause,
) -> Outcome {
    let report = Report::new(arrival.interface, direction, cause, None);
    kernel.report(
        &report,
        &Subject { ether_type: arrival.ether_type, length: arrival.length, ..Subject::default() },
    );
    Outcome::drop()
}

/// Whether a packet that no flow knows, and that policy allows, makes one.
///
/// An answer must not: one packet that slipped through before a policy was there would hold its hole open for good.
/// A TCP segment in the middle of a connection makes one only if its ports say that its sender is the client, as
/// connections are taken up that were there before the flow table was. Datagrams do not say whether they answer; for a
/// while after an endpoint came under policy, those from ports that servers use are taken for answers.
#[inline(always)]
pub(super) fn begins<A: Family>(headers: &Headers<A>, now: u32, second: u32, own: &Interface) -> bool {
    const FIRST_EPHEMERAL: u16 = 32_768;
    const ANSWERING_SECONDS: u32 = 60;
    if headers.destination.is_many() {
        return false;
    }
    let from_client_port = headers.source_port >= FIRST_EPHEMERAL;
    match headers.protocol {
        protocol::TCP => {
            let middle = headers.tcp_flags & (tcp::SYN | tcp::RST) == 0;
            headers.is_syn() || middle && from_client_port && headers.destination_port < FIRST_EPHEMERAL
        }
        protocol::ICMP | protocol::ICMPV6 => matches!(headers.icmp, Icmp::Request),
        protocol::UDP | protocol::SCTP => {
            from_client_port
                || own.was_untracked == 0
                || now.wrapping_sub(own.tracked_since) >= second.saturating_mul(ANSWERING_SECONDS)
        }
        _ => true,
    }
}

/// The key of a fragmented datagram at a hook.
#[inline(always)]
pub(super) fn fragment_key<A: Family>(
    headers: &Headers<A>,
    arrival: &Arrival,
    direction: Direction,
) -> FragmentKey<A> {
    FragmentKey {
        source: headers.source,
        destination: headers.destination,
        id: headers.id,
        hook: arrival.interface << 1 | direction as u32,
    }
}

/// Remembers a first fragment that goes on.
#[inline(always)]
pub(super) fn remember<A: Family, K: Kernel<A>>(
    kernel: &K,
    headers: &Headers<A>,
    arrival: &Arrival,
    direction: Direction,
    fragment: (Generation, bool),
) {
    if headers.part == Part::First {
        let (generation, deferred) = fragment;
        let value = Fragment {
            generation,
            seen: kernel.now(),
            deferred: u32::from(deferred),
            protocol: u32::from(headers.protocol),
        };
        kernel.remember(&fragment_key(headers, arrival, direction), &value);
    }
}

/// Whether a later fragment follows a first one that was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// It does not, as far as is known.
    No,
    /// It does.
    Yes,
    /// It does, and the first one went to a service address.
    Deferred,
}

/// Whether a later fragment follows a first one that was let through here under this generation.
#[inline(never)]
pub(super) fn followed<A: Family, K: Kernel<A>>(
    kernel: &K,
    headers: &Headers<A>,
    arrival: &Arrival,
    direction: Direction,
    generation: Generation,
) -> Followed {
    let Some(first) = kernel.fragment(&fragment_key(headers, arrival, direction)) else {
        return Followed::No;
    };
    let age = kernel.now().wrapping_sub(first.seen);
    let fresh = age <= kernel.settings().second.saturating_mul(Fragment::SECONDS);
    let same = first.protocol == u32::from(headers.protocol) && first.generation == generation;
    if !fresh || !same {
        Followed::No
    } else if first.deferred != 0 {
        Followed::Deferred
    } else {
        Followed::Yes
    }
}

/// Whether a later fragment can be judged by itself, because what it belongs to has no ports.
#[inline(always)]
pub(super) fn has_no_ports<A: Family>(headers: &Headers<A>) -> bool {
    Transport::from_ip_protocol(headers.protocol).is_none()
}

/// The service behind an address and a port, if there is one.
#[inline(always)]
pub(super) fn service<A: Family, K: Kernel<A>>(
    kernel: &K,
    (address, port): (A, u16),
    protocol: u8,
) -> Option<super::Service<A>> {
    if kernel.settings().services == 0 {
        return None;
    }
    kernel.service(&ServiceKey::new(address, port, protocol))
}

/// Whether the flow of `key` is one whose end `own` was judged at an interface: an error about it belongs to it.
#[inline(always)]
pub(super) fn is_related<A: Family, K: Kernel<A>>(
    kernel: &K,
    key: &FlowKey<A>,
    own: Side,
    number: u32,
) -> bool {
    kernel.flow(key).is_some_and(|found| found.end(own).interface == number && !found.is_over(kernel.now()))
}
