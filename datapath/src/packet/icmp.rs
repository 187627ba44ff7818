//! ICMP (RFC 792), ICMPv6 (RFC 4443), and neighbour discovery (RFC 4861) and listener discovery (RFC 2710, 3810) in it.

use super::{Frame, Headers, protocol};
use crate::family::{Family, Ipv4, Ipv6};
use crate::fault::Fault;
use crate::flow::{FlowKey, Side};

/// What kind of an ICMP message a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmp {
    /// None at all.
    No,
    /// Echo request: it asks, so it is never an answer.
    Request,
    /// Echo reply.
    Reply,
    /// An error, which quotes the packet it is about.
    Error,
    /// Router solicitation.
    RouterSolicitation,
    /// Router advertisement, or redirect of either family.
    Router,
    /// Neighbour solicitation.
    NeighbourSolicitation,
    /// Neighbour advertisement.
    NeighbourAdvertisement,
    /// Multicast listener discovery.
    Listener,
    /// Anything else.
    Other,
}

impl Icmp {
    /// Whether it belongs to the link: never forwarded, needed before any packet can be sent.
    pub const fn is_of_link(self) -> bool {
        match self {
            Self::RouterSolicitation
            | Self::Router
            | Self::NeighbourSolicitation
            | Self::NeighbourAdvertisement
            | Self::Listener => true,
            Self::No | Self::Request | Self::Reply | Self::Error | Self::Other => false,
        }
    }
}

#[inline(always)]
const fn kind(is_v4: bool, number: u8) -> Icmp {
    match (is_v4, number) {
        (true, 8) | (false, 128) => Icmp::Request,
        (true, 0) | (false, 129) => Icmp::Reply,
        (true, 3 | 4 | 11 | 12) | (false, 1..=4) => Icmp::Error,
        // Router advertisement over IPv4 is RFC 1256.
        (true, 5 | 9) | (false, 134 | 137) => Icmp::Router,
        (true, 10) | (false, 133) => Icmp::RouterSolicitation,
        (false, 135) => Icmp::NeighbourSolicitation,
        (false, 136) => Icmp::NeighbourAdvertisement,
        (false, 130..=132 | 143) => Icmp::Listener,
        _ => Icmp::Other,
    }
}

/// Reads kind and identifier.
#[inline(always)]
pub(super) fn read<A: Family, F: Frame>(
    frame: &F,
    at: usize,
    left: usize,
    headers: &mut Headers<A>,
) -> Result<(), Fault> {
    let header: [u8; 8] = frame.bytes(at).ok_or(Fault::Malformed)?;
    if left < 8 {
        return Err(Fault::Malformed);
    }
    headers.icmp = kind(A::IS_V4, header[0]);
    if matches!(headers.icmp, Icmp::Request | Icmp::Reply) {
        let id = u16::from_be_bytes([header[4], header[5]]);
        (headers.source_port, headers.destination_port) = (id, id);
    }
    Ok(())
}

/// A family whose ICMP errors can be read.
pub trait Quoting: Family {
    /// The flow of the packet quoted by the error at `at`, and which end sent it; `None` if not enough of it is quoted, or
    /// it is a later fragment.
    fn quoted<F: Frame>(frame: &F, at: usize, flow: &mut FlowKey<Self>) -> Option<Side>;
}

impl Quoting for Ipv4 {
    #[inline(never)]
    fn quoted<F: Frame>(frame: &F, at: usize, flow: &mut FlowKey<Self>) -> Option<Side> {
        let header: [u8; 20] = frame.bytes(at + 8)?;
        let own = usize::from(header[0] & 0x0f) * 4;
        let offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
        if header[0] >> 4 != 4 || own < 20 || offset != 0 {
            return None;
        }
        let word =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let [from, to] = ports(frame, at + 8 + own, header[9], true)?;
        let (key, side) = FlowKey::new(header[9], (Self(word(12)), from), (Self(word(16)), to));
        *flow = key;
        Some(side)
    }
}

impl Quoting for Ipv6 {
    #[inline(never)]
    fn quoted<F: Frame>(frame: &F, at: usize, flow: &mut FlowKey<Self>) -> Option<Side> {
        const FRAGMENT: u8 = 44;
        let [version, _, _, _, _, _, mut protocol, _] = frame.bytes(at + 8)?;
        if version >> 4 != 6 {
            return None;
        }
        let mut own = 40;
        if protocol == FRAGMENT {
            // Quotes of fragments: only a first one says whose it is.
            let [next, _, high, low] = frame.bytes(at + 48)?;
            if u16::from_be_bytes([high, low]) >> 3 != 0 {
                return None;
            }
            (protocol, own) = (next, 48);
        }
        let [from, to] = ports(frame, at + 8 + own, protocol, false)?;
        let source = Self::from_bytes(&frame.bytes(at + 16)?);
        let destination = Self::from_bytes(&frame.bytes(at + 32)?);
        let (key, side) = FlowKey::new(protocol, (source, from), (destination, to));
        *flow = key;
        Some(side)
    }
}

/// The ports of a quoted packet, source first.
#[inline(always)]
fn ports<F: Frame>(frame: &F, at: usize, number: u8, is_v4: bool) -> Option<[u16; 2]> {
    match number {
        protocol::TCP | protocol::UDP | protocol::SCTP => {
            let [a, b, c, d] = frame.bytes(at)?;
            Some([u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])])
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let header: [u8; 8] = frame.bytes(at)?;
            match kind(is_v4, header[0]) {
                Icmp::Request | Icmp::Reply => Some([u16::from_be_bytes([header[4], header[5]]); 2]),
                // No error is sent about an error (RFC 1122 section 3.2.2).
                _ => None,
            }
        }
        _ => Some([0; 2]),
    }
}
