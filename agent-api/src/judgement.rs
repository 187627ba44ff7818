//! Single questions to the live kernel maps.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Which way a packet goes, seen from the pod that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

/// A protocol, as policy tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// 6.
    Tcp,
    /// 17.
    Udp,
    /// 132.
    Sctp,
}

/// What becomes of a packet at one pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// `namespace/name` of a pod of this node.
    pub pod: String,
    /// To it or from it.
    pub direction: Direction,
    /// The other end.
    pub peer: IpAddr,
    /// The destination port; absent for a protocol without ports.
    pub port: Option<(Protocol, u16)>,
}

/// A verdict, lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The packet goes on.
    Allow,
    /// The packet is dropped.
    Deny,
    /// The packet is dropped and its sender is told.
    Reject,
    /// What is asked over the connection decides. Until something reads it, the packet is dropped.
    Redirect,
}

/// What the maps say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What happens to the packet.
    pub verdict: Verdict,
    /// Why: `rule_allows`, `no_policy`, ..., as in metrics and flows.
    pub reason: String,
    /// The rule set of the pod's direction; 0 if no policy speaks of it.
    pub rule_set: u64,
    /// The rule in it that decided, if one did.
    pub rank: Option<u32>,
    /// The generation that was in force when the maps were read.
    pub generation: u64,
}
