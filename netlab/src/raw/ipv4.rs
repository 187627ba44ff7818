//! IPv4 packets of any shape (RFC 791).

use std::net::Ipv4Addr;

use super::{Checksum, checksum, length16};

/// What to write into a length field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Length {
    /// How long it is.
    #[default]
    Right,
    /// This.
    Is(u16),
}

impl Length {
    pub(super) fn or(self, right: usize) -> u16 {
        match self {
            Self::Right => length16(right),
            Self::Is(value) => value,
        }
    }
}

/// An IPv4 header. What is not said otherwise is as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv4 {
    /// The source.
    pub source: Ipv4Addr,
    /// The destination.
    pub destination: Ipv4Addr,
    /// The version, 4.
    pub version: u8,
    /// The type of service.
    pub tos: u8,
    /// The time to live, 64.
    pub ttl: u8,
    /// The identification, by which fragments belong together.
    pub id: u16,
    /// More fragments follow.
    pub more_fragments: bool,
    /// It must not be fragmented on its way.
    pub dont_fragment: bool,
    /// The bit before those two, which has to be 0 (and is not a security bit, whatever RFC 3514 says).
    pub reserved_bit: bool,
    /// Where the fragment belongs, in units of eight bytes.
    pub fragment_offset: u16,
    /// Options, filled up with zeroes to a multiple of four bytes.
    pub options: Vec<u8>,
    /// The header's length in units of four bytes, if it is not to be what it is.
    pub header_length: Option<u8>,
    /// The total length.
    pub total_length: Length,
    /// The header's checksum.
    pub checksum: Checksum,
}

impl Ipv4 {
    /// A plain header.
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr) -> Self {
        Self {
            source,
            destination,
            version: 4,
            tos: 0,
            ttl: 64,
            id: 0,
            more_fragments: false,
            dont_fragment: false,
            reserved_bit: false,
            fragment_offset: 0,
            options: Vec::new(),
            header_length: None,
            total_length: Length::Right,
            checksum: Checksum::Right,
        }
    }

    /// A packet of any protocol.
    pub fn packet(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let words = 5 + options.len() / 4;
        let header_length =
            self.header_length.unwrap_or_else(|| u8::try_from(words & 0xf).unwrap_or_default());
        let flags = u16::from(self.reserved_bit) << 15
            | u16::from(self.dont_fragment) << 14
            | u16::from(self.more_fragments) << 13
            | self.fragment_offset & 0x1fff;
        let mut packet = vec![self.version << 4 | header_length & 0xf, self.tos];
        packet.extend(self.total_length.or(words * 4 + payload.len()).to_be_bytes());
        packet.extend(self.id.to_be_bytes());
        packet.extend(flags.to_be_bytes());
        packet.extend([self.ttl, protocol, 0, 0]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(options);
        let right = checksum::of(&packet);
        self.checksum.write(&mut packet, 10, right);
        packet.extend(payload);
        packet
    }

    /// The payload as fragments of `size` bytes, rounded down to a multiple of eight, in order.
    pub fn fragments(&self, protocol: u8, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
        let size = (size & !7).max(8);
        let count = payload.len().div_ceil(size);
        let fragment = |(index, bytes): (usize, &[u8])| {
            let header = Self {
                fragment_offset: length16(index * size / 8),
                more_fragments: index + 1 < count,
                ..self.clone()
            };
            header.packet(protocol, bytes)
        };
        payload.chunks(size).enumerate().map(fragment).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_written_as_the_rfc_draws_it() {
        let header =
            Ipv4 { id: 0xbeef, options: vec![7], ..Ipv4::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into()) };
        let packet = header.packet(17, b"ab");
        assert_eq!(packet[..10], [0x46, 0, 0, 26, 0xbe, 0xef, 0, 0, 64, 17]);
        assert_eq!(packet[12..], [10, 0, 0, 1, 10, 0, 0, 2, 7, 0, 0, 0, b'a', b'b']);
        assert_eq!(checksum::of(&packet[..24]), 0);
    }

    #[test]
    fn fragments_cover_the_payload_and_only_the_last_says_so() {
        let fragments = Ipv4::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into()).fragments(17, &[9; 50], 30);
        let flags: Vec<u16> = fragments.iter().map(|f| u16::from_be_bytes([f[6], f[7]])).collect();
        assert_eq!(flags, [0x2000, 0x2003, 6]);
        assert_eq!(fragments.iter().map(|f| f.len() - 20).sum::<usize>(), 50);
    }
}
