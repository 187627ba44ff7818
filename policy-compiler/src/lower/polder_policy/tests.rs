#![expect(clippy::needless_pass_by_value, reason = "manifests are written where they are used")]

use std::sync::Arc;

use datapath::abi::Transport;
use serde_json::{Value, json};

use super::super::testing::{equal, errors, named, network, peer, pods_in, pods_of, policy, port, range};
use super::*;
use crate::asks::{Asks, HeaderMatch, HttpMatch, NamePattern, PathPattern, ValuePattern};
use crate::labels::Selector;
use crate::policy::{Mode, Peer, PeerTerm, Peers, Port, PortTerm, Ports, Rule};

/// A policy of namespace `prod` with these fields beside those that every policy needs.
fn manifest(fields: Value) -> Value {
    let mut spec = json!({"subject": {"podSelector": {}}});
    for (field, value) in fields.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({"kind": "PolderPolicy", "metadata": {"name": "p", "namespace": "prod"}, "spec": spec})
}

/// One ingress rule with these fields.
fn rule(fields: Value) -> Value {
    let mut rule = json!({"action": "Allow"});
    for (field, value) in fields.as_object().unwrap() {
        rule[field] = value.clone();
    }
    manifest(json!({"ingress": [rule]}))
}

fn http(fields: Value) -> Value {
    rule(json!({"http": [fields]}))
}

#[test]
fn a_whole_policy_is_lowered_field_by_field() {
    let label = |value: &str| json!({"matchLabels": {"x": value}});
    let lowered = policy(json!({
        "kind": "PolderPolicy", "metadata": {"name": "p", "namespace": "prod"},
        "spec": {
            "subject": {"podSelector": label("p")},
            "priority": 5,
            "mode": "Audit",
            "log": false,
            "ingress": [{
                "name": "first",
                "action": "Reject",
                "from": [{"pods": {"podSelector": label("q")}}, {"pods": {"namespaceSelector": label("n"), "podSelector": {}}},
                    {"networks": ["10.0.0.0/8"]}],
                "protocols": [{"tcp": {"destinationPort": {"number": 80}}}, {"destinationNamedPort": "web"}],
                "http": [{
                    "methods": ["GET"], "hosts": ["Shop.Example.", "*.b.c"], "path": {"prefix": "/a/"},
                    "headers": [{"name": "X-User", "equal": "a"}, {"name": "b", "present": true}, {"name": "c", "regex": "d+"}],
                }],
            }],
            "egress": [],
        },
    }));
    let ports = vec![
        port("spec.ingress[0].protocols[0]", range(Transport::Tcp, 80, 80)),
        port("spec.ingress[0].protocols[1]", named(Some(Transport::Tcp), "web")),
    ];
    let header = |name: &str, value| HeaderMatch { name: name.into(), value };
    let asks = Asks::Http(vec![HttpMatch {
        at: "spec.ingress[0].http[0]".into(),
        http2: false,
        methods: vec!["GET".into()],
        hosts: vec![NamePattern::Exact("shop.example".into()), NamePattern::Under("b.c".into())],
        path: Some(PathPattern::Prefix("/a".into())),
        headers: vec![
            header("x-user", ValuePattern::Equal("a".into())),
            header("b", ValuePattern::Present),
            header("c", ValuePattern::Regex("d+".into())),
        ],
    }]);
    let from = |index: usize| format!("spec.ingress[0].from[{index}]");
    let expected = Policy {
        object: lowered.object.clone(),
        source: None,
        tier: Tier::Namespace,
        mode: Mode::Audit,
        log: false,
        priority: 5,
        subject: pods_in("prod", [equal("x", "p")]),
        ingress: Block {
            isolates: true,
            rules: vec![Rule {
                name: Some("first".into()),
                path: "spec.ingress[0]".into(),
                action: Action::Reject,
                peers: Peers::AnyOf(vec![
                    peer(&from(0), PeerTerm::Pods(pods_in("prod", [equal("x", "q")]))),
                    peer(&from(1), PeerTerm::Pods(pods_of([equal("x", "n")], []))),
                    Peer {
                        path: format!("{}.networks[0]", from(2)).into(),
                        term: network("10.0.0.0/8", &[]),
                    },
                ]),
                ports: Ports::AnyOf(ports),
                asks: Some(Arc::new(asks)),
            }],
        },
        egress: Block { isolates: true, rules: Vec::new() },
    };
    assert_eq!(lowered, expected);
}

#[test]
fn a_direction_isolates_if_it_is_there_and_without_a_priority_a_policy_stands_with_network_policy() {
    for (fields, isolates) in [
        (json!({}), [false, false]),
        (json!({"ingress": []}), [true, false]),
        (json!({"egress": [{"action": "Deny"}]}), [false, true]),
    ] {
        let policy = policy(manifest(fields));
        assert_eq!([policy.ingress.isolates, policy.egress.isolates], isolates);
        assert_eq!((policy.priority, policy.mode), (NETWORK_POLICY_LEVEL, Mode::Enforce));
        assert_eq!(policy.subject.pods, Selector::everything());
    }
}

#[test]
fn a_rule_that_asks_is_about_tcp() {
    let ports = |manifest: Value| policy(manifest).ingress.rules.remove(0).ports;
    let tcp = Port { path: "spec.ingress[0]".into(), term: PortTerm::Protocol(Transport::Tcp) };
    assert_eq!(ports(http(json!({}))), Ports::AnyOf(vec![tcp]));
    assert_eq!(ports(rule(json!({}))), Ports::Any);
    let udp = json!([{"udp": {"destinationPort": {"number": 53}}}]);
    assert_eq!(
        errors(rule(json!({"protocols": udp, "http": [{}]}))),
        [
            "spec.ingress[0].protocols[0]: http, grpc and tls are read from TCP only, and this is another protocol; expected \
          tcp, or a rule of its own without http"
        ]
    );
}

#[test]
fn grpc_becomes_the_requests_that_it_makes() {
    let lowered = policy(rule(json!({"grpc": [{"service": "a.B", "methods": ["C"]}, {"service": "D"}]})));
    let asked = lowered.ingress.rules[0].asks.as_ref().unwrap().to_string();
    assert_eq!(
        asked,
        r"HTTP HTTP/2 POST /a.B/C with content-type ~ application/grpc([+;].*)?; HTTP/2 POST ~ /D/[^/]+ with content-type ~ application/grpc([+;].*)?"
    );
}

#[test]
fn tls_is_asked_for_names() {
    let lowered = policy(rule(json!({"tls": {"serverNames": ["a.B", "*.c"]}})));
    assert_eq!(lowered.ingress.rules[0].asks.as_ref().unwrap().to_string(), "TLS to a.b or *.c");
}

#[test]
fn what_is_asked_is_validated() {
    let at = "spec.ingress[0]";
    let host = "a DNS name or an address without a port, or *. and a name for all names under it";
    let header = |fields: Value| http(json!({"headers": [fields]}));
    let path = |fields: Value| http(json!({"path": fields}));
    for (manifest, expected) in [
        (rule(json!({"http": [{}], "tls": {"serverNames": ["a"]}})), format!("{at}: http and tls are set; expected exactly one of http, grpc and tls")),
        (rule(json!({"http": []})), format!("{at}.http: the list is missing or empty; expected 1 to 16 items")),
        (rule(json!({"tls": {}})), format!("{at}.tls.serverNames: the list is missing or empty; expected 1 to 16 items")),
        (rule(json!({"tls": {"serverNames": ["a:443"]}})), format!("{at}.tls.serverNames[0]: \"a:443\" is not the name of a host; expected {host}")),
        (http(json!({"hosts": ["*"]})), format!("{at}.http[0].hosts[0]: \"*\" is not the name of a host; expected {host}")),
        (http(json!({"hosts": ["a.*.b"]})), format!("{at}.http[0].hosts[0]: \"a.*.b\" is not the name of a host; expected {host}")),
        (http(json!({"methods": ["G T"]})), format!("{at}.http[0].methods[0]: \"G T\" is not a method; expected a method such as GET, at most 64 characters (RFC 9110 section 9.1)")),
        (path(json!({})), format!("{at}.http[0].path: no field is set; expected exactly one of exact, prefix and regex")),
        (path(json!({"exact": "/a", "prefix": "/b"})), format!("{at}.http[0].path: exact and prefix are set; expected exactly one of exact, prefix and regex")),
        (path(json!({"exact": "a"})), format!("{at}.http[0].path.exact: \"a\" is no canonical path: it does not begin with a slash; expected /a/b")),
        (path(json!({"prefix": "/a//b"})), format!("{at}.http[0].path.prefix: \"/a//b\" is no canonical path: it has an empty segment; expected /a/b")),
        (path(json!({"exact": "/a/../b"})), format!("{at}.http[0].path.exact: \"/a/../b\" is no canonical path: it has a dot segment; expected /a/b")),
        (path(json!({"exact": "/a?b"})), format!("{at}.http[0].path.exact: \"/a?b\" is no canonical path: it has a query or a fragment; expected /a/b")),
        (path(json!({"exact": "/%2f"})), format!("{at}.http[0].path.exact: \"/%2f\" is no canonical path: a % stands without two digits in upper case; expected /a/b")),
        (path(json!({"exact": "/%2F"})), format!("{at}.http[0].path.exact: \"/%2F\" is no canonical path: an escaped slash, backslash, semicolon or control is refused in any request; expected /a/b")),
        (path(json!({"exact": "/%41"})), format!("{at}.http[0].path.exact: \"/%41\" is no canonical path: a character is escaped that need not be; expected /a/b")),
        (path(json!({"regex": "("})), format!("{at}.http[0].path.regex: \"(\" is no regular expression: unclosed group; expected an expression of at most 1024 bytes and 4096 states, without look-around and back-references")),
        (path(json!({"regex": ".*a.{20}"})), format!("{at}.http[0].path.regex: \".*a.{{20}}\" is too large: it needs an automaton of more than 4096 states; expected an expression of at most 1024 bytes and 4096 states, without look-around and back-references")),
        (header(json!({"name": "x_user", "present": true})), format!("{at}.http[0].headers[0].name: \"x_user\" has an underscore, which servers take for a dash; expected x-user")),
        (header(json!({"name": "Host", "equal": "a"})), format!("{at}.http[0].headers[0].name: the host stands in a field of its own; expected hosts")),
        (header(json!({"name": "a", "present": false})), format!("{at}.http[0].headers[0].present: present is false; expected true, equal or regex")),
        (header(json!({"name": "a"})), format!("{at}.http[0].headers[0]: no field is set; expected exactly one of present, equal and regex")),
        (header(json!({"name": "a", "equal": " b"})), format!("{at}.http[0].headers[0].equal: \" b\" is not a header's value; expected at most 1024 printable ASCII characters, without blanks around them")),
        (http(json!({"headers": [{"name": "a", "present": true}, {"name": "A", "equal": "b"}]})), format!("{at}.http[0].headers[1].name: the header a stands here a second time; expected every header once")),
        (rule(json!({"grpc": [{"service": "a/b"}]})), format!("{at}.grpc[0].service: \"a/b\" is not the name of a service; expected a full name such as shop.v1.Cart")),
        (rule(json!({"action": "Accept"})), format!("{at}.action: \"Accept\" is not an action; expected Allow, Deny, Reject or Pass")),
        (rule(json!({"from": []})), format!("{at}.from: the list is missing or empty; expected 1 to 25 items")),
        (manifest(json!({"mode": "audit"})), "spec.mode: \"audit\" is not a mode; expected Enforce or Audit".to_owned()),
        (manifest(json!({"priority": 2001})), "spec.priority: priority 2001 is out of range; expected 0 to 2000".to_owned()),
        (manifest(json!({"subject": {}})), "spec.subject.podSelector: the selector is missing; expected a selector; {} selects every pod of the namespace".to_owned()),
    ] {
        assert_eq!(errors(manifest), [expected]);
    }
}

#[test]
fn a_cluster_policy_has_a_tier_and_a_priority_and_pods_of_all_namespaces() {
    let cluster = |fields: Value| {
        let mut spec = json!({"tier": "Admin", "priority": 3, "subject": {"namespaces": {}}});
        for (field, value) in fields.as_object().unwrap() {
            spec[field] = value.clone();
        }
        json!({"kind": "ClusterPolderPolicy", "metadata": {"name": "c"}, "spec": spec})
    };
    let pods = json!([{"action": "Pass", "from": [{"pods": {"podSelector": {}}}, {"nodes": {}}]}]);
    let lowered = policy(cluster(json!({"ingress": pods})));
    assert_eq!((lowered.tier, lowered.priority, lowered.ingress.isolates), (Tier::Admin, 3, false));
    let peers = vec![
        peer("spec.ingress[0].from[0]", PeerTerm::Pods(pods_of([], []))),
        peer("spec.ingress[0].from[1]", PeerTerm::Nodes(Selector::everything())),
    ];
    assert_eq!(lowered.ingress.rules[0].peers, Peers::AnyOf(peers));
    assert_eq!(
        errors(cluster(json!({"tier": "Namespace", "priority": 1001}))),
        [
            "spec.tier: \"Namespace\" is not a tier; expected Admin or Baseline",
            "spec.priority: priority 1001 is out of range; expected 0 to 1000",
        ]
    );
    let logs = cluster(json!({"log": true}));
    assert!(policy(logs).log && !lowered.log);
}
