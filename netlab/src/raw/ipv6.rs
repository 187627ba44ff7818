//! IPv6 packets with any chain of extension headers (RFC 8200).

use std::net::Ipv6Addr;

use super::Length;

/// A header between the IPv6 header and its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extension {
    /// Hop-by-hop options, padded to a multiple of eight bytes with `Pad1` or `PadN`.
    HopByHop(Vec<u8>),
    /// Destination options, padded likewise.
    Destination(Vec<u8>),
    /// A routing header of a kind, with the segments left, and what follows those four bytes.
    Routing {
        /// Its type: 0 is the one that RFC 5095 forbids.
        kind: u8,
        /// How many segments are left.
        left: u8,
        /// The data, filled up with zeroes to a multiple of eight bytes with the first four.
        data: Vec<u8>,
    },
    /// A fragment header.
    Fragment {
        /// Where the fragment belongs, in units of eight bytes.
        offset: u16,
        /// More fragments follow.
        more: bool,
        /// By which fragments belong together.
        id: u32,
    },
    /// An authentication header with an integrity value (RFC 4302), filled up with zeroes to a multiple of eight bytes.
    Authentication(Vec<u8>),
    /// Any header, byte for byte but for its first byte, which says what follows.
    Other {
        /// The header's own number, written into the header before it.
        number: u8,
        /// What comes behind its first byte.
        rest: Vec<u8>,
    },
}

impl Extension {
    /// What a fragment header says of a packet that is whole (RFC 6946).
    pub const ATOMIC: Self = Self::Fragment { offset: 0, more: false, id: 1 };

    /// Its number in the header before it.
    pub fn number(&self) -> u8 {
        match self {
            Self::HopByHop(_) => 0,
            Self::Routing { .. } => 43,
            Self::Fragment { .. } => 44,
            Self::Authentication(_) => 51,
            Self::Destination(_) => 60,
            Self::Other { number, .. } => *number,
        }
    }

    fn bytes(&self, next: u8) -> Vec<u8> {
        match self {
            Self::HopByHop(options) | Self::Destination(options) => {
                let mut bytes = [&[next, 0], options.as_slice()].concat();
                match bytes.len().next_multiple_of(8) - bytes.len() {
                    0 => {}
                    1 => bytes.push(0),
                    missing => {
                        bytes.extend([1, units(missing - 2, 1)]);
                        bytes.resize(bytes.len() + missing - 2, 0);
                    }
                }
                bytes[1] = units(bytes.len() - 8, 8);
                bytes
            }
            Self::Routing { kind, left, data } => {
                let mut bytes = [&[next, 0, *kind, *left], data.as_slice()].concat();
                bytes.resize(bytes.len().next_multiple_of(8), 0);
                bytes[1] = units(bytes.len() - 8, 8);
                bytes
            }
            Self::Fragment { offset, more, id } => {
                let mut bytes = vec![next, 0];
                bytes.extend((offset << 3 | u16::from(*more)).to_be_bytes());
                bytes.extend(id.to_be_bytes());
                bytes
            }
            Self::Authentication(value) => {
                let mut bytes = [&[next, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1], value.as_slice()].concat();
                bytes.resize(bytes.len().next_multiple_of(8), 0);
                bytes[1] = units(bytes.len() - 8, 4);
                bytes
            }
            Self::Other { rest, .. } => [&[next], rest.as_slice()].concat(),
        }
    }
}

/// An IPv6 header. What is not said otherwise is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6 {
    /// The source.
    pub source: Ipv6Addr,
    /// The destination.
    pub destination: Ipv6Addr,
    /// The version, 6.
    pub version: u8,
    /// The hop limit, 64. Neighbour discovery wants 255.
    pub hop_limit: u8,
    /// The payload's length.
    pub payload_length: Length,
}

impl Ipv6 {
    /// A plain header.
    pub fn new(source: Ipv6Addr, destination: Ipv6Addr) -> Self {
        Self { source, destination, version: 6, hop_limit: 64, payload_length: Length::Right }
    }

    /// A packet of any protocol behind any headers. 59 is the protocol of nothing.
    pub fn packet(&self, chain: &[Extension], protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut next = protocol;
        let mut body = payload.to_vec();
        for extension in chain.iter().rev() {
            body = [extension.bytes(next), body].concat();
            next = extension.number();
        }
        let mut packet = vec![self.version << 4, 0, 0, 0];
        packet.extend(self.payload_length.or(body.len()).to_be_bytes());
        packet.extend([next, self.hop_limit]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(body);
        packet
    }

    /// The payload, the headers of `chain` included, as fragments of `size` bytes, rounded down to a multiple of
    /// eight, in order.
    pub fn fragments(
        &self,
        chain: &[Extension],
        protocol: u8,
        payload: &[u8],
        size: usize,
        id: u32,
    ) -> Vec<Vec<u8>> {
        let size = (size & !7).max(8);
        let whole = self.packet(chain, protocol, payload);
        let first = chain.first().map_or(protocol, Extension::number);
        let body = whole.get(40..).unwrap_or_default();
        let count = body.len().div_ceil(size);
        let fragment = |(index, bytes): (usize, &[u8])| {
            let offset = super::length16(index * size / 8);
            self.packet(&[Extension::Fragment { offset, more: index + 1 < count, id }], first, bytes)
        };
        body.chunks(size).enumerate().map(fragment).collect()
    }
}

fn units(bytes: usize, unit: usize) -> u8 {
    u8::try_from((bytes / unit) & 0xff).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_header_names_the_next_and_its_own_length() {
        let chain = [
            Extension::HopByHop(vec![5, 2, 0, 0]),
            Extension::Routing { kind: 0, left: 1, data: vec![0; 20] },
            Extension::Fragment { offset: 3, more: true, id: 7 },
            Extension::Authentication(vec![0; 12]),
            Extension::Destination(vec![]),
        ];
        let packet = Ipv6::new(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST).packet(&chain, 17, b"x");
        assert_eq!((packet[6], packet[4..6].to_vec()), (0, vec![0, 8 + 24 + 8 + 24 + 8 + 1]));
        let body = &packet[40..];
        assert_eq!(body[..8], [43, 0, 5, 2, 0, 0, 1, 0]);
        assert_eq!(body[8..12], [44, 2, 0, 1]);
        assert_eq!(body[32..40], [51, 0, 0, 25, 0, 0, 0, 7]);
        assert_eq!(body[40..42], [60, 4]);
        assert_eq!(body[64..], [17, 0, 1, 4, 0, 0, 0, 0, b'x']);
    }
}
