//! Small clusters, and findings as text.

use std::sync::Arc;

use datapath::abi::Transport;
use serde_json::Value;

use super::review;
use crate::api::PolicyObject;
use crate::compiler::{Compiler, Scope};
use crate::facts::{Cluster, ContainerPort, Namespace, Phase, Pod, Workload};
use crate::labels::Labels;
use crate::lower::lower;
use crate::object::PodKey;

/// A pod `ns/name`, with an address made from its number.
pub(super) fn pod(name: &str, number: u8, labels: &[(&str, &str)], ports: &[(&str, Transport, u16)]) -> Pod {
    let (namespace, name) = name.split_once('/').unwrap();
    let port = |&(name, transport, port): &(&str, Transport, u16)| ContainerPort {
        name: name.into(),
        transport,
        port,
    };
    Pod {
        key: PodKey::new(namespace, name),
        uid: "".into(),
        labels: Labels::new(labels.iter().copied()),
        addresses: vec![[10, 0, 0, number].into()],
        addresses_made_up: false,
        host_network: false,
        phase: Phase::Running,
        node: None,
        ports: ports.iter().map(port).collect(),
        workload: Workload { kind: "Deployment".into(), name: name.into() },
        created: None,
    }
}

/// A cluster of these pods; their namespaces are labelled `team: NAME`.
pub(super) fn cluster(pods: impl IntoIterator<Item = Pod>) -> Cluster {
    let mut cluster = Cluster::default();
    for pod in pods {
        let name = Arc::clone(&pod.key.namespace);
        let labels = [("team".to_owned(), name.to_string())];
        cluster.namespaces.insert(Arc::clone(&name), Arc::new(Namespace::new(&name, labels, false)));
        cluster.pods.insert(pod.key.clone(), Arc::new(pod));
    }
    cluster
}

/// A NetworkPolicy `prod/name`.
pub(super) fn network_policy(name: &str, spec: &Value) -> PolicyObject {
    let metadata = serde_json::json!({"name": name, "namespace": "prod"});
    PolicyObject::NetworkPolicy(
        serde_json::from_value(serde_json::json!({"metadata": metadata, "spec": spec})).unwrap(),
    )
}

/// A `ClusterNetworkPolicy`.
pub(super) fn cluster_policy(name: &str, spec: &Value) -> PolicyObject {
    let object = serde_json::json!({"metadata": {"name": name}, "spec": spec});
    PolicyObject::ClusterNetworkPolicy(serde_json::from_value(object).unwrap())
}

/// `warning selector-matches-nothing NetworkPolicy prod/api: spec.podSelector: ...; expected ...`
pub(super) fn found(cluster: &Cluster, policies: &[PolicyObject]) -> Vec<String> {
    let policies = policies.iter().map(|policy| Arc::new(lower(policy, None).unwrap().policy));
    let compiler = Compiler::compile(Scope::All, cluster, policies);
    let problems = review(&compiler);
    problems.iter().map(|problem| format!("{} {} {problem}", problem.severity.name(), problem.id)).collect()
}
