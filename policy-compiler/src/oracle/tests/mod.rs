//! The oracle against `docs/reference/semantics.md`: one claim per test, one row per way to write a field.

mod cluster_wide;
mod facts;
mod network_policy;

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::facts::{ContainerPort, Namespace, Node, Workload};
use crate::labels::{Labels, OfPod};

/// Pods and nodes as the rows below speak of them. `a/web` is the pod that is judged.
///
/// ```text
/// a/web 10.0.0.1 fd00::1  app=web, port http TCP 8080, dns UDP 53, dns TCP 5353    on n1
/// a/db  10.0.0.2          app=db, port http TCP 9090                               on n1
/// b/web 10.0.0.3          app=web                                                  on n2
/// b/job 10.0.0.4          kubernetes.io/metadata.name=a, port http UDP 8080        on n2
/// n1 10.0.1.1 zone=x, n2 10.0.1.2 fd00::1:2 zone=y; namespace a team=red, b unknown
/// ```
pub(super) fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let red = [("team".to_owned(), "red".to_owned())];
    cluster.namespaces.insert("a".into(), Arc::new(Namespace::new("a", red, false)));
    for (name, zone, addresses) in [("n1", "x", vec!["10.0.1.1"]), ("n2", "y", vec!["10.0.1.2", "fd00::1:2"])]
    {
        let addresses = addresses.into_iter().map(ip).collect();
        let node = Node { name: name.into(), labels: Labels::new([("zone", zone)]), addresses };
        cluster.nodes.insert(name.into(), Arc::new(node));
    }
    let http = |transport, port| ContainerPort { name: "http".into(), transport, port };
    let dns = |transport, port| ContainerPort { name: "dns".into(), transport, port };
    let app = |app: &str| Labels::new([("app", app)]);
    let of_web = vec![http(Transport::Tcp, 8080), dns(Transport::Udp, 53), dns(Transport::Tcp, 5353)];
    put(&mut cluster, Pod { ports: of_web, ..pod("a/web", &["10.0.0.1", "fd00::1"], app("web")) });
    put(
        &mut cluster,
        Pod { ports: vec![http(Transport::Tcp, 9090)], ..pod("a/db", &["10.0.0.2"], app("db")) },
    );
    put(&mut cluster, pod("b/web", &["10.0.0.3"], app("web")));
    let disguised = Labels::new([("kubernetes.io/metadata.name", "a"), ("team", "red")]);
    put(
        &mut cluster,
        Pod { ports: vec![http(Transport::Udp, 8080)], ..pod("b/job", &["10.0.0.4"], disguised) },
    );
    cluster
}

pub(super) fn pod(key: &str, addresses: &[&str], labels: Labels<OfPod>) -> Pod {
    let key = pod_key(key);
    Pod {
        uid: key.to_string().into(),
        labels,
        addresses: addresses.iter().map(|address| ip(address)).collect(),
        addresses_made_up: false,
        host_network: false,
        phase: Phase::Running,
        node: None,
        ports: Vec::new(),
        workload: Workload { kind: "Pod".into(), name: Arc::clone(&key.name) },
        created: None,
        key,
    }
}

pub(super) fn put(cluster: &mut Cluster, pod: Pod) {
    cluster.pods.insert(pod.key.clone(), Arc::new(pod));
}

pub(super) fn pod_key(key: &str) -> PodKey {
    let (namespace, name) = key.split_once('/').unwrap();
    PodKey::new(namespace, name)
}

pub(super) fn ip(address: &str) -> IpAddr {
    address.parse().unwrap()
}

/// `a/web <- 10.0.0.2 tcp/80` or `a/web -> 10.0.0.2 icmp`.
pub(super) fn packet(text: &str) -> Packet {
    let [pod, arrow, peer, protocol] = text.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let direction = if arrow == "<-" { Direction::Ingress } else { Direction::Egress };
    let protocol = match protocol.split_once('/') {
        Some(("tcp", port)) => Protocol::Transport(Transport::Tcp, port.parse().unwrap()),
        Some(("udp", port)) => Protocol::Transport(Transport::Udp, port.parse().unwrap()),
        Some(("sctp", port)) => Protocol::Transport(Transport::Sctp, port.parse().unwrap()),
        _ if protocol == "icmp" => Protocol::Other(1),
        _ if protocol == "icmpv6" => Protocol::Other(58),
        _ => panic!("no protocol {protocol}"),
    };
    Packet { pod: pod_key(pod), direction, peer: ip(peer), protocol, from_own_node: false }
}

/// A `NetworkPolicy` of namespace `a`.
pub(super) fn network_policy(spec: &Value) -> PolicyObject {
    let object = json!({"metadata": {"name": "np", "namespace": "a"}, "spec": spec});
    PolicyObject::NetworkPolicy(serde_json::from_value(object).unwrap())
}

pub(super) fn cluster_network_policy(name: &str, spec: &Value) -> PolicyObject {
    let object = json!({"metadata": {"name": name}, "spec": spec});
    PolicyObject::ClusterNetworkPolicy(serde_json::from_value(object).unwrap())
}

pub(super) fn admin_network_policy(name: &str, spec: &Value) -> PolicyObject {
    let object = json!({"metadata": {"name": name}, "spec": spec});
    PolicyObject::AdminNetworkPolicy(serde_json::from_value(object).unwrap())
}

pub(super) fn baseline_admin_network_policy(spec: &Value) -> PolicyObject {
    let object = json!({"metadata": {"name": "default"}, "spec": spec});
    PolicyObject::BaselineAdminNetworkPolicy(serde_json::from_value(object).unwrap())
}

/// Asserts which of the packets are allowed; those that begin with `!` must be denied.
#[track_caller]
pub(super) fn expect(policies: &[PolicyObject], cluster: &Cluster, packets: &[&str]) {
    for text in packets {
        let (answer, rest) = match text.strip_prefix('!') {
            Some(rest) => (Answer::Deny, rest),
            None => (Answer::Allow, *text),
        };
        assert_eq!(judge(policies, cluster, &packet(rest)), answer, "{rest}\n{policies:#?}");
    }
}
