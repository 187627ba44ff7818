//! How the agent is.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Everything that `polctl status` shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The node's name.
    pub node: String,
    /// The agent's version.
    pub version: String,
    /// The version of the bytes it shares with the kernel programs.
    pub abi: u32,
    /// When it was started.
    pub started: Timestamp,
    /// Whether the first world is compiled and all endpoints are enforced.
    pub ready: bool,
    /// Why it is not ready, a line each.
    pub reasons: Vec<String>,
    /// The generation in force.
    pub generation: u64,
    /// How many policies are in force.
    pub policies: u64,
    /// What is wrong, a line each: a refused reading, for example.
    pub problems: Vec<String>,
    /// The pods of this node, by name.
    pub endpoints: Vec<Endpoint>,
    /// Devices by which packets come from outside.
    pub outside: Vec<OutsideDevice>,
    /// Devices behind which requests are read; the first takes new connections.
    #[serde(default)]
    pub proxies: Vec<String>,
    /// Where programs are attached.
    pub hooks: Vec<Hook>,
    /// The kernel's maps.
    pub maps: Vec<MapUse>,
    /// What was counted.
    pub counters: Vec<Counter>,
    /// The last comparison of the kernel with intent.
    pub reconcile: Option<Reconcile>,
    /// What each endpoint holds of the flow table.
    pub shares: Vec<Share>,
}

/// A pod's interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `namespace/name`; `None` if no pod is known for the interface.
    pub pod: Option<String>,
    /// The name of the interface on the node's side.
    pub interface: String,
    /// Its index.
    pub interface_index: u32,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// How it stands.
    pub state: EndpointState,
    /// The rule set of what comes to it; `None` if no policy speaks of that.
    pub ingress: Option<u64>,
    /// The rule set of what it sends; `None` if no policy speaks of that.
    pub egress: Option<u64>,
    /// Why it stands so, if that needs saying.
    pub why: Option<String>,
}

/// How an endpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// Its rules are in the kernel, and its programs attached.
    Enforced,
    /// Closed until its rules are in.
    Held,
    /// An interface of which no pod is known: closed.
    Unknown,
    /// Something could not be done; it keeps what it had, or is closed.
    Failed,
}

impl EndpointState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Enforced, Self::Held, Self::Unknown, Self::Failed];

    /// As in JSON and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Held => "held",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
        }
    }
}

/// A device by which packets come from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideDevice {
    /// Its name.
    pub interface: String,
    /// Its index.
    pub interface_index: u32,
    /// `uplink`, `vxlan`, and so on.
    pub kind: String,
}

/// A place where a program is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The interface.
    pub interface: String,
    /// `ingress` or `egress`, as the interface sees it.
    pub hook: String,
    /// By which means.
    pub kind: HookKind,
    /// Its place among the programs there, 0 is asked first; `None` if it is not known.
    pub position: Option<u32>,
    /// Whether it is there and first.
    pub ok: bool,
}

/// By which means a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookKind {
    /// A tcx link.
    Tcx,
    /// A filter of the clsact qdisc.
    Clsact,
    /// An XDP link.
    Xdp,
}

/// How full a map is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapUse {
    /// Its name.
    pub name: String,
    /// Entries in use.
    pub used: u64,
    /// Entries that it has room for.
    pub size: u64,
}

/// Something counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// What: `ingress rule_denies`, for example.
    pub name: String,
    /// How many packets or things.
    pub count: u64,
}

/// A comparison of the kernel with intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconcile {
    /// When it ended.
    pub when: Timestamp,
    /// How many differences it found.
    pub found: u64,
    /// How many of these it put right.
    pub repaired: u64,
}

/// What an endpoint holds of the flow table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// `namespace/name`, or the interface of an endpoint without a pod.
    pub endpoint: String,
    /// Flows that it has.
    pub used: u64,
    /// Flows that it may have.
    pub limit: u64,
    /// How often it was refused one more.
    pub refused: u64,
}
