//! Without a policy every attack arrives. So a later test in which it does not arrive has proved something.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use netlab::raw::{self, Arp, Ethernet, Extension, IpSocket, Ipv4, Ipv6, Method, Neighbour, Wire};
use netlab::{
    Cni, Family, Host, Lab, Mac, Node, PATIENCE, Packet, Pod, RpFilter, Server, Sniffer, Underlay, VXLAN_ID,
    VXLAN_PORT, root_or_skip,
};

const PORT: u16 = 5353;
const SOON: Duration = Duration::from_secs(2);

struct L1 {
    // First, so that everything else may still be used while it is dropped last.
    attacker: Pod,
    other: Pod,
    victim: Pod,
    node: Node,
    _lab: Lab,
}

fn l1(name: &str, cni: Cni) -> L1 {
    let lab = Lab::new(name).unwrap();
    let node = lab.node(cni, 1).unwrap();
    let [attacker, other, victim] = ["b", "a", "v"].map(|name| node.pod(name).unwrap());
    L1 { attacker, other, victim, node, _lab: lab }
}

fn bridged(name: &str) -> L1 {
    l1(name, Cni::Bridge { br_netfilter: false })
}

impl L1 {
    fn link(&self) -> Ethernet {
        Ethernet::new(self.attacker.mac(), self.attacker.next_hop(&self.victim))
    }

    fn ends(&self, family: Family) -> (SocketAddr, SocketAddr) {
        ((self.attacker.address(family), 4000).into(), (self.victim.address(family), PORT).into())
    }

    /// Sends frames that hold `marker`, and asserts that the victim's interface sees each.
    fn assert_arrive(&self, method: Method, marker: &[u8], frames: &[Vec<u8>]) {
        let wanted = marker.to_owned();
        // The victim echoes datagrams to ports that nobody listens at.
        let attack = move |packet: &Packet<'_>| packet.contains(&wanted) && !packet.is_port_unreachable();
        let sniffer = Sniffer::at(&self.victim, attack).unwrap();
        let mut wire = Wire::open(&self.attacker, method).unwrap();
        for (index, frame) in frames.iter().enumerate() {
            wire.send(frame).unwrap();
            let arrived = u64::try_from(index).unwrap() + 1;
            assert_eq!(
                sniffer.wait_for(arrived, SOON).unwrap(),
                arrived,
                "{method:?}, frame {index}: {frame:x?}"
            );
        }
    }
}

#[test]
fn x1_non_linear_packets_reach_a_socket() {
    if !root_or_skip("x1_non_linear_packets_reach_a_socket") {
        return;
    }
    for (name, cni) in [("x1-bridge", Cni::Bridge { br_netfilter: false }), ("x1-routed", Cni::Routed)] {
        let lab = l1(name, cni);
        let server = Server::udp(&lab.victim, PORT).unwrap();
        for method in Method::ALL {
            let mut frames = Vec::new();
            for family in Family::BOTH {
                let (from, to) = lab.ends(family);
                let (source, target) = (from.ip(), to.ip());
                frames.push(lab.link().carry(&raw::udp(from, to, b"X1 datagram")));
                frames.push(lab.link().carry(&raw::tcp(from, to, raw::SYN, b"X1 segment")));
                frames.push(lab.link().carry(&raw::echo(
                    source,
                    target,
                    raw::Echo::Request,
                    7,
                    1,
                    b"X1 echo",
                )));
                frames.push(lab.link().carry(&raw::udp(from, to, &[b"X1".as_slice(), &[0; 1400]].concat())));
            }
            lab.assert_arrive(method, b"X1", &frames);
        }
        // The kernel's stack took them for valid: checksums included.
        let received = server.received().unwrap();
        let counts: Vec<_> = received.iter().map(|r| (Family::of(r.source.ip()), r.count)).collect();
        assert_eq!(counts, [(Family::V4, 6), (Family::V6, 6)], "{received:?}");
    }
}

#[test]
fn x2_stacked_tags_reach_a_socket() {
    if !root_or_skip("x2_stacked_tags_reach_a_socket") {
        return;
    }
    let lab = bridged("x2");
    let server = Server::udp(&lab.victim, PORT).unwrap();
    let (from, to) = lab.ends(Family::V4);
    let packet = raw::udp(from, to, b"X2");
    let mut frames = Vec::new();
    for kind in [0x8100, 0x88a8, 0x9100] {
        for depth in 1..=3 {
            frames.push(lab.link().tagged(&vec![(kind, 0); depth]).carry(&packet));
        }
    }
    frames.push(lab.link().snap(0x0800, &packet));
    // MPLS with the bottom of the stack, and PPPoE with a session of PPP's IPv4.
    frames.push(lab.link().frame(0x8847, &[&[0, 0, 0x11, 64], packet.as_slice()].concat()));
    frames.push(lab.link().frame(0x8864, &[&[0x11, 0, 0, 1, 0, 60, 0, 0x21], packet.as_slice()].concat()));
    lab.assert_arrive(Method::Plain, b"X2", &frames);
    // The kernel takes off any number of 8100 and 88a8; what it does not know, its socket does not get.
    assert_eq!(server.received().unwrap()[0].count, 6);

    lab.assert_arrive(Method::Plain, b"X2", &[lab.link().tagged(&[(0x88a8, 0), (0x8100, 0)]).carry(&packet)]);
    assert_eq!(server.received().unwrap()[0].count, 7, "and of both kinds mixed");
}

#[test]
fn x4_a_plain_socket_injects_through_the_tunnel() {
    if !root_or_skip("x4_a_plain_socket_injects_through_the_tunnel") {
        return;
    }
    let lab = Lab::new("x4").unwrap();
    let cni = Cni::Bridge { br_netfilter: false };
    let (node, remote) = (lab.node(cni, 1).unwrap(), lab.node(cni, 2).unwrap());
    lab.join(&[&node, &remote], Underlay::Vxlan).unwrap();
    node.set_rp_filter(RpFilter::Strict).unwrap();
    let (attacker, victim) = (node.pod("b").unwrap(), node.pod("v").unwrap());
    let server = Server::udp(&victim, PORT).unwrap();
    let claimed: SocketAddr = "10.244.2.5:4000".parse().unwrap();
    let inner = raw::udp(claimed, (victim.ipv4(), PORT).into(), b"X4");
    let link = Ethernet::new(remote.tunnel_mac(), node.tunnel_mac());
    let payload = raw::vxlan(VXLAN_ID, &link.carry(&inner));
    for (number, to) in (1..).zip([node.ipv4(), node.gateway()]) {
        let sniffer = Sniffer::marked(&victim, b"X4").unwrap();
        let outcome = netlab::udp_exchange(&attacker, to.into(), VXLAN_PORT, &payload, PATIENCE).unwrap();
        assert_eq!(outcome, netlab::Outcome::TimedOut, "the answer goes to whom the attacker claimed to be");
        assert_eq!(sniffer.wait_for(1, SOON).unwrap(), 1, "through {to}");
        let received = server.received().unwrap();
        assert_eq!((received[0].source, received[0].count), (claimed, number));
    }
}

#[test]
fn x5_spoofed_sources_arrive() {
    if !root_or_skip("x5_spoofed_sources_arrive") {
        return;
    }
    for (name, cni) in [("x5-bridge", Cni::Bridge { br_netfilter: false }), ("x5-routed", Cni::Routed)] {
        let lab = l1(name, cni);
        let sniffer = Sniffer::marked(&lab.victim, b"X5").unwrap();
        for family in Family::BOTH {
            let socket = IpSocket::open(&lab.attacker, family).unwrap();
            let to = (lab.victim.address(family), PORT).into();
            let [gateway, remote]: [IpAddr; 2] = match family {
                Family::V4 => [lab.node.gateway().into(), "10.244.2.5".parse().unwrap()],
                Family::V6 => [lab.node.gateway6().into(), "fd00:10:244:2::5".parse().unwrap()],
            };
            let claims =
                [lab.attacker.address(family), lab.other.address(family), lab.node.address(family), remote];
            // A router does not forward what claims to come from an address of its own.
            let claims = claims.into_iter().chain((cni != Cni::Routed).then_some(gateway));
            for claim in claims.filter(|claim| cni != Cni::Routed || *claim != lab.node.address(family)) {
                sniffer.reset();
                socket.send(&raw::udp((claim, 4000).into(), to, b"X5")).unwrap();
                assert_eq!(sniffer.wait_for(1, SOON).unwrap(), 1, "{name}: {claim}");
            }
        }
    }
    let lab = bridged("x5-frames");
    let to = (lab.victim.ipv4(), PORT).into();
    let claims = [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, lab.victim.ipv4()];
    let frames = claims.map(|claim| lab.link().carry(&raw::udp((claim, 4000).into(), to, b"X5")));
    for method in Method::ALL {
        lab.assert_arrive(method, b"X5", &frames);
    }
}

#[test]
fn a1_a_forged_answer_arrives() {
    if !root_or_skip("a1_a_forged_answer_arrives") {
        return;
    }
    let lab = bridged("a1");
    for family in Family::BOTH {
        let (victim, attacker) = (lab.victim.address(family), lab.attacker.address(family));
        let forged = raw::tcp((victim, 80).into(), (attacker, 31337).into(), raw::SYN | raw::ACK, b"A1");
        let seen =
            Sniffer::on(&lab.node, lab.attacker.host_interface(), |packet| packet.contains(b"A1")).unwrap();
        Wire::open(&lab.attacker, Method::QdiscBypass).unwrap().send(&lab.link().carry(&forged)).unwrap();
        assert_eq!(seen.wait_for(1, SOON).unwrap(), 1, "at the host's end of the attacker's veth pair");
        let opening = raw::tcp((attacker, 31337).into(), (victim, 80).into(), raw::SYN, b"A1");
        lab.assert_arrive(Method::Plain, b"A1", &[lab.link().carry(&opening)]);
    }
}

#[test]
fn f18_to_f23_odd_packets_arrive() {
    if !root_or_skip("f18_to_f23_odd_packets_arrive") {
        return;
    }
    let lab = bridged("f20");
    let (from, to) = lab.ends(Family::V4);
    let (source, target) = (lab.attacker.ipv4(), lab.victim.ipv4());
    let plain = Ipv4::new(source, target);
    let syn = raw::Tcp::new(from, to, raw::SYN);
    let quoted = raw::udp(to, from, b"");
    let mut packets = vec![
        raw::icmp_error(source.into(), target.into(), (3, 4), 1300, &[quoted.as_slice(), b"ODD"].concat()),
        // Options that end where the header does, and ports hidden in them.
        Ipv4 { options: vec![1, 1, 0, 80], ..plain.clone() }.packet(raw::TCP, &syn.segment(b"ODD")),
        Ipv4 { header_length: Some(4), ..plain.clone() }.packet(raw::TCP, &syn.segment(b"ODD")),
        Ipv4 { total_length: raw::Length::Is(8), ..plain.clone() }.packet(raw::TCP, &syn.segment(b"ODD")),
        Ipv4 { fragment_offset: 100, id: 9, ..plain.clone() }.packet(raw::UDP, b"ODD"),
        Ipv4 { more_fragments: true, id: 10, ..plain.clone() }.packet(raw::TCP, b"ODDtiny."),
        raw::Tcp { data_offset: Some(2), ..syn.clone() }.packet(b"ODD"),
        raw::Tcp { checksum: raw::Checksum::Wrong, flags: raw::SYN | raw::FIN, ..syn.clone() }.packet(b"ODD"),
        raw::tcp(from, to, 0, b"ODD"),
        plain.packet(255, b"ODD"),
        plain.packet(raw::UDP, b"ODD"),
    ];
    let (IpAddr::V6(source6), IpAddr::V6(target6)) = (lab.attacker.ipv6().into(), lab.victim.ipv6().into())
    else {
        panic!()
    };
    let (from6, to6) = lab.ends(Family::V6);
    let segment = raw::Tcp::new(from6, to6, raw::SYN).segment(b"ODD");
    let header = Ipv6::new(source6, target6);
    for extension in [
        Extension::HopByHop(vec![]),
        Extension::Destination(vec![0; 30]),
        Extension::Routing { kind: 0, left: 1, data: vec![0; 20] },
        Extension::ATOMIC,
        Extension::Authentication(vec![0; 12]),
        Extension::Other { number: 253, rest: vec![0; 7] },
    ] {
        packets.push(header.packet(std::slice::from_ref(&extension), raw::TCP, &segment));
        packets.push(header.packet(&vec![extension; 4], raw::TCP, &segment));
    }
    let frames: Vec<_> = packets.iter().map(|packet| lab.link().carry(packet)).collect();
    lab.assert_arrive(Method::Plain, b"ODD", &frames);
    lab.assert_arrive(Method::TxRing, b"ODD", &frames);
    // An ethertype that lies about the version.
    lab.assert_arrive(Method::Plain, b"ODD", &[lab.link().frame(0x86dd, &raw::udp(from, to, b"ODD"))]);
}

#[test]
fn f20_and_f21_fragments_are_put_together() {
    if !root_or_skip("f20_and_f21_fragments_are_put_together") {
        return;
    }
    for (name, cni) in [("f21-bridge", Cni::Bridge { br_netfilter: false }), ("f21-routed", Cni::Routed)] {
        let lab = l1(name, cni);
        let server = Server::udp(&lab.victim, PORT).unwrap();
        let payload = vec![b'x'; 4000];
        let mut wire = Wire::open(&lab.attacker, Method::Plain).unwrap();
        for family in Family::BOTH {
            let (from, to) = lab.ends(family);
            let datagram = raw::udp_segment(from, to, &payload);
            let mut fragments = match (from.ip(), to.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    Ipv4 { id: 77, ..Ipv4::new(from, to) }.fragments(raw::UDP, &datagram, 1400)
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    Ipv6::new(from, to).fragments(&[], raw::UDP, &datagram, 1400, 77)
                }
                _ => panic!(),
            };
            let sniffer = Sniffer::at(&lab.victim, |packet| packet.protocol == Some(raw::UDP)).unwrap();
            // The last one first.
            fragments.reverse();
            for fragment in &fragments {
                wire.send(&lab.link().carry(fragment)).unwrap();
            }
            assert_eq!(sniffer.wait_for(3, SOON).unwrap(), 3, "{name} {family:?}");
            let deadline = std::time::Instant::now() + SOON;
            while !server.received().unwrap().iter().any(|r| r.source == from)
                && std::time::Instant::now() < deadline
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(server.received().unwrap().iter().any(|r| r.source == from), "{name} {family:?}");
        }
    }
}

#[test]
fn f27_groups_and_broadcasts_reach_every_pod() {
    if !root_or_skip("f27_groups_and_broadcasts_reach_every_pod") {
        return;
    }
    let lab = bridged("f27");
    let mut frames = Vec::new();
    for group in ["224.0.0.1", "10.244.1.255", "255.255.255.255", "ff02::1"] {
        let group: IpAddr = group.parse().unwrap();
        let to = if group.is_multicast() { Mac::of_group(group) } else { Mac::BROADCAST };
        let source = (lab.attacker.address(Family::of(group)), 4000).into();
        frames.push(Ethernet::new(lab.attacker.mac(), to).carry(&raw::udp(
            source,
            (group, PORT).into(),
            b"F27",
        )));
    }
    let at_other = Sniffer::marked(&lab.other, b"F27").unwrap();
    lab.assert_arrive(Method::QdiscBypass, b"F27", &frames);
    assert_eq!(at_other.wait_for(4, SOON).unwrap(), 4);
    // Not addressed to the victim's interface, but there: a sniffer sees it, and says for whom it was.
    let flooded =
        Sniffer::at(&lab.victim, |p| p.contains(b"F27") && p.arrival == netlab::Arrival::OtherHost).unwrap();
    let (from, to) = lab.ends(Family::V4);
    let frame =
        Ethernet::new(lab.attacker.mac(), Mac([2, 0, 0, 0, 0, 99])).carry(&raw::udp(from, to, b"F27"));
    lab.assert_arrive(Method::Plain, b"F27", &[frame]);
    assert_eq!(flooded.wait_for(1, SOON).unwrap(), 1);
}

#[test]
fn f26_every_protocol_number_arrives() {
    if !root_or_skip("f26_every_protocol_number_arrives") {
        return;
    }
    let lab = bridged("f26");
    let header = Ipv4::new(lab.attacker.ipv4(), lab.victim.ipv4());
    let frames: Vec<_> =
        (0..=255).map(|protocol| lab.link().carry(&header.packet(protocol, b"F26F26F26"))).collect();
    lab.assert_arrive(Method::Plain, b"F26", &frames);
    let (from, to) = lab.ends(Family::V6);
    let sctp =
        Sniffer::at(&lab.victim, |packet| packet.protocol == Some(raw::SCTP) && packet.ports.is_some())
            .unwrap();
    IpSocket::open(&lab.attacker, Family::V6).unwrap().send(&raw::sctp_init(from, to)).unwrap();
    assert_eq!(sctp.wait_for(1, SOON).unwrap(), 1);
}

#[test]
fn f28_false_neighbours_are_believed() {
    if !root_or_skip("f28_false_neighbours_are_believed") {
        return;
    }
    let lab = bridged("f28");
    for family in Family::BOTH {
        netlab::ping(&lab.victim, lab.other.address(family), PATIENCE).unwrap();
    }
    let mut wire = Wire::open(&lab.attacker, Method::Plain).unwrap();
    // The kernel keeps an answer that it believes for a second before it believes another (net.ipv4.neigh.*.locktime).
    std::thread::sleep(Duration::from_millis(1100));
    wire.send(&Arp::claim(lab.attacker.mac(), lab.other.ipv4()).frame(&lab.link())).unwrap();
    let ends = Neighbour::new(lab.other.ipv6(), lab.victim.ipv6());
    let claim = raw::neighbour_advertisement(ends, lab.other.ipv6(), lab.attacker.mac(), false);
    wire.send(&lab.link().carry(&claim)).unwrap();
    for family in Family::BOTH {
        let expected = format!("lladdr {}", lab.attacker.mac());
        let deadline = std::time::Instant::now() + SOON;
        loop {
            let known = lab.victim.ip(&format!("neigh show to {}\n", lab.other.address(family))).unwrap();
            if known.contains(&expected) {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{known}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn f19_a_false_router_is_believed() {
    if !root_or_skip("f19_a_false_router_is_believed") {
        return;
    }
    let lab = bridged("f19");
    let from: Ipv6Addr = lab.attacker.run(|| Ok("fe80::858:aff:fef4:102".parse()?)).unwrap();
    let ends = Neighbour::new(from, "ff02::1".parse().unwrap());
    let prefix = "fd00:bad::".parse().unwrap();
    let link = Ethernet::new(lab.attacker.mac(), Mac::of_group(ends.destination.into()));
    let mac = lab.attacker.mac();
    let false_claims = [
        raw::router_advertisement(ends, mac, 1800, prefix),
        raw::router_solicitation(ends, mac),
        raw::neighbour_solicitation(ends, lab.victim.ipv6(), mac),
        raw::redirect(ends, from, lab.other.ipv6(), mac),
        raw::mld_report(Neighbour { hop_limit: 1, ..ends }, "ff02::99".parse().unwrap()),
    ];
    let attacker = mac;
    let sniffer =
        Sniffer::at(&lab.victim, move |packet| packet.from == attacker && packet.icmp.is_some()).unwrap();
    let mut wire = Wire::open(&lab.attacker, Method::Plain).unwrap();
    for claim in &false_claims {
        wire.send(&link.carry(claim)).unwrap();
    }
    assert!(sniffer.wait_for(5, SOON).unwrap() >= 5);
    let addresses = lab.victim.ip("addr show dev eth0\n").unwrap();
    assert!(addresses.contains("fd00:bad:"), "{addresses}");
}

#[test]
fn f34_marks_can_be_set_by_a_pod_and_do_not_hurt() {
    if !root_or_skip("f34_marks_can_be_set_by_a_pod_and_do_not_hurt") {
        return;
    }
    let lab = bridged("f34");
    let (from, to) = lab.ends(Family::V4);
    let sniffer = Sniffer::marked(&lab.victim, b"F34").unwrap();
    let socket = IpSocket::open(&lab.attacker, Family::V4).unwrap();
    for bit in 0..32 {
        socket.set_mark(1 << bit).unwrap();
        socket.send(&raw::udp(from, to, b"F34")).unwrap();
    }
    assert_eq!(sniffer.wait_for(32, SOON).unwrap(), 32);
}
