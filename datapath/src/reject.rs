//! What the sender of a rejected packet is told: a TCP reset (RFC 9293 section 3.10.7.1), or that communication is
//! administratively prohibited (RFC 792 and 1812: type 3, code 13; RFC 4443: type 1, code 1).
//!
//! The answer is a whole frame, from the one that the packet was sent to, to the one that sent it.

use crate::family::{Family, Ipv4, Ipv6};
use crate::flow::tcp;
use crate::packet::{ETHERNET, Frame, Headers, Icmp, Part, protocol};

/// The longest answer: Ethernet, IPv6, ICMPv6, and the quoted IPv6 header with eight bytes of what it carries.
pub const LONGEST: usize = ETHERNET + 40 + 8 + 40 + 8;

/// Writes the frame to send back, and says how much of it counts. `None` where nothing may be sent: about an ICMP error or another
/// ICMP message than a request, a reset, a later fragment, or to more than one (RFC 1122 section 3.2.2).
#[inline(always)]
pub fn answer<A: Answering, F: Frame>(
    frame: &F,
    headers: &Headers<A>,
    answer: &mut [u8; LONGEST],
) -> Option<usize> {
    let silent = headers.part == Part::Later
        || headers.destination.is_many()
        || headers.source.is_many()
        || headers.source.is_unspecified()
        || !matches!(headers.icmp, Icmp::No | Icmp::Request)
        || headers.protocol == protocol::TCP && headers.tcp_flags & tcp::RST != 0;
    if silent {
        return None;
    }
    *answer = [0; LONGEST];
    let ethernet: [u8; ETHERNET] = frame.bytes(0)?;
    // Destination first, then source, then type (IEEE 802.3): the first two change places.
    for (at, byte) in ethernet.into_iter().enumerate() {
        let place = match at {
            0..6 => at + 6,
            6..12 => at - 6,
            _ => at,
        };
        answer[place] = byte;
    }
    if headers.protocol == protocol::TCP {
        let header: [u8; 20] = frame.bytes(usize::from(headers.payload))?;
        Some(reset::<A>(headers, &header, answer))
    } else {
        A::prohibited(frame, headers, answer)
    }
}

/// Writes IP header and TCP reset.
#[inline(never)]
fn reset<A: Answering>(headers: &Headers<A>, header: &[u8; 20], answer: &mut [u8; LONGEST]) -> usize {
    let at = ETHERNET + A::HEADER;
    A::header(headers.destination, headers.source, protocol::TCP, 20, answer);
    (answer[at], answer[at + 1]) = (header[2], header[3]);
    (answer[at + 2], answer[at + 3]) = (header[0], header[1]);
    if headers.tcp_flags & tcp::ACK == 0 {
        // Acknowledges all that the segment occupies: its data, SYN and FIN count as one each.
        // By the IP header: short frames are padded on some links.
        let data = headers.left.saturating_sub(u32::from(header[12] >> 4) * 4);
        let ones =
            u32::from(headers.tcp_flags & tcp::SYN != 0) + u32::from(headers.tcp_flags & tcp::FIN != 0);
        let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let acknowledged = sequence.wrapping_add(data).wrapping_add(ones).to_be_bytes();
        for index in 0..4 {
            answer[at + 8 + index] = acknowledged[index];
        }
        answer[at + 13] = tcp::RST | tcp::ACK;
    } else {
        for index in 0..4 {
            answer[at + 4 + index] = header[8 + index];
        }
        answer[at + 13] = tcp::RST;
    }
    answer[at + 12] = 5 << 4;
    let sum = A::pseudo(headers, protocol::TCP, 20) + words::<10>(answer, at);
    put(answer, at + 16, fold(sum));
    at + 20
}

/// A family whose packets can be answered.
pub trait Answering: Family {
    /// Writes an IP header for `length` bytes of a protocol.
    fn header(source: Self, destination: Self, protocol: u8, length: u16, answer: &mut [u8; LONGEST]);
    /// The sum over the pseudo header of an answer.
    fn pseudo(headers: &Headers<Self>, protocol: u8, length: u16) -> u32;
    /// Writes IP header and ICMP error, quoting the packet.
    fn prohibited<F: Frame>(frame: &F, headers: &Headers<Self>, answer: &mut [u8; LONGEST]) -> Option<usize>;
}

impl Answering for Ipv4 {
    #[inline(always)]
    fn header(source: Self, destination: Self, protocol: u8, length: u16, answer: &mut [u8; LONGEST]) {
        answer[ETHERNET] = 0x45;
        put(answer, ETHERNET + 2, length + 20);
        // Don't fragment, so that no identification is needed (RFC 6864 section 4.1).
        answer[ETHERNET + 6] = 0x40;
        answer[ETHERNET + 8] = 64;
        answer[ETHERNET + 9] = protocol;
        word(answer, ETHERNET + 12, source.0);
        word(answer, ETHERNET + 16, destination.0);
        let sum = fold(words::<10>(answer, ETHERNET));
        put(answer, ETHERNET + 10, sum);
    }

    #[inline(always)]
    fn pseudo(headers: &Headers<Self>, protocol: u8, length: u16) -> u32 {
        halves(headers.source.0) + halves(headers.destination.0) + u32::from(protocol) + u32::from(length)
    }

    #[inline(never)]
    fn prohibited<F: Frame>(frame: &F, headers: &Headers<Self>, answer: &mut [u8; LONGEST]) -> Option<usize> {
        const QUOTED: usize = 28;
        const WORDS: usize = 4 + QUOTED / 2;
        const AT: usize = ETHERNET + 20;
        // The header without its options, for which there is no room, and the ports behind it: what is needed to find the
        // socket that the error is for.
        frame.copy(ETHERNET, answer.get_mut(AT + 8..)?.first_chunk_mut::<20>()?)?;
        answer[AT + 8] = 0x45;
        frame.copy(usize::from(headers.payload), answer.get_mut(AT + 28..)?.first_chunk_mut::<8>()?)?;
        #[expect(clippy::cast_possible_truncation, reason = "36")]
        Self::header(headers.destination, headers.source, protocol::ICMP, 8 + QUOTED as u16, answer);
        (answer[AT], answer[AT + 1]) = (3, 13);
        let sum = fold(words::<WORDS>(answer, AT));
        put(answer, AT + 2, sum);
        Some(AT + 8 + QUOTED)
    }
}

impl Answering for Ipv6 {
    #[inline(always)]
    fn header(source: Self, destination: Self, protocol: u8, length: u16, answer: &mut [u8; LONGEST]) {
        answer[ETHERNET] = 0x60;
        put(answer, ETHERNET + 4, length);
        answer[ETHERNET + 6] = protocol;
        answer[ETHERNET + 7] = 64;
        for index in 0..4 {
            word(answer, ETHERNET + 8 + index * 4, source.0[index]);
            word(answer, ETHERNET + 24 + index * 4, destination.0[index]);
        }
    }

    #[inline(always)]
    fn pseudo(headers: &Headers<Self>, protocol: u8, length: u16) -> u32 {
        let mut sum = u32::from(protocol) + u32::from(length);
        for index in 0..4 {
            sum += halves(headers.source.0[index]) + halves(headers.destination.0[index]);
        }
        sum
    }

    #[inline(never)]
    fn prohibited<F: Frame>(frame: &F, headers: &Headers<Self>, answer: &mut [u8; LONGEST]) -> Option<usize> {
        const QUOTED: usize = 48;
        const WORDS: usize = 4 + QUOTED / 2;
        const AT: usize = ETHERNET + 40;
        frame.copy(ETHERNET, answer.get_mut(AT + 8..)?.first_chunk_mut::<QUOTED>()?)?;
        #[expect(clippy::cast_possible_truncation, reason = "56")]
        let length = 8 + QUOTED as u16;
        Self::header(headers.destination, headers.source, protocol::ICMPV6, length, answer);
        (answer[AT], answer[AT + 1]) = (1, 1);
        let sum = Self::pseudo(headers, protocol::ICMPV6, length) + words::<WORDS>(answer, AT);
        put(answer, AT + 2, fold(sum));
        Some(AT + 8 + QUOTED)
    }
}

#[inline(always)]
fn put(answer: &mut [u8; LONGEST], at: usize, value: u16) {
    let [high, low] = value.to_be_bytes();
    (answer[at], answer[at + 1]) = (high, low);
}

#[inline(always)]
fn word(answer: &mut [u8; LONGEST], at: usize, value: u32) {
    let [a, b, c, d] = value.to_ne_bytes();
    (answer[at], answer[at + 1], answer[at + 2], answer[at + 3]) = (a, b, c, d);
}

/// The sum of both halves of a word of the packet.
#[inline(always)]
fn halves(word: u32) -> u32 {
    let word = u32::from_be(word);
    (word >> 16) + (word & 0xffff)
}

/// The sum of `N` numbers of 16 bits (RFC 1071); few enough not to overflow.
#[inline(never)]
fn words<const N: usize>(answer: &[u8; LONGEST], at: usize) -> u32 {
    let mut sum = 0;
    let mut index = 0;
    while index < N {
        sum += u32::from(u16::from_be_bytes([answer[at + index * 2], answer[at + index * 2 + 1]]));
        index += 1;
    }
    sum
}

/// The checksum of a sum.
#[inline(always)]
fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    #[expect(clippy::cast_possible_truncation, reason = "folded")]
    let folded = ((sum & 0xffff) + (sum >> 16)) as u16;
    !folded
}
