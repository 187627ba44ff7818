//! The one vocabulary into which every dialect is lowered: tiers and ranked rules.

use std::sync::Arc;

use datapath::abi::{Direction, Transport};
pub use datapath::verdict::{Action, Tier};
use ipnet::IpNet;

use crate::asks::Asks;
use crate::labels::{OfNamespace, OfNode, OfPod, Selector};
use crate::object::{Location, ObjectRef, Source};

/// One policy object, lowered. Either all of it or, if anything in it is wrong, none of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The object it came from.
    pub object: ObjectRef,
    /// Where that was written.
    pub source: Option<Arc<Source>>,
    /// The tier it speaks in.
    pub tier: Tier,
    /// Whether it decides, or only says what it would decide.
    pub mode: Mode,
    /// Whether what it allows is to be told as well, even if nobody asked.
    pub log: bool,
    /// Its place in the tier: lower is asked first. Equal priorities are ordered by kind and name, see [`Policy::order`].
    pub priority: i32,
    /// The pods it applies to. Host-network pods are never among them.
    pub subject: Pods,
    /// What it says of traffic to them.
    pub ingress: Block,
    /// What it says of traffic from them.
    pub egress: Block,
}

/// Whether a policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Mode {
    /// It decides.
    #[default]
    Enforce,
    /// It changes no verdict. What it would decide is known by compiling it as if it did: [`Policy::enforced`].
    Audit,
}

/// The level of the namespace tier at which every `NetworkPolicy` stands.
pub const NETWORK_POLICY_LEVEL: i32 = 1000;

/// What a policy says of one direction.
#[derive(Clone, Debug, PartialEq, Eq, Default, Hash)]
pub struct Block {
    /// Whether the subject is isolated: what no rule of the tier allows is denied. (Namespaced kinds only.)
    pub isolates: bool,
    /// The rules, in the order of the object.
    pub rules: Vec<Rule>,
}

/// One rule: traffic with one of these peers and on one of these ports gets this action.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The name that the object gives it, if any.
    pub name: Option<Arc<str>>,
    /// `spec.ingress[2]`
    pub path: Arc<str>,
    /// What happens to matching traffic.
    pub action: Action,
    /// The other ends.
    pub peers: Peers,
    /// The destination ports.
    pub ports: Ports,
    /// What must be asked over the connection; `None` if that does not matter. Then the ports are TCP's.
    pub asks: Option<Arc<Asks>>,
}

/// The other ends of a rule. An absent list and an empty one are different things.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peers {
    /// Everyone.
    Any,
    /// Those that one of these matches; nobody if the list is empty.
    AnyOf(Vec<Peer>),
}

/// One entry of a peer list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// `spec.ingress[2].from[0]`
    pub path: Arc<str>,
    /// Who is meant.
    pub term: PeerTerm,
}

/// Who is meant by a peer. Two equal terms select the same peers, whichever object they stand in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerTerm {
    /// Pods, by namespace and labels; never host-network pods.
    Pods(Pods),
    /// The addresses of nodes.
    Nodes(Selector<OfNode>),
    /// Plain addresses, those of pods and nodes included.
    Network(Network),
    /// A DNS name, or `*.` and a name. Kept, and not enforceable yet: matches nobody, which is closed for an allow.
    Domain(Arc<str>),
}

/// Pods, by namespace and labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pods {
    /// The namespaces.
    pub namespaces: Namespaces,
    /// The pods in them.
    pub pods: Selector<OfPod>,
}

impl Pods {
    /// All pods of the cluster.
    pub fn everything() -> Self {
        Self { namespaces: Namespaces::Matching(Selector::everything()), pods: Selector::everything() }
    }
}

/// Namespaces, by name or by labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespaces {
    /// Just this one: the policy's own.
    Named(Arc<str>),
    /// Those whose labels match.
    Matching(Selector<OfNamespace>),
}

/// Addresses in a prefix and in none of the exceptions. All canonical: no bit below the prefix length is set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// The prefix.
    pub cidr: IpNet,
    /// Prefixes within it that are not meant; sorted.
    pub except: Vec<IpNet>,
}

/// The destination ports of a rule. An absent list and an empty one are different things.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ports {
    /// Every protocol, those without ports (ICMP) included.
    Any,
    /// What one of these matches; nothing if the list is empty.
    AnyOf(Vec<Port>),
}

/// One entry of a port list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    /// `spec.ingress[2].ports[0]`
    pub path: Arc<str>,
    /// Which ports are meant.
    pub term: PortTerm,
}

/// Which destination ports are meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortTerm {
    /// Every port of a protocol.
    Protocol(Transport),
    /// Ports `first` to `last`, both included; 1 to 65535.
    Range {
        /// The protocol.
        transport: Transport,
        /// The first port.
        first: u16,
        /// The last port, not below the first.
        last: u16,
    },
    /// The port that the destination pod gives this name; `transport` is `None` where the name alone counts.
    Named {
        /// The protocol, if the rule fixes it.
        transport: Option<Transport>,
        /// The name of a container port.
        name: Arc<str>,
    },
}

impl Policy {
    /// The order in which the policies of a tier are asked: by priority, then by kind and name (which is how equal
    /// priorities are decided), and for namespaced kinds by namespace.
    pub fn order(&self) -> impl Ord {
        (self.tier, self.priority, self.object.clone())
    }

    /// The same policy, in force whatever its mode is.
    #[must_use]
    pub fn enforced(&self) -> Self {
        Self { mode: Mode::Enforce, ..self.clone() }
    }

    /// What it says of a direction.
    pub fn block(&self, direction: Direction) -> &Block {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// The place of a field in a file, if the object came from one.
    pub fn locate(&self, path: &str) -> Option<Location> {
        self.source.as_ref().map(|source| source.locate(path))
    }
}
