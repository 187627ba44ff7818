//! Without a policy every pod reaches every other one and every node, in both families, however they are connected.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::io::{Read, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netlab::{
    Cni, Family, Greeting, Host, Lab, Node, Outcome, PATIENCE, Pod, Probe, Server, Underlay,
    br_netfilter_present, reachability, root_or_skip, tcp_connect, tcp_connect_from, udp_exchange,
};

const TCP: u16 = 8080;
const UDP: u16 = 5353;

/// Servers on each, and every probe between every two.
fn assert_all_connected(hosts: &[&dyn Host]) {
    let mut servers = Vec::new();
    for host in hosts {
        servers.push(Server::tcp(*host, TCP, Greeting::Name).unwrap());
        servers.push(Server::udp(*host, UDP).unwrap());
    }
    let matrix = reachability(hosts, &Probe::all(TCP, UDP)).unwrap();
    assert!(matrix.all_connected(), "\n{matrix}");
    assert!(servers.iter().all(|server| !server.received().unwrap().is_empty()));
}

fn two_pods(node: &Node) -> [Pod; 2] {
    ["a", "b"].map(|name| node.pod(&format!("{name}{}", node.name())).unwrap())
}

#[test]
fn on_one_node_of_each_kind() {
    if !root_or_skip("on_one_node_of_each_kind") {
        return;
    }
    let lab = Lab::new("one-node").unwrap();
    let mut kinds = vec![Cni::Bridge { br_netfilter: false }, Cni::Routed];
    if br_netfilter_present() {
        kinds.push(Cni::Bridge { br_netfilter: true });
    }
    for (subnet, cni) in (1..).zip(kinds) {
        let node = lab.node(cni, subnet).unwrap();
        let [a, b] = two_pods(&node);
        assert_all_connected(&[&a, &b, &node]);
    }
}

#[test]
fn between_nodes_by_routes_and_by_vxlan() {
    if !root_or_skip("between_nodes_by_routes_and_by_vxlan") {
        return;
    }
    for (cni, by) in [
        (Cni::Bridge { br_netfilter: br_netfilter_present() }, Underlay::Vxlan),
        (Cni::Bridge { br_netfilter: false }, Underlay::Routed),
        (Cni::Routed, Underlay::Routed),
        (Cni::Routed, Underlay::Vxlan),
    ] {
        let lab = Lab::new("two-nodes").unwrap();
        let (one, two) = (lab.node(cni, 1).unwrap(), lab.node(cni, 12).unwrap());
        lab.join(&[&one, &two], by).unwrap();
        let ([a, b], [c, _]) = (two_pods(&one), two_pods(&two));
        let outside = lab.outside("client").unwrap();
        assert_all_connected(&[&a, &b, &c, &two, &outside]);
    }
}

#[test]
fn through_a_router_with_a_small_mtu() {
    if !root_or_skip("through_a_router_with_a_small_mtu") {
        return;
    }
    let lab = Lab::new("router").unwrap();
    let node = lab.node(Cni::Routed, 1).unwrap();
    let other = lab.node(Cni::Routed, 2).unwrap();
    lab.join(&[&node, &other], Underlay::Routed).unwrap();
    lab.second_path(&node, &other).unwrap();
    let (a, c) = (node.pod("a").unwrap(), other.pod("c").unwrap());
    let (router, far) = lab.behind_router("far", 1300, &[&node, &other]).unwrap();
    assert_all_connected(&[&a, &c, &far, &router]);

    // One way by the second path, the other way by the first: nothing checks sources, so it works.
    node.ip("route replace 10.244.2.0/24 via 192.168.51.2\n").unwrap();
    let _server = Server::tcp(&c, TCP, Greeting::None).unwrap();
    assert_eq!(tcp_connect(&a, c.ipv4().into(), TCP, PATIENCE).unwrap(), Outcome::Connected);

    // Full segments do not fit the router's link: they get through only if ICMP says so to the sender.
    let _echo = Server::tcp(&far, TCP, Greeting::None).unwrap();
    for family in Family::BOTH {
        let to = (far.address(family), TCP).into();
        let mut stream = tcp_connect_from(&a, None, to, PATIENCE).unwrap().value.unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let (sent, mut echoed) = (vec![7; 50_000], vec![0; 50_000]);
        stream.write_all(&sent).unwrap();
        stream.read_exact(&mut echoed).unwrap();
        assert!(sent == echoed, "{family:?}");
    }
}

#[test]
fn outcomes_are_told_apart() {
    if !root_or_skip("outcomes_are_told_apart") {
        return;
    }
    let lab = Lab::new("outcomes").unwrap();
    let node = lab.node(Cni::Bridge { br_netfilter: false }, 1).unwrap();
    let [a, b] = two_pods(&node);
    let nowhere: IpAddr = "10.99.0.1".parse().unwrap();
    b.ip("route add blackhole 10.244.1.2/32\n").unwrap();
    node.ip("route add prohibit 10.99.0.0/24\n").unwrap();
    for (to, expected) in [
        (IpAddr::from(node.gateway()), Outcome::Refused),
        // It gets the SYN; its answers go nowhere.
        (b.ipv4().into(), Outcome::TimedOut),
        (nowhere, Outcome::Unreachable),
    ] {
        assert_eq!(tcp_connect(&a, to, 1, PATIENCE).unwrap(), expected, "{to}");
        assert_eq!(udp_exchange(&a, to, 1, b"x", PATIENCE).unwrap(), expected, "{to}");
    }
}

#[test]
fn a_server_remembers_who_came_and_with_what() {
    if !root_or_skip("a_server_remembers_who_came_and_with_what") {
        return;
    }
    let lab = Lab::new("server").unwrap();
    let node = lab.node(Cni::Routed, 1).unwrap();
    let [a, b] = two_pods(&node);
    let server = Server::udp(&b, UDP).unwrap();
    let source = "10.244.1.2:4000".parse().unwrap();
    let to = (b.ipv4(), UDP).into();
    for _ in 0..2 {
        let answer = netlab::udp_exchange_from(&a, Some(source), to, b"hello", PATIENCE).unwrap();
        assert_eq!(answer.value.as_deref(), Some(&b"hello"[..]));
    }
    let received = server.received().unwrap();
    assert_eq!(received, [netlab::Received { source, first: b"hello".to_vec(), count: 2 }]);
}

#[test]
fn an_address_can_be_given_to_another_pod_at_once() {
    if !root_or_skip("an_address_can_be_given_to_another_pod_at_once") {
        return;
    }
    let lab = Lab::new("reuse").unwrap();
    for (subnet, cni) in [(1, Cni::Routed), (2, Cni::Bridge { br_netfilter: false })] {
        let node = lab.node(cni, subnet).unwrap();
        let [a, b] = two_pods(&node);
        assert!(node.pod_at("thief", b.ipv4()).unwrap_err().to_string().contains("which another pod has"));
        b.delete().unwrap();
        b.delete().unwrap();
        let started = Instant::now();
        let c = node.pod_at("c", b.ipv4()).unwrap();
        let took = started.elapsed();
        assert_eq!((c.ipv4(), c.ipv6()), (b.ipv4(), b.ipv6()));
        assert_ne!(c.host_interface(), b.host_interface());
        // The next free address is another one, as a real allocator has it.
        assert_ne!(node.pod("d").unwrap().ipv4(), c.ipv4());
        let _server = Server::tcp(&c, TCP, Greeting::None).unwrap();
        assert_eq!(tcp_connect(&a, b.ipv4().into(), TCP, PATIENCE).unwrap(), Outcome::Connected);
        println!("a pod took {took:?}");
    }
}
