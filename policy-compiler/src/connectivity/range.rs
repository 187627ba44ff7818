//! External addresses: ranges, and the partition of the address space by what policies can tell apart.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use datapath::abi::Identity;
use ipnet::IpNet;

use crate::compiler::Compiler;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Family {
    V4,
    V6,
}

/// Addresses `first` to `last`, both included and of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    // The derived order is that of users: IPv4 before IPv6, then by number.
    first: IpAddr,
    last: IpAddr,
}

/// A range of addresses that no policy tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) range: AddressRange,
    pub(super) identity: Identity,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(super) const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The number of its last address.
    const fn last(self) -> u128 {
        match self {
            Self::V4 => u32::MAX as u128,
            Self::V6 => u128::MAX,
        }
    }

    fn address(self, number: u128) -> IpAddr {
        match self {
            // Numbers of the family never exceed 32 bits.
            Self::V4 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX))),
            Self::V6 => IpAddr::V6(Ipv6Addr::from_bits(number)),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl AddressRange {
    fn new(family: Family, first: u128, last: u128) -> Self {
        Self { first: family.address(first), last: family.address(last) }
    }

    /// The first address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address.
    pub fn last(&self) -> IpAddr {
        self.last
    }

    pub(super) fn family(&self) -> Family {
        Family::of(self.first)
    }

    /// Whether it is all of IPv4 or all of IPv6.
    pub fn is_whole_family(&self) -> bool {
        number(self.first) == 0 && number(self.last) == self.family().last()
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == self.family() && (self.first..=self.last).contains(&address)
    }

    /// The prefix that has exactly these addresses, if there is one.
    pub fn prefix(&self) -> Option<IpNet> {
        let (first, last) = (number(self.first), number(self.last));
        let differing = 128 - (first ^ last).leading_zeros();
        let bits = if self.family() == Family::V4 { 32 } else { 128_u32 };
        let length = u8::try_from(bits.checked_sub(differing)?).ok()?;
        let prefix = IpNet::new(self.first, length).ok()?.trunc();
        (prefix.network() == self.first && prefix.broadcast() == self.last).then_some(prefix)
    }

    /// Whether the other one begins where this one ends.
    pub(super) fn meets(&self, next: &Self) -> bool {
        self.family() == next.family() && number(self.last).checked_add(1) == Some(number(next.first))
    }

    /// This range, up to the end of another one.
    pub(super) fn up_to(self, other: &Self) -> Self {
        Self { first: self.first, last: other.last }
    }

    /// The smallest parts into which ranges cut each other; sorted, and covering nothing else.
    pub(super) fn refine(ranges: &(impl Iterator<Item = Self> + Clone)) -> Vec<Self> {
        let mut parts = Vec::new();
        for family in Family::ALL {
            // +1 where a range begins, -1 behind its end; the end of the address space needs no edge.
            let mut edges = BTreeMap::<u128, i64>::new();
            for range in ranges.clone().filter(|range| range.family() == family) {
                *edges.entry(number(range.first)).or_default() += 1;
                if let Some(behind) =
                    number(range.last).checked_add(1).filter(|behind| *behind <= family.last())
                {
                    *edges.entry(behind).or_default() -= 1;
                }
            }
            let mut open = 0;
            let mut ends = edges.keys().skip(1).map(|next| next - 1);
            for (&start, change) in &edges {
                open += change;
                let end = ends.next().unwrap_or(family.last());
                if open > 0 {
                    parts.push(Self::new(family, start, end));
                }
            }
        }
        parts
    }

    /// The addresses that are in both.
    pub fn overlap(&self, other: &Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (self.family() == other.family() && first <= last).then_some(Self { first, last })
    }
}

impl fmt::Display for AddressRange {
    /// A CIDR, or `low-high` if it is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix() {
            Some(prefix) => write!(f, "{prefix}"),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// The whole address space, cut where identities change: at the edges of the prefixes that policies name, and around
/// the addresses of nodes. Addresses of pods do not cut it: an external address is no pod's.
pub(super) fn segments(compiler: &Compiler) -> Vec<Segment> {
    let prefixes = &compiler.tables().prefixes;
    let around =
        |address: IpAddr| prefixes.longest(address, u8::MAX).map_or(Identity::NONE, |(_, identity)| identity);
    let nodes = compiler.cluster().nodes.values().flat_map(|node| &node.addresses);
    let nodes: BTreeSet<IpAddr> =
        nodes.copied().filter(|&address| compiler.identity(address) != around(address)).collect();
    let mut segments: Vec<Segment> = Vec::new();
    for family in Family::ALL {
        let mut starts = BTreeSet::from([0]);
        let named = prefixes.iter().map(|(prefix, _)| (prefix.network(), prefix.broadcast()));
        for (first, last) in named.chain(nodes.iter().map(|&node| (node, node))) {
            if Family::of(first) == family {
                starts.insert(number(first));
                starts.extend(number(last).checked_add(1).filter(|next| *next <= family.last()));
            }
        }
        let mut ends = starts.iter().skip(1).map(|next| next - 1);
        for &start in &starts {
            let range = AddressRange::new(family, start, ends.next().unwrap_or(family.last()));
            let identity = if nodes.contains(&range.first) {
                compiler.identity(range.first)
            } else {
                around(range.first)
            };
            match segments.last_mut() {
                Some(before) if before.identity == identity && before.range.meets(&range) => {
                    before.range = before.range.up_to(&range);
                }
                _ => segments.push(Segment { range, identity }),
            }
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: &str, last: &str) -> AddressRange {
        AddressRange { first: first.parse().unwrap(), last: last.parse().unwrap() }
    }

    #[test]
    fn a_range_is_written_as_a_prefix_where_it_is_one() {
        for (first, last, text) in [
            ("0.0.0.0", "255.255.255.255", "0.0.0.0/0"),
            ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0"),
            ("10.0.0.0", "10.255.255.255", "10.0.0.0/8"),
            ("10.0.0.7", "10.0.0.7", "10.0.0.7/32"),
            ("10.0.0.1", "10.0.0.2", "10.0.0.1-10.0.0.2"),
            ("0.0.0.0", "9.255.255.255", "0.0.0.0-9.255.255.255"),
            ("fd00::", "fd00::f", "fd00::/124"),
            ("fd00::1", "fd00::f", "fd00::1-fd00::f"),
        ] {
            assert_eq!(range(first, last).to_string(), text);
        }
    }

    #[test]
    fn ranges_cut_each_other_into_parts_up_to_the_end_of_the_space() {
        let ranges =
            [range("0.0.0.0", "255.255.255.255"), range("10.0.0.0", "10.0.0.9"), range("fd00::5", "fd00::7")];
        let parts =
            AddressRange::refine(&ranges.into_iter()).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            parts,
            ["0.0.0.0-9.255.255.255", "10.0.0.0-10.0.0.9", "10.0.0.10-255.255.255.255", "fd00::5-fd00::7"]
        );
    }

    #[test]
    fn ranges_of_two_families_neither_meet_nor_overlap() {
        let (v4, v6) = (range("0.0.0.0", "255.255.255.255"), range("::", "::ffff:ffff"));
        assert!(!v4.meets(&v6) && !v6.meets(&v4) && v4.overlap(&v6).is_none());
        assert!(!v6.contains("0.0.0.1".parse().unwrap()));
        assert!(range("0.0.0.0", "0.0.0.1").meets(&range("0.0.0.2", "0.0.0.2")));
    }
}
