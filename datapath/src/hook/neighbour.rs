//! ARP and neighbour discovery from a pod: it may speak of its own addresses only.

use super::judgement::unread;
use super::{Arrival, Kernel, Outcome};
use crate::abi::Direction;
use crate::family::{Family, Ipv4, Ipv6};
use crate::fault::Fault;
use crate::interface::Interface;
use crate::mark::Mark;
use crate::packet::{ETHERNET, Frame, Headers, Icmp};

/// Whether the frame's source MAC address is the endpoint's own.
#[inline(always)]
pub(super) fn is_own_mac<F: Frame>(frame: &F, own: &Interface) -> bool {
    let Some([_, second, third]) = frame.words::<3>(0) else { return false };
    let mac = own.mac;
    let start = u32::from(u16::from_ne_bytes([mac[0], mac[1]]));
    let rest = u32::from_ne_bytes([mac[2], mac[3], mac[4], mac[5]]);
    let second = second.to_ne_bytes();
    u32::from(u16::from_ne_bytes([second[2], second[3]])) == start && third == rest
}

/// An ARP message from a pod (RFC 826): Ethernet and IPv4, its own MAC address, its own address or none yet (RFC 5227).
///
/// Not inlined for the sake of the stack.
#[inline(never)]
pub(super) fn arp<K: Kernel<Ipv4>, F: Frame>(
    kernel: &K,
    frame: &F,
    arrival: &Arrival,
    own: &Interface,
) -> Outcome {
    let is_own = frame.bytes::<18>(ETHERNET).is_some_and(|arp| {
        let kinds = [arp[0], arp[1], arp[2], arp[3], arp[4], arp[5]] == [0, 1, 8, 0, 6, 4];
        let mac = [arp[8], arp[9], arp[10], arp[11], arp[12], arp[13]] == own.mac;
        let sender = u32::from_ne_bytes([arp[14], arp[15], arp[16], arp[17]]);
        kinds && mac && (sender == 0 || Ipv4(sender) == Ipv4::own(own))
    });
    if is_own && is_own_mac(frame, own) {
        return arrival.marked(Mark::From(own.index), kernel.settings());
    }
    unread(kernel, arrival, Direction::Egress, Fault::NeighbourSpoofed.into())
}

/// What is wrong with a message of neighbour or listener discovery from a pod, if something is.
#[inline(always)]
pub(super) fn wrong<F: Frame>(frame: &F, headers: &Headers<Ipv6>, own: &Interface) -> Option<Fault> {
    let is_own = |address: Ipv6| {
        !address.is_unspecified() && (address == Ipv6::own(own) || address == Ipv6::own_link_local(own))
    };
    let at = usize::from(headers.payload);
    match headers.icmp {
        Icmp::Router => Some(Fault::Router),
        // RFC 6980: never fragmented; RFC 4861 sections 7.1.1 and 7.1.2: hop limit 255.
        Icmp::NeighbourSolicitation | Icmp::NeighbourAdvertisement | Icmp::RouterSolicitation
            if headers.extended || headers.hops != 255 =>
        {
            Some(Fault::NeighbourSpoofed)
        }
        Icmp::NeighbourAdvertisement => {
            let target = frame.bytes::<16>(at + 8).map(|target| Ipv6::from_bytes(&target));
            let own_target = target.is_some_and(is_own) && is_own(headers.source);
            if own_target && options_are_own(frame, at + 24, own) {
                None
            } else {
                Some(Fault::NeighbourSpoofed)
            }
        }
        Icmp::NeighbourSolicitation => {
            // Without a source address it asks whether its own is free (RFC 4862 section 5.4.2).
            let target = frame.bytes::<16>(at + 8).map(|target| Ipv6::from_bytes(&target));
            let honest =
                is_own(headers.source) || headers.source.is_unspecified() && target.is_some_and(is_own);
            if honest && options_are_own(frame, at + 24, own) { None } else { Some(Fault::NeighbourSpoofed) }
        }
        Icmp::RouterSolicitation => {
            let honest = is_own(headers.source) || headers.source.is_unspecified();
            if honest && options_are_own(frame, at + 8, own) { None } else { Some(Fault::NeighbourSpoofed) }
        }
        Icmp::Listener => {
            let honest = headers.source == Ipv6::own_link_local(own) || headers.source.is_unspecified();
            if honest && headers.hops == 1 { None } else { Some(Fault::NeighbourSpoofed) }
        }
        Icmp::No | Icmp::Request | Icmp::Reply | Icmp::Error | Icmp::Other => None,
    }
}

/// Whether there are no options, or one, and that is the pod's own MAC address or a nonce (RFC 3971 section 5.3.2).
/// Of a second one nothing is known, so there must be none.
#[inline(always)]
fn options_are_own<F: Frame>(frame: &F, at: usize, own: &Interface) -> bool {
    const SOURCE: u8 = 1;
    const TARGET: u8 = 2;
    const NONCE: u8 = 14;
    let end = frame.length() as usize;
    if end <= at {
        return true;
    }
    // Short frames are padded to 60 bytes on some links; these messages are longer.
    let Some(option) = frame.bytes::<8>(at) else { return false };
    let mac = [option[2], option[3], option[4], option[5], option[6], option[7]];
    let known = option[0] == NONCE || (option[0] == SOURCE || option[0] == TARGET) && mac == own.mac;
    known && option[1] == 1 && end == at + 8
}

/// A family, as far as it has messages that concern the link only.
pub(super) trait Linked: Family {
    /// What is wrong with such a message from a pod, if something is.
    fn wrong_from_pod<F: Frame>(frame: &F, headers: &Headers<Self>, own: &Interface) -> Option<Fault>;
}

impl Linked for Ipv4 {
    #[inline(always)]
    fn wrong_from_pod<F: Frame>(_: &F, headers: &Headers<Self>, _: &Interface) -> Option<Fault> {
        if headers.icmp == Icmp::Router { Some(Fault::Router) } else { None }
    }
}

impl Linked for Ipv6 {
    #[inline(always)]
    fn wrong_from_pod<F: Frame>(frame: &F, headers: &Headers<Self>, own: &Interface) -> Option<Fault> {
        wrong(frame, headers, own)
    }
}
