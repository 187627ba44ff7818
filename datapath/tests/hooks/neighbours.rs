//! F19, F28, K12: ARP, neighbour, router and listener discovery.

use std::net::IpAddr;

use datapath::fault::Fault;
use datapath::hook::Arrival;
use datapath::mark::Mark;

use crate::frames::{Datagram, icmp};
use crate::world::{OUTSIDE, World, arrival, four, hook_to_pod, interface_of, link_local, six};

/// A world in which everything is denied: discovery goes on all the same.
fn closed() -> World {
    let mut world = World::new(2);
    world.close(1);
    world.close(2);
    world
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(_) => [0; 16],
    }
}

/// A message of discovery: four reserved bytes, a target, and an option with a MAC address.
fn message(from: IpAddr, kind: u8, target: Option<IpAddr>, option: Option<(u8, [u8; 6])>) -> Datagram {
    let mut rest = vec![0; 4];
    rest.extend(target.map(octets).into_iter().flatten());
    rest.extend(option.into_iter().flat_map(|(kind, mac)| [&[kind, 1][..], &mac].concat()));
    let mut packet = icmp(from, "ff02::1".parse().unwrap(), kind, &rest);
    (packet.hops, packet.mac) = (255, [2, 0, 0, 0, 0, 1]);
    packet
}

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const NOBODY: &str = "::";

#[test]
fn f19_neighbours_are_asked_and_answered_though_all_is_denied() {
    let world = closed();
    let nobody = NOBODY.parse().unwrap();
    let honest = [
        message(six(1), 135, Some(six(2)), Some((1, OWN))),
        message(link_local(1), 135, Some(six(2)), None),
        // Is the address free (RFC 4862 section 5.4.2)? With a nonce (RFC 7527).
        message(nobody, 135, Some(six(1)), None),
        message(nobody, 135, Some(link_local(1)), Some((14, [1, 2, 3, 4, 5, 6]))),
        message(six(1), 136, Some(six(1)), Some((2, OWN))),
        message(link_local(1), 136, Some(link_local(1)), None),
        message(link_local(1), 133, None, Some((1, OWN))),
        message(nobody, 133, None, None),
    ];
    for packet in honest {
        let seen = world.out_of(1, &packet.bytes());
        assert!(seen.passed(), "{packet:?}: {seen:?}");
        if packet.payload[0] != 133 {
            assert!(world.to_pod(2, &packet.bytes(), seen.mark).passed(), "{packet:?}");
        }
    }
}

#[test]
fn f19_a_pod_speaks_for_itself_only() {
    let world = closed();
    let nobody = NOBODY.parse().unwrap();
    let lies = [
        message(six(1), 136, Some(six(2)), Some((2, OWN))),
        message(six(1), 136, Some(six(1)), Some((2, OTHER))),
        message(six(2), 136, Some(six(2)), None),
        message(nobody, 136, Some(six(1)), None),
        message(six(2), 135, Some(six(1)), Some((1, OWN))),
        message(six(1), 135, Some(six(2)), Some((1, OTHER))),
        message(nobody, 135, Some(six(2)), None),
        message(link_local(2), 133, None, None),
    ];
    for packet in lies {
        world.out_of(1, &packet.bytes()).is(Fault::NeighbourSpoofed);
    }
    let mut two = message(six(1), 136, Some(six(1)), Some((2, OWN)));
    two.payload.extend([2, 1, 2, 0, 0, 0, 0, 2]);
    world.out_of(1, &two.bytes()).is(Fault::NeighbourSpoofed);
    let mut frame = message(six(1), 136, Some(six(1)), Some((2, OWN)));
    frame.mac = OTHER;
    world.out_of(1, &frame.bytes()).is(Fault::Spoofed);
}

#[test]
fn f19_discovery_from_afar_behind_headers_or_cut_short_is_dropped() {
    let world = closed();
    for kind in [133, 135, 136] {
        let target = if kind == 133 { None } else { Some(six(1)) };
        let honest = message(six(1), kind, target, None);
        assert!(world.out_of(1, &honest.bytes()).passed());
        for hops in [0, 1, 64, 254] {
            let far = Datagram { hops, ..honest.clone() };
            world.out_of(1, &far.bytes()).is(Fault::NeighbourSpoofed);
            assert!(!world.to_pod(2, &far.bytes(), Mark::Outside).passed());
        }
        let mut behind = honest.clone();
        behind.extensions = vec![(60, vec![0, 1, 4, 0, 0, 0, 0])];
        world.out_of(1, &behind.bytes()).is(Fault::NeighbourSpoofed);
        let atomic = honest.clone().fragment(5, 0, false);
        world.out_of(1, &atomic.bytes()).is(Fault::NeighbourSpoofed);
        if kind == 136 {
            let short = honest.payload[..20].to_vec();
            world.out_of(1, &honest.payload(short).bytes()).is(Fault::NeighbourSpoofed);
        }
    }
}

#[test]
fn k12_routers_and_redirects_never_come_from_a_pod_and_reach_one_from_the_node_only() {
    let world = closed();
    let free = World::new(2);
    let router =
        |from: IpAddr, kind| Datagram { hops: 255, ..icmp(from, "ff02::1".parse().unwrap(), kind, &[0; 28]) };
    let mut routers = vec![router(link_local(1), 134), router(link_local(1), 137), router(six(1), 134)];
    routers.extend([icmp(four(1), four(2), 5, &[0; 28]), icmp(four(1), four(2), 9, &[0; 12])]);
    for packet in routers {
        let frame = Datagram { mac: OWN, ..packet }.bytes();
        world.out_of(1, &frame).is(Fault::Router);
        free.out_of(1, &frame).is(Fault::Router);
        for mark in [Mark::None, Mark::Outside, Mark::From(1)] {
            world.to_pod(2, &frame, mark).is(Fault::Router);
        }
        let own = Arrival { has_socket: true, ..arrival(interface_of(2), &frame) };
        assert!(world.at(hook_to_pod, own, &frame).passed());
    }
}

#[test]
fn listeners_are_reported_from_the_link_local_address_and_asked_for_by_bridges() {
    let world = closed();
    for kind in [131, 132, 143] {
        let report = |from: IpAddr, hops| {
            let mut packet = icmp(from, "ff02::16".parse().unwrap(), kind, &[0; 24]);
            packet.extensions = vec![(0, vec![0, 5, 2, 0, 0, 1, 0])];
            Datagram { hops, mac: OWN, ..packet }
        };
        assert!(world.out_of(1, &report(link_local(1), 1).bytes()).passed());
        assert!(world.out_of(1, &report(NOBODY.parse().unwrap(), 1).bytes()).passed());
        world.out_of(1, &report(link_local(1), 64).bytes()).is(Fault::NeighbourSpoofed);
        world.out_of(1, &report(six(1), 1).bytes()).is(Fault::NeighbourSpoofed);
    }
    let mut query = icmp("fe80::99".parse().unwrap(), "ff02::1".parse().unwrap(), 130, &[0; 24]);
    query.hops = 1;
    assert!(world.to_pod(2, &query.bytes(), Mark::None).passed());
    assert!(!world.to_pod(2, &query.bytes(), Mark::From(1)).passed());
}

/// An ARP message from pod 1: asks or answers, sender's MAC and address, target's address.
fn arp(operation: u8, mac: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &OWN, &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation]].concat();
    frame.extend(mac);
    frame.extend(sender);
    frame.extend([0; 6]);
    frame.extend(target);
    frame
}

#[test]
fn f28_arp_from_a_pod_is_about_itself() {
    for world in [closed(), World::new(2)] {
        let own = [10, 0, 0, 1];
        let others = [[10, 0, 0, 2], [10, 0, 0, 254], [255; 4], [127, 0, 0, 1]];
        for operation in [1, 2] {
            assert!(world.out_of(1, &arp(operation, OWN, own, others[0])).passed());
            assert!(world.out_of(1, &arp(operation, OWN, own, own)).passed(), "gratuitous");
            assert!(world.out_of(1, &arp(operation, OWN, [0; 4], own)).passed(), "a probe (RFC 5227)");
            for other in others {
                world.out_of(1, &arp(operation, OWN, other, other)).is(Fault::NeighbourSpoofed);
            }
            world.out_of(1, &arp(operation, OTHER, own, others[0])).is(Fault::NeighbourSpoofed);
        }
        let honest = arp(1, OWN, own, others[0]);
        assert!(world.to_pod(2, &honest, Mark::From(1)).passed());
        for (at, value) in [(11, 2), (14, 1), (15, 6), (16, 9), (18, 8), (19, 6)] {
            let mut odd = honest.clone();
            odd[at] = value;
            world.out_of(1, &odd).is(Fault::NeighbourSpoofed);
        }
        for cut in 14..honest.len() - 10 {
            world.out_of(1, &honest[..cut]).is(Fault::NeighbourSpoofed);
        }
    }
    assert!(OUTSIDE[1].is_ipv6());
}
