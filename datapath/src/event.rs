//! What the programs tell the agent: an event for a verdict, and exact counters.

use crate::abi::{Direction, RuleSetId};
use crate::fault::Cause;
use crate::lookup::RuleId;

/// A verdict on the first packet of a flow, or a drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// When, in ticks since boot (`bpf_jiffies64`): reading that clock costs nothing.
    pub time: u64,
    rule_set: u64,
    rank: u32,
    /// In whose name the verdict fell.
    pub interface: u32,
    /// Source address; IPv4 in the first four bytes.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
    /// Source port, or ICMP type.
    pub source_port: u16,
    /// Destination port, or ICMP code.
    pub destination_port: u16,
    /// Packets of the same flow with the same cause since it was last reported, this one included.
    pub packets: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// 4, 6, or 0 if the frame is neither (then there are no addresses).
    pub family: u8,
    /// 0 ingress, 1 egress.
    pub direction: u8,
    /// Why.
    pub cause: Cause,
    /// TCP flags of the packet.
    pub tcp_flags: u8,
    /// 1 if the sender was told.
    pub rejected: u8,
    /// Ethernet type, in the order of the machine.
    pub ether_type: u16,
}

impl Event {
    /// In `rank` where no rule decided.
    const NO_RULE: u32 = u32::MAX;

    /// The rule that decided, if one did.
    pub const fn rule(&self) -> Option<RuleId> {
        if self.rank == Self::NO_RULE {
            None
        } else {
            Some(RuleId { rule_set: RuleSetId::new(self.rule_set), rank: self.rank })
        }
    }
}

/// Key of the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct CounterKey {
    rule_set: u64,
    rank: u32,
    /// The endpoint's interface; 0 where no endpoint is concerned.
    pub interface: u32,
    /// 0 ingress, 1 egress.
    pub direction: u8,
    /// Why.
    pub cause: Cause,
    pad: [u8; 6],
}

impl CounterKey {
    /// The rule, if there is one.
    pub const fn rule(&self) -> Option<RuleId> {
        if self.rank == Event::NO_RULE {
            None
        } else {
            Some(RuleId { rule_set: RuleSetId::new(self.rule_set), rank: self.rank })
        }
    }
}

/// Value of the counters, for each CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes, from the Ethernet header on.
    pub bytes: u64,
}

/// Counters of the programs themselves, by index in an array for each CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Tally {
    /// Events that found no room.
    EventsLost = 0,
    /// Packets whose counter found no room: they are in no other counter.
    Uncounted = 1,
    /// Events held back by the rate limit.
    EventsLimited = 2,
    /// Rejections sent.
    Rejections = 3,
    /// Rejections held back by the rate limit.
    RejectionsLimited = 4,
}

impl Tally {
    /// How many there are.
    pub const COUNT: usize = 5;
}

#[inline(always)]
const fn split(rule: Option<RuleId>) -> (u64, u32) {
    match rule {
        Some(rule) => (rule.rule_set.get(), rule.rank),
        None => (0, Event::NO_RULE),
    }
}

/// What a hook has to say of a packet; the programs count it and make an [`Event`] of it.
///
/// The rule is kept as the two numbers that events hold: the bytes of an absent `RuleId` would be undefined, and the
/// verifier lets nobody copy those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    rule_set: u64,
    rank: u32,
    /// In whose name.
    pub interface: u32,
    /// 0 ingress, 1 egress.
    pub direction: u8,
    /// Why.
    pub cause: Cause,
}

impl Report {
    /// A report; the rule is the one that decided, if one did.
    #[inline(always)]
    pub const fn new(interface: u32, direction: Direction, cause: Cause, rule: Option<RuleId>) -> Self {
        let (rule_set, rank) = split(rule);
        Self { rule_set, rank, interface, direction: direction as u8, cause }
    }

    /// The counter it counts in.
    #[inline(always)]
    pub const fn counter(&self) -> CounterKey {
        CounterKey {
            rule_set: self.rule_set,
            rank: self.rank,
            interface: self.interface,
            direction: self.direction,
            cause: self.cause,
            pad: [0; 6],
        }
    }

    /// The rule that decided, if one did.
    pub const fn rule(&self) -> Option<RuleId> {
        self.counter().rule()
    }
}

/// What of a packet is told in an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Subject {
    /// As in [`Event`].
    pub source: [u8; 16],
    /// As in [`Event`].
    pub destination: [u8; 16],
    /// As in [`Event`].
    pub source_port: u16,
    /// As in [`Event`].
    pub destination_port: u16,
    /// As in [`Event`].
    pub protocol: u8,
    /// As in [`Event`].
    pub family: u8,
    /// As in [`Event`].
    pub tcp_flags: u8,
    /// As in [`Event`].
    pub ether_type: u16,
    /// Length of the frame, for the counters.
    pub length: u32,
}

impl Event {
    /// The event of a report.
    #[inline(always)]
    pub const fn new(time: u64, report: &Report, subject: &Subject, packets: u32, rejected: bool) -> Self {
        Self {
            time,
            rule_set: report.rule_set,
            rank: report.rank,
            interface: report.interface,
            source: subject.source,
            destination: subject.destination,
            source_port: subject.source_port,
            destination_port: subject.destination_port,
            packets,
            protocol: subject.protocol,
            family: subject.family,
            direction: report.direction,
            cause: report.cause,
            tcp_flags: subject.tcp_flags,
            rejected: rejected as u8,
            ether_type: subject.ether_type,
        }
    }
}

const _: () = {
    assert!(size_of::<Event>() == 72 && align_of::<Event>() == 8);
    assert!(size_of::<CounterKey>() == 24 && size_of::<Count>() == 16);
};
