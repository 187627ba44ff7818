//! Mistakes that were made, here or elsewhere, each as a test of its own.

#![expect(clippy::unwrap_used, reason = "the inputs are made here")]

use std::net::IpAddr;
use std::sync::Arc;

use datapath::abi::{Direction, Transport};
use datapath::lookup::{Origin, Query};
use policy_compiler::api::PolicyObject;
use policy_compiler::compiler::{Compiler, Event, Scope};
use policy_compiler::facts::{Cluster, ContainerPort, Namespace, Phase, Pod, Workload};
use policy_compiler::labels::Labels;
use policy_compiler::lower::lower;
use policy_compiler::object::{ObjectRef, PodKey};
use policy_compiler::policy::Policy;
use policy_compiler::tables::address;
use serde_json::{Value, json};

fn pod(name: &str, ip: &str, ports: &[(&str, u16)]) -> Pod {
    let port =
        |&(name, port): &(&str, u16)| ContainerPort { name: name.into(), transport: Transport::Tcp, port };
    Pod {
        key: PodKey::new("a", name),
        uid: format!("uid-{name}-{ip}").into(),
        labels: Labels::new([("app", name)]),
        addresses: vec![ip.parse().unwrap()],
        addresses_made_up: false,
        host_network: false,
        phase: Phase::Running,
        node: None,
        ports: ports.iter().map(port).collect(),
        workload: Workload { kind: "Pod".into(), name: name.into() },
        created: None,
    }
}

fn policy(name: &str, spec: &Value) -> Arc<Policy> {
    let object = json!({"metadata": {"name": name, "namespace": "a"}, "spec": spec});
    let object = PolicyObject::NetworkPolicy(serde_json::from_value(object).unwrap());
    Arc::new(lower(&object, None).unwrap().policy)
}

fn compile(pods: &[Pod], policies: &[Arc<Policy>]) -> Compiler {
    let mut cluster = Cluster::default();
    for pod in pods {
        cluster.pods.insert(pod.key.clone(), Arc::new(pod.clone()));
    }
    Compiler::compile(Scope::All, &cluster, policies.iter().cloned())
}

fn allows(compiler: &Compiler, pod: &str, direction: Direction, peer: &str, port: u16) -> bool {
    let peer = address(peer.parse::<IpAddr>().unwrap());
    let query = Query { direction, peer, port: Some((Transport::Tcp, port)), origin: Origin::Elsewhere };
    compiler.judge(&PodKey::new("a", pod), &query).verdict.is_allow()
}

#[test]
fn a_named_port_does_not_widen_the_number_beside_it() {
    // The rule for anybody names 80 and http; a rule for others names 80 to 90. To a pod whose http is 8080 only 80 and
    // 8080 are open: its other ports of that range must not become part of the rule for anybody.
    let pods =
        [pod("me", "10.0.0.1", &[]), pod("x", "10.0.0.2", &[]), pod("y", "10.0.0.3", &[("http", 8080)])];
    let both = policy(
        "both",
        &json!({"podSelector": {"matchLabels": {"app": "me"}}, "policyTypes": ["Egress"],
        "egress": [{"ports": [{"port": 80}, {"port": "http"}]}]}),
    );
    let range = policy(
        "range",
        &json!({"podSelector": {"matchLabels": {"app": "me"}}, "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "x"}}}], "ports": [{"port": 80, "endPort": 90}]}]}),
    );
    let compiler = compile(&pods, &[both, range]);
    let open = |peer: &str| -> Vec<u16> {
        [79, 80, 81, 85, 90, 91, 8080]
            .into_iter()
            .filter(|&port| allows(&compiler, "me", Direction::Egress, peer, port))
            .collect()
    };
    assert_eq!(open("10.0.0.3"), [80, 8080]);
    assert_eq!(open("10.0.0.2"), [80, 81, 85, 90]);
}

#[test]
fn a_late_deletion_never_removes_a_successor() {
    // F5: the pod was made anew under its name before the deletion of the old one was heard of.
    let mut compiler = compile(&[], &[policy("closed", &json!({"podSelector": {}}))]);
    let (old, new) = (pod("web", "10.0.0.1", &[]), pod("web", "10.0.0.2", &[]));
    let old_uid = Arc::clone(&old.uid);
    compiler.apply([Event::Pod(Box::new(old)), Event::Pod(Box::new(new.clone()))]);
    compiler.apply([Event::PodGone { key: new.key.clone(), uid: Some(old_uid) }]);
    assert_eq!(compiler.cluster().pods.get(&new.key).map(|pod| &pod.addresses), Some(&new.addresses));
    compiler.apply([Event::PodGone { key: new.key.clone(), uid: Some(new.uid) }]);
    assert!(compiler.cluster().pods.is_empty() && compiler.tables().endpoints.is_empty());
}

#[test]
fn a_namespace_being_deleted_stays_isolated_until_its_last_pod_is_gone() {
    // CVE-2024-7598.
    let closed = policy("closed", &json!({"podSelector": {}}));
    let mut compiler = compile(&[pod("web", "10.0.0.1", &[])], &[Arc::clone(&closed)]);
    compiler.apply([Event::Namespace(Namespace::new("a", [], true))]);
    compiler.apply([Event::PolicyGone(closed.object.clone())]);
    assert!(!allows(&compiler, "web", Direction::Ingress, "192.0.2.1", 80));
    assert_eq!(
        compiler.retained().iter().collect::<Vec<_>>(),
        [&ObjectRef::namespaced("NetworkPolicy", "a", "closed")]
    );
    compiler.apply([Event::PodGone { key: PodKey::new("a", "web"), uid: None }]);
    assert_eq!((compiler.retained().len(), compiler.policies().count()), (0, 0));
}

#[test]
fn an_address_belongs_to_the_pod_that_runs_and_of_those_to_the_youngest() {
    let claim = |name: &str, phase, created| Pod { phase, created, ..pod(name, "10.0.0.9", &[]) };
    let pods = [
        claim("finished", Phase::Finished, Some(9)),
        claim("pending", Phase::Pending, Some(8)),
        claim("old", Phase::Running, Some(1)),
        claim("young", Phase::Running, Some(2)),
        claim("zz-young", Phase::Running, Some(2)),
    ];
    for number in 0..pods.len() {
        let mut order = pods.to_vec();
        order.rotate_left(number);
        let mut compiler = Compiler::new(Scope::All);
        for pod in order {
            compiler.apply([Event::Pod(Box::new(pod))]);
        }
        assert_eq!(
            compiler.owner("10.0.0.9".parse().unwrap()).map(|pod| pod.key.to_string()),
            Some("a/young".to_owned())
        );
    }
}
