//! Why a packet is dropped before policy is asked, or without it.

use crate::verdict::Reason;

/// Why a packet is dropped without a rule.
///
/// The numbers are part of the ABI; they go on where those of [`Reason`] end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Fault {
    /// The endpoint is on hold: its rules are not in yet.
    Held = 32,
    /// Neither IPv4, IPv6 nor ARP.
    NotIp = 33,
    /// The frame carries an 802.1Q or 802.1ad tag.
    Vlan = 34,
    /// A header is cut short, contradicts itself or is never sent by an honest stack (RFC 791, 8200, 9293, 768).
    Malformed = 35,
    /// Source routing, an unknown or too long chain of IPv6 extension headers, or one of them in a wrong place.
    Headers = 36,
    /// The source address or the source MAC address is not the endpoint's own.
    Spoofed = 37,
    /// An ARP or neighbour discovery message that claims what is not the endpoint's own.
    NeighbourSpoofed = 38,
    /// A router advertisement or redirect that does not come from the node itself.
    Router = 39,
    /// A pod sends to, or as, a loopback address (RFC 1122 section 3.2.1.3).
    Loopback = 40,
    /// A pod sends to a tunnel port of a node, which would take it for traffic between nodes.
    Encapsulated = 41,
    /// Tunnelled traffic from an address that is no node's.
    TunnelStranger = 42,
    /// A later fragment whose first one was not seen or not allowed.
    Fragment = 43,
    /// The endpoint tracks as many flows as its share allows, or the flow table is full.
    FlowShare = 44,
    /// What is asked over the connection decides, and there is nobody to read it.
    RequestUnread = 45,
}

impl Fault {
    /// All faults, in the order of their ABI numbers.
    pub const ALL: [Self; 14] = [
        Self::Held,
        Self::NotIp,
        Self::Vlan,
        Self::Malformed,
        Self::Headers,
        Self::Spoofed,
        Self::NeighbourSpoofed,
        Self::Router,
        Self::Loopback,
        Self::Encapsulated,
        Self::TunnelStranger,
        Self::Fragment,
        Self::FlowShare,
        Self::RequestUnread,
    ];

    /// The name used in events, metrics and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::NotIp => "not_ip",
            Self::Vlan => "vlan",
            Self::Malformed => "malformed",
            Self::Headers => "headers",
            Self::Spoofed => "spoofed",
            Self::NeighbourSpoofed => "neighbour_spoofed",
            Self::Router => "router",
            Self::Loopback => "loopback",
            Self::Encapsulated => "encapsulated",
            Self::TunnelStranger => "tunnel_stranger",
            Self::Fragment => "fragment",
            Self::FlowShare => "flow_share",
            Self::RequestUnread => "request_unread",
        }
    }
}

/// Why a packet went on or was dropped: a [`Reason`] or a [`Fault`], by its ABI number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Cause(u8);

impl Cause {
    /// From its ABI number.
    #[inline]
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// Its ABI number.
    #[inline]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether the packet was dropped.
    #[inline]
    pub const fn is_drop(self) -> bool {
        self.0 >= Reason::RuleDenies as u8
    }

    /// The name used in events, metrics and documents; `None` if the number is not one this version knows.
    pub fn name(self) -> Option<&'static str> {
        let reason = Reason::ALL.into_iter().find(|reason| *reason as u8 == self.0).map(Reason::name);
        reason.or_else(|| Fault::ALL.into_iter().find(|fault| *fault as u8 == self.0).map(Fault::name))
    }
}

impl From<Reason> for Cause {
    #[inline]
    fn from(reason: Reason) -> Self {
        Self(reason as u8)
    }
}

impl From<Fault> for Cause {
    #[inline]
    fn from(fault: Fault) -> Self {
        Self(fault as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_reasons_and_faults_do_not_meet_and_all_faults_are_drops() {
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, 32 + index);
            let cause = Cause::from(fault);
            assert!(cause.is_drop());
            assert_eq!(cause.name(), Some(fault.name()));
        }
        for reason in Reason::ALL {
            assert!((reason as u8) < 32);
            assert_eq!(Cause::from(reason).is_drop(), reason.is_drop());
            assert_eq!(Cause::from(reason).name(), Some(reason.name()));
        }
        assert_eq!(Cause::new(255).name(), None);
    }
}
