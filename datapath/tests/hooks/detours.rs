//! Connections of which what is asked decides: by the proxy, and back.

use std::cell::Cell;
use std::net::IpAddr;

use datapath::abi::{Direction, Transport};
use datapath::fault::Fault;
use datapath::hook::{Act, Arrival, Return};
use datapath::mark::Mark;

use crate::frames::{ACK, Datagram, PSH, SYN, error, tcp, udp};
use crate::world::{
    OUTSIDE, Seen, World, arrival, four, from_proxy, hook_from_outside, hook_to_outside, interface_of, six,
};

use Direction::{Egress, Ingress};

/// The devices of two proxies.
const PROXY: u32 = 50;
const NEWER: u32 = 51;
/// An uplink.
const UPLINK: u32 = 2;

fn each(test: impl Fn(fn(u8) -> IpAddr)) {
    for own in [four as fn(u8) -> IpAddr, six] {
        test(own);
    }
}

/// A node with a proxy, and three pods in which policy closes everything but what is asked for by rules about requests, in these
/// directions.
fn world(asking: &[(u8, Direction)]) -> World {
    let mut world = World::new(3);
    world.settings.proxies[0] = PROXY;
    for pod in [1, 2] {
        world.close(pod);
        for direction in Direction::ALL {
            if asking.contains(&(pod, direction)) {
                world.ask((pod, direction), true);
            } else {
                world.allow((pod, direction), None, None);
            }
        }
    }
    world
}

/// What the proxy sends comes back at a pod's hook, and passes the hook.
#[track_caller]
fn comes_back(world: &World, packet: &Datagram, pod: u8, received: bool) -> Seen {
    let frame = packet.bytes();
    let back = from_proxy(world, PROXY, &frame).unwrap();
    assert_eq!((back.interface, back.received), (interface_of(pod), received));
    // It has the addresses of the direction, which are what frames of this node in memory have anyway.
    let macs: Vec<u8> = back.macs.iter().flat_map(|word| word.to_ne_bytes()).collect();
    assert_eq!(macs, frame[..12]);
    assert_eq!(Mark::of(back.mark, world.settings.mark_shift), Mark::Proxied(u16::from(pod)));
    let sent = Arrival { mark: back.mark, ..arrival(back.interface, &frame) };
    if received {
        world.at(crate::world::hook_from_pod, sent, &frame)
    } else {
        world.at(crate::world::hook_to_pod, sent, &frame)
    }
}

/// The handshake of a connection of pod 1 with pod 2 that goes by the proxy at pod 1.
#[track_caller]
fn connect_at_client(world: &World, client: (IpAddr, u16), server: (IpAddr, u16)) {
    let syn = tcp(client, server, SYN);
    assert_eq!(world.out_of(1, &syn.bytes()).act, Act::Redirect, "the client begins");
    let answer = tcp(server, client, SYN | ACK);
    assert!(comes_back(world, &answer, 1, false).passed(), "the proxy answers the client");
    assert_eq!(world.out_of(1, &tcp(client, server, ACK).bytes()).act, Act::Redirect);
    let sent = comes_back(world, &syn, 1, true);
    assert!(sent.passed(), "the proxy begins in the name of the client");
    assert_eq!(sent.mark, Mark::From(1));
    assert!(world.to_pod(2, &syn.bytes(), sent.mark).passed(), "it reaches the server");
    let back = world.out_of(2, &answer.bytes());
    assert!(back.passed());
    assert_eq!(back.mark, Mark::From(2), "nothing is judged for good at an interface with a detour");
    assert_eq!(
        world.to_pod(1, &answer.bytes(), back.mark).act,
        Act::Redirect,
        "the server answers the proxy"
    );
}

#[test]
fn what_a_client_may_ask_is_read_at_its_own_interface() {
    each(|own| {
        let (client, server) = ((own(1), 40_000), (own(2), 80));
        // Whether or not the server's policy asks, too: one proxy judges for both.
        for asking in [&[(1, Egress)][..], &[(1, Egress), (2, Ingress)]] {
            connect_at_client(&world(asking), client, server);
        }
    });
}

#[test]
fn what_a_server_may_be_asked_is_read_at_its_interface() {
    each(|own| {
        let world = world(&[(2, Ingress)]);
        let (client, server) = ((own(1), 40_000), (own(2), 80));
        let (syn, answer) = (tcp(client, server, SYN), tcp(server, client, SYN | ACK));
        let sent = world.out_of(1, &syn.bytes());
        assert!(sent.passed());
        assert_eq!(world.to_pod(2, &syn.bytes(), sent.mark).act, Act::Redirect);
        let sent = comes_back(&world, &answer, 2, true);
        assert!(sent.passed(), "the proxy answers in the name of the server");
        assert!(world.to_pod(1, &answer.bytes(), sent.mark).passed());
        let sent = world.out_of(1, &tcp(client, server, ACK | PSH).bytes());
        assert_eq!(sent.mark, Mark::From(1));
        assert_eq!(world.to_pod(2, &tcp(client, server, ACK | PSH).bytes(), sent.mark).act, Act::Redirect);
        assert!(comes_back(&world, &syn, 2, false).passed(), "the proxy begins with the server");
        assert_eq!(world.out_of(2, &answer.bytes()).act, Act::Redirect, "and the server answers the proxy");
    });
}

#[test]
fn a_packet_of_a_connection_that_is_read_costs_one_look_up_of_its_flow_at_each_hook() {
    each(|own| {
        let (client, server) = ((own(1), 40_000), (own(2), 80));
        for asking in [(1, Egress), (2, Ingress)] {
            let world = world(&[asking]);
            // Of both pods policy speaks, in both directions; the proxy is at one of them.
            let cross = |data: &Datagram, answer: &Datagram| {
                let at_client = asking.0 == 1;
                let first = world.out_of(1, &data.bytes());
                assert_eq!(first.act == Act::Redirect, at_client);
                if !at_client {
                    assert_eq!(world.to_pod(2, &data.bytes(), first.mark).act, Act::Redirect);
                }
                let sent = comes_back(&world, data, asking.0, at_client);
                assert!(sent.passed());
                if at_client {
                    assert!(world.to_pod(2, &data.bytes(), sent.mark).passed());
                }
                let back = world.out_of(2, &answer.bytes());
                assert_eq!(back.act == Act::Redirect, !at_client);
                if at_client {
                    assert_eq!(world.to_pod(1, &answer.bytes(), back.mark).act, Act::Redirect);
                }
                let sent = comes_back(&world, answer, asking.0, !at_client);
                assert!(sent.passed());
                if !at_client {
                    assert!(world.to_pod(1, &answer.bytes(), sent.mark).passed());
                }
            };
            cross(&tcp(client, server, SYN), &tcp(server, client, SYN | ACK));
            cross(&tcp(client, server, ACK), &tcp(server, client, ACK));
            let before = [&world.flows_asked, &world.rules_asked, &world.flows_written].map(Cell::get);
            cross(&tcp(client, server, ACK | PSH), &tcp(server, client, ACK | PSH));
            let after = [&world.flows_asked, &world.rules_asked, &world.flows_written].map(Cell::get);
            assert_eq!(after, [before[0] + 6, before[1], before[2]], "three hooks each way");
        }
    });
}

#[test]
fn a_node_without_a_proxy_tells_who_asks() {
    each(|own| {
        let mut world = world(&[(1, Egress)]);
        world.settings.proxies[0] = 0;
        let seen = world.out_of(1, &tcp((own(1), 40_000), (own(2), 80), SYN).bytes());
        assert_eq!((seen.act, seen.cause), (Act::Reject, Some(Fault::RequestUnread.into())));
        assert_eq!(world.flows(), 0);
    });
}

#[test]
fn only_the_beginning_of_a_connection_goes_to_the_proxy() {
    each(|own| {
        let world = world(&[(1, Egress), (2, Ingress)]);
        for packet in [
            tcp((own(1), 40_000), (own(2), 80), ACK | PSH),
            tcp((own(1), 80), (own(2), 40_000), ACK),
            udp((own(1), 40_000), (own(2), 80)),
        ] {
            assert_eq!(world.out_of(1, &packet.bytes()).act, Act::Reject);
            assert_eq!(world.to_pod(2, &packet.bytes(), Mark::Outside).act, Act::Reject);
        }
        assert_eq!(world.flows(), 0);
    });
}

#[test]
fn f7_a_connection_that_nobody_read_is_cut_when_a_rule_asks() {
    each(|own| {
        for asks in [(1, Egress), (2, Ingress)] {
            let mut world = world(&[]);
            let (client, server) = ((own(1), 40_000), (own(2), 80));
            assert!(world.reaches(1, 2, &tcp(client, server, SYN)));
            assert!(world.reaches(2, 1, &tcp(server, client, SYN | ACK)));
            assert!(world.reaches(1, 2, &tcp(client, server, ACK)));
            world.forbid(asks);
            world.ask(asks, true);
            world.commit();
            let seen = world.send(1, 2, &tcp(client, server, ACK | PSH));
            assert_eq!((seen.act, seen.cause), (Act::Reject, Some(Fault::RequestUnread.into())));
            let seen = world.send(2, 1, &tcp(server, client, ACK | PSH));
            assert_eq!(seen.act, Act::Reject, "the server is told as well");
            // It may begin again, and goes by the proxy then.
            assert_eq!(world.send(1, 2, &tcp((own(1), 40_001), server, SYN)).act, Act::Redirect);
        }
    });
}

#[test]
fn a_connection_stays_with_the_proxy_while_policy_lets_it_be() {
    each(|own| {
        let mut world = world(&[(1, Egress)]);
        let (client, server) = ((own(1), 40_000), (own(2), 80));
        connect_at_client(&world, client, server);
        let data = tcp(client, server, ACK | PSH);
        // The rule asks still; it does not any more; no policy speaks about the pod.
        let steps: [fn(&mut World); 3] = [
            |_| {},
            |world| {
                world.forbid((1, Egress));
                world.allow((1, Egress), None, None);
            },
            |world| world.endpoint(1, |_| datapath::abi::Endpoint::default()),
        ];
        for step in steps {
            step(&mut world);
            world.commit();
            assert_eq!(world.out_of(1, &data.bytes()).act, Act::Redirect);
            let sent = comes_back(&world, &data, 1, true);
            assert!(sent.passed());
            assert!(world.to_pod(2, &data.bytes(), sent.mark).passed());
            let answer = tcp(server, client, ACK);
            assert_eq!(world.send(2, 1, &answer).act, Act::Redirect);
            assert!(comes_back(&world, &answer, 1, false).passed());
        }
        // A newer proxy takes what begins; this one keeps what it has.
        world.settings.proxies = [NEWER, PROXY, 0, 0];
        assert_eq!(world.out_of(1, &data.bytes()).act, Act::Redirect);
        assert!(comes_back(&world, &data, 1, true).passed());
    });
}

#[test]
fn what_is_denied_by_now_passes_in_no_direction() {
    each(|own| {
        for denied in [(1, Egress), (2, Ingress)] {
            let mut world = world(&[(1, Egress)]);
            let (client, server) = ((own(1), 40_000), (own(2), 80));
            connect_at_client(&world, client, server);
            world.forbid(denied);
            world.commit();
            let (data, answer) = (tcp(client, server, ACK | PSH), tcp(server, client, ACK | PSH));
            let sent = comes_back(&world, &data, 1, true);
            let arrives = sent.passed() && world.to_pod(2, &data.bytes(), sent.mark).passed();
            assert!(!arrives, "what the proxy still has does not reach the server");
            if denied.0 == 1 {
                assert_eq!(world.out_of(1, &data.bytes()).act, Act::Drop);
                assert!(!comes_back(&world, &answer, 1, false).passed());
            }
            assert_eq!(world.send(2, 1, &answer).act, Act::Drop);
        }
    });
}

#[test]
fn a_proxy_that_is_gone_is_told_to_both_sides() {
    each(|own| {
        let mut world = world(&[(1, Egress)]);
        let (client, server) = ((own(1), 40_000), (own(2), 80));
        connect_at_client(&world, client, server);
        world.settings.proxies = [NEWER, 0, 0, 0];
        assert_eq!(world.out_of(1, &tcp(client, server, ACK).bytes()).act, Act::Reject);
        assert_eq!(world.send(2, 1, &tcp(server, client, ACK)).act, Act::Reject);
        assert_eq!(world.out_of(1, &tcp((own(1), 40_001), server, SYN).bytes()).act, Act::Redirect);
    });
}

#[test]
fn an_error_goes_to_who_sent_what_it_is_about() {
    each(|own| {
        let world = world(&[(1, Egress)]);
        let (client, server) = ((own(1), 40_000), (own(2), 80));
        connect_at_client(&world, client, server);
        let about = |from| {
            error(OUTSIDE[usize::from(own(1).is_ipv6())], own(1), &tcp(from, server, ACK).bytes()[14..])
        };
        assert_eq!(world.to_pod(1, &about(client).bytes(), Mark::Outside).act, Act::Redirect);
    });
}

#[test]
fn nothing_comes_back_that_did_not_go_there() {
    each(|own| {
        let world = world(&[(1, Egress)]);
        let (client, server) = ((own(1), 40_000), (own(2), 80));
        assert_eq!(from_proxy(&world, PROXY, &tcp(client, server, SYN).bytes()), None);
        connect_at_client(&world, client, server);
        assert!(from_proxy(&world, PROXY, &tcp(client, server, ACK).bytes()).is_some());
        assert_eq!(
            from_proxy(&world, NEWER, &tcp(client, server, ACK).bytes()),
            None,
            "another's connection"
        );
        assert_eq!(from_proxy(&world, PROXY, &tcp((own(1), 40_001), server, SYN).bytes()), None);
        assert_eq!(from_proxy(&world, PROXY, &udp(client, server).bytes()), None);
    });
}

#[test]
fn the_mark_of_the_proxy_opens_nothing() {
    each(|own| {
        // A connection that never went by the proxy, and one that did, at another interface.
        let world = world(&[(1, Egress)]);
        let (client, server) = ((own(1), 40_000), (own(2), 80));
        for known in [false, true] {
            for (pod, packet) in [(1, tcp(client, server, SYN)), (1, tcp(client, server, ACK | PSH))] {
                let frame = packet.bytes();
                let mark = Mark::Proxied(pod).put(0, world.settings.mark_shift);
                let sent = Arrival { mark, ..arrival(interface_of(1), &frame) };
                let seen = world.at(crate::world::hook_from_pod, sent, &frame);
                assert_eq!(seen.passed(), known, "at the client's interface");
                let seen = world.to_pod(2, &frame, Mark::Proxied(2));
                assert!(!seen.passed(), "at the server's interface, where it did not go by the proxy");
            }
            if !known {
                connect_at_client(&world, client, server);
            }
        }
    });
}

/// Pod 1 calls a service address that stands for this server; its policy asks what.
fn with_service(own: fn(u8) -> IpAddr) -> (World, IpAddr) {
    let service: IpAddr = if own(1).is_ipv4() { [10, 96, 0, 1].into() } else { "fd96::1".parse().unwrap() };
    let mut world = world(&[(1, Egress)]);
    world.serve(service, 80, 6, None);
    (world, service)
}

#[test]
fn a_backend_on_the_node_is_where_a_call_of_a_service_is_read() {
    each(|own| {
        let (world, service) = with_service(own);
        // Pod 3 is one about which no policy speaks.
        for backend in [2, 3] {
            let port = 40_000 + u16::from(backend);
            let (client, server) = ((own(1), port), (own(backend), 8080));
            let called = |flags| {
                let sent = world.out_of(1, &tcp(client, (service, 80), flags).bytes());
                assert_eq!(sent.mark, Mark::Deferred(1));
                world.to_pod(backend, &tcp(client, server, flags).bytes(), sent.mark)
            };
            assert_eq!(called(SYN).act, Act::Redirect);
            let answer = tcp(server, client, SYN | ACK);
            let back = comes_back(&world, &answer, backend, true);
            assert!(back.passed());
            let translated = tcp((service, 80), client, SYN | ACK).bytes();
            assert!(world.to_pod(1, &translated, back.mark).passed());
            assert_eq!(called(ACK | PSH).act, Act::Redirect);
            assert!(comes_back(&world, &tcp(client, server, SYN), backend, false).passed());
            assert_eq!(world.out_of(backend, &answer.bytes()).act, Act::Redirect);
        }
        // Another pod's call of the free pod does not go by the proxy.
        assert!(world.reaches(2, 3, &tcp((own(2), 40_000), (own(3), 8080), SYN)));
        assert!(world.reaches(3, 2, &tcp((own(3), 8080), (own(2), 40_000), SYN | ACK)));
    });
}

#[test]
fn a_backend_that_is_the_node_itself_is_asked_about_again_where_its_service_is_seen() {
    each(|own| {
        let node: IpAddr = if own(1).is_ipv4() { "192.0.2.1" } else { "2001:db8::1" }.parse().unwrap();
        let (mut world, service) = with_service(own);
        world.serve(service, 443, 6, Some((node, 6443)));
        let (client, server) = ((own(1), 40_000), (service, 443));
        assert_eq!(world.out_of(1, &tcp(client, server, SYN).bytes()).act, Act::Redirect);
        let answer = tcp(server, client, SYN | ACK);
        assert!(comes_back(&world, &answer, 1, false).passed());
        world.forbid((1, Egress));
        world.allow((1, Egress), Some(node), Some((Transport::Tcp, 6443)));
        world.commit();
        assert!(comes_back(&world, &answer, 1, false).passed(), "the backend is whom policy is about");
        assert!(comes_back(&world, &tcp(client, server, SYN), 1, true).passed());
        world.forbid((1, Egress));
        world.commit();
        assert!(!comes_back(&world, &answer, 1, false).passed());
    });
}

#[test]
fn what_a_free_backend_answers_at_once_goes_to_the_proxy_at_any_moment() {
    each(|own| {
        for moment in [0, 1, 2, 3, u32::MAX] {
            let (world, service) = with_service(own);
            world.now.set(moment);
            let (client, server) = ((own(1), 40_000), (own(3), 8080));
            let sent = world.out_of(1, &tcp(client, (service, 80), SYN).bytes());
            assert_eq!(world.to_pod(3, &tcp(client, server, SYN).bytes(), sent.mark).act, Act::Redirect);
            let answer = tcp(server, client, SYN | ACK).bytes();
            assert_eq!(world.out_of(3, &answer).act, Act::Redirect, "at {moment}");
        }
    });
}

#[test]
fn a_backend_elsewhere_is_read_where_the_call_leaves_the_node() {
    for (index, own) in [four as fn(u8) -> IpAddr, six].into_iter().enumerate() {
        let (world, service) = with_service(own);
        let client = (own(1), 40_000);
        // A service address is not always translated on this node: that of a load balancer may be left to it.
        for server in [(OUTSIDE[index], 8080), (service, 80)] {
            read_where_it_leaves(&world, client, (service, 80), server);
        }
    }
}

/// A call of a service, and its backend's address as it is where the call leaves the node.
#[track_caller]
fn read_where_it_leaves(world: &World, client: (IpAddr, u16), service: (IpAddr, u16), server: (IpAddr, u16)) {
    let leaves = |flags| {
        let sent = world.out_of(1, &tcp(client, service, flags).bytes());
        let frame = tcp(client, server, flags).bytes();
        let mark = sent.mark.put(0, world.settings.mark_shift);
        world.at(hook_to_outside, Arrival { mark, ..arrival(UPLINK, &frame) }, &frame)
    };
    assert_eq!(leaves(SYN).act, Act::Redirect);
    let answer = tcp(server, client, SYN | ACK).bytes();
    let back = from_proxy(world, PROXY, &answer).unwrap();
    assert_eq!((back.interface, back.received), (UPLINK, true), "the proxy answers as if from outside");
    let came = Arrival { mark: back.mark, ..arrival(UPLINK, &answer) };
    let seen = world.at(hook_from_outside, came, &answer);
    assert_eq!((seen.act, seen.mark), (Act::Pass, Mark::Outside));
    assert!(world.to_pod(1, &tcp(service, client, SYN | ACK).bytes(), seen.mark).passed());
    assert_eq!(leaves(ACK | PSH).act, Act::Redirect);
    let syn = tcp(client, server, SYN).bytes();
    let Return { interface, received, mark, .. } = from_proxy(world, PROXY, &syn).unwrap();
    assert_eq!((interface, received), (UPLINK, false), "and begins with the server");
    assert!(world.at(hook_to_outside, Arrival { mark, ..arrival(UPLINK, &syn) }, &syn).passed());
    let seen = world.at(hook_from_outside, arrival(UPLINK, &answer), &answer);
    assert_eq!(seen.act, Act::Redirect, "which answers the proxy");
    assert_eq!(leaves(ACK | PSH).act, Act::Redirect, "whatever was judged meanwhile");
    // What else comes from outside comes in.
    let other = tcp(server, (client.0, 40_001), ACK).bytes();
    assert!(world.at(hook_from_outside, arrival(UPLINK, &other), &other).passed());
}
