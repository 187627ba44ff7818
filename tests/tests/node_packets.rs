//! Odd packets between pods under policy: fragments, options, extension headers, flags, protocols, ICMP errors. What the
//! oracle denies does not arrive, and what is allowed works. Named by the rows of the threat model.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use netlab::raw::{self, Echo, Ethernet, Extension, IpSocket, Ipv4, Ipv6, Length, Method, Tcp, Wire};
use netlab::{
    Cni, Family, Greeting, Host, Lab, Outcome, PATIENCE, Pod, Server, Sniffer, Underlay, ping_as,
    root_or_skip, tcp_connect_from, udp_exchange,
};
use tests::node::manifest::{self, DNS, WEB};
use tests::node::{Polder, Scene, counted_since};

const BRIDGE: Cni = Cni::Bridge { br_netfilter: false };
/// A port of the victim at which nobody may ask.
const CLOSED: u16 = 22;
/// Whatever drops a packet that must not pass, for rows that do not say which it has to be.
const ANY: [&str; 8] = [
    "ingress rule_denies",
    "ingress fragment",
    "ingress malformed",
    "ingress headers",
    "egress malformed",
    "egress headers",
    "egress fragment",
    "egress router",
];

#[expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]
fn refused(scene: &Scene, from: &Pod, marker: &[u8], packets: &[Vec<u8>], reasons: &[&str]) {
    let link = scene.link(from, &scene.victim);
    let frames: Vec<_> = packets.iter().map(|packet| link.carry(packet)).collect();
    for method in [Method::Plain, Method::TxRing] {
        assert_eq!(scene.leak(from, method, marker, &frames, reasons).unwrap(), None);
    }
}

#[expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]
fn delivered(scene: &Scene, from: &Pod, marker: &[u8], packets: &[Vec<u8>]) {
    let link = scene.link(from, &scene.victim);
    for packet in packets {
        let frame = link.carry(packet);
        let arrived = scene.arrivals(from, Method::TxRing, marker, std::slice::from_ref(&frame)).unwrap();
        assert_eq!(arrived, 1, "{}: {frame:02x?}", from.name());
    }
}

fn flows(scene: &Scene) -> [u64; 2] {
    ["flows4", "flows6"].map(|map| scene.polder.entries(map).unwrap_or(u64::MAX))
}

#[test]
fn f18_errors_pass_only_if_they_are_about_what_the_pod_sent() {
    if !root_or_skip("f18_errors_pass_only_if_they_are_about_what_the_pod_sent") {
        return;
    }
    for (name, cni) in [("pf18-bridge", BRIDGE), ("pf18-routed", Cni::Routed)] {
        let lab = Lab::new(name).unwrap();
        let (node, other) = (lab.node(cni, 1).unwrap(), lab.node(cni, 2).unwrap());
        lab.join(&[&node, &other], Underlay::Routed).unwrap();
        let victim = node.pod("v").unwrap();
        let (_router, far) = lab.behind_router("far", 1300, &[&node, &other]).unwrap();
        let stranger = lab.outside("stranger").unwrap();
        let facts =
            manifest::namespace("shop") + &manifest::node(&node) + &manifest::pod("shop", &victim, "app: v");
        let deny = manifest::policy("v", "v", "policyTypes: [Ingress], ingress: []");
        let polder = Polder::start(&node, &[("facts.yaml", facts), ("deny.yaml", deny)]).unwrap();
        polder.enforces(&["shop/v"]).unwrap();
        let _server = Server::tcp(&far, WEB, Greeting::None).unwrap();
        for family in Family::BOTH {
            // Full segments do not fit the router's link: without its errors nothing gets through.
            let answer =
                tcp_connect_from(&victim, None, (far.address(family), WEB).into(), PATIENCE).unwrap();
            let mut stream = answer.value.unwrap();
            let own = stream.local_addr().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut writer = stream.try_clone().unwrap();
            let sent = thread::spawn(move || writer.write_all(&vec![7; 1 << 20]));
            let mut echoed = vec![0; 1 << 20];
            stream.read_exact(&mut echoed).unwrap();
            sent.join().unwrap().unwrap();
            assert!(echoed.iter().all(|byte| *byte == 7), "{name} {family:?}");

            let kind = if family == Family::V4 { (3, 4) } else { (2, 0) };
            let source = stranger.address(family);
            let to_far = SocketAddr::from((far.address(family), WEB));
            let other = SocketAddr::from((own.ip(), own.port() ^ 1));
            let mut quotes = vec![
                raw::tcp(other, to_far, raw::ACK, b"F18"),
                raw::tcp(to_far, own, raw::ACK, b"F18"),
                raw::udp(own, to_far, b"F18"),
                raw::tcp(own, (source, WEB).into(), raw::ACK, b"F18"),
                [&raw::tcp(own, to_far, raw::ACK, b"")[..10], b"F18"].concat(),
                b"F18".to_vec(),
            ];
            if let (IpAddr::V4(from), IpAddr::V4(to)) = (own.ip(), to_far.ip()) {
                let segment = Tcp::new(own, to_far, raw::ACK).segment(b"F18");
                quotes.push(Ipv4 { fragment_offset: 10, ..Ipv4::new(from, to) }.packet(raw::TCP, &segment));
                quotes
                    .push(Ipv4 { header_length: Some(4), ..Ipv4::new(from, to) }.packet(raw::TCP, &segment));
                quotes
                    .push(Ipv4 { header_length: Some(15), ..Ipv4::new(from, to) }.packet(raw::TCP, &segment));
            }
            let before = polder.counters().unwrap();
            let sniffer = Sniffer::marked(&victim, b"F18").unwrap();
            let socket = IpSocket::open(&stranger, family).unwrap();
            for quote in &quotes {
                socket.send(&raw::icmp_error(source, own.ip(), kind, 1280, quote)).unwrap();
            }
            assert_eq!(sniffer.settled(Duration::from_millis(100)).unwrap(), 0, "LEAK {name} {family:?}");
            let now = polder.counters().unwrap();
            let dropped: u64 = ANY.iter().map(|reason| counted_since(&before, &now, reason)).sum();
            assert!(
                dropped >= quotes.len() as u64,
                "{name} {family:?}: {dropped} of {}: {now:?}",
                quotes.len()
            );
            // About the connection itself, from a router that is no end of it.
            let true_quote = raw::tcp(own, to_far, raw::ACK, b"F18");
            socket.send(&raw::icmp_error(source, own.ip(), kind, 1280, &true_quote)).unwrap();
            assert_eq!(sniffer.wait_for(1, Duration::from_secs(2)).unwrap(), 1, "{name} {family:?}");
        }
    }
}

#[test]
fn f20_fragments_follow_their_first_one_or_are_dropped() {
    if !root_or_skip("f20_fragments_follow_their_first_one_or_are_dropped") {
        return;
    }
    for (name, cni) in [("pf20-bridge", BRIDGE), ("pf20-routed", Cni::Routed)] {
        let scene = Scene::new(name, cni).unwrap();
        let _server = Server::udp(&scene.victim, DNS).unwrap();
        let whole = |scene: &Scene| {
            for family in Family::BOTH {
                let to = scene.victim.address(family);
                let answer =
                    udp_exchange(&scene.friend, to, DNS, &[9; 4000], Duration::from_secs(1)).unwrap();
                assert_eq!(answer, Outcome::Connected, "{name} {family:?}: 4000 bytes");
                let answer = udp_exchange(&scene.attacker, to, DNS, &[9; 4000], PATIENCE).unwrap();
                assert_eq!(answer, Outcome::TimedOut, "{name} {family:?}: 4000 bytes of the attacker");
            }
        };
        whole(&scene);
        let header = Ipv4::new(scene.friend.ipv4(), scene.victim.ipv4());
        let part = |id, more_fragments, fragment_offset| Ipv4 {
            id,
            more_fragments,
            fragment_offset,
            ..header.clone()
        };
        let (from, to) = scene.ends(&scene.friend, Family::V4, DNS);
        let (_, closed) = scene.ends(&scene.friend, Family::V4, CLOSED);
        let good = raw::udp_segment(from, to, b"F20 with eight-byte ends");
        let bad = raw::udp_segment(from, closed, b"F20 with eight-byte ends");
        let later = [
            part(1, false, 100).packet(raw::UDP, b"F20F20F2"),
            part(1, true, 3).packet(raw::TCP, b"F20F20F2"),
        ];
        refused(&scene, &scene.friend, b"F20", &later, &["ingress fragment", "egress fragment"]);
        // Eight bytes of a TCP header have ports, and hide the flags.
        let tiny = part(2, true, 0).packet(raw::TCP, &[&[0x9c, 0x40, 0x1f, 0x90], &b"F20."[..]].concat());
        refused(&scene, &scene.friend, b"F20", &[tiny], &ANY);
        // A second first fragment of the same datagram, to another port.
        delivered(&scene, &scene.friend, b"F20", &[part(3, true, 0).packet(raw::UDP, &good[..32])]);
        refused(&scene, &scene.friend, b"F20", &[part(3, true, 0).packet(raw::UDP, &bad[..32])], &ANY);
        // A denied first fragment lets none follow, and one that is allowed lets none of another protocol follow.
        refused(&scene, &scene.friend, b"F20", &[part(4, true, 0).packet(raw::UDP, &bad[..32])], &ANY);
        refused(&scene, &scene.friend, b"F20", &[part(4, false, 4).packet(raw::UDP, b"F20")], &ANY);
        refused(&scene, &scene.friend, b"F20", &[part(3, false, 4).packet(raw::TCP, b"F20")], &ANY);
        delivered(&scene, &scene.friend, b"F20", &[part(3, false, 4).packet(raw::UDP, b"F20")]);
        // Nobody else's first fragment helps.
        let theirs =
            Ipv4 { id: 3, fragment_offset: 4, ..Ipv4::new(scene.attacker.ipv4(), scene.victim.ipv4()) };
        refused(&scene, &scene.attacker, b"F20", &[theirs.packet(raw::UDP, b"F20")], &ANY);
        // The last one first: it is dropped. That costs a datagram, and opens nothing.
        refused(&scene, &scene.friend, b"F20", &[part(5, false, 4).packet(raw::UDP, b"F20")], &ANY);
        // Later fragments under all the identifications there are.
        let sniffer = scene.sniffer(b"F20").unwrap();
        let mut wire = Wire::open(&scene.attacker, Method::QdiscBypass).unwrap();
        let link = scene.link(&scene.attacker, &scene.victim);
        for id in 0..=u16::MAX {
            wire.send(&link.carry(&Ipv4 { id, ..theirs.clone() }.packet(raw::UDP, b"F20"))).unwrap();
        }
        assert_eq!(sniffer.settled(Duration::from_millis(100)).unwrap(), 0, "LEAK {name}");
        whole(&scene);
    }
}

#[test]
fn f21_extension_headers_hide_nothing() {
    if !root_or_skip("f21_extension_headers_hide_nothing") {
        return;
    }
    let scene = Scene::new("pf21", BRIDGE).unwrap();
    let header = Ipv6::new(scene.friend.ipv6(), scene.victim.ipv6());
    let segment = |port| {
        let (from, to) = scene.ends(&scene.friend, Family::V6, port);
        Tcp::new(from, to, raw::SYN).segment(b"F21")
    };
    let kinds = [
        Extension::HopByHop(vec![]),
        // A router alert.
        Extension::HopByHop(vec![5, 2, 0, 0]),
        Extension::Destination(vec![0; 30]),
        Extension::Routing { kind: 0, left: 1, data: vec![0; 20] },
        Extension::Routing { kind: 2, left: 0, data: vec![0; 20] },
        Extension::ATOMIC,
        Extension::Fragment { offset: 0, more: true, id: 9 },
        Extension::Fragment { offset: 3, more: false, id: 9 },
        Extension::Authentication(vec![0; 12]),
        Extension::Other { number: 50, rest: vec![0; 7] },
        Extension::Other { number: 59, rest: vec![0; 7] },
        Extension::Other { number: 135, rest: vec![0; 7] },
        Extension::Other { number: 253, rest: vec![0; 7] },
    ];
    let mut chains: Vec<Vec<Extension>> = vec![Vec::new()];
    for depth in 0..3 {
        let longest: Vec<_> = chains.iter().filter(|chain| chain.len() == depth).cloned().collect();
        for chain in longest {
            chains.extend(kinds.iter().map(|kind| [chain.as_slice(), std::slice::from_ref(kind)].concat()));
        }
    }
    chains.extend(kinds.iter().map(|kind| vec![kind.clone(); 8]));
    let hidden: Vec<_> =
        chains.iter().map(|chain| header.packet(chain, raw::TCP, &segment(CLOSED))).collect();
    assert!(hidden.len() > 2000);
    refused(&scene, &scene.friend, b"F21", &hidden, &ANY);
    // Source routes, and fragments that cut the chain, lead nowhere, not even to an open port.
    let source_route = std::slice::from_ref(&kinds[3]);
    let cut = [Extension::Fragment { offset: 0, more: true, id: 10 }, Extension::Destination(vec![0; 30])];
    let never = [
        header.packet(source_route, raw::TCP, &segment(WEB)),
        header.packet(&cut[..1], 60, b"F21F21F2"),
        header.packet(&[cut[1].clone(), cut[0].clone()], raw::TCP, b"F21F21F2"),
    ];
    refused(&scene, &scene.friend, b"F21", &never, &ANY);
    // A fragment that is the whole is a whole packet (RFC 6946).
    let whole = [
        header.packet(&[], raw::TCP, &segment(WEB)),
        header.packet(&[Extension::ATOMIC], raw::TCP, &segment(WEB)),
    ];
    delivered(&scene, &scene.friend, b"F21", &whole);
}

#[test]
fn f22_options_are_no_ports() {
    if !root_or_skip("f22_options_are_no_ports") {
        return;
    }
    let scene = Scene::new("pf22", BRIDGE).unwrap();
    let header = Ipv4::new(scene.friend.ipv4(), scene.victim.ipv4());
    let segment = |port| {
        let (from, to) = scene.ends(&scene.friend, Family::V4, port);
        Tcp::new(from, to, raw::SYN).segment(b"F22")
    };
    let with = |options: &[u8], port| {
        Ipv4 { options: options.to_vec(), ..header.clone() }.packet(raw::TCP, &segment(port))
    };
    let [high, low] = WEB.to_be_bytes();
    let mut hidden: Vec<_> =
        (0..10).map(|words| with(&[[0x9c, 0x40, high, low]].repeat(words + 1).concat(), CLOSED)).collect();
    hidden.push(with(&[1, 1, high, low], CLOSED));
    refused(&scene, &scene.friend, b"F22", &hidden, &ANY);
    let [a, b, c, d] = scene.free.ipv4().octets();
    let routes = [131, 137].map(|kind| with(&[kind, 7, 4, a, b, c, d, 0], WEB));
    refused(&scene, &scene.friend, b"F22", &routes, &["egress headers"]);
    delivered(&scene, &scene.friend, b"F22", &[with(&[], WEB), with(&[1, 1, 1, 1], WEB)]);
}

#[test]
fn f23_malformed_packets_are_dropped_even_where_their_ports_are_open() {
    if !root_or_skip("f23_malformed_packets_are_dropped_even_where_their_ports_are_open") {
        return;
    }
    let scene = Scene::new("pf23", BRIDGE).unwrap();
    let (from, to) = scene.ends(&scene.friend, Family::V4, WEB);
    let (from6, to6) = scene.ends(&scene.friend, Family::V6, WEB);
    let plain = Ipv4::new(scene.friend.ipv4(), scene.victim.ipv4());
    let plain6 = Ipv6::new(scene.friend.ipv6(), scene.victim.ipv6());
    let syn = Tcp::new(from, to, raw::SYN);
    let segment = syn.segment(b"F23");
    let segment6 = Tcp::new(from6, to6, raw::SYN).segment(b"F23");
    let mut datagram = raw::udp_segment(from, (to.ip(), DNS).into(), b"F23");
    let mut bad = vec![
        Ipv4 { header_length: Some(4), ..plain.clone() }.packet(raw::TCP, &segment),
        Ipv4 { header_length: Some(0), ..plain.clone() }.packet(raw::TCP, &segment),
        Ipv4 { header_length: Some(15), ..plain.clone() }.packet(raw::TCP, &segment),
        Ipv4 { total_length: Length::Is(8), ..plain.clone() }.packet(raw::TCP, &segment),
        Ipv4 { total_length: Length::Is(30), ..plain.clone() }.packet(raw::TCP, &segment),
        Ipv4 { total_length: Length::Is(9999), ..plain.clone() }.packet(raw::TCP, &segment),
        Ipv4 { version: 5, ..plain.clone() }.packet(raw::TCP, &segment),
        Ipv4 { version: 6, ..plain.clone() }.packet(raw::TCP, &segment),
        Ipv6 { version: 4, ..plain6 }.packet(&[], raw::TCP, &segment6),
        Ipv6 { payload_length: Length::Is(9999), ..plain6 }.packet(&[], raw::TCP, &segment6),
        Ipv6 { payload_length: Length::Is(10), ..plain6 }.packet(&[], raw::TCP, &segment6),
        plain.packet(raw::UDP, b"F23"),
        plain.packet(raw::TCP, b"F23"),
        plain6.packet(&[], raw::UDP, b"F23"),
    ];
    for data_offset in [0, 2, 4, 15] {
        bad.push(Tcp { data_offset: Some(data_offset), ..syn.clone() }.packet(b"F23"));
    }
    for flags in [0, raw::SYN | raw::FIN, raw::SYN | raw::RST, raw::FIN | raw::PSH | raw::URG, 0x3f] {
        bad.push(Tcp { flags, ..syn.clone() }.packet(b"F23"));
        bad.push(raw::tcp(from6, to6, flags, b"F23"));
    }
    for length in [0_u16, 7, 4000] {
        datagram[4..6].copy_from_slice(&length.to_be_bytes());
        bad.push(plain.packet(raw::UDP, &datagram));
    }
    for (from, to) in [(from, to), (from6, to6)] {
        bad.push(raw::tcp((from.ip(), 0).into(), to, raw::SYN, b"F23"));
        bad.push(raw::udp((from.ip(), 0).into(), (to.ip(), DNS).into(), b"F23"));
        bad.push(raw::tcp(from, (to.ip(), 0).into(), raw::SYN, b"F23"));
        bad.push(raw::udp(from, (to.ip(), 0).into(), b"F23"));
    }
    let before = flows(&scene);
    for (index, packet) in bad.iter().enumerate() {
        let frame = [scene.link(&scene.friend, &scene.victim).carry(packet)];
        let leak = scene.leak(&scene.friend, Method::TxRing, b"F23", &frame, &ANY).unwrap();
        assert_eq!(leak, None, "packet {index}");
    }
    assert_eq!(flows(&scene), before, "a malformed packet left a flow");
    delivered(
        &scene,
        &scene.friend,
        b"F23",
        &[plain.packet(raw::TCP, &segment), plain6.packet(&[], raw::TCP, &segment6)],
    );
}

#[test]
fn f24_only_the_beginning_that_policy_allows_begins_a_connection() {
    if !root_or_skip("f24_only_the_beginning_that_policy_allows_begins_a_connection") {
        return;
    }
    let scene = Scene::new("pf24", BRIDGE).unwrap();
    for family in Family::BOTH {
        let (here, web) = scene.ends(&scene.attacker, family, WEB);
        let flags =
            [raw::SYN, raw::ACK, raw::FIN | raw::ACK, raw::RST, raw::RST | raw::ACK, raw::SYN | raw::ACK];
        let begin = flags.map(|flags| raw::tcp(here, web, flags, b"F24"));
        refused(&scene, &scene.attacker, b"F24", &begin, &ANY);
        // The victim opens connections; those it opened them to may answer, and not ask.
        let asker = SocketAddr::from((scene.victim.address(family), 41_000));
        let asked = SocketAddr::from((scene.attacker.address(family), 9000));
        let mut wire = Wire::open(&scene.victim, Method::Plain).unwrap();
        let link = scene.link(&scene.victim, &scene.attacker);
        wire.send(&link.carry(&raw::tcp(asker, asked, raw::SYN, b"f24"))).unwrap();
        let answer = raw::tcp(asked, asker, raw::SYN | raw::ACK, b"F24");
        delivered(&scene, &scene.attacker, b"F24", &[answer]);
        // A simultaneous opening is a question; so is one that reuses the ports after the end.
        refused(&scene, &scene.attacker, b"F24", &[raw::tcp(asked, asker, raw::SYN, b"F24")], &ANY);
        wire.send(&link.carry(&raw::tcp(asker, asked, raw::RST, b"f24"))).unwrap();
        refused(&scene, &scene.attacker, b"F24", &[raw::tcp(asked, asker, raw::SYN, b"F24")], &ANY);
        let others = [
            raw::tcp((asked.ip(), 9001).into(), asker, raw::ACK, b"F24"),
            raw::tcp(asked, (asker.ip(), 41_001).into(), raw::ACK, b"F24"),
        ];
        refused(&scene, &scene.attacker, b"F24", &others, &ANY);
        // Whom policy allows may reuse its ports as often as it likes.
        let (friend, web) = scene.ends(&scene.friend, family, WEB);
        for _ in 0..20 {
            delivered(&scene, &scene.friend, b"F24", &[raw::tcp(friend, web, raw::SYN, b"F24")]);
        }
    }
}

#[test]
fn f25_and_c9_an_answer_has_the_ports_and_the_identifier_of_its_question() {
    if !root_or_skip("f25_and_c9_an_answer_has_the_ports_and_the_identifier_of_its_question") {
        return;
    }
    let scene = Scene::new("pf25", BRIDGE).unwrap();
    for family in Family::BOTH {
        let victim = scene.victim.address(family);
        let asked = SocketAddr::from((scene.attacker.address(family), 53));
        let asker = SocketAddr::from((victim, 42_000));
        let datagram = |from: SocketAddr, to: SocketAddr| raw::udp(from, to, b"F25");
        refused(&scene, &scene.attacker, b"F25", &[datagram(asked, asker)], &["ingress rule_denies"]);
        let socket = scene.victim.run(|| Ok(UdpSocket::bind(asker)?)).unwrap();
        socket.send_to(b"a question", asked).unwrap();
        delivered(&scene, &scene.attacker, b"F25", &[datagram(asked, asker)]);
        let others = [
            datagram((asked.ip(), 54).into(), asker),
            datagram(asked, (victim, 42_001).into()),
            raw::tcp(asked, asker, raw::ACK, b"F25"),
        ];
        refused(&scene, &scene.attacker, b"F25", &others, &ANY);
        let third = datagram((scene.free.address(family), 53).into(), asker);
        refused(&scene, &scene.free, b"F25", &[third], &["ingress rule_denies"]);

        assert_eq!(ping_as(&scene.victim, asked.ip(), 7, 1, PATIENCE).unwrap(), Outcome::Connected);
        let echo = |half, id| raw::echo(asked.ip(), victim, half, id, 2, b"C9");
        refused(
            &scene,
            &scene.attacker,
            b"C9",
            &[echo(Echo::Request, 7), echo(Echo::Reply, 8)],
            &["ingress rule_denies"],
        );
        delivered(&scene, &scene.attacker, b"C9", &[echo(Echo::Reply, 7)]);
    }
}

#[test]
fn f26_other_protocols_pass_only_a_rule_without_ports() {
    if !root_or_skip("f26_other_protocols_pass_only_a_rule_without_ports") {
        return;
    }
    let scene = Scene::new("pf26", BRIDGE).unwrap();
    for from in [&scene.attacker, &scene.friend] {
        let header = Ipv4::new(from.ipv4(), scene.victim.ipv4());
        // IGMP is of the link, and has its own test.
        let all: Vec<_> = (0..=255)
            .filter(|protocol| *protocol != 2)
            .map(|protocol| header.packet(protocol, b"F26F26F26"))
            .collect();
        refused(&scene, from, b"F26", &all, &ANY);
        let (from4, to4) = scene.ends(from, Family::V4, WEB);
        let (from6, to6) = scene.ends(from, Family::V6, WEB);
        let before = scene.polder.counters().unwrap();
        let sniffer = Sniffer::at(&scene.victim, |packet| packet.protocol == Some(raw::SCTP)).unwrap();
        let mut wire = Wire::open(from, Method::Plain).unwrap();
        for packet in [raw::sctp_init(from4, to4), raw::sctp_init(from6, to6)] {
            wire.send(&scene.link(from, &scene.victim).carry(&packet)).unwrap();
        }
        assert_eq!(sniffer.settled(Duration::from_millis(100)).unwrap(), 0, "LEAK");
        let now = scene.polder.counters().unwrap();
        assert_eq!(counted_since(&before, &now, "ingress rule_denies"), 2, "{now:?}");
    }
    let any = "policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: a}}}]}]";
    scene.polder.apply("victim.yaml", &manifest::policy("victim", "v", any)).unwrap();
    let header = Ipv4::new(scene.friend.ipv4(), scene.victim.ipv4());
    let open: Vec<_> = [89, 103, 112, 255].map(|protocol| header.packet(protocol, b"F26F26F26")).into();
    delivered(&scene, &scene.friend, b"F26", &open);
    let theirs = Ipv4::new(scene.attacker.ipv4(), scene.victim.ipv4());
    let closed: Vec<_> = [89, 103, 112, 255].map(|protocol| theirs.packet(protocol, b"F26F26F26")).into();
    refused(&scene, &scene.attacker, b"F26", &closed, &["ingress rule_denies"]);
}

#[test]
fn igmp_does_not_carry_a_pods_bytes_to_a_pod_that_it_may_not_reach() {
    if !root_or_skip("igmp_does_not_carry_a_pods_bytes_to_a_pod_that_it_may_not_reach") {
        return;
    }
    let scene = Scene::new("pigmp", BRIDGE).unwrap();
    let header = Ipv4::new(scene.attacker.ipv4(), scene.victim.ipv4());
    let link = Ethernet::new(scene.attacker.mac(), scene.victim.mac());
    let sniffer = scene.sniffer(b"IGMP").unwrap();
    let mut wire = Wire::open(&scene.attacker, Method::Plain).unwrap();
    for kind in [0x11, 0x12, 0x16, 0x17, 0x22, 0x30, 0xff] {
        wire.send(&link.carry(&header.packet(2, &[&[kind, 0, 0, 0, 224, 0, 0, 9], &b"IGMP"[..]].concat())))
            .unwrap();
    }
    assert_eq!(sniffer.settled(Duration::from_millis(100)).unwrap(), 0, "LEAK");
}
