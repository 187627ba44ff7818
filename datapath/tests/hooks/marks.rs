//! F34: a mark says no more than the hook that set it knew, and pods cannot set one.

use datapath::abi::{Direction, Transport};
use datapath::hook::Arrival;
use datapath::mark::Mark;

use crate::frames::{ACK, SYN, tcp};
use crate::world::{
    World, arrival, four, hook_early, hook_from_outside, hook_from_pod, hook_to_outside, interface_of, six,
};

use Direction::{Egress, Ingress};

const INDEXES: [u16; 5] = [0, 1, 2, 3, Mark::MAX_INDEX];

fn marks() -> Vec<Mark> {
    let indexed =
        INDEXES.into_iter().flat_map(|index| [Mark::From(index), Mark::Deferred(index), Mark::Judged(index)]);
    [Mark::None, Mark::Outside].into_iter().chain(indexed).collect()
}

#[test]
fn f34_no_mark_but_the_pods_own_judgement_opens_a_closed_pod() {
    for own in [four as fn(u8) -> std::net::IpAddr, six] {
        for flags in [SYN, ACK, SYN | ACK] {
            let frame = tcp((own(1), 40_000), (own(2), 80), flags).bytes();
            for mark in marks() {
                let mut world = World::new(3);
                for pod in 1..=3 {
                    world.close(pod);
                }
                let seen = world.to_pod(2, &frame, mark);
                // Judged for this very pod by the hook of the other end of a flow; or its own packet (F30).
                let own = matches!(mark, Mark::Judged(2) | Mark::From(2) | Mark::Deferred(2));
                assert_eq!(seen.passed(), own, "{mark:?}");
                let sent = arrival(interface_of(1), &frame);
                let sent = Arrival { mark: mark.put(0, world.settings.mark_shift), ..sent };
                let seen = world.at(hook_from_pod, sent, &frame);
                assert_eq!(seen.passed(), mark == Mark::Judged(1), "{mark:?}");
            }
        }
    }
}

#[test]
fn f34_what_a_pod_sends_carries_its_own_mark_whatever_it_carried_before() {
    let world = World::new(3);
    let frame = tcp((four(1), 40_000), (four(2), 80), SYN).bytes();
    for mark in marks().into_iter().filter(|mark| *mark != Mark::Judged(1)) {
        for others in [0, 0xc000_ffff] {
            let sent = arrival(interface_of(1), &frame);
            let sent = Arrival { mark: mark.put(others, world.settings.mark_shift), ..sent };
            assert_eq!(world.at(hook_from_pod, sent, &frame).mark, Mark::From(1), "{mark:?}");
        }
    }
}

#[test]
fn f34_a_packet_from_outside_is_marked_so_whatever_it_carried_before() {
    let world = World::new(1);
    let frame = tcp((four(9), 40_000), (four(1), 80), SYN).bytes();
    for mark in marks() {
        let sent = Arrival { mark: mark.put(0x8000, world.settings.mark_shift), ..arrival(1, &frame) };
        let outcome = hook_from_outside(&world, &crate::world::Bytes(&frame), &sent);
        assert_eq!(Mark::of(outcome.mark(), world.settings.mark_shift), Mark::Outside);
        assert_eq!(outcome.mark() & 0xffff, 0x8000, "the bits of others stay");
    }
}

#[test]
fn f34_only_a_deferred_packet_is_asked_about_on_its_way_out_and_only_in_its_senders_name() {
    let mut world = World::new(3);
    world.close(1);
    world.allow((1, Egress), Some(four(9)), Some((Transport::Tcp, 80)));
    for (to, expected) in [(80, true), (81, false)] {
        let frame = tcp((four(1), 40_000), (four(9), to), SYN).bytes();
        for mark in marks() {
            let sent = Arrival { mark: mark.put(0, world.settings.mark_shift), ..arrival(1, &frame) };
            let seen = world.at(hook_to_outside, sent, &frame);
            let passes = match mark {
                Mark::Deferred(1) => expected,
                // Pods 2 and 3 are free; there are no others.
                Mark::Deferred(index) => matches!(index, 2 | 3),
                Mark::None | Mark::Proxied(_) | Mark::Outside | Mark::Judged(_) | Mark::From(_) => true,
            };
            assert_eq!(seen.passed(), passes, "{mark:?} to port {to}");
        }
    }
}

#[test]
fn f34_frames_that_arrive_have_no_mark_before_they_are_packets() {
    let mut world = World::new(1);
    world.isolate(1, Ingress);
    let frame = tcp((four(9), 40_000), (four(1), 80), SYN).bytes();
    for mark in marks() {
        let sent = Arrival { mark: mark.put(0, world.settings.mark_shift), ..arrival(1, &frame) };
        assert!(!world.at(hook_early, sent, &frame).passed());
    }
}

#[test]
fn f34_an_approval_is_of_one_interface_and_one_generation() {
    let mut world = World::new(3);
    for pod in 1..=3 {
        world.close(pod);
    }
    world.allow((1, Egress), Some(four(2)), None);
    world.allow((2, Ingress), Some(four(1)), None);
    assert!(world.reaches(1, 2, &tcp((four(1), 40_000), (four(2), 80), SYN)));
    let back = world.out_of(2, &tcp((four(2), 80), (four(1), 40_000), SYN | ACK).bytes());
    assert_eq!(back.mark, Mark::Judged(1));
    let frame = tcp((four(2), 80), (four(1), 40_000), SYN | ACK).bytes();
    assert!(world.to_pod(1, &frame, back.mark).passed());
    assert!(!world.to_pod(3, &frame, back.mark).passed(), "another pod than the one it was judged for");
    world.commit();
    let back = world.out_of(2, &tcp((four(2), 80), (four(1), 40_000), ACK).bytes());
    assert_eq!(back.mark, Mark::From(1 + 1), "the other end was judged before the change");
}
