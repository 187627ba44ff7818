//! TCP, UDP, SCTP, and VXLAN in UDP.

use std::net::{IpAddr, SocketAddr};

use super::{Checksum, checksum, ends, ip_packet, length16};

/// TCP's flag that this is the last segment.
pub const FIN: u8 = 0x01;
/// TCP's flag that opens a connection.
pub const SYN: u8 = 0x02;
/// TCP's flag that breaks a connection.
pub const RST: u8 = 0x04;
/// TCP's flag that data are to be handed over.
pub const PSH: u8 = 0x08;
/// TCP's flag that something is acknowledged.
pub const ACK: u8 = 0x10;
/// TCP's flag of urgent data.
pub const URG: u8 = 0x20;

/// TCP's protocol number.
pub const TCP: u8 = 6;
/// UDP's protocol number.
pub const UDP: u8 = 17;
/// SCTP's protocol number.
pub const SCTP: u8 = 132;

/// A TCP header (RFC 9293). What is not said otherwise is as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tcp {
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// The sequence number.
    pub sequence: u32,
    /// The acknowledgement number.
    pub acknowledgement: u32,
    /// The flags: a sum of [`SYN`], [`ACK`] and so on.
    pub flags: u8,
    /// The window.
    pub window: u16,
    /// Options, filled up with zeroes to a multiple of four bytes.
    pub options: Vec<u8>,
    /// The header's length in units of four bytes, if it is not to be what it is.
    pub data_offset: Option<u8>,
    /// The checksum.
    pub checksum: Checksum,
}

impl Tcp {
    /// A header with these flags.
    pub fn new(source: SocketAddr, destination: SocketAddr, flags: u8) -> Self {
        Self {
            source,
            destination,
            sequence: 1000,
            acknowledgement: 0,
            flags,
            window: 65_535,
            options: Vec::new(),
            data_offset: None,
            checksum: Checksum::Right,
        }
    }

    /// The segment without IP.
    pub fn segment(&self, payload: &[u8]) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let words = 5 + options.len() / 4;
        let data_offset = self.data_offset.unwrap_or_else(|| u8::try_from(words & 0xf).unwrap_or_default());
        let mut segment = [self.source.port().to_be_bytes(), self.destination.port().to_be_bytes()].concat();
        segment.extend(self.sequence.to_be_bytes());
        segment.extend(self.acknowledgement.to_be_bytes());
        segment.extend([data_offset << 4, self.flags]);
        segment.extend(self.window.to_be_bytes());
        segment.extend([0; 4]);
        segment.extend(options);
        segment.extend(payload);
        let right = checksum::with_pseudo_header(ends(self.source, self.destination), TCP, &segment);
        self.checksum.write(&mut segment, 16, right);
        segment
    }

    /// A correct IP packet with the segment.
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        ip_packet(self.source.ip(), self.destination.ip(), TCP, &self.segment(payload))
    }
}

/// A correct IP packet with a TCP segment of these flags.
pub fn tcp(source: SocketAddr, destination: SocketAddr, flags: u8, payload: &[u8]) -> Vec<u8> {
    Tcp::new(source, destination, flags).packet(payload)
}

/// A correct UDP datagram without IP.
pub fn udp_segment(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut segment = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    segment.extend(length16(8 + payload.len()).to_be_bytes());
    segment.extend([0, 0]);
    segment.extend(payload);
    // Zero would mean that there is no checksum (RFC 768).
    let right = match checksum::with_pseudo_header(ends(source, destination), UDP, &segment) {
        0 => 0xffff,
        sum => sum,
    };
    Checksum::Right.write(&mut segment, 6, right);
    segment
}

/// A correct IP packet with a UDP datagram.
pub fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    ip_packet(source.ip(), destination.ip(), UDP, &udp_segment(source, destination, payload))
}

/// An IP packet with an SCTP chunk that opens an association (RFC 9260 section 3.3.2), and its CRC-32C.
pub fn sctp_init(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut segment = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    // Verification tag and checksum are zero so far; then INIT of 20 bytes: tag, window, streams out and in, number.
    segment.extend([0; 8]);
    segment.extend([1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1]);
    let crc = crc32c(&segment);
    segment[8..12].copy_from_slice(&crc.to_le_bytes());
    ip_packet(source.ip(), destination.ip(), SCTP, &segment)
}

/// What a UDP datagram to a VXLAN port carries: the header (RFC 7348 section 5) and a whole Ethernet frame.
pub fn vxlan(network: u32, frame: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = network.to_be_bytes();
    [&[0x08, 0, 0, 0, a, b, c, 0], frame].concat()
}

/// The checksum of SCTP (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(crc & 1)))
    })
}

/// The checksum of a transport whose field is at `offset`, written for these addresses.
pub(super) fn finish(segment: &mut [u8], offset: usize, ends: [IpAddr; 2], protocol: u8) {
    let right = checksum::with_pseudo_header(ends, protocol, segment);
    Checksum::Right.write(segment, offset, right);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_sctp_has_the_known_value() {
        // RFC 3720 appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn a_vxlan_header_says_that_its_network_is_valid() {
        assert_eq!(vxlan(1, b"f"), [8, 0, 0, 0, 0, 0, 1, 0, b'f']);
    }
}
