//! The real programs in this machine's kernel against the naive evaluator: random clusters and policies of every
//! dialect, and packets that honest stacks send and that nobody does.
//!
//! ```text
//! world -> compile -> plan -> maps of the kernel ─┐
//!   └────> packets -> frames, and variants ───────┴─> BPF_PROG_TEST_RUN -> passed? == oracle
//! ```
//!
//! `POLDER_PACKETS` says how many packets, `POLDER_SEED` which; each failure names its seed.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod bed;
mod connection;

#[path = "../../../datapath/tests/hooks/frames.rs"]
#[expect(
    dead_code,
    reason = "written for the tests of the hooks, which build more kinds of frames than these"
)]
mod frames;
mod kernel;
mod mutation;
mod reading;
mod wire;

use std::net::IpAddr;

use datapath::abi::{Direction, Transport};
use datapath::mark::Mark;
use policy_compiler::api::PolicyObject;
use policy_compiler::lower::lower;
use policy_compiler::oracle::{self, Answer, Packet, Protocol};
use tests::packets::packets;
use tests::world::World;

use crate::bed::{Bed, CLIENT, INDEX, Own, datagram, hook, is_free, is_refused, number};
use crate::connection::lived;
use crate::mutation::variant;
use crate::reading::{Frame, Reading, read};

/// How many packets, unless the environment asks for more.
const PACKETS: usize = 12_000;
/// How many packets of each world are tried as they are, at most, and how many variants of each.
const SHORT: (usize, usize) = (60, 3);
/// The same where many packets are asked for: to write a world's tables takes as long as thousands of packets.
const LONG: (usize, usize) = (600, 15);
const MANY: usize = 100_000;

#[test]
fn every_packet_gets_the_oracles_answer_or_is_dropped_for_a_reason() {
    if !kernel::may_ask() {
        return;
    }
    let wanted = number("POLDER_PACKETS", PACKETS);
    let (most, variants) = if wanted < MANY { SHORT } else { LONG };
    let mut bed = Bed::new();
    let mut allowed = 0;
    while bed.packets < wanted {
        let world = bed.world();
        let objects: Vec<PolicyObject> =
            world.policies.iter().filter(|object| lower(object, None).is_ok()).cloned().collect();
        bed.install(&world.cluster, &objects);
        let mut probes = packets(&world);
        let stride = 1 + probes.len() / most;
        let skip = bed.dice.roll(stride);
        probes = probes.into_iter().skip(skip).step_by(stride).collect();
        for probe in &mut probes {
            // One protocol without ports in each family is not enough: any number that is not refused.
            if let Protocol::Other(number) = &mut probe.protocol {
                let icmp = if probe.peer.is_ipv4() { 1 } else { 58 };
                *number = [icmp, 2, 47, 50, 89, 253][bed.dice.roll(6)];
            }
            allowed += usize::from(judged(&mut bed, &world, &objects, probe, variants));
        }
        bed.account(&world);
    }
    let (packets, deserved, seed) = (bed.packets, bed.deserved, bed.seed);
    println!(
        "{packets} packets, of which {allowed} honest ones and {deserved} variants passed a policy, seed {seed}"
    );
    assert!(allowed * 200 > wanted && deserved * 50 > wanted, "too few packets passed: that proves little");
}

/// Sends a probe as it is, and variants of it; whether it was allowed as it is.
fn judged(bed: &mut Bed, world: &World, objects: &[PolicyObject], probe: &Packet, variants: usize) -> bool {
    let own = Own::of(&world.cluster, &probe.pod);
    // An address that is the pod's by the facts, and not at its interface, is not the kernel's to know.
    if own.all.contains(&probe.peer) && !own.has(probe.peer) {
        return false;
    }
    bed.bind(&probe.pod, &own);
    let given = own.in_family_of(probe.peer);
    let placeholder =
        if probe.peer.is_ipv4() { IpAddr::from([192, 0, 2, 200]) } else { IpAddr::from([0x20; 16]) };
    let packet = datagram(probe, given.unwrap_or(placeholder), CLIENT);
    let mark = match probe.direction {
        Direction::Egress => Mark::None,
        Direction::Ingress if own.has(probe.peer) => Mark::From(INDEX),
        Direction::Ingress if probe.from_own_node => Mark::None,
        Direction::Ingress => Mark::Outside,
    };
    let answer = oracle::judge(objects, &world.cluster, probe);
    let spoofed = probe.direction == Direction::Egress && given.is_none();
    let free = is_free(bed, probe);
    let expected =
        answer == Answer::Allow && !spoofed && (!is_refused(&packet, probe) || free && !is_egress(probe));
    let passed = bed.passes(hook(probe.direction), &packet.bytes(), mark);
    let flows = bed.kernel.forget();
    assert!(passed || flows == 0, "a dropped packet made a flow: {packet:?}");
    assert_eq!(
        passed, expected,
        "seed {}: {probe:?} ({answer:?}) {mark:?} as {packet:?} in {world:?}",
        bed.seed
    );
    for _ in 0..variants {
        let frame = variant(&packet, &mut bed.dice);
        let passed = bed.passes(hook(probe.direction), &frame, mark);
        if bed.kernel.forget() != 0 {
            assert!(passed, "a dropped packet made a flow: {frame:02x?}");
        }
        if passed && !free && mark != Mark::From(INDEX) {
            let why =
                may_pass(&read(&frame), &own, probe, |asked| oracle::judge(objects, &world.cluster, asked));
            assert!(
                why.is_ok(),
                "seed {}: {why:?}: {frame:02x?} passed as a variant of {probe:?} in {world:?}",
                bed.seed
            );
            bed.deserved += 1;
        }
    }
    expected
}

fn is_egress(probe: &Packet) -> bool {
    probe.direction == Direction::Egress
}

/// Whether a frame that passed may have.
fn may_pass(
    frame: &Frame,
    own: &Own,
    probe: &Packet,
    judge: impl Fn(&Packet) -> Answer,
) -> Result<(), String> {
    let packet = match frame {
        Frame::Unreadable => return Err("nobody can read it".to_owned()),
        // Policy says nothing about discovery on the link.
        Frame::Arp | Frame::Ip(Reading { is_of_link: true, .. }) => return Ok(()),
        Frame::Ip(packet) => packet,
    };
    let has_ports = matches!(packet.protocol, Protocol::Other(6 | 17 | 132));
    if packet.is_later && has_ports {
        return Err(format!("a later fragment that follows nothing: {packet:?}"));
    }
    let peer = match probe.direction {
        Direction::Egress if !own.has(packet.source) => return Err(format!("spoofed: {packet:?}")),
        Direction::Egress => packet.destination,
        Direction::Ingress => packet.source,
    };
    let asked = Packet { peer, protocol: packet.protocol, ..probe.clone() };
    // What the facts give to the pod beside its interface's addresses is not the kernel's to know.
    match judge(&asked) {
        Answer::Allow => Ok(()),
        Answer::Deny => Err(format!("denied as {asked:?}")),
        // Nobody reads requests yet, so that the kernel closes what they would decide about.
        Answer::Ask => Err(format!("closed as {asked:?}")),
    }
}

#[test]
fn a_connection_lives_as_long_as_policy_allows_it() {
    if !kernel::may_ask() {
        return;
    }
    // Each connection needs two changes of policy, which take as long as thousands of packets.
    let wanted = number("POLDER_PACKETS", PACKETS).min(MANY) / 8;
    let mut bed = Bed::new();
    let mut cut = 0;
    while bed.packets < wanted {
        let world = bed.world();
        let objects: Vec<PolicyObject> =
            world.policies.iter().filter(|object| lower(object, None).is_ok()).cloned().collect();
        let fewer: Vec<PolicyObject> = objects.iter().filter(|_| bed.dice.roll(2) == 0).cloned().collect();
        let is_tcp = |probe: &Packet| matches!(probe.protocol, Protocol::Transport(Transport::Tcp, 1..));
        let probes: Vec<Packet> =
            packets(&world).into_iter().filter(|probe| is_tcp(probe) && !probe.from_own_node).collect();
        for probe in probes.iter().step_by(1 + probes.len() / 6) {
            for change in [(&fewer[..], &objects[..]), (&objects[..], &fewer[..])] {
                cut += usize::from(lived(&mut bed, &world, change, probe));
            }
        }
        bed.account(&world);
    }
    println!("{} packets, {cut} connections cut by a change, seed {}", bed.packets, bed.seed);
    assert!(cut * 200 > wanted, "only {cut} connections were cut: that proves little");
}
