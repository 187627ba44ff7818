//! Connections: what passes after the first packet, and what of it after a change of policy.

use datapath::abi::{Direction, Transport};
use policy_compiler::api::PolicyObject;
use policy_compiler::oracle::{self, Answer, Packet, Protocol};
use tests::world::World;

use crate::bed::{Bed, CLIENT, MAC, Own, datagram, hook, is_free, is_refused, mark_outside};
use crate::frames::{ACK, SYN, tcp};

/// A connection under one policy and then another; whether the change cut it.
pub(crate) fn lived(
    bed: &mut Bed,
    world: &World,
    (before, after): (&[PolicyObject], &[PolicyObject]),
    probe: &Packet,
) -> bool {
    let own = Own::of(&world.cluster, &probe.pod);
    let Some(address) = own.in_family_of(probe.peer) else { return false };
    let first = datagram(probe, address, CLIENT);
    let many = probe.peer.is_multicast() || probe.peer.to_string() == "255.255.255.255";
    // One of the two directions is refused.
    let nowhere = probe.peer.is_unspecified() || probe.peer.is_loopback();
    if own.all.contains(&probe.peer) || is_refused(&first, probe) || many || nowhere {
        return false;
    }
    let Protocol::Transport(_, port) = probe.protocol else { return false };
    let ends = ((first.source, CLIENT), (first.destination, port));
    let (there, back) = (hook(probe.direction), hook(other(probe.direction)));
    let says = |flags| frame(tcp(ends.0, ends.1, flags));
    let answers = |flags| frame(tcp(ends.1, ends.0, flags));
    let judge = |policies: &[PolicyObject], packet: &Packet| {
        oracle::judge(policies, &world.cluster, packet) == Answer::Allow
    };
    // What the other end may begin, from the port that was asked to the one that asked.
    let opposite = Packet {
        direction: other(probe.direction),
        protocol: Protocol::Transport(Transport::Tcp, CLIENT),
        ..probe.clone()
    };
    let seed = bed.seed;
    let about =
        |what: &str| format!("seed {seed}: {what}: {probe:?} in {world:?}, from {before:?} to {after:?}");

    bed.install(&world.cluster, before);
    bed.bind(&probe.pod, &own);
    let allowed = judge(before, probe);
    assert_eq!(bed.passes(there, &says(SYN), mark_outside(there)), allowed, "{}", about("the first packet"));
    let answered = bed.passes(back, &answers(SYN | ACK), mark_outside(back));
    assert_eq!(answered, allowed || judge(before, &opposite), "{}", about("its answer"));
    if !allowed {
        bed.kernel.forget();
        return false;
    }
    assert!(bed.passes(there, &says(ACK), mark_outside(there)), "{}", about("the next packet"));

    // While no policy speaks about a pod nothing is remembered: its connections are taken up from their client's side.
    let was_free = is_free(bed, probe);
    bed.install(&world.cluster, after);
    bed.bind(&probe.pod, &own);
    let stays = judge(after, probe);
    let expected = if was_free { judge(after, &opposite) } else { stays };
    assert_eq!(
        bed.passes(back, &answers(ACK), mark_outside(back)),
        expected,
        "{}",
        about("data of the server after the change")
    );
    assert_eq!(
        bed.passes(there, &says(ACK), mark_outside(there)),
        stays,
        "{}",
        about("data of the client after the change")
    );
    let known = !was_free || port < 32_768;
    if stays && known {
        assert!(
            bed.passes(back, &answers(ACK), mark_outside(back)),
            "{}",
            about("data of the server after that")
        );
    }
    bed.kernel.forget();
    !stays
}

fn other(direction: Direction) -> Direction {
    match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    }
}

fn frame(mut packet: crate::frames::Datagram) -> Vec<u8> {
    packet.mac = MAC;
    packet.bytes()
}
