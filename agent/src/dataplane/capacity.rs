//! Whether maps have room for what they are to hold: asked before anything is written.

use std::collections::BTreeSet;
use std::net::IpAddr;

use datapath::abi::{Prefix4, Prefix6, RuleKey};
use ipnet::IpNet;
use policy_compiler::plan::Step;
use policy_compiler::tables::Tables;

use super::error::{Capacity, Error, MapError};
use super::live::{prefix4, prefix6};
use super::map::Map;
use super::maps::Maps;
use super::sys::plain::Plain;

/// Refuses tables that the maps have no room for.
pub(super) fn check_tables(maps: &Maps, tables: &Tables) -> Result<(), Capacity> {
    let sizes = tables.sizes();
    let four = tables.addresses.keys().filter(|address| address.is_ipv4()).count();
    let four_prefixes = tables.prefixes.iter().filter(|(prefix, _)| matches!(prefix, IpNet::V4(_))).count();
    for (map, needed, size) in [
        (maps.rules.name(), sizes.rules, maps.rules.size()),
        (maps.addresses4.name(), four, maps.addresses4.size()),
        (maps.addresses6.name(), sizes.addresses - four, maps.addresses6.size()),
        (maps.prefixes4.name(), four_prefixes, maps.prefixes4.size()),
        (maps.prefixes6.name(), sizes.prefixes - four_prefixes, maps.prefixes6.size()),
    ] {
        if needed > size {
            return Err(Capacity { map, needed, size });
        }
    }
    Ok(())
}

/// How many entries maps have at most: counting them all takes longer than most plans.
#[derive(Debug, Default)]
pub(super) struct Used {
    pub(super) rules: usize,
    pub(super) addresses4: usize,
    pub(super) addresses6: usize,
    pub(super) prefixes4: usize,
    pub(super) prefixes6: usize,
}

/// The keys that steps add, by map.
#[derive(Default)]
struct Added {
    rules: BTreeSet<RuleKey>,
    addresses4: BTreeSet<[u8; 4]>,
    addresses6: BTreeSet<[u8; 16]>,
    prefixes4: BTreeSet<Prefix4>,
    prefixes6: BTreeSet<Prefix6>,
}

impl Added {
    fn of(steps: &[Step]) -> Self {
        let mut added = Self::default();
        for step in steps {
            match step {
                Step::AddRule(key, _) => drop(added.rules.insert(*key)),
                Step::SetAddress(IpAddr::V4(address), _) => drop(added.addresses4.insert(address.octets())),
                Step::SetAddress(IpAddr::V6(address), _) => drop(added.addresses6.insert(address.octets())),
                Step::SetPrefix(IpNet::V4(prefix), _) => drop(added.prefixes4.insert(prefix4(*prefix))),
                Step::SetPrefix(IpNet::V6(prefix), _) => drop(added.prefixes6.insert(prefix6(*prefix))),
                _ => {}
            }
        }
        added
    }
}

impl Used {
    pub(super) fn of(maps: &Maps) -> Result<Self, MapError> {
        Ok(Self {
            rules: maps.rules.count()?,
            addresses4: maps.addresses4.count()?,
            addresses6: maps.addresses6.count()?,
            prefixes4: maps.prefixes4.count()?,
            prefixes6: maps.prefixes6.count()?,
        })
    }

    /// Refuses steps at whose height (all added, nothing removed yet) a map would be too small; else counts what they add.
    pub(super) fn take(&mut self, maps: &Maps, steps: &[Step]) -> Result<(), Error> {
        let added = Added::of(steps);
        let after = Self {
            rules: height(&maps.rules, self.rules, &added.rules)?,
            addresses4: height(&maps.addresses4, self.addresses4, &added.addresses4)?,
            addresses6: height(&maps.addresses6, self.addresses6, &added.addresses6)?,
            prefixes4: height(&maps.prefixes4, self.prefixes4, &added.prefixes4)?,
            prefixes6: height(&maps.prefixes6, self.prefixes6, &added.prefixes6)?,
        };
        *self = after;
        Ok(())
    }
}

/// How many entries a map has at most when these are added. Counted exactly only if it matters.
fn height<K, V>(map: &Map<K, V>, used: usize, added: &BTreeSet<K>) -> Result<usize, Error>
where
    K: Plain + std::fmt::Debug + Ord,
    V: Plain,
{
    if added.is_empty() || used + added.len() <= map.size() {
        return Ok(used + added.len());
    }
    let (mut used, mut there) = (0, 0);
    map.each(|key, _| {
        used += 1;
        there += usize::from(added.contains(&key));
    })?;
    let needed = used + added.len() - there;
    if needed > map.size() {
        return Err(Capacity { map: map.name(), needed, size: map.size() }.into());
    }
    Ok(needed)
}
