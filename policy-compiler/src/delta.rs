//! What changed between two states of the tables, recorded while it happens.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use datapath::abi::{Endpoint, Identity, PortKey, RuleKey, RuleRow, RuleSetId, Transport};
use ipnet::IpNet;

use crate::object::PodKey;
use crate::tables::{PortAtoms, RuleRows, Tables};

/// The values that changed, as they were before; what they are now stands in the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    pub(crate) endpoints: BTreeMap<PodKey, Option<Endpoint>>,
    pub(crate) addresses: BTreeMap<IpAddr, Option<Identity>>,
    pub(crate) prefixes: BTreeMap<IpNet, Option<Identity>>,
    pub(crate) ports: BTreeMap<Transport, PortAtoms>,
    pub(crate) rules: BTreeMap<RuleKey, Option<RuleRow>>,
    /// Whole rule sets that came: all their rows are new.
    pub(crate) rule_sets: BTreeSet<RuleSetId>,
}

impl Delta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How many values changed.
    pub fn len(&self) -> usize {
        self.endpoints.len()
            + self.addresses.len()
            + self.prefixes.len()
            + self.ports.len()
            + self.rules.len()
            + self.rule_sets.len()
    }

    /// The difference between two tables, found by comparing all of them.
    pub fn between(old: &Tables, new: &Tables) -> Self {
        let mut delta = Self::default();
        for key in old.endpoints.keys().chain(new.endpoints.keys()) {
            let before = old.endpoints.get(key);
            if before != new.endpoints.get(key) {
                delta.endpoints.insert(key.clone(), before.copied());
            }
        }
        for address in old.addresses.keys().chain(new.addresses.keys()) {
            let before = old.addresses.get(address);
            if before != new.addresses.get(address) {
                delta.addresses.insert(*address, before.copied());
            }
        }
        for (prefix, _) in old.prefixes.iter().chain(new.prefixes.iter()) {
            let before = old.prefixes.get(prefix);
            if before != new.prefixes.get(prefix) {
                delta.prefixes.insert(*prefix, before);
            }
        }
        for transport in Transport::ALL {
            let before = &old.ports[transport as usize];
            if *before != new.ports[transport as usize] {
                delta.ports.insert(transport, before.clone());
            }
        }
        for (id, rows) in &old.rules {
            match new.rules.get(id) {
                None => delta.rows_went(*id, rows),
                Some(now) => delta.rows_between(*id, rows, now),
            }
        }
        delta.rule_sets.extend(new.rules.keys().filter(|id| !old.rules.contains_key(id)));
        delta
    }

    fn rows_between(&mut self, id: RuleSetId, old: &RuleRows, new: &RuleRows) {
        for (key, row) in old.iter(id) {
            if new.get(key.identity(), key.ports()) != Some(row) {
                self.rules.insert(key, Some(row));
            }
        }
        for (key, _) in new.iter(id) {
            if old.get(key.identity(), key.ports()).is_none() {
                self.rules.insert(key, None);
            }
        }
    }

    pub(crate) fn rows_went(&mut self, id: RuleSetId, rows: &RuleRows) {
        for (key, row) in rows.iter(id) {
            self.rules.entry(key).or_insert(Some(row));
        }
    }

    /// A row of a rule set that was there before changes.
    pub(crate) fn row(&mut self, id: RuleSetId, identity: Identity, ports: PortKey, before: Option<RuleRow>) {
        self.rules.entry(RuleKey::new(id, identity, ports)).or_insert(before);
    }
}
