//! F26: every protocol number there is.

use std::net::IpAddr;

use datapath::abi::{Direction, Transport};

use crate::frames::{Datagram, sctp};
use crate::world::{World, four, six};

use Direction::{Egress, Ingress};

fn packet(own: fn(u8) -> IpAddr, protocol: u8) -> Datagram {
    // Reads as ports 40000 and 80, as an echo request, and as a TCP header alike where it is read at all.
    let mut payload = vec![0x9c, 0x40, 0, 80, 0, 24, 0, 0, 0, 0, 0, 0, 0x50, 2];
    payload.resize(24, 0);
    Datagram::new(own(1), own(2), protocol, payload)
}

#[test]
fn f26_a_rule_with_ports_allows_no_other_protocol() {
    for own in [four as fn(u8) -> IpAddr, six] {
        let mut world = World::new(2);
        world.close(1);
        world.close(2);
        for transport in Transport::ALL {
            world.allow((1, Egress), Some(own(2)), Some((transport, 80)));
            world.allow((2, Ingress), Some(own(1)), Some((transport, 80)));
        }
        for protocol in 0..=u8::MAX {
            let passes = world.reaches(1, 2, &packet(own, protocol));
            assert_eq!(passes, matches!(protocol, 6 | 17 | 132), "protocol {protocol}");
        }
    }
}

#[test]
fn f26_a_rule_without_ports_allows_every_protocol_whose_header_can_be_read() {
    for own in [four as fn(u8) -> IpAddr, six] {
        let mut world = World::new(2);
        world.close(1);
        world.close(2);
        world.allow((1, Egress), Some(own(2)), None);
        world.allow((2, Ingress), Some(own(1)), None);
        let unreadable: &[u8] = if own(1).is_ipv4() {
            &[58]
        } else {
            // Extension headers, among them those that nobody sends, and a number that is reserved.
            &[0, 1, 43, 51, 59, 60, 135, 139, 140, 255]
        };
        for protocol in 0..=u8::MAX {
            let passes = world.reaches(1, 2, &packet(own, protocol));
            assert_eq!(passes, !unreadable.contains(&protocol), "protocol {protocol}");
        }
    }
}

#[test]
fn f26_protocols_without_ports_have_flows_too() {
    for own in [four as fn(u8) -> IpAddr, six] {
        let mut world = World::new(2);
        world.close(1);
        world.allow((1, Egress), Some(own(2)), None);
        for protocol in [2, 50, 103, 112, 136, 253] {
            let back = Datagram::new(own(2), own(1), protocol, vec![0; 24]);
            assert!(!world.reaches(2, 1, &back));
            assert!(world.reaches(1, 2, &packet(own, protocol)));
            assert!(world.reaches(2, 1, &back), "protocol {protocol}");
        }
        assert!(world.reaches(1, 2, &sctp((own(1), 1000), (own(2), 2000))));
        assert!(world.reaches(2, 1, &sctp((own(2), 2000), (own(1), 1000))));
    }
}

#[test]
fn f26_udp_lite_and_dccp_have_no_ports_here() {
    let mut world = World::new(2);
    world.close(2);
    world.allow((2, Ingress), Some(four(1)), Some((Transport::Udp, 80)));
    for protocol in [33, 136] {
        assert!(!world.reaches(1, 2, &packet(four, protocol)));
    }
}

#[test]
fn f21_a_reserved_next_header_is_not_taken_for_an_extension_header() {
    let mut world = World::new(2);
    world.close(2);
    world.allow((2, Ingress), Some(six(1)), Some((Transport::Tcp, 80)));
    // Behind what could be read as eight bytes of an extension header, there is a SYN to the allowed port.
    let mut payload = vec![6, 0, 1, 4, 0, 0, 0, 0];
    payload.extend(crate::frames::segment(40_000, 80, crate::frames::SYN));
    assert!(!world.reaches(1, 2, &Datagram::new(six(1), six(2), 255, payload.clone())));
    let mut behind = Datagram::new(six(1), six(2), 255, payload);
    behind.extensions = vec![(60, vec![0, 1, 4, 0, 0, 0, 0])];
    assert!(!world.reaches(1, 2, &behind));
}
