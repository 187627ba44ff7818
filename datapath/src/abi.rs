//! Keys and values of the maps, byte for byte.
//!
//! Numbers are in the byte order of the machine (both sides run on it), addresses in network order. No padding is
//! implicit, and nothing here is a `bool`, an enum or an `Option`.
//!
//! Two kinds of maps keep a change of policy free of a moment in which neither the old nor the new policy holds:
//! - the *rule* map is content-addressed: what a row says is a function of its key, so rows are only ever added (while
//!   nothing points at them) and removed (when nothing does any more);
//! - the *pointer* maps (endpoint, address, prefix, port) hold a value for each of two halves, and one write of the
//!   generation word moves the whole node from one half to the other.

use crate::verdict::{Action, TIERS, Tier};

/// Raised whenever a key, a value or the look-up order changes; a test compares it with a digest of the layout.
pub const ABI_VERSION: u32 = 4;

/// A direction, seen from the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Direction {
    /// Towards the pod.
    Ingress = 0,
    /// From the pod.
    Egress = 1,
}

impl Direction {
    /// Both directions.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];
}

/// A protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Transport {
    /// RFC 9293.
    Tcp = 0,
    /// RFC 768.
    Udp = 1,
    /// RFC 9260.
    Sctp = 2,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// From the IP protocol number (IANA), if that protocol has ports here.
    #[inline]
    pub const fn from_ip_protocol(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }

    /// The IP protocol number (IANA).
    #[inline]
    pub const fn ip_protocol(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The index of a port in the flat port map of 3 x 65,536 entries. (Flat, with this index, loads on every kernel
    /// that was tried; an array of arrays does not.)
    #[inline]
    pub const fn port_index(self, port: u16) -> u32 {
        (self as u32) << 16 | port as u32
    }
}

/// Which generation is in force; its parity selects the half of every [`Halves`].
pub type Generation = u32;

/// A value for each of the two generations that can be in force during a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Halves<T>([T; 2]);

impl<T: Copy> Halves<T> {
    /// The same value in both halves: nothing is changing.
    #[inline]
    pub const fn settled(value: T) -> Self {
        Self([value, value])
    }

    /// The half that is in force under `generation`.
    #[inline]
    pub const fn at(&self, generation: Generation) -> T {
        // A branch, not an index: the verifier need not bound anything.
        if generation & 1 == 0 { self.0[0] } else { self.0[1] }
    }

    /// This value, with the half of `generation` replaced.
    #[inline]
    #[must_use]
    pub const fn with(self, generation: Generation, value: T) -> Self {
        if generation & 1 == 0 { Self([value, self.0[1]]) } else { Self([self.0[0], value]) }
    }
}

/// A set of peers that no policy on this node can tell apart. Derived from the selectors that match them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Identity(u64);

impl Identity {
    /// In the address map: not an exact entry, ask the prefixes. From the prefixes: no policy names this peer.
    /// In a rule key: the row for any peer.
    pub const NONE: Self = Self(0);

    /// From its number.
    #[inline]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether this is [`Identity::NONE`].
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// The rules of one direction of an endpoint, shared by all endpoints whose policies are equal. Derived from its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct RuleSetId(u64);

impl RuleSetId {
    /// No policy speaks about this direction of the endpoint.
    pub const NONE: Self = Self(0);
    /// The endpoint's rules are not in yet, or are gone already: closed.
    pub const HOLD: Self = Self::new(u64::MAX);
    /// Ids have 46 bits, so that a [`RuleKey`] has 16 bytes.
    pub const BITS: u32 = 46;

    /// From the low [`Self::BITS`] bits of a number.
    #[inline]
    pub const fn new(number: u64) -> Self {
        Self(number & ((1 << Self::BITS) - 1))
    }

    /// Its number.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether this is [`RuleSetId::NONE`].
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// What the datapath knows of a local pod's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Endpoint {
    rule_sets: [RuleSetId; 2],
}

impl Endpoint {
    /// An endpoint whose rules are not in yet, or are gone already.
    pub const HOLD: Self = Self::new(RuleSetId::HOLD, RuleSetId::HOLD);

    /// An endpoint with these rule sets.
    #[inline]
    pub const fn new(ingress: RuleSetId, egress: RuleSetId) -> Self {
        Self { rule_sets: [ingress, egress] }
    }

    /// The rule set of a direction; [`RuleSetId::NONE`] if no policy speaks about it.
    #[inline]
    pub const fn rule_set(&self, direction: Direction) -> RuleSetId {
        match direction {
            Direction::Ingress => self.rule_sets[0],
            Direction::Egress => self.rule_sets[1],
        }
    }
}

/// The lowest port of a range of ports that no policy on this node can tell apart (a *port atom*).
///
/// 0 stands for the rest of the protocol: all ports that no rule names. (Port 0 itself cannot be named by any dialect.)
pub type PortAtom = u16;

/// The ports of a row in the rule map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortKey {
    /// Every protocol and port: rules without ports.
    All,
    /// In a row for any peer: a node-wide port atom. In a row for an identity: the rule set's own port class.
    Port(Transport, PortAtom),
}

/// Key of the rule map: (rule set, peer identity or any, ports or all).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct RuleKey {
    identity: Identity,
    /// rule set (46 bits), transport or 3 for all (2 bits), port (16 bits)
    rest: u64,
}

impl RuleKey {
    /// The key of a row.
    #[inline]
    pub const fn new(rule_set: RuleSetId, identity: Identity, ports: PortKey) -> Self {
        let ports = match ports {
            PortKey::All => 3 << 16,
            PortKey::Port(transport, port) => (transport as u64) << 16 | port as u64,
        };
        Self { identity, rest: rule_set.get() << 18 | ports }
    }

    /// The rule set.
    #[inline]
    pub const fn rule_set(&self) -> RuleSetId {
        RuleSetId::new(self.rest >> 18)
    }

    /// The peer identity; [`Identity::NONE`] is any peer.
    #[inline]
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// The ports.
    pub const fn ports(&self) -> PortKey {
        #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are the port")]
        let port = self.rest as u16;
        match self.rest >> 16 & 3 {
            0 => PortKey::Port(Transport::Tcp, port),
            1 => PortKey::Port(Transport::Udp, port),
            2 => PortKey::Port(Transport::Sctp, port),
            _ => PortKey::All,
        }
    }
}

/// The best rule of one tier in one row: its rank (28 bits, lower wins) and its action (4 bits).
///
/// Ranks are unique within a rule set, so comparing slots as numbers compares ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Slot(u32);

impl Slot {
    /// No rule of the tier is in this row. Worse than every rule.
    pub const EMPTY: Self = Self(u32::MAX);
    /// In place of an action. (No [`Action`] has this number.)
    const ASKS: u32 = 5;
    /// The highest rank that fits.
    pub const MAX_RANK: u32 = (1 << 28) - 2;

    /// The slot of a rule; `None` if the rank does not fit.
    pub const fn new(rank: u32, action: Action) -> Option<Self> {
        if rank > Self::MAX_RANK { None } else { Some(Self(rank << 4 | action as u32)) }
    }

    /// From the number it is stored as, outside of maps.
    #[inline]
    pub const fn from_word(word: u32) -> Self {
        Self(word)
    }

    /// The number it is stored as.
    #[inline]
    pub const fn word(self) -> u32 {
        self.0
    }

    /// The slot of a conditional rule, as packets meet it: what is asked decides. `None` if the rank does not fit.
    pub const fn asking(rank: u32) -> Option<Self> {
        if rank > Self::MAX_RANK { None } else { Some(Self(rank << 4 | Self::ASKS)) }
    }

    /// Whether what is asked decides.
    #[inline]
    pub const fn asks(self) -> bool {
        !self.is_empty() && self.0 & 0xf == Self::ASKS
    }

    /// Whether no rule is here.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == Self::EMPTY.0
    }

    /// The rank: the rule's index in its rule set.
    #[inline]
    pub const fn rank(self) -> u32 {
        self.0 >> 4
    }

    /// The action; `None` if the number is not one this version knows.
    #[inline]
    pub const fn action(self) -> Option<Action> {
        Action::from_number(self.0 & 0xf)
    }

    /// The better of two slots.
    #[inline]
    #[must_use]
    pub const fn better(self, other: Self) -> Self {
        if other.0 < self.0 { other } else { self }
    }
}

/// The list of a row's *conditional* rules, which say something of what is asked over a connection: its name within its rule
/// set, derived from the ranks in it. Row and list are functions of the row's key.
pub type ListId = u32;

/// Value of the rule map: the best rule of each tier, and in rows of any peer which rows beside them are worth a look-up.
///
/// What conditional rules say stands in a list. In the slots they are rules like any other, of which all that is known is that
/// what is asked decides ([`Slot::asks`]): so packets are judged by slots alone. Beside them stand the slots without conditional
/// rules, with which the answer of the list is merged.
///
/// The row of any peer and all ports is the rule set's *anchor*: every rule set has one, even if no rule stands in it. A rule
/// set without is one that somebody emptied, and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RuleRow {
    slots: [Slot; TIERS],
    /// See [`RuleRow::class`] and [`RuleRow::anchors`].
    more: u32,
    /// Without conditional rules; only if there are any.
    plain: [Slot; TIERS],
    /// 0 is none.
    list: ListId,
}

/// What an anchor says of the rows of its rule set. It follows from the rules alone, so that it stays true whatever
/// identities and port atoms come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Anchors {
    /// Some rule names ports: there may be rows of ports.
    pub ports: bool,
    /// Some rule for specific peers names no ports: there may be rows of an identity and all ports.
    pub peers: bool,
}

impl RuleRow {
    /// No rule, no class.
    pub const EMPTY: Self = Self::new([Slot::EMPTY; TIERS]);
    /// Set in `more` when there is a class, because class 0 is the rest of the protocol.
    const HAS_CLASS: u32 = 1 << 16;
    const IS_ANCHOR: u32 = 1 << 17;
    const HAS_PORTS: u32 = 1 << 18;
    const HAS_PEERS: u32 = 1 << 19;

    /// A row with these slots and no class.
    pub const fn new(slots: [Slot; TIERS]) -> Self {
        Self { slots, more: 0, plain: [Slot::EMPTY; TIERS], list: 0 }
    }

    /// This row, which has no list, with a list of conditional rules and the best of them by tier ([`Slot::asking`]).
    #[must_use]
    pub const fn with_list(self, list: ListId, conditional: [Slot; TIERS]) -> Self {
        let [admin, namespace, baseline] = self.slots;
        let slots =
            [admin.better(conditional[0]), namespace.better(conditional[1]), baseline.better(conditional[2])];
        Self { slots, plain: self.slots, list, ..self }
    }

    /// Its list of conditional rules; 0 if there is none.
    #[inline]
    pub const fn list(&self) -> ListId {
        self.list
    }

    /// The best rules that decide whatever is asked, by tier.
    pub const fn plain(&self) -> &[Slot; TIERS] {
        if self.list == 0 { &self.slots } else { &self.plain }
    }

    /// This row, as the anchor of its rule set.
    #[must_use]
    pub const fn anchoring(self, anchors: Anchors) -> Self {
        let ports = if anchors.ports { Self::HAS_PORTS } else { 0 };
        let peers = if anchors.peers { Self::HAS_PEERS } else { 0 };
        Self { more: Self::IS_ANCHOR | ports | peers, ..self }
    }

    /// What it says of its rule set's other rows, if it is an anchor.
    #[inline]
    pub const fn anchors(&self) -> Option<Anchors> {
        if self.more & Self::IS_ANCHOR == 0 {
            return None;
        }
        Some(Anchors { ports: self.more & Self::HAS_PORTS != 0, peers: self.more & Self::HAS_PEERS != 0 })
    }

    /// This row, with a class.
    #[must_use]
    pub const fn with_class(self, class: PortAtom) -> Self {
        Self { more: Self::HAS_CLASS | class as u32, ..self }
    }

    /// The best rules, by tier, whatever they depend on.
    #[inline]
    pub const fn slots(&self) -> &[Slot; TIERS] {
        &self.slots
    }

    /// The slot of one tier.
    #[inline]
    pub const fn slot(&self, tier: Tier) -> Slot {
        self.slots[tier as usize]
    }

    /// Replaces the slot of one tier if this one is better.
    pub fn offer(&mut self, tier: Tier, slot: Slot) {
        self.slots[tier as usize] = self.slots[tier as usize].better(slot);
    }

    /// The rule set's own class of the row's ports, if a rule for specific peers names them.
    #[inline]
    pub const fn class(&self) -> Option<PortAtom> {
        #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are the class")]
        let class = self.more as u16;
        if self.more & Self::HAS_CLASS == 0 { None } else { Some(class) }
    }
}

/// An IP address as the address maps key it: a compact key for IPv4 beside the one for IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// Network order.
    V4([u8; 4]),
    /// Network order.
    V6([u8; 16]),
}

/// Key of the IPv4 prefix trie (`BPF_MAP_TYPE_LPM_TRIE`: length first, then the address in network order).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Prefix4 {
    /// 0 to 32.
    pub length: u32,
    /// Network order.
    pub address: [u8; 4],
}

/// Key of the IPv6 prefix trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Prefix6 {
    /// 0 to 128.
    pub length: u32,
    /// Network order.
    pub address: [u8; 16],
}

const _: () = {
    assert!(size_of::<RuleKey>() == 16 && align_of::<RuleKey>() == 8);
    assert!(size_of::<RuleRow>() == 32 && align_of::<RuleRow>() == 4);
    assert!(size_of::<Halves<Endpoint>>() == 32);
    assert!(size_of::<Halves<Identity>>() == 16);
    assert!(size_of::<Halves<PortAtom>>() == 4);
    assert!(size_of::<Prefix4>() == 8 && size_of::<Prefix6>() == 20);
};

#[cfg(test)]
mod tests;
