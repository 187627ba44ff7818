//! A kernel that holds the tables of one world after another, and a pod behind its loopback device.

use std::net::IpAddr;
use std::sync::Arc;

use datapath::abi::{Direction, Endpoint, Halves, Transport};
use datapath::interface::Interface;
use datapath::lookup::Maps;
use datapath::mark::Mark;
use policy_compiler::api::PolicyObject;
use policy_compiler::compiler::{Compiler, Scope};
use policy_compiler::facts::Cluster;
use policy_compiler::image::Image;
use policy_compiler::lower::lower;
use policy_compiler::object::PodKey;
use policy_compiler::oracle::{Packet, Protocol};
use policy_compiler::plan::{Step, plan_between};
use policy_compiler::tables::Tables;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tests::world::{World, world};

use crate::frames::{Datagram, SYN, ping, sctp, tcp, udp};
use crate::kernel::{Hook, Kernel, LOOPBACK};
use crate::mutation::Dice;

/// Our number of the pod under test.
pub(crate) const INDEX: u16 = 1;

pub(crate) fn number(name: &str, otherwise: usize) -> usize {
    let text = std::env::var(name).unwrap_or_default();
    if text.is_empty() {
        otherwise
    } else {
        text.parse().unwrap_or_else(|_| panic!("{name}=`{text}` is no number"))
    }
}

/// A kernel with the tables of one world after another.
pub(crate) struct Bed {
    pub(crate) kernel: Kernel,
    pub(crate) tables: Tables,
    pub(crate) image: Image,
    pub(crate) runner: TestRunner,
    pub(crate) dice: Dice,
    pub(crate) seed: u64,
    pub(crate) packets: usize,
    /// Variants that passed a pod's policy, and were found to deserve it.
    pub(crate) deserved: usize,
    /// Drops of which there must be a reason.
    pub(crate) drops: u64,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let seed = number("POLDER_SEED", 1) as u64;
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut kernel = Kernel::load();
        let (tables, generation) = (Tables::default(), u32::MAX - 3);
        kernel.perform(&Step::Commit(generation));
        let image = Image::of(&tables, generation);
        let runner = TestRunner::new_with_rng(Config::default(), rng);
        Self {
            kernel,
            tables,
            image,
            runner,
            dice: Dice(seed | 1 << 40),
            seed,
            packets: 0,
            deserved: 0,
            drops: 0,
        }
    }

    pub(crate) fn world(&mut self) -> World {
        world().new_tree(&mut self.runner).unwrap_or_else(|reason| panic!("no world: {reason}")).current()
    }

    /// Leads the kernel to the tables of a world, by the steps of a plan.
    pub(crate) fn install(&mut self, cluster: &Cluster, objects: &[PolicyObject]) {
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
    pub(crate) fn bind(&mut self, pod: &PodKey, own: &Own) {
        let settled = self.image.endpoint(pod).unwrap_or_else(|| panic!("{pod:?} is no endpoint"));
        let generation = self.image.generation();
        let endpoint = Halves::default().with(generation, settled.at(generation));
        self.kernel.bind(&own.interface(endpoint));
    }

    pub(crate) fn passes(&mut self, hook: Hook, frame: &[u8], mark: Mark) -> bool {
        let Some(passed) = self.kernel.passes(hook, frame, mark.put(0, Mark::DEFAULT_SHIFT)) else {
            return false;
        };
        self.packets += 1;
        self.drops += u64::from(!passed);
        passed
    }

    /// Every drop has a reason: what programs counted is what was dropped.
    pub(crate) fn account(&mut self, world: &World) {
        let (counted, uncounted) = self.kernel.drops();
        assert_eq!((counted, uncounted), (self.drops, 0), "seed {}: drops counted: {world:?}", self.seed);
        self.drops = 0;
    }
}

/// The addresses of a pod, at most one of each family: an interface has no more.
pub(crate) struct Own {
    pub(crate) four: Option<IpAddr>,
    pub(crate) six: Option<IpAddr>,
    /// Whether the cluster's facts say that it has others.
    pub(crate) all: Vec<IpAddr>,
}

impl Own {
    pub(crate) fn of(cluster: &Cluster, pod: &PodKey) -> Self {
        let all = cluster.pods.get(pod).map(|pod| pod.addresses.clone()).unwrap_or_default();
        let first = |four: bool| {
            all.iter().copied().find(|address| address.is_ipv4() == four && !address.is_unspecified())
        };
        Self { four: first(true), six: first(false), all }
    }

    pub(crate) fn in_family_of(&self, peer: IpAddr) -> Option<IpAddr> {
        if peer.is_ipv4() { self.four } else { self.six }
    }

    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.in_family_of(address) == Some(address)
    }

    pub(crate) fn interface(&self, endpoint: Halves<Endpoint>) -> Interface {
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

pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 77];

/// The packet that a probe describes, with the pod at its end.
pub(crate) fn datagram(probe: &Packet, own: IpAddr, port: u16) -> Datagram {
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
pub(crate) fn is_refused(packet: &Datagram, probe: &Packet) -> bool {
    let port_zero = matches!(probe.protocol, Protocol::Transport(_, 0));
    let nowhere = |address: IpAddr| address.is_unspecified() || address.is_loopback();
    port_zero || probe.direction == Direction::Egress && nowhere(packet.destination)
}

pub(crate) fn hook(direction: Direction) -> Hook {
    match direction {
        Direction::Ingress => Hook::ToPod,
        Direction::Egress => Hook::FromPod,
    }
}

/// Whether no policy speaks about the pod at all: then its packets are not read on their way to it.
pub(crate) fn is_free(bed: &Bed, probe: &Packet) -> bool {
    let endpoint = bed.tables.endpoints.get(&probe.pod).copied().unwrap_or_default();
    Direction::ALL.into_iter().all(|direction| endpoint.rule_set(direction).is_none())
}

/// The mark of a packet that comes from outside, or from a pod that was not met yet.
pub(crate) fn mark_outside(hook: Hook) -> Mark {
    match hook {
        Hook::ToPod => Mark::Outside,
        Hook::FromPod => Mark::None,
    }
}

/// The port that clients use.
pub(crate) const CLIENT: u16 = 40_000;
