#![expect(clippy::needless_pass_by_value, reason = "manifests are written where they are used")]

use serde_json::{Value, json};

use super::super::testing::{
    self, equal, errors, lowered, named, network, object, peer, pods_of, policy, range, remarks, source,
};
use super::super::{lower as lower_object, name};
use super::*;
use crate::labels::Selector;
use crate::object::ObjectRef;
use crate::policy::{Block, Mode, Peer, PeerTerm, Peers, Ports, Rule, Tier};

fn manifest(spec: Value) -> Value {
    json!({"kind": "ClusterNetworkPolicy", "metadata": {"name": "p"}, "spec": spec})
}

/// A policy with these fields in place of, or beside, those that every policy needs.
fn spec(fields: Value) -> Value {
    let mut spec = json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}});
    for (field, value) in fields.as_object().unwrap() {
        spec[field] = value.clone();
    }
    manifest(spec)
}

fn egress(rule: Value) -> Value {
    spec(json!({"egress": [rule]}))
}

fn peer_errors(peer: Value) -> Vec<String> {
    errors(egress(json!({"action": "Accept", "to": [peer]})))
}

fn protocol(protocol: Value) -> Value {
    egress(json!({"action": "Accept", "to": [{"namespaces": {}}], "protocols": [protocol]}))
}

fn port_of(item: Value) -> PortTerm {
    match policy(protocol(item)).egress.rules.remove(0).ports {
        Ports::AnyOf(mut ports) if ports.len() == 1 => ports.remove(0).term,
        other => panic!("not one port: {other:?}"),
    }
}

fn peers_of(manifest: Value) -> Vec<Peer> {
    match lowered(manifest).policy.egress.rules.remove(0).peers {
        Peers::AnyOf(peers) => peers,
        Peers::Any => panic!("peers cannot be absent"),
    }
}

#[test]
fn a_whole_policy_is_lowered_field_by_field() {
    let label = |value: &str| json!({"matchLabels": {"x": value}});
    let manifest = manifest(json!({
        "tier": "Admin",
        "priority": 7,
        "subject": {"pods": {"namespaceSelector": label("n"), "podSelector": label("p")}},
        "ingress": [{"name": "first", "action": "Deny", "from": [{"namespaces": label("m")}]}],
        "egress": [
            {
                "action": "Accept",
                "to": [
                    {"pods": {"namespaceSelector": {}, "podSelector": label("q")}},
                    {"nodes": label("o")},
                    {"networks": ["10.0.0.0/8", "fd00::/8"]},
                ],
                "protocols": [{"tcp": {"destinationPort": {"number": 443}}}],
            },
            {"action": "Pass", "to": [{"namespaces": {}}]},
        ],
    }));
    let rule = |path: &str, action, peers, ports| Rule {
        name: None,
        path: path.into(),
        action,
        peers,
        ports,
        asks: None,
    };
    let nodes = PeerTerm::Nodes(Selector::new([equal("x", "o")]));
    let expected = Policy {
        object: ObjectRef::cluster("ClusterNetworkPolicy", "p"),
        source: None,
        tier: Tier::Admin,
        mode: Mode::Enforce,
        log: false,
        priority: 7,
        subject: pods_of([equal("x", "n")], [equal("x", "p")]),
        ingress: Block {
            isolates: false,
            rules: vec![Rule {
                asks: None,
                name: Some("first".into()),
                ..rule(
                    "spec.ingress[0]",
                    Action::Deny,
                    Peers::AnyOf(vec![peer(
                        "spec.ingress[0].from[0]",
                        PeerTerm::Pods(pods_of([equal("x", "m")], [])),
                    )]),
                    Ports::Any,
                )
            }],
        },
        egress: Block {
            isolates: false,
            rules: vec![
                rule(
                    "spec.egress[0]",
                    Action::Allow,
                    Peers::AnyOf(vec![
                        peer("spec.egress[0].to[0]", PeerTerm::Pods(pods_of([], [equal("x", "q")]))),
                        peer("spec.egress[0].to[1]", nodes),
                        peer("spec.egress[0].to[2].networks[0]", network("10.0.0.0/8", &[])),
                        peer("spec.egress[0].to[2].networks[1]", network("fd00::/8", &[])),
                    ]),
                    Ports::AnyOf(vec![testing::port(
                        "spec.egress[0].protocols[0]",
                        range(Transport::Tcp, 443, 443),
                    )]),
                ),
                rule(
                    "spec.egress[1]",
                    Action::Pass,
                    Peers::AnyOf(vec![peer("spec.egress[1].to[0]", PeerTerm::Pods(pods_of([], [])))]),
                    Ports::Any,
                ),
            ],
        },
    };
    assert_eq!(policy(manifest), expected);
}

#[test]
fn without_rules_a_policy_says_nothing_and_isolates_nobody() {
    for fields in [json!({}), json!({"ingress": null, "egress": null}), json!({"ingress": [], "egress": []})]
    {
        let lowered = policy(spec(fields));
        assert_eq!((lowered.ingress, lowered.egress), (Block::default(), Block::default()));
    }
}

#[test]
fn all_actions_are_taken_in_both_tiers() {
    for (tier, expected_tier) in [("Admin", Tier::Admin), ("Baseline", Tier::Baseline)] {
        for (action, expected) in [("Accept", Action::Allow), ("Deny", Action::Deny), ("Pass", Action::Pass)]
        {
            let rules = json!([{"action": action, "from": [{"namespaces": {}}]}]);
            let lowered = policy(spec(json!({"tier": tier, "ingress": rules})));
            assert_eq!((lowered.tier, lowered.ingress.rules[0].action), (expected_tier, expected));
        }
    }
}

/// K1: what is out of range is refused and never wraps.
#[test]
fn priorities_go_from_0_to_1000() {
    for priority in [0, 1, 999, 1000] {
        assert_eq!(policy(spec(json!({"priority": priority}))).priority, priority);
    }
    for priority in [-1, 1001, i32::MAX, i32::MIN] {
        assert_eq!(
            errors(spec(json!({"priority": priority}))),
            [format!("spec.priority: priority {priority} is out of range; expected 0 to 1000")]
        );
    }
}

#[test]
fn everything_that_is_missing_is_named_at_once() {
    let all = [
        format!("metadata.name: the name is missing; expected {}", name::DNS_SUBDOMAIN),
        "spec.tier: the tier is missing; expected Admin or Baseline".to_owned(),
        "spec.priority: the priority is missing; expected 0 to 1000".to_owned(),
        "spec.subject: no field is set; expected exactly one of namespaces and pods".to_owned(),
    ];
    assert_eq!(errors(json!({"kind": "ClusterNetworkPolicy"})), all);
    let nulls = json!({"tier": null, "priority": null, "subject": null, "ingress": null});
    assert_eq!(errors(json!({"kind": "ClusterNetworkPolicy", "metadata": null, "spec": nulls})), all);
    assert_eq!(
        errors(spec(json!({"ingress": [{}], "egress": [{"action": null, "to": null}]}))),
        [
            "spec.ingress[0].action: the action is missing; expected Accept, Deny or Pass",
            "spec.ingress[0].from: the list is missing or empty; expected 1 to 25 items",
            "spec.egress[0].action: the action is missing; expected Accept, Deny or Pass",
            "spec.egress[0].to: the list is missing or empty; expected 1 to 25 items",
        ]
    );
}

#[test]
fn unknown_words_are_refused() {
    let rule = json!({"action": "Allow", "from": [{"namespaces": {}}]});
    assert_eq!(
        errors(spec(json!({"tier": "admin", "ingress": [rule]}))),
        [
            "spec.tier: \"admin\" is not a tier; expected Admin or Baseline",
            "spec.ingress[0].action: \"Allow\" is not an action; expected Accept, Deny or Pass",
        ]
    );
}

#[test]
fn a_subject_is_namespaces_or_pods() {
    let label = json!({"matchLabels": {"x": "y"}});
    for (subject, expected) in [
        (json!({"namespaces": {}}), pods_of([], [])),
        (json!({"namespaces": label}), pods_of([equal("x", "y")], [])),
        (json!({"namespaces": label, "pods": null}), pods_of([equal("x", "y")], [])),
        (json!({"pods": {"namespaceSelector": {}, "podSelector": {}}}), pods_of([], [])),
        (json!({"pods": {"podSelector": label}}), pods_of([], [equal("x", "y")])),
        (json!({"pods": {"namespaceSelector": null, "podSelector": label}}), pods_of([], [equal("x", "y")])),
        (json!({"pods": {"namespaceSelector": label, "podSelector": {}}}), pods_of([equal("x", "y")], [])),
    ] {
        assert_eq!(policy(spec(json!({"subject": subject}))).subject, expected, "{subject}");
    }
    let one = "expected exactly one of namespaces and pods";
    for (subject, expected) in [
        (json!({}), format!("spec.subject: no field is set; {one}")),
        (
            json!({"namespaces": {}, "pods": {"podSelector": {}}}),
            format!("spec.subject: namespaces and pods are set; {one}"),
        ),
        (
            json!({"pods": {"namespaceSelector": {}}}),
            "spec.subject.pods.podSelector: the selector is missing; expected a selector; {} selects everything"
                .to_owned(),
        ),
    ] {
        assert_eq!(errors(spec(json!({"subject": subject}))), [expected]);
    }
}

#[test]
fn rules_and_their_lists_have_bounds() {
    let many = |item: Value, count: usize| Value::Array(vec![item; count]);
    let rule = json!({"action": "Accept", "from": [{"namespaces": {}}]});
    let tcp = json!({"tcp": {"destinationPort": {"number": 1}}});
    let ingress = |peers, ports, rules| {
        let from = many(json!({"namespaces": {}}), peers);
        let rule = json!({"action": "Accept", "from": from, "protocols": many(tcp.clone(), ports)});
        spec(json!({"ingress": many(rule, rules)}))
    };
    assert_eq!(policy(ingress(25, 25, 25)).ingress.rules.len(), 25);
    assert_eq!(
        errors(spec(json!({"ingress": many(rule, 26)}))),
        ["spec.ingress: the list has 26 items; expected at most 25 items"]
    );
    assert_eq!(
        errors(ingress(26, 26, 1)),
        [
            "spec.ingress[0].from: the list has 26 items; expected 1 to 25 items",
            "spec.ingress[0].protocols: the list has 26 items; expected 1 to 25 items",
        ]
    );
    assert_eq!(
        errors(ingress(0, 0, 1)),
        [
            "spec.ingress[0].from: the list is missing or empty; expected 1 to 25 items",
            "spec.ingress[0].protocols: the list is missing or empty; expected 1 to 25 items",
        ]
    );
}

#[test]
fn names_of_rules_have_at_most_100_characters() {
    let named = |name: &str| {
        spec(json!({"ingress": [{"name": name, "action": "Deny", "from": [{"namespaces": {}}]}]}))
    };
    // Characters, not bytes.
    let longest = "ä".repeat(100);
    assert_eq!(policy(named(&longest)).ingress.rules[0].name.as_deref(), Some(longest.as_str()));
    assert_eq!(policy(named("")).ingress.rules[0].name, None);
    assert_eq!(
        errors(named(&"a".repeat(101))),
        ["spec.ingress[0].name: the name has 101 characters; expected at most 100 characters"]
    );
}

#[test]
fn a_peer_is_exactly_one_thing() {
    let ingress = |peer: Value| errors(spec(json!({"ingress": [{"action": "Accept", "from": [peer]}]})));
    assert_eq!(
        ingress(json!({})),
        ["spec.ingress[0].from[0]: no field is set; expected exactly one of namespaces and pods"]
    );
    assert_eq!(
        ingress(json!({"namespaces": {}, "pods": {}})),
        [
            "spec.ingress[0].from[0]: namespaces and pods are set; expected exactly one of namespaces and pods",
            "spec.ingress[0].from[0].pods.podSelector: the selector is missing; expected a selector; {} selects \
             everything",
        ]
    );
    let one = "expected exactly one of namespaces, pods, nodes, networks and domainNames";
    assert_eq!(peer_errors(json!({})), [format!("spec.egress[0].to[0]: no field is set; {one}")]);
    assert_eq!(
        peer_errors(json!({"nodes": {}, "networks": ["10.0.0.0/8"], "domainNames": ["a.b"]})),
        [format!("spec.egress[0].to[0]: nodes, networks and domainNames are set; {one}")]
    );
}

#[test]
fn networks_are_a_set_of_1_to_25_prefixes() {
    let to = "spec.egress[0].to[0].networks";
    let form = "an IPv4 or IPv6 prefix such as 10.0.0.0/8 or fd00::/8";
    let many: Vec<String> = (0..26).map(|third| format!("10.0.{third}.0/24")).collect();
    for (networks, expected) in [
        (json!([]), format!("{to}: the list is missing or empty; expected 1 to 25 items")),
        (json!(many), format!("{to}: the list has 26 items; expected 1 to 25 items")),
        (
            json!(["10.0.0.0/8", "::/0", "10.0.0.0/8"]),
            format!("{to}[2]: \"10.0.0.0/8\" stands here and at [0]; expected every item once"),
        ),
        (json!(["10.0.0.0"]), format!("{to}[0]: \"10.0.0.0\" has no prefix length; expected {form}")),
        (
            json!(["::ffff:10.0.0.0/104"]),
            format!(
                "{to}[0]: \"::ffff:10.0.0.0/104\" has an IPv4-mapped IPv6 address; expected it written as IPv4, \
                 10.0.0.0/8, or an IPv6 prefix outside ::ffff:0:0/96"
            ),
        ),
        (
            json!(["1111:1111:1111:1111:1111:1111:111.111.111.111/128"]),
            format!("{to}[0]: the network has 49 characters; expected at most 43 characters"),
        ),
    ] {
        assert_eq!(peer_errors(json!({"networks": networks})), [expected]);
    }
    let longest = "1111:1111:1111:1111:1111:1111:1111:1111/128";
    let manifest = egress(json!({"action": "Deny", "to": [{"networks": [longest, "10.0.0.1/8"]}]}));
    assert_eq!(
        peers_of(manifest.clone()),
        [
            peer(&format!("{to}[0]"), network(longest, &[])),
            peer(&format!("{to}[1]"), network("10.0.0.0/8", &[]))
        ]
    );
    assert_eq!(
        remarks(manifest),
        [format!(
            "note not-canonical {to}[1]: \"10.0.0.1/8\" has bits set below its length, and is read as 10.0.0.0/8; \
             expected 10.0.0.0/8, or 10.0.0.1/32 for the one address"
        )]
    );
}

#[test]
fn domain_names_are_kept_and_said_not_to_be_enforceable() {
    let manifest =
        egress(json!({"action": "Accept", "to": [{"domainNames": ["Example.COM.", "*.example.com"]}]}));
    let path = "spec.egress[0].to[0].domainNames";
    assert_eq!(
        peers_of(manifest.clone()),
        [
            peer(&format!("{path}[0]"), PeerTerm::Domain("example.com".into())),
            peer(&format!("{path}[1]"), PeerTerm::Domain("*.example.com".into())),
        ]
    );
    assert_eq!(
        remarks(manifest),
        [format!(
            "warning not-enforceable {path}: domainNames are not enforceable yet: this peer matches nothing until DNS \
             policy exists, so that traffic to these names stays closed unless another rule allows it; expected \
             networks, to open these destinations today"
        )]
    );
}

#[test]
fn wrong_domain_names_are_refused() {
    let path = "spec.egress[0].to[0].domainNames";
    for (names, expected) in [
        (json!([]), vec![format!("{path}: the list is missing or empty; expected 1 to 25 items")]),
        (
            json!(["a.b", "a.b", "_a.b"]),
            vec![
                format!("{path}[1]: \"a.b\" stands here and at [0]; expected every item once"),
                format!("{path}[2]: \"_a.b\" is not a domain name; expected {}", name::DOMAIN),
            ],
        ),
    ] {
        assert_eq!(peer_errors(json!({"domainNames": names})), expected);
    }
    for action in ["Deny", "Pass"] {
        assert_eq!(
            errors(egress(json!({"action": action, "to": [{"domainNames": ["a.b"]}]}))),
            [format!(
                "{path}: domainNames stand in a rule that does not let traffic through; expected action Accept, or \
                 another peer"
            )]
        );
    }
}

#[test]
fn protocols_are_lowered_as_they_are_meant() {
    for (item, expected) in [
        (json!({"tcp": {"destinationPort": {"number": 1}}}), range(Transport::Tcp, 1, 1)),
        (json!({"udp": {"destinationPort": {"number": 65535}}}), range(Transport::Udp, 65535, 65535)),
        (
            json!({"sctp": {"destinationPort": {"range": {"start": 1, "end": 65535}}}}),
            range(Transport::Sctp, 1, 65535),
        ),
        (json!({"destinationNamedPort": "http", "tcp": null}), named(None, "http")),
    ] {
        assert_eq!(port_of(item.clone()), expected, "{item}");
    }
}

#[test]
fn wrong_protocols_are_refused() {
    let item = "spec.egress[0].protocols[0]";
    let one = "expected exactly one of tcp, udp, sctp and destinationNamedPort";
    let port = format!("{item}.tcp.destinationPort");
    let out = |field: &str, port: i32| {
        format!(
            "{item}.tcp.destinationPort.{field}: port {port} is out of range; expected a port from 1 to 65535"
        )
    };
    for (fields, expected) in [
        (json!({}), vec![format!("{item}: no field is set; {one}")]),
        (
            json!({"tcp": {"destinationPort": {"number": 1}}, "destinationNamedPort": "http"}),
            vec![format!("{item}: tcp and destinationNamedPort are set; {one}")],
        ),
        (json!({"udp": {}}), vec![format!("{item}.udp: no field is set; expected destinationPort")]),
        (
            json!({"tcp": {"destinationPort": {}}}),
            vec![format!("{port}: no field is set; expected exactly one of number and range")],
        ),
        (
            json!({"tcp": {"destinationPort": {"number": 1, "range": {"start": 1, "end": 2}}}}),
            vec![format!("{port}: number and range are set; expected exactly one of number and range")],
        ),
        (json!({"tcp": {"destinationPort": {"number": 0}}}), vec![out("number", 0)]),
        (json!({"tcp": {"destinationPort": {"number": 65536}}}), vec![out("number", 65536)]),
        (
            json!({"tcp": {"destinationPort": {"range": {"start": 0, "end": 65536}}}}),
            vec![out("range.start", 0), out("range.end", 65536)],
        ),
        (
            json!({"tcp": {"destinationPort": {"range": {}}}}),
            vec![
                format!("{port}.range.start: the port is missing; expected a port from 1 to 65535"),
                format!("{port}.range.end: the port is missing; expected a port from 1 to 65535"),
            ],
        ),
        (
            json!({"tcp": {"destinationPort": {"range": {"start": 80, "end": 80}}}}),
            vec![format!(
                "{port}.range: start 80 is not below end 80; expected start below end; number for a single port"
            )],
        ),
    ] {
        assert_eq!(errors(protocol(fields)), expected);
    }
}

#[test]
fn named_ports_stand_only_beside_peers_that_are_pods() {
    let rule = |to: Value, port: Value| json!({"action": "Accept", "to": to, "protocols": [port]});
    let name = || json!({"destinationNamedPort": "http"});
    let pods = || json!({"namespaces": {}});
    for (other, field) in [
        (json!({"nodes": {}}), "nodes"),
        (json!({"networks": ["10.0.0.0/8"]}), "networks"),
        (json!({"domainNames": ["a.b"]}), "domainNames"),
    ] {
        assert_eq!(
            errors(egress(rule(json!([pods(), other.clone()]), name()))),
            [format!(
                "spec.egress[0]: the named port \"http\" stands beside a {field} peer, which has no named ports; \
                 expected port numbers, or a rule of its own for the peers that are pods"
            )]
        );
        lowered(egress(rule(json!([pods(), other]), json!({"tcp": {"destinationPort": {"number": 1}}}))));
    }
    policy(egress(rule(json!([pods()]), name())));
}

#[test]
fn a_port_name_that_no_container_port_can_have_is_warned_of() {
    let manifest = protocol(json!({"destinationNamedPort": "HTTP"}));
    assert_eq!(
        remarks(manifest),
        [format!(
            "warning impossible-port-name spec.egress[0].protocols[0].destinationNamedPort: no container port can have \
             the name \"HTTP\": this matches nothing; expected {}",
            name::PORT_NAME
        )]
    );
}

#[test]
fn selectors_are_validated_wherever_they_stand() {
    let wrong = json!({"matchExpressions": [{"key": "a", "operator": "In"}]});
    let pods = json!({"pods": {"namespaceSelector": wrong, "podSelector": wrong}});
    let rule = json!({"action": "Deny", "to": [{"namespaces": wrong}, {"nodes": wrong}, pods]});
    let what = "matchExpressions[0].values: In has no values; expected one value or more";
    assert_eq!(
        errors(spec(json!({"subject": {"namespaces": wrong}, "egress": [rule]}))),
        [
            format!("spec.subject.namespaces.{what}"),
            format!("spec.egress[0].to[0].namespaces.{what}"),
            format!("spec.egress[0].to[1].nodes.{what}"),
            format!("spec.egress[0].to[2].pods.namespaceSelector.{what}"),
            format!("spec.egress[0].to[2].pods.podSelector.{what}"),
        ]
    );
}

#[test]
fn errors_and_remarks_are_located() {
    let source = source(&[("spec.egress[0].to[0].networks", 9), ("spec.egress[0]", 7)]);
    let located = |networks: Value| {
        let manifest = egress(json!({"action": "Accept", "to": [{"networks": networks}]}));
        lower_object(&object(manifest), Some(&source))
    };
    let places = |problems: Vec<crate::problem::Problem>| -> Vec<String> {
        problems.iter().map(|problem| problem.location.as_ref().unwrap().to_string()).collect()
    };
    assert_eq!(places(located(json!(["x", "y"])).unwrap_err()), ["a.yaml:9", "a.yaml:9"]);
    assert_eq!(places(located(json!(["10.0.0.1/8"])).unwrap().remarks), ["a.yaml:9"]);
}
