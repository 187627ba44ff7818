//! Attacks with frames that netlab's own tests show to arrive where there is no agent: here none does, and each drop is
//! counted under its reason. Named by the rows of the threat model.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use netlab::raw::{self, Arp, Ethernet, IpSocket, Ipv4, Method, Neighbour, Wire};
use netlab::{
    Cni, Family, Host, Lab, Mac, Outcome, PATIENCE, Pod, RpFilter, Sniffer, Underlay, VXLAN_ID, VXLAN_PORT,
    ping, root_or_skip, tcp_connect, udp_exchange,
};
use tests::node::manifest::{self, DNS, WEB};
use tests::node::{Polder, Scene, counted_since};

const QUIET: Duration = Duration::from_millis(100);
const BRIDGE: Cni = Cni::Bridge { br_netfilter: false };

#[expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]
fn refused(scene: &Scene, from: &Pod, method: Method, marker: &[u8], frames: &[Vec<u8>], reasons: &[&str]) {
    let leak = scene.leak(from, method, marker, frames, reasons).unwrap();
    assert_eq!(leak, None);
}

#[expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]
fn delivered(scene: &Scene, from: &Pod, method: Method, marker: &[u8], frames: &[Vec<u8>]) {
    let arrived = scene.arrivals(from, method, marker, frames).unwrap();
    assert_eq!(arrived, frames.len() as u64, "{} by {method:?}", from.name());
}

#[test]
fn x1_non_linear_packets_are_judged_like_any_other() {
    if !root_or_skip("x1_non_linear_packets_are_judged_like_any_other") {
        return;
    }
    for (name, cni) in [("ax1-bridge", BRIDGE), ("ax1-routed", Cni::Routed)] {
        let scene = Scene::new(name, cni).unwrap();
        let frames = |from: &Pod| -> Vec<Vec<u8>> {
            let link = scene.link(from, &scene.victim);
            let of = |family| {
                let (source, target) = scene.ends(from, family, DNS);
                let (client, server) = scene.ends(from, family, WEB);
                [
                    raw::udp(source, target, b"X1 datagram"),
                    raw::tcp(client, server, raw::SYN, b"X1 segment"),
                    raw::udp(source, target, &[b"X1".as_slice(), &[0; 1400]].concat()),
                ]
            };
            Family::BOTH.into_iter().flat_map(of).map(|packet| link.carry(&packet)).collect()
        };
        for method in Method::ALL {
            refused(
                &scene,
                &scene.attacker,
                method,
                b"X1",
                &frames(&scene.attacker),
                &["ingress rule_denies"],
            );
            delivered(&scene, &scene.friend, method, b"X1", &frames(&scene.friend));
            let echoes: Vec<_> = Family::BOTH
                .into_iter()
                .map(|family| {
                    let (from, to) = (scene.friend.address(family), scene.victim.address(family));
                    let echo = raw::echo(from, to, raw::Echo::Request, 7, 1, b"X1 echo");
                    scene.link(&scene.friend, &scene.victim).carry(&echo)
                })
                .collect();
            refused(&scene, &scene.friend, method, b"X1", &echoes, &["ingress rule_denies"]);
        }
    }
}

#[test]
fn x2_frames_with_tags_or_of_other_types_are_dropped_whoever_sends_them() {
    if !root_or_skip("x2_frames_with_tags_or_of_other_types_are_dropped_whoever_sends_them") {
        return;
    }
    for (name, cni) in [("ax2-bridge", BRIDGE), ("ax2-routed", Cni::Routed)] {
        let scene = Scene::new(name, cni).unwrap();
        for family in Family::BOTH {
            for from in [&scene.attacker, &scene.friend] {
                let (source, target) = scene.ends(from, family, DNS);
                let packet = raw::udp(source, target, b"X2");
                let link = scene.link(from, &scene.victim);
                let mut frames = Vec::new();
                for kind in [0x8100, 0x88a8, 0x9100] {
                    for depth in 1..=3 {
                        frames.push(link.tagged(&vec![(kind, 0); depth]).carry(&packet));
                    }
                    frames.push(link.tagged(&[(kind, 5)]).carry(&packet));
                }
                frames.push(link.tagged(&[(0x88a8, 0), (0x8100, 0)]).carry(&packet));
                frames.push(link.tagged(&[(0x8100, 0), (0x88a8, 0)]).carry(&packet));
                let kind = if family == Family::V4 { 0x0800 } else { 0x86dd };
                frames.push(link.snap(kind, &packet));
                frames.push(link.frame(0x8847, &[&[0, 0, 0x11, 64], packet.as_slice()].concat()));
                frames.push(
                    link.frame(0x8864, &[&[0x11, 0, 0, 1, 0, 60, 0, 0x21], packet.as_slice()].concat()),
                );
                for method in [Method::Plain, Method::TxRing] {
                    refused(&scene, from, method, b"X2", &frames, &["egress vlan", "egress not_ip"]);
                }
                // A type that lies about the version.
                let other = if family == Family::V4 { 0x86dd } else { 0x0800 };
                let lie = [link.frame(other, &packet)];
                refused(&scene, from, Method::Plain, b"X2", &lie, &["egress malformed", "egress headers"]);
            }
            let (source, target) = scene.ends(&scene.friend, family, DNS);
            let plain = scene.link(&scene.friend, &scene.victim).carry(&raw::udp(source, target, b"X2"));
            delivered(&scene, &scene.friend, Method::Plain, b"X2", &[plain]);
        }
    }
}

#[test]
fn x4_pods_and_strangers_cannot_inject_through_the_tunnel() {
    if !root_or_skip("x4_pods_and_strangers_cannot_inject_through_the_tunnel") {
        return;
    }
    let lab = Lab::new("ax4").unwrap();
    let (node, remote) = (lab.node(BRIDGE, 1).unwrap(), lab.node(BRIDGE, 2).unwrap());
    lab.join(&[&node, &remote], Underlay::Vxlan).unwrap();
    node.set_rp_filter(RpFilter::Strict).unwrap();
    let (attacker, victim, far) = (node.pod("b").unwrap(), node.pod("v").unwrap(), remote.pod("a").unwrap());
    let stranger = lab.outside("stranger").unwrap();
    let mut facts = manifest::namespace("shop") + &manifest::node(&node) + &manifest::node(&remote);
    for pod in [&attacker, &victim, &far] {
        facts += &manifest::pod("shop", pod, &format!("app: {}", pod.name()));
    }
    let polder =
        Polder::start(&node, &[("facts.yaml", facts), ("victim.yaml", Scene::victims_policy())]).unwrap();
    polder.enforces(&["shop/b", "shop/v"]).unwrap();
    let _server = netlab::Server::udp(&victim, DNS).unwrap();

    let sniffer = Sniffer::marked(&victim, b"X4").unwrap();
    let before = polder.counters().unwrap();
    let link = Ethernet::new(remote.tunnel_mac(), node.tunnel_mac());
    for family in Family::BOTH {
        // In the name of the remote pod that the victim's policy allows.
        let inner = raw::udp((far.address(family), 4000).into(), (victim.address(family), DNS).into(), b"X4");
        let payload = raw::vxlan(VXLAN_ID, &link.carry(&inner));
        for to in
            [IpAddr::from(node.ipv4()), node.gateway().into(), node.ipv6().into(), node.gateway6().into()]
        {
            for port in [VXLAN_PORT, 4789, 6081] {
                let outcome = udp_exchange(&attacker, to, port, &payload, Duration::from_millis(20)).unwrap();
                assert_ne!(outcome, Outcome::Connected, "{to}");
            }
        }
        udp_exchange(&stranger, node.ipv4().into(), VXLAN_PORT, &payload, Duration::from_millis(20)).unwrap();
    }
    let raw_socket = IpSocket::open(&attacker, Family::V4).unwrap();
    let inner = raw::udp((far.ipv4(), 4000).into(), (victim.ipv4(), DNS).into(), b"X4");
    for protocol in [4, 41, 47] {
        raw_socket.send(&Ipv4::new(attacker.ipv4(), node.ipv4()).packet(protocol, &inner)).unwrap();
    }
    assert_eq!(sniffer.settled(QUIET).unwrap(), 0, "LEAK");
    let now = polder.counters().unwrap();
    assert_eq!(counted_since(&before, &now, "egress encapsulated"), 2 * 4 * 3 + 3, "{now:?}");
    assert_eq!(counted_since(&before, &now, "ingress tunnel_stranger"), 2, "{now:?}");
    for family in Family::BOTH {
        let answer = udp_exchange(&far, victim.address(family), DNS, b"honest", PATIENCE).unwrap();
        assert_eq!(answer, Outcome::Connected, "{family:?}: the tunnel itself works");
    }
    assert_eq!(
        udp_exchange(&attacker, victim.ipv4().into(), DNS, b"X4", PATIENCE).unwrap(),
        Outcome::TimedOut
    );
    assert_eq!(sniffer.settled(QUIET).unwrap(), 0, "LEAK");
}

#[test]
fn x5_and_f29_spoofed_sources_are_dropped_and_make_no_flow() {
    if !root_or_skip("x5_and_f29_spoofed_sources_are_dropped_and_make_no_flow") {
        return;
    }
    for (name, cni) in [("ax5-bridge", BRIDGE), ("ax5-routed", Cni::Routed)] {
        let scene = Scene::new(name, cni).unwrap();
        for family in Family::BOTH {
            let map = if family == Family::V4 { "flows4" } else { "flows6" };
            let before = scene.polder.entries(map).unwrap();
            let mut claims = vec![
                scene.friend.address(family),
                scene.free.address(family),
                scene.victim.address(family),
                scene.node.address(family),
            ];
            let others: &[&str] = match family {
                Family::V4 => {
                    &["10.244.2.5", "127.0.0.1", "0.0.0.0", "255.255.255.255", "169.254.1.1", "224.0.0.1"]
                }
                Family::V6 => &["fd00:10:244:2::5", "::1", "::", "fe80::1", "ff02::1", "::ffff:10.244.1.3"],
            };
            claims.extend(others.iter().map(|claim| claim.parse::<IpAddr>().unwrap()));
            claims.push(match family {
                Family::V4 => scene.node.gateway().into(),
                Family::V6 => scene.node.gateway6().into(),
            });
            let link = scene.link(&scene.attacker, &scene.victim);
            let to = |port| SocketAddr::from((scene.victim.address(family), port));
            let frames: Vec<_> = claims
                .iter()
                .flat_map(|claim| {
                    let from = (*claim, 4000).into();
                    [raw::udp(from, to(DNS), b"X5"), raw::tcp(from, to(WEB), raw::SYN, b"X5")]
                })
                .map(|packet| link.carry(&packet))
                .collect();
            for method in Method::ALL {
                let reasons = ["egress spoofed", "egress loopback", "egress malformed"];
                refused(&scene, &scene.attacker, method, b"X5", &frames, &reasons);
            }
            assert_eq!(scene.polder.entries(map).unwrap(), before, "{map}: a denied packet left a flow");
            // As a plain process that may make raw sockets does it; some of these the pod's own kernel refuses.
            let sniffer = scene.sniffer(b"X5").unwrap();
            let socket = IpSocket::open(&scene.attacker, family).unwrap();
            for claim in &claims {
                let _sent = socket.send(&raw::udp((*claim, 4000).into(), to(DNS), b"X5"));
            }
            assert_eq!(sniffer.settled(QUIET).unwrap(), 0, "LEAK {family:?}");
            let (from, to) = scene.ends(&scene.friend, family, DNS);
            let own = scene.link(&scene.friend, &scene.victim).carry(&raw::udp(from, to, b"X5"));
            delivered(&scene, &scene.friend, Method::QdiscBypass, b"X5", &[own]);
        }
    }
}

#[test]
fn a1_a_forged_answer_opens_no_way_back() {
    if !root_or_skip("a1_a_forged_answer_opens_no_way_back") {
        return;
    }
    for (name, cni) in [("aa1-bridge", BRIDGE), ("aa1-routed", Cni::Routed)] {
        let scene = Scene::new(name, cni).unwrap();
        let link = scene.link(&scene.attacker, &scene.victim);
        for family in Family::BOTH {
            let (victim, attacker) = (scene.victim.address(family), scene.attacker.address(family));
            let (mut forged, mut openings) = (Vec::new(), Vec::new());
            for port in [80, 443, WEB, 3306] {
                let (there, here) = (SocketAddr::from((victim, port)), SocketAddr::from((attacker, 31_337)));
                forged.push(raw::tcp(there, here, raw::SYN | raw::ACK, b"A1"));
                forged.push(raw::udp(there, here, b"A1"));
                openings.push(raw::tcp(here, there, raw::SYN, b"A1"));
                openings.push(raw::tcp(here, there, raw::ACK, b"A1"));
                openings.push(raw::udp(here, there, b"A1"));
            }
            forged.push(raw::echo(victim, attacker, raw::Echo::Reply, 7, 1, b"A1"));
            forged.push(raw::echo(victim, attacker, raw::Echo::Request, 7, 1, b"A1"));
            openings.push(raw::echo(attacker, victim, raw::Echo::Request, 7, 1, b"A1"));
            openings.push(raw::echo(attacker, victim, raw::Echo::Reply, 7, 1, b"A1"));
            let carry =
                |packets: &[Vec<u8>]| packets.iter().map(|packet| link.carry(packet)).collect::<Vec<_>>();
            let (forged, openings) = (carry(&forged), carry(&openings));
            for method in Method::ALL {
                refused(&scene, &scene.attacker, method, b"A1", &openings, &["ingress rule_denies"]);
                refused(&scene, &scene.attacker, method, b"A1", &forged, &["egress spoofed"]);
                for _ in 0..3 {
                    refused(&scene, &scene.attacker, method, b"A1", &openings, &["ingress rule_denies"]);
                }
            }
        }
        let _server = netlab::Server::tcp(&scene.victim, WEB, netlab::Greeting::None).unwrap();
        for family in Family::BOTH {
            let to = scene.victim.address(family);
            assert_eq!(tcp_connect(&scene.friend, to, WEB, PATIENCE).unwrap(), Outcome::Connected);
            assert_eq!(tcp_connect(&scene.attacker, to, WEB, PATIENCE).unwrap(), Outcome::TimedOut);
        }
    }
}

#[test]
fn f19_false_routers_and_neighbours_are_not_heard_and_true_ones_are() {
    if !root_or_skip("f19_false_routers_and_neighbours_are_not_heard_and_true_ones_are") {
        return;
    }
    let scene = Scene::new("af19", BRIDGE).unwrap();
    let deny_all = manifest::policy("victim", "v", "policyTypes: [Ingress], ingress: []");
    scene.polder.apply("victim.yaml", &deny_all).unwrap();
    let mac = scene.attacker.mac();
    let own: Ipv6Addr = "fe80::858:aff:fef4:102".parse().unwrap();
    let all: Ipv6Addr = "ff02::1".parse().unwrap();
    let ends = Neighbour::new(own, all);
    let prefix = "fd00:bad::".parse().unwrap();
    let gateway: Ipv6Addr = scene.node.gateway6();
    let near = Neighbour { hop_limit: 64, ..ends };
    let routers = [
        raw::router_advertisement(ends, mac, 1800, prefix),
        raw::redirect(ends, own, scene.friend.ipv6(), mac),
        raw::router_advertisement(Neighbour::new(gateway, all), mac, 1800, prefix),
    ];
    let neighbours = [
        raw::neighbour_advertisement(ends, scene.friend.ipv6(), mac, false),
        raw::neighbour_advertisement(ends, gateway, mac, true),
        raw::neighbour_advertisement(near, scene.attacker.ipv6(), mac, false),
        raw::neighbour_solicitation(near, scene.victim.ipv6(), mac),
        raw::neighbour_solicitation(Neighbour::new(scene.friend.ipv6(), all), scene.victim.ipv6(), mac),
        raw::neighbour_solicitation(ends, scene.victim.ipv6(), scene.friend.mac()),
    ];
    let link = Ethernet::new(mac, Mac::of_group(all.into()));
    let before = scene.polder.counters().unwrap();
    let sniffer =
        Sniffer::at(&scene.victim, move |packet| packet.from == mac && packet.icmp.is_some()).unwrap();
    let mut wire = Wire::open(&scene.attacker, Method::Plain).unwrap();
    for claim in routers.iter().chain(&neighbours) {
        wire.send(&link.carry(claim)).unwrap();
        wire.send(&link.tagged(&[(0x8100, 0)]).carry(claim)).unwrap();
    }
    assert_eq!(sniffer.settled(QUIET).unwrap(), 0, "LEAK");
    let now = scene.polder.counters().unwrap();
    // The one in the gateway's name may be found to be spoofed first.
    let routers = ["egress router", "egress spoofed"].map(|name| counted_since(&before, &now, name));
    assert!(routers.iter().sum::<u64>() >= 3, "{now:?}");
    assert!(counted_since(&before, &now, "egress neighbour_spoofed") >= 5, "{now:?}");
    assert!(counted_since(&before, &now, "egress vlan") >= 9, "{now:?}");
    let addresses = scene.victim.ip("addr show dev eth0\n").unwrap();
    assert!(!addresses.contains("fd00:bad:"), "{addresses}");
    // A pod that nobody may reach is found by its neighbours, and finds them: the node pings it, and it pings others.
    scene.victim.ip("neigh flush all\n").unwrap();
    scene.node.ip("neigh flush all\n").unwrap();
    assert_eq!(ping(&scene.node, scene.victim.ipv6().into(), PATIENCE).unwrap(), Outcome::Connected);
    scene.victim.ip("neigh flush all\n").unwrap();
    assert_eq!(ping(&scene.victim, scene.free.ipv6().into(), PATIENCE).unwrap(), Outcome::Connected);
    assert_eq!(ping(&scene.victim, gateway.into(), PATIENCE).unwrap(), Outcome::Connected);
}

#[test]
fn f27_groups_and_broadcasts_are_policed_like_other_packets() {
    if !root_or_skip("f27_groups_and_broadcasts_are_policed_like_other_packets") {
        return;
    }
    let scene = Scene::new("af27", BRIDGE).unwrap();
    let frames: Vec<_> = ["224.0.0.1", "239.1.2.3", "10.244.1.255", "255.255.255.255", "ff02::1", "ff05::99"]
        .map(|group| group.parse::<IpAddr>().unwrap())
        .into_iter()
        .map(|group| {
            let to = if group.is_multicast() { Mac::of_group(group) } else { Mac::BROADCAST };
            let source = (scene.attacker.address(Family::of(group)), 4000).into();
            let datagram = raw::udp(source, (group, DNS).into(), b"F27");
            Ethernet::new(scene.attacker.mac(), to).carry(&datagram)
        })
        .collect();
    // Addressed to the victim, by a link address of everybody's.
    let (from, to) = scene.ends(&scene.attacker, Family::V4, DNS);
    let hidden = Ethernet::new(scene.attacker.mac(), Mac::BROADCAST).carry(&raw::udp(from, to, b"F27"));
    for method in Method::ALL {
        refused(&scene, &scene.attacker, method, b"F27", &frames, &["ingress rule_denies"]);
        refused(
            &scene,
            &scene.attacker,
            method,
            b"F27",
            std::slice::from_ref(&hidden),
            &["ingress rule_denies"],
        );
    }
    let at_free = Sniffer::marked(&scene.free, b"F27").unwrap();
    scene.arrivals(&scene.attacker, Method::Plain, b"F27", &[]).unwrap();
    let mut wire = Wire::open(&scene.attacker, Method::Plain).unwrap();
    wire.send(&frames[0]).unwrap();
    assert_eq!(at_free.wait_for(1, Duration::from_secs(2)).unwrap(), 1, "who may be reached is");
    // Who may not send sends to no group either.
    let mute = manifest::policy("mute", "b", "policyTypes: [Egress], egress: []");
    scene.polder.apply("mute.yaml", &mute).unwrap();
    at_free.reset();
    refused(&scene, &scene.attacker, Method::Plain, b"F27", &frames, &["egress rule_denies"]);
    assert_eq!(at_free.settled(QUIET).unwrap(), 0, "LEAK at a pod without policy");
    let link = Ethernet::new(scene.attacker.mac(), scene.node.gateway_mac());
    let metadata: SocketAddr = "169.254.169.254:80".parse().unwrap();
    let source = (scene.attacker.ipv4(), 40_000).into();
    let ask = [link.carry(&raw::tcp(source, metadata, raw::SYN, b"F27"))];
    refused(&scene, &scene.attacker, Method::Plain, b"F27", &ask, &["egress rule_denies"]);
}

#[test]
fn f28_false_neighbours_are_not_believed() {
    if !root_or_skip("f28_false_neighbours_are_not_believed") {
        return;
    }
    let scene = Scene::new("af28", BRIDGE).unwrap();
    let known = |family| {
        let shown = scene.victim.ip(&format!("neigh show to {}\n", scene.friend.address(family))).unwrap();
        shown.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).map(str::to_owned)
    };
    for family in Family::BOTH {
        ping(&scene.victim, scene.friend.address(family), PATIENCE).unwrap();
        assert_eq!(known(family), Some(scene.friend.mac().to_string()));
    }
    let mac = scene.attacker.mac();
    let link = scene.link(&scene.attacker, &scene.victim);
    let before = scene.polder.counters().unwrap();
    let sniffer =
        Sniffer::at(&scene.victim, move |packet| packet.from == mac && packet.ethertype == 0x0806).unwrap();
    let mut wire = Wire::open(&scene.attacker, Method::QdiscBypass).unwrap();
    let claims = [
        Arp::claim(mac, scene.friend.ipv4()).frame(&link),
        Arp::claim(mac, scene.node.gateway()).frame(&Ethernet::new(mac, Mac::BROADCAST)),
        Arp::claim(scene.friend.mac(), scene.attacker.ipv4()).frame(&link),
        Arp::request(mac, scene.friend.ipv4(), scene.victim.ipv4())
            .frame(&Ethernet::new(mac, Mac::BROADCAST)),
    ];
    for _ in 0..250 {
        for claim in &claims {
            wire.send(claim).unwrap();
        }
    }
    assert_eq!(sniffer.settled(QUIET).unwrap(), 0, "LEAK");
    let now = scene.polder.counters().unwrap();
    assert_eq!(counted_since(&before, &now, "egress neighbour_spoofed"), 1000, "{now:?}");
    let ends = Neighbour::new(scene.friend.ipv6(), scene.victim.ipv6());
    let claim = raw::neighbour_advertisement(ends, scene.friend.ipv6(), mac, false);
    wire.send(&link.carry(&claim)).unwrap();
    // From another link address, though by the right IP address: as the friend, and as the node.
    for (family, other) in Family::BOTH.into_iter().zip([scene.friend.mac(), scene.node.gateway_mac()]) {
        let (from, to) = scene.ends(&scene.attacker, family, DNS);
        let frame = Ethernet::new(other, link.to).carry(&raw::udp(from, to, b"F28"));
        refused(&scene, &scene.attacker, Method::Plain, b"F28", &[frame], &["egress spoofed"]);
    }
    for family in Family::BOTH {
        assert_eq!(known(family), Some(scene.friend.mac().to_string()), "{family:?}");
    }
    // The truth is believed: nobody is kept from being found.
    scene.victim.ip("neigh flush all\n").unwrap();
    for family in Family::BOTH {
        assert_eq!(
            ping(&scene.victim, scene.attacker.address(family), PATIENCE).unwrap(),
            Outcome::Connected
        );
    }
}

#[test]
fn f34_no_mark_that_a_pod_sets_means_anything() {
    if !root_or_skip("f34_no_mark_that_a_pod_sets_means_anything") {
        return;
    }
    for (name, cni) in [("af34-bridge", BRIDGE), ("af34-routed", Cni::Routed)] {
        let scene = Scene::new(name, cni).unwrap();
        for family in Family::BOTH {
            let (from, to) = scene.ends(&scene.attacker, family, DNS);
            let sniffer = scene.sniffer(b"F34").unwrap();
            let before = scene.polder.counters().unwrap();
            let socket = IpSocket::open(&scene.attacker, family).unwrap();
            let packet = raw::udp(from, to, b"F34");
            // Every bit, and every value of the field that is ours with a small number in it.
            let field = (0..4_u32).flat_map(|kind| (0..64).map(move |index| (kind << 12 | index) << 16));
            let marks: Vec<u32> = (0..32).map(|bit| 1 << bit).chain(field).chain([u32::MAX]).collect();
            for mark in &marks {
                socket.set_mark(*mark).unwrap();
                socket.send(&packet).unwrap();
            }
            assert_eq!(sniffer.settled(QUIET).unwrap(), 0, "LEAK {name} {family:?}");
            let now = scene.polder.counters().unwrap();
            assert!(counted_since(&before, &now, "ingress rule_denies") >= marks.len() as u64, "{now:?}");
        }
    }
}
