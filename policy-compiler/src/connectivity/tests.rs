//! Against the oracle, packet by packet; and what only this module decides.

use std::collections::BTreeSet;
use std::net::IpAddr;

use datapath::abi::Transport;
use serde_json::{Value, json};

use super::*;
use crate::api::PolicyObject;
use crate::compiler::Scope;
use crate::facts::{Cluster, ContainerPort, Namespace, Node, Phase, Pod, Workload as WorkloadFact};
use crate::labels::Labels;
use crate::lower::lower;
use crate::object::PodKey;
use crate::oracle::{Answer, Packet, Protocol, judge};

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

/// A small generator: the worlds of the property tests are in a crate above this one.
struct Random(u64);

impl Random {
    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn selector(&mut self) -> Value {
        let one = json!({"matchLabels": {"app": self.pick(&["x", "y", "z"])}});
        let not = json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["x"]}]});
        self.pick(&[json!({}), one, not])
    }

    fn peer(&mut self, cidrs: &[&str]) -> Value {
        let pods = json!({"podSelector": self.selector()});
        let both = json!({"namespaceSelector": self.pick(&[json!({}), json!({"matchLabels": {"team": "a"}})]), "podSelector": self.selector()});
        let block = json!({"ipBlock": {"cidr": self.pick(cidrs)}});
        self.pick(&[pods, both, block])
    }

    fn ports(&mut self) -> Value {
        let one = json!({"port": self.pick(&[80, 81, 90]), "protocol": self.pick(&["TCP", "UDP"])});
        let range = json!({"port": self.pick(&[79, 81]), "endPort": self.pick(&[85, 65535])});
        let some = [one, range, json!({"protocol": "UDP"}), json!({"port": "http"})];
        let list: Vec<Value> = (0..self.below(3)).map(|_| self.pick(&some)).collect();
        json!(list)
    }

    fn network_policy(&mut self, number: usize) -> PolicyObject {
        let cidrs = ["10.0.0.0/30", "10.0.0.0/8", "0.0.0.0/0", "172.16.0.1/32", "fd00::/126", "::/0"];
        let mut rules = |side: &str| {
            let count = self.below(3);
            let rule = |random: &mut Self| {
                let peers: Vec<Value> = (0..random.below(3)).map(|_| random.peer(&cidrs)).collect();
                json!({side: peers, "ports": random.ports()})
            };
            (0..count).map(|_| rule(self)).collect::<Vec<_>>()
        };
        let (ingress, egress) = (rules("from"), rules("to"));
        let types = self.pick(&[json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])]);
        let spec = json!({"podSelector": self.selector(), "policyTypes": types, "ingress": ingress, "egress": egress});
        network_policy(self.pick(&["a", "b"]), &format!("np{number}"), &spec)
    }

    fn cluster_policy(&mut self, number: usize) -> PolicyObject {
        let action = |random: &mut Self| random.pick(&["Accept", "Deny", "Pass"]);
        let subject = json!({"pods": {"namespaceSelector": {}, "podSelector": self.selector()}});
        let peers = json!([{"pods": {"namespaceSelector": {}, "podSelector": self.selector()}}]);
        let to = self.pick(&[peers.clone(), json!([{"networks": ["10.0.0.2/31"]}]), json!([{"nodes": {}}])]);
        let protocols = json!([{"tcp": {"destinationPort": {"number": self.pick(&[80, 90])}}}]);
        let spec = json!({
            "tier": self.pick(&["Admin", "Baseline"]), "priority": number, "subject": subject,
            "ingress": [{"action": action(self), "from": peers}],
            "egress": [{"action": action(self), "to": to, "protocols": protocols}],
        });
        cluster_policy(&format!("cnp{number}"), &spec)
    }

    fn world(&mut self) -> (Cluster, Vec<PolicyObject>) {
        let mut pods = Vec::new();
        for (number, name) in
            ["a/one-0", "a/one-1", "a/two-0", "b/one-0", "b/two-0", "b/host-0"].iter().enumerate()
        {
            let (v4, v6) = (format!("10.0.0.{number}"), format!("fd00::{number}"));
            let addresses = self.pick(&[vec![&v4], vec![&v6], vec![&v4, &v6]]);
            let addresses: Vec<&str> = addresses.into_iter().map(String::as_str).collect();
            let mut pod = pod(name, &addresses, self.pick(&["x", "y", "z"]));
            if self.below(2) == 0 {
                let (transport, port) = self.pick(&[(Transport::Tcp, 80), (Transport::Udp, 90)]);
                pod.ports.push(ContainerPort { name: "http".into(), transport, port });
            }
            if pod.key.name.starts_with("host") {
                pod.host_network = true;
                pod.addresses = vec!["172.16.0.1".parse().unwrap()];
            }
            pods.push(pod);
        }
        let mut cluster = cluster(pods);
        add_node(&mut cluster, "n1", "172.16.0.1");
        let mut policies: Vec<PolicyObject> =
            (0..self.below(5)).map(|number| self.network_policy(number)).collect();
        policies.extend((0..self.below(4)).map(|number| self.cluster_policy(number)));
        (cluster, policies)
    }
}

/// What the oracle says of a packet between two addresses; an end without a pod judges nothing.
fn oracle(
    world: &(Cluster, Vec<PolicyObject>),
    src: (Option<&Pod>, IpAddr),
    dst: (Option<&Pod>, IpAddr),
    protocol: Protocol,
) -> bool {
    let ask = |pod: &Pod, direction, peer| {
        let packet = Packet { pod: pod.key.clone(), direction, peer, protocol, from_own_node: false };
        judge(&world.1, &world.0, &packet) == Answer::Allow
    };
    src.0.is_none_or(|pod| ask(pod, Direction::Egress, dst.1))
        && dst.0.is_none_or(|pod| ask(pod, Direction::Ingress, src.1))
}

fn protocols() -> Vec<(Option<(Transport, u16)>, Protocol)> {
    let ports = [1, 78, 79, 80, 81, 82, 85, 86, 89, 90, 91, 65535];
    let all = [Transport::Tcp, Transport::Udp, Transport::Sctp];
    let with_ports = all.into_iter().flat_map(|transport| ports.map(|port| (transport, port)));
    let with_ports =
        with_ports.map(|(transport, port)| (Some((transport, port)), Protocol::Transport(transport, port)));
    with_ports.chain([(None, Protocol::Other(1))]).collect()
}

#[test]
fn every_pair_is_allowed_just_what_the_oracle_allows_some_of_its_pods() {
    for seed in 0..150 {
        let world = Random(seed).world();
        let compiler = compile(&world.0, &world.1);
        let connectivity = Connectivity::of(&compiler, &Replicas::new());
        for src in connectivity.workloads() {
            for dst in connectivity.workloads() {
                let of = |workload: &WorkloadRef| {
                    let pods =
                        world.0.pods.values().filter(move |pod| pod.key.namespace == workload.namespace);
                    let name = Arc::clone(&workload.name);
                    pods.filter(move |pod| pod.workload.name == name).collect::<Vec<_>>()
                };
                let allow = connectivity.between(src, dst).unwrap();
                for (port, protocol) in protocols() {
                    let any = of(src).iter().any(|from| {
                        of(dst).iter().filter(|to| to.key != from.key).any(|to| {
                            let ends = from
                                .addresses
                                .iter()
                                .flat_map(|a| to.addresses.iter().map(move |b| (*a, *b)));
                            ends.filter(|(a, b)| a.is_ipv4() == b.is_ipv4())
                                .any(|(a, b)| oracle(&world, (Some(from), a), (Some(to), b), protocol))
                        })
                    });
                    assert_eq!(allow.contains(port), any, "seed {seed}: {src} => {dst} {port:?}: {allow}");
                }
            }
        }
    }
}

#[test]
fn every_external_address_is_allowed_just_what_the_oracle_allows_it() {
    // None of them is a pod's.
    let outside = ["1.1.1.1", "10.0.0.7", "10.200.0.1", "172.16.0.1", "172.16.0.2", "fd00::9", "2001:db8::1"];
    for seed in 0..150 {
        let world = Random(seed).world();
        let compiler = compile(&world.0, &world.1);
        let connectivity = Connectivity::of(&compiler, &Replicas::new());
        let lines: Vec<Line<'_>> = connectivity.lines().collect();
        for address in outside.map(|address| address.parse::<IpAddr>().unwrap()) {
            for workload in connectivity.workloads() {
                let name = Peer::Workload(Arc::clone(workload));
                let outside = |peer: &Peer| matches!(peer, Peer::External(range) if range.contains(address));
                let allowed = |direction: Direction, port| {
                    let mut about = lines.iter().filter(|line| match direction {
                        Direction::Ingress => outside(&line.src) && line.dst == name,
                        Direction::Egress => line.src == name && outside(&line.dst),
                    });
                    let found = about.next().is_some_and(|line| line.allow.contains(port));
                    assert!(about.next().is_none(), "ranges of one workload are apart");
                    found
                };
                let pods = || {
                    world.0.pods.values().filter(|pod| {
                        pod.workload.name == workload.name && pod.key.namespace == workload.namespace
                    })
                };
                // Policy alone decides; the oracle takes the address of the pod from the packet's other end only.
                for (port, protocol) in protocols() {
                    let out = pods()
                        .any(|pod| oracle(&world, (Some(pod), pod.addresses[0]), (None, address), protocol));
                    assert_eq!(
                        allowed(Direction::Egress, port),
                        out,
                        "seed {seed}: {workload} => {address} {port:?}"
                    );
                    let into = pods()
                        .any(|pod| oracle(&world, (None, address), (Some(pod), pod.addresses[0]), protocol));
                    assert_eq!(
                        allowed(Direction::Ingress, port),
                        into,
                        "seed {seed}: {address} => {workload} {port:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_ranges_of_a_workload_are_as_few_as_can_be_and_lines_are_sorted() {
    for seed in 0..50 {
        let world = Random(seed).world();
        let compiler = compile(&world.0, &world.1);
        let connectivity = Connectivity::of(&compiler, &Replicas::new());
        let lines: Vec<Line<'_>> = connectivity.lines().collect();
        assert!(lines.is_sorted_by_key(|line| (line.src.clone(), line.dst.clone())), "seed {seed}");
        for pair in lines.windows(2) {
            if let (Peer::External(first), Peer::External(second)) = (&pair[0].dst, &pair[1].dst)
                && pair[0].src == pair[1].src
                && first.meets(second)
            {
                assert_ne!(
                    pair[0].allow, pair[1].allow,
                    "seed {seed}: {} and {} are one",
                    pair[0].dst, pair[1].dst
                );
            }
        }
    }
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

#[test]
#[ignore = "a figure, not a claim: cargo test --release -p policy-compiler connectivity -- --ignored --nocapture"]
fn how_long_a_thousand_workloads_take() {
    let (cluster, policies) = generated(1000);
    let start = std::time::Instant::now();
    let compiler = compile(&cluster, &policies);
    let compiled = start.elapsed();
    let connectivity = Connectivity::of(&compiler, &Replicas::new());
    let judged = start.elapsed();
    let lines = connectivity.lines().count();
    println!(
        "compile {compiled:?}, judge {:?}, walk {lines} lines {:?}, {:?}, {} sets",
        judged - compiled,
        start.elapsed() - judged,
        compiler.tables().sizes(),
        connectivity.sets.len()
    );
}
