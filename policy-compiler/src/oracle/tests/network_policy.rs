use super::*;

/// Whether `a/web` is isolated at ingress and at egress by a policy with this spec and nothing that allows.
fn isolates(spec: &Value) -> [bool; 2] {
    let policies = [network_policy(spec)];
    // An address that no rule below names, for those specs that have rules.
    ["a/web <- 192.0.2.1 tcp/1", "a/web -> 192.0.2.1 tcp/1"]
        .map(|text| judge(&policies, &cluster(), &packet(text)) == Answer::Deny)
}

fn ingress(rule: &Value) -> [PolicyObject; 1] {
    [network_policy(&json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [rule]}))]
}

fn egress(rule: &Value) -> [PolicyObject; 1] {
    [network_policy(&json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]}))]
}

#[test]
fn policy_types_default_to_ingress_and_to_egress_only_with_an_egress_rule() {
    let rule = json!([{"to": [{"podSelector": {"matchLabels": {"app": "nobody"}}}]}]);
    let from = json!([{"from": [{"podSelector": {"matchLabels": {"app": "nobody"}}}]}]);
    for (spec, isolated) in [
        (json!({}), [true, false]),
        (json!({"policyTypes": []}), [true, false]),
        (json!({"egress": []}), [true, false]),
        (json!({"ingress": []}), [true, false]),
        (json!({"egress": rule}), [true, true]),
        (json!({"policyTypes": [], "egress": rule}), [true, true]),
        (json!({"policyTypes": ["Ingress"], "egress": rule}), [true, false]),
        (json!({"policyTypes": ["Egress"]}), [false, true]),
        (json!({"policyTypes": ["Egress"], "ingress": from}), [false, true]),
        (json!({"policyTypes": ["Egress", "Ingress"]}), [true, true]),
    ] {
        assert_eq!(isolates(&spec), isolated, "{spec}");
    }
}

#[test]
fn rules_of_a_direction_that_the_policy_does_not_speak_about_allow_nothing() {
    let silent = network_policy(&json!({"policyTypes": ["Egress"], "ingress": [{}]}));
    let closed = network_policy(&json!({"policyTypes": ["Ingress"]}));
    expect(&[silent, closed], &cluster(), &["!a/web <- 10.0.0.2 tcp/80"]);
}

#[test]
fn the_pod_selector_chooses_pods_of_the_policys_own_namespace_only() {
    for (selector, web, db) in [
        (json!({}), true, true),
        (json!(null), true, true),
        (json!({"matchLabels": {"app": "web"}}), true, false),
        (json!({"matchExpressions": [{"key": "nobody", "operator": "DoesNotExist"}]}), true, true),
    ] {
        let policies = [network_policy(&json!({"podSelector": selector}))];
        for (pod, isolated) in [("a/web", web), ("a/db", db), ("b/web", false), ("b/job", false)] {
            let answer = judge(&policies, &cluster(), &packet(&format!("{pod} <- 192.0.2.1 tcp/80")));
            assert_eq!(answer == Answer::Deny, isolated, "{pod} {selector}");
        }
    }
}

#[test]
fn a_policy_without_a_namespace_is_in_the_namespace_default() {
    let object = json!({"metadata": {"name": "np"}, "spec": {"podSelector": {}}});
    let policy = PolicyObject::NetworkPolicy(serde_json::from_value(object).unwrap());
    let mut cluster = cluster();
    put(&mut cluster, pod("default/web", &["10.0.0.9"], Labels::new([("app", "web")])));
    expect(&[policy], &cluster, &["!default/web <- 10.0.0.2 tcp/80", "a/web <- 10.0.0.2 tcp/80"]);
}

#[test]
fn every_operator_of_a_selector_means_what_label_selectors_mean() {
    let labels = Labels::<OfPod>::new([("app", "web"), ("empty", "")]);
    let is = |selector: Value| matching::selects(&serde_json::from_value(selector.clone()).unwrap(), &labels);
    let expression = |key: &str, operator: &str, values: &[&str]| {
        let values = (!values.is_empty()).then_some(values);
        is(json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}))
    };
    assert!(is(json!({})) && is(json!({"matchLabels": {}, "matchExpressions": []})));
    assert!(is(json!({"matchLabels": {"app": "web", "empty": ""}})));
    assert!(!is(json!({"matchLabels": {"app": "web", "other": ""}})));
    assert!(expression("app", "In", &["db", "web"]) && !expression("app", "In", &["db"]));
    assert!(!expression("other", "In", &["db"]) && !expression("other", "In", &[""]));
    assert!(expression("app", "NotIn", &["db"]) && !expression("app", "NotIn", &["db", "web"]));
    assert!(expression("other", "NotIn", &["db"]), "NotIn selects what has no such key");
    assert!(expression("empty", "Exists", &[]) && !expression("other", "Exists", &[]));
    assert!(!expression("empty", "DoesNotExist", &[]) && expression("other", "DoesNotExist", &[]));
    let both = json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]});
    assert!(!is(both), "all parts must hold");
}

#[test]
fn an_absent_or_empty_peer_list_is_everyone_and_an_empty_peer_selector_is_not() {
    let everyone = ["a/web <- 192.0.2.1 tcp/80", "a/web <- 10.0.0.3 tcp/80", "a/web <- fd00::9 icmpv6"];
    expect(&ingress(&json!({})), &cluster(), &everyone);
    expect(&ingress(&json!({"from": []})), &cluster(), &everyone);
    let own = ["!a/web <- 192.0.2.1 tcp/80", "!a/web <- 10.0.0.3 tcp/80", "a/web <- 10.0.0.2 tcp/80"];
    expect(&ingress(&json!({"from": [{"podSelector": {}}]})), &cluster(), &own);
    let all = ["!a/web <- 192.0.2.1 tcp/80", "a/web <- 10.0.0.3 tcp/80", "a/web <- 10.0.0.2 tcp/80"];
    expect(&ingress(&json!({"from": [{"namespaceSelector": {}}]})), &cluster(), &all);
    let nobody = json!({"from": [{"podSelector": {"matchLabels": {"app": "nobody"}}}]});
    expect(&ingress(&nobody), &cluster(), &["!a/web <- 10.0.0.2 tcp/80", "!a/web <- 192.0.2.1 tcp/80"]);
}

#[test]
fn a_peer_with_both_selectors_wants_both_and_two_peers_want_either() {
    let app = json!({"matchLabels": {"app": "web"}});
    let of_b = json!({"matchLabels": {"kubernetes.io/metadata.name": "b"}});
    let both = json!({"from": [{"podSelector": app, "namespaceSelector": of_b}]});
    let rows = ["a/web <- 10.0.0.3 tcp/80", "!a/web <- 10.0.0.4 tcp/80", "!a/web <- 10.0.0.2 tcp/80"];
    expect(&ingress(&both), &cluster(), &rows);
    let db = json!({"matchLabels": {"app": "db"}});
    let either = json!({"from": [{"podSelector": db}, {"namespaceSelector": of_b}]});
    let rows = ["a/web <- 10.0.0.3 tcp/80", "a/web <- 10.0.0.4 tcp/80", "a/web <- 10.0.0.2 tcp/80"];
    expect(&ingress(&either), &cluster(), &rows);
}

#[test]
fn pod_labels_never_satisfy_a_namespace_selector() {
    // b/job says of itself that it is of namespace a and of team red; its namespace is unknown to the facts.
    for labels in [json!({"kubernetes.io/metadata.name": "a"}), json!({"team": "red"})] {
        let rule = json!({"from": [{"namespaceSelector": {"matchLabels": labels}}]});
        expect(&ingress(&rule), &cluster(), &["a/web <- 10.0.0.2 tcp/80", "!a/web <- 10.0.0.4 tcp/80"]);
        let rule = json!({"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": labels}}]});
        expect(&ingress(&rule), &cluster(), &["!a/web <- 10.0.0.2 tcp/80", "a/web <- 10.0.0.4 tcp/80"]);
    }
}

#[test]
fn a_block_means_plain_addresses_without_its_exceptions() {
    let block = |block: Value| ingress(&json!({"from": [{"ipBlock": block}]}));
    let pods = block(json!({"cidr": "10.0.0.0/30", "except": ["10.0.0.3/32"]}));
    let rows = ["a/web <- 10.0.0.0 icmp", "a/web <- 10.0.0.2 tcp/80", "!a/web <- 10.0.0.3 tcp/80"];
    expect(&pods, &cluster(), &rows);
    expect(&pods, &cluster(), &["!a/web <- 10.0.0.4 tcp/80", "!a/web <- ::ffff:10.0.0.2 tcp/80"]);
    let all = block(json!({"cidr": "0.0.0.0/0", "except": ["10.0.0.0/28", "10.0.0.0/30"]}));
    let rows = ["a/web <- 10.0.1.1 tcp/80", "!a/web <- 10.0.0.2 tcp/80", "!a/web <- fd00::9 tcp/80"];
    expect(&all, &cluster(), &rows);
    let six = block(json!({"cidr": "::/0", "except": ["fd00::8/125"]}));
    let rows = ["a/web <- ::ffff:10.0.0.2 tcp/80", "!a/web <- fd00::f tcp/80", "!a/web <- 10.0.0.2 tcp/80"];
    expect(&six, &cluster(), &rows);
}

#[test]
fn bits_below_a_prefix_length_do_not_count() {
    for (cidr, address, inside) in [
        ("10.161.0.0/8", "10.0.0.1", true),
        ("10.161.0.0/8", "11.161.0.0", false),
        ("255.255.255.255/0", "0.0.0.0", true),
        ("10.0.0.7/31", "10.0.0.6", true),
        ("10.0.0.7/32", "10.0.0.6", false),
        ("fd00::f/125", "fd00::8", true),
        ("fd00::f/125", "fd00::7", false),
        ("ffff::/0", "::", true),
    ] {
        assert_eq!(matching::contains(cidr, ip(address)), Some(inside), "{cidr} {address}");
    }
    assert_eq!(matching::contains("10.0.0.0/33", ip("10.0.0.0")), None);
}

#[test]
fn an_absent_or_empty_port_list_covers_every_protocol_and_a_port_entry_one() {
    for rule in [json!({}), json!({"ports": []})] {
        let rows = ["a/web <- 10.0.0.2 icmp", "a/web <- 10.0.0.2 sctp/0", "a/web <- 10.0.0.2 udp/65535"];
        expect(&ingress(&rule), &cluster(), &rows);
    }
    for (port, rows) in [
        (json!({}), ["a/web <- 10.0.0.2 tcp/0", "!a/web <- 10.0.0.2 udp/0", "!a/web <- 10.0.0.2 icmp"]),
        (
            json!({"protocol": "UDP"}),
            ["a/web <- 10.0.0.2 udp/7", "!a/web <- 10.0.0.2 tcp/7", "!a/web <- 10.0.0.2 icmp"],
        ),
        (
            json!({"protocol": "SCTP"}),
            ["a/web <- 10.0.0.2 sctp/7", "!a/web <- 10.0.0.2 tcp/7", "!a/web <- 10.0.0.2 icmp"],
        ),
        (
            json!({"port": 80}),
            ["a/web <- 10.0.0.2 tcp/80", "!a/web <- 10.0.0.2 tcp/81", "!a/web <- 10.0.0.2 udp/80"],
        ),
    ] {
        expect(&ingress(&json!({"ports": [port]})), &cluster(), &rows);
    }
}

#[test]
fn an_end_port_makes_a_range_with_both_ends() {
    let rule = json!({"ports": [{"port": 80, "endPort": 82}, {"port": 65535, "endPort": 65535}]});
    for (port, inside) in [(79, false), (80, true), (82, true), (83, false), (65534, false), (65535, true)] {
        let answer = judge(&ingress(&rule), &cluster(), &packet(&format!("a/web <- 10.0.0.2 tcp/{port}")));
        assert_eq!(answer == Answer::Allow, inside, "{port}");
    }
    let all = json!({"ports": [{"port": 1, "endPort": 65535}]});
    expect(&ingress(&all), &cluster(), &["!a/web <- 10.0.0.2 tcp/0", "a/web <- 10.0.0.2 tcp/65535"]);
}

#[test]
fn a_named_port_is_the_destination_pods_own() {
    let http = json!({"ports": [{"port": "http"}]});
    let rows = ["a/web <- 10.0.0.2 tcp/8080", "!a/web <- 10.0.0.2 tcp/9090", "!a/web <- 10.0.0.2 udp/8080"];
    expect(&ingress(&http), &cluster(), &rows);
    let rows = ["a/web -> 10.0.0.2 tcp/9090", "!a/web -> 10.0.0.2 tcp/8080", "!a/web -> 10.0.0.3 tcp/8080"];
    expect(&egress(&http), &cluster(), &rows);
    // b/job's `http` is UDP; an address that is nobody's has no names.
    let rows = ["!a/web -> 10.0.0.4 tcp/8080", "!a/web -> 10.0.0.4 udp/8080", "!a/web -> 192.0.2.1 tcp/8080"];
    expect(&egress(&http), &cluster(), &rows);
    // The second port of a name counts where its protocol is asked for.
    let dns = json!({"ports": [{"port": "dns"}]});
    expect(&ingress(&dns), &cluster(), &["a/web <- 10.0.0.2 tcp/5353", "!a/web <- 10.0.0.2 udp/53"]);
}

#[test]
fn policies_and_rules_add_up() {
    let one = network_policy(&json!({"ingress": [{"ports": [{"port": 80}]}, {"ports": [{"port": 81}]}]}));
    let two = network_policy(&json!({"ingress": [{"ports": [{"port": 82}]}]}));
    let rows = ["a/web <- 10.0.0.2 tcp/80", "a/web <- 10.0.0.2 tcp/81", "a/web <- 10.0.0.2 tcp/82"];
    expect(&[one.clone(), two.clone()], &cluster(), &rows);
    expect(&[two, one], &cluster(), &["!a/web <- 10.0.0.2 tcp/83", "a/web -> 10.0.0.2 tcp/83"]);
}
