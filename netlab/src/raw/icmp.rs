//! ICMP and ICMPv6: echo, and errors that quote a packet.

use std::net::IpAddr;

use super::{checksum, ip_packet, transport};
use crate::address::Family;

/// Which half of an echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// The question.
    Request,
    /// The answer.
    Reply,
}

/// The protocol number of a family's ICMP.
pub(super) fn protocol(family: Family) -> u8 {
    match family {
        Family::V4 => 1,
        Family::V6 => 58,
    }
}

/// An echo message without IP. With IPv6 its checksum is left to whoever knows the addresses.
pub fn echo_message(family: Family, half: Echo, id: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let kind = match (family, half) {
        (Family::V4, Echo::Request) => 8,
        (Family::V4, Echo::Reply) => 0,
        (Family::V6, Echo::Request) => 128,
        (Family::V6, Echo::Reply) => 129,
    };
    let mut message = vec![kind, 0, 0, 0];
    message.extend(id.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend(payload);
    if family == Family::V4 {
        let sum = checksum::of(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// A correct IP packet with an echo message.
pub fn echo(
    source: IpAddr,
    destination: IpAddr,
    half: Echo,
    id: u16,
    sequence: u16,
    payload: &[u8],
) -> Vec<u8> {
    let message = echo_message(Family::of(source), half, id, sequence, payload);
    icmp_message(source, destination, &message)
}

/// A correct IP packet with any ICMP or ICMPv6 message, whose checksum is written.
pub fn icmp_message(source: IpAddr, destination: IpAddr, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let family = Family::of(source);
    if let Some(place) = message.get_mut(2..4) {
        place.fill(0);
        match family {
            Family::V4 => {
                let sum = checksum::of(&message);
                message[2..4].copy_from_slice(&sum.to_be_bytes());
            }
            Family::V6 => transport::finish(&mut message, 2, [source, destination], 58),
        }
    }
    ip_packet(source, destination, protocol(family), &message)
}

/// A correct IP packet with an ICMP error that quotes the beginning of a packet, which may be anything.
///
/// `rest` are the four bytes between checksum and quotation: the MTU in "fragmentation needed" and "packet too big".
pub fn icmp_error(
    source: IpAddr,
    destination: IpAddr,
    (kind, code): (u8, u8),
    rest: u32,
    quoted: &[u8],
) -> Vec<u8> {
    let message = [&[kind, code, 0, 0], rest.to_be_bytes().as_slice(), quoted].concat();
    icmp_message(source, destination, &message)
}
