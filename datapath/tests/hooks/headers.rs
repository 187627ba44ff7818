//! F21, F22, F23: extension headers, options, and headers that contradict themselves.

use std::net::IpAddr;

use datapath::abi::{Direction, Transport};
use datapath::fault::Fault;
use datapath::hook::{Act, Arrival};
use datapath::mark::Mark;

use crate::frames::{ACK, Datagram, FIN, PSH, RST, SYN, URG, ping, segment, tcp, udp, user};
use crate::world::{OUTSIDE, World, arrival, four, hook_from_pod, hook_to_pod, interface_of, six};

use Direction::{Egress, Ingress};

/// Pod 1 may send to TCP and UDP port 80 of pod 2 only.
fn world(own: fn(u8) -> IpAddr) -> World {
    let mut world = World::new(2);
    world.close(1);
    world.close(2);
    for transport in [Transport::Tcp, Transport::Udp] {
        world.allow((1, Egress), Some(own(2)), Some((transport, 80)));
        world.allow((2, Ingress), Some(own(1)), Some((transport, 80)));
    }
    world
}

/// An extension header of a kind: eight bytes, of which the first is what comes next.
fn extension(kind: Kind) -> (u8, Vec<u8>) {
    match kind {
        Kind::HopByHop => (0, vec![0, 1, 4, 0, 0, 0, 0]),
        Kind::Destination => (60, vec![0, 1, 4, 0, 0, 0, 0]),
        Kind::Routing0 => (43, vec![0, 0, 0, 0, 0, 0, 0]),
        // Home address (RFC 6275), with segments left.
        Kind::Routing2 => (43, vec![0, 2, 1, 0, 0, 0, 0]),
        Kind::Fragment => (44, vec![0, 0, 0, 0, 0, 0, 5]),
        Kind::Authentication => (51, vec![1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
        Kind::Encapsulating => (50, vec![0, 0, 1, 0, 0, 0, 1]),
        Kind::None => (59, vec![0; 7]),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    HopByHop,
    Destination,
    Routing0,
    Routing2,
    Fragment,
    Authentication,
    Encapsulating,
    None,
}

const KINDS: [Kind; 8] = [
    Kind::HopByHop,
    Kind::Destination,
    Kind::Routing0,
    Kind::Routing2,
    Kind::Fragment,
    Kind::Authentication,
    Kind::Encapsulating,
    Kind::None,
];

fn chained(chain: &[Kind], port: u16) -> Datagram {
    let mut packet = tcp((six(1), 40_000), (six(2), port), SYN);
    packet.extensions = chain.iter().map(|kind| extension(*kind)).collect();
    packet
}

/// Whether a chain is one that honest stacks send (RFC 8200 section 4.1), and ends at the TCP header.
fn is_honest(chain: &[Kind]) -> bool {
    let hides =
        |kind: &Kind| matches!(kind, Kind::Routing0 | Kind::Routing2 | Kind::Encapsulating | Kind::None);
    let fragments = chain.iter().filter(|kind| **kind == Kind::Fragment).count();
    let late = chain.iter().skip(1).any(|kind| *kind == Kind::HopByHop);
    !chain.iter().any(hides) && fragments <= 1 && !late
}

#[test]
fn f21_no_chain_of_extension_headers_hides_a_denied_port() {
    let world = world(six);
    let mut passed = 0;
    // All chains of up to four, then longer ones by a stride that meets every kind at every place.
    for depth in 0..=8_u32 {
        let all = 8_u64.pow(depth);
        let step = if depth <= 4 { 1 } else { (all / 5003) | 1 };
        let mut number = 0;
        while number < all {
            let chain: Vec<Kind> =
                (0..depth).map(|place| KINDS[usize::try_from(number >> (3 * place) & 7).unwrap()]).collect();
            let denied = world.out_of(1, &chained(&chain, 22).bytes());
            assert!(!denied.passed(), "{chain:?}: {denied:?}");
            let denied = world.to_pod(2, &chained(&chain, 22).bytes(), Mark::From(1));
            assert!(!denied.passed(), "{chain:?}: {denied:?}");
            let allowed = world.reaches(1, 2, &chained(&chain, 80));
            assert!(!allowed || is_honest(&chain), "{chain:?}");
            passed += usize::from(allowed);
            number += step;
        }
    }
    assert!(passed > 10, "honest chains are walked");
}

#[test]
fn f21_honest_chains_are_read_to_their_end() {
    use Kind::{Authentication, Destination, Fragment, HopByHop};
    let world = world(six);
    let honest: [&[Kind]; 6] = [
        &[HopByHop],
        &[Destination],
        &[Authentication],
        &[HopByHop, Destination, Fragment, Authentication, Destination],
        &[Fragment, Destination],
        &[HopByHop, Authentication],
    ];
    for chain in honest {
        assert!(world.reaches(1, 2, &chained(chain, 80)), "{chain:?}");
    }
    // A routing header that is spent changes nothing any more.
    let mut spent = chained(&[], 80);
    spent.extensions = vec![(43, vec![0, 2, 0, 0, 0, 0, 0])];
    assert!(world.reaches(1, 2, &spent));
}

#[test]
fn f21_a_chain_that_is_longer_than_the_packet_or_than_any_use_is_dropped() {
    let world = world(six);
    let mut long = chained(&[], 80);
    long.extensions = vec![(60, [vec![200], vec![0; 1606]].concat())];
    world.send(1, 2, &long).is(Fault::Headers);
    let mut lies = chained(&[], 80);
    lies.extensions = vec![(60, vec![9, 1, 4, 0, 0, 0, 0])];
    assert!(!world.reaches(1, 2, &lies));
    for cut in 54..82 {
        let frame = chained(&[Kind::HopByHop, Kind::Destination], 80).bytes();
        assert!(!world.out_of(1, &frame[..cut]).passed(), "cut at {cut}");
    }
}

#[test]
fn f22_options_do_not_shift_ports() {
    let world = world(four);
    // Where the ports would be without options, there is the allowed port 80.
    let mut packet = tcp((four(1), 40_000), (four(2), 22), SYN);
    packet.options = vec![0x94, 4, 0, 80];
    assert!(!world.reaches(1, 2, &packet));
    packet.payload = segment(40_000, 80, SYN);
    assert!(world.reaches(1, 2, &packet), "router alert is no harm");
    packet.options = vec![1; 40];
    assert!(!world.reaches(1, 2, &packet), "padding without end hides something");
    packet.options = vec![7, 39, 4].into_iter().chain([0; 37]).collect();
    assert!(world.reaches(1, 2, &packet), "a record of the route");
    for route in [131, 137] {
        packet.options = vec![route, 7, 4, 10, 0, 0, 9, 0];
        world.send(1, 2, &packet).is(Fault::Headers);
        packet.options = vec![1, 1, 1, route, 7, 4, 10, 0, 0, 9, 0, 0];
        world.send(1, 2, &packet).is(Fault::Headers);
    }
    packet.options = vec![7, 1, 0, 0];
    world.send(1, 2, &packet).is(Fault::Malformed);
    // Behind the end of the list nothing counts, and no stack looks.
    packet.options = vec![0, 131, 7, 4];
    assert!(world.reaches(1, 2, &packet));
}

#[test]
fn f22_a_header_length_that_cannot_be_is_dropped() {
    let world = world(four);
    for words in 0..16_u8 {
        let mut frame = tcp((four(1), 40_000), (four(2), 80), SYN).bytes();
        frame[14] = 0x40 | words;
        assert_eq!(world.out_of(1, &frame).passed(), words == 5, "{words} words");
    }
    for version in (0..16_u8).filter(|version| *version != 4) {
        let mut frame = tcp((four(1), 40_000), (four(2), 80), SYN).bytes();
        frame[14] = version << 4 | 5;
        world.out_of(1, &frame).is(Fault::Malformed);
    }
    for version in (0..16_u8).filter(|version| *version != 6) {
        let mut frame = tcp((six(1), 40_000), (six(2), 80), SYN).bytes();
        frame[14] = version << 4;
        assert!(!world.out_of(1, &frame).passed());
    }
}

#[test]
fn f23_every_cut_of_a_packet_is_dropped_and_makes_no_flow() {
    for own in [four as fn(u8) -> IpAddr, six] {
        let world = world(own);
        for packet in [tcp((own(1), 40_000), (own(2), 80), SYN), udp((own(1), 40_000), (own(2), 80))] {
            let frame = packet.bytes();
            for cut in 0..frame.len() {
                assert!(!world.out_of(1, &frame[..cut]).passed(), "{cut} of {}", frame.len());
                assert!(!world.to_pod(2, &frame[..cut], Mark::From(1)).passed());
            }
        }
        assert_eq!(world.flows(), 0);
    }
}

#[test]
fn f23_lengths_that_contradict_each_other_are_dropped() {
    for own in [four as fn(u8) -> IpAddr, six] {
        let world = world(own);
        let at = if own(1).is_ipv4() { 16 } else { 18 };
        let least = if own(1).is_ipv4() { 40 } else { 20 };
        for length in 0..100_u16 {
            let mut frame = tcp((own(1), 40_000), (own(2), 80), SYN).bytes();
            frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
            assert_eq!(world.out_of(1, &frame).passed(), length == least, "{length}");
        }
        for length in 0..100_u16 {
            let packet = udp((own(1), 40_000), (own(2), 80)).payload(user(40_000, 80, length));
            let fits = (8..=16).contains(&length);
            assert_eq!(world.out_of(1, &packet.bytes()).passed(), fits, "{length}");
        }
        for words in 0..16_u8 {
            let mut packet = tcp((own(1), 40_000), (own(2), 80), SYN);
            packet.payload[12] = words << 4;
            assert_eq!(world.out_of(1, &packet.bytes()).passed(), words == 5, "{words} words");
        }
    }
}

#[test]
fn f23_flags_that_no_stack_sends_and_port_zero_are_dropped() {
    for own in [four as fn(u8) -> IpAddr, six] {
        let mut world = world(own);
        // Where everything is allowed, so that only the header can be at fault.
        world.allow((1, Egress), None, None);
        for flags in [0, FIN, PSH, URG, FIN | PSH | URG, SYN | FIN, SYN | RST, SYN | FIN | ACK, FIN | PSH] {
            world.out_of(1, &tcp((own(1), 40_000), (own(2), 80), flags).bytes()).is(Fault::Malformed);
        }
        for (from, to) in [(0, 80), (40_000, 0), (0, 0)] {
            world.out_of(1, &tcp((own(1), from), (own(2), to), SYN).bytes()).is(Fault::Malformed);
            world.out_of(1, &udp((own(1), from), (own(2), to)).bytes()).is(Fault::Malformed);
            let sctp = crate::frames::sctp((own(1), from), (own(2), to));
            world.out_of(1, &sctp.bytes()).is(Fault::Malformed);
        }
        // ECN-setup SYN (RFC 3168 section 6.1.1) is honest.
        assert!(world.out_of(1, &tcp((own(1), 1), (own(2), 80), SYN | 0xc0).bytes()).passed());
        assert_eq!(world.flows(), 1);
    }
}

#[test]
fn f23_icmp_of_the_other_family_and_without_a_header_is_dropped() {
    let mut world = World::new(2);
    world.close(1);
    world.allow((1, Egress), None, None);
    for own in [four as fn(u8) -> IpAddr, six] {
        let wrong = if own(1).is_ipv4() { 58 } else { 1 };
        let frame = Datagram::new(own(1), own(2), wrong, vec![8, 0, 0, 0, 0, 7, 0, 1]).bytes();
        world.out_of(1, &frame).is(Fault::Malformed);
        for length in 0..8 {
            let packet = ping(own(1), own(2), 7);
            let short = packet.payload[..length].to_vec();
            world.out_of(1, &packet.payload(short).bytes()).is(Fault::Malformed);
        }
    }
}

#[test]
fn x2_tags_and_types_that_are_neither_ip_nor_arp_are_dropped() {
    let world = world(four);
    let frame = tcp((four(1), 40_000), (four(2), 80), SYN).bytes();
    assert!(world.out_of(1, &frame).passed());
    // The kernel took a tag off.
    let tagged = Arrival { tagged: true, ..arrival(interface_of(1), &frame) };
    world.at(hook_from_pod, tagged, &frame).is(Fault::Vlan);
    let tagged = Arrival { tagged: true, ..arrival(interface_of(2), &frame) };
    world.at(hook_to_pod, tagged, &frame).is(Fault::Vlan);
    for kind in [0x8100, 0x88a8, 0x9100, 0x8847, 0x8863, 0x8864, 0x88cc, 0x0004, 0x05dc, 0x0842, 0x22f0, 0] {
        let mut tag = frame.clone();
        tag.splice(12..12, [&u16::to_be_bytes(kind)[..], &[0, 0]].concat());
        world.out_of(1, &tag).is(Fault::NotIp);
        world.to_pod(2, &tag, Mark::From(1)).is(Fault::NotIp);
    }
    // The types say one family, the packets another.
    let mut other = frame;
    other[12..14].copy_from_slice(&[0x86, 0xdd]);
    world.out_of(1, &other).is(Fault::Malformed);
}

#[test]
fn offloaded_segments_of_more_than_the_length_field_can_say_are_read() {
    let world = world(four);
    let mut packet = tcp((four(1), 40_000), (four(2), 80), ACK);
    packet.payload.resize(70_000, 0);
    let mut frame = packet.bytes();
    frame[16..18].copy_from_slice(&[0, 0]);
    assert!(world.out_of(1, &frame).passed());
    let mut short = tcp((four(1), 40_000), (four(2), 80), ACK).bytes();
    short[16..18].copy_from_slice(&[0, 0]);
    assert_eq!(world.out_of(1, &short).act, Act::Drop);
    assert!(OUTSIDE[0].is_ipv4());
}
