//! The real programs in this machine's kernel against the naive evaluator: random clusters and policies of every
//! dialect, and packets that honest stacks send and that nobody does.
//!
//! ```text
//! world -> compile -> plan -> maps of the kernel ─┐
//!   └────> packets -> frames, and variants ───────┴─> BPF_PROG_TEST_RUN -> passed? == oracle
//! ```
//!
//! `POLDER_PACKETS` says how many packets, `POLDER_SEED` which; each failure names its seed.

#[path = "../../../datapath/tests/hooks/frames.rs"]
#[expect(dead_code, reason = "written for the tests of the hooks, which build more kinds of frames than these")]
mod frames;
mod kernel;
mod mutation;
mod reading;
mod wire;

use std::net::IpAddr;
use std::sync::Arc;

use datapath::abi::{Direction, Halves, Transport};
use datapath::interface::Interface;
use datapath::lookup::Maps;
use datapath::mark::Mark;
use policy_compiler::api::PolicyObject;
use policy_compiler::compiler::{Compiler, Scope};
use policy_compiler::facts::Cluster;
use policy_compiler::image::Image;
use policy_compiler::lower::lower;
use policy_compiler::object::PodKey;
use policy_compiler::oracle::{self, Answer, Packet, Protocol};
use policy_compiler::plan::{Step, plan_between};
use policy_compiler::tables::Tables;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tests::packets::packets;
use tests::world::{World, world};

use crate::frames::{ACK, Datagram, SYN, ping, sctp, tcp, udp};
use crate::kernel::{Hook, Kernel, LOOPBACK};
use crate::mutation::{Dice, variant};
use crate::reading::{Frame, Reading, read};

/// How many packets, unless the environment asks for more.
const PACKETS: usize = 12_000;
/// Up to how many packets of each world are tried as they are; of each also some variants.
const PROBES: usize = 60;
const VARIANTS: usize = 3;

/// Our number of the pod under test.
const INDEX: u16 = 1;

fn number(name: &str, otherwise: usize) -> usize {
    let text = std::env::var(name).unwrap_or_default();
    if text.is_empty() { otherwise } else { text.parse().unwrap_or_else(|_| panic!("{name}=`{text}` is no number")) }
}

/// A kernel with the tables of one world after another.
struct Bed {
    kernel: Kernel,
    tables: Tables,
    image: Image,
    runner: TestRunner,
    dice: Dice,
    seed: u64,
    packets: usize,
    /// Drops of which there must be a reason.
    drops: u64,
}

impl Bed {
    fn new() -> Self {
        let seed = number("POLDER_SEED", 1) as u64;
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut kernel = Kernel::load();
        let (tables, generation) = (Tables::default(), u32::MAX - 3);
        kernel.perform(&Step::Commit(generation));
        let image = Image::of(&tables, generation);
        let runner = TestRunner::new_with_rng(Config::default(), rng);
        Self { kernel, tables, image, runner, dice: Dice(seed | 1 << 40), seed, packets: 0, drops: 0 }
    }

    fn world(&mut self) -> World {
        world().new_tree(&mut self.runner).unwrap_or_else(|reason| panic!("no world: {reason}")).current()
    }

    /// Leads the kernel to the tables of a world, by the steps of a plan.
    fn install(&mut self, cluster: &Cluster, objects: &[PolicyObject]) {
        let policies = objects.iter().filter_map(|object| Some(Arc::new(lower(object, None).ok()?.policy)));
        let compiler = Compiler::compile(Scope::All, cluster, policies.collect::<Vec<_>>());
        let tables = compiler.tables().clone();
        let steps = plan_between(&self.tables, &tables, self.image.generation()).unwrap();
        for step in &steps {
            self.kernel.perform(step);
            self.image.perform(step);
        }
        if !steps.iter().any(|step| matches!(step, Step::Commit(_))) {
            // Nothing changed: judge again all the same.
            let next = Step::Commit(self.image.generation().wrapping_add(2));
            self.kernel.perform(&next);
            self.image.perform(&next);
        }
        self.tables = tables;
    }

    /// Puts a pod behind the interface that test runs come from. What it may not use by now is in the half not in force.
    fn bind(&mut self, pod: &PodKey, own: &Own) {
        let settled = self.image.endpoint(pod).unwrap_or_else(|| panic!("{pod:?} is no endpoint"));
        let generation = self.image.generation();
        let endpoint = Halves::default().with(generation, settled.at(generation));
        self.kernel.bind(&own.interface(endpoint));
    }

    fn passes(&mut self, hook: Hook, frame: &[u8], mark: Mark) -> bool {
        self.packets += 1;
        let passed = self.kernel.passes(hook, frame, mark.put(0, Mark::DEFAULT_SHIFT));
        self.drops += u64::from(!passed);
        passed
    }

    /// Every drop has a reason: what programs counted is what was dropped.
    fn account(&mut self, world: &World) {
        let (counted, uncounted) = self.kernel.drops();
        assert_eq!((counted, uncounted), (self.drops, 0), "seed {}: drops counted: {world:?}", self.seed);
        self.drops = 0;
    }
}

/// The addresses of a pod, at most one of each family: an interface has no more.
struct Own {
    four: Option<IpAddr>,
    six: Option<IpAddr>,
    /// Whether the cluster's facts say that it has others.
    all: Vec<IpAddr>,
}

impl Own {
    fn of(cluster: &Cluster, pod: &PodKey) -> Self {
        let all = cluster.pods.get(pod).map(|pod| pod.addresses.clone()).unwrap_or_default();
        let first = |four: bool| all.iter().copied().find(|address| address.is_ipv4() == four && !address.is_unspecified());
        Self { four: first(true), six: first(false), all }
    }

    fn in_family_of(&self, peer: IpAddr) -> Option<IpAddr> {
        if peer.is_ipv4() { self.four } else { self.six }
    }

    fn has(&self, address: IpAddr) -> bool {
        self.in_family_of(address) == Some(address)
    }

    fn interface(&self, endpoint: Halves<datapath::abi::Endpoint>) -> Interface {
        let mut interface = Interface { endpoint, number: LOOPBACK, index: INDEX, ..Interface::default() };
        if let Some(IpAddr::V4(address)) = self.four {
            interface.ipv4 = address.octets();
        }
        if let Some(IpAddr::V6(address)) = self.six {
            interface.ipv6 = address.octets();
        }
        interface.mac = MAC;
        interface
    }
}

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 77];

/// The packet that a probe describes, with the pod at its end.
fn datagram(probe: &Packet, own: IpAddr, port: u16) -> Datagram {
    let (from, to) = match probe.direction {
        Direction::Egress => (own, probe.peer),
        Direction::Ingress => (probe.peer, own),
    };
    let mut packet = match probe.protocol {
        Protocol::Transport(Transport::Tcp, number) => tcp((from, port), (to, number), SYN),
        Protocol::Transport(Transport::Udp, number) => udp((from, port), (to, number)),
        Protocol::Transport(Transport::Sctp, number) => sctp((from, port), (to, number)),
        Protocol::Other(1 | 58) => ping(from, to, port),
        Protocol::Other(number) => Datagram::new(from, to, number, vec![0; 32]),
    };
    packet.mac = MAC;
    packet
}

/// Whether a packet that policy allows is one that a hook refuses for what it says.
fn is_refused(packet: &Datagram, probe: &Packet) -> bool {
    let port_zero = matches!(probe.protocol, Protocol::Transport(_, 0));
    let nowhere = |address: IpAddr| address.is_unspecified() || address.is_loopback();
    port_zero || probe.direction == Direction::Egress && nowhere(packet.destination)
}

fn hook(direction: Direction) -> Hook {
    match direction {
        Direction::Ingress => Hook::ToPod,
        Direction::Egress => Hook::FromPod,
    }
}

#[test]
fn every_packet_gets_the_oracles_answer_or_is_dropped_for_a_reason() {
    if !kernel::may_ask() {
        return;
    }
    let wanted = number("POLDER_PACKETS", PACKETS);
    let mut bed = Bed::new();
    let mut allowed = 0;
    while bed.packets < wanted {
        let world = bed.world();
        let objects: Vec<PolicyObject> =
            world.policies.iter().filter(|object| lower(object, None).is_ok()).cloned().collect();
        bed.install(&world.cluster, &objects);
        let mut probes = packets(&world);
        let stride = 1 + probes.len() / PROBES;
        let skip = bed.dice.roll(stride);
        probes = probes.into_iter().skip(skip).step_by(stride).collect();
        for probe in &mut probes {
            // One protocol without ports in each family is not enough: any number that is not refused.
            if let Protocol::Other(number) = &mut probe.protocol {
                let icmp = if probe.peer.is_ipv4() { 1 } else { 58 };
                *number = [icmp, 2, 47, 50, 89, 253][bed.dice.roll(6)];
            }
            allowed += usize::from(judged(&mut bed, &world, &objects, probe));
        }
        bed.account(&world);
    }
    println!("{} packets, {allowed} of the honest ones allowed, seed {}", bed.packets, bed.seed);
    assert!(allowed * 50 > wanted, "only {allowed} packets of {wanted} were allowed: that proves little");
}

/// Sends a probe as it is, and variants of it; whether it was allowed as it is.
fn judged(bed: &mut Bed, world: &World, objects: &[PolicyObject], probe: &Packet) -> bool {
    let own = Own::of(&world.cluster, &probe.pod);
    // An address that is the pod's by the facts, and not at its interface, is not the kernel's to know.
    if own.all.contains(&probe.peer) && !own.has(probe.peer) {
        return false;
    }
    bed.bind(&probe.pod, &own);
    let given = own.in_family_of(probe.peer);
    let placeholder = if probe.peer.is_ipv4() { IpAddr::from([192, 0, 2, 200]) } else { IpAddr::from([0x20; 16]) };
    let packet = datagram(probe, given.unwrap_or(placeholder), 40_000);
    let mark = match probe.direction {
        Direction::Egress => Mark::None,
        Direction::Ingress if own.has(probe.peer) => Mark::From(INDEX),
        Direction::Ingress if probe.from_own_node => Mark::None,
        Direction::Ingress => Mark::Outside,
    };
    let answer = oracle::judge(objects, &world.cluster, probe);
    let spoofed = probe.direction == Direction::Egress && given.is_none();
    let free = is_free(bed, probe);
    let expected = answer == Answer::Allow && !spoofed && (!is_refused(&packet, probe) || free && !is_egress(probe));
    let passed = bed.passes(hook(probe.direction), &packet.bytes(), mark);
    let flows = bed.kernel.forget();
    assert!(passed || flows == 0, "a dropped packet made a flow: {packet:?}");
    assert_eq!(passed, expected, "seed {}: {probe:?} ({answer:?}) {mark:?} as {packet:?} in {world:?}", bed.seed);
    for _ in 0..VARIANTS {
        let frame = variant(&packet, &mut bed.dice);
        let passed = bed.passes(hook(probe.direction), &frame, mark);
        if bed.kernel.forget() != 0 {
            assert!(passed, "a dropped packet made a flow: {frame:02x?}");
        }
        if passed && !free && mark != Mark::From(INDEX) {
            let why = may_pass(&read(&frame), &own, probe, |asked| oracle::judge(objects, &world.cluster, asked));
            assert!(why.is_ok(), "seed {}: {why:?}: {frame:02x?} passed as a variant of {probe:?} in {world:?}", bed.seed);
        }
    }
    expected
}

fn is_egress(probe: &Packet) -> bool {
    probe.direction == Direction::Egress
}

/// Whether no policy speaks about the pod at all: then its packets are not read on their way to it.
fn is_free(bed: &Bed, probe: &Packet) -> bool {
    let endpoint = bed.tables.endpoints.get(&probe.pod).copied().unwrap_or_default();
    Direction::ALL.into_iter().all(|direction| endpoint.rule_set(direction).is_none())
}

/// Whether a frame that passed may have.
fn may_pass(
    frame: &Frame,
    own: &Own,
    probe: &Packet,
    judge: impl Fn(&Packet) -> Answer,
) -> Result<(), String> {
    let packet = match frame {
        Frame::Arp => return Ok(()),
        Frame::Unreadable => return Err("nobody can read it".to_owned()),
        Frame::Ip(Reading { is_of_link: true, .. }) => return Ok(()),
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
    }
}

#[test]
fn a_connection_lives_as_long_as_policy_allows_it() {
    if !kernel::may_ask() {
        return;
    }
    let wanted = number("POLDER_PACKETS", PACKETS) / 8;
    let mut bed = Bed::new();
    let mut cut = 0;
    while bed.packets < wanted {
        let world = bed.world();
        let objects: Vec<PolicyObject> =
            world.policies.iter().filter(|object| lower(object, None).is_ok()).cloned().collect();
        let fewer: Vec<PolicyObject> =
            objects.iter().filter(|_| bed.dice.roll(2) == 0).cloned().collect();
        let is_tcp = |probe: &Packet| matches!(probe.protocol, Protocol::Transport(Transport::Tcp, 1..));
        let probes: Vec<Packet> = packets(&world).into_iter().filter(|probe| is_tcp(probe) && !probe.from_own_node).collect();
        for probe in probes.iter().step_by(1 + probes.len() / 6) {
            for change in [(&fewer, &objects), (&objects, &fewer)] {
                cut += usize::from(lived(&mut bed, &world, change, probe));
            }
        }
        bed.account(&world);
    }
    println!("{} packets, {cut} connections cut by a change, seed {}", bed.packets, bed.seed);
    assert!(cut * 200 > wanted, "only {cut} connections were cut: that proves little");
}

/// A connection under one policy and then another; whether the change cut it.
fn lived(
    bed: &mut Bed,
    world: &World,
    (before, after): (&[PolicyObject], &[PolicyObject]),
    probe: &Packet,
) -> bool {
    let own = Own::of(&world.cluster, &probe.pod);
    let Some(address) = own.in_family_of(probe.peer) else { return false };
    let there = datagram(probe, address, 40_000);
    if own.all.contains(&probe.peer) || is_refused(&there, probe) || probe.peer.is_multicast() || is_broadcast(probe.peer) {
        return false;
    }
    bed.install(&world.cluster, before);
    bed.bind(&probe.pod, &own);
    let Protocol::Transport(_, port) = probe.protocol else { return false };
    let ends = ((there.source, 40_000), (there.destination, port));
    let with = |flags, back: bool| {
        let mut packet = if back { tcp(ends.1, ends.0, flags) } else { tcp(ends.0, ends.1, flags) };
        packet.mac = MAC;
        packet.bytes()
    };
    let (out, back) = (hook(probe.direction), hook(other(probe.direction)));
    let mark = |hook| if hook == Hook::ToPod { Mark::Outside } else { Mark::None };
    let mut at = |bed: &mut Bed, hook, frame: &[u8]| bed.passes(hook, frame, mark(hook));
    let allowed = oracle::judge(before, &world.cluster, probe) == Answer::Allow;
    let opposite = |policies: &[PolicyObject]| {
        // A packet of the other end that begins something: from the port that was asked to the one that asked.
        let protocol = Protocol::Transport(Transport::Tcp, 40_000);
        let asked = Packet { direction: other(probe.direction), protocol, ..probe.clone() };
        oracle::judge(policies, &world.cluster, &asked) == Answer::Allow
    };
    let about = |what: &str| format!("seed {}: {what}: {probe:?} from {before:?} to {after:?} in {world:?}", bed_seed());
    assert_eq!(at(bed, out, &with(SYN, false)), allowed, "{}", about("the first packet"));
    let answered = at(bed, back, &with(SYN | ACK, true));
    assert_eq!(answered, allowed || opposite(before), "{}", about("its answer"));
    if allowed {
        assert!(at(bed, out, &with(ACK, false)), "{}", about("the next packet"));
    }
    bed.install(&world.cluster, after);
    bed.bind(&probe.pod, &own);
    let stays = oracle::judge(after, &world.cluster, probe) == Answer::Allow;
    if allowed {
        let free_before = before_is_free(bed, probe);
        let data = at(bed, back, &with(ACK, true));
        // Nothing remembers a connection that began while no policy spoke about the pod, until its client speaks.
        assert!(data == (stays || opposite(after)) || !data && stays, "{}", about("the peer's data after the change"));
        assert_eq!(at(bed, out, &with(ACK, false)), stays, "{}", about("data after the change"));
        if stays && !free_before {
            assert!(at(bed, back, &with(ACK, true)), "{}", about("the peer's data after that"));
        }
    }
    bed.kernel.forget();
    allowed && !stays
}
