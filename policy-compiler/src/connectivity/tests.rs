//! Against the oracle, packet by packet; and what only this module decides.

mod against_the_oracle;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::api::PolicyObject;
use crate::compiler::Scope;
use crate::facts::{Cluster, Namespace, Node, Phase, Pod, Workload as WorkloadFact};
use crate::labels::Labels;
use crate::lower::lower;
use crate::object::PodKey;

/// A pod `NS/WORKLOAD-NUMBER`, of the workload before the last dash, with label `app`.
fn pod(name: &str, addresses: &[&str], app: &str) -> Pod {
    let (namespace, name) = name.split_once('/').unwrap();
    let workload = name.rsplit_once('-').map_or(name, |(workload, _)| workload);
    Pod {
        key: PodKey::new(namespace, name),
        uid: "".into(),
        labels: Labels::new([("app", app)]),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        addresses_made_up: false,
        host_network: false,
        phase: Phase::Running,
        node: None,
        ports: Vec::new(),
        workload: WorkloadFact { kind: "Deployment".into(), name: workload.into() },
        created: None,
    }
}

fn cluster(pods: impl IntoIterator<Item = Pod>) -> Cluster {
    let mut cluster = Cluster::default();
    for name in ["a", "b"] {
        let labels = [("team".to_owned(), name.to_owned())];
        cluster.namespaces.insert(name.into(), Arc::new(Namespace::new(name, labels, false)));
    }
    cluster.pods = pods.into_iter().map(|pod| (pod.key.clone(), Arc::new(pod))).collect();
    cluster
}

fn add_node(cluster: &mut Cluster, name: &str, address: &str) {
    let addresses = [address.parse().unwrap()].into();
    let node = Node { name: name.into(), labels: Labels::new([("role", name)]), addresses };
    cluster.nodes.insert(name.into(), Arc::new(node));
}

fn network_policy(namespace: &str, name: &str, spec: &Value) -> PolicyObject {
    let object = json!({"metadata": {"name": name, "namespace": namespace}, "spec": spec});
    PolicyObject::NetworkPolicy(serde_json::from_value(object).unwrap())
}

fn cluster_policy(name: &str, spec: &Value) -> PolicyObject {
    let object = json!({"metadata": {"name": name}, "spec": spec});
    PolicyObject::ClusterNetworkPolicy(serde_json::from_value(object).unwrap())
}

fn compile(cluster: &Cluster, policies: &[PolicyObject]) -> Compiler {
    let lowered = policies.iter().map(|policy| Arc::new(lower(policy, None).unwrap().policy));
    Compiler::compile(Scope::All, cluster, lowered)
}

fn texts(connectivity: &Connectivity<'_>) -> Vec<String> {
    connectivity.lines().map(|line| format!("{} => {}: {}", line.src, line.dst, line.allow)).collect()
}

/// The lines of a cluster, as text.
fn lines(cluster: &Cluster, policies: &[PolicyObject]) -> Vec<String> {
    texts(&Connectivity::of(&compile(cluster, policies), &Replicas::new()))
}

#[test]
fn without_policies_everyone_talks_to_everyone_in_few_lines() {
    let cluster = cluster([pod("a/web-0", &["10.0.0.1"], "web"), pod("b/db-0", &["10.0.0.2"], "db")]);
    assert_eq!(
        lines(&cluster, &[]),
        [
            "a/web => b/db: ANY",
            "a/web => 0.0.0.0/0: ANY",
            "a/web => ::/0: ANY",
            "b/db => a/web: ANY",
            "b/db => 0.0.0.0/0: ANY",
            "b/db => ::/0: ANY",
            "0.0.0.0/0 => a/web: ANY",
            "0.0.0.0/0 => b/db: ANY",
            "::/0 => a/web: ANY",
            "::/0 => b/db: ANY",
        ]
    );
}

#[test]
fn both_ends_must_allow() {
    let cluster = cluster([pod("a/web-0", &["10.0.0.1"], "web"), pod("b/db-0", &["10.0.0.2"], "db")]);
    let policies = [
        network_policy(
            "a",
            "out",
            &json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": [
                {"to": [{"namespaceSelector": {}}], "ports": [{"port": 79, "endPort": 90}, {"protocol": "UDP"}]},
            ]}),
        ),
        network_policy(
            "b",
            "in",
            &json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [
                {"from": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}], "ports": [
                    {"port": 80, "endPort": 443}, {"port": 53, "protocol": "UDP"}, {"protocol": "SCTP"},
                ]},
            ]}),
        ),
    ];
    assert_eq!(lines(&cluster, &policies), ["a/web => b/db: TCP 80-90; UDP 53"]);
}

#[test]
fn external_ranges_are_cut_where_a_policy_cuts_them_and_not_at_pods_or_nodes() {
    let mut cluster = cluster([pod("a/web-0", &["10.1.0.7"], "web")]);
    add_node(&mut cluster, "n1", "10.2.0.9");
    let block = json!({"podSelector": {}, "ingress": [
        {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.128.0.0/9"]}}], "ports": [{"port": 80}]},
        {"from": [{"ipBlock": {"cidr": "9.0.0.0/8"}}], "ports": [{"port": 80}]},
    ]});
    assert_eq!(
        lines(&cluster, &[network_policy("a", "block", &block)]),
        ["a/web => 0.0.0.0/0: ANY", "a/web => ::/0: ANY", "9.0.0.0-10.127.255.255 => a/web: TCP 80"]
    );
}

#[test]
fn a_node_that_a_policy_means_is_a_range_of_its_own() {
    let mut cluster = cluster([pod("a/web-0", &["10.1.0.7"], "web")]);
    add_node(&mut cluster, "n1", "10.2.0.9");
    add_node(&mut cluster, "n2", "10.2.0.10");
    let deny = json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "egress": [
        {"action": "Deny", "to": [{"nodes": {"matchLabels": {"role": "n1"}}}]},
    ]});
    assert_eq!(
        lines(&cluster, &[cluster_policy("nodes", &deny)])[..3],
        ["a/web => 0.0.0.0-10.2.0.8: ANY", "a/web => 10.2.0.10-255.255.255.255: ANY", "a/web => ::/0: ANY"]
    );
}

#[test]
fn a_workload_is_the_union_of_its_pods_and_talks_to_itself_only_if_it_has_several() {
    let two = [
        pod("a/web-0", &["10.0.0.1"], "x"),
        pod("a/web-1", &["10.0.0.2"], "y"),
        pod("b/c-0", &["10.0.0.3"], "c"),
    ];
    // Only x is isolated, and lets y in.
    let policy = network_policy(
        "a",
        "x",
        &json!({"podSelector": {"matchLabels": {"app": "x"}}, "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"app": "x"}}}], "ports": [{"port": 1}]},
            {"from": [{"podSelector": {"matchLabels": {"app": "y"}}}], "ports": [{"port": 2}]},
        ]}),
    );
    let found = lines(&cluster(two.clone()), std::slice::from_ref(&policy));
    assert!(found.contains(&"a/web => a/web: ANY".to_owned()), "x reaches y: {found:?}");
    assert!(found.contains(&"b/c => a/web: ANY".to_owned()), "c reaches y: {found:?}");

    let [x, ..] = two;
    let one = cluster([x]);
    let compiler = compile(&one, std::slice::from_ref(&policy));
    let within = |replicas: u32| -> Vec<String> {
        let replicas = Replicas::from([(("a".into(), "Deployment".into(), "web".into()), replicas)]);
        texts(&Connectivity::of(&compiler, &replicas))
            .into_iter()
            .filter(|line| line.contains("=> a/web"))
            .collect()
    };
    assert_eq!(within(1), Vec::<String>::new());
    assert_eq!(within(2), ["a/web => a/web: TCP 1"]);
}

#[test]
fn a_pod_on_the_host_network_is_its_node_and_a_finished_one_is_nothing() {
    let host = |name: &str, node: Option<&str>| Pod {
        host_network: true,
        node: node.map(Into::into),
        ..pod(name, &[], "host")
    };
    let web = Pod { node: Some("n1".into()), ..pod("a/web-0", &["10.1.0.7"], "web") };
    let done = Pod { phase: Phase::Finished, ..pod("a/done-0", &["10.1.0.8"], "web") };
    let hosts = [host("b/here-0", Some("n1")), host("b/there-0", Some("n2")), host("b/nowhere-0", None)];
    let mut cluster = cluster(hosts.into_iter().chain([web, done]));
    add_node(&mut cluster, "n1", "10.2.0.9");
    add_node(&mut cluster, "n2", "10.2.0.10");
    let policy = network_policy(
        "a",
        "in",
        &json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"ipBlock": {"cidr": "10.2.0.10/32"}}], "ports": [{"port": 80}]}],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.2.0.9/32"}}], "ports": [{"port": 81}]}],
        }),
    );
    let found = lines(&cluster, &[policy]);
    let with_web: Vec<&String> = found.iter().filter(|line| line.contains("a/web")).collect();
    assert_eq!(
        with_web,
        [
            "a/web => b/here: TCP 81",
            "a/web => 10.2.0.9/32: TCP 81",
            "b/here => a/web: ANY",
            "b/there => a/web: TCP 80",
            "10.2.0.10/32 => a/web: TCP 80",
        ]
    );
    assert!(!found.iter().any(|line| line.contains("done")));
    assert!(found.contains(&"b/nowhere => b/here: ANY".to_owned()));
}

#[test]
fn the_grounds_of_a_pair_name_the_rules_on_both_sides() {
    let cluster = cluster([pod("a/web-0", &["10.0.0.1"], "web"), pod("b/db-0", &["10.0.0.2"], "db")]);
    let open = json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]});
    let compiler = compile(&cluster, &[network_policy("b", "in", &open)]);
    let connectivity = Connectivity::of(&compiler, &Replicas::new());
    let peer = |index: usize| Peer::Workload(Arc::clone(connectivity.workloads().nth(index).unwrap()));
    let grounds = connectivity.grounds(&peer(0), &peer(1));
    let text = |ground: &Ground| {
        let origin = ground.decision.rule.and_then(|rule| compiler.rule(rule)).map(|rule| &rule.origin);
        format!("{:?} {:?} {}: {origin:?}", ground.direction, ground.decision.verdict, ground.ports)
    };
    let object = "ObjectRef { kind: \"NetworkPolicy\", namespace: Some(\"b\"), name: \"in\" }";
    assert_eq!(
        grounds.iter().map(text).collect::<Vec<_>>(),
        [
            "Egress Allow ANY: None".to_owned(),
            format!("Ingress Allow TCP 80: Some(Rule {{ object: {object}, index: 0 }})"),
            format!(
                "Ingress Deny TCP 1-79,81-65535; UDP; SCTP; other: Some(Isolation {{ policies: [{object}] }})"
            ),
        ]
    );
}

#[test]
fn a_change_is_told_by_pair_and_by_the_smallest_ranges() {
    let pods = |names: &[&str]| {
        cluster(names.iter().enumerate().map(|(n, name)| pod(name, &[&format!("10.0.0.{n}")], "x")))
    };
    let block = |cidr: &str| {
        network_policy(
            "a",
            "in",
            &json!({"podSelector": {}, "ingress": [
                {"from": [{"ipBlock": {"cidr": cidr}}], "ports": [{"port": 80}]}, {"from": [{"namespaceSelector": {}}]},
            ]}),
        )
    };
    let before = compile(&pods(&["a/web-0", "b/old-0"]), &[block("9.0.0.0/8")]);
    let after = compile(&pods(&["a/web-0", "b/new-0"]), &[block("8.0.0.0/7")]);
    let (before, after) = [&before, &after].map(|of| Connectivity::of(of, &Replicas::new())).into();
    let changes = Changes::between(&before, &after);
    let names = |of: &BTreeSet<Arc<WorkloadRef>>| of.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        (names(&changes.appeared), names(&changes.vanished)),
        (vec!["b/new".to_owned()], vec!["b/old".to_owned()])
    );
    let text =
        |change: &Change| format!("{} => {}: {} | {}", change.src, change.dst, change.before, change.after);
    let about_web: Vec<String> =
        changes.pairs.iter().map(text).filter(|text| text.contains("a/web")).collect();
    assert_eq!(
        about_web,
        [
            "a/web => b/new: none | ANY",
            "a/web => b/old: ANY | none",
            "b/new => a/web: none | ANY",
            "b/old => a/web: ANY | none",
            "8.0.0.0/8 => a/web: none | TCP 80",
        ]
    );
    assert!(Changes::between(&before, &before).is_empty());
}

/// Workloads in namespaces of ten, each with policies of its own: one that lets some of the neighbours in, one that lets
/// some out, and one for a block of addresses.
fn generated(workloads: usize) -> (Cluster, Vec<PolicyObject>) {
    let mut cluster = Cluster::default();
    let mut policies = Vec::new();
    for number in 0..workloads {
        let namespace = format!("ns{}", number / 10);
        let labels = [("group".to_owned(), (number / 50).to_string())];
        cluster
            .namespaces
            .insert(namespace.as_str().into(), Arc::new(Namespace::new(&namespace, labels, false)));
        let address = format!("10.{}.{}.{}", number >> 16, number >> 8 & 255, number & 255);
        let app = format!("app{}", number % 10);
        let pod = pod(&format!("{namespace}/w{number}-0"), &[&address], &app);
        cluster.pods.insert(pod.key.clone(), Arc::new(pod));
        let neighbour = json!({"matchLabels": {"app": format!("app{}", (number + 1) % 10)}});
        let group = json!({"matchLabels": {"group": (number / 50).to_string()}});
        let own = json!({"matchLabels": {"app": app}});
        let port = 1000 + number % 300;
        let spec = match number % 3 {
            0 => json!({"podSelector": own, "ingress": [
                {"from": [{"namespaceSelector": group, "podSelector": neighbour}], "ports": [{"port": port}]},
                {"from": [{"namespaceSelector": {}}], "ports": [{"port": 9090, "endPort": 9100}]},
            ]}),
            1 => json!({"podSelector": own, "policyTypes": ["Egress"], "egress": [
                {"to": [{"podSelector": {}}]}, {"to": [{"namespaceSelector": {}}], "ports": [{"port": 53, "protocol": "UDP"}]},
            ]}),
            _ => json!({"podSelector": own, "ingress": [
                {"from": [{"ipBlock": {"cidr": format!("192.168.{}.0/24", number % 256)}}, {"podSelector": {}}]},
            ]}),
        };
        policies.push(network_policy(&namespace, &format!("p{number}"), &spec));
    }
    (cluster, policies)
}

#[test]
fn a_cluster_with_a_policy_for_each_workload_is_judged_in_full() {
    let (cluster, policies) = generated(60);
    let compiler = compile(&cluster, &policies);
    let connectivity = Connectivity::of(&compiler, &Replicas::new());
    assert_eq!(connectivity.workloads().len(), 60);
    let distinct: BTreeSet<String> = connectivity.lines().map(|line| line.allow.to_string()).collect();
    assert!(distinct.len() > 10, "{distinct:?}");
}
