//! What may be decided about a packet, and why.

/// What a rule says, as stored in the low four bits of a [`crate::abi::Slot`].
///
/// The numbers are part of the ABI. Free numbers are room for actions to come (rate limit).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Action {
    /// Let the packet through; no later tier is asked.
    Allow = 1,
    /// Drop the packet silently; no later tier is asked.
    Deny = 2,
    /// Leave the decision to the next tier.
    Pass = 3,
    /// Drop the packet and tell its sender (TCP reset, ICMP prohibited); no later tier is asked.
    Reject = 4,
}

impl Action {
    /// The action with this ABI number, if there is one.
    #[inline]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Allow),
            2 => Some(Self::Deny),
            3 => Some(Self::Pass),
            4 => Some(Self::Reject),
            _ => None,
        }
    }
}

/// The tiers of policy, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tier {
    /// Cluster-wide rules that nothing overrides (`ClusterNetworkPolicy` and `ClusterPolderPolicy` tier
    /// Admin, `AdminNetworkPolicy`).
    Admin = 0,
    /// `NetworkPolicy` and `PolderPolicy`: isolate the pods they select, then allow.
    Namespace = 1,
    /// Cluster-wide defaults (`ClusterNetworkPolicy` and `ClusterPolderPolicy` tier Baseline, `BaselineAdminNetworkPolicy`).
    Baseline = 2,
}

impl Tier {
    /// All tiers, first asked first.
    pub const ALL: [Self; TIERS] = [Self::Admin, Self::Namespace, Self::Baseline];
}

/// How many tiers there are.
pub const TIERS: usize = 3;

/// The final word on a packet at one hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Verdict {
    /// The packet goes on.
    Allow,
    /// The packet is dropped.
    Deny,
    /// The packet is dropped and its sender is told.
    Reject,
    /// What is asked over the connection decides: it goes to whoever reads requests, and nowhere else.
    Redirect,
}

impl Verdict {
    /// Whether the packet goes on.
    #[inline]
    pub const fn is_allow(self) -> bool {
        matches!(self, Self::Allow)
    }
}

/// Why a verdict is what it is. Every drop has exactly one of the reasons for which [`Reason::is_drop`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// A rule allows it.
    RuleAllows = 0,
    /// No policy selects the endpoint in this direction, or those that do leave the packet to the default: allowed.
    NoPolicy = 1,
    /// The peer address is one of the endpoint's own: a pod always reaches itself.
    OwnAddress = 2,
    /// The packet began in the endpoint's own node: kubelet probes and host processes always reach the node's pods.
    OwnNode = 3,
    /// A rule about what is asked over the connection could decide, and it is not known yet what is asked.
    NeedsRequest = 4,
    /// A rule denies it. The default deny of an isolated pod is a rule too.
    RuleDenies = 16,
    /// A rule rejects it.
    RuleRejects = 17,
    /// The endpoint is not known (yet): closed.
    UnknownEndpoint = 18,
    /// The tables hold a value that this program does not understand: closed.
    CorruptTable = 19,
    /// Rules about what is asked apply, and what is sent is no protocol that one of them is about: closed.
    OtherProtocol = 20,
}

impl Reason {
    /// All reasons, in the order of their ABI numbers.
    pub const ALL: [Self; 10] = [
        Self::RuleAllows,
        Self::NoPolicy,
        Self::OwnAddress,
        Self::OwnNode,
        Self::NeedsRequest,
        Self::RuleDenies,
        Self::RuleRejects,
        Self::UnknownEndpoint,
        Self::CorruptTable,
        Self::OtherProtocol,
    ];

    /// Whether a packet with this reason is dropped.
    #[inline]
    pub const fn is_drop(self) -> bool {
        self as u8 >= 16
    }

    /// The name used in events, metrics and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RuleAllows => "rule_allows",
            Self::NoPolicy => "no_policy",
            Self::OwnAddress => "own_address",
            Self::OwnNode => "own_node",
            Self::NeedsRequest => "needs_request",
            Self::RuleDenies => "rule_denies",
            Self::RuleRejects => "rule_rejects",
            Self::UnknownEndpoint => "unknown_endpoint",
            Self::CorruptTable => "corrupt_table",
            Self::OtherProtocol => "other_protocol",
        }
    }
}
