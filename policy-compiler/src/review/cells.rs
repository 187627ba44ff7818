//! The cells of a rule set: every combination of a peer and a port that some rule could tell from another one.

use std::collections::BTreeSet;

use datapath::abi::{Identity, RuleSetId, Transport};
use datapath::lookup::RuleId;
use datapath::verdict::TIERS;

use crate::compiler::Compiler;
use crate::rule_set::{Origin, RuleSet, partition};

/// A protocol and a port that stands for all that no rule tells from it; `None` is a protocol without ports.
pub(super) type Port = Option<(Transport, u16)>;

/// The ranks of the rules that match in a cell, by tier, without default denies.
pub(super) type Matching = [Vec<u32>; TIERS];

/// The ports of a rule set.
pub(super) fn ports(set: &RuleSet) -> Vec<Port> {
    let mut ports = vec![None];
    for transport in Transport::ALL {
        let of = set.ranges().range((transport, 0, 0)..=(transport, u16::MAX, u16::MAX));
        let named = partition(of.map(|(_, first, last)| (*first, *last)));
        // Port 0 is none: what the ranges leave over begins at 1.
        let mut rest = Some(1_u16);
        for (&first, &last) in &named {
            if rest == Some(first) {
                rest = last.checked_add(1);
            }
            ports.push(Some((transport, first)));
        }
        ports.extend(rest.map(|rest| Some((transport, rest))));
    }
    ports
}

/// The peers of a rule set: those that some rule names, and one that none does.
pub(super) fn identities(compiler: &Compiler, id: RuleSetId) -> impl Iterator<Item = Identity> {
    let rows = compiler.tables().rules.get(&id);
    rows.into_iter().flat_map(|rows| rows.peers.keys().copied()).chain([Identity::NONE])
}

/// What matches in the cells of a rule set; equal cells once.
pub(super) fn matching(compiler: &Compiler, set: &RuleSet) -> BTreeSet<Matching> {
    let ports = ports(set);
    let ranks: Vec<(u32, usize)> = (0..)
        .zip(set.rules())
        .filter(|(_, rule)| !matches!(rule.origin, Origin::Isolation { .. }))
        .map(|(rank, rule)| (rank, rule.tier as usize))
        .collect();
    let mut found = BTreeSet::new();
    for identity in identities(compiler, set.id()) {
        let id = |rank| RuleId { rule_set: set.id(), rank };
        let matches = |rank, port| compiler.rule_matches(id(rank), identity, port);
        // Most rules are about other peers, whatever the port.
        let peer = |(rank, _): &&(u32, usize)| matches(*rank, None).is_some_and(|matched| matched.peer);
        let about: Vec<_> = ranks.iter().filter(peer).collect();
        for port in &ports {
            let mut cell = Matching::default();
            for (rank, tier) in &about {
                if matches(*rank, *port).is_some_and(crate::rule_set::RuleMatch::is_full) {
                    cell[*tier].push(*rank);
                }
            }
            found.insert(cell);
        }
    }
    found
}
