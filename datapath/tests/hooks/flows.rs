//! Flows: what passes as part of a connection, and what does not become one.

use std::net::IpAddr;

use datapath::abi::{Direction, Endpoint, Transport};
use datapath::fault::Fault;
use datapath::hook::Act;
use datapath::mark::Mark;
use datapath::verdict::Reason;

use crate::frames::{ACK, Datagram, FIN, PSH, RST, SYN, ping, pong, tcp, udp};
use crate::world::{OUTSIDE, World, four, interface_of, six};

use Direction::{Egress, Ingress};

const WEB: Option<(Transport, u16)> = Some((Transport::Tcp, 80));
const DNS: Option<(Transport, u16)> = Some((Transport::Udp, 53));

/// A node on which pod 1 may reach pod 2 at port 80, and nothing else is allowed; in both families.
fn web(own: fn(u8) -> IpAddr) -> World {
    let mut world = World::new(3);
    for pod in 1..=3 {
        world.close(pod);
    }
    world.allow((1, Egress), Some(own(2)), WEB);
    world.allow((2, Ingress), Some(own(1)), WEB);
    world
}

fn each(test: impl Fn(fn(u8) -> IpAddr)) {
    for own in [four as fn(u8) -> IpAddr, six] {
        test(own);
    }
}

fn connect(world: &World, from: (IpAddr, u16), to: (IpAddr, u16), pods: (u8, u8)) {
    assert!(world.reaches(pods.0, pods.1, &tcp(from, to, SYN)));
    assert!(world.reaches(pods.1, pods.0, &tcp(to, from, SYN | ACK)));
    assert!(world.reaches(pods.0, pods.1, &tcp(from, to, ACK)));
}

#[test]
fn an_established_packet_passes_by_one_look_up_at_each_hook() {
    each(|own| {
        let world = web(own);
        let (client, server) = ((own(1), 40_000), (own(2), 80));
        connect(&world, client, server, (1, 2));
        // Both ends are judged, and the clock does not ask for a note.
        let before = world.flows_asked.get();
        let rules = world.rules_asked.get();
        assert!(world.reaches(1, 2, &tcp(client, server, ACK | PSH)));
        assert!(world.reaches(2, 1, &tcp(server, client, ACK)));
        // Of what goes to the pod that is judged already, not even the flow is asked.
        assert!(world.flows_asked.get() - before <= 4);
        assert_eq!(world.rules_asked.get(), rules);
        assert_eq!(world.flows(), 1, "one entry for both directions and both hooks");
    });
}

#[test]
fn a_reply_passes_by_its_flow_and_not_by_a_rule() {
    each(|own| {
        let world = web(own);
        let (client, server) = ((own(1), 40_000), (own(2), 80));
        assert!(!world.reaches(2, 1, &tcp(server, client, ACK)), "nobody asked");
        assert!(!world.reaches(2, 1, &tcp(server, client, SYN | ACK)), "nobody asked");
        connect(&world, client, server, (1, 2));
        assert!(world.reaches(2, 1, &tcp(server, client, ACK)));
        assert!(!world.reaches(2, 1, &tcp(server, (own(1), 40_001), ACK)), "another port is another flow");
        assert!(!world.reaches(3, 1, &tcp((own(3), 80), client, ACK)), "another pod is another flow");
    });
}

#[test]
fn every_syn_is_judged_though_a_flow_is_there() {
    each(|own| {
        let mut world = web(own);
        let (client, server) = ((own(1), 40_000), (own(2), 80));
        connect(&world, client, server, (1, 2));
        let rules = world.rules_asked.get();
        assert!(world.reaches(1, 2, &tcp(client, server, SYN)));
        assert!(world.rules_asked.get() > rules);
        // The same tuple from the other end: a connection of its own.
        assert!(!world.reaches(2, 1, &tcp(server, client, SYN)));
        // Under the same generation, so that only the SYN can be what is judged.
        world.forbid((2, Ingress));
        assert!(!world.reaches(1, 2, &tcp(client, server, SYN)));
    });
}

#[test]
fn a_new_generation_judges_each_flow_again_once() {
    each(|own| {
        let mut world = web(own);
        let (client, server) = ((own(1), 40_000), (own(2), 80));
        connect(&world, client, server, (1, 2));
        world.commit();
        let rules = world.rules_asked.get();
        assert!(world.reaches(1, 2, &tcp(client, server, ACK)));
        let again = world.rules_asked.get();
        assert!(again > rules);
        assert!(world.reaches(1, 2, &tcp(client, server, ACK)));
        assert!(world.reaches(2, 1, &tcp(server, client, ACK)));
        assert_eq!(world.rules_asked.get(), again, "judged once");
    });
}

#[test]
fn a_connection_ends_in_both_directions_when_policy_denies_it() {
    each(|own| {
        for hook in [(1, Egress), (2, Ingress)] {
            let mut world = web(own);
            let (client, server) = ((own(1), 40_000), (own(2), 80));
            connect(&world, client, server, (1, 2));
            world.forbid(hook);
            world.commit();
            assert!(!world.reaches(2, 1, &tcp(server, client, ACK | PSH)), "{hook:?}");
            assert!(!world.reaches(1, 2, &tcp(client, server, ACK | PSH)), "{hook:?}");
            assert!(!world.reaches(2, 1, &tcp(server, client, ACK | PSH)), "{hook:?}");
            // And comes back when it is allowed again, if it is still there.
            let peer = if hook.0 == 1 { own(2) } else { own(1) };
            world.allow(hook, Some(peer), WEB);
            world.commit();
            assert!(world.reaches(1, 2, &tcp(client, server, ACK)), "{hook:?}");
            assert!(world.reaches(2, 1, &tcp(server, client, ACK)), "{hook:?}");
        }
    });
}

#[test]
fn c9_an_echo_request_is_no_answer_to_an_echo_request() {
    each(|own| {
        let mut world = World::new(2);
        world.close(1);
        world.isolate(2, Ingress);
        world.allow((1, Egress), Some(own(2)), None);
        world.allow((2, Ingress), Some(own(1)), None);
        assert!(world.reaches(1, 2, &ping(own(1), own(2), 7)));
        assert!(
            !world.reaches(2, 1, &ping(own(2), own(1), 7)),
            "a question with the identifier of an answer"
        );
        assert!(world.reaches(1, 2, &ping(own(1), own(2), 7)));
        assert!(world.reaches(2, 1, &pong(own(2), own(1), 7)));
        assert!(!world.reaches(2, 1, &pong(own(2), own(1), 8)));
    });
}

#[test]
fn an_echo_reply_that_nobody_asked_for_makes_no_flow() {
    each(|own| {
        let mut world = World::new(2);
        world.isolate(1, Ingress);
        world.isolate(2, Ingress);
        assert!(!world.reaches(2, 1, &pong(own(2), own(1), 7)));
        assert_eq!(world.flows(), 0);
        assert!(!world.reaches(1, 2, &ping(own(1), own(2), 7)));
        assert!(!world.reaches(2, 1, &ping(own(2), own(1), 7)));
    });
}

/// Makes a pod one that came under policy just now.
fn just_policed(world: &mut World, pod: u8) {
    let now = world.now.get();
    let own = world.interfaces.get_mut(&interface_of(pod)).unwrap();
    (own.was_untracked, own.tracked_since) = (1, now);
}

#[test]
fn a_datagram_that_answers_from_before_isolation_opens_nothing_for_whom_it_answers() {
    for (own, peer) in [(four as fn(u8) -> IpAddr, OUTSIDE[0]), (six, OUTSIDE[1])] {
        let mut world = World::new(1);
        world.isolate(1, Ingress);
        just_policed(&mut world, 1);
        let (server, client) = ((own(1), 53), (peer, 4000));
        assert!(world.leaves(1, &udp(server, client)), "egress is not isolated");
        assert!(!world.arrives(1, &udp(client, server)));
        world.wait(59);
        assert!(world.leaves(1, &udp(server, client)));
        assert!(!world.arrives(1, &udp(client, server)));
        // After that it is a question from an odd port, and may be answered.
        world.wait(2);
        assert!(world.leaves(1, &udp(server, client)));
        assert!(world.arrives(1, &udp(client, server)));
    }
}

#[test]
fn a_datagram_that_answers_a_pod_from_before_its_isolation_opens_nothing_for_that_pod() {
    for (own, peer) in [(four as fn(u8) -> IpAddr, OUTSIDE[0]), (six, OUTSIDE[1])] {
        let mut world = World::new(1);
        world.isolate(1, Egress);
        just_policed(&mut world, 1);
        let (client, server) = ((own(1), 40_000), (peer, 53));
        assert!(!world.leaves(1, &udp(client, server)));
        assert!(world.arrives(1, &udp(server, client)), "ingress is not isolated");
        assert!(!world.leaves(1, &udp(client, server)), "what was denied goes on as an answer to its answer");
    }
}

#[test]
fn what_a_denied_packet_would_be_answered_makes_no_flow() {
    each(|own| {
        for pair in [tcp_pair as fn(_, _) -> _, udp_pair] {
            let mut world = World::new(2);
            world.isolate(2, Ingress);
            let (there, back) = pair((own(1), 40_000), (own(2), 80));
            assert!(!world.reaches(1, 2, &there));
            // Pod 2 may send what it likes; the answer to what never came opens nothing.
            let _passes = world.send(2, 1, &back);
            let hole = tcp((own(1), 40_000), (own(2), 80), ACK);
            let hole = if there.protocol == 6 { hole } else { continue };
            assert!(!world.reaches(1, 2, &hole));
        }
    });
}

fn tcp_pair(from: (IpAddr, u16), to: (IpAddr, u16)) -> (Datagram, Datagram) {
    (tcp(from, to, SYN), tcp(to, from, SYN | ACK))
}

fn udp_pair(from: (IpAddr, u16), to: (IpAddr, u16)) -> (Datagram, Datagram) {
    (udp(from, to), udp(to, from))
}

#[test]
fn a1_an_answer_in_the_victims_name_poisons_nothing() {
    each(|own| {
        for port in [80, 443, 8080, 3306] {
            let mut world = World::new(2);
            world.isolate(2, Ingress);
            let (victim, attacker) = ((own(2), port), (own(1), 31_337));
            // As if the victim had answered: sent by the attacker, who is free to send.
            for poison in
                [tcp(victim, attacker, SYN | ACK), tcp(victim, attacker, ACK), udp(victim, attacker)]
            {
                world.out_of(1, &poison.bytes()).is(Fault::Spoofed);
                let mut own_frame = poison;
                own_frame.mac = crate::frames::mac(own(1));
                world.out_of(1, &own_frame.bytes()).is(Fault::Spoofed);
            }
            assert_eq!(world.flows(), 0);
            for flags in [SYN, SYN | ACK, ACK, RST, FIN | ACK] {
                assert!(!world.reaches(1, 2, &tcp(attacker, victim, flags)));
            }
            assert!(!world.reaches(1, 2, &udp(attacker, victim)));
        }
    });
}

#[test]
fn f24_nothing_but_a_syn_begins_where_the_ports_do_not_say_who_is_the_client() {
    each(|own| {
        for flags in [ACK, SYN | ACK, FIN | ACK, RST, RST | ACK, PSH | ACK] {
            let mut world = World::new(2);
            world.isolate(1, Ingress);
            world.isolate(2, Ingress);
            // Server to client: not a beginning, whoever may send it.
            let seen = world.out_of(1, &tcp((own(1), 80), (own(2), 40_000), flags).bytes());
            assert!(seen.passed(), "egress is free");
            assert_eq!(world.flows(), 0, "flags {flags:02x}");
            assert!(!world.reaches(2, 1, &tcp((own(2), 40_000), (own(1), 80), ACK)), "flags {flags:02x}");
        }
    });
}

#[test]
fn f24_a_connection_from_before_the_flow_table_is_taken_up_from_its_clients_side() {
    each(|own| {
        let world = web(own);
        let (client, server) = ((own(1), 40_000), (own(2), 80));
        assert!(!world.reaches(2, 1, &tcp(server, client, ACK)));
        assert!(world.reaches(1, 2, &tcp(client, server, ACK)));
        assert!(world.reaches(2, 1, &tcp(server, client, ACK)));
        assert!(!world.reaches(1, 2, &tcp((own(1), 40_000), (own(2), 81), ACK)), "by policy, as if it began");
    });
}

#[test]
fn f24_a_simultaneous_open_needs_both_directions() {
    each(|own| {
        let ends = ((own(1), 40_000), (own(2), 80));
        let world = web(own);
        assert!(world.reaches(1, 2, &tcp(ends.0, ends.1, SYN)));
        assert!(!world.reaches(2, 1, &tcp(ends.1, ends.0, SYN)));
        let mut world = web(own);
        world.allow((2, Egress), Some(own(1)), Some((Transport::Tcp, 40_000)));
        world.allow((1, Ingress), Some(own(2)), Some((Transport::Tcp, 40_000)));
        assert!(world.reaches(1, 2, &tcp(ends.0, ends.1, SYN)));
        assert!(world.reaches(2, 1, &tcp(ends.1, ends.0, SYN)));
        assert!(world.reaches(1, 2, &tcp(ends.0, ends.1, SYN | ACK)));
        assert!(world.reaches(2, 1, &tcp(ends.1, ends.0, SYN | ACK)));
        assert!(world.reaches(1, 2, &tcp(ends.0, ends.1, ACK)));
    });
}

#[test]
fn f24_a_port_is_used_again_right_after_the_connection_ended_or_was_reset() {
    each(|own| {
        let world = web(own);
        let (client, server) = ((own(1), 40_000), (own(2), 80));
        for end in [FIN | ACK, RST | ACK] {
            connect(&world, client, server, (1, 2));
            assert!(world.reaches(1, 2, &tcp(client, server, end)));
            if end & FIN != 0 {
                assert!(world.reaches(2, 1, &tcp(server, client, FIN | ACK)));
                assert!(world.reaches(1, 2, &tcp(client, server, ACK)), "the last acknowledgement");
            }
            connect(&world, client, server, (1, 2));
        }
    });
}

#[test]
fn f24_a_reset_from_the_client_leaves_the_server_no_way_back_for_long() {
    each(|own| {
        let world = web(own);
        let (client, server) = ((own(1), 40_000), (own(2), 80));
        connect(&world, client, server, (1, 2));
        assert!(world.reaches(1, 2, &tcp(client, server, RST)));
        world.wait(11);
        assert!(!world.reaches(2, 1, &tcp(server, client, ACK | PSH)));
    });
}

#[test]
fn f25_an_answer_comes_in_time_from_the_one_that_was_asked() {
    each(|own| {
        let mut world = World::new(3);
        world.close(1);
        world.allow((1, Egress), Some(own(2)), DNS);
        let (client, server) = ((own(1), 40_000), (own(2), 53));
        assert!(!world.reaches(2, 1, &udp(server, client)));
        assert!(world.reaches(1, 2, &udp(client, server)));
        assert!(!world.reaches(2, 1, &udp((own(2), 54), client)));
        assert!(!world.reaches(3, 1, &udp((own(3), 53), client)));
        world.wait(29);
        assert!(world.reaches(2, 1, &udp(server, client)));
        world.wait(170);
        assert!(world.reaches(2, 1, &udp(server, client)), "both have spoken: three minutes");
        world.wait(181);
        assert!(!world.reaches(2, 1, &udp(server, client)));
        world.wait(1);
        assert!(world.reaches(1, 2, &udp(client, server)));
        world.wait(31);
        assert!(!world.reaches(2, 1, &udp(server, client)), "nobody answered for half a minute");
    });
}

#[test]
fn a_flow_is_bound_to_the_interface_where_it_was_judged() {
    each(|own| {
        let mut world = web(own);
        let (client, server) = ((own(1), 40_000), (own(2), 80));
        connect(&world, client, server, (1, 2));
        // The server is gone, and another pod has its address by now, and denies everything.
        let gone = world.interfaces.remove(&interface_of(2)).unwrap();
        world.add(2, 500);
        let heir = world.interfaces.get_mut(&500).unwrap();
        (heir.endpoint, heir.index) = (gone.endpoint, 9);
        world.forbid((2, Ingress));
        let at_heir = |frame: &[u8], mark: Mark| {
            let arrival = crate::world::arrival(500, frame);
            let arrival = datapath::hook::Arrival { mark: mark.put(0, 16), ..arrival };
            world.at(crate::world::hook_to_pod, arrival, frame)
        };
        let frame = tcp(client, server, ACK | PSH).bytes();
        let sent = world.out_of(1, &frame);
        assert!(sent.passed(), "the client's own policy has not changed");
        assert!(!at_heir(&frame, sent.mark).passed());
    });
}

#[test]
fn a_full_share_drops_new_flows_and_keeps_old_ones_and_those_of_others() {
    each(|own| {
        let mut world = web(own);
        world.settings.flow_share = 3;
        for port in 40_000..40_003 {
            connect(&world, (own(1), port), (own(2), 80), (1, 2));
        }
        let seen = world.out_of(1, &tcp((own(1), 40_003), (own(2), 80), SYN).bytes());
        seen.is(Fault::FlowShare);
        for port in 40_000..40_003 {
            assert!(world.reaches(1, 2, &tcp((own(1), port), (own(2), 80), ACK)));
            assert!(world.reaches(2, 1, &tcp((own(2), 80), (own(1), port), ACK)));
        }
        world.allow((3, Egress), Some(own(2)), WEB);
        world.allow((2, Ingress), Some(own(3)), WEB);
        connect(&world, (own(3), 40_000), (own(2), 80), (3, 2));
    });
}

#[test]
fn a_pod_without_policy_costs_no_flow_and_one_on_hold_gets_nothing() {
    each(|own| {
        let mut world = World::new(2);
        connect(&world, (own(1), 40_000), (own(2), 80), (1, 2));
        assert_eq!((world.flows(), world.rules_asked.get()), (0, 0));
        world.endpoint(2, |_| Endpoint::HOLD);
        let frame = tcp((own(1), 40_000), (own(2), 80), ACK).bytes();
        for mark in [Mark::None, Mark::Outside, Mark::From(1), Mark::Deferred(1)] {
            world.to_pod(2, &frame, mark).is(Fault::Held);
        }
        world.out_of(2, &tcp((own(2), 80), (own(1), 40_000), ACK).bytes()).is(Fault::Held);
    });
}

#[test]
fn an_interface_that_is_not_known_is_closed_in_both_directions() {
    each(|own| {
        let world = World::new(1);
        let frame = tcp((own(1), 40_000), (own(2), 80), SYN).bytes();
        assert_eq!(
            world.out_of(7, &frame).cause.and_then(datapath::fault::Cause::name),
            Some("unknown_endpoint")
        );
        assert_eq!(
            world.to_pod(7, &frame, Mark::None).cause.and_then(datapath::fault::Cause::name),
            Some("unknown_endpoint")
        );
    });
}

#[test]
fn a_rule_set_that_somebody_emptied_closes() {
    each(|own| {
        let mut world = web(own);
        let (client, server) = ((own(1), 40_000), (own(2), 80));
        assert!(world.reaches(1, 2, &tcp(client, server, SYN)));
        world.lose_rules((2, Ingress));
        let seen = world.send(1, 2, &tcp((own(1), 40_001), server, SYN));
        assert!(!seen.passed());
        assert_eq!(seen.cause, Some(Reason::CorruptTable.into()));
        world.lose_rules((1, Egress));
        assert!(!world.leaves(1, &tcp((own(1), 40_002), server, SYN)));
    });
}

#[test]
fn a_denied_beginning_costs_no_look_up_of_flows_and_two_of_rules() {
    each(|own| {
        let mut world = web(own);
        world.allow((2, Ingress), None, Some((Transport::Tcp, 443)));
        let (flows, rules) = (world.flows_asked.get(), world.rules_asked.get());
        assert!(!world.arrives(2, &tcp((own(3), 40_000), (own(2), 22), SYN)));
        // Of a port that no rule names, only the anchor and the row of ports are asked, and the two of the peer.
        assert_eq!(world.flows_asked.get() - flows, 0);
        assert!(world.rules_asked.get() - rules <= 3);
    });
}

#[test]
fn a_connection_about_which_requests_would_decide_is_closed_as_nothing_reads_them() {
    for own in [four as fn(u8) -> IpAddr, six] {
        let syn = tcp((own(1), 40_000), (own(2), 80), SYN);
        for (before, passes) in [(true, false), (false, true)] {
            let mut world = World::new(2);
            world.close(2);
            world.allow((2, Ingress), None, None);
            world.ask((2, Ingress), before);
            assert_eq!(world.reaches(1, 2, &syn), passes);
            if !passes {
                let seen = world.send(1, 2, &syn);
                assert_eq!(seen.cause, Some(Fault::RequestUnread.into()));
                assert_eq!(seen.act, Act::Reject, "whoever asks is told");
            }
        }
    }
}
