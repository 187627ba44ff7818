//! What each rule set allows with each identity, asked of the datapath's look-up once, and kept as numbered sets.

use std::hash::{Hash, Hasher};

use datapath::abi::{Identity, PortAtom, PortKey, RuleRow, RuleSetId, Transport};
use datapath::lookup::{Decision, decide};
use datapath::verdict::{Reason, Verdict};
use rustc_hash::FxHashMap;

use super::ports::PortSet;
use crate::compiler::Compiler;
use crate::rule_set::partition;

/// The number of a set of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SetId(u32);

impl SetId {
    pub(super) const EMPTY: Self = Self(0);
    pub(super) const ALL: Self = Self(1);
}

/// Sets of ports, each known once.
#[derive(Debug)]
pub(super) struct Sets {
    known: Vec<PortSet>,
    ids: FxHashMap<PortSet, SetId>,
    both: FxHashMap<(SetId, SetId), SetId>,
    either: FxHashMap<(SetId, SetId), SetId>,
}

impl Sets {
    pub(super) fn new() -> Self {
        let known = vec![PortSet::empty(), PortSet::all()];
        let ids = known.iter().cloned().zip([SetId::EMPTY, SetId::ALL]).collect();
        Self { known, ids, both: FxHashMap::default(), either: FxHashMap::default() }
    }

    pub(super) fn get(&self, id: SetId) -> &PortSet {
        &self.known[id.0 as usize]
    }

    fn intern(&mut self, set: PortSet) -> SetId {
        if let Some(id) = self.ids.get(&set) {
            return *id;
        }
        #[expect(clippy::cast_possible_truncation, reason = "2^32 different sets do not fit into memory")]
        let id = SetId(self.known.len() as u32);
        self.known.push(set.clone());
        self.ids.insert(set, id);
        id
    }

    pub(super) fn both(&mut self, a: SetId, b: SetId) -> SetId {
        if a == SetId::EMPTY || b == SetId::EMPTY {
            return SetId::EMPTY;
        }
        if a == b || b == SetId::ALL {
            return a;
        }
        if a == SetId::ALL {
            return b;
        }
        if let Some(id) = self.both.get(&(a, b)) {
            return *id;
        }
        let id = self.intern(self.get(a).intersection(self.get(b)));
        self.both.insert((a, b), id);
        id
    }

    pub(super) fn either(&mut self, a: SetId, b: SetId) -> SetId {
        if a == SetId::ALL || b == SetId::ALL {
            return SetId::ALL;
        }
        if a == b || b == SetId::EMPTY {
            return a;
        }
        if a == SetId::EMPTY {
            return b;
        }
        if let Some(id) = self.either.get(&(a, b)) {
            return *id;
        }
        let id = self.intern(self.get(a).union(self.get(b)));
        self.either.insert((a, b), id);
        id
    }
}

/// The ports of a rule set, cut where its own rules cut them: each cell has one answer for each identity.
pub(super) struct Cells {
    rule_set: RuleSetId,
    cells: Vec<Cell>,
}

struct Cell {
    /// How the datapath finds it; `None` for what has no ports.
    atom: Option<(Transport, PortAtom)>,
    ports: PortSet,
}

impl Cells {
    pub(super) fn of(compiler: &Compiler, rule_set: RuleSetId) -> Self {
        let Some(set) = compiler.rule_set_by_id(rule_set) else {
            return Self { rule_set, cells: Vec::new() };
        };
        let mut other = PortSet::empty();
        other.add_other();
        let mut cells = vec![Cell { atom: None, ports: other }];
        for transport in Transport::ALL {
            let named = set.ranges().iter().filter(|(of, ..)| *of == transport);
            let atoms = partition(named.map(|&(_, first, last)| (first, last)));
            let before = cells.len();
            for (first, last) in atoms {
                let mut ports = PortSet::empty();
                ports.add(transport, first, last);
                cells.push(Cell { atom: Some((transport, compiler.tables().atom(transport, first))), ports });
            }
            let mut rest = PortSet::empty();
            rest.add(transport, 1, u16::MAX);
            let named = cells.iter().skip(before).map(|cell| &cell.ports);
            let rest = rest.difference(&PortSet::union_of_disjoint(named));
            // Other rule sets may cut the rest further, but not for this one: any port of it will do.
            if let Some(&(first, _)) = rest.ranges(transport).first() {
                let atom = compiler.tables().atom(transport, first);
                cells.push(Cell { atom: Some((transport, atom)), ports: rest });
            }
        }
        Self { rule_set, cells }
    }

    /// Each cell's decision for a peer.
    pub(super) fn decisions<'a>(
        &'a self,
        compiler: &'a Compiler,
        peer: Identity,
    ) -> impl Iterator<Item = (Decision, &'a PortSet)> {
        self.cells
            .iter()
            .map(move |cell| (decide(compiler.tables(), self.rule_set, || peer, || cell.atom), &cell.ports))
    }

    fn allowed(&self, compiler: &Compiler, peer: Identity) -> PortSet {
        let limited = |(decision, ports): (Decision, &PortSet)| {
            (decision.verdict == Verdict::Redirect).then(|| ports.limited())
        };
        let limited: Vec<PortSet> = self.decisions(compiler, peer).filter_map(limited).collect();
        let allowed = self.decisions(compiler, peer).filter(|(decision, _)| decision.verdict.is_allow());
        PortSet::union_of_disjoint(allowed.map(|(_, ports)| ports).chain(&limited))
    }
}

/// The one decision of an endpoint that no rule set speaks about, or whose rule set is not in.
pub(super) fn without_rules(rule_set: RuleSetId) -> Option<Decision> {
    if rule_set.is_none() {
        return Some(Decision { verdict: Verdict::Allow, reason: Reason::NoPolicy, rule: None });
    }
    let closed = Decision { verdict: Verdict::Deny, reason: Reason::UnknownEndpoint, rule: None };
    (rule_set == RuleSetId::HOLD).then_some(closed)
}

/// What one rule set allows, by the index of the identity.
pub(super) fn row(
    compiler: &Compiler,
    rule_set: RuleSetId,
    identities: &[Identity],
    sets: &mut Sets,
) -> Vec<SetId> {
    if let Some(decision) = without_rules(rule_set) {
        let all = if decision.verdict.is_allow() { SetId::ALL } else { SetId::EMPTY };
        return vec![all; identities.len()];
    }
    let cells = Cells::of(compiler, rule_set);
    let peers = compiler.tables().rules.get(&rule_set).map(|rows| &rows.peers);
    // An answer depends on the identity by its rows only, and few identities have rows of their own.
    let mut known: FxHashMap<Rows<'_>, SetId> = FxHashMap::default();
    let mut answer = |identity: &Identity| {
        let rows = peers.and_then(|peers| peers.get(identity)).map_or(&[][..], |rows| rows);
        *known.entry(Rows(rows)).or_insert_with(|| sets.intern(cells.allowed(compiler, *identity)))
    };
    identities.iter().map(&mut answer).collect()
}

/// The rows of one identity in one rule set.
#[derive(PartialEq, Eq)]
struct Rows<'a>(&'a [(PortKey, RuleRow)]);

impl Hash for Rows<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for (ports, row) in self.0 {
            (ports, row.slots(), row.class(), row.list()).hash(state);
        }
    }
}
