#![expect(clippy::needless_pass_by_value, reason = "manifests are written where they are used")]

use datapath::abi::Transport;
use serde_json::{Value, json};

use super::super::name;
use super::super::testing::{
    self, equal, errors, lowered, named, network, peer, pods_of, policy, range, remarks,
};
use super::*;
use crate::object::ObjectRef;
use crate::policy::{Block, Mode, PeerTerm, Peers, Ports, Rule};

fn admin(fields: Value) -> Value {
    let mut spec = json!({"priority": 1, "subject": {"namespaces": {}}});
    for (field, value) in fields.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({"kind": "AdminNetworkPolicy", "metadata": {"name": "p"}, "spec": spec})
}

fn baseline(fields: Value) -> Value {
    let mut spec = json!({"subject": {"namespaces": {}}});
    for (field, value) in fields.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({"kind": "BaselineAdminNetworkPolicy", "metadata": {"name": "default"}, "spec": spec})
}

fn port(port: Value) -> Value {
    admin(json!({"egress": [{"action": "Allow", "to": [{"namespaces": {}}], "ports": [port]}]}))
}

fn port_of(item: Value) -> PortTerm {
    match policy(port(item)).egress.rules.remove(0).ports {
        Ports::AnyOf(mut ports) if ports.len() == 1 => ports.remove(0).term,
        other => panic!("not one port: {other:?}"),
    }
}

#[test]
fn a_whole_policy_is_lowered_field_by_field_and_a_baseline_like_it() {
    let label = |value: &str| json!({"matchLabels": {"x": value}});
    let fields = json!({
        "subject": {"pods": {"namespaceSelector": label("n"), "podSelector": label("p")}},
        "ingress": [{
            "name": "first",
            "action": "Deny",
            "from": [{"namespaces": label("m")}],
            "ports": [{"portNumber": {"protocol": "UDP", "port": 53}}],
        }],
        "egress": [{"action": "Allow", "to": [{"networks": ["0.0.0.0/0"]}]}],
    });
    let expected = Policy {
        object: ObjectRef::cluster("AdminNetworkPolicy", "p"),
        source: None,
        tier: Tier::Admin,
        mode: Mode::Enforce,
        log: false,
        priority: 1,
        subject: pods_of([equal("x", "n")], [equal("x", "p")]),
        ingress: Block {
            isolates: false,
            rules: vec![Rule {
                asks: None,
                name: Some("first".into()),
                path: "spec.ingress[0]".into(),
                action: Action::Deny,
                peers: Peers::AnyOf(vec![peer(
                    "spec.ingress[0].from[0]",
                    PeerTerm::Pods(pods_of([equal("x", "m")], [])),
                )]),
                ports: Ports::AnyOf(vec![testing::port(
                    "spec.ingress[0].ports[0]",
                    range(Transport::Udp, 53, 53),
                )]),
            }],
        },
        egress: Block {
            isolates: false,
            rules: vec![Rule {
                asks: None,
                name: None,
                path: "spec.egress[0]".into(),
                action: Action::Allow,
                peers: Peers::AnyOf(vec![peer(
                    "spec.egress[0].to[0].networks[0]",
                    network("0.0.0.0/0", &[]),
                )]),
                ports: Ports::Any,
            }],
        },
    };
    assert_eq!(policy(admin(fields.clone())), expected);
    let object = ObjectRef::cluster("BaselineAdminNetworkPolicy", "default");
    let expected = Policy { object, tier: Tier::Baseline, priority: 0, ..expected };
    assert_eq!(policy(baseline(fields)), expected);
}

#[test]
fn only_a_baseline_cannot_pass() {
    let rules = |action: &str| json!({"ingress": [{"action": action, "from": [{"namespaces": {}}]}]});
    for (action, expected) in [("Allow", Action::Allow), ("Deny", Action::Deny), ("Pass", Action::Pass)] {
        assert_eq!(policy(admin(rules(action))).ingress.rules[0].action, expected);
    }
    for (action, expected) in [("Allow", Action::Allow), ("Deny", Action::Deny)] {
        assert_eq!(policy(baseline(rules(action))).ingress.rules[0].action, expected);
    }
    assert_eq!(
        errors(baseline(rules("Pass"))),
        ["spec.ingress[0].action: \"Pass\" is not an action; expected Allow or Deny"]
    );
    assert_eq!(
        errors(admin(rules("Accept"))),
        ["spec.ingress[0].action: \"Accept\" is not an action; expected Allow, Deny or Pass"]
    );
}

#[test]
fn a_baseline_is_named_default() {
    let named = |metadata: Value| {
        errors(
            json!({"kind": "BaselineAdminNetworkPolicy", "metadata": metadata, "spec": {"subject": {"namespaces": {}}}}),
        )
    };
    assert_eq!(
        named(json!({"name": "other"})),
        ["metadata.name: \"other\" is not the name of the one BaselineAdminNetworkPolicy; expected default"]
    );
    assert_eq!(
        named(json!({})),
        [format!("metadata.name: the name is missing; expected {}", name::DNS_SUBDOMAIN)]
    );
}

#[test]
fn a_baseline_is_asked_before_every_cluster_network_policy_of_its_tier() {
    let cluster = |priority: i32| {
        policy(json!({
            "kind": "ClusterNetworkPolicy",
            "metadata": {"name": "a"},
            "spec": {"tier": "Baseline", "priority": priority, "subject": {"namespaces": {}}},
        }))
    };
    let mut policies = [cluster(1), cluster(0), policy(baseline(json!({})))];
    policies.sort_by(|one, two| one.order().cmp(&two.order()));
    let order: Vec<String> =
        policies.iter().map(|one| format!("{} {}", one.object.kind, one.priority)).collect();
    assert_eq!(order, ["BaselineAdminNetworkPolicy 0", "ClusterNetworkPolicy 0", "ClusterNetworkPolicy 1"]);
}

#[test]
fn everything_that_is_missing_is_named_at_once() {
    let missing_name = format!("metadata.name: the name is missing; expected {}", name::DNS_SUBDOMAIN);
    let missing_subject =
        "spec.subject: no field is set; expected exactly one of namespaces and pods".to_owned();
    assert_eq!(
        errors(json!({"kind": "AdminNetworkPolicy"})),
        [
            missing_name.clone(),
            "spec.priority: the priority is missing; expected 0 to 1000".to_owned(),
            missing_subject.clone(),
        ]
    );
    assert_eq!(
        errors(json!({"kind": "BaselineAdminNetworkPolicy", "spec": null})),
        [missing_name, missing_subject]
    );
    assert_eq!(
        errors(admin(json!({"subject": {"pods": {}}}))),
        [
            "spec.subject.pods.namespaceSelector: the selector is missing; expected a selector; {} selects everything",
            "spec.subject.pods.podSelector: the selector is missing; expected a selector; {} selects everything",
        ]
    );
}

/// K1
#[test]
fn priorities_go_from_0_to_1000() {
    for priority in [0, 1000] {
        assert_eq!(policy(admin(json!({"priority": priority}))).priority, priority);
    }
    for priority in [-1, 1001, i32::MAX] {
        assert_eq!(
            errors(admin(json!({"priority": priority}))),
            [format!("spec.priority: priority {priority} is out of range; expected 0 to 1000")]
        );
    }
}

#[test]
fn rules_and_their_lists_have_bounds() {
    let many = |item: Value, count: usize| Value::Array(vec![item; count]);
    let fields = |peers, ports, rules| {
        let port = json!({"portNumber": {"port": 1}});
        let rule =
            json!({"action": "Deny", "to": many(json!({"nodes": {}}), peers), "ports": many(port, ports)});
        json!({"egress": many(rule, rules)})
    };
    for manifest in [admin, baseline] {
        assert_eq!(policy(manifest(fields(100, 100, 100))).egress.rules.len(), 100);
        assert_eq!(
            errors(manifest(fields(101, 101, 1))),
            [
                "spec.egress[0].to: the list has 101 items; expected 1 to 100 items",
                "spec.egress[0].ports: the list has 101 items; expected 1 to 100 items",
            ]
        );
        assert_eq!(
            errors(manifest(fields(0, 0, 1))),
            [
                "spec.egress[0].to: the list is missing or empty; expected 1 to 100 items",
                "spec.egress[0].ports: the list is missing or empty; expected 1 to 100 items",
            ]
        );
        assert_eq!(
            errors(manifest(fields(1, 1, 101))),
            ["spec.egress: the list has 101 items; expected at most 100 items"]
        );
    }
}

#[test]
fn ports_are_lowered_as_they_are_meant() {
    for (item, expected) in [
        (json!({"portNumber": {"port": 80}}), range(Transport::Tcp, 80, 80)),
        (json!({"portNumber": {"protocol": "SCTP", "port": 65535}}), range(Transport::Sctp, 65535, 65535)),
        (json!({"portRange": {"start": 1, "end": 65535}}), range(Transport::Tcp, 1, 65535)),
        (json!({"portRange": {"protocol": "UDP", "start": 80, "end": 80}}), range(Transport::Udp, 80, 80)),
        (json!({"namedPort": "http", "portRange": null}), named(None, "http")),
    ] {
        assert_eq!(port_of(item.clone()), expected, "{item}");
    }
    let path = "spec.ingress[0].ports";
    let rule = json!({"action": "Allow", "from": [{"namespaces": {}}], "ports": null});
    let lowered = policy(admin(json!({"ingress": [rule]})));
    assert_eq!(lowered.ingress.rules[0].ports, Ports::Any, "{path}: null is absent");
}

#[test]
fn wrong_ports_are_refused() {
    let item = "spec.egress[0].ports[0]";
    let one = "expected exactly one of portNumber, namedPort and portRange";
    let bounds = "expected a port from 1 to 65535";
    for (fields, expected) in [
        (json!({}), vec![format!("{item}: no field is set; {one}")]),
        (
            json!({"portNumber": {"port": 1}, "namedPort": "a"}),
            vec![format!("{item}: portNumber and namedPort are set; {one}")],
        ),
        (
            json!({"portNumber": {"protocol": "ICMP"}}),
            vec![
                format!("{item}.portNumber.protocol: \"ICMP\" is not a protocol; expected TCP, UDP or SCTP"),
                format!("{item}.portNumber.port: the port is missing; {bounds}"),
            ],
        ),
        (
            json!({"portNumber": {"port": 65536}}),
            vec![format!("{item}.portNumber.port: port 65536 is out of range; {bounds}")],
        ),
        (
            json!({"portRange": {"start": 0}}),
            vec![
                format!("{item}.portRange.start: port 0 is out of range; {bounds}"),
                format!("{item}.portRange.end: the port is missing; {bounds}"),
            ],
        ),
        (
            json!({"portRange": {"start": 81, "end": 80}}),
            vec![format!("{item}.portRange: start 81 is above end 80; expected start not above end")],
        ),
    ] {
        assert_eq!(errors(port(fields)), expected);
    }
}

#[test]
fn named_ports_stand_only_beside_peers_that_are_pods() {
    for manifest in [admin, baseline] {
        for (other, field) in [(json!({"nodes": {}}), "nodes"), (json!({"networks": ["::/0"]}), "networks")] {
            let rule = json!({"action": "Deny", "to": [other], "ports": [{"namedPort": "http"}]});
            assert_eq!(
                errors(manifest(json!({"egress": [rule]}))),
                [format!(
                    "spec.egress[0]: the named port \"http\" stands beside a {field} peer, which has no named ports; \
                     expected port numbers, or a rule of its own for the peers that are pods"
                )]
            );
        }
    }
}

#[test]
fn domain_names_are_only_in_rules_of_an_admin_policy_that_allow() {
    let rule = |action: &str| json!({"egress": [{"action": action, "to": [{"domainNames": ["_dns.Example.com."]}]}]});
    let path = "spec.egress[0].to[0].domainNames";
    let allowed = admin(rule("Allow"));
    assert_eq!(
        lowered(allowed.clone()).policy.egress.rules[0].peers,
        Peers::AnyOf(vec![peer(&format!("{path}[0]"), PeerTerm::Domain("_dns.example.com".into()))])
    );
    assert_eq!(
        remarks(allowed),
        [format!(
            "warning not-enforceable {path}: domainNames are not enforceable yet: this peer matches nothing until DNS \
             policy exists, so that traffic to these names stays closed unless another rule allows it; expected \
             networks, to open these destinations today"
        )]
    );
    for action in ["Deny", "Pass"] {
        assert_eq!(
            errors(admin(rule(action))),
            [format!(
                "{path}: domainNames stand in a rule that does not let traffic through; expected action Allow, or \
                 another peer"
            )]
        );
    }
    assert_eq!(
        errors(baseline(rule("Allow"))),
        [format!(
            "{path}: BaselineAdminNetworkPolicy has no domainNames; expected namespaces, pods, nodes or networks"
        )]
    );
}

#[test]
fn networks_are_validated_as_in_cluster_network_policy() {
    let rule = json!({"action": "Deny", "to": [{"networks": ["10.0.0.0/8", "10.0.0.0/8", "01.0.0.0/8"]}]});
    let path = "spec.egress[0].to[0].networks";
    for manifest in [admin, baseline] {
        assert_eq!(
            errors(manifest(json!({"egress": [rule]}))),
            [
                format!("{path}[1]: \"10.0.0.0/8\" stands here and at [0]; expected every item once"),
                format!(
                    "{path}[2]: \"01.0.0.0/8\" has an octet with a leading zero, which some read as octal; expected an \
                     IPv4 or IPv6 prefix such as 10.0.0.0/8 or fd00::/8"
                ),
            ]
        );
    }
}
