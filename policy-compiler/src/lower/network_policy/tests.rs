#![expect(clippy::needless_pass_by_value, reason = "manifests are written where they are used")]

use datapath::abi::Transport;
use serde_json::{Value, json};

use super::super::lower as lower_object;
use super::super::testing::{
    self, equal, errors, lowered, named, object, pods_in, pods_of, policy, range, remarks, source,
};
use super::*;
use crate::object::ObjectRef;
use crate::problem::Problem;

fn manifest(spec: Value) -> Value {
    json!({"kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "prod"}, "spec": spec})
}

fn on_any_port(path: &str, peers: Peers) -> Rule {
    Rule { name: None, path: path.into(), action: Action::Allow, peers, ports: Ports::Any, asks: None }
}

/// An ingress rule with these peers and ports, which are left out if they are `null`.
fn rule(field: &str, peers: Value, ports: Value) -> Value {
    let mut rule = json!({});
    for (field, value) in [(field, peers), ("ports", ports)] {
        if !value.is_null() {
            rule[field] = value;
        }
    }
    rule
}

fn ingress(peers: Value, ports: Value) -> Value {
    manifest(json!({"podSelector": {}, "ingress": [rule("from", peers, ports)]}))
}

fn peer_errors(peer: Value) -> Vec<String> {
    errors(ingress(json!([peer]), Value::Null))
}

fn port_errors(port: Value) -> Vec<String> {
    errors(ingress(Value::Null, json!([port])))
}

fn term_of(peer: Value) -> PeerTerm {
    match policy(ingress(json!([peer]), Value::Null)).ingress.rules.remove(0).peers {
        Peers::AnyOf(mut peers) if peers.len() == 1 => peers.remove(0).term,
        other => panic!("not one peer: {other:?}"),
    }
}

fn port_of(port: Value) -> PortTerm {
    match policy(ingress(Value::Null, json!([port]))).ingress.rules.remove(0).ports {
        Ports::AnyOf(mut ports) if ports.len() == 1 => ports.remove(0).term,
        other => panic!("not one port: {other:?}"),
    }
}

#[test]
fn a_whole_policy_is_lowered_field_by_field() {
    let manifest = manifest(json!({
        "podSelector": {"matchLabels": {"app": "api"}},
        "policyTypes": ["Egress", "Ingress"],
        "ingress": [{
            "from": [
                {"podSelector": {"matchLabels": {"app": "web"}}},
                {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.2.0.0/16", "10.1.0.0/16"]}},
            ],
            "ports": [{"port": 8080}, {"protocol": "UDP", "port": "dns"}],
        }],
        "egress": [{"to": [{"namespaceSelector": {}}]}, {}],
    }));
    let any_pod = PeerTerm::Pods(pods_of([], []));
    let expected = Policy {
        object: ObjectRef::namespaced("NetworkPolicy", "prod", "p"),
        source: None,
        tier: Tier::Namespace,
        mode: Mode::Enforce,
        log: false,
        priority: NETWORK_POLICY_LEVEL,
        subject: pods_in("prod", [equal("app", "api")]),
        ingress: Block {
            isolates: true,
            rules: vec![Rule {
                asks: None,
                name: None,
                path: "spec.ingress[0]".into(),
                action: Action::Allow,
                peers: Peers::AnyOf(vec![
                    testing::peer(
                        "spec.ingress[0].from[0]",
                        PeerTerm::Pods(pods_in("prod", [equal("app", "web")])),
                    ),
                    testing::peer(
                        "spec.ingress[0].from[1]",
                        testing::network("10.0.0.0/8", &["10.1.0.0/16", "10.2.0.0/16"]),
                    ),
                ]),
                ports: Ports::AnyOf(vec![
                    testing::port("spec.ingress[0].ports[0]", range(Transport::Tcp, 8080, 8080)),
                    testing::port("spec.ingress[0].ports[1]", named(Some(Transport::Udp), "dns")),
                ]),
            }],
        },
        egress: Block {
            isolates: true,
            rules: vec![
                on_any_port(
                    "spec.egress[0]",
                    Peers::AnyOf(vec![testing::peer("spec.egress[0].to[0]", any_pod)]),
                ),
                on_any_port("spec.egress[1]", Peers::Any),
            ],
        },
    };
    assert_eq!(policy(manifest), expected);
}

/// K7: what absent, `null` and `[]` mean for `policyTypes`, `ingress` and `egress`, in all combinations.
#[test]
fn policy_types_default_to_ingress_and_to_egress_only_if_there_are_egress_rules() {
    let absent = || None;
    let lists = || [absent(), Some(json!(null)), Some(json!([])), Some(json!([{}]))];
    let types = [
        (absent(), None),
        (Some(json!(null)), None),
        (Some(json!([])), None),
        (Some(json!(["Ingress"])), Some((true, false))),
        (Some(json!(["Egress"])), Some((false, true))),
        (Some(json!(["Ingress", "Egress"])), Some((true, true))),
        (Some(json!(["Ingress", "Ingress"])), Some((true, false))),
    ];
    for (policy_types, said) in types {
        for ingress in lists() {
            for egress in lists() {
                let mut spec = json!({"podSelector": {}});
                for (field, value) in
                    [("policyTypes", &policy_types), ("ingress", &ingress), ("egress", &egress)]
                {
                    if let Some(value) = value {
                        spec[field] = value.clone();
                    }
                }
                let has_rules = |list: &Option<Value>| list == &Some(json!([{}]));
                let (has_ingress, has_egress) = said.unwrap_or((true, has_rules(&egress)));
                let block = |has_type: bool, list: &Option<Value>, path: &str| Block {
                    isolates: has_type,
                    rules: if has_type && has_rules(list) {
                        let path = path.into();
                        vec![Rule {
                            asks: None,
                            name: None,
                            path,
                            action: Action::Allow,
                            peers: Peers::Any,
                            ports: Ports::Any,
                        }]
                    } else {
                        Vec::new()
                    },
                };
                let lowered = lowered(manifest(spec.clone()));
                assert_eq!(lowered.policy.ingress, block(has_ingress, &ingress, "spec.ingress[0]"), "{spec}");
                assert_eq!(lowered.policy.egress, block(has_egress, &egress, "spec.egress[0]"), "{spec}");
                let unused: Vec<&str> = lowered.remarks.iter().map(|remark| remark.path.as_str()).collect();
                let mut expected = Vec::new();
                expected.extend((!has_ingress && has_rules(&ingress)).then_some("spec.ingress"));
                expected.extend((!has_egress && has_rules(&egress)).then_some("spec.egress"));
                assert_eq!(unused, expected, "{spec}");
            }
        }
    }
}

#[test]
fn rules_of_a_direction_without_its_type_say_nothing_and_are_remarked_on() {
    let manifest = manifest(json!({"podSelector": {}, "policyTypes": ["Ingress"], "egress": [{}]}));
    assert_eq!(lowered(manifest.clone()).policy.egress, Block { isolates: false, rules: Vec::new() });
    let expected = "warning unused-rules spec.egress: spec.policyTypes does not name Egress: these rules say nothing; \
                    expected Egress in spec.policyTypes, or no rules here";
    assert_eq!(remarks(manifest), [expected]);
}

#[test]
fn rules_of_a_direction_without_its_type_are_validated_all_the_same() {
    let spec = json!({"podSelector": {}, "policyTypes": ["Ingress"], "egress": [{"to": [{}]}]});
    assert_eq!(
        errors(manifest(spec)),
        [
            "spec.egress[0].to[0]: the peer is empty; expected podSelector, namespaceSelector, both, or ipBlock"
        ]
    );
}

#[test]
fn policy_types_are_ingress_and_egress_and_at_most_two() {
    for (types, expected) in [
        (
            json!(["ingress"]),
            vec!["spec.policyTypes[0]: \"ingress\" is not a policy type; expected Ingress or Egress"],
        ),
        (
            json!(["", "Both"]),
            vec![
                "spec.policyTypes[0]: \"\" is not a policy type; expected Ingress or Egress",
                "spec.policyTypes[1]: \"Both\" is not a policy type; expected Ingress or Egress",
            ],
        ),
        (
            json!(["Ingress", "Egress", "Ingress"]),
            vec!["spec.policyTypes: the list has 3 items; expected at most 2 items"],
        ),
    ] {
        assert_eq!(errors(manifest(json!({"podSelector": {}, "policyTypes": types}))), expected);
    }
}

#[test]
fn an_absent_spec_or_pod_selector_selects_every_pod_of_the_namespace() {
    for spec in [json!(null), json!({}), json!({"podSelector": null}), json!({"podSelector": {}})] {
        let lowered = policy(manifest(spec));
        assert_eq!(lowered.subject, pods_in("prod", []));
        assert_eq!(lowered.ingress, Block { isolates: true, rules: Vec::new() });
        assert_eq!(lowered.egress, Block::default());
    }
    let absent = json!({"kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "prod"}});
    assert_eq!(policy(absent).subject, pods_in("prod", []));
}

/// K7 and C7: an absent and an empty list of peers or ports are both no restriction; a list with items is one.
#[test]
fn absent_and_empty_peers_and_ports_match_all() {
    let some_peer = json!([{"podSelector": {}}]);
    let some_port = json!([{"protocol": "UDP"}]);
    for (direction, field) in [("ingress", "from"), ("egress", "to")] {
        for peers in [None, Some(json!(null)), Some(json!([])), Some(some_peer.clone())] {
            for ports in [None, Some(json!(null)), Some(json!([])), Some(some_port.clone())] {
                let mut rule = json!({});
                for (field, value) in [(field, &peers), ("ports", &ports)] {
                    if let Some(value) = value {
                        rule[field] = value.clone();
                    }
                }
                let mut lowered = policy(manifest(json!({"podSelector": {}, direction: [rule]})));
                let block = if direction == "ingress" { &mut lowered.ingress } else { &mut lowered.egress };
                let path = format!("spec.{direction}[0]");
                let term = PeerTerm::Pods(pods_in("prod", []));
                let expected = Rule {
                    asks: None,
                    name: None,
                    path: path.as_str().into(),
                    action: Action::Allow,
                    peers: if peers == Some(some_peer.clone()) {
                        Peers::AnyOf(vec![Peer { path: format!("{path}.{field}[0]").into(), term }])
                    } else {
                        Peers::Any
                    },
                    ports: if ports == Some(some_port.clone()) {
                        let term = PortTerm::Protocol(Transport::Udp);
                        Ports::AnyOf(vec![Port { path: format!("{path}.ports[0]").into(), term }])
                    } else {
                        Ports::Any
                    },
                };
                assert_eq!(*block, Block { isolates: true, rules: vec![expected] }, "{peers:?} {ports:?}");
            }
        }
    }
}

/// The truth table of a peer's two selectors, each absent, empty, or with a label.
#[test]
fn pod_and_namespace_selectors_select_what_the_api_says() {
    let empty = || json!({});
    let label = |value: &str| json!({"matchLabels": {"x": value}});
    for (peer, expected) in [
        (json!({"podSelector": empty()}), pods_in("prod", [])),
        (json!({"podSelector": label("p")}), pods_in("prod", [equal("x", "p")])),
        (json!({"podSelector": label("p"), "namespaceSelector": null}), pods_in("prod", [equal("x", "p")])),
        (json!({"namespaceSelector": empty()}), pods_of([], [])),
        (json!({"namespaceSelector": label("n")}), pods_of([equal("x", "n")], [])),
        (json!({"namespaceSelector": empty(), "podSelector": empty()}), pods_of([], [])),
        (json!({"namespaceSelector": empty(), "podSelector": label("p")}), pods_of([], [equal("x", "p")])),
        (json!({"namespaceSelector": label("n"), "podSelector": empty()}), pods_of([equal("x", "n")], [])),
        (
            json!({"namespaceSelector": label("n"), "podSelector": label("p")}),
            pods_of([equal("x", "n")], [equal("x", "p")]),
        ),
    ] {
        assert_eq!(term_of(peer.clone()), PeerTerm::Pods(expected), "{peer}");
    }
}

/// C8: the block alone, never the own namespace besides.
#[test]
fn a_peer_with_only_an_ip_block_is_that_block_and_nothing_else() {
    for (block, expected) in [
        (json!({"cidr": "192.0.2.0/24"}), testing::network("192.0.2.0/24", &[])),
        (json!({"cidr": "192.0.2.0/24", "except": null}), testing::network("192.0.2.0/24", &[])),
        (json!({"cidr": "192.0.2.0/24", "except": []}), testing::network("192.0.2.0/24", &[])),
        (
            json!({"cidr": "0.0.0.0/0", "except": ["192.0.2.9/32", "10.0.0.0/8", "10.0.0.0/8"]}),
            testing::network("0.0.0.0/0", &["10.0.0.0/8", "192.0.2.9/32"]),
        ),
        (
            json!({"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]}),
            testing::network("2001:db8::/32", &["2001:db8:1::/48"]),
        ),
    ] {
        assert_eq!(term_of(json!({"ipBlock": block})), expected);
    }
}

#[test]
fn a_peer_is_selectors_or_a_block_but_not_nothing_and_not_both() {
    let empty = "the peer is empty; expected podSelector, namespaceSelector, both, or ipBlock";
    for peer in [json!({}), json!({"podSelector": null, "ipBlock": null})] {
        assert_eq!(peer_errors(peer), [format!("spec.ingress[0].from[0]: {empty}")]);
    }
    let block = json!({"cidr": "10.0.0.0/8"});
    for (peer, other) in [
        (json!({"ipBlock": block, "podSelector": {}}), "podSelector"),
        (json!({"ipBlock": block, "namespaceSelector": {}}), "namespaceSelector"),
        (
            json!({"ipBlock": block, "podSelector": {}, "namespaceSelector": {}}),
            "podSelector and namespaceSelector",
        ),
    ] {
        let expected = format!(
            "spec.ingress[0].from[0]: ipBlock stands beside {other}; expected a peer of its own for ipBlock"
        );
        assert_eq!(peer_errors(peer), [expected]);
    }
}

#[test]
fn blocks_with_a_wrong_prefix_or_exception_are_refused() {
    let form = "expected an IPv4 or IPv6 prefix such as 10.0.0.0/8";
    let block = "spec.ingress[0].from[0].ipBlock";
    let within = |except: &str, cidr: &str| {
        format!("{block}.except[0]: {except} is not a part of {cidr}; expected a longer prefix within {cidr}")
    };
    for (fields, expected) in [
        (json!({}), format!("{block}.cidr: the prefix is missing; {form}")),
        (json!({"cidr": ""}), format!("{block}.cidr: the prefix is missing; {form}")),
        (
            json!({"cidr": "10.0.0.0"}),
            format!("{block}.cidr: \"10.0.0.0\" has no prefix length; {form} or fd00::/8"),
        ),
        (
            json!({"cidr": "010.0.0.0/8"}),
            format!(
                "{block}.cidr: \"010.0.0.0/8\" has an octet with a leading zero, which some read as octal; {form} or \
                 fd00::/8"
            ),
        ),
        (
            json!({"cidr": "::ffff:1.2.3.4/128"}),
            format!(
                "{block}.cidr: \"::ffff:1.2.3.4/128\" has an IPv4-mapped IPv6 address; expected it written as IPv4, \
                 1.2.3.4/32, or an IPv6 prefix outside ::ffff:0:0/96"
            ),
        ),
        (
            json!({"cidr": "10.0.0.0/33"}),
            format!(
                "{block}.cidr: \"10.0.0.0/33\" has a wrong prefix length; expected a length from 0 to 32"
            ),
        ),
        (
            json!({"cidr": "10.0.0.0/8", "except": ["x"]}),
            format!("{block}.except[0]: \"x\" has no prefix length; {form} or fd00::/8"),
        ),
        (json!({"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}), within("10.0.0.0/8", "10.0.0.0/8")),
        (json!({"cidr": "10.0.0.0/8", "except": ["0.0.0.0/0"]}), within("0.0.0.0/0", "10.0.0.0/8")),
        (json!({"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}), within("11.0.0.0/16", "10.0.0.0/8")),
        (json!({"cidr": "0.0.0.0/0", "except": ["fd00::/8"]}), within("fd00::/8", "0.0.0.0/0")),
        (json!({"cidr": "::/0", "except": ["10.0.0.0/8"]}), within("10.0.0.0/8", "::/0")),
    ] {
        assert_eq!(peer_errors(json!({"ipBlock": fields})), [expected]);
    }
}

/// A4: the two ways of writing one prefix are equal, so that they cannot collide later.
#[test]
fn prefixes_with_host_bits_are_read_as_their_prefix_and_noted() {
    let manifest =
        ingress(json!([{"ipBlock": {"cidr": "10.161.0.1/8", "except": ["10.1.2.3/16"]}}]), Value::Null);
    let Peers::AnyOf(peers) = &lowered(manifest.clone()).policy.ingress.rules[0].peers else { panic!() };
    assert_eq!(peers[0].term, testing::network("10.0.0.0/8", &["10.1.0.0/16"]));
    let block = "spec.ingress[0].from[0].ipBlock";
    assert_eq!(
        remarks(manifest),
        [
            format!(
                "note not-canonical {block}.cidr: \"10.161.0.1/8\" has bits set below its length, and is read as \
                 10.0.0.0/8; expected 10.0.0.0/8, or 10.161.0.1/32 for the one address"
            ),
            format!(
                "note not-canonical {block}.except[0]: \"10.1.2.3/16\" has bits set below its length, and is read as \
                 10.1.0.0/16; expected 10.1.0.0/16, or 10.1.2.3/32 for the one address"
            ),
        ]
    );
}

#[test]
fn an_exception_is_compared_by_what_it_is_read_as() {
    // Written, 10.0.0.1/8 looks as if it were inside; read, it is all of the block.
    let fields = json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.1/8"]}});
    let expected = "spec.ingress[0].from[0].ipBlock.except[0]: 10.0.0.0/8 is not a part of 10.0.0.0/8; expected a \
                    longer prefix within 10.0.0.0/8";
    assert_eq!(peer_errors(fields), [expected]);
}

/// C13: however a selector is written, the subject stays in the policy's own namespace.
#[test]
fn no_selector_takes_a_policy_out_of_its_namespace() {
    for expression in [
        json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["other"]}),
        json!({"key": "io.kubernetes.pod.namespace", "operator": "NotIn", "values": ["prod"]}),
        json!({"key": "io.kubernetes.pod.namespace", "operator": "DoesNotExist"}),
        json!({"key": "x", "operator": "Exists"}),
    ] {
        let lowered = policy(manifest(json!({"podSelector": {"matchExpressions": [expression]}})));
        assert_eq!(lowered.subject.namespaces, Namespaces::Named("prod".into()));
    }
}

#[test]
fn selectors_are_validated_wherever_they_stand() {
    let wrong = json!({"matchExpressions": [{"key": "a", "operator": "Is", "values": ["b"]}]});
    let spec = json!({
        "podSelector": wrong,
        "ingress": [{"from": [{"podSelector": wrong, "namespaceSelector": wrong}]}],
        "egress": [{"to": [{"podSelector": wrong}]}],
    });
    let what =
        "matchExpressions[0].operator: \"Is\" is not an operator; expected In, NotIn, Exists or DoesNotExist";
    assert_eq!(
        errors(manifest(spec)),
        [
            format!("spec.podSelector.{what}"),
            format!("spec.ingress[0].from[0].podSelector.{what}"),
            format!("spec.ingress[0].from[0].namespaceSelector.{what}"),
            format!("spec.egress[0].to[0].podSelector.{what}"),
        ]
    );
}

#[test]
fn ports_are_lowered_as_they_are_meant() {
    for (fields, expected) in [
        (json!({}), PortTerm::Protocol(Transport::Tcp)),
        (json!({"protocol": null, "port": null}), PortTerm::Protocol(Transport::Tcp)),
        (json!({"protocol": "SCTP"}), PortTerm::Protocol(Transport::Sctp)),
        (json!({"port": 1}), range(Transport::Tcp, 1, 1)),
        (json!({"protocol": "UDP", "port": 65535}), range(Transport::Udp, 65535, 65535)),
        (json!({"port": 80, "endPort": 80}), range(Transport::Tcp, 80, 80)),
        (json!({"protocol": "TCP", "port": 1, "endPort": 65535}), range(Transport::Tcp, 1, 65535)),
        (json!({"port": "http"}), named(Some(Transport::Tcp), "http")),
        (json!({"protocol": "UDP", "port": "http"}), named(Some(Transport::Udp), "http")),
    ] {
        assert_eq!(port_of(fields.clone()), expected, "{fields}");
    }
}

#[test]
fn wrong_ports_are_refused() {
    let item = "spec.ingress[0].ports[0]";
    let name = PORT_NAME;
    let out = |field: &str, port: i64| {
        format!("{item}.{field}: port {port} is out of range; expected a port from 1 to 65535")
    };
    for (fields, expected) in [
        (
            json!({"protocol": "tcp"}),
            vec![format!("{item}.protocol: \"tcp\" is not a protocol; expected TCP, UDP or SCTP")],
        ),
        (
            json!({"protocol": "", "port": 80}),
            vec![format!("{item}.protocol: \"\" is not a protocol; expected TCP, UDP or SCTP")],
        ),
        (json!({"port": 0}), vec![out("port", 0)]),
        (json!({"port": -1}), vec![out("port", -1)]),
        (json!({"port": 65536}), vec![out("port", 65536)]),
        (json!({"port": 80, "endPort": 70000}), vec![out("endPort", 70000)]),
        (json!({"port": 70000, "endPort": 0}), vec![out("port", 70000), out("endPort", 0)]),
        (
            json!({"port": 80, "endPort": 79}),
            vec![format!("{item}.endPort: endPort 79 is below port 80; expected 80 to 65535")],
        ),
        (
            json!({"endPort": 80}),
            vec![format!(
                "{item}.endPort: endPort 80 stands without port; expected port, the first of the range"
            )],
        ),
        (
            json!({"port": "http", "endPort": 80}),
            vec![format!(
                "{item}.endPort: endPort 80 stands beside the named port \"http\"; expected no endPort, or a port number"
            )],
        ),
        (json!({"port": ""}), vec![format!("{item}.port: \"\" is not a port name; expected {name}")]),
        (json!({"port": "HTTP"}), vec![format!("{item}.port: \"HTTP\" is not a port name; expected {name}")]),
        (
            json!({"port": "80"}),
            vec![format!("{item}.port: \"80\" is not a port name; expected 80 without quotes, or {name}")],
        ),
        (
            json!({"protocol": "ICMP", "port": "a--b", "endPort": 1}),
            vec![
                format!("{item}.protocol: \"ICMP\" is not a protocol; expected TCP, UDP or SCTP"),
                format!(
                    "{item}.endPort: endPort 1 stands beside the named port \"a--b\"; expected no endPort, or a port \
                     number"
                ),
                format!("{item}.port: \"a--b\" is not a port name; expected {name}"),
            ],
        ),
    ] {
        assert_eq!(port_errors(fields), expected);
    }
}

#[test]
fn a_policy_without_a_namespace_is_in_default() {
    for metadata in
        [json!({"name": "p"}), json!({"name": "p", "namespace": ""}), json!({"name": "p", "namespace": null})]
    {
        let lowered = policy(json!({"kind": "NetworkPolicy", "metadata": metadata, "spec": {}}));
        assert_eq!(lowered.object, ObjectRef::namespaced("NetworkPolicy", "default", "p"));
        assert_eq!(lowered.subject, pods_in("default", []));
    }
}

#[test]
fn all_errors_of_an_object_are_found_at_once_and_located() {
    let manifest = json!({
        "kind": "NetworkPolicy",
        "metadata": {"namespace": "prod"},
        "spec": {
            "policyTypes": ["Sideways"],
            "ingress": [
                {"ports": [{"port": 0}], "from": [{}, {"ipBlock": {"cidr": "nonsense", "except": ["1.2.3.4"]}}]},
                {"from": [{"podSelector": {}}]},
            ],
            "egress": [{"ports": [{"port": 1}, {"endPort": 9}]}],
        },
    });
    let source = source(&[
        ("spec.policyTypes", 5),
        ("spec.ingress[0].ports[0]", 8),
        ("spec.ingress[0].from[1].ipBlock.cidr", 11),
        ("spec.ingress[0].from", 9),
        ("spec.egress[0].ports[1].endPort", 20),
    ]);
    let problems = lower_object(&object(manifest), Some(&source)).unwrap_err();
    let places: Vec<String> = problems
        .iter()
        .map(|problem| format!("{} {}", problem.location.as_ref().unwrap(), problem.path))
        .collect();
    assert_eq!(
        places,
        [
            "a.yaml:1 metadata.name",
            "a.yaml:8 spec.ingress[0].ports[0].port",
            "a.yaml:9 spec.ingress[0].from[0]",
            "a.yaml:11 spec.ingress[0].from[1].ipBlock.cidr",
            "a.yaml:9 spec.ingress[0].from[1].ipBlock.except[0]",
            "a.yaml:20 spec.egress[0].ports[1].endPort",
            "a.yaml:5 spec.policyTypes[0]",
        ]
    );
}

#[test]
fn a_remark_is_located_and_the_policy_keeps_its_source() {
    let source = source(&[("spec.egress", 12)]);
    let spec = json!({"podSelector": {}, "policyTypes": ["Ingress"], "egress": [{}]});
    let lowered = lower_object(&object(manifest(spec)), Some(&source)).unwrap();
    assert_eq!(lowered.policy.source, Some(Arc::clone(&source)));
    assert_eq!(
        lowered.remarks,
        [Problem {
            severity: Severity::Warning,
            id: UNUSED_RULES,
            object: ObjectRef::namespaced("NetworkPolicy", "prod", "p"),
            path: "spec.egress".to_owned(),
            message: "spec.policyTypes does not name Egress: these rules say nothing".to_owned(),
            expected: "Egress in spec.policyTypes, or no rules here".to_owned(),
            location: Some(source.locate("spec.egress")),
        }]
    );
}
