//! What the programs counted, summed over the CPUs.

use datapath::event::{Count, CounterKey, Tally};

use super::error::MapError;
use super::maps::Maps;

/// Counters of the programs themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallies([u64; Tally::COUNT]);

impl Tallies {
    /// One of them.
    pub fn get(&self, tally: Tally) -> u64 {
        self.0[tally as usize]
    }
}

/// All counters, sorted.
pub(super) fn counters(maps: &Maps) -> Result<Vec<(CounterKey, Count)>, MapError> {
    let mut counters = Vec::new();
    maps.counters.each_cpu(|key, values| {
        let sum = values.fold(Count::default(), |sum, count| Count {
            packets: sum.packets.wrapping_add(count.packets),
            bytes: sum.bytes.wrapping_add(count.bytes),
        });
        counters.push((key, sum));
    })?;
    counters.sort_unstable_by_key(|(key, _)| *key);
    Ok(counters)
}

/// Removes the counters of interfaces.
pub(super) fn forget(maps: &Maps, interfaces: &[u32]) -> Result<usize, MapError> {
    let mut going = Vec::new();
    maps.counters.each_cpu(|key, _| going.extend(interfaces.contains(&key.interface).then_some(key)))?;
    let mut removed = 0;
    for key in going {
        removed += usize::from(maps.counters.remove(&key)?);
    }
    Ok(removed)
}

/// The counters of the programs themselves.
pub(super) fn tallies(maps: &Maps) -> Result<Tallies, MapError> {
    let mut tallies = Tallies::default();
    maps.tallies.each_cpu(|index, values| {
        if let Some(tally) = tallies.0.get_mut(index as usize) {
            *tally = values.fold(0, u64::wrapping_add);
        }
    })?;
    Ok(tallies)
}
