//! Attackers' tools: frames and packets of any shape, and ways to send them.
//!
//! Bytes are built from the inside out. [`udp`], [`tcp`] and [`echo`] give a whole, correct IP packet; [`Ipv4`],
//! [`Ipv6`] and [`Ethernet`] wrap anything, correct or not; [`Wire`] sends frames and [`IpSocket`] packets.
//!
//! ```
//! use netlab::{Mac, raw};
//!
//! let packet = raw::udp("10.244.1.3:53".parse()?, "10.244.1.2:5353".parse()?, b"LEAK");
//! let link = raw::Ethernet::new(Mac([2; 6]), Mac([4; 6]));
//! let plain = link.carry(&packet);
//! let tagged_twice = link.tagged(&[(0x88a8, 0), (0x8100, 0)]).carry(&packet);
//! assert_eq!(tagged_twice.len(), plain.len() + 8);
//! # Ok::<(), std::net::AddrParseError>(())
//! ```

mod checksum;
mod ethernet;
mod icmp;
mod ip_socket;
mod ipv4;
mod ipv6;
mod neighbour;
mod ring;
mod transport;
mod wire;

use std::net::{IpAddr, SocketAddr};

pub use checksum::Checksum;
pub use ethernet::{Arp, Ethernet};
pub use icmp::{Echo, echo, echo_message, icmp_error, icmp_message};
pub use ip_socket::IpSocket;
pub use ipv4::{Ipv4, Length};
pub use ipv6::{Extension, Ipv6};
pub use neighbour::{
    Neighbour, mld_report, neighbour_advertisement, neighbour_solicitation, redirect, router_advertisement,
    router_solicitation,
};
pub use transport::{
    ACK, FIN, PSH, RST, SCTP, SYN, TCP, Tcp, UDP, URG, sctp_init, tcp, udp, udp_segment, vxlan,
};
pub use wire::{Method, Wire};

/// A correct IP packet of the family of its addresses, which have to be of one.
///
/// # Panics
///
/// If they are not: that is a mistake in the test.
pub fn ip_packet(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            Ipv4::new(source, destination).packet(protocol, payload)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            Ipv6::new(source, destination).packet(&[], protocol, payload)
        }
        _ => panic!("a packet from {source} to {destination}: the addresses are of different families"),
    }
}

fn ends(source: SocketAddr, destination: SocketAddr) -> [IpAddr; 2] {
    [source.ip(), destination.ip()]
}

/// The low 16 bits of a length: what a header says of a packet that is too long for it.
fn length16(length: usize) -> u16 {
    u16::try_from(length & 0xffff).unwrap_or_default()
}
