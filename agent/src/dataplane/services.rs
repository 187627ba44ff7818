//! Addresses that are neither endpoints nor peers: of services, and of nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::IpAddr;

use datapath::hook::{ServiceKey, ServiceRow};

use super::error::{Capacity, Error};
use super::map::Map;
use super::maps::Maps;
use super::sys::plain::Plain;

/// Sets the addresses of all nodes; others are removed.
pub(super) fn set_nodes(maps: &Maps, nodes: &[IpAddr]) -> Result<(), Error> {
    let (mut four, mut six) = (BTreeMap::new(), BTreeMap::new());
    for node in nodes {
        match node {
            IpAddr::V4(address) => four.insert(address.octets(), 1),
            IpAddr::V6(address) => six.insert(address.octets(), 1),
        };
    }
    replace_all(&maps.nodes4, &four)?;
    replace_all(&maps.nodes6, &six)
}

/// Sets the service addresses; others are removed.
pub(super) fn set_services(maps: &Maps, services: &BTreeMap<ServiceKey, ServiceRow>) -> Result<(), Error> {
    replace_all(&maps.services, services)
}

/// Removes service addresses and sets others, of which there are so many then.
pub(super) fn change_services(
    maps: &Maps,
    count: usize,
    removed: &[ServiceKey],
    set: &BTreeMap<ServiceKey, ServiceRow>,
) -> Result<(), Error> {
    let map = &maps.services;
    if count > map.size() {
        return Err(Capacity { map: map.name(), needed: count, size: map.size() }.into());
    }
    for key in removed {
        map.remove(key)?;
    }
    let (keys, values): (Vec<ServiceKey>, Vec<ServiceRow>) =
        set.iter().map(|(key, row)| (*key, *row)).unzip();
    Ok(map.set_many(&keys, &values)?)
}

/// Writes the difference: what is to go first, so that a map that is nearly full has room.
fn replace_all<K, V>(map: &Map<K, V>, wanted: &BTreeMap<K, V>) -> Result<(), Error>
where
    K: Plain + Debug + Ord,
    V: Plain + PartialEq,
{
    if wanted.len() > map.size() {
        return Err(Capacity { map: map.name(), needed: wanted.len(), size: map.size() }.into());
    }
    let (mut gone, mut as_wanted) = (Vec::new(), BTreeSet::new());
    map.each(|key, value| match wanted.get(&key) {
        None => gone.push(key),
        Some(wanted) if *wanted == value => drop(as_wanted.insert(key)),
        Some(_) => {}
    })?;
    for key in gone {
        map.remove(&key)?;
    }
    let (keys, values): (Vec<K>, Vec<V>) =
        wanted.iter().filter(|(key, _)| !as_wanted.contains(*key)).map(|(key, value)| (*key, *value)).unzip();
    Ok(map.set_many(&keys, &values)?)
}
