//! Ways to a pod on which addresses change or directions differ: services, node ports, the node itself, two paths. Named
//! by the rows of the threat model.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use netlab::{
    Cni, Family, Greeting, Host, Lab, Node, Outcome, PATIENCE, Pod, Server, Sniffer, Underlay,
    br_netfilter_present, ping, root_or_skip, tcp_connect, tool_or_skip,
};
use tests::node::manifest::{self, WEB};
use tests::node::{Polder, Scene};

const QUIET: Duration = Duration::from_millis(100);
const BRIDGE: Cni = Cni::Bridge { br_netfilter: false };
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const NODE_PORT: u16 = 30_080;

/// Counts beginnings of connections to the web port that do not come from the pod itself.
#[expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]
fn openings(victim: &Pod) -> Sniffer {
    let mac = victim.mac();
    Sniffer::at(victim, move |packet| {
        packet.is_syn() && packet.ports.is_some_and(|(_, to)| to == WEB) && packet.from != mac
    })
    .unwrap()
}

#[expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]
fn connect(from: &dyn Host, to: impl Into<IpAddr>, port: u16) -> Outcome {
    tcp_connect(from, to.into(), port, Duration::from_millis(500)).unwrap()
}

/// A service of the victim's, as objects.
fn service(victim: &Pod) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\n\
         spec: {{clusterIP: {SERVICE}, clusterIPs: [{SERVICE}], selector: {{app: v}}, ports: [{{port: 80, targetPort: {WEB}}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
         metadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}\n\
         endpoints: [{{addresses: ['{}'], conditions: {{ready: true}}}}]\n\
         ports: [{{name: '', port: {WEB}, protocol: TCP}}]\n---\n",
        victim.ipv4()
    )
}

/// What a proxy makes of services: packets to `from` go to the victim, and `hidden` packets come from the node.
fn proxy(from: &str, victim: &Pod, hidden: &str) -> String {
    format!(
        "table ip proxy {{\n chain before {{\n  type nat hook prerouting priority -100;\n  {from} dnat to {}:{WEB}\n }}\n \
         chain after {{\n  type nat hook postrouting priority 100;\n  {hidden}\n }}\n}}\n",
        victim.ipv4()
    )
}

#[test]
fn f30_a_pod_reaches_itself_and_a_service_is_policed_as_the_pod_behind_it() {
    let name = "f30_a_pod_reaches_itself_and_a_service_is_policed_as_the_pod_behind_it";
    if !root_or_skip(name) || !tool_or_skip("nft", name) || !br_netfilter_present() {
        return;
    }
    for (name, cni) in [("tf30-bridge", Cni::Bridge { br_netfilter: true }), ("tf30-routed", Cni::Routed)] {
        let scene = Scene::new(name, cni).unwrap();
        let _server = Server::tcp(&scene.victim, WEB, Greeting::None).unwrap();
        scene.polder.apply("service.yaml", &service(&scene.victim)).unwrap();
        let own = format!("ip saddr {0} ip daddr {0} masquerade", scene.victim.ipv4());
        let to = format!("ip daddr {SERVICE} tcp dport 80");
        for hidden in [own.as_str(), "masquerade"] {
            scene.node.nft(&proxy(&to, &scene.victim, hidden)).unwrap();
            scene.polder.apply("victim.yaml", &Scene::victims_policy()).unwrap();
            assert_eq!(connect(&scene.friend, SERVICE, 80), Outcome::Connected, "{name}, {hidden}");
            let sniffer = openings(&scene.victim);
            assert_eq!(connect(&scene.attacker, SERVICE, 80), Outcome::TimedOut, "{name}, {hidden}");
            assert_eq!(
                connect(&scene.attacker, scene.victim.ipv4(), WEB),
                Outcome::TimedOut,
                "{name}, {hidden}"
            );
            assert_eq!(sniffer.settled(QUIET).unwrap(), 0, "LEAK {name}, {hidden}");
            // The client's own policy speaks of the pod behind the service.
            let elsewhere = "policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: w}}}]}]";
            let there = "policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: v}}}], ports: [{port: 8080}]}]";
            scene.polder.apply("client.yaml", &manifest::policy("client", "a", elsewhere)).unwrap();
            assert_eq!(connect(&scene.friend, SERVICE, 80), Outcome::TimedOut, "{name}, {hidden}");
            assert_eq!(sniffer.settled(QUIET).unwrap(), 0, "LEAK {name}, {hidden}");
            scene.polder.apply("client.yaml", &manifest::policy("client", "a", there)).unwrap();
            assert_eq!(connect(&scene.friend, SERVICE, 80), Outcome::Connected, "{name}, {hidden}");
            scene.polder.remove("client.yaml").unwrap();
            let closed = manifest::policy("victim", "v", "policyTypes: [Ingress, Egress]");
            scene.polder.apply("victim.yaml", &closed).unwrap();
            assert_eq!(
                connect(&scene.victim, scene.victim.ipv4(), WEB),
                Outcome::Connected,
                "{name}: to itself"
            );
            assert_eq!(
                connect(&scene.victim, SERVICE, 80),
                Outcome::Connected,
                "{name}, {hidden}: to itself by a service"
            );
            assert_eq!(connect(&scene.friend, SERVICE, 80), Outcome::TimedOut, "{name}, {hidden}");
            scene.node.nft("delete table ip proxy\n").unwrap();
        }
    }
}

/// Two nodes with agents; `shop/v` on the first, `shop/a` and `shop/b` on the second.
struct Two {
    agents: [Polder; 2],
    nodes: [Node; 2],
    victim: Pod,
    friend: Pod,
    attacker: Pod,
    lab: Lab,
}

#[expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]
fn two(name: &str, cni: Cni, more: impl FnOnce(&Lab, &[Node; 2]) -> String) -> Two {
    let lab = Lab::new(name).unwrap();
    let nodes = [lab.node(cni, 1).unwrap(), lab.node(cni, 2).unwrap()];
    lab.join(&[&nodes[0], &nodes[1]], Underlay::Routed).unwrap();
    let (victim, friend, attacker) =
        (nodes[0].pod("v").unwrap(), nodes[1].pod("a").unwrap(), nodes[1].pod("b").unwrap());
    let mut facts = manifest::namespace("shop") + &manifest::node(&nodes[0]) + &manifest::node(&nodes[1]);
    for pod in [&victim, &friend, &attacker] {
        facts += &manifest::pod("shop", pod, &format!("app: {}", pod.name()));
    }
    facts += &more(&lab, &nodes);
    let manifests = [("facts.yaml", facts), ("victim.yaml", Scene::victims_policy())];
    let agents =
        nodes.each_ref().map(|node| Polder::start_with(node, &manifests, &["--uplink", "eth1"]).unwrap());
    agents[0].enforces(&["shop/v"]).unwrap();
    agents[1].enforces(&["shop/a", "shop/b"]).unwrap();
    Two { agents, nodes, victim, friend, attacker, lab }
}

#[test]
fn f31_the_own_node_reaches_its_pods_and_no_other_node_does() {
    if !root_or_skip("f31_the_own_node_reaches_its_pods_and_no_other_node_does") {
        return;
    }
    for (name, cni) in [("tf31-bridge", BRIDGE), ("tf31-routed", Cni::Routed)] {
        // On the other node's network is a pod with the friend's label.
        let two = two(name, cni, |_, nodes| manifest::host_pod("shop", "host", &nodes[1], "app: a"));
        let _server = Server::tcp(&two.victim, WEB, Greeting::None).unwrap();
        for family in Family::BOTH {
            let victim = two.victim.address(family);
            let sniffer = openings(&two.victim);
            assert_eq!(connect(&two.nodes[1], victim, WEB), Outcome::TimedOut, "{name} {family:?}");
            assert_eq!(sniffer.settled(QUIET).unwrap(), 0, "LEAK {name} {family:?}");
            assert_eq!(connect(&two.friend, victim, WEB), Outcome::Connected, "{name} {family:?}");
        }
        let closed = manifest::policy("victim", "v", "policyTypes: [Ingress, Egress]");
        two.agents[0].apply("victim.yaml", &closed).unwrap();
        for family in Family::BOTH {
            let victim = two.victim.address(family);
            for _ in 0..100 {
                assert_eq!(connect(&two.nodes[0], victim, WEB), Outcome::Connected, "{name} {family:?}");
            }
            assert_eq!(
                ping(&two.nodes[0], victim, PATIENCE).unwrap(),
                Outcome::Connected,
                "{name} {family:?}"
            );
            assert_eq!(
                ping(&two.nodes[1], victim, PATIENCE).unwrap(),
                Outcome::TimedOut,
                "{name} {family:?}"
            );
        }
    }
}

#[test]
fn f32_who_comes_by_a_node_port_is_not_the_node() {
    let name = "f32_who_comes_by_a_node_port_is_not_the_node";
    if !root_or_skip(name) || !tool_or_skip("nft", name) {
        return;
    }
    for (name, cni) in [("tf32-bridge", BRIDGE), ("tf32-routed", Cni::Routed)] {
        let two = two(name, cni, |_, _| String::new());
        let client = two.lab.outside("client").unwrap();
        let _server = Server::tcp(&two.victim, WEB, Greeting::None).unwrap();
        let block = |cidr: &str| {
            manifest::policy(
                "victim",
                "v",
                &format!("policyTypes: [Ingress], ingress: [{{from: [{{ipBlock: {{cidr: {cidr}}}}}]}}]"),
            )
        };
        let [here, there] = two.nodes.each_ref().map(Host::ipv4);
        let (of_client, of_here, of_there) =
            (format!("{}/32", client.ipv4()), format!("{here}/32"), format!("{there}/32"));
        let everywhere = "0.0.0.0/0".to_owned();
        // Through which node, whether the client's address is hidden, whom policy lets in, and whether it works.
        let cases = [
            (0, false, &of_client, true),
            (0, false, &of_here, false),
            (0, true, &of_there, false),
            (0, true, &of_client, false),
            (0, true, &everywhere, true),
            (1, true, &of_there, true),
            (1, true, &of_here, false),
            (1, true, &of_client, false),
        ];
        for (node, hides, cidr, works) in cases {
            two.agents[0].apply("victim.yaml", &block(cidr)).unwrap();
            let hidden =
                if hides { format!("ip daddr {} masquerade", two.victim.ipv4()) } else { String::new() };
            let ruleset = proxy(&format!("tcp dport {NODE_PORT}"), &two.victim, &hidden);
            two.nodes[node].nft(&ruleset).unwrap();
            let sniffer = openings(&two.victim);
            let outcome = connect(&client, two.nodes[node].ipv4(), NODE_PORT);
            two.nodes[node].nft("delete table ip proxy\n").unwrap();
            let case = format!("{name}: by {}, hidden {hides}, {cidr} allowed", two.nodes[node].name());
            assert_eq!(outcome == Outcome::Connected, works, "{case}: {outcome}");
            if !works {
                assert_eq!(sniffer.settled(QUIET).unwrap(), 0, "LEAK {case}");
            }
        }
        // Nor does a client outside reach a pod's own address.
        two.agents[0].apply("victim.yaml", &Scene::victims_policy()).unwrap();
        let sniffer = openings(&two.victim);
        for family in Family::BOTH {
            assert_eq!(connect(&client, two.victim.address(family), WEB), Outcome::TimedOut, "{name}");
        }
        assert_eq!(sniffer.settled(QUIET).unwrap(), 0, "LEAK {name}");
    }
}

#[test]
fn f33_two_ways_are_one_connection_and_policy_holds_on_each() {
    if !root_or_skip("f33_two_ways_are_one_connection_and_policy_holds_on_each") {
        return;
    }
    let two = two("tf33", Cni::Routed, |lab, nodes| {
        lab.second_path(&nodes[0], &nodes[1]).unwrap();
        nodes[1].ip("route replace 10.244.1.0/24 via 192.168.51.1\n").unwrap();
        String::new()
    });
    let _server = Server::tcp(&two.victim, WEB, Greeting::None).unwrap();
    let by_second =
        Sniffer::on(&two.nodes[0], "eth1", |packet| packet.is_syn() && packet.source.is_some()).unwrap();
    assert_eq!(connect(&two.friend, two.victim.ipv4(), WEB), Outcome::Connected);
    let sniffer = openings(&two.victim);
    assert_eq!(connect(&two.attacker, two.victim.ipv4(), WEB), Outcome::TimedOut);
    assert_eq!(sniffer.settled(QUIET).unwrap(), 0, "LEAK");
    // What is denied is dropped before a sniffer there sees it.
    assert!(by_second.wait_for(1, Duration::from_secs(1)).unwrap() >= 1, "the second path is taken");
}
