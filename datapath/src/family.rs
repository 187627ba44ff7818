//! The two address families, as far as packet logic differs by them.

use crate::abi::Address;
use crate::interface::Interface;

/// An address of one family, as words of the packet: the bytes as they lie, read as numbers of the machine.
pub trait Family: Copy + Eq {
    /// The length of the header without options or extensions, in bytes.
    const HEADER: usize;
    /// Whether this is IPv4.
    const IS_V4: bool;

    /// As the tables key it.
    fn address(self) -> Address;
    /// All zero.
    fn is_unspecified(self) -> bool;
    /// A loopback address (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3).
    fn is_loopback(self) -> bool;
    /// One that more than one may answer to: multicast, or the limited broadcast address.
    fn is_many(self) -> bool;
    /// Of a link only (RFC 4291 section 2.5.6).
    fn is_link_local(self) -> bool;
    /// A fixed total order.
    fn is_less(self, other: Self) -> bool;
    /// The interface's own address.
    fn own(interface: &Interface) -> Self;
    /// The interface's own link-local address.
    fn own_link_local(interface: &Interface) -> Self;
}

/// An IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Ipv4(pub u32);

/// An IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Ipv6(pub [u32; 4]);

impl Family for Ipv4 {
    const HEADER: usize = 20;
    const IS_V4: bool = true;

    #[inline(always)]
    fn address(self) -> Address {
        Address::V4(self.0.to_ne_bytes())
    }

    #[inline(always)]
    fn is_unspecified(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    fn is_loopback(self) -> bool {
        self.0.to_ne_bytes()[0] == 127
    }

    #[inline(always)]
    fn is_many(self) -> bool {
        self.0.to_ne_bytes()[0] >> 4 == 0xe || self.0 == u32::MAX
    }

    #[inline(always)]
    fn is_link_local(self) -> bool {
        false
    }

    #[inline(always)]
    fn is_less(self, other: Self) -> bool {
        self.0 < other.0
    }

    #[inline(always)]
    fn own(interface: &Interface) -> Self {
        Self(u32::from_ne_bytes(interface.ipv4))
    }

    #[inline(always)]
    fn own_link_local(_: &Interface) -> Self {
        Self(0)
    }
}

impl Family for Ipv6 {
    const HEADER: usize = 40;
    const IS_V4: bool = false;

    #[inline(always)]
    fn address(self) -> Address {
        let [a, b, c, d] = self.0.map(u32::to_ne_bytes);
        Address::V6([
            a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3],
        ])
    }

    #[inline(always)]
    fn is_unspecified(self) -> bool {
        self.0[0] | self.0[1] | self.0[2] | self.0[3] == 0
    }

    #[inline(always)]
    fn is_loopback(self) -> bool {
        // ::1, and what stands for an IPv4 address (RFC 4291 section 2.5.5.2): never seen in a packet.
        self.0[0] | self.0[1] == 0
            && (self.0[2] == 0 && self.0[3] == 1_u32.to_be() || self.0[2] == 0xffff_u32.to_be())
    }

    #[inline(always)]
    fn is_many(self) -> bool {
        self.0[0].to_ne_bytes()[0] == 0xff
    }

    #[inline(always)]
    fn is_link_local(self) -> bool {
        let start = self.0[0].to_ne_bytes();
        start[0] == 0xfe && start[1] & 0xc0 == 0x80
    }

    #[inline(always)]
    fn is_less(self, other: Self) -> bool {
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let [a, b] = [pair(self.0[0], self.0[1]), pair(other.0[0], other.0[1])];
        if a == b { pair(self.0[2], self.0[3]) < pair(other.0[2], other.0[3]) } else { a < b }
    }

    #[inline(always)]
    fn own(interface: &Interface) -> Self {
        Self::from_bytes(&interface.ipv6)
    }

    #[inline(always)]
    fn own_link_local(interface: &Interface) -> Self {
        Self::from_bytes(&interface.link_local)
    }
}

impl Ipv6 {
    /// From the bytes of an address.
    #[inline(always)]
    pub const fn from_bytes(bytes: &[u8; 16]) -> Self {
        Self([word_at(bytes, 0), word_at(bytes, 4), word_at(bytes, 8), word_at(bytes, 12)])
    }
}

#[inline(always)]
const fn word_at(bytes: &[u8; 16], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
