use datapath::abi::Transport::{Tcp, Udp};
use serde_json::json;

use super::listed;
use super::testing::{cluster, cluster_policy, found, network_policy, pod};
use crate::facts::{Cluster, Phase, Pod};

/// web, api and db in prod, DNS in kube-system.
fn shop() -> Cluster {
    cluster([
        pod("prod/web", 1, &[("app", "web")], &[("http", Tcp, 8080)]),
        pod("prod/api", 2, &[("app", "api")], &[("http", Tcp, 8081), ("probe", Udp, 99)]),
        pod("prod/db", 3, &[("app", "db")], &[]),
        pod("kube-system/dns", 9, &[("k8s-app", "kube-dns")], &[("dns", Udp, 53), ("dns-tcp", Tcp, 53)]),
    ])
}

fn app(name: &str) -> serde_json::Value {
    json!({"matchLabels": {"app": name}})
}

#[test]
fn long_lists_are_counted() {
    assert_eq!(listed::<&str>([]), "");
    assert_eq!(listed(["a"]), "a");
    assert_eq!(listed(["a", "b", "c", "d"]), "a, b, c and d");
    assert_eq!(listed(["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
}

#[test]
fn a_policy_without_faults_gets_no_remark() {
    let spec = json!({
        "podSelector": app("api"),
        "ingress": [{"from": [{"podSelector": app("web")}], "ports": [{"port": "http"}]}],
    });
    assert_eq!(found(&shop(), &[network_policy("api", &spec)]), Vec::<String>::new());
}

#[test]
fn a_selector_that_finds_nothing_is_named_with_what_comes_near() {
    let peer = |selector| {
        let from = json!([selector]);
        network_policy("p", &json!({"podSelector": app("api"), "ingress": [{"from": from}]}))
    };
    let unknown = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}});
    let misspelt = json!({"namespaceSelector": {"matchLabels": {"team": "prd"}}, "podSelector": app("web")});
    for (policy, expected) in [
        (
            network_policy("p", &json!({"podSelector": app("wbe")})),
            "warning selector-matches-nothing NetworkPolicy prod/p: spec.podSelector: no pod in namespace prod has \
             app=wbe: the policy applies to nobody; expected app=web",
        ),
        (
            peer(json!({"podSelector": {"matchLabels": {"ap": "x"}}})),
            "warning selector-matches-nothing NetworkPolicy prod/p: spec.ingress[0].from[0].podSelector: no pod in \
             namespace prod has ap=x: this peer is nobody",
        ),
        (
            peer(misspelt),
            "warning selector-matches-nothing NetworkPolicy prod/p: spec.ingress[0].from[0].namespaceSelector: no \
             namespace has team=prd: this peer is nobody; expected team=prod",
        ),
        // A namespace that is not at hand is no mistake.
        (
            peer(unknown),
            "note selector-matches-nothing NetworkPolicy prod/p: spec.ingress[0].from[0].namespaceSelector: no \
             namespace has kubernetes.io/metadata.name=ingress: this peer is nobody",
        ),
    ] {
        assert_eq!(found(&shop(), &[policy]), [expected]);
    }
}

#[test]
fn a_node_selector_is_only_wrong_if_nodes_are_known() {
    let to = json!([{"nodes": {"matchLabels": {"role": "edge"}}}]);
    let spec = json!({
        "tier": "Admin", "priority": 1, "subject": {"namespaces": {}},
        "egress": [{"action": "Deny", "to": to}],
    });
    let expected = "note selector-matches-nothing ClusterNetworkPolicy c: spec.egress[0].to[0].nodes: no node is known: \
                    this peer is nobody";
    assert_eq!(found(&shop(), &[cluster_policy("c", &spec)]), [expected]);
}

#[test]
fn a_named_port_that_no_pod_has_is_named_with_what_comes_near() {
    let at_ingress =
        |port| network_policy("p", &json!({"podSelector": app("api"), "ingress": [{"ports": [port]}]}));
    let said = |field: &str, whom: &str, expected: &str| {
        format!(
            "warning port-named-by-no-pod NetworkPolicy prod/p: {field}: of the {whom}: this entry matches nothing; \
             expected {expected}"
        )
    };
    let to = json!([{"podSelector": app("db")}]);
    let at_egress = json!({"podSelector": app("api"), "policyTypes": ["Egress"], "egress": [
        {"to": to, "ports": [{"port": "postgresql"}]}, {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53}]},
    ]});
    let ingress = "spec.ingress[0].ports[0].port";
    for (policy, expected) in [
        (
            at_ingress(json!({"port": "htpp"})),
            said(ingress, "one pod that the policy selects, none has a port named \"htpp\" for TCP", "http"),
        ),
        (
            at_ingress(json!({"port": "probe"})),
            said(
                ingress,
                "one pod that the policy selects, none has a port named \"probe\" for TCP",
                "protocol: UDP, for which there is a port of that name",
            ),
        ),
        (
            network_policy("p", &at_egress),
            said(
                "spec.egress[0].ports[0].port",
                "one pod that the rule leads to, none has a port named \"postgresql\" for TCP",
                "the number of the port, or a name for it in the pod's containers",
            ),
        ),
    ] {
        assert_eq!(found(&shop(), &[policy]), [expected]);
    }
}

#[test]
fn a_policy_that_can_have_no_effect_is_named() {
    let of = |change: fn(&mut Pod)| {
        let mut pod = pod("prod/web", 1, &[("app", "web")], &[]);
        change(&mut pod);
        cluster([pod])
    };
    let all = [network_policy("p", &json!({"podSelector": {}}))];
    let said = |text: &str| format!("warning policy-without-effect {text}");
    assert_eq!(
        found(&of(|pod| pod.host_network = true), &all),
        [said(
            "NetworkPolicy prod/p: spec.podSelector: the one pod that is selected is on the host network, where no \
             policy applies; expected pods with addresses of their own"
        )]
    );
    assert_eq!(
        found(&of(|pod| pod.phase = Phase::Finished), &all),
        [said(
            "NetworkPolicy prod/p: spec.podSelector: all pods that are selected have finished, and have no address any \
             more; expected pods that are pending or running"
        )]
    );
    let silent = json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}});
    assert_eq!(
        found(&shop(), &[cluster_policy("c", &silent)]),
        [said(
            "ClusterNetworkPolicy c: spec: the policy has no rules: it says nothing; expected rules in ingress or egress"
        )]
    );
}

#[test]
fn a_rule_that_allows_everything_is_named_and_weighs_most_in_the_admin_tier() {
    let everything = json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]});
    let accept = json!({
        "tier": "Admin", "priority": 1, "subject": {"namespaces": {}},
        "egress": [{"action": "Accept", "to": [{"networks": ["0.0.0.0/0"]}]}],
    });
    assert_eq!(
        found(&shop(), &[network_policy("p", &everything), cluster_policy("c", &accept)]),
        [
            "warning allows-everything ClusterNetworkPolicy c: spec.egress[0]: this rule allows everything to every IPv4 \
             address, on all ports: no NetworkPolicy can restrict it any more; expected the peers and ports that are \
             needed",
            "note allows-everything NetworkPolicy prod/p: spec.ingress[0]: this rule allows everything from everyone, on \
             all ports: no other policy restricts the ingress of these pods; expected the peers and ports that are needed",
        ]
    );
}

fn admin(
    name: &str,
    priority: i32,
    team: &str,
    rules: &[(&str, serde_json::Value)],
) -> crate::api::PolicyObject {
    let rules: Vec<_> =
        rules.iter().map(|(action, from)| json!({"action": action, "from": [from]})).collect();
    let subject = json!({"namespaces": {"matchLabels": {"team": team}}});
    cluster_policy(
        name,
        &json!({"tier": "Admin", "priority": priority, "subject": subject, "ingress": rules}),
    )
}

#[test]
fn equal_priorities_are_a_warning_where_they_meet_and_a_note_where_they_do_not() {
    let from = || json!({"pods": {"podSelector": app("web")}});
    let policies = [
        admin("a", 7, "prod", &[("Deny", from())]),
        admin("b", 7, "prod", &[("Pass", from())]),
        admin("c", 7, "kube-system", &[("Deny", from())]),
    ];
    let found = found(&shop(), &policies);
    let of_priority: Vec<_> = found.iter().filter(|said| said.contains(" equal-priority ")).collect();
    assert_eq!(
        of_priority,
        [
            "warning equal-priority ClusterNetworkPolicy b: spec.priority: ClusterNetworkPolicy a has the same priority \
             7, which is asked first, by kind and name; both apply to some pods, and other implementations may ask in \
             another order; expected a priority of its own",
            "note equal-priority ClusterNetworkPolicy c: spec.priority: ClusterNetworkPolicy a and ClusterNetworkPolicy b \
             have the same priority 7, which are asked first, by kind and name; they do not meet on any pod at hand; \
             expected a priority of its own",
        ]
    );
}

#[test]
fn a_rule_is_shadowed_if_nothing_is_left_for_it_in_any_cell() {
    let web = || json!({"pods": {"podSelector": app("web")}});
    let prod = || json!({"namespaces": {"matchLabels": {"team": "prod"}}});
    let first = admin("first", 1, "prod", &[("Pass", prod()), ("Deny", web())]);
    let second = admin("second", 2, "prod", &[("Pass", web()), ("Deny", json!({"namespaces": {}}))]);
    assert_eq!(
        found(&shop(), &[first, second]),
        [
            "warning shadowed-rule ClusterNetworkPolicy first: spec.ingress[1]: this rule never decides: whatever it \
             matches, ClusterNetworkPolicy first spec.ingress[0] matches first, with another action; expected this rule \
             before that one, or without it",
            "note shadowed-rule ClusterNetworkPolicy second: spec.ingress[0]: this rule never decides: whatever it \
             matches, ClusterNetworkPolicy first spec.ingress[0] matches first, with the same action",
        ]
    );
}

#[test]
fn of_network_policies_that_allow_the_same_only_one_is_redundant() {
    let rule = |port: serde_json::Value| json!([{"from": [{"podSelector": app("web")}], "ports": port}]);
    let spec = |port| json!({"podSelector": app("api"), "ingress": rule(port)});
    let both = [
        network_policy("a", &spec(json!([{"port": 80}]))),
        network_policy("b", &spec(json!([{"port": 80}]))),
        network_policy("narrow", &spec(json!([{"port": 443}]))),
        network_policy("wide", &spec(json!([{"port": 400, "endPort": 500}]))),
    ];
    assert_eq!(
        found(&shop(), &both),
        [
            "note shadowed-rule NetworkPolicy prod/b: spec.ingress[0]: all that this rule allows is allowed by \
             NetworkPolicy prod/a spec.ingress[0] too",
            "note shadowed-rule NetworkPolicy prod/narrow: spec.ingress[0]: all that this rule allows is allowed by \
             NetworkPolicy prod/wide spec.ingress[0] too",
        ]
    );
}

#[test]
fn rules_that_cover_another_one_only_together_shadow_it_too() {
    let rule = |apps: &[&str]| {
        let from: Vec<_> = apps.iter().map(|name| json!({"podSelector": app(name)})).collect();
        json!({"podSelector": app("api"), "ingress": [{"from": from}]})
    };
    let policies = [
        network_policy("both", &rule(&["web", "db"])),
        network_policy("one", &rule(&["web"])),
        network_policy("two", &rule(&["db"])),
    ];
    // The later ones are called redundant first; what they did, `both` does.
    assert_eq!(
        found(&shop(), &policies),
        [
            "note shadowed-rule NetworkPolicy prod/one: spec.ingress[0]: all that this rule allows is allowed by \
             NetworkPolicy prod/both spec.ingress[0] too",
            "note shadowed-rule NetworkPolicy prod/two: spec.ingress[0]: all that this rule allows is allowed by \
             NetworkPolicy prod/both spec.ingress[0] too",
        ]
    );
}

#[test]
fn a_network_policy_that_the_admin_tier_forestalls_is_named() {
    let allow = json!({"podSelector": app("api"), "ingress": [{"from": [{"podSelector": app("web")}]}]});
    let deny = admin("closed", 1, "prod", &[("Deny", json!({"namespaces": {}}))]);
    assert_eq!(
        found(&shop(), &[network_policy("p", &allow), deny]),
        [
            "warning admin-overrides NetworkPolicy prod/p: spec.ingress[0]: this rule allows nothing that the Admin tier \
          leaves to it: ClusterNetworkPolicy closed spec.ingress[0] decides before"
        ]
    );
}

#[test]
fn who_is_isolated_from_dns_is_told_once_at_the_policy_that_isolates_most() {
    let close = || network_policy("close", &json!({"podSelector": {}, "policyTypes": ["Egress"]}));
    let dns = |apps: serde_json::Value, ports: serde_json::Value| {
        let to = json!([{"namespaceSelector": {"matchLabels": {"team": "kube-system"}}}]);
        let spec =
            json!({"podSelector": apps, "policyTypes": ["Egress"], "egress": [{"to": to, "ports": ports}]});
        network_policy("dns", &spec)
    };
    let call = network_policy(
        "call",
        &json!({"podSelector": app("web"), "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": app("api")}]}]}),
    );
    let (udp, tcp) = (json!({"port": 53, "protocol": "UDP"}), json!({"port": 53}));
    let hint = "expected an egress rule to the pods k8s-app=kube-dns of namespace kube-system, port 53 on UDP and TCP";
    let at = |place: &str, severity: &str, text: &str| {
        vec![format!("{severity} isolated-from-dns NetworkPolicy {place}: {text}; {hint}")]
    };
    let said = |severity: &str, text: &str| at("prod/close: spec.policyTypes", severity, text);
    assert_eq!(
        found(&shop(), &[close(), call.clone()]),
        said(
            "warning",
            "none of the pods that this policy isolates (prod/api, prod/db and prod/web) reaches the cluster's DNS"
        )
    );
    let some = json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["api", "db"]}]});
    assert_eq!(
        found(&shop(), &[close(), call, dns(some.clone(), json!([udp, tcp]))]),
        said(
            "warning",
            "of the pods that this policy isolates, prod/web reach other things, but not the cluster's DNS"
        )
    );
    assert_eq!(
        found(&shop(), &[close(), dns(some, json!([udp, tcp]))]),
        said(
            "note",
            "of the pods that this policy isolates, prod/web reach nothing, the cluster's DNS included"
        )
    );
    assert_eq!(
        found(&shop(), &[close(), dns(json!({}), json!([udp]))]),
        at(
            "prod/dns: spec.egress",
            "note",
            "prod/api, prod/db and prod/web reach the cluster's DNS on UDP, but not TCP: answers that are too long for \
             UDP need TCP"
        )
    );
    assert_eq!(found(&shop(), &[close(), dns(json!({}), json!([udp, tcp]))]), Vec::<String>::new());
}

#[test]
fn a_contested_address_is_named_at_the_pod_that_does_not_own_it() {
    let (mut old, mut new) = (pod("prod/old", 1, &[], &[]), pod("prod/new", 1, &[], &[]));
    (old.created, new.created) = (Some(1), Some(2));
    assert_eq!(
        found(&cluster([old, new]), &[]),
        [
            "warning address-contested Pod prod/old: status.podIPs: the address 10.0.0.1 is also pod prod/new's, and counts \
          as that one's: policy takes traffic of this pod for its; expected an address of its own; of a pod that is gone, \
          no manifest"
        ]
    );
}
