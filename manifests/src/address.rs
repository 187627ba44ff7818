//! Addresses for pods that have none: unlike any address that a policy names or that the cluster has.
//!
//! A policy can tell addresses apart only by the prefixes it names, so an address out of a pool that no prefix touches
//! is "somewhere in the cluster" and nothing else. Only prefixes of length 0 contain it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Where made-up addresses are taken from.
pub(crate) struct Pools {
    v4: Pool,
    v6: Pool,
    /// Addresses that are in use, made up or not.
    taken: BTreeSet<IpAddr>,
}

/// A prefix of which made-up addresses are taken.
struct Pool {
    net: IpNet,
    /// Whether no named prefix touches it.
    clean: bool,
}

impl Pools {
    /// Pools that none of the named prefixes touches, if there are any.
    pub(crate) fn new(named: &[IpNet], taken: BTreeSet<IpAddr>) -> Self {
        let first = |candidates: &mut dyn Iterator<Item = IpNet>| {
            let mut candidates = candidates.peekable();
            let fallback = candidates.peek().copied().unwrap_or_default();
            let clean = candidates.find(|&candidate| named.iter().all(|&net| !touches(net, candidate)));
            Pool { net: clean.unwrap_or(fallback), clean: clean.is_some() }
        };
        Self { v4: first(&mut v4_candidates()), v6: first(&mut v6_candidates()), taken }
    }

    /// Whether the family's addresses are told apart by no policy.
    pub(crate) fn is_clean(&self, v6: bool) -> bool {
        if v6 { self.v6.clean } else { self.v4.clean }
    }

    /// An address for a name; the same one in every run, unless another name has the same hash.
    pub(crate) fn take(&mut self, name: &str, v6: bool) -> Option<IpAddr> {
        let net = if v6 { self.v6.net } else { self.v4.net };
        let hash = fnv1a(name.as_bytes());
        // As many tries as there are addresses in use are enough for every pool that is larger than that.
        let tries = u64::try_from(self.taken.len()).unwrap_or(u64::MAX).saturating_add(3);
        let free = (0..tries)
            .map(|n| nth(net, hash.wrapping_add(n)))
            .find(|address| !self.taken.contains(address))?;
        self.taken.insert(free);
        Some(free)
    }
}

/// Whether a prefix tells addresses in a pool apart, or apart from others. One of length 0 contains all there are.
fn touches(named: IpNet, pool: IpNet) -> bool {
    named.prefix_len() != 0 && (named.contains(&pool) || pool.contains(&named))
}

/// First what nobody uses (class E, benchmarks, carrier NAT), though policies like to list just these as reserved;
/// then every /8 that may be on the Internet.
fn v4_candidates() -> impl Iterator<Item = IpNet> {
    let reserved = [([240, 0, 0, 0], 4), ([198, 18, 0, 0], 15), ([100, 64, 0, 0], 10)];
    let rest = (1..=223_u8).rev().filter(|first| !matches!(first, 10 | 100 | 127 | 169 | 172 | 192 | 198));
    let rest = rest.map(|first| ([first, 0, 0, 0], 8));
    reserved
        .into_iter()
        .chain(rest)
        .map(|(address, length)| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from(address), length)))
}

/// First a ULA of our own, then documentation, then some of what is neither assigned nor local.
fn v6_candidates() -> impl Iterator<Item = IpNet> {
    let reserved =
        [([0xfd00, 0x706f, 0x6c64], 48), ([0x2001, 0xdb8, 0x706f], 48), ([0x3fff, 0x706, 0xf6c6], 48)];
    let rest = (0x40..=0xef_u16).map(|first| first << 8).map(|first| ([first, 0, 0], 16));
    reserved.into_iter().chain(rest).map(|([a, b, c], length)| {
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), length))
    })
}

/// The address of a pool that a number names, never its first or last one.
fn nth(net: IpNet, number: u64) -> IpAddr {
    match net {
        IpNet::V4(net) => {
            let size = 1_u64 << (32 - u32::from(net.prefix_len()).min(32));
            // Below the size of the pool, which is at most 2^32.
            let offset = u32::try_from(1 + number % size.saturating_sub(2).max(1)).unwrap_or(1);
            IpAddr::V4(Ipv4Addr::from_bits(net.network().to_bits().wrapping_add(offset)))
        }
        // All pools have more than 64 bits to spare.
        IpNet::V6(net) => {
            IpAddr::V6(Ipv6Addr::from_bits(net.network().to_bits() | u128::from(number.max(1))))
        }
    }
}

/// FNV-1a: the same everywhere and for ever, which a `Hasher` of the standard library is not.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools(named: &[&str]) -> Pools {
        let named: Vec<_> = named.iter().map(|net| net.parse().unwrap()).collect();
        Pools::new(&named, BTreeSet::new())
    }

    #[test]
    fn the_pool_is_one_that_no_prefix_touches() {
        for (named, v4, v6) in [
            (&[][..], "240.0.0.0/4", "fd00:706f:6c64::/48"),
            (&["0.0.0.0/0", "::/0", "10.0.0.0/8"], "240.0.0.0/4", "fd00:706f:6c64::/48"),
            (&["224.0.0.0/3", "fc00::/7"], "198.18.0.0/15", "2001:db8:706f::/48"),
            (
                &["240.0.0.0/4", "198.18.3.0/24", "100.64.0.0/10", "223.1.1.1/32"],
                "222.0.0.0/8",
                "fd00:706f:6c64::/48",
            ),
            (&["fc00::/7", "2000::/3"], "240.0.0.0/4", "4000::/16"),
        ] {
            let pools = pools(named);
            assert_eq!(
                (pools.v4.net.to_string(), pools.v6.net.to_string()),
                (v4.to_owned(), v6.to_owned()),
                "{named:?}"
            );
            assert!(pools.is_clean(false) && pools.is_clean(true));
        }
        let pools = pools(&["0.0.0.0/1", "128.0.0.0/1"]);
        assert_eq!((pools.v4.net.to_string(), pools.is_clean(false)), ("240.0.0.0/4".to_owned(), false));
    }

    #[test]
    fn an_address_depends_on_the_name_only_unless_it_is_taken() {
        let first = pools(&[]).take("default/a", false).unwrap();
        assert_eq!(pools(&[]).take("default/a", false), Some(first));
        let mut crowded = Pools::new(&[], BTreeSet::from([first]));
        let next = crowded.take("default/a", false).unwrap();
        assert_ne!(next, first);
        assert!("240.0.0.0/4".parse::<IpNet>().unwrap().contains(&next));
        let v6 = pools(&[]).take("default/a", true).unwrap();
        assert!("fd00:706f:6c64::/48".parse::<IpNet>().unwrap().contains(&v6));
    }
}
