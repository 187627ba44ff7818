//! Ethernet frames, VLAN tags, LLC, and ARP.

use std::net::Ipv4Addr;

use super::length16;
use crate::address::Mac;

/// The header of frames: who sends, who receives, and which tags lie between that and the ethertype.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ethernet {
    /// The source.
    pub from: Mac,
    /// The destination.
    pub to: Mac,
    /// VLAN tags, outermost first: their ethertype, and their control field (priority, DEI, and 12 bits of VLAN).
    pub tags: Vec<(u16, u16)>,
}

impl Ethernet {
    /// A header without tags.
    pub fn new(from: Mac, to: Mac) -> Self {
        Self { from, to, tags: Vec::new() }
    }

    /// The same header with these tags, outermost first.
    #[must_use]
    pub fn tagged(&self, tags: &[(u16, u16)]) -> Self {
        Self { tags: tags.to_vec(), ..self.clone() }
    }

    /// A frame of any ethertype.
    pub fn frame(&self, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = [self.to.0, self.from.0].concat();
        for (kind, control) in &self.tags {
            frame.extend(kind.to_be_bytes());
            frame.extend(control.to_be_bytes());
        }
        frame.extend(ethertype.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// A frame with an IP packet, whose first four bits say of which family.
    pub fn carry(&self, packet: &[u8]) -> Vec<u8> {
        let is_ipv6 = packet.first().is_some_and(|first| first >> 4 == 6);
        self.frame(if is_ipv6 { 0x86dd } else { 0x0800 }, packet)
    }

    /// An 802.3 frame: its length in the place of the ethertype, then LLC and SNAP, then the packet (RFC 1042).
    pub fn snap(&self, ethertype: u16, packet: &[u8]) -> Vec<u8> {
        let [high, low] = ethertype.to_be_bytes();
        let payload = [&[0xaa, 0xaa, 3, 0, 0, 0, high, low], packet].concat();
        self.frame(length16(payload.len()), &payload)
    }
}

/// An ARP message about IPv4 on Ethernet (RFC 826).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// 1 asks, 2 answers.
    pub operation: u16,
    /// Who claims to have the sender's address.
    pub sender_mac: Mac,
    /// The sender's address.
    pub sender: Ipv4Addr,
    /// Who is told; zeroes in a question.
    pub target_mac: Mac,
    /// Whose link-layer address is asked for, or who is told.
    pub target: Ipv4Addr,
}

impl Arp {
    /// The question who has an address.
    pub fn request(sender_mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Self {
        Self { operation: 1, sender_mac, sender, target_mac: Mac([0; 6]), target }
    }

    /// The claim that `mac` has an address, told to everybody that nobody asked for (RFC 5227 section 3).
    pub fn claim(mac: Mac, address: Ipv4Addr) -> Self {
        Self { operation: 2, sender_mac: mac, sender: address, target_mac: Mac::BROADCAST, target: address }
    }

    /// A frame with the message.
    pub fn frame(&self, link: &Ethernet) -> Vec<u8> {
        let mut message = vec![0, 1, 0x08, 0x00, 6, 4];
        message.extend(self.operation.to_be_bytes());
        message.extend(self.sender_mac.0);
        message.extend(self.sender.octets());
        message.extend(self.target_mac.0);
        message.extend(self.target.octets());
        link.frame(0x0806, &message)
    }
}
