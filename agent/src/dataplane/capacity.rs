//! Whether maps have room for what they are to hold: asked before anything is written.

use std::collections::BTreeSet;
use std::net::IpAddr;

use datapath::abi::RuleKey;
use ipnet::IpNet;
use policy_compiler::plan::Step;
use policy_compiler::tables::Tables;

use super::error::{Capacity, Error};
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

/// The keys that steps add, by map.
#[derive(Default)]
struct Added {
    rules: BTreeSet<RuleKey>,
    addresses4: BTreeSet<[u8; 4]>,
    addresses6: BTreeSet<[u8; 16]>,
    prefixes4: BTreeSet<datapath::abi::Prefix4>,
    prefixes6: BTreeSet<datapath::abi::Prefix6>,
}

/// Refuses steps at whose height (all added, nothing removed yet) a map would be too small.
pub(super) fn check_steps(maps: &Maps, steps: &[Step]) -> Result<(), Error> {
    let mut added = Added::default();
    for step in steps {
        match step {
            Step::AddRule(key, _) => {
                added.rules.insert(*key);
            }
            Step::SetAddress(IpAddr::V4(address), _) => {
                added.addresses4.insert(address.octets());
            }
            Step::SetAddress(IpAddr::V6(address), _) => {
                added.addresses6.insert(address.octets());
            }
            Step::SetPrefix(IpNet::V4(prefix), _) => {
                added.prefixes4.insert(prefix4(*prefix));
            }
            Step::SetPrefix(IpNet::V6(prefix), _) => {
                added.prefixes6.insert(prefix6(*prefix));
            }
            _ => {}
        }
    }
    check(&maps.rules, &added.rules)?;
    check(&maps.addresses4, &added.addresses4)?;
    check(&maps.addresses6, &added.addresses6)?;
    check(&maps.prefixes4, &added.prefixes4)?;
    check(&maps.prefixes6, &added.prefixes6)
}

fn check<K, V>(map: &Map<K, V>, added: &BTreeSet<K>) -> Result<(), Error>
where
    K: Plain + std::fmt::Debug + Ord,
    V: Plain,
{
    if added.is_empty() {
        return Ok(());
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
    Ok(())
}
