//! What a frame says: headers of one packet, or why it is none that may pass.
//!
//! Lengths are checked against each other and against the frame, and everything that cannot be read is a [`Fault`]:
//! nothing is let through for want of understanding.

mod extensions;
mod icmp;
mod transport;

use crate::family::{Family, Ipv4, Ipv6};
use crate::fault::Fault;

pub use icmp::{Icmp, Quoting};

/// Access to the bytes of a frame, from the Ethernet header on.
pub trait Frame {
    /// The length of the whole frame, parts outside the linear area included.
    fn length(&self) -> u32;
    /// Words of 32 bits at a fixed offset within the first [`LINEAR`] bytes, the bytes as they lie.
    fn words<const N: usize>(&self, offset: usize) -> Option<[u32; N]>;
    /// Bytes at any offset, into a place that is given.
    fn copy<const N: usize>(&self, offset: usize, into: &mut [u8; N]) -> Option<()>;
    /// Bytes at any offset.
    #[inline(always)]
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.copy(offset, &mut bytes)?;
        Some(bytes)
    }
}

/// How far [`Frame::words`] can read if the frame is as long: Ethernet, IPv6 and TCP without options.
pub const LINEAR: usize = ETHERNET + 40 + 20;

/// Length of an Ethernet header (IEEE 802.3).
pub const ETHERNET: usize = 14;
/// Ethernet types, in the order of the machine.
pub mod ether_type {
    /// RFC 894.
    pub const IPV4: u16 = 0x0800;
    /// RFC 826.
    pub const ARP: u16 = 0x0806;
    /// RFC 2464.
    pub const IPV6: u16 = 0x86dd;
}

/// IP protocol numbers (IANA).
pub mod protocol {
    /// RFC 792.
    pub const ICMP: u8 = 1;
    /// RFC 2003.
    pub const IPIP: u8 = 4;
    /// RFC 9293.
    pub const TCP: u8 = 6;
    /// RFC 768.
    pub const UDP: u8 = 17;
    /// RFC 2473.
    pub const IPV6: u8 = 41;
    /// RFC 2784.
    pub const GRE: u8 = 47;
    /// RFC 4443.
    pub const ICMPV6: u8 = 58;
    /// RFC 9260.
    pub const SCTP: u8 = 132;
}

/// The headers of a packet, as far as verdicts depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port; the identifier for ICMP echo; else 0.
    pub source_port: u16,
    /// Destination port; the identifier for ICMP echo; else 0.
    pub destination_port: u16,
    /// IP protocol number of what the packet carries, behind all extension headers.
    pub protocol: u8,
    /// TCP flags; 0 for other protocols.
    pub tcp_flags: u8,
    /// What kind of an ICMP message it is; [`Icmp::No`] for other protocols.
    pub icmp: Icmp,
    /// Which part of a fragmented datagram it is.
    pub part: Part,
    /// Time to live, or hop limit.
    pub hops: u8,
    /// IPv6 extension headers, IPv4 options or a fragment header were in between.
    pub extended: bool,
    /// Where the header of the protocol begins, from the start of the frame.
    pub payload: u16,
    /// Identification, for parts of fragmented datagrams.
    pub id: u32,
    /// How many bytes there are from `payload` on, by the IP header.
    pub(crate) left: u32,
    /// Offset of the fragment, in units of eight bytes.
    offset: u16,
    /// A fragment header was seen.
    fragmented: bool,
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// The first fragment, with the whole transport header.
    First,
    /// A later fragment: no ports.
    Later,
}

impl<A: Family> Headers<A> {
    /// Whether this packet begins a connection whatever was before: a TCP SYN without ACK.
    #[inline(always)]
    pub const fn is_syn(&self) -> bool {
        use crate::flow::tcp::{ACK, SYN};
        self.protocol == protocol::TCP && self.tcp_flags & (SYN | ACK) == SYN
    }

    /// Protocol and destination port, if the protocol has ports.
    #[inline(always)]
    pub fn port(&self) -> Option<(crate::abi::Transport, u16)> {
        crate::abi::Transport::from_ip_protocol(self.protocol)
            .map(|transport| (transport, self.destination_port))
    }

    pub(crate) fn new(source: A, destination: A, protocol: u8, hops: u8, payload: u16) -> Self {
        Self {
            source,
            destination,
            source_port: 0,
            destination_port: 0,
            protocol,
            tcp_flags: 0,
            icmp: Icmp::No,
            part: Part::Whole,
            hops,
            extended: false,
            payload,
            id: 0,
            left: 0,
            offset: 0,
            fragmented: false,
        }
    }
}

/// A family whose packets can be read.
pub trait Readable: Family {
    /// Reads a packet of an everyday shape: TCP or UDP right behind an IP header without options. `None`: some other
    /// shape, for [`Readable::any`] to read.
    fn common<F: Frame>(frame: &F) -> Option<Headers<Self>>;
    /// Reads any packet, into a place that is given: the stack of a program is small.
    fn any<F: Frame>(frame: &F, into: &mut Headers<Self>) -> Result<(), Fault>;
    /// Reads a packet the quick way if it is of an everyday shape, and else as any other.
    #[inline(always)]
    fn read<F: Frame>(frame: &F, into: &mut Headers<Self>) -> Result<(), Fault> {
        match Self::common(frame) {
            Some(headers) => {
                *into = headers;
                Ok(())
            }
            None => Self::any(frame, into),
        }
    }
}

impl Readable for Ipv4 {
    #[inline(always)]
    fn common<F: Frame>(frame: &F) -> Option<Headers<Self>> {
        let words: [u32; 5] = frame.words(ETHERNET)?;
        let [first, second, third] = [words[0], words[1], words[2]].map(u32::to_ne_bytes);
        // Version 4, five words of header, and neither "more fragments" nor an offset.
        if first[0] != 0x45 || (second[2] & 0x3f) | second[3] != 0 {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([first[2], first[3]]));
        if length + ETHERNET > frame.length() as usize {
            return None;
        }
        let mut headers = Headers::new(Self(words[3]), Self(words[4]), third[1], third[0], 34);
        transport::common(frame, ETHERNET + 20, length.checked_sub(20)?, &mut headers)?;
        Some(headers)
    }

    #[inline(never)]
    fn any<F: Frame>(frame: &F, into: &mut Headers<Self>) -> Result<(), Fault> {
        let words: [u32; 5] = frame.words(ETHERNET).ok_or(Fault::Malformed)?;
        let [first, second, third] = [words[0], words[1], words[2]].map(u32::to_ne_bytes);
        let own = usize::from(first[0] & 0x0f) * 4;
        let mut length = usize::from(u16::from_be_bytes([first[2], first[3]]));
        let there = (frame.length() as usize).saturating_sub(ETHERNET);
        if length == 0 && there > usize::from(u16::MAX) {
            // Segmentation offload of more than the field can say (Linux b1a78b9b9886).
            length = there;
        }
        if first[0] >> 4 != 4 || own < 20 || length < own || length > there {
            return Err(Fault::Malformed);
        }
        let headers = into;
        *headers = Headers::new(Self(words[3]), Self(words[4]), third[1], third[0], 34);
        #[expect(clippy::cast_possible_truncation, reason = "the length of a frame")]
        let left = (length - own) as u32;
        headers.left = left;
        if own > 20 {
            headers.extended = true;
            options(frame, own, headers)?;
        }
        let fragment = u16::from_be_bytes([second[2], second[3]]);
        headers.offset = fragment & 0x1fff;
        headers.id = u32::from(u16::from_be_bytes([second[0], second[1]]));
        headers.part = part(fragment & 0x2000 != 0, headers.offset);
        finish(frame, headers)
    }
}

impl Readable for Ipv6 {
    #[inline(always)]
    fn common<F: Frame>(frame: &F) -> Option<Headers<Self>> {
        let words: [u32; 10] = frame.words(ETHERNET)?;
        let [first, second] = [words[0], words[1]].map(u32::to_ne_bytes);
        let length = usize::from(u16::from_be_bytes([second[0], second[1]]));
        if first[0] >> 4 != 6 || length + ETHERNET + 40 > frame.length() as usize {
            return None;
        }
        let source = Self([words[2], words[3], words[4], words[5]]);
        let destination = Self([words[6], words[7], words[8], words[9]]);
        let mut headers = Headers::new(source, destination, second[2], second[3], 54);
        transport::common(frame, ETHERNET + 40, length, &mut headers)?;
        Some(headers)
    }

    #[inline(never)]
    fn any<F: Frame>(frame: &F, into: &mut Headers<Self>) -> Result<(), Fault> {
        let words: [u32; 10] = frame.words(ETHERNET).ok_or(Fault::Malformed)?;
        let [first, second] = [words[0], words[1]].map(u32::to_ne_bytes);
        let mut length = usize::from(u16::from_be_bytes([second[0], second[1]]));
        let there = (frame.length() as usize).saturating_sub(ETHERNET + 40);
        if length == 0 && there > usize::from(u16::MAX) {
            // A jumbo payload (RFC 2675), as segmentation offload makes them.
            length = there;
        }
        if first[0] >> 4 != 6 || length > there {
            return Err(Fault::Malformed);
        }
        let source = Self([words[2], words[3], words[4], words[5]]);
        let destination = Self([words[6], words[7], words[8], words[9]]);
        *into = Headers::new(source, destination, second[2], second[3], 54);
        #[expect(clippy::cast_possible_truncation, reason = "the length of a frame")]
        let left = length as u32;
        into.left = left;
        extensions::walk(frame, into)?;
        finish(frame, into)
    }
}

#[inline(always)]
fn part(more: bool, offset: u16) -> Part {
    match (more, offset) {
        (false, 0) => Part::Whole,
        (true, 0) => Part::First,
        _ => Part::Later,
    }
}

/// Reads what stands behind the IP header, if it is there.
#[inline(always)]
fn finish<A: Family, F: Frame>(frame: &F, headers: &mut Headers<A>) -> Result<(), Fault> {
    if headers.part == Part::Later {
        // The second eight bytes of a TCP header are its flags (RFC 1858 section 3.2.2).
        let splits = headers.offset == 1 && headers.protocol == protocol::TCP;
        return if splits { Err(Fault::Fragment) } else { Ok(()) };
    }
    transport::any(frame, headers.left as usize, headers)
}

/// Looks for source routing among the options of an IPv4 header of `own` bytes (RFC 791 section 3.1): it makes the
/// destination that policy judges another than the one that the packet reaches. Then sets where the payload begins.
#[inline(never)]
fn options<F: Frame>(frame: &F, own: usize, headers: &mut Headers<Ipv4>) -> Result<(), Fault> {
    #[expect(clippy::cast_possible_truncation, reason = "at most 14 and 60")]
    let end = (ETHERNET + own) as u16;
    // Honest packets have one or two, and padding. Written out, not a loop, as in `extensions::walk`, and with the place
    // reached kept in the headers for the reason given there.
    let mut reached = option(frame, end, headers);
    reached = reached.and_then(|| option(frame, end, headers));
    reached = reached.and_then(|| option(frame, end, headers));
    reached = reached.and_then(|| option(frame, end, headers));
    reached = reached.and_then(|| option(frame, end, headers));
    reached = reached.and_then(|| option(frame, end, headers));
    reached = reached.and_then(|| option(frame, end, headers));
    reached = reached.and_then(|| option(frame, end, headers));
    headers.payload = end;
    reached.finish()
}

/// Where a walk over options or extension headers is. (One byte, unlike a `Result` of something: see [`crate::hook::Outcome`].)
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// At the end.
    End,
    /// At what may be another one.
    Next,
    /// At something that must not be there.
    Bad(Fault),
}

impl Reached {
    #[inline(always)]
    fn and_then(self, next: impl FnOnce() -> Self) -> Self {
        if self == Self::Next { next() } else { self }
    }

    /// The end must be reached by now.
    #[inline(always)]
    const fn finish(self) -> Result<(), Fault> {
        match self {
            Self::End => Ok(()),
            Self::Next => Err(Fault::Headers),
            Self::Bad(fault) => Err(fault),
        }
    }
}

/// Walks over one option.
#[inline(never)]
fn option<F: Frame>(frame: &F, end: u16, headers: &mut Headers<Ipv4>) -> Reached {
    let Some([kind, length]) = frame.bytes(usize::from(headers.payload)) else {
        return Reached::Bad(Fault::Malformed);
    };
    match kind {
        0 => return Reached::End,
        1 => headers.payload += 1,
        // Loose and strict source routing.
        131 | 137 => return Reached::Bad(Fault::Headers),
        _ if length < 2 => return Reached::Bad(Fault::Malformed),
        _ => headers.payload += u16::from(length),
    }
    if headers.payload < end { Reached::Next } else { Reached::End }
}
