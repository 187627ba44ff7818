//! How each kind of policy writes a peer, a port and a rule; and the same lowered.

use std::sync::Arc;

use datapath::abi::{Direction, Transport};
use ipnet::IpNet;
use serde_json::{Map, Value, json};

use crate::explain::transport_name;
use crate::facts::Pod;
use crate::labels::{Condition, NAMESPACE_NAME_LABEL, Requirement, Selector};
use crate::policy::{Namespaces, Network, PeerTerm, Pods, Policy, PortTerm};

/// A kind of policy, as far as writing it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `NetworkPolicy`
    Network,
    /// `ClusterNetworkPolicy`
    Cluster,
    /// `AdminNetworkPolicy` and `BaselineAdminNetworkPolicy`
    Admin,
}

/// Something lowered and the same as it is written.
pub(super) struct Written<T> {
    pub(super) term: T,
    pub(super) value: Value,
}

/// Labels that controllers put on pods: they say which replica it is, or which revision, and not what it is.
const VOLATILE: &[&str] = &[
    "pod-template-hash",
    "pod-template-generation",
    "controller-revision-hash",
    "controller-uid",
    "job-name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "batch.kubernetes.io/job-completion-index",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
];

impl Dialect {
    pub(super) fn of(policy: &Policy) -> Option<Self> {
        match &*policy.object.kind {
            "NetworkPolicy" => Some(Self::Network),
            "ClusterNetworkPolicy" => Some(Self::Cluster),
            "AdminNetworkPolicy" | "BaselineAdminNetworkPolicy" => Some(Self::Admin),
            _ => None,
        }
    }

    /// The most rules of a direction, and the most peers or ports of a rule.
    pub(super) const fn most(self) -> (usize, usize) {
        match self {
            Self::Network => (usize::MAX, usize::MAX),
            Self::Cluster => (25, 25),
            Self::Admin => (100, 100),
        }
    }

    /// The name of a rule's list of ports.
    pub(super) const fn ports(self) -> &'static str {
        match self {
            Self::Network | Self::Admin => "ports",
            Self::Cluster => "protocols",
        }
    }

    /// A port.
    pub(super) fn port(self, transport: Transport, port: u16) -> Written<PortTerm> {
        let name = transport_name(transport);
        let value = match self {
            Self::Network => json!({"port": port, "protocol": name}),
            Self::Cluster => {
                // A computed key: `json!` wants literal ones.
                let field = name.to_ascii_lowercase();
                Value::Object(Map::from_iter([(field, json!({"destinationPort": {"number": port}}))]))
            }
            Self::Admin => json!({"portNumber": {"port": port, "protocol": name}}),
        };
        Written { term: PortTerm::Range { transport, first: port, last: port }, value }
    }

    /// The pods that are like this one: of its namespace and with its labels. `own` is the policy's namespace.
    pub(super) fn pods(self, pod: &Pod, own: Option<&Arc<str>>) -> Written<PeerTerm> {
        let stable: Vec<(Arc<str>, Arc<str>)> =
            pod.labels.pairs().filter(|(key, _)| !VOLATILE.contains(&&**key)).collect();
        let is_own = self == Self::Network && own == Some(&pod.key.namespace);
        let namespaces = if is_own {
            Namespaces::Named(Arc::clone(&pod.key.namespace))
        } else {
            Namespaces::Matching(Selector::new([equal(NAMESPACE_NAME_LABEL, &pod.key.namespace)]))
        };
        let selector = Selector::new(stable.iter().map(|(key, value)| equal(key, value)));
        let in_namespace = json!({"matchLabels": {NAMESPACE_NAME_LABEL: &*pod.key.namespace}});
        let with_labels = selector_value(&stable);
        let value = match self {
            Self::Network if is_own => json!({"podSelector": with_labels}),
            // In a namespace of its own, a peer without podSelector means all its pods.
            Self::Network if stable.is_empty() => json!({"namespaceSelector": in_namespace}),
            Self::Network => json!({"namespaceSelector": in_namespace, "podSelector": with_labels}),
            Self::Cluster | Self::Admin => {
                json!({"pods": {"namespaceSelector": in_namespace, "podSelector": with_labels}})
            }
        };
        Written { term: PeerTerm::Pods(Pods { namespaces, pods: selector }), value }
    }

    /// One address; `None` where the kind has no such peer.
    pub(super) fn address(
        self,
        address: std::net::IpAddr,
        direction: Direction,
    ) -> Option<Written<PeerTerm>> {
        let cidr = IpNet::from(address);
        let value = match (self, direction) {
            (Self::Network, _) => json!({"ipBlock": {"cidr": cidr.to_string()}}),
            (_, Direction::Egress) => json!({"networks": [cidr.to_string()]}),
            (_, Direction::Ingress) => return None,
        };
        Some(Written { term: PeerTerm::Network(Network { cidr, except: Vec::new() }), value })
    }

    /// A rule that allows.
    pub(super) fn rule(self, direction: Direction, peer: &Value, port: Option<&Value>) -> Value {
        let mut rule = Map::new();
        match self {
            Self::Network => {}
            Self::Cluster => {
                rule.insert("action".to_owned(), "Accept".into());
            }
            Self::Admin => {
                rule.insert("action".to_owned(), "Allow".into());
            }
        }
        let peers = match direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        };
        rule.insert(peers.to_owned(), json!([peer]));
        if let Some(port) = port {
            rule.insert(self.ports().to_owned(), json!([port]));
        }
        Value::Object(rule)
    }
}

/// `matchLabels` of these labels; everything if there are none.
pub(super) fn selector_value(labels: &[(Arc<str>, Arc<str>)]) -> Value {
    if labels.is_empty() {
        return json!({});
    }
    let labels: Map<String, Value> =
        labels.iter().map(|(key, value)| (key.to_string(), Value::from(&**value))).collect();
    json!({"matchLabels": labels})
}

/// The labels of a pod by which a new policy selects it.
pub(super) fn stable_labels(pod: &Pod) -> Vec<(Arc<str>, Arc<str>)> {
    pod.labels.pairs().filter(|(key, _)| !VOLATILE.contains(&&**key)).collect()
}

/// `key=value`
pub(super) fn equal(key: &str, value: &Arc<str>) -> Requirement {
    Requirement { key: key.into(), condition: Condition::In([Arc::clone(value)].into()) }
}
