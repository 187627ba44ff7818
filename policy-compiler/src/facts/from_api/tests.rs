//! Whole facts from objects as an API server gives them.

use serde_json::json;

use super::*;
use crate::labels::Labels;

fn pod(value: serde_json::Value) -> (Pod, Vec<String>) {
    let (pod, remarks) = Pod::from_api(&serde_json::from_value(value).unwrap());
    (pod, remarks.iter().map(ToString::to_string).collect())
}

fn named(name: &str, transport: Transport, port: u16) -> ContainerPort {
    ContainerPort { name: name.into(), transport, port }
}

fn addresses(of: &[&str]) -> Vec<IpAddr> {
    of.iter().map(|address| address.parse().unwrap()).collect()
}

#[test]
fn a_pod_keeps_what_policy_depends_on() {
    let (read, remarks) = pod(json!({
        "metadata": {
            "name": "web-6d4-x", "namespace": "prod", "uid": "u1", "creationTimestamp": "1970-01-01T00:01:00Z",
            "labels": {"app": "web", "pod-template-hash": "6d4"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6d4", "uid": "u0", "controller": true}],
        },
        "spec": {
            "nodeName": "n1",
            "initContainers": [
                {"name": "once", "ports": [{"name": "gone", "containerPort": 1}]},
                {"name": "side", "restartPolicy": "Always", "ports": [{"name": "mesh", "containerPort": 15001}]},
            ],
            "containers": [
                {"name": "a", "ports": [{"containerPort": 9}, {"name": "http", "containerPort": 8080}]},
                {"name": "b", "ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}]},
            ],
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
    }));
    let expected = Pod {
        key: PodKey::new("prod", "web-6d4-x"),
        uid: "u1".into(),
        labels: Labels::new([("app", "web"), ("pod-template-hash", "6d4")]),
        addresses: addresses(&["10.0.0.1", "fd00::1"]),
        addresses_made_up: false,
        host_network: false,
        phase: Phase::Running,
        node: Some("n1".into()),
        ports: vec![
            named("http", Transport::Tcp, 8080),
            named("dns", Transport::Udp, 53),
            named("mesh", Transport::Tcp, 15001),
        ],
        workload: Workload { kind: "ReplicaSet".into(), name: "web-6d4".into() },
        created: Some(60),
    };
    assert_eq!((read, remarks), (expected, Vec::new()));
}

#[test]
fn a_value_that_cannot_be_used_is_left_out_and_named() {
    let (read, remarks) = pod(json!({
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "ports": [
            {"name": "high", "containerPort": 70000},
            {"name": "odd", "containerPort": 80, "protocol": "ICMP"},
            {"name": "good", "containerPort": 80},
        ]}]},
        "status": {"podIPs": [{"ip": "10.0.0.300"}, {"ip": "10.0.0.3"}]},
    }));
    assert_eq!(read.addresses, addresses(&["10.0.0.3"]));
    assert_eq!(read.ports, [named("good", Transport::Tcp, 80)]);
    assert_eq!(
        remarks,
        [
            "Pod default/p: status.podIPs[0].ip: `10.0.0.300` is no IP address, left out; \
             expected an address such as 10.0.0.1 or fd00::1",
            "Pod default/p: spec.containers[0].ports[0].containerPort: port 70000 is out of range, left out; \
             expected a port from 1 to 65535",
            "Pod default/p: spec.containers[0].ports[1].protocol: protocol `ICMP` is unknown, left out; \
             expected TCP, UDP or SCTP",
        ]
    );
}

#[test]
fn the_single_address_counts_only_without_the_list() {
    let both =
        json!({"metadata": {"name": "p"}, "status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.2"}]}});
    assert_eq!(pod(both).0.addresses, addresses(&["10.0.0.2"]));
    let single = json!({"metadata": {"name": "p"}, "status": {"podIP": "10.0.0.1", "podIPs": []}});
    assert_eq!(pod(single).0.addresses, addresses(&["10.0.0.1"]));
}

#[test]
fn a_pod_belongs_to_its_controller_as_far_as_it_can_tell() {
    let owned = |kind: &str, name: &str, controller: Option<bool>| {
        pod(json!({"metadata": {
            "name": "p",
            "ownerReferences": [{"apiVersion": "v1", "kind": kind, "name": name, "uid": "", "controller": controller}],
        }}))
        .0
        .workload
    };
    for (kind, name, controller, expected) in [
        ("ReplicaSet", "web-abc", Some(true), ("ReplicaSet", "web-abc")),
        ("StatefulSet", "db", None, ("StatefulSet", "db")),
        ("Job", "backup-1", Some(false), ("Pod", "p")),
    ] {
        let expected = Workload { kind: expected.0.into(), name: expected.1.into() };
        assert_eq!(owned(kind, name, controller), expected, "{kind} {name}");
    }
}

#[test]
fn a_namespace_being_deleted_is_terminating() {
    let terminating = |value| Namespace::from_api(&serde_json::from_value(value).unwrap()).terminating;
    assert!(!terminating(json!({"metadata": {"name": "a"}, "status": {"phase": "Active"}})));
    assert!(terminating(json!({"metadata": {"name": "a"}, "status": {"phase": "Terminating"}})));
    assert!(terminating(json!({"metadata": {"name": "a", "deletionTimestamp": "2024-01-01T00:00:00Z"}})));
}

#[test]
fn a_node_has_all_its_ip_addresses_and_only_those() {
    let (node, remarks) = Node::from_api(
        &serde_json::from_value(json!({
            "metadata": {"name": "n1", "labels": {"zone": "a"}},
            "status": {"addresses": [
                {"type": "InternalIP", "address": "192.168.0.1"},
                {"type": "Hostname", "address": "n1"},
                {"type": "Hostname", "address": "192.168.0.2"},
                {"type": "ExternalIP", "address": "none"},
            ]},
        }))
        .unwrap(),
    );
    let expected = Node {
        name: "n1".into(),
        labels: Labels::new([("zone", "a")]),
        addresses: addresses(&["192.168.0.1", "192.168.0.2"]).into_iter().collect(),
    };
    assert_eq!(node, expected);
    let remarks: Vec<_> =
        remarks.into_iter().map(|problem| (problem.severity, problem.id, problem.path)).collect();
    assert_eq!(remarks, [(Severity::Warning, UNUSABLE_VALUE, "status.addresses[3].address".to_owned())]);
}

#[test]
fn a_service_port_without_a_target_targets_itself() {
    let (service, remarks) = Service::from_api(
        &serde_json::from_value(json!({
            "metadata": {"name": "s", "namespace": "prod"},
            "spec": {
                "clusterIP": "None", "clusterIPs": ["10.96.0.1"], "externalIPs": ["1.2.3.4"], "selector": {"app": "web"},
                "ports": [
                    {"name": "a", "port": 80},
                    {"port": 81, "targetPort": "http", "protocol": "UDP"},
                    {"port": 82, "targetPort": 8082},
                ],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "5.6.7.8"}, {"hostname": "lb.example"}]}},
        }))
        .unwrap(),
    );
    let port = |name: Option<&str>, transport, port, target| ServicePort {
        name: name.map(Into::into),
        transport,
        port,
        target,
    };
    let expected = Service {
        namespace: "prod".into(),
        name: "s".into(),
        selector: Some([("app".into(), "web".into())].into()),
        addresses: addresses(&["10.96.0.1", "1.2.3.4", "5.6.7.8"]).into_iter().collect(),
        ports: vec![
            port(Some("a"), Transport::Tcp, 80, TargetPort::Number(80)),
            port(None, Transport::Udp, 81, TargetPort::Name("http".into())),
            port(None, Transport::Tcp, 82, TargetPort::Number(8082)),
        ],
    };
    assert_eq!((service, remarks), (expected, Vec::new()));
}

#[test]
fn an_endpoint_slice_names_its_service_by_label_or_owner() {
    let slice = |metadata| {
        let value = json!({
            "metadata": metadata, "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.9"]}],
            "ports": [{"name": "", "port": 80}, {"name": "any"}],
        });
        EndpointSlice::from_api(&serde_json::from_value(value).unwrap())
    };
    let expected = EndpointSlice {
        namespace: "default".into(),
        name: "s-1".into(),
        service: Some("s".into()),
        addresses: addresses(&["10.0.0.9"]).into_iter().collect(),
        ports: vec![(None, Transport::Tcp, 80)],
    };
    let labelled = slice(json!({"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}}));
    assert_eq!(labelled, (expected.clone(), Vec::new()));
    let owned = slice(json!({
        "name": "s-1",
        "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "s", "uid": ""}],
    }));
    assert_eq!(owned, (expected, Vec::new()));
}
