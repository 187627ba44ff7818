//! Frames, built byte by byte and as wrongly as a test asks for.

use std::net::IpAddr;

/// TCP flags.
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;
pub(crate) const URG: u8 = 32;

/// The MAC address that goes with an address: the last byte tells whose it is.
pub(crate) fn mac(address: IpAddr) -> [u8; 6] {
    let last = match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    };
    [2, 0, 0, 0, 0, last]
}

/// A packet, before it is bytes.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// Whose frame it says it is.
    pub(crate) mac: [u8; 6],
    pub(crate) protocol: u8,
    pub(crate) hops: u8,
    /// IPv4 options, a multiple of four bytes.
    pub(crate) options: Vec<u8>,
    /// IPv6 extension headers: kind, and all but the first byte.
    pub(crate) extensions: Vec<(u8, Vec<u8>)>,
    /// Identification, offset in units of eight bytes, whether more follow.
    pub(crate) fragment: Option<(u16, u16, bool)>,
    pub(crate) payload: Vec<u8>,
}

impl Datagram {
    pub(crate) fn new(source: IpAddr, destination: IpAddr, protocol: u8, payload: Vec<u8>) -> Self {
        Self {
            source,
            destination,
            mac: mac(source),
            protocol,
            hops: 64,
            options: Vec::new(),
            extensions: Vec::new(),
            fragment: None,
            payload,
        }
    }

    /// As a later or first fragment.
    pub(crate) fn fragment(mut self, id: u16, offset: u16, more: bool) -> Self {
        self.fragment = Some((id, offset, more));
        self
    }

    pub(crate) fn payload(mut self, payload: Vec<u8>) -> Self {
        self.payload = payload;
        self
    }

    /// The whole frame.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut frame = mac(self.destination).to_vec();
        frame.extend(self.mac);
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let own = 20 + self.options.len();
                let (id, field) = self
                    .fragment
                    .map_or((1, 0x4000), |(id, offset, more)| (id, u16::from(more) << 13 | offset));
                frame.extend([0x08, 0x00, 0x40 | low(own / 4), 0]);
                frame.extend(short(own + self.payload.len()));
                frame.extend(id.to_be_bytes());
                frame.extend(field.to_be_bytes());
                frame.extend([self.hops, self.protocol, 0, 0]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                frame.extend(&self.options);
                frame.extend(&self.payload);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (first, chain) = self.chain();
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend(short(chain.len() + self.payload.len()));
                frame.extend([first, self.hops]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                frame.extend(chain);
                frame.extend(&self.payload);
            }
            _ => panic!("{self:?} is of no family"),
        }
        frame
    }

    /// The chain of extension headers, and what the fixed header says comes next.
    fn chain(&self) -> (u8, Vec<u8>) {
        let mut headers = self.extensions.clone();
        if let Some((id, offset, more)) = self.fragment {
            let field = (offset << 3 | u16::from(more)).to_be_bytes();
            let id = u32::from(id).to_be_bytes();
            headers.push((44, [&[0][..], &field, &id].concat()));
        }
        let kinds: Vec<u8> = headers.iter().map(|(kind, _)| *kind).chain([self.protocol]).collect();
        let mut chain = Vec::new();
        for (index, (_, rest)) in headers.iter().enumerate() {
            chain.push(kinds[index + 1]);
            chain.extend(rest);
        }
        (kinds[0], chain)
    }
}

fn low(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn short(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes()
}

/// A TCP segment without data.
pub(crate) fn tcp(from: (IpAddr, u16), to: (IpAddr, u16), flags: u8) -> Datagram {
    Datagram::new(from.0, to.0, 6, segment(from.1, to.1, flags))
}

/// A TCP header.
pub(crate) fn segment(from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut bytes = [from.to_be_bytes(), to.to_be_bytes()].concat();
    bytes.extend([0, 0, 0x10, 0, 0, 0, 0x20, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes
}

/// A UDP datagram with eight bytes of data.
pub(crate) fn udp(from: (IpAddr, u16), to: (IpAddr, u16)) -> Datagram {
    Datagram::new(from.0, to.0, 17, user(from.1, to.1, 16))
}

/// A UDP header that says that the datagram has so many bytes, and eight bytes of data.
pub(crate) fn user(from: u16, to: u16, length: u16) -> Vec<u8> {
    let mut bytes = [from.to_be_bytes(), to.to_be_bytes(), length.to_be_bytes(), [0; 2]].concat();
    bytes.extend([7; 8]);
    bytes
}

/// An SCTP packet.
pub(crate) fn sctp(from: (IpAddr, u16), to: (IpAddr, u16)) -> Datagram {
    let mut bytes = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    bytes.extend([0; 8]);
    bytes.extend([1, 0, 0, 4]);
    Datagram::new(from.0, to.0, 132, bytes)
}

/// ICMP or ICMPv6, by the family of the addresses.
pub(crate) fn icmp(from: IpAddr, to: IpAddr, kind: u8, rest: &[u8]) -> Datagram {
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend(rest);
    bytes.resize(bytes.len().max(8), 0);
    Datagram::new(from, to, if from.is_ipv4() { 1 } else { 58 }, bytes)
}

/// An echo request.
pub(crate) fn ping(from: IpAddr, to: IpAddr, id: u16) -> Datagram {
    let [a, b] = id.to_be_bytes();
    icmp(from, to, if from.is_ipv4() { 8 } else { 128 }, &[a, b, 0, 1])
}

/// An echo reply.
pub(crate) fn pong(from: IpAddr, to: IpAddr, id: u16) -> Datagram {
    let [a, b] = id.to_be_bytes();
    icmp(from, to, if from.is_ipv4() { 0 } else { 129 }, &[a, b, 0, 1])
}

/// An error of ICMP that quotes a packet: destination unreachable, or packet too big over IPv6.
pub(crate) fn error(from: IpAddr, to: IpAddr, about: &[u8]) -> Datagram {
    let mut rest = vec![0, 0, 5, 0];
    rest.extend(about);
    let mut packet = icmp(from, to, if from.is_ipv4() { 3 } else { 2 }, &rest);
    packet.payload[1] = if from.is_ipv4() { 4 } else { 0 };
    packet
}
