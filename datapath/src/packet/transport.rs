//! TCP, UDP, SCTP and the first words of ICMP.

use super::{Frame, Headers, Icmp, Part, icmp, protocol};
use crate::family::Family;
use crate::fault::Fault;
use crate::flow::tcp;

/// Reads TCP or UDP at a fixed offset. `None`: something else, or something odd.
#[inline(always)]
pub(super) fn common<A: Family, F: Frame>(
    frame: &F,
    at: usize,
    left: usize,
    headers: &mut Headers<A>,
) -> Option<()> {
    match headers.protocol {
        protocol::TCP => {
            let words: [u32; 5] = frame.words(at)?;
            let fourth = words[3].to_ne_bytes();
            headers.tcp_flags = fourth[1];
            if !is_tcp(usize::from(fourth[0] >> 4) * 4, left, fourth[1]) {
                return None;
            }
            ports(words[0], headers)
        }
        protocol::UDP => {
            let words: [u32; 2] = frame.words(at)?;
            let second = words[1].to_ne_bytes();
            if !is_udp(usize::from(u16::from_be_bytes([second[0], second[1]])), left) {
                return None;
            }
            ports(words[0], headers)
        }
        _ => None,
    }
}

#[inline(always)]
fn ports<A: Family>(word: u32, headers: &mut Headers<A>) -> Option<()> {
    let bytes = word.to_ne_bytes();
    headers.source_port = u16::from_be_bytes([bytes[0], bytes[1]]);
    headers.destination_port = u16::from_be_bytes([bytes[2], bytes[3]]);
    // Port 0 is reserved (RFC 6335 section 6).
    if headers.source_port == 0 || headers.destination_port == 0 { None } else { Some(()) }
}

/// Whether a TCP header of this length and with these flags is one that honest stacks send (RFC 9293 section 3.1): it is
/// all there, it begins, continues or resets a connection, and does not begin and end it at once.
#[inline(always)]
const fn is_tcp(header: usize, left: usize, flags: u8) -> bool {
    use tcp::{ACK, FIN, RST, SYN};
    header >= 20
        && header <= left
        && flags & (SYN | RST | ACK) != 0
        && !(flags & SYN != 0 && flags & (FIN | RST) != 0)
        && !(flags & FIN != 0 && flags & ACK == 0)
}

/// Whether the length of a UDP datagram fits what is there (RFC 768). With segmentation offload it is that of one segment.
#[inline(always)]
const fn is_udp(length: usize, left: usize) -> bool {
    length >= 8 && length <= left
}

/// Reads whatever transport header there is, `left` bytes being there by the IP header.
#[inline(always)]
pub(super) fn any<A: Family, F: Frame>(
    frame: &F,
    left: usize,
    headers: &mut Headers<A>,
) -> Result<(), Fault> {
    // The length of a UDP datagram is that of all its fragments.
    let whole = if headers.part == Part::Whole { left } else { usize::from(u16::MAX) };
    let at = usize::from(headers.payload);
    match headers.protocol {
        protocol::TCP => {
            let header: [u8; 20] = frame.bytes(at).ok_or(Fault::Malformed)?;
            headers.tcp_flags = header[13];
            if left < 20 || !is_tcp(usize::from(header[12] >> 4) * 4, left, header[13]) {
                return Err(Fault::Malformed);
            }
            let word = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
            ports(word, headers).ok_or(Fault::Malformed)
        }
        protocol::UDP => {
            let header: [u8; 8] = frame.bytes(at).ok_or(Fault::Malformed)?;
            if left < 8 || !is_udp(usize::from(u16::from_be_bytes([header[4], header[5]])), whole) {
                return Err(Fault::Malformed);
            }
            let word = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
            ports(word, headers).ok_or(Fault::Malformed)
        }
        protocol::SCTP => {
            let header: [u8; 12] = frame.bytes(at).ok_or(Fault::Malformed)?;
            if left < 12 {
                return Err(Fault::Malformed);
            }
            let word = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
            ports(word, headers).ok_or(Fault::Malformed)
        }
        protocol::ICMP if A::IS_V4 => icmp::read(frame, at, left, headers),
        protocol::ICMPV6 if !A::IS_V4 => icmp::read(frame, at, left, headers),
        // Not of this family: no stack answers to it.
        protocol::ICMP | protocol::ICMPV6 => Err(Fault::Malformed),
        _ => {
            headers.icmp = Icmp::No;
            Ok(())
        }
    }
}
