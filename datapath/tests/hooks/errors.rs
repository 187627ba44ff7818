//! F18: errors of ICMP pass if they are about a packet of a flow, and by policy otherwise.

use std::net::IpAddr;

use datapath::abi::{Direction, Transport};

use crate::frames::{ACK, SYN, error, ping, tcp, udp};
use crate::world::{OUTSIDE, World, four, six};

use Direction::{Egress, Ingress};

/// Pod 1, which has one TCP connection, one UDP flow and one ping with an outside peer; its own and the peer's address, and
/// that of a router in between.
fn talking(index: usize) -> (World, IpAddr, IpAddr, IpAddr) {
    let own = [four(1), six(1)][index];
    let peer = OUTSIDE[index];
    let router = ["203.0.113.1", "2001:db8:ffff::1"][index].parse().unwrap();
    let mut world = World::new(2);
    world.close(1);
    world.allow((1, Egress), Some(peer), Some((Transport::Tcp, 80)));
    world.allow((1, Egress), Some(peer), Some((Transport::Udp, 53)));
    assert!(world.leaves(1, &tcp((own, 40_000), (peer, 80), SYN)));
    assert!(world.arrives(1, &tcp((peer, 80), (own, 40_000), SYN | ACK)));
    assert!(world.leaves(1, &udp((own, 40_000), (peer, 53))));
    world.allow((1, Egress), Some(peer), None);
    assert!(world.leaves(1, &ping(own, peer, 7)));
    world.forbid((1, Egress));
    (world, own, peer, router)
}

fn each(test: impl Fn(World, IpAddr, IpAddr, IpAddr)) {
    for index in [0, 1] {
        let (world, own, peer, router) = talking(index);
        test(world, own, peer, router);
    }
}

#[test]
fn f18_an_error_about_what_the_pod_sent_reaches_it_from_any_router() {
    each(|world, own, peer, router| {
        for sent in [tcp((own, 40_000), (peer, 80), ACK), udp((own, 40_000), (peer, 53)), ping(own, peer, 7)]
        {
            let about = &sent.bytes()[14..];
            for from in [router, peer] {
                assert!(world.arrives(1, &error(from, own, about)), "{sent:?}");
            }
            // All that RFC 792 asks for: the header and eight bytes.
            let least = if own.is_ipv4() { 28 } else { 48 };
            assert!(world.arrives(1, &error(router, own, &about[..least])), "{sent:?}");
        }
    });
}

#[test]
fn f18_a_forged_error_is_dropped() {
    each(|world, own, peer, router| {
        let forged = [
            tcp((own, 40_001), (peer, 80), ACK),
            tcp((own, 40_000), (peer, 81), ACK),
            tcp((own, 40_000), (router, 80), ACK),
            udp((own, 40_000), (peer, 54)),
            udp((own, 40_000), (peer, 80)),
            ping(own, peer, 8),
        ];
        for sent in forged {
            assert!(!world.arrives(1, &error(router, own, &sent.bytes()[14..])), "{sent:?}");
        }
        // About what the peer sent, told to the pod that got it.
        let back = tcp((peer, 80), (own, 40_000), ACK).bytes();
        assert!(!world.arrives(1, &error(router, own, &back[14..])));
        // To another one than the sender.
        let about = tcp((own, 40_000), (peer, 80), ACK).bytes();
        let other = if own.is_ipv4() { four(2) } else { six(2) };
        assert!(!world.arrives(1, &error(router, other, &about[14..])));
        assert_eq!(world.flows(), 3);
    });
}

#[test]
fn f18_an_error_about_a_later_fragment_or_cut_short_is_dropped() {
    each(|world, own, peer, router| {
        let sent = tcp((own, 40_000), (peer, 80), ACK);
        let later = sent.clone().fragment(5, 8, false).bytes();
        assert!(!world.arrives(1, &error(router, own, &later[14..])));
        let first = sent.clone().fragment(5, 0, true).bytes();
        assert!(world.arrives(1, &error(router, own, &first[14..])), "a first fragment says whose it is");
        let about = &sent.bytes()[14..];
        let ports = if own.is_ipv4() { 24 } else { 44 };
        for length in 0..ports {
            assert!(!world.arrives(1, &error(router, own, &about[..length])), "{length} bytes quoted");
        }
        let mut wrong = about.to_vec();
        wrong[0] ^= 0x20;
        assert!(!world.arrives(1, &error(router, own, &wrong)), "of no such version");
        if own.is_ipv4() {
            wrong[0] = 0x44;
            assert!(!world.arrives(1, &error(router, own, &wrong)), "a header shorter than a header");
        }
    });
}

#[test]
fn f18_an_error_about_an_error_or_about_no_flow_any_more_is_dropped() {
    each(|world, own, peer, router| {
        let sent = tcp((own, 40_000), (peer, 80), ACK);
        let about = error(own, peer, &sent.bytes()[14..]);
        assert!(!world.arrives(1, &error(router, own, &about.bytes()[14..])));
        world.wait(7441);
        assert!(!world.arrives(1, &error(router, own, &sent.bytes()[14..])));
    });
}

#[test]
fn f18_a_pod_says_that_it_could_not_take_what_it_got_and_nothing_else() {
    for index in [0, 1] {
        let own = [four(1), six(1)][index];
        let peer = OUTSIDE[index];
        let mut world = World::new(1);
        world.close(1);
        world.allow((1, Ingress), Some(peer), Some((Transport::Udp, 53)));
        let got = udp((peer, 40_000), (own, 53));
        assert!(world.arrives(1, &got));
        assert!(world.leaves(1, &error(own, peer, &got.bytes()[14..])), "port unreachable");
        for (from, to) in [((peer, 40_000), (own, 54)), ((own, 53), (peer, 40_000)), ((peer, 1), (own, 53))] {
            assert!(!world.leaves(1, &error(own, peer, &udp(from, to).bytes()[14..])));
        }
        let other: IpAddr = ["203.0.113.1", "2001:db8:ffff::1"][index].parse().unwrap();
        assert!(!world.leaves(1, &error(own, other, &got.bytes()[14..])), "to another one than the sender");
    }
}
