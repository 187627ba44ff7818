//! What differs between two clusters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datapath::abi::Direction;

use super::answers::SetId;
use super::{AddressRange, Connectivity, Peer, PortSet, WorkloadRef};

/// A pair that may do something else than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Who sends the first packet.
    pub src: Peer,
    /// Who gets it.
    pub dst: Peer,
    /// What was allowed.
    pub before: PortSet,
    /// What is allowed now.
    pub after: PortSet,
}

/// All that differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Workloads that were not there before.
    pub appeared: BTreeSet<Arc<WorkloadRef>>,
    /// Workloads that are no longer there.
    pub vanished: BTreeSet<Arc<WorkloadRef>>,
    /// Pairs, those of such workloads too; sorted as lines are, and external ranges as few as possible.
    pub pairs: Vec<Change>,
}

impl Changes {
    /// What differs between two clusters.
    pub fn between(before: &Connectivity<'_>, after: &Connectivity<'_>) -> Self {
        let names = |of: &Connectivity<'_>| of.workloads().cloned().collect::<BTreeSet<_>>();
        let (old, new) = (names(before), names(after));
        let sides: Vec<Sides<'_>> = old
            .union(&new)
            .map(|name| Sides { name, before: before.find(name), after: after.find(name) })
            .collect();
        let mut pairs = Vec::new();
        for src in &sides {
            for dst in &sides {
                let change = Change {
                    src: src.peer(),
                    dst: dst.peer(),
                    before: pair(before, src.before, dst.before).clone(),
                    after: pair(after, src.after, dst.after).clone(),
                };
                if change.before != change.after {
                    pairs.push(change);
                }
            }
            for (range, was, is) in outside(before, after, src, Direction::Egress) {
                pairs.push(Change { src: src.peer(), dst: Peer::External(range), before: was, after: is });
            }
        }
        let mut inwards = BTreeMap::new();
        for (index, dst) in sides.iter().enumerate() {
            for (range, was, is) in outside(before, after, dst, Direction::Ingress) {
                let change = Change { src: Peer::External(range), dst: dst.peer(), before: was, after: is };
                inwards.insert((range, index), change);
            }
        }
        pairs.extend(inwards.into_values());
        let appeared = new.difference(&old).cloned().collect();
        let vanished = old.difference(&new).cloned().collect();
        Self { appeared, vanished, pairs }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.appeared.is_empty() && self.vanished.is_empty() && self.pairs.is_empty()
    }
}

/// A workload, and where it is found in each of the clusters.
struct Sides<'a> {
    name: &'a Arc<WorkloadRef>,
    before: Option<usize>,
    after: Option<usize>,
}

impl Sides<'_> {
    fn peer(&self) -> Peer {
        Peer::Workload(Arc::clone(self.name))
    }
}

fn pair<'a>(of: &'a Connectivity<'_>, src: Option<usize>, dst: Option<usize>) -> &'a PortSet {
    let set = src.zip(dst).and_then(|(src, dst)| of.row(src).get(dst));
    of.sets.get(set.copied().unwrap_or(SetId::EMPTY))
}

/// The external ranges with which a workload may do something else than before, and what.
fn outside(
    before: &Connectivity<'_>,
    after: &Connectivity<'_>,
    of: &Sides<'_>,
    direction: Direction,
) -> Vec<(AddressRange, PortSet, PortSet)> {
    let ranges = |of: &Connectivity<'_>, index: Option<usize>| -> Vec<(AddressRange, PortSet)> {
        let external = index.and_then(|index| of.external[direction as usize].get(index));
        external
            .into_iter()
            .flat_map(|all| all.iter())
            .map(|(range, set)| (*range, of.sets.get(*set).clone()))
            .collect()
    };
    let (old, new) = (ranges(before, of.before), ranges(after, of.after));
    if old == new {
        return Vec::new();
    }
    let mut found: Vec<(AddressRange, PortSet, PortSet)> = Vec::new();
    for part in AddressRange::refine(&old.iter().chain(&new).map(|(range, _)| *range)) {
        let at = |ranges: &[(AddressRange, PortSet)]| {
            let covering = ranges.iter().find(|(range, _)| range.contains(part.first()));
            covering.map(|(_, set)| set.clone()).unwrap_or_default()
        };
        let (was, is) = (at(&old), at(&new));
        match found.last_mut() {
            Some((range, a, b)) if *a == was && *b == is && range.meets(&part) => *range = range.up_to(&part),
            _ => found.push((part, was, is)),
        }
    }
    found.retain(|(_, was, is)| was != is);
    found
}
