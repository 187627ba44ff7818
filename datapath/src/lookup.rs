//! The look-up order: from what a packet says to a verdict, over the maps.

use crate::abi::{
    Address, Direction, Endpoint, Generation, Halves, Identity, PortAtom, PortKey, RuleKey, RuleRow,
    RuleSetId, Slot, Transport,
};
use crate::verdict::{Action, Reason, TIERS, Tier, Verdict};

/// The maps. The kernel implements this over BPF maps, the host over the compiler's tables.
pub trait Maps {
    /// What names an endpoint: the interface index in the kernel, the pod elsewhere.
    type EndpointKey: ?Sized;

    /// The generation in force.
    fn generation(&self) -> Generation;
    /// A local endpoint.
    fn endpoint(&self, key: &Self::EndpointKey) -> Option<Halves<Endpoint>>;
    /// Exact address to identity; [`Identity::NONE`] in a half means: ask [`Maps::prefix`].
    fn address(&self, address: Address) -> Option<Halves<Identity>>;
    /// Longest matching prefix to identity.
    fn prefix(&self, address: Address) -> Option<Halves<Identity>>;
    /// Port to port atom, by [`Transport::port_index`].
    fn port(&self, index: u32) -> Option<Halves<PortAtom>>;
    /// A row of the rule map.
    fn rule(&self, key: &RuleKey) -> Option<RuleRow>;
}

/// What has to be known of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Whether the packet goes to the endpoint or comes from it.
    pub direction: Direction,
    /// The other end: the source address at ingress, the destination address at egress.
    pub peer: Address,
    /// The destination port, if the protocol has ports.
    pub port: Option<(Transport, u16)>,
    /// How the packet stands to the endpoint, as the hook that saw it knows.
    pub origin: Origin,
}

/// Where a packet began or ends, where that alone decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nothing special: policy decides.
    Elsewhere,
    /// A process in the endpoint's own node, at ingress (kubelet probes).
    OwnNode,
    /// The endpoint itself: the peer address is one of its own.
    OwnAddress,
}

/// A verdict, its reason, and the rule behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    /// What happens to the packet.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The rule that decided, when one did.
    pub rule: Option<RuleId>,
}

/// A rule, named by the rule set it stands in and its rank there. The compiler's provenance leads from here to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId {
    /// The rule set.
    pub rule_set: RuleSetId,
    /// The index of the rule in it.
    pub rank: u32,
}

impl Decision {
    /// Allowed without asking any rule.
    #[inline]
    pub const fn allowed(reason: Reason) -> Self {
        Self::without_rule(Verdict::Allow, reason)
    }

    const fn without_rule(verdict: Verdict, reason: Reason) -> Self {
        Self { verdict, reason, rule: None }
    }
}

/// Judges a packet at one hook of one endpoint.
#[inline]
pub fn judge<M: Maps>(maps: &M, endpoint: &M::EndpointKey, query: &Query) -> Decision {
    let generation = maps.generation();
    let Some(halves) = maps.endpoint(endpoint) else {
        return Decision::without_rule(Verdict::Deny, Reason::UnknownEndpoint);
    };
    let rule_set = halves.at(generation).rule_set(query.direction);
    if rule_set == RuleSetId::HOLD {
        return Decision::without_rule(Verdict::Deny, Reason::UnknownEndpoint);
    }
    match (query.origin, query.direction) {
        (Origin::OwnAddress, _) => return Decision::without_rule(Verdict::Allow, Reason::OwnAddress),
        (Origin::OwnNode, Direction::Ingress) => {
            return Decision::without_rule(Verdict::Allow, Reason::OwnNode);
        }
        (Origin::OwnNode, Direction::Egress) | (Origin::Elsewhere, _) => {}
    }
    if rule_set.is_none() {
        return Decision::without_rule(Verdict::Allow, Reason::NoPolicy);
    }
    decide(
        maps,
        rule_set,
        || identity(maps, generation, query.peer),
        || {
            let (transport, port) = query.port?;
            let atom = maps.port(transport.port_index(port)).map_or(0, |halves| halves.at(generation));
            Some((transport, atom))
        },
    )
}

/// The identity of an address: exact first, then the longest prefix. Never inlined: its keys would stay on the small
/// stack of a program while rules are looked up.
#[inline(never)]
pub fn identity<M: Maps>(maps: &M, generation: Generation, address: Address) -> Identity {
    let exact = maps.address(address).map_or(Identity::NONE, |halves| halves.at(generation));
    if exact.is_none() {
        maps.prefix(address).map_or(Identity::NONE, |halves| halves.at(generation))
    } else {
        exact
    }
}

/// What a rule set says of a cell of (identity, port atom): at most four rows. Identity and atom are asked for only if
/// there may be rows that depend on them.
///
/// A rule set without its anchor is one that somebody emptied.
#[inline]
pub fn decide<M: Maps>(
    maps: &M,
    rule_set: RuleSetId,
    identity: impl FnOnce() -> Identity,
    atom: impl FnOnce() -> Option<(Transport, PortAtom)>,
) -> Decision {
    let anchor = maps.rule(&RuleKey::new(rule_set, Identity::NONE, PortKey::All));
    let Some(row) = anchor else { return Decision::without_rule(Verdict::Deny, Reason::CorruptTable) };
    let Some(anchors) = row.anchors() else {
        return Decision::without_rule(Verdict::Deny, Reason::CorruptTable);
    };
    let mut best = *row.slots();
    let mut class = None;
    if anchors.ports
        && let Some((transport, atom)) = atom()
    {
        let row = maps.rule(&RuleKey::new(rule_set, Identity::NONE, PortKey::Port(transport, atom)));
        if let Some(row) = &row
            && let Some(found) = row.class()
        {
            class = Some(PortKey::Port(transport, found));
        }
        merge(&mut best, row);
    }
    if anchors.peers || class.is_some() {
        let identity = identity();
        if !identity.is_none() {
            if anchors.peers {
                merge(&mut best, maps.rule(&RuleKey::new(rule_set, identity, PortKey::All)));
            }
            if let Some(class) = class {
                merge(&mut best, maps.rule(&RuleKey::new(rule_set, identity, class)));
            }
        }
    }
    walk(rule_set, &best)
}

#[inline]
fn merge(best: &mut [Slot; TIERS], row: Option<RuleRow>) {
    if let Some(row) = row {
        best[0] = best[0].better(row.slot(Tier::Admin));
        best[1] = best[1].better(row.slot(Tier::Namespace));
        best[2] = best[2].better(row.slot(Tier::Baseline));
    }
}

/// Walks the tiers: the first that neither is silent nor passes decides; if none does, the packet is allowed.
#[inline]
fn walk(rule_set: RuleSetId, best: &[Slot; TIERS]) -> Decision {
    for slot in best {
        if slot.is_empty() {
            continue;
        }
        let rule = Some(RuleId { rule_set, rank: slot.rank() });
        match slot.action() {
            Some(Action::Pass) => {}
            Some(Action::Allow) => {
                return Decision { verdict: Verdict::Allow, reason: Reason::RuleAllows, rule };
            }
            Some(Action::Deny) => {
                return Decision { verdict: Verdict::Deny, reason: Reason::RuleDenies, rule };
            }
            Some(Action::Reject) => {
                return Decision { verdict: Verdict::Reject, reason: Reason::RuleRejects, rule };
            }
            None => return Decision { verdict: Verdict::Deny, reason: Reason::CorruptTable, rule },
        }
    }
    Decision::without_rule(Verdict::Allow, Reason::NoPolicy)
}
