//! F20, F21: fragments.

use datapath::abi::{Direction, Transport};
use datapath::fault::Fault;
use datapath::mark::Mark;

use crate::frames::{ACK, Datagram, SYN, ping, pong, segment, tcp, udp};
use crate::world::{OUTSIDE, World, four, six};

use Direction::{Egress, Ingress};

type Own = fn(u8) -> std::net::IpAddr;

/// Pod 1 may send to pod 2's UDP port 53 and TCP port 80, and nothing else is allowed.
fn world(own: Own) -> World {
    let mut world = World::new(2);
    world.close(1);
    world.close(2);
    for port in [(Transport::Udp, 53), (Transport::Tcp, 80)] {
        world.allow((1, Egress), Some(own(2)), Some(port));
        world.allow((2, Ingress), Some(own(1)), Some(port));
    }
    world
}

fn each(test: impl Fn(Own)) {
    for own in [four as Own, six] {
        test(own);
    }
}

/// The first fragment of a long datagram to a port.
fn first(own: Own, port: u16, id: u16) -> Datagram {
    let mut first = udp((own(1), 40_000), (own(2), port)).fragment(id, 0, true);
    first.payload[4..6].copy_from_slice(&4000_u16.to_be_bytes());
    first.payload.resize(64, 7);
    first
}

fn later(own: Own, id: u16, offset: u16, more: bool) -> Datagram {
    Datagram::new(own(1), own(2), 17, vec![9; 64]).fragment(id, offset, more)
}

#[test]
fn a_datagram_in_pieces_arrives_where_the_whole_one_would() {
    each(|own| {
        let world = world(own);
        assert!(world.reaches(1, 2, &first(own, 53, 5)));
        assert!(world.reaches(1, 2, &later(own, 5, 8, true)));
        assert!(world.reaches(1, 2, &later(own, 5, 16, false)));
        assert!(!world.reaches(1, 2, &first(own, 54, 6)));
    });
}

#[test]
fn f20_a_later_fragment_alone_is_dropped_at_both_hooks() {
    each(|own| {
        let world = world(own);
        world.send(1, 2, &later(own, 5, 8, false)).is(Fault::Fragment);
        world.to_pod(2, &later(own, 5, 8, false).bytes(), Mark::Outside).is(Fault::Fragment);
        // Nor does one of another datagram, another sender, or another hook help.
        assert!(world.reaches(1, 2, &first(own, 53, 5)));
        world.send(1, 2, &later(own, 6, 8, false)).is(Fault::Fragment);
        let back = Datagram::new(own(2), own(1), 17, vec![9; 64]).fragment(5, 8, false);
        world.send(2, 1, &back).is(Fault::Fragment);
        let mut stranger = later(own, 5, 8, false);
        stranger.source = OUTSIDE[usize::from(own(1).is_ipv6())];
        world.to_pod(2, &stranger.bytes(), Mark::Outside).is(Fault::Fragment);
    });
}

#[test]
fn f20_a_later_fragment_before_the_first_is_dropped_and_one_after_it_passes() {
    each(|own| {
        let world = world(own);
        world.send(1, 2, &later(own, 5, 8, false)).is(Fault::Fragment);
        assert!(world.reaches(1, 2, &first(own, 53, 5)));
        assert!(world.reaches(1, 2, &later(own, 5, 8, false)));
    });
}

#[test]
fn f20_what_follows_a_denied_first_fragment_is_dropped() {
    each(|own| {
        let world = world(own);
        assert!(!world.reaches(1, 2, &first(own, 54, 5)));
        world.send(1, 2, &later(own, 5, 8, false)).is(Fault::Fragment);
        assert_eq!(world.fragments(), 0);
    });
}

#[test]
fn f20_a_first_fragment_without_the_whole_transport_header_is_dropped() {
    each(|own| {
        let world = world(own);
        for length in [0, 4, 8, 13, 14, 16, 19] {
            let whole = segment(40_000, 80, SYN);
            let tiny = Datagram::new(own(1), own(2), 6, whole[..length].to_vec()).fragment(5, 0, true);
            world.send(1, 2, &tiny).is(Fault::Malformed);
        }
        for length in [0, 4, 7] {
            let whole = udp((own(1), 40_000), (own(2), 53)).payload;
            let tiny = Datagram::new(own(1), own(2), 17, whole[..length].to_vec()).fragment(5, 0, true);
            world.send(1, 2, &tiny).is(Fault::Malformed);
        }
        // TCP options that continue in the next fragment hide nothing, but honest stacks do not send them either.
        let mut options = tcp((own(1), 40_000), (own(2), 80), SYN).fragment(5, 0, true);
        options.payload[12] = 0xa0;
        world.send(1, 2, &options).is(Fault::Malformed);
        assert_eq!((world.flows(), world.fragments()), (0, 0));
    });
}

#[test]
fn f20_a_fragment_that_would_overwrite_tcp_flags_is_dropped() {
    each(|own| {
        let world = world(own);
        assert!(world.reaches(1, 2, &tcp((own(1), 40_000), (own(2), 80), SYN).fragment(5, 0, true)));
        let overlap = |offset| Datagram::new(own(1), own(2), 6, vec![9; 64]).fragment(5, offset, false);
        world.send(1, 2, &overlap(1)).is(Fault::Fragment);
        assert!(world.reaches(1, 2, &overlap(8)));
    });
}

#[test]
fn f20_a_fragment_of_another_protocol_follows_nothing() {
    each(|own| {
        let world = world(own);
        assert!(world.reaches(1, 2, &first(own, 53, 5)));
        for protocol in [6, 132] {
            let other = Datagram::new(own(1), own(2), protocol, vec![9; 64]).fragment(5, 8, false);
            world.send(1, 2, &other).is(Fault::Fragment);
        }
        // Of protocols without ports each fragment is judged by itself, and here none is allowed.
        for protocol in [1_u8, 58, 60, 50, 255] {
            let other = Datagram::new(own(1), own(2), protocol, vec![9; 64]).fragment(5, 8, false);
            assert!(!world.reaches(1, 2, &other), "protocol {protocol}");
        }
    });
}

#[test]
fn f20_what_was_let_through_before_a_change_of_policy_lets_nothing_follow() {
    each(|own| {
        let mut world = world(own);
        assert!(world.reaches(1, 2, &first(own, 53, 5)));
        world.commit();
        world.send(1, 2, &later(own, 5, 8, false)).is(Fault::Fragment);
        assert!(world.reaches(1, 2, &first(own, 53, 6)));
        world.wait(31);
        world.send(1, 2, &later(own, 6, 8, false)).is(Fault::Fragment);
    });
}

#[test]
fn an_atomic_fragment_is_a_whole_packet() {
    let world = world(six);
    assert!(world.reaches(1, 2, &udp((six(1), 40_000), (six(2), 53)).fragment(5, 0, false)));
    assert!(!world.reaches(1, 2, &udp((six(1), 40_000), (six(2), 54)).fragment(5, 0, false)));
    assert_eq!(world.fragments(), 0);
    assert!(world.reaches(1, 2, &tcp((six(1), 40_000), (six(2), 80), SYN).fragment(5, 0, false)));
    assert!(world.reaches(2, 1, &tcp((six(2), 80), (six(1), 40_000), SYN | ACK).fragment(5, 0, false)));
}

#[test]
fn a_long_echo_is_answered_in_pieces() {
    for (own, peer) in [(four as Own, OUTSIDE[0]), (six, OUTSIDE[1])] {
        let mut world = World::new(1);
        world.close(1);
        world.allow((1, Egress), Some(peer), None);
        let number = if peer.is_ipv4() { 1 } else { 58 };
        assert!(world.leaves(1, &ping(own(1), peer, 7).fragment(5, 0, true)));
        assert!(world.leaves(1, &Datagram::new(own(1), peer, number, vec![9; 64]).fragment(5, 8, false)));
        assert!(world.arrives(1, &pong(peer, own(1), 7).fragment(6, 0, true)));
        let rest = Datagram::new(peer, own(1), number, vec![9; 64]).fragment(6, 8, false);
        assert!(world.arrives(1, &rest), "the rest of an answer that passes");
        let alone = Datagram::new(peer, own(1), number, vec![9; 64]).fragment(7, 8, false);
        assert!(!world.arrives(1, &alone), "the rest of nothing");
    }
}
