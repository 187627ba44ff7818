//! Rows of the rule map and port atoms, for the rule sets and identities that came and went.

use std::collections::{BTreeMap, BTreeSet};

use datapath::abi::{Identity, PortAtom, PortKey, RuleRow, RuleSetId, Transport};
use rustc_hash::FxHashSet;

use super::Compiler;
use super::endpoints::RuleSetChanges;
use crate::delta::Delta;
use crate::rule_set::{RuleSet, partition};
use crate::tables::{PortAtoms, RuleRows};

/// How many rule sets name each range of ports.
pub(super) type Ranges = BTreeMap<(Transport, u16, u16), usize>;

impl Compiler {
    /// Brings the rule map and the port map up to date.
    pub(super) fn emit(&mut self, changes: &RuleSetChanges, delta: &mut Delta) {
        let cut = self.emit_ports(changes, delta);
        let (came, went) = self.identities.changes();
        for identity in went {
            for id in self.rule_sets_about(identity) {
                self.remove_peer_rows(id, identity, delta);
            }
        }
        self.identities.sweep(&mut self.terms);
        for set in &changes.went {
            if let Some(rows) = self.tables.rules.remove(&set.id()) {
                delta.rows_went(set.id(), &rows);
            }
        }
        // Rule sets that were there before: only what the new identities and atoms add.
        for &identity in &came {
            for id in self.rule_sets_about(identity) {
                if !changes.came.contains(&id) {
                    self.add_peer_rows(id, identity, delta);
                }
            }
        }
        for key in &cut {
            self.emit_any_rows(*key, changes, delta);
        }
        for id in &changes.came {
            if let Some(set) = self.endpoints.rule_set(*id) {
                let rows = self.rows(set);
                self.tables.rules.insert(*id, rows);
                delta.rule_sets.insert(*id);
            }
        }
    }

    /// The port atoms; gives back those that came or went, as keys of rows for any peer.
    fn emit_ports(&mut self, changes: &RuleSetChanges, delta: &mut Delta) -> BTreeSet<PortKey> {
        let mut touched = FxHashSet::default();
        for id in &changes.came {
            for &range in self.endpoints.rule_set(*id).into_iter().flat_map(RuleSet::ranges) {
                let count = self.ranges.entry(range).or_default();
                *count += 1;
                if *count == 1 {
                    touched.insert(range.0);
                }
            }
        }
        for range in changes.went.iter().flat_map(RuleSet::ranges) {
            if let Some(count) = self.ranges.get_mut(range) {
                *count -= 1;
                if *count == 0 {
                    self.ranges.remove(range);
                    touched.insert(range.0);
                }
            }
        }
        let mut cut = BTreeSet::new();
        for transport in touched {
            let of = self.ranges.range((transport, 0, 0)..=(transport, u16::MAX, u16::MAX));
            let after = partition(of.map(|((_, first, last), _)| (*first, *last)));
            let before = std::mem::replace(&mut self.tables.ports[transport as usize], after);
            let after = &self.tables.ports[transport as usize];
            if before == *after {
                continue;
            }
            let differs = |a: &PortAtoms, b: &PortAtoms| -> Vec<PortAtom> {
                a.keys().filter(|first| !b.contains_key(first)).copied().collect()
            };
            let ends = differs(&before, after).into_iter().chain(differs(after, &before));
            cut.extend(ends.map(|first| PortKey::Port(transport, first)));
            delta.ports.entry(transport).or_insert(before);
        }
        cut
    }

    /// The rule sets that some term of an identity stands in.
    fn rule_sets_about(&self, identity: Identity) -> BTreeSet<RuleSetId> {
        self.identities.terms(identity).iter().flat_map(|&term| self.terms.rule_sets(term)).copied().collect()
    }

    fn add_peer_rows(&mut self, id: RuleSetId, identity: Identity, delta: &mut Delta) {
        let Some(set) = self.endpoints.rule_set(id) else { return };
        let of = self.tables.rules.entry(id).or_default();
        let rows = set.peer_rows(self.identities.terms(identity), &self.terms, &mut of.lists);
        if rows.is_empty() {
            return;
        }
        for (ports, _) in &rows {
            delta.row(id, identity, *ports, None);
        }
        of.peers.insert(identity, rows);
    }

    fn remove_peer_rows(&mut self, id: RuleSetId, identity: Identity, delta: &mut Delta) {
        let Some(of) = self.tables.rules.get_mut(&id) else { return };
        if let Some(rows) = of.peers.remove(&identity) {
            for (ports, row) in rows {
                of.lists.release(row.list());
                delta.row(id, identity, ports, Some(row));
            }
        }
    }

    /// An atom came or went: every rule set that says something about its ports gets or loses a row.
    fn emit_any_rows(&mut self, key: PortKey, changes: &RuleSetChanges, delta: &mut Delta) {
        let there = match key {
            PortKey::Port(transport, first) => self.tables.ports[transport as usize].contains_key(&first),
            PortKey::All => return,
        };
        for id in self.endpoints.ids() {
            if changes.came.contains(&id) {
                continue;
            }
            let Some(set) = self.endpoints.rule_set(id) else { continue };
            let rows = self.tables.rules.entry(id).or_default();
            let row = if there { set.any_row(key, &mut rows.lists) } else { RuleRow::EMPTY };
            let before =
                if row == RuleRow::EMPTY { rows.any.remove(&key) } else { rows.any.insert(key, row) };
            if let Some(before) = &before {
                rows.lists.release(before.list());
            }
            if before != Some(row).filter(|row| *row != RuleRow::EMPTY) {
                delta.row(id, Identity::NONE, key, before);
            }
        }
    }

    /// All rows of a rule set.
    fn rows(&self, set: &RuleSet) -> RuleRows {
        let mut rows = RuleRows::default();
        let atoms = Transport::ALL.into_iter().flat_map(|transport| {
            let firsts = std::iter::once(&0).chain(self.tables.ports[transport as usize].keys());
            firsts.map(move |first| PortKey::Port(transport, *first))
        });
        for key in std::iter::once(PortKey::All).chain(atoms) {
            let row = set.any_row(key, &mut rows.lists);
            if row != RuleRow::EMPTY {
                rows.any.insert(key, row);
            }
        }
        let identities: FxHashSet<Identity> =
            set.peer_terms().flat_map(|term| self.terms.identities(term)).copied().collect();
        for identity in identities {
            let found = set.peer_rows(self.identities.terms(identity), &self.terms, &mut rows.lists);
            if !found.is_empty() {
                rows.peers.insert(identity, found);
            }
        }
        rows
    }
}
