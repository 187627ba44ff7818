//! Flows: one entry for both directions and both hooks.
//!
//! A flow is keyed by its two ends in a fixed order, so that packets of either direction find it. It remembers who began,
//! and for each end at which interface and under which generation it was judged: an entry that was judged elsewhere, or
//! before the last change of policy, lets nothing pass.

use crate::abi::Generation;
use crate::family::{Family, Ipv4, Ipv6};
use crate::packet::Headers;
use crate::settings::Settings;

/// Key of the flow maps: the two ends in a fixed order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKey<A> {
    low: A,
    high: A,
    /// Port of the low end, port of the high end; the identifier twice for ICMP echo; zero where there are none.
    ports: [u16; 2],
    protocol: u32,
}

/// One of the two ends of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that comes first in the fixed order.
    Low,
    /// The other one.
    High,
}

impl Side {
    /// The other end.
    #[inline(always)]
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }
}

impl<A: Family> FlowKey<A> {
    /// The flow between two ends, and which of the two the first one is.
    #[inline(always)]
    pub fn new(protocol: u8, from: (A, u16), to: (A, u16)) -> (Self, Side) {
        let from_is_low = if from.0 == to.0 { from.1 <= to.1 } else { from.0.is_less(to.0) };
        let protocol = u32::from(protocol);
        if from_is_low {
            (Self { low: from.0, high: to.0, ports: [from.1, to.1], protocol }, Side::Low)
        } else {
            (Self { low: to.0, high: from.0, ports: [to.1, from.1], protocol }, Side::High)
        }
    }

    /// The flow of a packet, and which end sent it.
    #[inline(always)]
    pub fn of(headers: &Headers<A>) -> (Self, Side) {
        let [from, to] = [headers.source_port, headers.destination_port];
        Self::new(headers.protocol, (headers.source, from), (headers.destination, to))
    }

    /// An end: address and port.
    pub const fn end(&self, side: Side) -> (A, u16) {
        match side {
            Side::Low => (self.low, self.ports[0]),
            Side::High => (self.high, self.ports[1]),
        }
    }

    /// The IP protocol number.
    pub const fn protocol(&self) -> u8 {
        #[expect(clippy::cast_possible_truncation, reason = "it was made from a byte")]
        let protocol = self.protocol as u8;
        protocol
    }
}

/// At which interface, and when, an end of a flow was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct End {
    /// The interface; 0 if this end was never judged on this node.
    pub interface: u32,
    /// The generation in force then.
    pub judged: Generation,
}

/// A flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Flow {
    ends: [End; 2],
    /// When a packet was last seen, in ticks; written at most once in a while.
    pub seen: u32,
    /// For how many ticks the entry lives on without a packet.
    pub lifetime: u32,
    /// Our numbers of the two ends' interfaces, where these are local.
    indexes: [u16; 2],
    /// In whose share it counts.
    pub owner: u16,
    flags: u8,
    /// See [`Flow::is_detoured`].
    detours: u8,
}

impl Flow {
    /// The high end began.
    const BEGAN_HIGH: u8 = 1;
    /// A process of the node began.
    const OF_NODE: u8 = 2;
    /// It goes to a service address: the policy of the end that began is asked at the next hook.
    const DEFERRED: u8 = 4;
    /// A packet of the end that did not begin was seen.
    const ANSWERED: u8 = 8;
    const FINISHED_LOW: u8 = 16;
    const FINISHED_HIGH: u8 = 32;
    const RESET: u8 = 64;
    const DETOUR_LOW: u8 = 1;
    const DETOUR_HIGH: u8 = 2;
    const DETOUR_OUTSIDE: u8 = 4;

    /// A flow that one side begins, and that nobody has judged yet.
    #[inline(always)]
    pub const fn begun_by(side: Side) -> Self {
        let flags = match side {
            Side::Low => 0,
            Side::High => Self::BEGAN_HIGH,
        };
        Self {
            ends: [End { interface: 0, judged: 0 }; 2],
            seen: 0,
            lifetime: 0,
            indexes: [0; 2],
            owner: 0,
            flags,
            detours: 0,
        }
    }

    /// This flow, counted in the share of the endpoint with this number of ours.
    #[inline(always)]
    #[must_use]
    pub const fn owned_by(mut self, index: u16) -> Self {
        self.owner = index;
        self
    }

    /// This flow, marked as begun by a process of the node.
    #[inline(always)]
    #[must_use]
    pub const fn of_node(mut self, of_node: bool) -> Self {
        if of_node {
            self.flags |= Self::OF_NODE;
        }
        self
    }

    /// This flow, marked as going to a service address.
    #[inline(always)]
    #[must_use]
    pub const fn deferred(mut self, deferred: bool) -> Self {
        if deferred {
            self.flags |= Self::DEFERRED;
        }
        self
    }

    /// Who began.
    #[inline(always)]
    pub const fn began(&self) -> Side {
        if self.flags & Self::BEGAN_HIGH == 0 { Side::Low } else { Side::High }
    }

    /// Whether a process of the node began.
    #[inline(always)]
    pub const fn is_of_node(&self) -> bool {
        self.flags & Self::OF_NODE != 0
    }

    /// Whether it goes to a service address.
    #[inline(always)]
    pub const fn is_deferred(&self) -> bool {
        self.flags & Self::DEFERRED != 0
    }

    /// Whether both sides have spoken.
    #[inline(always)]
    pub const fn is_answered(&self) -> bool {
        self.flags & Self::ANSWERED != 0
    }

    /// Whether it is about to end: reset, or finished by both sides.
    pub const fn is_closing(&self) -> bool {
        const BOTH: u8 = Flow::FINISHED_LOW | Flow::FINISHED_HIGH;
        self.flags & Self::RESET != 0 || self.flags & BOTH == BOTH
    }

    /// An end.
    #[inline(always)]
    pub const fn end(&self, side: Side) -> End {
        match side {
            Side::Low => self.ends[0],
            Side::High => self.ends[1],
        }
    }

    /// Our number of an end's interface.
    #[inline(always)]
    pub const fn index(&self, side: Side) -> u16 {
        match side {
            Side::Low => self.indexes[0],
            Side::High => self.indexes[1],
        }
    }

    /// This flow, judged at an end.
    #[inline(always)]
    #[must_use]
    pub const fn judged(mut self, side: Side, end: End, index: u16) -> Self {
        match side {
            Side::Low => {
                self.ends[0] = end;
                self.indexes[0] = index;
            }
            Side::High => {
                self.ends[1] = end;
                self.indexes[1] = index;
            }
        }
        self
    }

    /// This flow with nothing judged, and no way by the proxy. Who began it stays, and what was seen of it.
    #[inline(always)]
    #[must_use]
    pub const fn unjudged(mut self) -> Self {
        self.ends = [End { interface: 0, judged: 0 }; 2];
        self.detours = 0;
        self
    }

    /// This flow, whose packets go by the proxy at the interface of an end, from its beginning to its end.
    #[inline(always)]
    #[must_use]
    pub const fn detoured(mut self, side: Side) -> Self {
        self.detours |= match side {
            Side::Low => Self::DETOUR_LOW,
            Side::High => Self::DETOUR_HIGH,
        };
        self
    }

    /// Whether packets go by the proxy at the interface of this end.
    #[inline(always)]
    pub const fn is_detoured(&self, side: Side) -> bool {
        match side {
            Side::Low => self.detours & Self::DETOUR_LOW != 0,
            Side::High => self.detours & Self::DETOUR_HIGH != 0,
        }
    }

    /// This flow, whose packets go by the proxy where they leave the node.
    #[inline(always)]
    #[must_use]
    pub const fn detoured_outside(mut self) -> Self {
        self.detours |= Self::DETOUR_OUTSIDE;
        self
    }

    /// Whether packets go by the proxy where they leave the node.
    #[inline(always)]
    pub const fn is_detoured_outside(&self) -> bool {
        self.detours & Self::DETOUR_OUTSIDE != 0
    }

    /// Whether a proxy reads what is asked. One does for all ends of the connection that are here.
    #[inline(always)]
    pub const fn is_read(&self) -> bool {
        self.detours != 0
    }

    /// Whether an end was judged at this interface under this generation.
    #[inline(always)]
    pub const fn is_judged(&self, side: Side, interface: u32, generation: Generation) -> bool {
        let end = self.end(side);
        end.interface == interface && end.judged == generation
    }

    /// Whether nothing was seen of it for longer than it lives. Ticks wrap around.
    #[inline(always)]
    pub const fn is_over(&self, now: u32) -> bool {
        now.wrapping_sub(self.seen) > self.lifetime
    }

    /// Whether a packet of `side` with these TCP flags (0 for other protocols) has to be written down: it says something
    /// new, or the last one written down was some time ago.
    #[inline(always)]
    pub const fn needs_note(&self, side: Side, tcp_flags: u8, now: u32) -> bool {
        let news =
            tcp_flags & (tcp::FIN | tcp::RST) != 0 || !self.is_answered() && self.began() as u8 != side as u8;
        news || now.wrapping_sub(self.seen) > self.lifetime >> 5
    }

    /// This flow after a packet of `side`.
    #[must_use]
    pub const fn noted(
        mut self,
        side: Side,
        protocol: u8,
        tcp_flags: u8,
        now: u32,
        settings: &Settings,
    ) -> Self {
        if self.began() as u8 != side as u8 {
            self.flags |= Self::ANSWERED;
        }
        if tcp_flags & tcp::FIN != 0 {
            self.flags |= match side {
                Side::Low => Self::FINISHED_LOW,
                Side::High => Self::FINISHED_HIGH,
            };
        }
        if tcp_flags & tcp::RST != 0 {
            self.flags |= Self::RESET;
        }
        self.seen = now;
        self.lifetime = self.seconds(protocol).saturating_mul(settings.second);
        self
    }

    /// Takes over what [`Flow::noted`] changed, and nothing of what was judged.
    #[inline(always)]
    pub const fn copy_note(&mut self, noted: &Self) {
        const NOTED: u8 = Flow::ANSWERED | Flow::FINISHED_LOW | Flow::FINISHED_HIGH | Flow::RESET;
        self.seen = noted.seen;
        self.lifetime = noted.lifetime;
        self.flags |= noted.flags & NOTED;
    }

    /// How long it lives on without a packet, in seconds.
    const fn seconds(&self, protocol: u8) -> u32 {
        match protocol {
            // RFC 5382 section 5 asks for 2 hours 4 minutes at least, and 4 minutes for a handshake at most.
            6 if self.is_closing() => 10,
            6 if self.is_answered() => 7440,
            6 => 20,
            // RFC 4787 section 4.3.
            17 if self.is_answered() => 180,
            1 | 17 | 58 => 30,
            _ if self.is_answered() => 600,
            _ => 60,
        }
    }
}

/// Bits of the TCP flags (RFC 9293 section 3.1).
pub mod tcp {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 2;
    /// Reset the connection.
    pub const RST: u8 = 4;
    /// The acknowledgement is valid.
    pub const ACK: u8 = 16;
}

/// Key of the fragment maps: a datagram (RFC 791 section 3.2, RFC 8200 section 4.5) at one hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FragmentKey<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Identification.
    pub id: u32,
    /// The interface (31 bits) and whether the hook is the one towards the pod.
    pub hook: u32,
}

/// What is remembered of a first fragment that was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Fragment {
    /// Under which generation.
    pub generation: Generation,
    /// When, in ticks.
    pub seen: u32,
    /// 1 if it goes to a service address.
    pub deferred: u32,
    /// IP protocol number.
    pub protocol: u32,
}

impl Fragment {
    /// How long later fragments may follow, in seconds: as long as Linux keeps them (`net.ipv4.ipfrag_time`).
    pub const SECONDS: u32 = 30;
}

const _: () = {
    assert!(size_of::<FlowKey<Ipv4>>() == 16 && size_of::<FlowKey<Ipv6>>() == 40);
    assert!(size_of::<Flow>() == 32 && align_of::<Flow>() == 4);
    assert!(size_of::<FragmentKey<Ipv4>>() == 16 && size_of::<FragmentKey<Ipv6>>() == 40);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_find_one_flow_and_know_who_sent() {
        let (a, b) = ((Ipv4(1), 80), (Ipv4(2), 4000));
        let (there, side) = FlowKey::new(6, a, b);
        let (back, other) = FlowKey::new(6, b, a);
        assert_eq!((there, side), (back, other.other()));
        assert_eq!((there.end(side), there.end(other), there.protocol()), (a, b, 6));
        let (a, b) = ((Ipv6([1, 0, 0, 9]), 80), (Ipv6([1, 0, 0, 9]), 81));
        assert_eq!(FlowKey::new(6, a, b).0, FlowKey::new(6, b, a).0);
        assert_ne!(FlowKey::new(6, a, b).1, FlowKey::new(6, b, a).1);
    }

    #[test]
    fn a_flow_lives_by_what_was_seen_of_it() {
        let settings = Settings::new(100);
        let begun = Flow::begun_by(Side::High).noted(Side::High, 6, tcp::SYN, u32::MAX - 10, &settings);
        assert_eq!((begun.lifetime, begun.is_answered(), begun.began()), (2000, false, Side::High));
        assert!(!begun.is_over(1989) && begun.is_over(1990), "ticks wrap around");
        assert!(begun.needs_note(Side::Low, tcp::ACK, 0));
        let answered = begun.noted(Side::Low, 6, tcp::SYN | tcp::ACK, 5, &settings);
        assert_eq!((answered.lifetime, answered.is_answered()), (744_000, true));
        assert!(!answered.needs_note(Side::Low, tcp::ACK, 50) && answered.needs_note(Side::Low, tcp::FIN, 5));
        let half = answered.noted(Side::Low, 6, tcp::FIN, 6, &settings);
        assert!(!half.is_closing());
        assert_eq!(half.noted(Side::High, 6, tcp::FIN, 7, &settings).lifetime, 1000);
        assert_eq!(answered.noted(Side::High, 6, tcp::RST, 7, &settings).lifetime, 1000);
        assert_eq!(Flow::begun_by(Side::Low).noted(Side::Low, 17, 0, 0, &settings).lifetime, 3000);
    }

    #[test]
    fn what_is_unjudged_still_says_who_began() {
        let end = End { interface: 7, judged: 3 };
        let flow =
            Flow::begun_by(Side::High).owned_by(5).judged(Side::Low, end, 2).judged(Side::High, end, 4);
        let after = flow.unjudged();
        assert!(!after.is_judged(Side::Low, 7, 3) && !after.is_judged(Side::High, 7, 3));
        assert_eq!((after.began(), after.owner), (Side::High, 5));
        assert_eq!([Side::Low, Side::High].map(|side| after.index(side)), [2, 4]);
    }

    #[test]
    fn an_end_is_judged_at_one_interface_under_one_generation() {
        let flow = Flow::begun_by(Side::Low).judged(Side::High, End { interface: 7, judged: 3 }, 2);
        assert!(flow.is_judged(Side::High, 7, 3) && flow.index(Side::High) == 2);
        assert!(!flow.is_judged(Side::High, 8, 3) && !flow.is_judged(Side::High, 7, 4));
        assert!(!flow.is_judged(Side::Low, 7, 3) && flow.end(Side::Low) == End::default());
    }
}
