//! Why a pair may do what it may: the decisions behind each of its ports.

use std::collections::BTreeMap;

use datapath::abi::{Direction, Identity, RuleSetId};
use datapath::lookup::{Decision, RuleId};
use datapath::verdict::{Reason, Verdict};

use super::answers::{Cells, without_rules};
use super::range::Segment;
use super::workload::{Face, Workload};
use super::{AddressRange, Connectivity, Peer, PortSet};

/// What one rule (or the lack of rules) decides about some ports of a pair, at one of its ends. The pods of one workload
/// may be decided about in different ways, so the ports of two grounds may overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ground {
    /// Egress at the source, or ingress at the destination.
    pub direction: Direction,
    /// The decision.
    pub decision: Decision,
    /// The ports it is about.
    pub ports: PortSet,
}

/// Two rule sets that a packet passes, and what each knows of the other end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Encounter {
    /// That of the source, and who it is.
    egress: Option<RuleSetId>,
    from: Identity,
    /// That of the destination, and who it is.
    ingress: Option<RuleSetId>,
    to: Identity,
}

impl Encounter {
    fn of(from: &Face, to: &Face) -> Self {
        Self { egress: Some(from.egress), from: from.identity, ingress: Some(to.ingress), to: to.identity }
    }
}

impl Connectivity<'_> {
    /// All decisions about a pair, allowed or not: egress first, then by rule. Empty if an end is not known, and for two
    /// external addresses.
    pub fn grounds(&self, src: &Peer, dst: &Peer) -> Vec<Ground> {
        let mut found = Found::default();
        if let Some((src, dst)) = self.both(src, dst)
            && src.is_node_of(dst)
        {
            let own_node = Decision { verdict: Verdict::Allow, reason: Reason::OwnNode, rule: None };
            found.add(Direction::Ingress, own_node, &PortSet::all());
        }
        let mut encounters = self.encounters(src, dst);
        encounters.sort_unstable();
        encounters.dedup();
        for encounter in encounters {
            for (direction, rule_set, peer) in [
                (Direction::Egress, encounter.egress, encounter.to),
                (Direction::Ingress, encounter.ingress, encounter.from),
            ] {
                let Some(rule_set) = rule_set else { continue };
                if let Some(decision) = without_rules(rule_set) {
                    found.add(direction, decision, &PortSet::all());
                    continue;
                }
                for (decision, ports) in Cells::of(self.compiler, rule_set).decisions(self.compiler, peer) {
                    found.add(direction, decision, ports);
                }
            }
        }
        found.grounds()
    }

    fn workload(&self, peer: &Peer) -> Option<&Workload> {
        match peer {
            Peer::Workload(name) => self.workloads.get(self.find(name)?),
            Peer::External(_) => None,
        }
    }

    fn both(&self, src: &Peer, dst: &Peer) -> Option<(&Workload, &Workload)> {
        Some((self.workload(src)?, self.workload(dst)?))
    }

    fn encounters(&self, src: &Peer, dst: &Peer) -> Vec<Encounter> {
        match (src, dst) {
            (Peer::Workload(_), Peer::Workload(_)) if src == dst => {
                self.workload(src).map(encounters_within).unwrap_or_default()
            }
            (Peer::Workload(_), Peer::Workload(_)) => self
                .both(src, dst)
                .map(|(src, dst)| encounters_of(&src.faces, &dst.faces))
                .unwrap_or_default(),
            (Peer::External(range), Peer::Workload(_)) => {
                self.encounters_outside(dst, range, |face, segment| Encounter {
                    egress: None,
                    from: segment.identity,
                    ingress: Some(face.ingress),
                    to: face.identity,
                })
            }
            (Peer::Workload(_), Peer::External(range)) => {
                self.encounters_outside(src, range, |face, segment| Encounter {
                    egress: Some(face.egress),
                    from: face.identity,
                    ingress: None,
                    to: segment.identity,
                })
            }
            (Peer::External(_), Peer::External(_)) => Vec::new(),
        }
    }

    fn encounters_outside(
        &self,
        workload: &Peer,
        range: &AddressRange,
        meet: impl Fn(&Face, &Segment) -> Encounter,
    ) -> Vec<Encounter> {
        let faces = self.workload(workload).map(|workload| &workload.faces[..]).unwrap_or_default();
        let segments = self.segments.iter().filter(|segment| segment.range.overlap(range).is_some());
        segments
            .flat_map(|segment| faces.iter().map(|face| meet(face, segment)).collect::<Vec<_>>())
            .collect()
    }
}

fn encounters_of(src: &[Face], dst: &[Face]) -> Vec<Encounter> {
    let pairs = src.iter().flat_map(|from| dst.iter().map(move |to| (from, to)));
    pairs.filter(|(from, to)| from.family == to.family).map(|(from, to)| Encounter::of(from, to)).collect()
}

fn encounters_within(of: &Workload) -> Vec<Encounter> {
    let variants = || of.variants.iter().enumerate();
    let pairs = variants().flat_map(|src| variants().map(move |dst| (src, dst)));
    let distinct = pairs.filter(|((index, src), (other, _))| index != other || src.several);
    distinct.flat_map(|((_, src), (_, dst))| encounters_of(&src.faces, &dst.faces)).collect()
}

/// Grounds by direction and by what decides.
#[derive(Default)]
struct Found {
    by: BTreeMap<(bool, Option<RuleId>, u8), (Decision, PortSet)>,
}

impl Found {
    fn add(&mut self, direction: Direction, decision: Decision, ports: &PortSet) {
        let key = (direction == Direction::Ingress, decision.rule, decision.reason as u8);
        let (_, known) = self.by.entry(key).or_insert_with(|| (decision, PortSet::empty()));
        *known = known.union(ports);
    }

    fn grounds(self) -> Vec<Ground> {
        let direction = |ingress| if ingress { Direction::Ingress } else { Direction::Egress };
        let all = self
            .by
            .into_iter()
            .map(|((ingress, ..), (decision, ports))| (direction(ingress), decision, ports));
        all.map(|(direction, decision, ports)| Ground { direction, decision, ports }).collect()
    }
}
