//! The look-up order: from what a packet says to a verdict, over the maps; and from what is asked over a connection.
//!
//! Both are one function. Of a packet it is not known what is asked: where a conditional rule could decide before any other,
//! the verdict is [`Verdict::Redirect`]. In every other case what is asked cannot matter, and [`judge_request`] says of each
//! request what [`judge`] says of the connection.

use crate::abi::{
    Address, Direction, Endpoint, Generation, Halves, Identity, ListId, PortAtom, PortKey, RuleKey, RuleRow,
    RuleSetId, Slot, Transport,
};
use crate::http::Request;
use crate::l7::List;
use crate::verdict::{Action, Reason, TIERS, Verdict};

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

/// The lists of conditional rules.
pub trait Lists {
    /// The list of this name in a rule set.
    fn list(&self, rule_set: RuleSetId, id: ListId) -> Option<List<'_>>;
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
    judge_asking(maps, endpoint, query, &Unread)
}

/// Judges what is asked over a connection, at one hook of one endpoint; `query` is that of the packet that began the connection.
/// Never [`Verdict::Redirect`].
pub fn judge_request<M: Maps, L: Lists>(
    maps: &M,
    lists: &L,
    endpoint: &M::EndpointKey,
    query: &Query,
    request: &Request<'_>,
) -> Decision {
    judge_asking(maps, endpoint, query, &Read { lists, request })
}

#[inline]
fn judge_asking<M: Maps, A: Asking>(
    maps: &M,
    endpoint: &M::EndpointKey,
    query: &Query,
    asking: &A,
) -> Decision {
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
    decide_asking(
        maps,
        rule_set,
        || identity(maps, generation, query.peer),
        || {
            let (transport, port) = query.port?;
            let atom = maps.port(transport.port_index(port)).map_or(0, |halves| halves.at(generation));
            Some((transport, atom))
        },
        asking,
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
    decide_asking(maps, rule_set, identity, atom, &Unread)
}

#[inline]
fn decide_asking<M: Maps, A: Asking>(
    maps: &M,
    rule_set: RuleSetId,
    identity: impl FnOnce() -> Identity,
    atom: impl FnOnce() -> Option<(Transport, PortAtom)>,
    asking: &A,
) -> Decision {
    let anchor = maps.rule(&RuleKey::new(rule_set, Identity::NONE, PortKey::All));
    let Some(row) = anchor else { return Decision::without_rule(Verdict::Deny, Reason::CorruptTable) };
    let Some(anchors) = row.anchors() else {
        return Decision::without_rule(Verdict::Deny, Reason::CorruptTable);
    };
    let mut best = *row.slots();
    let mut heard = asking.hear(rule_set, &row, A::Heard::default());
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
        if let Some(row) = row {
            merge(&mut best, row.slots());
            heard = asking.hear(rule_set, &row, heard);
        }
    }
    if anchors.peers || class.is_some() {
        let identity = identity();
        if !identity.is_none() {
            if anchors.peers
                && let Some(row) = maps.rule(&RuleKey::new(rule_set, identity, PortKey::All))
            {
                merge(&mut best, row.slots());
                heard = asking.hear(rule_set, &row, heard);
            }
            if let Some(class) = class
                && let Some(row) = maps.rule(&RuleKey::new(rule_set, identity, class))
            {
                merge(&mut best, row.slots());
                heard = asking.hear(rule_set, &row, heard);
            }
        }
    }
    let connection = walk(rule_set, &best);
    match connection.verdict {
        Verdict::Redirect => asking.decide(rule_set, connection, heard),
        Verdict::Allow | Verdict::Deny | Verdict::Reject => connection,
    }
}

/// What is known of what is asked.
trait Asking {
    /// What the rows say of it.
    type Heard: Default;

    /// Adds what a row says.
    fn hear(&self, rule_set: RuleSetId, row: &RuleRow, heard: Self::Heard) -> Self::Heard;

    /// Decides about a connection of which what is asked decides.
    fn decide(&self, rule_set: RuleSetId, connection: Decision, heard: Self::Heard) -> Decision;
}

/// Nothing: the first packet of a connection does not say. No row is looked at a second time for it.
struct Unread;

impl Asking for Unread {
    type Heard = ();

    #[inline(always)]
    fn hear(&self, _: RuleSetId, _: &RuleRow, (): ()) {}

    #[inline(always)]
    fn decide(&self, _: RuleSetId, connection: Decision, (): ()) -> Decision {
        connection
    }
}

/// A request.
struct Read<'a, L> {
    lists: &'a L,
    request: &'a Request<'a>,
}

/// What the rows say of a request.
struct Heard {
    /// The best rules, those of lists that match among them.
    best: [Slot; TIERS],
    /// Whether some rule is about its protocol.
    is_carried: bool,
    /// Whether a list is not there, or cannot be read.
    is_corrupt: bool,
}

impl Default for Heard {
    fn default() -> Self {
        Self { best: [Slot::EMPTY; TIERS], is_carried: false, is_corrupt: false }
    }
}

impl<L: Lists> Asking for Read<'_, L> {
    type Heard = Heard;

    fn hear(&self, rule_set: RuleSetId, row: &RuleRow, mut heard: Heard) -> Heard {
        merge(&mut heard.best, row.plain());
        if row.list() == 0 {
            return heard;
        }
        let list = self.lists.list(rule_set, row.list());
        let said =
            list.and_then(|list| Some((list.speaks_of(self.request).ok()?, list.slots(self.request).ok()?)));
        match said {
            Some((is_carried, slots)) => {
                heard.is_carried |= is_carried;
                merge(&mut heard.best, &slots);
            }
            None => heard.is_corrupt = true,
        }
        heard
    }

    fn decide(&self, rule_set: RuleSetId, connection: Decision, heard: Heard) -> Decision {
        let closed = |reason| Decision { verdict: Verdict::Deny, reason, ..connection };
        if heard.is_corrupt {
            return closed(Reason::CorruptTable);
        }
        if !heard.is_carried {
            return closed(Reason::OtherProtocol);
        }
        match walk(rule_set, &heard.best) {
            // Only what somebody wrote there by hand asks again.
            Decision { verdict: Verdict::Redirect, .. } => closed(Reason::CorruptTable),
            decision => decision,
        }
    }
}

#[inline]
fn merge(best: &mut [Slot; TIERS], others: &[Slot; TIERS]) {
    best[0] = best[0].better(others[0]);
    best[1] = best[1].better(others[1]);
    best[2] = best[2].better(others[2]);
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
            None if slot.asks() => {
                return Decision { verdict: Verdict::Redirect, reason: Reason::NeedsRequest, rule };
            }
            None => return Decision { verdict: Verdict::Deny, reason: Reason::CorruptTable, rule },
        }
    }
    Decision::without_rule(Verdict::Allow, Reason::NoPolicy)
}
