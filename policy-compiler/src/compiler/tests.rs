//! How rules about requests compose with others, in every order in which the policies can arrive. Threats C4 and C5 by name.

#![expect(clippy::needless_pass_by_value, reason = "manifests are written where they are used")]

use std::sync::Arc;

use datapath::abi::Transport;
use datapath::http::{Head, Request, Version};
use datapath::lookup::Origin as PacketOrigin;
use datapath::verdict::{Reason, Verdict};
use serde_json::{Value, json};

use super::{address as address_of, *};
use crate::api::PolicyObject;
use crate::facts::{Phase, Workload};
use crate::labels::Labels;
use crate::lower::lower;
use crate::rule_set::Origin;

const GET: &str = "GET";

/// Pods `a/server` 10.0.0.1, `a/one` 10.0.0.2 and `a/two` 10.0.0.3, each labelled `app` with its name.
fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for (name, address) in [("server", "10.0.0.1"), ("one", "10.0.0.2"), ("two", "10.0.0.3")] {
        let pod = Pod {
            key: PodKey::new("a", name),
            uid: name.into(),
            labels: Labels::new([("app", name)]),
            addresses: vec![address.parse().unwrap()],
            addresses_made_up: false,
            host_network: false,
            phase: Phase::Running,
            node: None,
            created: None,
            ports: Vec::new(),
            workload: Workload { kind: "Pod".into(), name: name.into() },
        };
        cluster.pods.insert(pod.key.clone(), Arc::new(pod));
    }
    cluster
}

fn policy(kind: &str, name: &str, spec: Value) -> Arc<Policy> {
    let object = json!({"metadata": {"name": name, "namespace": "a"}, "spec": spec});
    let object = match kind {
        "NetworkPolicy" => PolicyObject::NetworkPolicy(serde_json::from_value(object).unwrap()),
        "PolderPolicy" => PolicyObject::PolderPolicy(serde_json::from_value(object).unwrap()),
        _ => PolicyObject::ClusterPolderPolicy(serde_json::from_value(object).unwrap()),
    };
    Arc::new(lower(&object, None).unwrap_or_else(|problems| panic!("{problems:?}")).policy)
}

/// A `PolderPolicy` for ingress of the server.
fn polder(name: &str, rules: Value) -> Arc<Policy> {
    policy("PolderPolicy", name, json!({"subject": {"podSelector": app("server")}, "ingress": rules}))
}

fn network_policy(name: &str, rules: Value) -> Arc<Policy> {
    policy("NetworkPolicy", name, json!({"podSelector": app("server"), "ingress": rules}))
}

/// A `ClusterPolderPolicy` for ingress of all pods.
fn cluster_policy(name: &str, tier: &str, priority: i32, rules: Value) -> Arc<Policy> {
    let spec = json!({"tier": tier, "priority": priority, "subject": {"namespaces": {}}, "ingress": rules});
    policy("ClusterPolderPolicy", name, spec)
}

fn app(name: &str) -> Value {
    json!({"matchLabels": {"app": name}})
}

fn from(name: &str) -> Value {
    json!([{"pods": {"podSelector": app(name)}}])
}

fn port(number: u16) -> Value {
    json!([{"tcp": {"destinationPort": {"number": number}}}])
}

fn range(start: u16, end: u16) -> Value {
    json!([{"tcp": {"destinationPort": {"range": {"start": start, "end": end}}}}])
}

fn path(prefix: &str) -> Value {
    json!([{"methods": ["GET"], "path": {"prefix": prefix}}])
}

/// What becomes of `GET path` from a pod to a port of the server; and of the connection, whatever is asked.
fn judged(compiler: &Compiler, from: &str, port: u16, path: &str) -> (Verdict, Verdict) {
    let address = compiler.cluster().pods[&PodKey::new("a", from)].addresses[0];
    let query = Query {
        direction: Direction::Ingress,
        peer: address_of(address),
        port: Some((Transport::Tcp, port)),
        origin: PacketOrigin::Elsewhere,
    };
    let server = PodKey::new("a", "server");
    let head = Head {
        protocol: Version::Http1,
        method: GET.as_bytes(),
        host: b"h",
        path: path.as_bytes(),
        headers: &[],
    };
    let request = compiler.judge_request(&server, &query, &Request::Http(head)).verdict;
    (compiler.judge(&server, &query).verdict, request)
}

/// All orders of a few policies, and each of them with the names changed so that they sort the other way round.
fn in_every_order(policies: &[Arc<Policy>], mut check: impl FnMut(&Compiler)) {
    let renamed = |policies: &[Arc<Policy>]| -> Vec<Arc<Policy>> {
        let count = policies.len();
        let rename = |(index, policy): (usize, &Arc<Policy>)| {
            let mut policy = Policy::clone(policy);
            policy.object.name = format!("z{}", count - index).into();
            Arc::new(policy)
        };
        policies.iter().enumerate().map(rename).collect()
    };
    for policies in [policies.to_vec(), renamed(policies)] {
        let cluster = cluster();
        let whole = Compiler::compile(Scope::All, &cluster, policies.iter().cloned());
        for order in orders(policies.len()) {
            let mut compiler = Compiler::compile(Scope::All, &cluster, []);
            for index in order {
                compiler.apply([Event::Policy(Box::new(Policy::clone(&policies[index])))]);
            }
            assert_eq!(compiler.tables(), whole.tables());
            check(&compiler);
        }
    }
}

fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![Vec::new()];
    for next in 0..count {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..=order.len()).map(move |at| {
                    let mut longer = order.clone();
                    longer.insert(at, next);
                    longer
                })
            })
            .collect();
    }
    orders
}

const ALLOW: (Verdict, Verdict) = (Verdict::Allow, Verdict::Allow);
const DENY: (Verdict, Verdict) = (Verdict::Deny, Verdict::Deny);
/// What is asked decides, and lets this through.
const LET: (Verdict, Verdict) = (Verdict::Redirect, Verdict::Allow);
/// What is asked decides, and does not.
const NOT: (Verdict, Verdict) = (Verdict::Redirect, Verdict::Deny);

/// CVE-2024-52529: a range of ports that is allowed, and a rule about requests for a port in it.
#[test]
fn c4_an_allowed_range_of_ports_does_not_open_a_port_with_a_rule_about_requests() {
    for (wide, peer) in [
        (range(1, 65535), None),
        (range(80, 90), None),
        (range(80, 90), Some("one")),
        (range(1, 65535), Some("one")),
        (port(80), Some("one")),
    ] {
        let mut open = json!({"action": "Allow", "protocols": wide});
        if let Some(peer) = peer {
            open["from"] = from(peer);
        }
        for limited_peer in [None, Some("one")] {
            let mut limited = json!({"action": "Allow", "protocols": port(80), "http": path("/public")});
            if let Some(peer) = limited_peer {
                limited["from"] = from(peer);
            }
            let policies = [polder("p", json!([open])), polder("q", json!([limited]))];
            in_every_order(&policies, |compiler| {
                assert_eq!(judged(compiler, "one", 80, "/public/x"), LET);
                assert_eq!(judged(compiler, "one", 80, "/secret"), NOT, "{open} {limited}");
            });
            // In one object, in both orders.
            for rules in [json!([open, limited]), json!([limited, open])] {
                in_every_order(&[polder("p", rules)], |compiler| {
                    assert_eq!(judged(compiler, "one", 80, "/secret"), NOT, "{open} {limited}");
                });
            }
        }
    }
    // The other ports of the range stay as they are.
    let open = json!([{"action": "Allow", "protocols": range(80, 90)}]);
    let limited = json!([{"action": "Allow", "protocols": port(80), "http": path("/public")}]);
    in_every_order(&[polder("p", open), polder("q", limited)], |compiler| {
        assert_eq!(judged(compiler, "two", 81, "/secret"), ALLOW);
        assert_eq!(judged(compiler, "two", 91, "/public"), DENY);
    });
}

/// CVE-2023-30851: rules about requests for two peers, and one of them is allowed all.
#[test]
fn c5_what_is_allowed_to_one_peer_does_not_widen_the_rule_of_another() {
    let both = json!([{"pods": {"podSelector": {}}}]);
    let limited = json!([{"action": "Allow", "from": both, "protocols": port(80), "http": path("/public")}]);
    for open in [
        polder("q", json!([{"action": "Allow", "from": from("one")}])),
        network_policy("q", json!([{"from": [{"podSelector": app("one")}]}])),
    ] {
        in_every_order(&[polder("p", limited.clone()), open], |compiler| {
            assert_eq!(judged(compiler, "two", 80, "/public"), LET);
            assert_eq!(judged(compiler, "two", 80, "/secret"), NOT);
            // The peer that is allowed all is limited too, where the rule about requests covers it.
            assert_eq!(judged(compiler, "one", 80, "/secret"), NOT);
            assert_eq!(judged(compiler, "one", 81, "/secret"), ALLOW);
            assert_eq!(judged(compiler, "two", 81, "/public"), DENY);
        });
    }
    // A rule about requests of one peer says nothing of another, which is allowed all.
    let limited =
        json!([{"action": "Allow", "from": from("two"), "protocols": port(80), "http": path("/public")}]);
    let open = json!([{"action": "Allow", "from": from("one")}]);
    in_every_order(&[polder("p", limited), polder("q", open)], |compiler| {
        assert_eq!(judged(compiler, "one", 80, "/secret"), ALLOW);
        assert_eq!(judged(compiler, "two", 80, "/secret"), NOT);
    });
}

#[test]
fn a_network_policy_that_allows_all_does_not_widen_a_rule_about_requests() {
    let limited = json!([{"action": "Allow", "protocols": port(80), "http": path("/public")}]);
    in_every_order(&[network_policy("n", json!([{}])), polder("p", limited)], |compiler| {
        assert_eq!(judged(compiler, "one", 80, "/public"), LET);
        assert_eq!(judged(compiler, "one", 80, "/secret"), NOT);
        assert_eq!(judged(compiler, "one", 443, "/secret"), ALLOW);
    });
}

#[test]
fn rules_about_requests_of_one_level_add_up() {
    let rule = |prefix: &str| json!([{"action": "Allow", "protocols": port(80), "http": path(prefix)}]);
    in_every_order(
        &[polder("p", rule("/a")), polder("q", rule("/b")), network_policy("n", json!([]))],
        |compiler| {
            assert_eq!(judged(compiler, "one", 80, "/a/x"), LET);
            assert_eq!(judged(compiler, "one", 80, "/b"), LET);
            assert_eq!(judged(compiler, "one", 80, "/c"), NOT);
        },
    );
}

#[test]
fn what_closes_wins_within_a_level_and_the_lower_level_wins_between_them() {
    let allow = json!([{"action": "Allow", "protocols": port(80), "http": path("/a")}]);
    let deny = json!([{"action": "Deny", "protocols": port(80), "http": path("/a/secret")}]);
    in_every_order(&[polder("p", allow.clone()), polder("q", deny)], |compiler| {
        assert_eq!(judged(compiler, "one", 80, "/a/x"), LET);
        assert_eq!(judged(compiler, "one", 80, "/a/secret/x"), NOT);
    });
    let plain = json!([{"action": "Deny", "protocols": port(80)}]);
    in_every_order(&[polder("p", allow.clone()), polder("q", plain)], |compiler| {
        // No connection is taken up only to be closed.
        assert_eq!(judged(compiler, "one", 80, "/a/x"), DENY);
    });
    let level = |name: &str, priority: i32, rules: Value| {
        policy(
            "PolderPolicy",
            name,
            json!({"subject": {"podSelector": {}}, "priority": priority, "ingress": rules}),
        )
    };
    let open = json!([{"action": "Allow", "protocols": port(80)}]);
    in_every_order(&[level("p", 10, open.clone()), polder("q", allow.clone())], |compiler| {
        assert_eq!(judged(compiler, "one", 80, "/secret"), ALLOW);
    });
    in_every_order(&[level("p", 1001, open), polder("q", allow)], |compiler| {
        assert_eq!(judged(compiler, "one", 80, "/secret"), NOT);
    });
}

#[test]
fn in_a_ranked_tier_a_rule_whose_request_does_not_match_is_passed_over() {
    let rules = json!([
        {"action": "Deny", "protocols": port(80), "http": path("/admin")},
        {"action": "Allow", "protocols": port(80), "http": path("/public")},
        {"action": "Deny", "from": from("two")},
    ]);
    let allow = network_policy("n", json!([{}]));
    in_every_order(&[cluster_policy("c", "Admin", 5, rules), allow], |compiler| {
        for (peer, path, expected) in [
            ("one", "/admin/x", NOT),
            ("one", "/public", LET),
            ("one", "/other", LET),
            ("two", "/public", LET),
            ("two", "/other", NOT),
        ] {
            assert_eq!(judged(compiler, peer, 80, path), expected, "{peer} {path}");
        }
        assert_eq!(judged(compiler, "one", 81, "/admin"), ALLOW);
        assert_eq!(judged(compiler, "two", 81, "/public"), DENY);
    });
}

#[test]
fn a_rule_about_requests_that_nothing_leads_to_redirects_nothing() {
    let asks = |priority| {
        let rules = json!([{"action": "Allow", "protocols": port(80), "http": path("/a")}]);
        cluster_policy("later", "Admin", priority, rules)
    };
    let first = |action: &str| cluster_policy("first", "Admin", 0, json!([{"action": action}]));
    for (action, expected) in [("Allow", ALLOW), ("Deny", DENY), ("Pass", ALLOW)] {
        in_every_order(&[first(action), asks(1)], |compiler| {
            assert_eq!(judged(compiler, "one", 80, "/b"), expected, "{action}");
        });
    }
    in_every_order(
        &[first("Deny"), polder("p", json!([{"action": "Allow", "http": path("/a")}]))],
        |compiler| {
            assert_eq!(judged(compiler, "one", 80, "/a"), DENY);
        },
    );
}

#[test]
fn what_is_no_protocol_that_a_rule_is_about_is_closed_and_its_reason_says_so() {
    let rules = json!([{"action": "Deny", "protocols": port(80), "http": path("/admin")}]);
    let compiler = Compiler::compile(Scope::All, &cluster(), [cluster_policy("c", "Baseline", 5, rules)]);
    let peer = address_of("10.0.0.2".parse().unwrap());
    let query = Query {
        direction: Direction::Ingress,
        peer,
        port: Some((Transport::Tcp, 80)),
        origin: PacketOrigin::Elsewhere,
    };
    let server = PodKey::new("a", "server");
    let decision = compiler.judge_request(&server, &query, &Request::Opaque);
    assert_eq!((decision.verdict, decision.reason), (Verdict::Deny, Reason::OtherProtocol));
    let connection = compiler.judge(&server, &query);
    assert_eq!((connection.verdict, connection.reason), (Verdict::Redirect, Reason::NeedsRequest));
    assert_eq!(connection.rule, decision.rule);
    // Without rules about requests, nobody asks what is sent.
    let other = Query { port: Some((Transport::Tcp, 81)), ..query };
    assert_eq!(compiler.judge_request(&server, &other, &Request::Opaque).verdict, Verdict::Allow);
}

#[test]
fn what_a_claim_closes_leads_back_to_its_rule() {
    let rules = json!([{"action": "Deny", "from": from("two")}, {"action": "Allow", "protocols": port(80), "http": path("/a")}]);
    let compiler = Compiler::compile(Scope::All, &cluster(), [polder("p", rules)]);
    let query = Query {
        direction: Direction::Ingress,
        peer: address_of("10.0.0.2".parse().unwrap()),
        port: Some((Transport::Tcp, 80)),
        origin: PacketOrigin::Elsewhere,
    };
    let head = Head { protocol: Version::Http1, method: b"GET", host: b"", path: b"/b", headers: &[] };
    let decision = compiler.judge_request(&PodKey::new("a", "server"), &query, &Request::Http(head));
    let origin = &compiler.rule(decision.rule.unwrap()).unwrap().origin;
    assert_eq!(*origin, Origin::Claim { object: ObjectRef::namespaced("PolderPolicy", "a", "p"), index: 1 });
}

#[test]
fn an_audited_policy_changes_no_verdict_and_says_what_it_would_do() {
    let spec = json!({"subject": {"podSelector": {}}, "mode": "Audit", "ingress": [{"action": "Deny"}]});
    let compiler = Compiler::compile(Scope::All, &cluster(), [policy("PolderPolicy", "p", spec)]);
    assert_eq!(judged(&compiler, "one", 80, "/"), ALLOW);
    assert_eq!(compiler.in_use(), (0, 0));
    assert_eq!(judged(&compiler.audited().unwrap(), "one", 80, "/"), DENY);
    assert!(Compiler::compile(Scope::All, &cluster(), []).audited().is_none());
}
