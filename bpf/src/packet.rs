//! What a frame says, as far as this proof reads it.

use aya_ebpf::programs::TcContext;
use datapath::abi::{Address, Direction, Transport};
use datapath::lookup::{Origin, Query};

/// Length of an Ethernet header, and where its type stands (IEEE 802.3).
const ETHERNET: usize = 14;
const ETHER_TYPE: usize = 12;
const ETHER_TYPE_IPV4: u16 = 0x0800;
const ETHER_TYPE_IPV6: u16 = 0x86dd;
/// Length of an IPv6 header without extensions.
const IPV6: usize = 40;

/// What a frame carries, by its type.
pub enum Carries {
    /// An IPv4 packet.
    Ipv4,
    /// An IPv6 packet.
    Ipv6,
    /// Something that cannot be read here, or nothing.
    Unreadable,
}

/// What a frame carries.
#[inline(always)]
pub fn carries(context: &TcContext) -> Carries {
    match context.load(ETHER_TYPE).map(u16::from_be_bytes) {
        Ok(ETHER_TYPE_IPV4) => Carries::Ipv4,
        Ok(ETHER_TYPE_IPV6) => Carries::Ipv6,
        Ok(_) | Err(_) => Carries::Unreadable,
    }
}

/// The query that an IPv4 packet amounts to (RFC 791 section 3.1); `None` if it cannot be read here.
#[inline(always)]
pub fn ipv4(context: &TcContext, direction: Direction) -> Option<Query> {
    let header: [u8; 20] = context.load(ETHERNET).ok()?;
    let words = header[0] & 0x0f;
    // Neither more fragments to come nor an offset: a later fragment has no ports, and a first one may not have them.
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
    if header[0] >> 4 != 4 || words < 5 || fragment != 0 {
        return None;
    }
    let transport = Transport::from_ip_protocol(header[9])?;
    let peer = match direction {
        Direction::Ingress => [header[12], header[13], header[14], header[15]],
        Direction::Egress => [header[16], header[17], header[18], header[19]],
    };
    let port = destination_port(context, ETHERNET + usize::from(words) * 4)?;
    Some(query(direction, Address::V4(peer), transport, port))
}

/// The query that an IPv6 packet amounts to (RFC 8200 section 3); `None` if it cannot be read here.
#[inline(always)]
pub fn ipv6(context: &TcContext, direction: Direction) -> Option<Query> {
    let start: [u8; 8] = context.load(ETHERNET).ok()?;
    if start[0] >> 4 != 6 {
        return None;
    }
    let transport = Transport::from_ip_protocol(start[6])?;
    let peer: [u8; 16] = match direction {
        Direction::Ingress => context.load(ETHERNET + 8).ok()?,
        Direction::Egress => context.load(ETHERNET + 24).ok()?,
    };
    let port = destination_port(context, ETHERNET + IPV6)?;
    Some(query(direction, Address::V6(peer), transport, port))
}

/// TCP, UDP and SCTP have it in the same place.
#[inline(always)]
fn destination_port(context: &TcContext, header: usize) -> Option<u16> {
    context.load(header + 2).ok().map(u16::from_be_bytes)
}

#[inline(always)]
fn query(direction: Direction, peer: Address, transport: Transport, port: u16) -> Query {
    Query { direction, peer, port: Some((transport, port)), origin: Origin::Elsewhere }
}
