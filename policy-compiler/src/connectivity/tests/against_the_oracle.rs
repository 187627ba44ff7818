//! Random clusters, each pair and each address asked of the oracle too.

use std::net::IpAddr;

use datapath::abi::Transport;
use serde_json::{Value, json};

use super::*;
use crate::facts::ContainerPort;
use crate::oracle::{Answer, Packet, Protocol, judge};

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
