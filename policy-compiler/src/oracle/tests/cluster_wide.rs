use super::*;

/// Everyone may be judged, everyone is a peer.
fn anyone() -> Value {
    json!([{"namespaces": {}}])
}

/// A policy for all pods with these ingress rules.
fn spec(tier: &str, priority: i32, ingress: &Value) -> Value {
    json!({"tier": tier, "priority": priority, "subject": {"namespaces": {}}, "ingress": ingress})
}

fn one(tier: &str, priority: i32, name: &str, action: &str) -> PolicyObject {
    cluster_network_policy(name, &spec(tier, priority, &json!([{"action": action, "from": anyone()}])))
}

/// An `AdminNetworkPolicy` for all pods with one ingress rule.
fn admin(priority: i32, name: &str, action: &str) -> PolicyObject {
    admin_network_policy(name, &spec("", priority, &json!([{"action": action, "from": anyone()}])))
}

fn baseline(action: &str) -> PolicyObject {
    baseline_admin_network_policy(&spec("", 0, &json!([{"action": action, "from": anyone()}])))
}

fn rule(kind: &str, name: &str, index: usize) -> RuleName {
    RuleName { policy: ObjectRef::cluster(kind, name), index }
}

#[track_caller]
fn decided(policies: &[PolicyObject], answer: Answer, decider: Decider) {
    let packet = packet("a/web <- 10.0.0.2 tcp/80");
    let mut reversed = policies.to_vec();
    reversed.reverse();
    assert_eq!(decide(policies, &cluster(), &packet), Decision { answer, decider: decider.clone() });
    assert_eq!(decide(&reversed, &cluster(), &packet), Decision { answer, decider }, "in the other order");
}

/// Rules for `a/web` at egress with one list of peers, allowed on top of a denial of everything else.
fn egress_to(peers: &Value, protocols: Option<&Value>) -> [PolicyObject; 2] {
    let everything = json!([{"networks": ["0.0.0.0/0", "::/0"]}]);
    let cnp = json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "egress": [
        {"action": "Accept", "to": peers, "protocols": protocols},
    ]});
    let deny = json!({"tier": "Baseline", "priority": 1, "subject": {"namespaces": {}}, "egress": [
        {"action": "Deny", "to": everything},
    ]});
    [cluster_network_policy("allow", &cnp), cluster_network_policy("deny", &deny)]
}

#[test]
fn the_tiers_are_asked_in_order() {
    let np = || network_policy(&json!({"ingress": []}));
    let open = || network_policy(&json!({"ingress": [{}]}));
    let cnp = "ClusterNetworkPolicy";
    decided(&[], Answer::Allow, Decider::Default);
    decided(&[np()], Answer::Deny, Decider::Namespaced);
    decided(&[one("Admin", 9, "x", "Accept"), np()], Answer::Allow, Decider::Admin(rule(cnp, "x", 0)));
    decided(&[one("Admin", 9, "x", "Deny"), open()], Answer::Deny, Decider::Admin(rule(cnp, "x", 0)));
    decided(&[one("Admin", 9, "x", "Pass"), np()], Answer::Deny, Decider::Namespaced);
    decided(&[one("Baseline", 0, "x", "Accept"), np()], Answer::Deny, Decider::Namespaced);
    decided(&[one("Baseline", 0, "x", "Deny"), open()], Answer::Allow, Decider::Namespaced);
    decided(&[one("Baseline", 0, "x", "Deny")], Answer::Deny, Decider::Baseline(rule(cnp, "x", 0)));
    decided(&[one("Admin", 0, "x", "Pass"), one("Admin", 1, "y", "Deny")], Answer::Allow, Decider::Default);
    decided(
        &[one("Baseline", 0, "x", "Pass"), one("Baseline", 1, "y", "Deny")],
        Answer::Allow,
        Decider::Default,
    );
}

#[test]
fn in_a_tier_the_lowest_priority_comes_first_and_equal_ones_go_by_kind_then_name() {
    let (cnp, anp, banp) = ("ClusterNetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy");
    let (allow, deny) = (Answer::Allow, Answer::Deny);
    let first = [one("Admin", 0, "z", "Deny"), one("Admin", 1000, "a", "Accept")];
    decided(&first, deny, Decider::Admin(rule(cnp, "z", 0)));
    decided(
        &[one("Admin", 5, "b", "Deny"), one("Admin", 5, "a", "Accept")],
        allow,
        Decider::Admin(rule(cnp, "a", 0)),
    );
    decided(
        &[one("Admin", 5, "a", "Deny"), admin(5, "b", "Allow")],
        allow,
        Decider::Admin(rule(anp, "b", 0)),
    );
    decided(&[one("Admin", 4, "a", "Deny"), admin(5, "b", "Allow")], deny, Decider::Admin(rule(cnp, "a", 0)));
    decided(
        &[one("Baseline", 0, "a", "Deny"), baseline("Allow")],
        allow,
        Decider::Baseline(rule(banp, "default", 0)),
    );
    decided(
        &[one("Baseline", 1, "a", "Deny"), baseline("Allow")],
        allow,
        Decider::Baseline(rule(banp, "default", 0)),
    );
    decided(&[admin(1000, "a", "Deny"), baseline("Allow")], deny, Decider::Admin(rule(anp, "a", 0)));
}

#[test]
fn the_first_rule_that_matches_decides_whatever_follows() {
    let rules = json!([
        {"action": "Deny", "from": [{"namespaces": {"matchLabels": {"team": "blue"}}}]},
        {"action": "Accept", "from": anyone(), "protocols": [{"udp": {"destinationPort": {"number": 80}}}]},
        {"action": "Accept", "from": anyone(), "protocols": [{"tcp": {"destinationPort": {"number": 80}}}]},
        {"action": "Deny", "from": anyone()},
    ]);
    let policies = [cluster_network_policy("x", &spec("Admin", 1, &rules))];
    decided(&policies, Answer::Allow, Decider::Admin(rule("ClusterNetworkPolicy", "x", 2)));
    expect(&policies, &cluster(), &["!a/web <- 10.0.0.2 tcp/81", "!a/web <- 10.0.0.2 icmp"]);
}

#[test]
fn a_subject_is_chosen_by_namespace_labels_and_pod_labels_each_in_their_own_space() {
    let deny = json!([{"action": "Deny", "from": anyone()}]);
    for (subject, pods) in [
        (json!({"namespaces": {}}), ["a/web", "a/db", "b/web", "b/job"].as_slice()),
        (json!({"namespaces": {"matchLabels": {"team": "red"}}}), &["a/web", "a/db"]),
        (json!({"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "b"}}}), &["b/web", "b/job"]),
        (
            json!({"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}}}),
            &["a/web", "b/web"],
        ),
        (json!({"pods": {"podSelector": {"matchLabels": {"team": "red"}}}}), &["b/job"]),
        (json!({"namespaces": {"matchLabels": {"app": "web"}}}), &[]),
    ] {
        let spec = json!({"tier": "Admin", "priority": 0, "subject": subject, "ingress": deny});
        for kind in [cluster_network_policy("x", &spec), admin_network_policy("x", &spec)] {
            for pod in ["a/web", "a/db", "b/web", "b/job"] {
                let peer = if pod == "a/db" { "10.0.0.1" } else { "10.0.0.2" };
                let answer = judge(
                    std::slice::from_ref(&kind),
                    &cluster(),
                    &packet(&format!("{pod} <- {peer} tcp/1")),
                );
                assert_eq!(answer == Answer::Deny, pods.contains(&pod), "{pod} {subject}");
            }
        }
    }
}

#[test]
fn peers_are_pods_nodes_or_plain_addresses() {
    let zone_y = json!({"matchLabels": {"zone": "y"}});
    let red = json!({"matchLabels": {"team": "red"}});
    for (peers, allowed) in [
        (json!([{"namespaces": {}}]), ["10.0.0.2", "10.0.0.3", "10.0.0.4"].as_slice()),
        (json!([{"namespaces": red}]), &["10.0.0.2"]),
        (
            json!([{"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "db"}}}}]),
            &["10.0.0.2"],
        ),
        (json!([{"nodes": {}}]), &["10.0.1.1", "10.0.1.2", "fd00::1:2"]),
        (json!([{"nodes": zone_y}]), &["10.0.1.2", "fd00::1:2"]),
        (json!([{"nodes": red}]), &[]),
        (
            json!([{"networks": ["10.0.0.3/31", "fd00::/16"]}]),
            &["10.0.0.2", "10.0.0.3", "fd00::1:2", "fd00::9"],
        ),
        (json!([{"domainNames": ["example.com"]}]), &[]),
        (json!([{"nodes": zone_y}, {"namespaces": red}]), &["10.0.0.2", "10.0.1.2", "fd00::1:2"]),
    ] {
        let policies = egress_to(&peers, None);
        let addresses =
            ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.1.1", "10.0.1.2", "fd00::1:2", "fd00::9", "192.0.2.1"];
        for address in addresses {
            let answer = judge(&policies, &cluster(), &packet(&format!("a/web -> {address} tcp/1")));
            assert_eq!(answer == Answer::Allow, allowed.contains(&address), "{address} {peers}");
        }
    }
}

#[test]
fn admin_policies_have_the_same_peers() {
    for (peers, allowed) in [
        (json!([{"namespaces": {"matchLabels": {"team": "red"}}}]), "10.0.0.2"),
        (
            json!([{"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "db"}}}}]),
            "10.0.0.2",
        ),
        (json!([{"nodes": {"matchLabels": {"zone": "y"}}}]), "10.0.1.2"),
        (json!([{"networks": ["10.0.0.3/32"]}]), "10.0.0.3"),
        (json!([{"domainNames": ["example.com"]}]), "nobody"),
    ] {
        let deny = json!({"priority": 0, "subject": {"namespaces": {}}, "egress": [{"action": "Deny", "to": peers}]});
        for policy in [admin_network_policy("x", &deny), baseline_admin_network_policy(&deny)] {
            for address in ["10.0.0.2", "10.0.0.3", "10.0.1.1", "10.0.1.2", "192.0.2.1"] {
                let packet = packet(&format!("a/web -> {address} tcp/1"));
                let answer = judge(std::slice::from_ref(&policy), &cluster(), &packet);
                assert_eq!(answer == Answer::Deny, address == allowed, "{address} {peers}");
            }
        }
    }
}

#[test]
fn ports_of_a_cluster_network_policy() {
    let to = json!([{"namespaces": {}}]);
    for (protocols, allowed) in [
        (None, ["tcp/80", "tcp/81", "udp/80", "sctp/80", "tcp/9090", "icmp"].as_slice()),
        (Some(json!([{"tcp": {"destinationPort": {"number": 80}}}])), &["tcp/80"]),
        (Some(json!([{"udp": {"destinationPort": {"range": {"start": 80, "end": 81}}}}])), &["udp/80"]),
        (Some(json!([{"sctp": {}}])), &["sctp/80"]),
        (
            Some(json!([{"tcp": {"destinationPort": {"range": {"start": 80, "end": 81}}}}])),
            &["tcp/80", "tcp/81"],
        ),
        (Some(json!([{"destinationNamedPort": "http"}])), &["tcp/9090"]),
        (Some(json!([{"destinationNamedPort": "nothing"}])), &[]),
    ] {
        let policies = egress_to(&to, protocols.as_ref());
        for protocol in ["tcp/80", "tcp/81", "udp/80", "sctp/80", "tcp/9090", "icmp"] {
            let answer = judge(&policies, &cluster(), &packet(&format!("a/web -> 10.0.0.2 {protocol}")));
            assert_eq!(answer == Answer::Allow, allowed.contains(&protocol), "{protocol} {protocols:?}");
        }
    }
}

#[test]
fn ports_of_an_admin_network_policy() {
    for (ports, denied) in [
        (None, ["tcp/80", "tcp/81", "udp/53", "tcp/5353", "icmp"].as_slice()),
        (Some(json!([{"portNumber": {"port": 80}}])), &["tcp/80"]),
        (Some(json!([{"portNumber": {"protocol": "UDP", "port": 53}}])), &["udp/53"]),
        (Some(json!([{"portRange": {"start": 80, "end": 81}}])), &["tcp/80", "tcp/81"]),
        (Some(json!([{"portRange": {"protocol": "UDP", "start": 1, "end": 65535}}])), &["udp/53"]),
        (Some(json!([{"namedPort": "dns"}])), &["udp/53"]),
    ] {
        let deny = json!([{"action": "Deny", "from": anyone(), "ports": ports}]);
        let policies = [admin_network_policy("x", &spec("", 0, &deny))];
        for protocol in ["tcp/80", "tcp/81", "udp/53", "tcp/5353", "icmp"] {
            let answer = judge(&policies, &cluster(), &packet(&format!("a/web <- 10.0.0.2 {protocol}")));
            assert_eq!(answer == Answer::Deny, denied.contains(&protocol), "{protocol} {ports:?}");
        }
    }
}

#[test]
fn a_port_named_alone_is_the_first_of_that_name_whatever_its_protocol() {
    // a/web has dns on UDP 53 first and on TCP 5353 after it; b/job's http is UDP.
    let deny = json!([{"action": "Deny", "from": anyone(), "protocols": [{"destinationNamedPort": "dns"}]}]);
    let policies = [cluster_network_policy("x", &spec("Admin", 0, &deny))];
    expect(&policies, &cluster(), &["!a/web <- 10.0.0.2 udp/53", "a/web <- 10.0.0.2 tcp/5353"]);
    let policies = egress_to(&json!([{"namespaces": {}}]), Some(&json!([{"destinationNamedPort": "http"}])));
    expect(&policies, &cluster(), &["a/web -> 10.0.0.4 udp/8080", "!a/web -> 10.0.0.4 tcp/8080"]);
}
