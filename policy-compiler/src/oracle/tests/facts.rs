use super::*;

/// Isolates all pods of namespace `a` but for pods with `app=db`.
fn only_db() -> [PolicyObject; 1] {
    let db = json!([{"podSelector": {"matchLabels": {"app": "db"}}}]);
    let spec =
        json!({"policyTypes": ["Ingress", "Egress"], "ingress": [{"from": db}], "egress": [{"to": db}]});
    [network_policy(&spec)]
}

fn deny_all() -> [PolicyObject; 2] {
    let all = json!([{"action": "Deny", "to": [{"networks": ["0.0.0.0/0", "::/0"]}]}]);
    let spec = json!({"tier": "Admin", "priority": 0, "subject": {"namespaces": {}}, "egress": all,
        "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]});
    [cluster_network_policy("deny", &spec), network_policy(&json!({"policyTypes": ["Ingress", "Egress"]}))]
}

#[test]
fn a_pod_reaches_itself_at_all_its_addresses_before_any_tier() {
    let rows = ["a/web <- 10.0.0.1 tcp/80", "a/web -> 10.0.0.1 icmp", "a/web -> fd00::1 udp/1"];
    expect(&deny_all(), &cluster(), &rows);
    expect(&deny_all(), &cluster(), &["!a/web -> 10.0.0.2 tcp/80", "!a/web <- 10.0.0.2 tcp/80"]);
    let decision = decide(&deny_all(), &cluster(), &packet("a/web <- fd00::1 tcp/80"));
    assert_eq!(decision, Decision { answer: Answer::Allow, decider: Decider::OwnAddress });
}

#[test]
fn its_own_node_reaches_a_pod_and_not_the_other_way_round() {
    let with = |text: &str, from_own_node| {
        decide(&deny_all(), &cluster(), &Packet { from_own_node, ..packet(text) })
    };
    // By the way the packet came, not by its address: that can be forged.
    let allowed = with("a/web <- 192.0.2.1 tcp/80", true);
    assert_eq!(allowed, Decision { answer: Answer::Allow, decider: Decider::OwnNode });
    assert_eq!(with("a/web <- 10.0.1.1 tcp/80", false).answer, Answer::Deny);
    assert_eq!(with("a/web -> 10.0.1.1 tcp/80", true).answer, Answer::Deny);
}

#[test]
fn policy_does_not_apply_at_pods_that_are_unknown_finished_or_on_the_host_network() {
    let not_subject = Decision { answer: Answer::Allow, decider: Decider::NotSubject };
    let mut cluster = cluster();
    let web = Pod::clone(&cluster.pods[&pod_key("a/web")]);
    let at_web = packet("a/web <- 10.0.0.2 tcp/80");
    assert_eq!(decide(&deny_all(), &cluster, &at_web).answer, Answer::Deny);
    put(&mut cluster, Pod { host_network: true, ..web.clone() });
    assert_eq!(decide(&deny_all(), &cluster, &at_web), not_subject);
    put(&mut cluster, Pod { phase: Phase::Finished, ..web.clone() });
    assert_eq!(decide(&deny_all(), &cluster, &at_web), not_subject);
    put(&mut cluster, Pod { phase: Phase::Pending, ..web });
    assert_eq!(decide(&deny_all(), &cluster, &at_web).answer, Answer::Deny);
    assert_eq!(decide(&deny_all(), &cluster, &packet("a/nobody <- 10.0.0.2 tcp/80")), not_subject);
}

#[test]
fn a_pod_that_is_finished_or_on_the_host_network_is_no_pod_peer() {
    let mut cluster = cluster();
    let db = Pod::clone(&cluster.pods[&pod_key("a/db")]);
    expect(&only_db(), &cluster, &["a/web <- 10.0.0.2 tcp/80"]);
    put(&mut cluster, Pod { phase: Phase::Finished, ..db.clone() });
    expect(&only_db(), &cluster, &["!a/web <- 10.0.0.2 tcp/80"]);
    put(&mut cluster, Pod { host_network: true, addresses: vec![ip("10.0.1.1")], ..db });
    expect(&only_db(), &cluster, &["!a/web <- 10.0.0.2 tcp/80", "!a/web <- 10.0.1.1 tcp/80"]);
}

#[test]
fn an_address_that_several_pods_claim_belongs_to_the_running_then_the_younger_then_the_first_by_name() {
    let mut cluster = cluster();
    let db = Pod { created: Some(5), ..Pod::clone(&cluster.pods[&pod_key("a/db")]) };
    put(&mut cluster, db.clone());
    let other = pod("a/other", &["10.0.0.2"], Labels::new([("app", "other")]));
    for (claim, to_db) in [
        (Pod { phase: Phase::Pending, created: Some(9), ..other.clone() }, true),
        (Pod { phase: Phase::Finished, created: Some(9), ..other.clone() }, true),
        (Pod { host_network: true, created: Some(9), ..other.clone() }, true),
        (Pod { created: Some(4), ..other.clone() }, true),
        (Pod { created: None, ..other.clone() }, true),
        (Pod { created: Some(5), ..other.clone() }, true),
        (Pod { created: Some(6), ..other.clone() }, false),
    ] {
        let mut cluster = cluster.clone();
        let what = format!("{claim:?}");
        put(&mut cluster, claim);
        let answer = judge(&only_db(), &cluster, &packet("a/web <- 10.0.0.2 tcp/80"));
        assert_eq!(answer == Answer::Allow, to_db, "{what}");
    }
}

#[test]
fn the_owner_of_an_address_gives_its_port_names() {
    let mut cluster = cluster();
    let ports = vec![ContainerPort { name: "http".into(), transport: Transport::Tcp, port: 7 }];
    let younger = pod("b/younger", &["10.0.0.2"], Labels::new([("app", "x")]));
    put(&mut cluster, Pod { ports, created: Some(1), ..younger });
    let spec = json!({"policyTypes": ["Egress"], "egress": [{"ports": [{"port": "http"}]}]});
    let rows = ["a/web -> 10.0.0.2 tcp/7", "!a/web -> 10.0.0.2 tcp/9090"];
    expect(&[network_policy(&spec)], &cluster, &rows);
}

#[test]
fn an_address_of_a_pod_and_of_a_node_is_both() {
    let mut cluster = cluster();
    let node = Node { addresses: [ip("10.0.0.2")].into(), ..Node::clone(&cluster.nodes["n1"]) };
    cluster.nodes.insert("n1".into(), Arc::new(node));
    for to in [
        json!({"nodes": {"matchLabels": {"zone": "x"}}}),
        json!({"namespaces": {}}),
        json!({"networks": ["10.0.0.2/32"]}),
    ] {
        let deny =
            json!({"priority": 0, "subject": {"namespaces": {}}, "egress": [{"action": "Deny", "to": [to]}]});
        expect(&[admin_network_policy("x", &deny)], &cluster, &["!a/web -> 10.0.0.2 tcp/80"]);
    }
}

#[test]
fn pods_whose_joined_names_are_equal_are_still_two() {
    let mut cluster = Cluster::default();
    put(&mut cluster, pod("ab/c", &["10.0.0.1"], Labels::new([("app", "x")])));
    put(&mut cluster, pod("a/bc", &["10.0.0.2"], Labels::new([("app", "x")])));
    let policies = [network_policy(&json!({"podSelector": {}}))];
    expect(&policies, &cluster, &["ab/c <- 10.0.0.9 tcp/1", "!a/bc <- 10.0.0.9 tcp/1"]);
}

#[test]
fn removing_a_policy_of_one_direction_leaves_the_other_direction_alone() {
    let named = |name: &str, spec: &Value| match network_policy(spec) {
        PolicyObject::NetworkPolicy(mut policy) => {
            policy.metadata.name = Some(name.to_owned());
            PolicyObject::NetworkPolicy(policy)
        }
        other => other,
    };
    let one = named("one", &json!({"policyTypes": ["Ingress"]}));
    let two = named("two", &json!({"policyTypes": ["Ingress"]}));
    for policies in [vec![one.clone(), two.clone()], vec![one], vec![two]] {
        expect(&policies, &cluster(), &["!a/web <- 10.0.0.2 tcp/1", "a/web -> 10.0.0.2 tcp/1"]);
    }
}
