//! X4, X5, F27, F29, K16: whose address a pod may use, and to whom it may send at all.

use std::net::IpAddr;

use datapath::abi::{Direction, Transport};
use datapath::fault::Fault;
use datapath::mark::Mark;

use crate::frames::{Datagram, SYN, icmp, tcp, udp};
use crate::world::{OUTSIDE, World, four, link_local, six};

use Direction::{Egress, Ingress};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A free pod and an isolated one to which everything is allowed: neither may lie.
fn both(test: impl Fn(World)) {
    test(World::new(3));
    let mut world = World::new(3);
    for pod in 1..=3 {
        world.close(pod);
        world.allow((pod, Egress), None, None);
        world.allow((pod, Ingress), None, None);
    }
    test(world);
}

#[test]
fn x5_a_pod_sends_from_its_own_address_and_no_other() {
    both(|mut world| {
        let gateway = ip("10.0.0.254");
        world.nodes.insert(gateway);
        let others4 =
            ["10.0.0.2", "10.0.0.254", "10.9.9.9", "0.0.0.0", "255.255.255.255", "224.0.0.1", "10.0.0.0"];
        let others6 = ["fd00::2", "fd00::fe", "::", "ff02::1", "fe80::2", "::ffff:10.0.0.1", "2001:db8::1"];
        for (own, to, others) in [(four(1), four(3), others4), (six(1), six(3), others6)] {
            for source in others.map(ip) {
                for mut packet in [tcp((source, 40_000), (to, 80), SYN), udp((source, 53), (to, 4000))] {
                    packet.mac = crate::frames::mac(own);
                    let seen = world.out_of(1, &packet.bytes());
                    let loopback = source.to_string().starts_with("::ffff");
                    seen.is(if loopback { Fault::Loopback } else { Fault::Spoofed });
                }
            }
            assert!(world.leaves(1, &tcp((own, 40_000), (to, 80), SYN)));
        }
        let via_link = tcp((link_local(1), 40_000), (link_local(3), 80), SYN);
        assert!(world.leaves(1, &via_link));
    });
}

#[test]
fn x5_a_frame_with_another_mac_address_is_dropped() {
    both(|world| {
        for own in [four(1), six(1)] {
            for mac in [[2, 0, 0, 0, 0, 2], [0; 6], [0xff; 6], [3, 0, 0, 0, 0, 1]] {
                let mut packet = tcp((own, 40_000), (OUTSIDE[usize::from(own.is_ipv6())], 80), SYN);
                packet.mac = mac;
                world.out_of(1, &packet.bytes()).is(Fault::Spoofed);
            }
        }
    });
}

#[test]
fn x5_a_pod_without_an_address_of_a_family_sends_nothing_of_it() {
    both(|mut world| {
        for own in world.interfaces.values_mut() {
            (own.ipv6, own.link_local) = ([0; 16], [0; 16]);
        }
        for source in ["::", "fd00::1", "fe80::1"].map(ip) {
            let mut packet = tcp((source, 40_000), (six(2), 80), SYN);
            packet.mac = [2, 0, 0, 0, 0, 1];
            world.out_of(1, &packet.bytes()).is(Fault::Spoofed);
        }
    });
}

#[test]
fn k16_loopback_is_neither_sent_from_nor_sent_to() {
    both(|world| {
        let pairs = [
            ("127.0.0.1", "10.0.0.2"),
            ("127.9.9.9", "10.0.0.2"),
            ("10.0.0.1", "127.0.0.1"),
            ("10.0.0.1", "127.255.255.255"),
            ("::1", "fd00::2"),
            ("fd00::1", "::1"),
            ("fd00::1", "::ffff:127.0.0.1"),
            ("fd00::1", "::"),
            ("10.0.0.1", "0.0.0.0"),
        ];
        for (source, destination) in pairs.map(|(source, destination)| (ip(source), ip(destination))) {
            for mut packet in [
                tcp((source, 40_000), (destination, 10_249), SYN),
                udp((source, 40_000), (destination, 53)),
                icmp(source, destination, if source.is_ipv4() { 8 } else { 128 }, &[0, 7, 0, 1]),
            ] {
                packet.mac = [2, 0, 0, 0, 0, 1];
                let seen = world.out_of(1, &packet.bytes());
                assert!(!seen.passed(), "{packet:?}");
                seen.is(Fault::Loopback);
            }
        }
    });
}

#[test]
fn x4_tunnels_to_nodes_are_refused_whatever_policy_says() {
    both(|mut world| {
        let nodes = [ip("192.0.2.1"), ip("2001:db8::1")];
        world.nodes.extend(nodes);
        for (own, node) in [(four(1), nodes[0]), (six(1), nodes[1])] {
            for port in [8472, 4789, 6081] {
                world.out_of(1, &udp((own, 40_000), (node, port)).bytes()).is(Fault::Encapsulated);
                // In pieces: the first is refused, so nothing can be put together.
                let mut first = udp((own, 40_000), (node, port)).fragment(5, 0, true);
                first.payload[4..6].copy_from_slice(&4000_u16.to_be_bytes());
                world.out_of(1, &first.bytes()).is(Fault::Encapsulated);
                // Behind options or extension headers.
                let mut hidden = udp((own, 40_000), (node, port));
                if own.is_ipv4() {
                    hidden.options = vec![0x94, 4, 0, 0];
                } else {
                    hidden.extensions = vec![(60, vec![0, 1, 4, 0, 0, 0, 0])];
                }
                world.out_of(1, &hidden.bytes()).is(Fault::Encapsulated);
                assert!(world.leaves(1, &udp((own, 40_000), (OUTSIDE[usize::from(own.is_ipv6())], port))));
            }
            for protocol in [4, 41, 47] {
                let inner = tcp((four(3), 40_000), (four(2), 80), SYN).bytes()[14..].to_vec();
                world.out_of(1, &Datagram::new(own, node, protocol, inner).bytes()).is(Fault::Encapsulated);
            }
            assert!(world.leaves(1, &udp((own, 8472), (node, 53))), "from such a port is no tunnel");
        }
    });
}

#[test]
fn f27_default_deny_holds_for_many_and_link_local_destinations_too() {
    let many4 = ["224.0.0.1", "239.1.2.3", "255.255.255.255", "10.0.0.255", "169.254.169.254"];
    let many6 = ["ff02::1", "ff05::2", "ff0e::1234", "fe80::a9fe:a9fe"];
    let mut world = World::new(2);
    world.close(1);
    world.close(2);
    for (own, many) in [(four(1), &many4[..]), (six(1), &many6[..])] {
        for to in many.iter().map(|text| ip(text)) {
            for packet in [udp((own, 40_000), (to, 5353)), tcp((own, 40_000), (to, 80), SYN)] {
                assert!(!world.leaves(1, &packet), "{to}");
                assert!(!world.to_pod(2, &packet.bytes(), Mark::From(1)).passed(), "{to}");
            }
        }
    }
    assert_eq!(world.flows(), 0);
}

#[test]
fn f27_what_is_allowed_to_many_makes_no_flow_by_which_anyone_could_answer() {
    let mut world = World::new(2);
    world.close(1);
    for (own, many) in [(four(1), "224.0.0.251"), (six(1), "ff02::fb"), (four(1), "255.255.255.255")] {
        let many = ip(many);
        world.allow((1, Egress), Some(many), Some((Transport::Udp, 5353)));
        assert!(world.leaves(1, &udp((own, 5353), (many, 5353))));
        assert_eq!(world.flows(), 0);
        assert!(!world.arrives(1, &udp((many, 5353), (own, 5353))));
    }
}

#[test]
fn f30_a_pod_reaches_itself_at_its_own_address() {
    for own in [four(1), six(1)] {
        let mut world = World::new(2);
        world.close(1);
        assert!(world.leaves(1, &tcp((own, 40_000), (own, 80), SYN)));
        let frame = tcp((own, 40_000), (own, 80), SYN).bytes();
        assert!(world.to_pod(1, &frame, Mark::From(1)).passed());
        assert!(!world.to_pod(1, &frame, Mark::Outside).passed(), "its address, and not from it");
    }
}

#[test]
fn f31_the_nodes_own_packets_reach_its_pods_and_a_bridged_socket_is_not_the_nodes() {
    use crate::frames::{ACK, ping, pong};
    use crate::world::{arrival, hook_to_pod, interface_of};
    use datapath::hook::Arrival;
    for (own, node) in [(four(1), ip("10.0.0.254")), (six(1), ip("fd00::fe"))] {
        let mut world = World::new(2);
        world.close(1);
        world.nodes.insert(node);
        let probe = tcp((node, 40_000), (own, 8080), SYN).bytes();
        let by = |mark: Mark, has_socket: bool, frame: &[u8]| {
            let arrival = arrival(interface_of(1), frame);
            let arrival = Arrival { has_socket, mark: mark.put(0, world.settings.mark_shift), ..arrival };
            world.at(hook_to_pod, arrival, frame).passed()
        };
        for mark in [Mark::Outside, Mark::From(2), Mark::Deferred(2), Mark::From(99), Mark::Judged(2)] {
            assert!(!by(mark, true, &probe), "{mark:?}: a socket of someone else");
        }
        assert!(!by(Mark::None, false, &probe), "the node's address, and no socket of it");
        assert!(by(Mark::None, true, &probe));
        assert!(world.leaves(1, &tcp((own, 8080), (node, 40_000), SYN | ACK)));
        assert!(!world.leaves(1, &tcp((own, 8081), (node, 40_000), SYN | ACK)));
        assert!(!world.leaves(1, &tcp((own, 40_000), (node, 8080), SYN)), "not the other way around");
        assert!(by(Mark::None, true, &ping(node, own, 7).bytes()));
        assert!(world.leaves(1, &pong(own, node, 7)));
        // The connection outlives a change of policy.
        world.commit();
        assert!(world.leaves(1, &tcp((own, 8080), (node, 40_000), ACK)));
    }
}
