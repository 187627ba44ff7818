//! The address plan: which numbers nodes and pods get, and link-layer addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, for tests that run over each.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// A link-layer address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Everybody on the link.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// The group address that an IPv4 or IPv6 multicast address maps to (RFC 1112 section 6.4, RFC 2464 section 7).
    pub fn of_group(group: IpAddr) -> Self {
        match group {
            IpAddr::V4(group) => {
                let [_, b, c, d] = group.octets();
                Self([0x01, 0x00, 0x5e, b & 0x7f, c, d])
            }
            IpAddr::V6(group) => {
                let [.., a, b, c, d] = group.octets();
                Self([0x33, 0x33, a, b, c, d])
            }
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The pods' network of one node: 10.244.N.0/24 and `fd00:10:244:N::/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subnet(pub(crate) u8);

impl Subnet {
    /// The pods' network, as `ip` writes it.
    pub(crate) fn networks(self) -> [String; 2] {
        [format!("{}/24", self.ipv4(0)), format!("{}/64", self.ipv6(0))]
    }

    pub(crate) fn ipv4(self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.0, number)
    }

    pub(crate) fn ipv6(self, number: u8) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x10, 0x244, decimal(self.0), 0, 0, 0, decimal(number))
    }

    /// As CNI plugins do: the interface's address says which IPv4 address it belongs to.
    pub(crate) fn mac(self, number: u8) -> Mac {
        Mac([0x0a, 0x58, 10, 244, self.0, number])
    }

    pub(crate) fn tunnel_mac(self) -> Mac {
        Mac([0xda, 0x58, 0, 0, 0, self.0])
    }
}

/// The fabric between nodes: 192.168.50.0/24 and `fd00:192:168:50::/64`.
pub(crate) fn fabric(number: u8) -> (Ipv4Addr, Ipv6Addr) {
    leg(50, number)
}

/// A network of the laboratory's underlay: 192.168.NET.0/24 and `fd00:192:168:NET::/64`.
pub(crate) fn leg(network: u8, number: u8) -> (Ipv4Addr, Ipv6Addr) {
    let ipv6 = Ipv6Addr::new(0xfd00, 0x192, 0x168, decimal(network), 0, 0, 0, decimal(number));
    (Ipv4Addr::new(192, 168, network, number), ipv6)
}

/// The group of an IPv6 address that reads like the decimal number, so that 10.244.12.34 and
/// `fd00:10:244:12::34` are seen to belong together.
fn decimal(number: u8) -> u16 {
    let number = u16::from(number);
    ((number / 100) << 8) | ((number / 10 % 10) << 4) | (number % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_addresses_of_a_pod_read_alike() {
        assert_eq!(Subnet(12).ipv4(234).to_string(), "10.244.12.234");
        assert_eq!(Subnet(12).ipv6(234).to_string(), "fd00:10:244:12::234");
        assert_eq!(Subnet(1).networks(), ["10.244.1.0/24", "fd00:10:244:1::/64"]);
        assert_eq!(fabric(2).1.to_string(), "fd00:192:168:50::2");
    }

    #[test]
    fn a_group_has_the_link_address_that_the_rfcs_give_it() {
        assert_eq!(Mac::of_group([224, 129, 0, 1].into()).to_string(), "01:00:5e:01:00:01");
        assert_eq!(
            Mac::of_group(IpAddr::V6("ff02::1:ff00:2".parse().unwrap())).to_string(),
            "33:33:ff:00:00:02"
        );
    }
}
