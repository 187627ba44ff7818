//! Neighbour discovery and multicast listeners (RFC 4861, RFC 3810): true and false claims.

use std::net::Ipv6Addr;

use super::{Extension, Ipv6, transport};
use crate::address::Mac;

/// Who sends a message of neighbour discovery to whom, and with which hop limit: receivers ignore any but 255, by which
/// they know that it was not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// The source.
    pub source: Ipv6Addr,
    /// The destination.
    pub destination: Ipv6Addr,
    /// The hop limit.
    pub hop_limit: u8,
}

impl Neighbour {
    /// A message that its receiver takes seriously.
    pub fn new(source: Ipv6Addr, destination: Ipv6Addr) -> Self {
        Self { source, destination, hop_limit: 255 }
    }

    fn packet(self, chain: &[Extension], mut message: Vec<u8>) -> Vec<u8> {
        transport::finish(&mut message, 2, [self.source.into(), self.destination.into()], 58);
        let header = Ipv6 { hop_limit: self.hop_limit, ..Ipv6::new(self.source, self.destination) };
        header.packet(chain, 58, &message)
    }
}

/// The question which routers there are.
pub fn router_solicitation(ends: Neighbour, from: Mac) -> Vec<u8> {
    ends.packet(&[], [&[133, 0, 0, 0, 0, 0, 0, 0], link_option(1, from).as_slice()].concat())
}

/// The claim to be a router for so many seconds, of this prefix of 64 bits, in which receivers may give themselves
/// addresses.
pub fn router_advertisement(ends: Neighbour, from: Mac, lifetime: u16, prefix: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![134, 0, 0, 0, 64, 0];
    message.extend(lifetime.to_be_bytes());
    message.extend([0; 8]);
    message.extend(link_option(1, from));
    // Prefix information: on-link, autonomous, and lifetimes of an hour.
    message.extend([3, 4, 64, 0xc0]);
    message.extend([3600_u32.to_be_bytes(), 3600_u32.to_be_bytes(), [0; 4]].concat());
    message.extend(prefix.octets());
    ends.packet(&[], message)
}

/// The question who has an address.
pub fn neighbour_solicitation(ends: Neighbour, target: Ipv6Addr, from: Mac) -> Vec<u8> {
    let message = [&[135, 0, 0, 0, 0, 0, 0, 0], target.octets().as_slice(), &link_option(1, from)].concat();
    ends.packet(&[], message)
}

/// The claim that `mac` has an address, overriding what was known (the flag O); an answer if `solicited`.
pub fn neighbour_advertisement(ends: Neighbour, target: Ipv6Addr, mac: Mac, solicited: bool) -> Vec<u8> {
    let flags = if solicited { 0x60 } else { 0x20 };
    let message =
        [&[136, 0, 0, 0, flags, 0, 0, 0], target.octets().as_slice(), &link_option(2, mac)].concat();
    ends.packet(&[], message)
}

/// The claim that `destination` is better reached by `target`.
pub fn redirect(ends: Neighbour, target: Ipv6Addr, destination: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let mut message = vec![137, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend(destination.octets());
    message.extend(link_option(2, mac));
    ends.packet(&[], message)
}

/// The report that the sender listens to a group (`MLDv2`, a change to "exclude nobody"), with the router alert that it
/// needs. Its hop limit should be 1.
pub fn mld_report(ends: Neighbour, group: Ipv6Addr) -> Vec<u8> {
    let message = [&[143, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0], group.octets().as_slice()].concat();
    ends.packet(&[Extension::HopByHop(vec![5, 2, 0, 0])], message)
}

fn link_option(kind: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 1], mac.0.as_slice()].concat()
}
