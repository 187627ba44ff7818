//! Random prefixes around the pools of [`crate::facts::address`], host bits and all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::networking::v1::IPBlock;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::facts::address;

/// An `ipBlock`. Each exception is a true part of the block, as the API server demands; exceptions may nest, overlap
/// and double.
pub fn block() -> impl Strategy<Value = IPBlock> {
    let except = prop_oneof![
        3 => Just(None),
        1 => Just(Some(Vec::new())),
        4 => vec((base(), 1..=5_u32), 1..=2).prop_map(Some),
    ];
    (prefix(), except).prop_map(|(prefix, except)| IPBlock {
        cidr: prefix.to_string(),
        except: except.map(|parts| {
            parts
                .into_iter()
                .filter_map(|(base, longer)| prefix.part(base, longer))
                .map(|p| p.to_string())
                .collect()
        }),
    })
}

/// A prefix as text.
pub fn cidr() -> impl Strategy<Value = String> {
    prefix().prop_map(|prefix| prefix.to_string())
}

/// A prefix that may have bits below its length.
#[derive(Clone, Copy, Debug)]
struct Prefix {
    base: IpAddr,
    length: u32,
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.length)
    }
}

impl Prefix {
    /// A part of this prefix, by so many bits smaller, around the same place as `base`. `None` if there is none.
    fn part(self, base: IpAddr, longer: u32) -> Option<Self> {
        let (width, bits) = match self.base {
            IpAddr::V4(own) => (32, u128::from(own.to_bits())),
            IpAddr::V6(own) => (128, own.to_bits()),
        };
        if self.length == width {
            return None;
        }
        let low = match base {
            IpAddr::V4(other) => u128::from(other.to_bits()),
            IpAddr::V6(other) => other.to_bits(),
        };
        // `length` is below `width`, so the shift is below 128 unless the prefix is everything.
        let mask = 1_u128.checked_shl(width - self.length).map_or(u128::MAX, |size| size - 1);
        let bits = bits & !mask | low & mask;
        let base = match self.base {
            IpAddr::V4(_) => Ipv4Addr::from_bits(u32::try_from(bits).ok()?).into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(bits).into(),
        };
        Some(Self { base, length: (self.length + longer).min(width) })
    }
}

fn prefix() -> impl Strategy<Value = Prefix> {
    let length4 = select(&[32, 31, 30, 29, 28, 24, 8, 1, 0][..]);
    let length6 = select(&[128, 127, 126, 125, 124, 64, 8, 1, 0][..]);
    (base(), length4, length6, option::weighted(0.3, Just(()))).prop_map(
        |(base, length4, length6, as_given)| {
            let length = if base.is_ipv4() { length4 } else { length6 };
            let prefix = Prefix { base, length };
            if as_given.is_some() { prefix } else { prefix.canonical() }
        },
    )
}

impl Prefix {
    fn canonical(self) -> Self {
        let base = match self.base {
            IpAddr::V4(base) => {
                let keep = u32::MAX.checked_shl(32 - self.length).unwrap_or(0);
                Ipv4Addr::from_bits(base.to_bits() & keep).into()
            }
            IpAddr::V6(base) => {
                let keep = u128::MAX.checked_shl(128 - self.length).unwrap_or(0);
                Ipv6Addr::from_bits(base.to_bits() & keep).into()
            }
        };
        Self { base, length: self.length }
    }
}

/// An address in the pools, or now and then far from them.
fn base() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        8 => address(),
        1 => select(vec![IpAddr::from([192, 0, 2, 1]), IpAddr::from([0x2001_u16, 0xdb8, 0, 0, 0, 0, 0, 1])]),
    ]
}
