//! Random facts: namespaces, pods and nodes from alphabets so small that everything collides.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use datapath::abi::Transport;
use policy_compiler::facts::{ContainerPort, Namespace, Node, Phase, Pod, Workload};
use policy_compiler::labels::{Labels, Space};
use policy_compiler::object::PodKey;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Joined with a pod's name, some of these give the same text: `a` + `b-c` and `a-b` + `c`.
pub const NAMESPACES: &[&str] = &["a", "a-b", "ab", "default"];
/// See [`NAMESPACES`].
pub const POD_NAMES: &[&str] = &["c", "bc", "b-c"];
/// The names of nodes.
pub const NODES: &[&str] = &["n1", "n2", "n3"];
/// The keys of all labels, the one that only the API server may put on a namespace included.
pub const KEYS: &[&str] = &["k", "l", "kubernetes.io/metadata.name"];
/// The values of all labels: the empty one and the names of namespaces are among them.
pub const VALUES: &[&str] = &["v", "", "a", "a-b"];
/// The names of container ports.
pub const PORT_NAMES: &[&str] = &["http", "dns"];
/// Every port that an object names: neighbours, both ends, and ports that the probes leave alone.
pub const PORTS: &[u16] = &[80, 1, 79, 81, 443, 8080, 65534, 65535];

/// A namespace.
pub fn namespace() -> impl Strategy<Value = Namespace> {
    let labels = vec((select(KEYS), select(VALUES)), 0..=2);
    (select(NAMESPACES), labels, prop::bool::weighted(0.2)).prop_map(|(name, labels, terminating)| {
        let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        Namespace::new(name, labels, terminating)
    })
}

/// A pod.
pub fn pod() -> BoxedStrategy<Pod> {
    let key = (select(NAMESPACES), select(POD_NAMES));
    let node = option::weighted(0.8, select(NODES));
    let created = option::weighted(0.7, 0..3_i64);
    let host_network = prop::bool::weighted(0.1);
    (key, labels(), addresses(), phase(), host_network, node, ports(), created, 0..2_u8)
        .prop_map(|((namespace, name), labels, addresses, phase, host_network, node, ports, created, uid)| {
            Pod {
                key: PodKey::new(namespace, name),
                uid: format!("{namespace}/{name}#{uid}").into(),
                labels,
                addresses,
                addresses_made_up: false,
                host_network,
                phase,
                node: node.map(Into::into),
                ports,
                workload: Workload { kind: "Pod".into(), name: name.into() },
                created,
            }
        })
        .boxed()
}

/// A node. Its addresses are from the pods' pools: an address can be a pod's and a node's.
pub fn node() -> impl Strategy<Value = Node> {
    (select(NODES), labels(), vec(address(), 0..=3)).prop_map(|(name, labels, addresses)| Node {
        name: name.into(),
        labels,
        addresses: addresses.into_iter().collect(),
    })
}

/// The labels of a pod or a node.
pub fn labels<S: Space>() -> impl Strategy<Value = Labels<S>> {
    vec((select(KEYS), select(VALUES)), 0..=3).prop_map(Labels::new::<&str, &str>)
}

/// The addresses of a pod: none, one or several, perhaps also another pod's.
pub fn addresses() -> impl Strategy<Value = Vec<IpAddr>> {
    prop_oneof![4 => vec(address(), 1..=1), 4 => vec(address(), 2..=3), 1 => Just(Vec::new())]
}

/// One of `10.0.0.0/28` or of `fd00::/124`.
pub fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        3 => (0..16_u8).prop_map(|last| Ipv4Addr::new(10, 0, 0, last).into()),
        2 => (0..16_u16).prop_map(|last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).into()),
    ]
}

/// Where a pod is in its life: mostly running.
pub fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![5 => Just(Phase::Running), 2 => Just(Phase::Pending), 1 => Just(Phase::Finished)]
}

/// The named ports of a pod: one name can stand for several numbers and protocols.
pub fn ports() -> impl Strategy<Value = Vec<ContainerPort>> {
    let port = (select(PORT_NAMES), transport(), select(PORTS));
    vec(
        port.prop_map(|(name, transport, port)| ContainerPort { name: Arc::from(name), transport, port }),
        0..=3,
    )
}

/// A protocol with ports.
pub fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![3 => Just(Transport::Tcp), 2 => Just(Transport::Udp), 1 => Just(Transport::Sctp)]
}
