//! What a sniffer makes of a frame: as much as can be read, and never a refusal.
//!
//! This is deliberately no part of the datapath, and shares nothing with it. It is lenient: attacks are malformed, and
//! have to be recognised all the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::Mac;

/// Whom the kernel took a frame to be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// This machine.
    Host,
    /// Everybody.
    Broadcast,
    /// A group.
    Multicast,
    /// Another machine: the frame was flooded or misdirected, and the IP stack ignores it.
    OtherHost,
    /// It was sent from here.
    Outgoing,
}

/// A frame as it was seen, and what could be read of it.
///
/// The kernel takes the outermost VLAN tag off before a sniffer sees the frame, so `tags` counts the others.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// The whole frame.
    pub frame: &'a [u8],
    /// Whom the kernel took it to be for.
    pub arrival: Arrival,
    /// The sender's link-layer address.
    pub from: Mac,
    /// The receiver's link-layer address.
    pub to: Mac,
    /// How many VLAN tags are in the frame's bytes.
    pub tags: usize,
    /// The innermost ethertype, or the length field of an LLC frame.
    pub ethertype: u16,
    /// The source of an IP packet.
    pub source: Option<IpAddr>,
    /// The destination of an IP packet.
    pub destination: Option<IpAddr>,
    /// The protocol of an IP packet, behind all extension headers that could be followed.
    pub protocol: Option<u8>,
    /// True for an IP fragment that is not the first.
    pub later_fragment: bool,
    /// Source and destination port of TCP, UDP and SCTP.
    pub ports: Option<(u16, u16)>,
    /// The flags of TCP.
    pub tcp_flags: Option<u8>,
    /// Type and code of ICMP or ICMPv6.
    pub icmp: Option<(u8, u8)>,
    /// What comes behind the last header that was understood.
    pub payload: &'a [u8],
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

impl<'a> Packet<'a> {
    /// Reads what can be read of an Ethernet frame.
    pub fn read(frame: &'a [u8], arrival: Arrival) -> Self {
        let mut packet = Self {
            frame,
            arrival,
            from: Mac(array(frame, 6).unwrap_or_default()),
            to: Mac(array(frame, 0).unwrap_or_default()),
            tags: 0,
            ethertype: 0,
            source: None,
            destination: None,
            protocol: None,
            later_fragment: false,
            ports: None,
            tcp_flags: None,
            icmp: None,
            payload: &[],
        };
        let mut offset = 12;
        while matches!(u16_at(frame, offset), Some(0x8100 | 0x88a8 | 0x9100)) {
            packet.tags += 1;
            offset += 4;
        }
        packet.ethertype = u16_at(frame, offset).unwrap_or_default();
        let mut body = frame.get(offset + 2..).unwrap_or_default();
        let mut ethertype = packet.ethertype;
        if ethertype < 0x600
            && let Some([0xaa, 0xaa, 3, 0, 0, 0, ..]) = body.first_chunk::<8>()
        {
            ethertype = u16_at(body, 6).unwrap_or_default();
            body = &body[8..];
        }
        packet.payload = body;
        match ethertype {
            0x0800 => packet.read_ipv4(body),
            0x86dd => packet.read_ipv6(body),
            _ => {}
        }
        packet
    }

    /// True if these bytes are anywhere in the frame.
    pub fn contains(&self, marker: &[u8]) -> bool {
        !marker.is_empty() && self.frame.windows(marker.len()).any(|window| window == marker)
    }

    /// True for the ICMP error of a closed UDP port. It quotes the datagram, markers included: it may be an answer to the
    /// victim's own answer.
    pub fn is_port_unreachable(&self) -> bool {
        matches!((self.protocol, self.icmp), (Some(ICMP), Some((3, 3))) | (Some(ICMPV6), Some((1, 4))))
    }

    /// True for a TCP segment that opens a connection.
    pub fn is_syn(&self) -> bool {
        self.tcp_flags.is_some_and(|flags| flags & 0x12 == 0x02)
    }

    fn read_ipv4(&mut self, packet: &'a [u8]) {
        self.source = array::<4>(packet, 12).map(|a| Ipv4Addr::from(a).into());
        self.destination = array::<4>(packet, 16).map(|a| Ipv4Addr::from(a).into());
        self.protocol = packet.get(9).copied();
        self.later_fragment = u16_at(packet, 6).is_some_and(|field| field & 0x1fff != 0);
        let length = usize::from(packet.first().copied().unwrap_or_default() & 0xf) * 4;
        self.read_transport(packet.get(length..).unwrap_or_default());
    }

    fn read_ipv6(&mut self, packet: &'a [u8]) {
        self.source = array::<16>(packet, 8).map(|a| Ipv6Addr::from(a).into());
        self.destination = array::<16>(packet, 24).map(|a| Ipv6Addr::from(a).into());
        let Some(mut next) = packet.get(6).copied() else { return };
        let mut rest = packet.get(40..).unwrap_or_default();
        // Each header is at least eight bytes, so this ends with the packet.
        while let Some(header) = rest.first_chunk::<8>() {
            let length = match next {
                0 | 43 | 60 | 135 | 139 | 140 => 8 + usize::from(header[1]) * 8,
                44 => {
                    self.later_fragment |= u16::from_be_bytes([header[2], header[3]]) >> 3 != 0;
                    8
                }
                51 => 8 + usize::from(header[1]) * 4,
                _ => break,
            };
            next = header[0];
            rest = rest.get(length..).unwrap_or_default();
        }
        self.protocol = Some(next);
        self.read_transport(rest);
    }

    fn read_transport(&mut self, segment: &'a [u8]) {
        self.payload = segment;
        if self.later_fragment {
            return;
        }
        let header = match self.protocol {
            Some(TCP) => {
                self.tcp_flags = segment.get(13).copied();
                usize::from(segment.get(12).copied().unwrap_or_default() >> 4) * 4
            }
            Some(UDP) => 8,
            Some(SCTP) => 12,
            Some(ICMP | ICMPV6) => {
                self.icmp = array::<2>(segment, 0).map(|[kind, code]| (kind, code));
                self.payload = segment.get(8..).unwrap_or_default();
                return;
            }
            _ => return,
        };
        self.ports = u16_at(segment, 0).zip(u16_at(segment, 2));
        self.payload = segment.get(header..).unwrap_or_default();
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    array(bytes, offset).map(u16::from_be_bytes)
}

fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::{self, Ethernet, Extension, Ipv6};

    #[test]
    fn tags_llc_and_extension_headers_do_not_hide_a_datagram() {
        let (a, b) = ("[fd00::1]:7".parse().unwrap(), "[fd00::2]:8".parse().unwrap());
        let datagram = raw::udp_segment(a, b, b"hello");
        let chain = [Extension::HopByHop(vec![]), Extension::Destination(vec![1, 4, 0, 0, 0, 0])];
        let (IpAddr::V6(source), IpAddr::V6(destination)) = (a.ip(), b.ip()) else { panic!() };
        let ip = Ipv6::new(source, destination).packet(&chain, 17, &datagram);
        let link = Ethernet::new(Mac([2; 6]), Mac([4; 6]));
        for frame in [
            link.tagged(&[(0x88a8, 0), (0x8100, 0)]).frame(0x86dd, &ip),
            link.snap(0x86dd, &ip),
            link.frame(0x86dd, &ip),
        ] {
            let packet = Packet::read(&frame, Arrival::Host);
            assert_eq!(
                (packet.protocol, packet.ports, packet.payload),
                (Some(17), Some((7, 8)), &b"hello"[..])
            );
            assert_eq!((packet.source, packet.from), (Some(a.ip()), Mac([2; 6])));
        }
    }

    #[test]
    fn every_truncation_is_read_without_panic() {
        let (a, b) = ("10.0.0.1:7".parse().unwrap(), "10.0.0.2:8".parse().unwrap());
        let frame = Ethernet::new(Mac([2; 6]), Mac([4; 6])).carry(&raw::tcp(a, b, raw::SYN, b"x"));
        for length in 0..frame.len() {
            assert_eq!(Packet::read(&frame[..length], Arrival::Host).frame.len(), length);
        }
        assert!(Packet::read(&frame, Arrival::Host).is_syn());
    }
}
