//! The Internet checksum (RFC 1071), right or deliberately not.

use std::net::IpAddr;

/// What to write where a checksum belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// The correct one.
    #[default]
    Right,
    /// The correct one, with its lowest bit turned.
    Wrong,
    /// This.
    Is(u16),
}

impl Checksum {
    /// Writes it into `bytes`, given what they amount to with a zero in its place.
    pub(super) fn write(self, bytes: &mut [u8], offset: usize, right: u16) {
        let value = match self {
            Self::Right => right,
            Self::Wrong => right ^ 1,
            Self::Is(value) => value,
        };
        if let Some(place) = bytes.get_mut(offset..offset + 2) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }
}

/// The checksum of some bytes.
pub(super) fn of(bytes: &[u8]) -> u16 {
    fold(sum(bytes))
}

/// The checksum of a transport header and payload with the pseudo header of their addresses (RFC 9293 section 3.1,
/// RFC 8200 section 8.1).
pub(super) fn with_pseudo_header([source, destination]: [IpAddr; 2], protocol: u8, segment: &[u8]) -> u16 {
    let addresses = [source, destination].map(|address| match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    });
    let length = u64::try_from(segment.len()).unwrap_or(u64::MAX >> 8);
    fold(
        addresses[0] + addresses[1] + u64::from(protocol) + (length >> 16) + (length & 0xffff) + sum(segment),
    )
}

fn sum(bytes: &[u8]) -> u64 {
    let mut pairs = bytes.chunks_exact(2);
    let whole: u64 = pairs.by_ref().map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    whole + pairs.remainder().first().map_or(0, |last| u64::from(*last) << 8)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_bytes_that_hold_theirs_is_zero() {
        // The example of RFC 1071 section 3.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(of(&bytes), !0xddf2);
        let mut odd = vec![1, 2, 3, 4, 0, 0, 7];
        Checksum::Right.write(&mut odd, 4, of(&[1, 2, 3, 4, 0, 0, 7]));
        assert_eq!(of(&odd), 0);
        Checksum::Is(0xabcd).write(&mut odd, 4, 0);
        assert_eq!(odd[4..6], [0xab, 0xcd]);
    }
}
