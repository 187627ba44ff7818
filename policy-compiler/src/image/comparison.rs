//! Finds the differences between what the kernel holds and the tables.

use datapath::abi::{Generation, Halves, PortAtom, RuleKey};
use datapath::lookup::Maps;

use super::difference::{Difference, Held, Pointer, PortRange};
use super::{Image, every_port, flat, is_asked_for};
use crate::tables::Tables;

impl Image {
    /// Where the kernel does not hold exactly these tables, at rest; by map, then by key.
    pub fn differences(&self, wanted: &Tables) -> Vec<Difference> {
        let endpoints = pointers(
            self.generation,
            wanted.endpoints.keys().chain(self.endpoints.keys()),
            |key| wanted.endpoints.get(key).copied(),
            |key| self.endpoints.get(key).copied(),
        );
        let addresses = pointers(
            self.generation,
            wanted.addresses.keys().chain(self.addresses.keys()),
            |key| wanted.addresses.get(key).copied(),
            |key| self.addresses.get(key).copied(),
        );
        let prefixes = pointers(
            self.generation,
            wanted.prefixes.iter().map(|(prefix, _)| prefix).chain(self.prefixes.keys()),
            |prefix| wanted.prefixes.get(prefix),
            |prefix| self.prefixes.get(prefix).copied(),
        );
        let mut differences: Vec<Difference> = endpoints.into_iter().map(Difference::Endpoint).collect();
        differences.extend(addresses.into_iter().map(Difference::Address));
        differences.extend(prefixes.into_iter().map(Difference::Prefix));
        differences.extend(self.ports_against(wanted).into_iter().map(Difference::Ports));
        differences.append(&mut self.rules_against(wanted));
        differences
    }

    /// Neighbours that differ in the same way are one difference.
    fn ports_against(&self, wanted: &Tables) -> Vec<Pointer<PortRange, PortAtom>> {
        let wanted = flat(wanted);
        let mut runs: Vec<Pointer<PortRange, PortAtom>> = Vec::new();
        for (((transport, port), wanted), found) in every_port().zip(wanted).zip(&self.ports) {
            if *found == Halves::settled(wanted) {
                continue;
            }
            let (wanted, found) = (Some(wanted), Some(Held::of(*found, self.generation)));
            match runs.last_mut() {
                Some(run)
                    if run.key.transport == transport
                        && run.key.last.checked_add(1) == Some(port)
                        && (run.wanted, run.found) == (wanted, found) =>
                {
                    run.key.last = port;
                }
                _ => runs.push(Pointer {
                    key: PortRange { transport, first: port, last: port },
                    wanted,
                    found,
                }),
            }
        }
        runs
    }

    fn rules_against(&self, wanted: &Tables) -> Vec<Difference> {
        let rows = wanted.rules.iter().flat_map(|(id, rows)| rows.iter(*id));
        let mut found: Vec<_> = rows
            .filter_map(|(key, row)| {
                let there = self.rules.get(&key).copied();
                (there != Some(row)).then_some((key, Some(row), there))
            })
            .collect();
        let extra = self.rules.iter().filter(|(key, _)| !is_wanted(wanted, key));
        found.extend(extra.map(|(key, row)| (*key, None, Some(*row))));
        found.sort_unstable_by_key(|(key, ..)| *key);
        found.into_iter().map(|(key, wanted, found)| Difference::Rule { key, wanted, found }).collect()
    }
}

/// Whether a row with exactly this key is wanted. (Bits that no look-up sets are a key of their own to the kernel.)
fn is_wanted(tables: &Tables, key: &RuleKey) -> bool {
    is_asked_for(key) && tables.rule(key).is_some()
}

fn pointers<'a, K: Clone + Ord + 'a, T: Copy + PartialEq>(
    generation: Generation,
    keys: impl Iterator<Item = &'a K>,
    wanted: impl Fn(&K) -> Option<T>,
    found: impl Fn(&K) -> Option<Halves<T>>,
) -> Vec<Pointer<K, T>> {
    let mut differences: Vec<_> = keys
        .filter_map(|key| {
            let (wanted, found) = (wanted(key), found(key));
            (found != wanted.map(Halves::settled)).then(|| Pointer {
                key: key.clone(),
                wanted,
                found: found.map(|halves| Held::of(halves, generation)),
            })
        })
        .collect();
    // A key that both sides have came twice.
    differences.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    differences.dedup_by(|a, b| a.key == b.key);
    differences
}
