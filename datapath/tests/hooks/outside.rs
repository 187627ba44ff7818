//! Uplinks: what comes in, before and after it is a packet.

use std::net::IpAddr;

use datapath::abi::{Direction, Endpoint, Transport};
use datapath::fault::Fault;

use crate::frames::{ACK, SYN, ping, tcp, udp};
use crate::world::{OUTSIDE, World, arrival, four, hook_early, hook_from_outside, six};

use Direction::{Egress, Ingress};

fn early(world: &World, frame: &[u8]) -> bool {
    world.at(hook_early, arrival(1, frame), frame).passed()
}

#[test]
fn what_policy_denies_is_dropped_before_it_is_a_packet() {
    for (own, peer) in [(four as fn(u8) -> IpAddr, OUTSIDE[0]), (six, OUTSIDE[1])] {
        let mut world = World::new(2);
        world.close(1);
        world.allow((1, Ingress), Some(peer), Some((Transport::Tcp, 80)));
        assert!(early(&world, &tcp((peer, 40_000), (own(1), 80), SYN).bytes()));
        assert!(!early(&world, &tcp((peer, 40_000), (own(1), 81), SYN).bytes()));
        assert!(!early(&world, &udp((peer, 40_000), (own(1), 80)).bytes()));
        assert!(early(&world, &tcp((peer, 40_000), (own(2), 81), SYN).bytes()), "a pod without policy");
        assert!(early(&world, &tcp((peer, 40_000), (own(9), 81), SYN).bytes()), "no pod of this node");
        assert_eq!((world.flows(), world.fragments()), (0, 0));
    }
}

#[test]
fn what_may_belong_to_a_flow_goes_on_to_the_hook_that_knows() {
    for (own, peer) in [(four as fn(u8) -> IpAddr, OUTSIDE[0]), (six, OUTSIDE[1])] {
        let mut world = World::new(1);
        world.close(1);
        world.allow((1, Egress), Some(peer), None);
        assert!(world.leaves(1, &udp((own(1), 40_000), (peer, 53))));
        assert!(early(&world, &udp((peer, 53), (own(1), 40_000)).bytes()));
        assert!(!early(&world, &udp((peer, 54), (own(1), 40_000)).bytes()));
        for flags in [ACK, SYN | ACK] {
            assert!(early(&world, &tcp((peer, 80), (own(1), 40_000), flags).bytes()));
        }
        assert!(early(&world, &ping(peer, own(1), 7).bytes()));
        assert!(early(&world, &udp((peer, 53), (own(1), 40_000)).fragment(5, 0, true).bytes()));
        for cut in 0..60 {
            let frame = udp((peer, 54), (own(1), 40_000)).bytes();
            let _either = early(&world, &frame[..cut.min(frame.len())]);
        }
        world.endpoint(1, |_| Endpoint::HOLD);
        assert!(
            early(&world, &udp((peer, 54), (own(1), 40_000)).bytes()),
            "dropped where it is counted as held"
        );
    }
}

#[test]
fn x4_tunnelled_traffic_comes_from_nodes_only_once_they_are_known() {
    let text = |text: &str| text.parse::<IpAddr>().unwrap();
    for (own, other, stranger) in [
        (text("192.0.2.1"), text("192.0.2.2"), text("192.0.2.9")),
        (text("2001:db8::1"), text("2001:db8::2"), text("2001:db8::9")),
    ] {
        let mut world = World::new(0);
        world.nodes.extend([own, other]);
        let at = |world: &World, from: IpAddr, to: IpAddr, port| {
            let frame = udp((from, 40_000), (to, port)).bytes();
            world.at(hook_from_outside, arrival(1, &frame), &frame)
        };
        assert!(at(&world, stranger, own, 8472).passed(), "nodes are not known");
        world.settings.nodes_known = 1;
        for port in [8472, 4789, 6081] {
            at(&world, stranger, own, port).is(Fault::TunnelStranger);
            assert!(at(&world, other, own, port).passed());
        }
        assert!(at(&world, stranger, own, 53).passed());
    }
}
