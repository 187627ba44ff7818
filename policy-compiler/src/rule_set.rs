//! The rules of one direction of an endpoint, ranked; and the rows of the rule map that follow from them.
//!
//! In the tiers of cluster-wide policies, rules are ranked as they are written. In the namespace tier the rules of one level are
//! ranked by [`Class`], so that neither names nor order matter there.
//!
//! A row is a function of its key: [`RuleSet::any_row`] of (rule set, port atom), [`RuleSet::peer_rows`] of (rule set,
//! identity). Nothing else in the cluster can change what a row says, which is why rows are never modified in place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use datapath::abi::{Anchors, Direction, PortAtom, PortKey, RuleRow, RuleSetId, Slot, Transport};
use datapath::verdict::{Action, Tier};
use rustc_hash::FxHashMap;

use crate::asks::Asks;
use crate::digest::{Digest, digest};
use crate::list::{Conditional, Lists};
use crate::object::ObjectRef;
use crate::policy::{Peer, PeerTerm, Peers, Pods, Policy, Ports};
use crate::tables::{PortAtoms, port_atom};
use crate::terms::{NamedPort, Term, TermId, Terms};

mod ports;

use ports::{PortList, RankedPorts};

/// The ranked rules of one direction, shared by all endpoints that the same policies select.
#[derive(Debug)]
pub struct RuleSet {
    id: RuleSetId,
    direction: Direction,
    rules: Vec<RankedRule>,
    /// Rules for specific peers, by the terms that name them.
    by_term: FxHashMap<TermId, Vec<u32>>,
    /// The port classes of rules for specific peers, by transport.
    classes: [Classes; 3],
    /// The ranges of ports that any rule names.
    ranges: BTreeSet<(Transport, u16, u16)>,
    /// The terms it uses, to be given back.
    acquired: BTreeSet<TermId>,
}

/// One rule; its rank is its index.
#[derive(Debug, PartialEq, Eq)]
pub struct RankedRule {
    /// The tier.
    pub tier: Tier,
    /// What it says.
    pub action: Action,
    /// Where it comes from.
    pub origin: Origin,
    /// What must be asked over the connection; `None` if that does not matter.
    pub asks: Option<Arc<Asks>>,
    peers: RankedPeers,
    ports: RankedPorts,
}

/// Where a rule comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The rule of an object, by its index in the direction's list.
    Rule {
        /// The object.
        object: ObjectRef,
        /// The index.
        index: usize,
    },
    /// What a rule of the namespace tier that allows only some requests leaves of its peers and ports: that is denied, whatever
    /// plain rules of its level allow.
    Claim {
        /// The object of the rule.
        object: ObjectRef,
        /// The index of the rule.
        index: usize,
    },
    /// The default deny of a pod that these policies isolate.
    Isolation {
        /// The policies.
        policies: Vec<ObjectRef>,
    },
}

/// The order of the rules of one level in the namespace tier.
///
/// What closes comes before what opens; among what closes, what needs no request comes first, so that no connection is
/// redirected only to be closed. What [`Class::Conditional`] leaves of a peer and a port is closed before a plain rule can open
/// it: a plain rule never widens a conditional one, whoever wrote it and wherever it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Deny,
    Reject,
    ConditionalDeny,
    ConditionalReject,
    Conditional,
    Claim,
    Plain,
    ConditionalPass,
    Pass,
}

impl Class {
    const fn of(action: Action, conditional: bool) -> Self {
        match (action, conditional) {
            (Action::Deny, false) => Self::Deny,
            (Action::Reject, false) => Self::Reject,
            (Action::Deny, true) => Self::ConditionalDeny,
            (Action::Reject, true) => Self::ConditionalReject,
            (Action::Allow, true) => Self::Conditional,
            (Action::Allow, false) => Self::Plain,
            (Action::Pass, true) => Self::ConditionalPass,
            (Action::Pass, false) => Self::Pass,
        }
    }
}

impl fmt::Display for Origin {
    /// `PolderPolicy prod/api rule 1`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { object, index } => write!(f, "{object} rule {}", index + 1),
            Self::Claim { object, index } => write!(f, "what {object} rule {} leaves out", index + 1),
            Self::Isolation { policies } => {
                let names: Vec<String> = policies.iter().map(ToString::to_string).collect();
                write!(f, "default, as {} isolates it", names.join(" and "))
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum RankedPeers {
    Any,
    AnyOf(Vec<TermId>),
}

/// The partition of one protocol's ports by the rules for specific peers of one rule set.
#[derive(Debug, Default)]
struct Classes {
    ranges: PortAtoms,
    /// Whether a rule covers the whole protocol, so that the rest of it is a class too.
    whole: bool,
}

impl Classes {
    fn of(&self, port: PortAtom) -> Option<PortAtom> {
        match port_atom(&self.ranges, port) {
            0 if self.whole => Some(0),
            0 => None,
            class => Some(class),
        }
    }
}

/// Whether the two halves of a rule hold of a packet. The rule matches if both do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleMatch {
    /// The peer is one of those that the rule names.
    pub peer: bool,
    /// The protocol and port are among those that the rule names.
    pub port: bool,
}

impl RuleMatch {
    /// Whether the rule matches.
    pub fn is_full(self) -> bool {
        self.peer && self.port
    }
}

/// What a rule set is made of. Two equal recipes make the same rule set.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) direction: Direction,
    /// The policies that speak about this direction, in their order, each with the digest of what it says.
    pub(crate) policies: Vec<(Arc<Policy>, Digest)>,
    /// What the named ports of these policies stand for: at ingress on the endpoint itself, at egress on any pod.
    pub(crate) named: BTreeMap<NamedPort, BTreeSet<(Transport, u16)>>,
}

impl Recipe {
    pub(crate) fn digest(&self) -> Digest {
        let policies: Vec<Digest> = self.policies.iter().map(|(_, digest)| *digest).collect();
        digest(&(self.direction as u8, policies, &self.named))
    }
}

impl RuleSet {
    /// Ranks the rules of a recipe; acquires the terms that they name.
    pub(crate) fn new(id: RuleSetId, recipe: &Recipe, terms: &mut Terms) -> Self {
        let mut set = Self {
            id,
            direction: recipe.direction,
            rules: Vec::new(),
            by_term: FxHashMap::default(),
            classes: Default::default(),
            ranges: BTreeSet::new(),
            acquired: BTreeSet::new(),
        };
        for tier in Tier::ALL {
            let mut isolating = Vec::new();
            let mut ranked: Vec<((i32, Class), RankedRule)> = Vec::new();
            for (policy, _) in recipe.policies.iter().filter(|(policy, _)| policy.tier == tier) {
                set.push_policy(policy, recipe, terms, &mut ranked);
                if policy.block(recipe.direction).isolates {
                    isolating.push(policy.object.clone());
                }
            }
            if tier == Tier::Namespace {
                // Stable: within a class, rules stay in the order of their policies, which no verdict depends on.
                ranked.sort_by_key(|(place, _)| *place);
            }
            set.rules.extend(ranked.into_iter().map(|(_, rule)| rule));
            if !isolating.is_empty() {
                // Default deny is data: a rule like any other, behind all others of its tier.
                set.rules.push(RankedRule {
                    tier,
                    action: Action::Deny,
                    origin: Origin::Isolation { policies: isolating },
                    asks: None,
                    peers: RankedPeers::Any,
                    ports: RankedPorts::Any,
                });
            }
        }
        set.index(recipe, terms);
        set
    }

    fn push_policy(
        &mut self,
        policy: &Policy,
        recipe: &Recipe,
        terms: &mut Terms,
        ranked: &mut Vec<((i32, Class), RankedRule)>,
    ) {
        for (index, rule) in policy.block(recipe.direction).rules.iter().enumerate() {
            let ports = match &rule.ports {
                Ports::Any => RankedPorts::Any,
                Ports::AnyOf(ports) => {
                    RankedPorts::AnyOf(PortList::new(ports.iter().map(|port| &port.term), recipe))
                }
            };
            let peers = match &rule.peers {
                Peers::Any => RankedPeers::Any,
                Peers::AnyOf(peers) => {
                    let acquire = |peer: &Peer| self.acquire(Term::Peer(peer.term.clone()), terms);
                    RankedPeers::AnyOf(peers.iter().map(acquire).collect())
                }
            };
            let object = policy.object.clone();
            if policy.tier == Tier::Namespace && rule.asks.is_some() && rule.action == Action::Allow {
                let claim = RankedRule {
                    tier: policy.tier,
                    action: Action::Deny,
                    origin: Origin::Claim { object: object.clone(), index },
                    asks: None,
                    peers: peers.clone(),
                    ports: ports.clone(),
                };
                ranked.push(((policy.priority, Class::Claim), claim));
            }
            let place = (policy.priority, Class::of(rule.action, rule.asks.is_some()));
            let origin = Origin::Rule { object, index };
            let (action, asks) = (rule.action, rule.asks.clone());
            ranked.push((place, RankedRule { tier: policy.tier, action, origin, asks, peers, ports }));
        }
    }

    fn acquire(&mut self, term: Term, terms: &mut Terms) -> TermId {
        let id = terms.acquire(self.id, term);
        self.acquired.insert(id);
        id
    }

    /// Fills what is looked up by term and by port.
    fn index(&mut self, recipe: &Recipe, terms: &mut Terms) {
        let rules = std::mem::take(&mut self.rules);
        let mut specific = [const { BTreeSet::new() }; 3];
        for (rank, rule) in (0_u32..).zip(&rules) {
            let mut by: BTreeSet<TermId> = match &rule.peers {
                RankedPeers::Any => BTreeSet::new(),
                RankedPeers::AnyOf(peers) => peers.iter().copied().collect(),
            };
            if let RankedPorts::AnyOf(ports) = &rule.ports {
                let for_all = rule.peers == RankedPeers::Any;
                for transport in Transport::ALL {
                    self.classes[transport as usize].whole |= ports.whole[transport as usize] && !for_all;
                    for (&first, &last) in &ports.ranges[transport as usize] {
                        self.ranges.insert((transport, first, last));
                        if !for_all {
                            specific[transport as usize].insert((first, last));
                        }
                    }
                }
                let pods = if ports.named.is_empty() { BTreeSet::new() } else { pods_of(&rule.peers, terms) };
                for name in &ports.named {
                    for &(transport, port) in recipe.named.get(name).into_iter().flatten() {
                        self.ranges.insert((transport, port, port));
                        specific[transport as usize].insert((port, port));
                        for pods in &pods {
                            let term = Term::NamedPort(pods.clone(), name.clone(), transport, port);
                            let term = self.acquire(term, terms);
                            // A named port of the peer makes even a rule for any peer one for specific peers: those
                            // that have such a port.
                            if for_all {
                                by.insert(term);
                            }
                        }
                    }
                }
            }
            for term in by {
                self.by_term.entry(term).or_default().push(rank);
            }
        }
        self.rules = rules;
        for (classes, ranges) in self.classes.iter_mut().zip(specific) {
            classes.ranges = partition(ranges);
        }
    }

    /// Its id.
    pub fn id(&self) -> RuleSetId {
        self.id
    }

    /// The direction it is for.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Its rules; the index is the rank.
    pub fn rules(&self) -> &[RankedRule] {
        &self.rules
    }

    /// The ranges of ports that its rules name, with the numbers that named ports stand for.
    pub(crate) fn ranges(&self) -> &BTreeSet<(Transport, u16, u16)> {
        &self.ranges
    }

    /// The terms it uses.
    pub(crate) fn acquired(&self) -> &BTreeSet<TermId> {
        &self.acquired
    }

    /// The terms that make an identity matter to it.
    pub(crate) fn peer_terms(&self) -> impl Iterator<Item = TermId> {
        self.by_term.keys().copied()
    }

    /// The row for any peer and these ports: the best rules that name no peer, and the port class for those that do.
    pub(crate) fn any_row(&self, key: PortKey, lists: &mut Lists) -> RuleRow {
        let mut draft = RowDraft::default();
        for (rank, rule) in (0_u32..).zip(&self.rules) {
            if rule.peers == RankedPeers::Any && rule.ports.cover(key) {
                draft.add(rank, rule);
            }
        }
        let row = self.row(&draft, lists);
        match key {
            PortKey::All => row.anchoring(self.anchors()),
            PortKey::Port(transport, atom) => match self.classes[transport as usize].of(atom) {
                Some(class) => row.with_class(class),
                None => row,
            },
        }
    }

    /// Which kinds of rows there can be, whatever identities and atoms there are.
    fn anchors(&self) -> Anchors {
        let specific = |rule: &RankedRule| rule.peers != RankedPeers::Any && rule.ports == RankedPorts::Any;
        Anchors {
            ports: self.rules.iter().any(|rule| rule.ports != RankedPorts::Any),
            peers: self.rules.iter().any(specific),
        }
    }

    /// The rows for an identity that these terms match: the best rules that name one of them, by port class; sorted.
    pub(crate) fn peer_rows(
        &self,
        matched: &[TermId],
        terms: &Terms,
        lists: &mut Lists,
    ) -> Box<[(PortKey, RuleRow)]> {
        let mut ranks: Vec<u32> =
            matched.iter().filter_map(|term| self.by_term.get(term)).flatten().copied().collect();
        ranks.sort_unstable();
        ranks.dedup();
        let mut rows = BTreeMap::<PortKey, RowDraft>::new();
        for rank in ranks {
            let Some(rule) = self.rules.get(rank as usize) else { continue };
            let mut offer = |key| rows.entry(key).or_default().add(rank, rule);
            match &rule.ports {
                RankedPorts::Any => offer(PortKey::All),
                RankedPorts::AnyOf(ports) => {
                    // Of a rule for any peer, only named ports depend on the peer. Its other ports stand in the rows
                    // for any peer, and the classes are not cut for them.
                    if rule.peers != RankedPeers::Any {
                        self.classes_within(ports, &mut offer);
                    }
                    self.classes_of_named(&ports.named, matched, terms, &mut offer);
                }
            }
        }
        rows.into_iter().map(|(key, draft)| (key, self.row(&draft, lists))).collect()
    }

    /// A row of these rules; its list is acquired.
    fn row(&self, draft: &RowDraft, lists: &mut Lists) -> RuleRow {
        if draft.conditional.is_empty() {
            return draft.row;
        }
        let conditional = |rank: &u32| {
            let rule = self.rules.get(*rank as usize)?;
            let asks = Arc::clone(rule.asks.as_ref()?);
            Some(Conditional { tier: rule.tier, rank: *rank, action: rule.action, asks })
        };
        let make = || draft.conditional.iter().filter_map(conditional).collect();
        let (list, best) = lists.acquire(&draft.conditional, make);
        draft.row.with_list(list, best)
    }

    /// Whether a rule matches a peer of which these terms hold, on this port (`None`: a protocol without ports). For
    /// whoever explains: the datapath never asks rule by rule.
    pub(crate) fn matches(
        &self,
        rank: u32,
        matched: &[TermId],
        port: Option<(Transport, u16)>,
        terms: &Terms,
    ) -> Option<RuleMatch> {
        let rule = self.rules.get(rank as usize)?;
        let peer = match &rule.peers {
            RankedPeers::Any => true,
            RankedPeers::AnyOf(peers) => peers.iter().any(|term| matched.contains(term)),
        };
        let port = match (&rule.ports, port) {
            (RankedPorts::Any, _) => true,
            (RankedPorts::AnyOf(_), None) => false,
            (RankedPorts::AnyOf(ports), Some((transport, number))) => {
                let named = |term: &TermId| {
                    matches!(terms.get(*term), Term::NamedPort(_, of, on, stands_for)
                        if ports.named.contains(of) && *on == transport && *stands_for == number)
                };
                ports.cover(transport, number) || matched.iter().any(named)
            }
        };
        Some(RuleMatch { peer, port })
    }

    /// The classes of ports that are the same whoever the peer is.
    fn classes_within(&self, ports: &PortList, found: &mut impl FnMut(PortKey)) {
        for transport in Transport::ALL {
            let classes = &self.classes[transport as usize].ranges;
            if ports.whole[transport as usize] {
                std::iter::once(&0)
                    .chain(classes.keys())
                    .for_each(|class| found(PortKey::Port(transport, *class)));
                continue;
            }
            for (first, last) in &ports.ranges[transport as usize] {
                classes.range(first..=last).for_each(|(class, _)| found(PortKey::Port(transport, *class)));
            }
        }
    }

    /// The classes of the numbers that names stand for on a peer that these terms match.
    fn classes_of_named(
        &self,
        named: &BTreeSet<NamedPort>,
        matched: &[TermId],
        terms: &Terms,
        found: &mut impl FnMut(PortKey),
    ) {
        if named.is_empty() {
            return;
        }
        for &term in matched {
            if let Term::NamedPort(_, of, transport, port) = terms.get(term)
                && named.contains(of)
                && let Some(class) = self.classes[*transport as usize].of(*port)
            {
                found(PortKey::Port(*transport, class));
            }
        }
    }
}

/// What stands in a row.
struct RowDraft {
    row: RuleRow,
    /// The ranks of its conditional rules, sorted.
    conditional: Vec<u32>,
}

impl Default for RowDraft {
    fn default() -> Self {
        Self { row: RuleRow::EMPTY, conditional: Vec::new() }
    }
}

impl RowDraft {
    /// One more rule. They come by rank; one can come twice in a row.
    fn add(&mut self, rank: u32, rule: &RankedRule) {
        if rule.asks.is_none() {
            self.row.offer(rule.tier, slot(rank, rule.action));
        } else if self.conditional.last() != Some(&rank) {
            self.conditional.push(rank);
        }
    }
}

/// The pods whose named ports matter to a rule with these peers: no more than need be, for each becomes an identity.
fn pods_of(peers: &RankedPeers, terms: &Terms) -> BTreeSet<Pods> {
    match peers {
        RankedPeers::Any => BTreeSet::from([Pods::everything()]),
        RankedPeers::AnyOf(peers) => peers
            .iter()
            .filter_map(|&peer| match terms.get(peer) {
                Term::Peer(PeerTerm::Pods(pods)) => Some(pods.clone()),
                // A pod can be meant by its address, too.
                Term::Peer(PeerTerm::Network(_) | PeerTerm::Nodes(_)) => Some(Pods::everything()),
                Term::Peer(PeerTerm::Domain(_)) | Term::NamedPort(..) => None,
            })
            .collect(),
    }
}

pub(crate) fn slot(rank: u32, action: Action) -> Slot {
    // 2^28 rules that select one pod do not fit into any memory this runs in; what would not fit is closed.
    Slot::new(rank, action).or_else(|| Slot::new(Slot::MAX_RANK, Action::Deny)).unwrap_or(Slot::EMPTY)
}

/// The smallest partition of overlapping ranges: ports that the same ranges hold, and that lie side by side, are one.
pub(crate) fn partition(ranges: impl IntoIterator<Item = (u16, u16)>) -> PortAtoms {
    // +1 where a range begins, -1 behind its end.
    let mut edges = BTreeMap::<u32, i64>::new();
    for (first, last) in ranges {
        *edges.entry(u32::from(first)).or_default() += 1;
        *edges.entry(u32::from(last) + 1).or_default() -= 1;
    }
    let mut atoms = PortAtoms::new();
    let mut open = 0;
    let mut start = 0;
    for (edge, change) in edges {
        if open > 0
            && let (Ok(first), Ok(last)) = (u16::try_from(start), u16::try_from(edge - 1))
        {
            atoms.insert(first, last);
        }
        open += change;
        start = edge;
    }
    atoms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_cuts_at_every_edge_and_covers_just_what_is_named() {
        let atoms = |ranges: &[(u16, u16)]| partition(ranges.iter().copied()).into_iter().collect::<Vec<_>>();
        assert_eq!(atoms(&[]), []);
        assert_eq!(atoms(&[(80, 90), (85, 85)]), [(80, 84), (85, 85), (86, 90)]);
        assert_eq!(
            atoms(&[(80, 90), (91, 95)]),
            [(80, 90), (91, 95)],
            "side by side, but not the same ranges"
        );
        assert_eq!(atoms(&[(80, 90), (80, 90)]), [(80, 90)]);
        assert_eq!(atoms(&[(1, 65535), (65535, 65535)]), [(1, 65534), (65535, 65535)]);
    }
}
