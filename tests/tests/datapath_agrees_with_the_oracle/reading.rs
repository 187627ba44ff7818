//! What a stack that takes whatever it can would read in a frame. Written for these tests: it shares nothing with
//! `datapath::packet`, and is as lenient as that is strict.

use std::net::IpAddr;

use datapath::abi::Transport;
use policy_compiler::oracle::Protocol;

/// A packet, as far as policy sees it.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: Protocol,
    /// A later fragment: it has no ports.
    pub(crate) is_later: bool,
    /// Discovery on the link, about which policy says nothing.
    pub(crate) is_of_link: bool,
}

/// What kind of a frame it is.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    Arp,
    Ip(Reading),
    Unreadable,
}

pub(crate) fn read(frame: &[u8]) -> Frame {
    let packet = frame.get(14..).unwrap_or_default();
    let reading = match frame.get(12..14) {
        Some([0x08, 0x06]) => return Frame::Arp,
        Some([0x08, 0x00]) => four(packet),
        Some([0x86, 0xdd]) => six(packet),
        _ => None,
    };
    reading.map_or(Frame::Unreadable, Frame::Ip)
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
}

fn four(packet: &[u8]) -> Option<Reading> {
    let header: [u8; 20] = *packet.first_chunk()?;
    let own = usize::from(header[0] & 15) * 4;
    let address = |at: usize| IpAddr::from([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let offset = short(packet, 6)? & 0x1fff;
    transport(address(12), address(16), header[9], packet.get(own..)?, offset)
}

fn six(packet: &[u8]) -> Option<Reading> {
    let address = |at: usize| packet.get(at..at + 16)?.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes));
    let (mut next, mut at, mut offset) = (*packet.get(6)?, 40, 0);
    while matches!(next, 0 | 43 | 44 | 51 | 60) && offset == 0 {
        let size = usize::from(*packet.get(at + 1)?);
        let own = match next {
            44 => 8,
            51 => size * 4 + 8,
            _ => size * 8 + 8,
        };
        if next == 44 {
            offset = short(packet, at + 2)? >> 3;
        }
        next = *packet.get(at)?;
        at += own;
    }
    transport(address(8)?, address(24)?, next, packet.get(at..)?, offset)
}

fn transport(source: IpAddr, destination: IpAddr, number: u8, rest: &[u8], offset: u16) -> Option<Reading> {
    let is_later = offset != 0;
    let kind = rest.first().copied().filter(|_| !is_later).unwrap_or_default();
    let is_of_link = match number {
        1 => matches!(kind, 5 | 9 | 10),
        58 => matches!(kind, 130..=137 | 143),
        _ => false,
    };
    let protocol = match Transport::from_ip_protocol(number) {
        Some(transport) if !is_later => Protocol::Transport(transport, short(rest, 2)?),
        Some(_) | None => Protocol::Other(number),
    };
    Some(Reading { source, destination, protocol, is_later, is_of_link })
}
