//! Who may talk to whom, on which ports: all pairs of workloads, and of workloads with external addresses.
//!
//! ```text
//! facts --> Workload: pods of one name, as faces (family, rule sets, identity)
//! prefixes, nodes --> Segment: external addresses that no policy tells apart, with their identity
//!     (rule set, identity) --datapath::lookup--> set of ports, once          [answers]
//!     pair = egress of the source AND ingress of the destination             [here]
//! ```
//!
//! No second engine: each answer comes from the compiled tables, by the look-up that the kernel runs. This module only
//! multiplies, unites and names.
//!
//! A pair of workloads is allowed what any pod of one may send to any pod of the other. External addresses are judged by
//! policy alone: whether the pod has an address of that family does not matter.

mod answers;
mod change;
mod ground;
mod ports;
mod range;
#[cfg(test)]
mod tests;
mod workload;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use datapath::abi::{Direction, Identity, RuleSetId};
use rustc_hash::FxHashMap;

use crate::compiler::Compiler;

use answers::{SetId, Sets};
pub use change::{Change, Changes};
pub use ground::Ground;
pub use ports::{PortSet, ranges_text, transport_name};
pub use range::AddressRange;
use range::Segment;
use workload::{Face, Workload};
pub use workload::{Replicas, WorkloadRef};

/// An end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// The pods of a workload.
    Workload(Arc<WorkloadRef>),
    /// Addresses that are no pod's.
    External(AddressRange),
}

impl fmt::Display for Peer {
    /// `prod/web`, `10.0.0.0/8`, `10.0.0.1-10.0.0.2`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(workload) => workload.fmt(f),
            Self::External(range) => range.fmt(f),
        }
    }
}

/// A pair, and what it may do. Never nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Who sends the first packet.
    pub src: Peer,
    /// Who gets it.
    pub dst: Peer,
    /// By which protocols and to which ports of the destination.
    pub allow: &'a PortSet,
}

/// The connectivity of a cluster.
#[derive(Debug)]
pub struct Connectivity<'a> {
    compiler: &'a Compiler,
    workloads: Vec<Workload>,
    segments: Vec<Segment>,
    sets: Sets,
    /// By source and destination, row by row.
    pairs: Vec<SetId>,
    /// By direction, seen from the workload, and by workload.
    external: [Vec<Arc<External>>; 2],
}

/// The ranges that may talk to a workload, or that it may talk to: sorted, as few as possible.
type External = Vec<(AddressRange, SetId)>;

impl<'a> Connectivity<'a> {
    /// Judges all pairs.
    pub fn of(compiler: &'a Compiler, replicas: &Replicas) -> Self {
        let workloads = workload::workloads(compiler, replicas);
        let segments = range::segments(compiler);
        let mut sets = Sets::new();
        let judged = Judged::new(compiler, &workloads, &segments, &mut sets);
        let mut pairs = Vec::with_capacity(workloads.len() * workloads.len());
        for (row, src) in workloads.iter().enumerate() {
            for (column, dst) in workloads.iter().enumerate() {
                pairs.push(if row == column {
                    judged.within(src, &mut sets)
                } else {
                    judged.pair(src, dst, &mut sets)
                });
            }
        }
        let external =
            Direction::ALL.map(|direction| judged.external(&workloads, &segments, direction, &mut sets));
        Self { compiler, workloads, segments, sets, pairs, external }
    }

    /// The engine it was computed from.
    pub fn compiler(&self) -> &'a Compiler {
        self.compiler
    }

    /// All workloads, sorted; those without any line too.
    pub fn workloads(&self) -> impl ExactSizeIterator<Item = &Arc<WorkloadRef>> {
        self.workloads.iter().map(|workload| &workload.name)
    }

    /// Whether a workload has more than one pod, so that it can talk to itself.
    pub fn has_several_pods(&self, workload: &WorkloadRef) -> bool {
        self.find(workload).is_some_and(|index| self.workloads[index].has_several_pods())
    }

    /// All pairs that may do something; sorted by source, then by destination, workloads before addresses.
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let from_workloads = self.workloads.iter().enumerate().flat_map(move |(row, src)| {
            let src = Peer::Workload(Arc::clone(&src.name));
            let to = self.row(row).iter().zip(&self.workloads);
            let to = to.map(|(set, dst)| (Peer::Workload(Arc::clone(&dst.name)), *set));
            let out = self.external[Direction::Egress as usize][row].iter();
            let out = out.map(|(range, set)| (Peer::External(*range), *set));
            to.chain(out).map(move |(dst, set)| Line { src: src.clone(), dst, allow: self.sets.get(set) })
        });
        from_workloads.chain(self.lines_in()).filter(|line| !line.allow.is_empty())
    }

    /// What external addresses may do.
    fn lines_in(&self) -> impl Iterator<Item = Line<'_>> {
        let mut by_range: BTreeMap<AddressRange, Vec<(usize, SetId)>> = BTreeMap::new();
        for (column, external) in self.external[Direction::Ingress as usize].iter().enumerate() {
            for (range, set) in external.iter() {
                by_range.entry(*range).or_default().push((column, *set));
            }
        }
        by_range.into_iter().flat_map(move |(range, to)| {
            to.into_iter().map(move |(column, set)| Line {
                src: Peer::External(range),
                dst: Peer::Workload(Arc::clone(&self.workloads[column].name)),
                allow: self.sets.get(set),
            })
        })
    }

    /// What one workload may do at another one; `None` if one of them is not known.
    pub fn between(&self, src: &WorkloadRef, dst: &WorkloadRef) -> Option<&PortSet> {
        let (src, dst) = (self.find(src)?, self.find(dst)?);
        self.row(src).get(dst).map(|set| self.sets.get(*set))
    }

    fn find(&self, workload: &WorkloadRef) -> Option<usize> {
        self.workloads.binary_search_by(|of| (*of.name).cmp(workload)).ok()
    }

    fn row(&self, src: usize) -> &[SetId] {
        let count = self.workloads.len();
        &self.pairs[src * count..(src + 1) * count]
    }
}

/// The answers of every rule set in use for every identity that a peer has.
struct Judged {
    rows: FxHashMap<RuleSetId, Vec<SetId>>,
    columns: FxHashMap<Identity, usize>,
}

impl Judged {
    fn new(compiler: &Compiler, workloads: &[Workload], segments: &[Segment], sets: &mut Sets) -> Self {
        let faces = || workloads.iter().flat_map(|workload| &workload.faces);
        let mut identities: Vec<Identity> = faces().map(|face| face.identity).collect();
        identities.extend(segments.iter().map(|segment| segment.identity));
        identities.sort_unstable();
        identities.dedup();
        let mut rule_sets: Vec<RuleSetId> = faces().flat_map(|face| [face.ingress, face.egress]).collect();
        rule_sets.sort_unstable();
        rule_sets.dedup();
        // Sorted, so that sets are numbered the same in every run.
        let rows =
            rule_sets.into_iter().map(|id| (id, answers::row(compiler, id, &identities, sets))).collect();
        Self { rows, columns: identities.into_iter().zip(0..).collect() }
    }

    fn answer(&self, rule_set: RuleSetId, peer: Identity) -> SetId {
        let column = self.columns.get(&peer);
        let found = column.and_then(|column| self.rows.get(&rule_set)?.get(*column));
        found.copied().unwrap_or(SetId::EMPTY)
    }

    /// What any of these may do at any of those.
    fn faces(&self, src: &[Face], dst: &[Face], sets: &mut Sets) -> SetId {
        let mut any = SetId::EMPTY;
        for from in src {
            for to in dst.iter().filter(|to| to.family == from.family) {
                let egress = self.answer(from.egress, to.identity);
                let ingress = self.answer(to.ingress, from.identity);
                let both = sets.both(egress, ingress);
                any = sets.either(any, both);
            }
        }
        any
    }

    fn pair(&self, src: &Workload, dst: &Workload, sets: &mut Sets) -> SetId {
        if src.is_node_of(dst) { SetId::ALL } else { self.faces(&src.faces, &dst.faces, sets) }
    }

    /// What one pod of a workload may do at another one of it.
    fn within(&self, of: &Workload, sets: &mut Sets) -> SetId {
        if of.is_node_of(of) {
            return SetId::ALL;
        }
        let mut any = SetId::EMPTY;
        for (index, src) in of.variants.iter().enumerate() {
            for (other, dst) in of.variants.iter().enumerate() {
                if index != other || src.several {
                    let set = self.faces(&src.faces, &dst.faces, sets);
                    any = sets.either(any, set);
                }
            }
        }
        any
    }

    /// By workload, the external addresses that it may talk to (or that may talk to it).
    fn external(
        &self,
        workloads: &[Workload],
        segments: &[Segment],
        direction: Direction,
        sets: &mut Sets,
    ) -> Vec<Arc<External>> {
        let mut known: FxHashMap<Vec<RuleSetId>, Arc<External>> = FxHashMap::default();
        let mut of_workload = |workload: &Workload| {
            let rule_sets = workload.rule_sets(direction);
            if let Some(found) = known.get(&rule_sets) {
                return Arc::clone(found);
            }
            let found = Arc::new(self.external_of(&rule_sets, segments, sets));
            known.insert(rule_sets, Arc::clone(&found));
            found
        };
        workloads.iter().map(&mut of_workload).collect()
    }

    fn external_of(&self, rule_sets: &[RuleSetId], segments: &[Segment], sets: &mut Sets) -> External {
        let mut external = External::new();
        for segment in segments {
            let mut set = SetId::EMPTY;
            for rule_set in rule_sets {
                set = sets.either(set, self.answer(*rule_set, segment.identity));
            }
            match external.last_mut() {
                Some((range, before)) if *before == set && range.meets(&segment.range) => {
                    *range = range.up_to(&segment.range);
                }
                _ => external.push((segment.range, set)),
            }
        }
        external.retain(|(_, set)| *set != SetId::EMPTY);
        external
    }
}

impl Workload {
    /// The rule sets of its pods in one direction.
    fn rule_sets(&self, direction: Direction) -> Vec<RuleSetId> {
        let of_face = |face: &Face| match direction {
            Direction::Ingress => face.ingress,
            Direction::Egress => face.egress,
        };
        let mut rule_sets: Vec<RuleSetId> = self.faces.iter().map(of_face).collect();
        rule_sets.sort_unstable();
        rule_sets.dedup();
        rule_sets
    }
}
