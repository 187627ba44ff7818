//! The real object in this machine's kernel: its maps, and its programs under `BPF_PROG_TEST_RUN`.
//!
//! Nothing is attached or pinned: when this process ends, the kernel forgets programs and maps.

use std::net::IpAddr;
use std::path::PathBuf;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, PerCpuHashMap};
use aya::programs::{ProgramError, SchedClassifier, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use datapath::abi::{Address, Generation, Halves, Identity, PortAtom, RuleKey, RuleRow};
use datapath::event::{Count, CounterKey, Tally};
use datapath::interface::Interface;
use datapath::settings::Settings;
use ipnet::IpNet;
use policy_compiler::plan::Step;
use policy_compiler::tables::address;

use crate::wire::Wire;

/// `TC_ACT_UNSPEC`, `TC_ACT_SHOT` and `TC_ACT_REDIRECT`, as `BPF_PROG_TEST_RUN` reports them.
const PASS: u32 = u32::MAX;
const DROP: u32 = 2;
const REDIRECT: u32 = 7;
/// Where a test run's packets come from unless told otherwise: the loopback device, which every namespace has.
pub(crate) const LOOPBACK: u32 = 1;

/// A hook of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    FromPod,
    ToPod,
}

/// The object, loaded.
pub(crate) struct Kernel {
    ebpf: Ebpf,
    generation: Array<MapData, Generation>,
    slots: Array<MapData, Wire<Interface>>,
    numbers: Array<MapData, u32>,
    addresses4: HashMap<MapData, [u8; 4], Wire<Halves<Identity>>>,
    addresses6: HashMap<MapData, [u8; 16], Wire<Halves<Identity>>>,
    prefixes4: LpmTrie<MapData, [u8; 4], Wire<Halves<Identity>>>,
    prefixes6: LpmTrie<MapData, [u8; 16], Wire<Halves<Identity>>>,
    ports: Array<MapData, Wire<Halves<PortAtom>>>,
    /// What was written into `ports`: most of it stays from world to world.
    written: Vec<Halves<PortAtom>>,
    rules: HashMap<MapData, Wire<RuleKey>, Wire<RuleRow>>,
    flows4: HashMap<MapData, [u8; 16], [u8; 32]>,
    flows6: HashMap<MapData, [u8; 40], [u8; 32]>,
    fragments4: HashMap<MapData, [u8; 16], [u8; 16]>,
    fragments6: HashMap<MapData, [u8; 40], [u8; 16]>,
    shares: Array<MapData, u64>,
    counters: PerCpuHashMap<MapData, Wire<CounterKey>, Wire<Count>>,
    tallies: PerCpuArray<MapData, u64>,
}

/// Where the object is: where the environment says, or where `cargo xtask bpf` leaves it.
pub(crate) fn object() -> PathBuf {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bpf/bpfel-unknown-none/release/polder");
    let path = std::env::var_os("POLDER_BPF_OBJECT").map_or_else(|| PathBuf::from(built), PathBuf::from);
    assert!(path.is_file(), "there is no BPF object at {}: build it with `cargo xtask bpf`", path.display());
    path
}

/// Whether this process may ask the kernel. Says so loudly if it may not, and fails if nothing may be skipped.
pub(crate) fn may_ask() -> bool {
    use std::os::unix::fs::MetadataExt;
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !is_root {
        let strict = std::env::var("POLDER_STRICT").is_ok_and(|value| value == "1");
        assert!(!strict, "POLDER_STRICT=1, and the kernel cannot be asked: loading programs needs root");
        eprintln!("SKIPPED: the kernel was not asked, as loading programs needs root");
    }
    is_root
}

fn taken<M: TryFrom<Map>>(ebpf: &mut Ebpf, name: &str) -> M
where
    M::Error: std::fmt::Debug,
{
    let map = ebpf.take_map(name).unwrap_or_else(|| panic!("the object has no map `{name}`"));
    M::try_from(map).unwrap_or_else(|error| panic!("map `{name}` is of another kind: {error:?}"))
}

impl Kernel {
    /// Loads the object and both programs of a pod's interface.
    pub(crate) fn load() -> Self {
        let mut loader = EbpfLoader::new();
        for name in ["addresses4", "addresses6", "prefixes4", "prefixes6", "flows4", "flows6", "services"] {
            loader.map_max_entries(name, 4096);
        }
        loader.map_max_entries("fragments4", 256).map_max_entries("fragments6", 256);
        let mut ebpf = loader.load_file(object()).unwrap_or_else(|error| panic!("cannot load: {error:?}"));
        for hook in [Hook::FromPod, Hook::ToPod] {
            let program: &mut SchedClassifier = ebpf.program_mut(hook.program()).unwrap().try_into().unwrap();
            program.load().unwrap_or_else(|error| panic!("the verifier refuses {}: {error}", hook.program()));
        }
        let mut settings: Array<_, Wire<Settings>> = taken(&mut ebpf, "settings");
        let mut chosen = Settings::new(250);
        // Nobody reads the events, and no test waits for the share of another one.
        (chosen.events, chosen.flow_share) = (0, u32::MAX);
        settings.set(0, Wire(chosen), 0).unwrap();
        Self {
            generation: taken(&mut ebpf, "generation"),
            slots: taken(&mut ebpf, "slots"),
            numbers: taken(&mut ebpf, "numbers"),
            addresses4: taken(&mut ebpf, "addresses4"),
            addresses6: taken(&mut ebpf, "addresses6"),
            prefixes4: taken(&mut ebpf, "prefixes4"),
            prefixes6: taken(&mut ebpf, "prefixes6"),
            ports: taken(&mut ebpf, "ports"),
            written: vec![Halves::default(); 3 << 16],
            rules: taken(&mut ebpf, "rules"),
            flows4: taken(&mut ebpf, "flows4"),
            flows6: taken(&mut ebpf, "flows6"),
            fragments4: taken(&mut ebpf, "fragments4"),
            fragments6: taken(&mut ebpf, "fragments6"),
            shares: taken(&mut ebpf, "shares"),
            counters: taken(&mut ebpf, "counters"),
            tallies: taken(&mut ebpf, "tallies"),
            ebpf,
        }
    }

    /// Makes a pod known.
    pub(crate) fn bind(&mut self, interface: &Interface) {
        self.slots.set(Interface::slot(interface.number), Wire(*interface), 0).unwrap();
        self.numbers.set(u32::from(interface.index), interface.number, 0).unwrap();
    }

    /// Performs a step, but for endpoints: those are part of an interface.
    pub(crate) fn perform(&mut self, step: &Step) {
        match step {
            Step::AddRule(key, row) => self.rules.insert(Wire(*key), Wire(*row), 0).unwrap(),
            Step::RemoveRule(key) => self.rules.remove(&Wire(*key)).unwrap(),
            Step::SetEndpoint(..) | Step::RemoveEndpoint(_) | Step::Quiesce => {}
            Step::SetAddress(of, halves) => self.set_address(*of, *halves),
            Step::RemoveAddress(of) => match address(*of) {
                Address::V4(bytes) => self.addresses4.remove(&bytes).unwrap(),
                Address::V6(bytes) => self.addresses6.remove(&bytes).unwrap(),
            },
            Step::SetPrefix(prefix, halves) => {
                let length = u32::from(prefix.prefix_len());
                match address(prefix.network()) {
                    Address::V4(bytes) => {
                        self.prefixes4.insert(&Key::new(length, bytes), Wire(*halves), 0).unwrap();
                    }
                    Address::V6(bytes) => {
                        self.prefixes6.insert(&Key::new(length, bytes), Wire(*halves), 0).unwrap();
                    }
                }
            }
            Step::RemovePrefix(prefix) => self.remove_prefix(prefix),
            Step::Ports { transport, first, last, atom } => {
                for index in transport.port_index(*first)..=transport.port_index(*last) {
                    let there = &mut self.written[index as usize];
                    if there != atom {
                        *there = *atom;
                        self.ports.set(index, Wire(*atom), 0).unwrap();
                    }
                }
            }
            Step::Commit(generation) => self.generation.set(0, generation, 0).unwrap(),
        }
    }

    fn set_address(&mut self, of: IpAddr, halves: Halves<Identity>) {
        match address(of) {
            Address::V4(bytes) => self.addresses4.insert(bytes, Wire(halves), 0).unwrap(),
            Address::V6(bytes) => self.addresses6.insert(bytes, Wire(halves), 0).unwrap(),
        }
    }

    fn remove_prefix(&mut self, prefix: &IpNet) {
        let length = u32::from(prefix.prefix_len());
        match address(prefix.network()) {
            Address::V4(bytes) => self.prefixes4.remove(&Key::new(length, bytes)).unwrap(),
            Address::V6(bytes) => self.prefixes6.remove(&Key::new(length, bytes)).unwrap(),
        }
    }

    /// Sends a frame past a hook, with a mark; whether it passed. (A test run's packets always have a socket.)
    ///
    /// `None` if the kernel does not make a packet of it: newer ones want the whole fixed header of IP to be there.
    pub(crate) fn passes(&self, hook: Hook, frame: &[u8], mark: u32) -> Option<bool> {
        /// Bad argument.
        const EINVAL: i32 = 22;
        // The first fields of `struct __sk_buff`: the mark is the third, the interface the eleventh.
        let mut context = [0_u8; 44];
        context[8..12].copy_from_slice(&mark.to_ne_bytes());
        context[40..44].copy_from_slice(&LOOPBACK.to_ne_bytes());
        let program: &SchedClassifier = self.ebpf.program(hook.program()).unwrap().try_into().unwrap();
        let options =
            TestRunOptions { data_in: Some(frame), ctx_in: Some(&context), ..TestRunOptions::new() };
        let result = match program.test_run(options) {
            Ok(result) => result,
            Err(ProgramError::SyscallError(error))
                if frame.len() < 54 && error.io_error.raw_os_error() == Some(EINVAL) =>
            {
                return None;
            }
            Err(error) => panic!("the kernel does not run {frame:02x?}: {error:?}"),
        };
        match result.return_value {
            PASS => Some(true),
            // As there is no proxy, all that is redirected is the answer to a packet that was rejected.
            DROP | REDIRECT => Some(false),
            other => panic!("{hook:?} returns {other} for {frame:02x?}"),
        }
    }

    /// Forgets all flows and fragments; how many flows there were.
    pub(crate) fn forget(&mut self) -> usize {
        fn clear<K: aya::Pod, V: aya::Pod>(map: &mut HashMap<MapData, K, V>) -> usize {
            let keys: Vec<K> = map.keys().collect::<Result<_, _>>().unwrap();
            for key in &keys {
                map.remove(key).unwrap();
            }
            keys.len()
        }
        clear(&mut self.fragments4);
        clear(&mut self.fragments6);
        let flows = clear(&mut self.flows4) + clear(&mut self.flows6);
        if flows > 0 {
            for index in 0..8 {
                self.shares.set(index, 0, 0).unwrap();
            }
        }
        flows
    }

    /// How many packets were dropped with a reason since the last time, and how many went uncounted.
    pub(crate) fn drops(&mut self) -> (u64, u64) {
        let keys: Vec<Wire<CounterKey>> = self.counters.keys().collect::<Result<_, _>>().unwrap();
        let mut drops = 0;
        for key in keys {
            let counts = self.counters.get(&key, 0).unwrap();
            let known = key.0.cause.name();
            assert!(known.is_some(), "a reason that nobody knows: {:?}", key.0);
            if key.0.cause.is_drop() {
                drops += counts.iter().map(|count| count.0.packets).sum::<u64>();
            }
            self.counters.remove(&key).unwrap();
        }
        let uncounted = self.tallies.get(&(Tally::Uncounted as u32), 0).unwrap().iter().sum();
        (drops, uncounted)
    }
}

impl Hook {
    const fn program(self) -> &'static str {
        match self {
            Self::FromPod => "polder_from_pod",
            Self::ToPod => "polder_to_pod",
        }
    }
}
