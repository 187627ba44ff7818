//! Explanations of a small cluster, word by word.

mod fixture;
mod random;

use datapath::abi::Transport;
use serde_json::json;

use super::ports::{PortGroup, all};
use super::*;
use fixture::{World, cluster_policy, network_policy, tcp, world};

/// `part: text` of every rule that was asked and does not match.
fn why_not(explanation: &Explanation) -> Vec<String> {
    let rules = explanation.sides.iter().flat_map(Side::reached);
    let mismatches = rules.flat_map(|rule| &rule.why_not);
    mismatches.map(|why| format!("{:?} {}: {}", why.part, why.path, why.text)).collect()
}

/// The same of one peer that web lets in.
fn why_not_from(world: &World, from: &str, peer: &serde_json::Value) -> Vec<String> {
    let mut world = world.clone();
    world.policy(network_policy("prod/api", json!({"podSelector": {}, "ingress": [{"from": [peer]}]})));
    why_not(&world.explain(from, "prod/web", tcp(80)))
}

#[test]
fn a_peer_that_does_not_match_is_told_the_requirement_it_fails() {
    let world = world();
    let at = "Peer spec.ingress[0].from[0]";
    for (from, peer, text) in [
        ("test/tester", json!({"podSelector": {}}), "pod test/tester is in namespace test, not prod"),
        (
            "test/tester",
            json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}),
            "namespace test has team=b, not team=a",
        ),
        (
            "test/tester",
            json!({"namespaceSelector": {"matchLabels": {"env": "x"}}, "podSelector": {"matchLabels": {"app": "db"}}}),
            "namespace test has no label env, not env=x; pod test/tester has app=tester, not app=db",
        ),
        (
            "prod/db",
            json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["db"]}]}}),
            "pod prod/db has app=db, which app notin (db) excludes",
        ),
        (
            "prod/db",
            json!({"podSelector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]}}),
            "pod prod/db has no label x",
        ),
        ("10.9.9.9", json!({"podSelector": {}}), "the peer is not a pod: no pod is known with 10.9.9.9"),
        ("10.9.9.9", json!({"ipBlock": {"cidr": "10.1.0.0/16"}}), "10.9.9.9 is outside 10.1.0.0/16"),
        ("10.9.9.9", json!({"ipBlock": {"cidr": "fd00::/8"}}), "10.9.9.9 is outside fd00::/8"),
        (
            "test/tester",
            json!({"ipBlock": {"cidr": "10.1.0.0/16", "except": ["10.1.2.0/24"]}}),
            "10.1.2.3 is excepted by 10.1.2.0/24",
        ),
    ] {
        assert_eq!(why_not_from(&world, from, &peer), [format!("{at}: {text}")], "{from} {peer}");
    }
}

#[test]
fn a_host_network_pod_is_its_node() {
    let mut world = world();
    // From another node, so that the right of the own node does not come first.
    world.pod("prod/web", "10.0.0.1", &[("app", "web")]).node = Some("n2".into());
    assert_eq!(
        why_not_from(&world, "prod/host", &json!({"podSelector": {"matchLabels": {"app": "web"}}})),
        [
            "Peer spec.ingress[0].from[0]: pod prod/host is on the host network: it is its node, not its labels"
        ]
    );
    let explanation = world.explain("prod/host", "prod/web", tcp(80));
    assert_eq!(explanation.sides.len(), 1, "no policy is about a host-network pod");
    assert_eq!(explanation.from.kind, EndKind::HostNetworkPod);
    assert!(explanation.notes[0].contains("its node's network"), "{:?}", explanation.notes);
}

#[test]
fn a_pod_is_reached_from_its_own_node_and_reaches_itself() {
    let mut world = world();
    world.policy(network_policy(
        "prod/deny",
        json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
    ));
    for (from, reason) in
        [("192.168.0.1", "own_node"), ("prod/host", "own_node"), ("prod/web", "own_address")]
    {
        let explanation = world.explain(from, "prod/web", tcp(80));
        let reasons: Vec<_> = explanation.sides.iter().map(|side| (side.verdict, side.reason)).collect();
        assert!(reasons.iter().all(|found| *found == ("allow", reason)), "{from} {reasons:?}");
    }
    assert!(!world.explain("prod/web", "192.168.0.1", tcp(80)).allowed, "the other way round policy decides");
}

#[test]
fn an_address_of_a_pod_is_that_pod() {
    let mut world = world();
    world.policy(network_policy("test/quiet", json!({"podSelector": {}, "policyTypes": ["Egress"]})));
    let explanation = world.explain("10.1.2.3", "prod/web", tcp(80));
    assert_eq!(explanation.from.name.as_deref(), Some("tester"));
    assert_eq!(
        explanation.sides[0].summary,
        "denied by default: isolated by NetworkPolicy test/quiet, and no rule allows it"
    );
}

#[test]
fn a_port_that_does_not_match_is_told_the_ports_that_would() {
    let mut world = world();
    let ports = |ports: serde_json::Value| json!({"podSelector": {}, "ingress": [{"ports": ports}]});
    let mut told = |ports_of: serde_json::Value, to: &str, protocol| {
        world.objects = vec![network_policy("prod/api", ports(ports_of))];
        why_not(&world.explain("test/tester", to, protocol)).join("|")
    };
    let list = "Port spec.ingress[0].ports";
    for (of, to, protocol, text) in [
        (json!([{"port": 8443}]), "prod/web", tcp(80), "[0]: port 80/TCP is not 8443/TCP"),
        (
            json!([{"port": 1, "endPort": 9}, {"protocol": "UDP"}]),
            "prod/web",
            tcp(80),
            ": port 80/TCP is none of 1-9/TCP, any UDP port",
        ),
        (
            json!([{"port": "web"}]),
            "prod/web",
            tcp(80),
            "[0]: port web of pod prod/web is 8443/TCP, not 80/TCP",
        ),
        (json!([{"port": "web"}]), "prod/db", tcp(80), "[0]: the destination has no TCP port named web"),
        (
            json!([{"port": 80}]),
            "prod/web",
            Protocol::Other(1),
            "[0]: ICMP has no ports, so that no rule with ports matches it",
        ),
    ] {
        assert_eq!(told(of, to, protocol), format!("{list}{text}"));
    }
}

#[test]
fn a_default_deny_names_who_isolates_and_the_nearest_misses_in_order() {
    let mut world = world();
    world.policy(network_policy(
        "prod/api",
        json!({"podSelector": {}, "ingress": [
            {"from": [{"podSelector": {}}]},
            {"from": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}], "ports": [{"port": 80}]},
            {"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}], "ports": [{"port": "web"}, {"port": 1}]},
        ]}),
    ));
    let explanation = world.explain("test/tester", "prod/web", tcp(80));
    let side = &explanation.sides[1];
    assert_eq!((explanation.verdict, side.reason), ("deny", "rule_denies"));
    assert_eq!(side.rule, None);
    let isolating: Vec<_> = side.isolated_by.iter().map(ToString::to_string).collect();
    assert_eq!(isolating, ["NetworkPolicy prod/api spec.ingress"]);
    let Outcome::DeniedByDefault { rank: 3, policies } = &side.tiers[1].outcome else {
        panic!("{:?}", side.tiers[1])
    };
    assert_eq!(*policies, side.isolated_by);
    assert_eq!(side.tiers[0].outcome, Outcome::NoPolicy);
    assert_eq!(side.tiers[2].outcome, Outcome::NotReached);
    let misses: Vec<_> = side.nearest_misses.iter().map(|miss| &*miss.text).collect();
    assert_eq!(
        misses,
        [
            "NetworkPolicy prod/api spec.ingress[2] would allow this on port 8443/TCP (web) or 1/TCP",
            "NetworkPolicy prod/api spec.ingress[1] would allow this if its namespace had team=a (namespace test has \
             team=b, not team=a)",
            "NetworkPolicy prod/api spec.ingress[0] would allow this from the pods of namespace prod (pod test/tester \
             is in namespace test, not prod)",
        ]
    );
    assert_eq!(side.nearest_misses[2].place.location().as_deref(), Some("a.yaml:7"));
}

#[test]
fn tiers_are_walked_in_order_until_one_decides() {
    let mut world = world();
    let all = json!({"namespaces": {}});
    let from_all = |action: &str| json!({"action": action, "from": [{"namespaces": {}}]});
    world.policy(cluster_policy("first", "Admin", 1, json!({"subject": all, "ingress": [from_all("Pass")]})));
    world.policy(cluster_policy(
        "second",
        "Admin",
        2,
        json!({"subject": all, "ingress": [from_all("Deny")]}),
    ));
    world.policy(cluster_policy(
        "base",
        "Baseline",
        1,
        json!({"subject": all, "ingress": [from_all("Deny")]}),
    ));
    let explanation = world.explain("test/tester", "prod/web", tcp(80));
    let side = &explanation.sides[1];
    let outcomes: Vec<_> = side.tiers.iter().map(|tier| tier.outcome.clone()).collect();
    assert_eq!(outcomes, [Outcome::Passed { rank: 0 }, Outcome::NoPolicy, Outcome::Denied { rank: 2 }]);
    let reached: Vec<_> = side.reached().map(|rule| rule.rank).collect();
    assert_eq!(reached, [0, 2], "what comes behind a pass is not asked");
    assert_eq!(side.summary, "ClusterNetworkPolicy base spec.ingress[0] denies it");
}

/// Title, field, position and YAML of each change of a side.
fn changes(side: &Side) -> Vec<(String, String, String, String)> {
    let of = |change: &Change| {
        let blast = change.blast.map(|blast| format!(" +{} -{} of {}", blast.opens, blast.closes, blast.of));
        let place = change.place.to_string();
        (
            change.title.clone(),
            place,
            change.position.clone() + &blast.unwrap_or_default(),
            change.yaml.clone(),
        )
    };
    side.changes.iter().map(of).collect()
}

fn texts(expected: &[(&str, &str, &str, &str)]) -> Vec<(String, String, String, String)> {
    expected.iter().map(|&(a, b, c, d)| (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned())).collect()
}

#[test]
fn the_smallest_change_to_a_network_policy_is_a_port_a_peer_or_a_rule() {
    let mut world = world();
    world.policy(network_policy(
        "prod/api",
        json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [
            {"from": [{"namespaceSelector": {}}], "ports": [{"port": 8443}]},
            {"from": [{"podSelector": {"matchLabels": {"role": "client"}}}], "ports": [{"port": 80}]},
        ]}),
    ));
    let explanation = world.explain("prod/db", "prod/web", tcp(80));
    let expected = texts(&[
        (
            "give Deployment prod/db the label role=client, for NetworkPolicy prod/api spec.ingress[1]",
            "Deployment prod/db spec.template.metadata.labels",
            "set +1 -0 of 6",
            "role: client",
        ),
        (
            "allow port 80/TCP in NetworkPolicy prod/api spec.ingress[0]",
            "NetworkPolicy prod/api spec.ingress[0].ports",
            "append +2 -0 of 6",
            "- port: 80\n  protocol: TCP",
        ),
        (
            "allow pod prod/db in NetworkPolicy prod/api spec.ingress[1]",
            "NetworkPolicy prod/api spec.ingress[1].from",
            "append +1 -0 of 6",
            "- podSelector:\n    matchLabels:\n      app: db",
        ),
    ]);
    assert_eq!(changes(&explanation.sides[1]), expected);
    assert!(explanation.sides[0].changes.is_empty(), "egress is allowed as it is");
}

#[test]
fn the_smallest_change_to_a_cluster_policy_is_a_rule_before_the_one_that_denies() {
    let mut world = world();
    let deny = json!([{"action": "Deny", "to": [{"networks": ["10.0.0.0/8"]}]}]);
    world.policy(cluster_policy("guard", "Admin", 1, json!({"subject": {"namespaces": {}}, "egress": deny})));
    let explanation = world.explain("prod/web", "10.200.0.1", tcp(443));
    let expected = texts(&[(
        "put a rule for 10.200.0.1 on port 443/TCP before ClusterNetworkPolicy guard spec.egress[0]",
        "ClusterNetworkPolicy guard spec.egress[0]",
        "before [0] +0 -0 of 6",
        "- action: Accept\n  to:\n    - networks:\n        - \"10.200.0.1/32\"\n  protocols:\n    - tcp:\n        \
         destinationPort:\n          number: 443",
    )]);
    assert_eq!(changes(&explanation.sides[0]), expected);
}

#[test]
fn a_made_up_address_is_never_shown() {
    let mut world = world();
    world.pod("test/tester", "240.0.0.9", &[("app", "tester")]).addresses_made_up = true;
    world.policy(network_policy(
        "prod/api",
        json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}),
    ));
    let explanation = world.explain("test/tester", "prod/web", tcp(80));
    let back = world.explain("prod/web", "test/tester", tcp(80));
    for explanation in [&explanation, &back] {
        assert!(!explanation.allowed && explanation.sides.iter().any(|side| !side.changes.is_empty()));
        let text = serde_json::to_string(explanation).unwrap();
        assert!(!text.contains("240."), "{text}");
    }
    assert_eq!(
        why_not(&explanation),
        [
            "Peer spec.ingress[0].from[0]: the address of pod test/tester is not known, so that it counts as outside \
          10.0.0.0/8"
        ]
    );
}

#[test]
fn an_http_request_gets_the_verdict_of_its_connection() {
    let world = world();
    let request = Request::Http(HttpRequest {
        method: "GET".to_owned(),
        path: "/".to_owned(),
        host: None,
        headers: Vec::new(),
        http2: false,
    });
    let connection =
        Connection { request: Some(request), ..world.connection("test/tester", "prod/web", tcp(80)) };
    let explanation = explain(&world.compile(), &connection);
    assert!(explanation.allowed);
    assert!(
        explanation.notes.iter().any(|note| note.contains("no rule about requests")),
        "{:?}",
        explanation.notes
    );
}

#[test]
fn all_ports_are_grouped_without_a_gap() {
    let mut world = world();
    world.policy(network_policy(
        "prod/api",
        json!({"podSelector": {}, "ingress": [{"ports": [
            {"port": 80}, {"port": 81, "endPort": 90}, {"port": "web"}, {"protocol": "UDP"}]}]}),
    ));
    // Another pod's policy cuts other atoms, which must not show.
    world
        .policy(network_policy("test/x", json!({"podSelector": {}, "ingress": [{"ports": [{"port": 85}]}]})));
    let compiler = world.compile();
    let groups = all(&compiler, &world.party("test/tester"), &world.party("prod/web"));
    let text = |group: &PortGroup| {
        let spans: Vec<_> = group.ports.iter().map(ToString::to_string).collect();
        (spans.join(", "), group.explanation.verdict)
    };
    assert_eq!(
        groups.iter().map(text).collect::<Vec<_>>(),
        [
            (
                "TCP 1-79, TCP 91-8442, TCP 8444-65535, SCTP, other protocols (ICMP and so on)".to_owned(),
                "deny"
            ),
            ("TCP 80-90, TCP 8443, UDP".to_owned(), "allow"),
        ]
        .into_iter()
        .rev()
        .collect::<Vec<_>>()
    );
    let port = |port| explain(&compiler, &world.connection("test/tester", "prod/web", port)).allowed;
    assert!(
        port(tcp(8443))
            && port(Protocol::Transport(Transport::Udp, 9))
            && !port(tcp(91))
            && !port(tcp(65535))
    );
}
