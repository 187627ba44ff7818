//! Maps as the agent pins them, on a bpffs of the test's own.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aya::Pod;
use aya::maps::{Array, HashMap, LpmTrie, MapData};
use datapath::abi::{
    ABI_VERSION, Anchors, Endpoint, Generation, Halves, Identity, PortAtom, PortKey, RuleKey, RuleRow,
    RuleSetId, Slot,
};
use datapath::family::{Ipv4, Ipv6};
use datapath::flow::{End, Flow, FlowKey};
use datapath::hook::{ServiceKey, ServiceRow};
use datapath::interface::Interface;
use datapath::verdict::{Action, Tier};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use policy_compiler::asks::{Asks, HttpMatch, PathPattern};
use policy_compiler::list::{Conditional, List};

/// The interface of the client's pod, whose policy speaks.
pub(crate) const POD: u32 = 4107;
/// Allows GET below `/public`.
const SELECTIVE: RuleSetId = RuleSetId::new(0x1a2b_3c4d);
/// Allows nothing.
const CLOSED: RuleSetId = RuleSetId::new(0x5e6f);
const LIST: u32 = 0x77;

/// Bytes of a type of the datapath.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Bytes<T>(T);

// SAFETY: keys and values of maps are `repr(C)` without padding, and any bytes are a value of them.
unsafe impl<T: Copy + 'static> Pod for Bytes<T> {}

type Identities = Bytes<Halves<Identity>>;

/// `BPF_F_NO_PREALLOC`
const NO_PREALLOC: u32 = 1;
/// `BPF_F_MMAPABLE`
const MAPPABLE: u32 = 1 << 10;

/// A set of maps.
struct Set {
    generation: Array<MapData, u32>,
    interfaces: HashMap<MapData, u32, Bytes<Interface>>,
    rules: HashMap<MapData, Bytes<RuleKey>, Bytes<RuleRow>>,
    flows4: HashMap<MapData, Bytes<FlowKey<Ipv4>>, Bytes<Flow>>,
    flows6: HashMap<MapData, Bytes<FlowKey<Ipv6>>, Bytes<Flow>>,
}

/// What the agent would have pinned, and its lists.
pub(crate) struct Pinned {
    folder: tempfile::TempDir,
    set: Set,
}

impl Pinned {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bpffs = folder.path().join("bpf");
        fs::create_dir(&bpffs).unwrap();
        mount(Some("bpf"), &bpffs, Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        fs::create_dir(folder.path().join("lists")).unwrap();
        let list = folder.path().join(format!("lists/{:012x}-{LIST:08x}", SELECTIVE.get()));
        fs::write(list, list_bytes()).unwrap();
        let set = Set::pin(&bpffs, 1, MAPPABLE);
        let mut state = Array::<MapData, [u64; 3]>::create(1, 0).unwrap();
        state.set(0, state_of(1), 0).unwrap();
        state.pin(bpffs.join("abi")).unwrap();
        Pinned { folder, set }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn bpffs(&self) -> PathBuf {
        self.path().join("bpf")
    }

    /// The kernel has seen a connection of the pod begin.
    pub(crate) fn begin(&mut self, client: SocketAddr, server: SocketAddr) {
        let end = End { interface: POD, judged: 0 };
        match (client.ip(), server.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let end_of = |ip: std::net::Ipv4Addr| Ipv4(u32::from_ne_bytes(ip.octets()));
                let (key, side) = FlowKey::new(6, (end_of(from), client.port()), (end_of(to), server.port()));
                let flow = Flow::begun_by(side).judged(side, end, 1);
                self.set.flows4.insert(Bytes(key), Bytes(flow), 0).unwrap();
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let end_of = |ip: std::net::Ipv6Addr| Ipv6::from_bytes(&ip.octets());
                let (key, side) = FlowKey::new(6, (end_of(from), client.port()), (end_of(to), server.port()));
                let flow = Flow::begun_by(side).judged(side, end, 1);
                self.set.flows6.insert(Bytes(key), Bytes(flow), 0).unwrap();
            }
            _ => panic!("both are of one family"),
        }
    }

    /// The next generation is in force: with the rules of before, or with none that allow anything.
    pub(crate) fn turn(&mut self) {
        let next = self.set.generation.get(&0, 0).unwrap() + 1;
        self.set.generation.set(0, next, 0).unwrap();
    }

    /// Pins another set of maps with the same content, and says that it is in use. Its generation is not made for mapping, as an
    /// agent of before would have it.
    pub(crate) fn replace(&mut self) {
        self.set = Set::pin(&self.bpffs(), 2, 0);
        let state = MapData::from_pin(self.bpffs().join("abi")).unwrap();
        let mut state = Array::<MapData, [u64; 3]>::try_from(aya::maps::Map::Array(state)).unwrap();
        state.set(0, state_of(2), 0).unwrap();
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        umount2(&self.bpffs(), MntFlags::MNT_DETACH).unwrap();
    }
}

impl Set {
    fn pin(bpffs: &Path, layout: u64, flags_of_generation: u32) -> Self {
        let folder = bpffs.join(format!("v{ABI_VERSION}-{layout:016x}"));
        fs::create_dir(&folder).unwrap();
        let at = |name: &str| folder.join(name);
        Array::<MapData, Bytes<Interface>>::create(Interface::SLOTS, 0).unwrap().pin(at("slots")).unwrap();
        HashMap::<MapData, [u8; 4], u32>::create(16, 0).unwrap().pin(at("locals4")).unwrap();
        HashMap::<MapData, [u8; 16], u32>::create(16, 0).unwrap().pin(at("locals6")).unwrap();
        HashMap::<MapData, Bytes<ServiceKey>, Bytes<ServiceRow>>::create(16, 0)
            .unwrap()
            .pin(at("services"))
            .unwrap();
        HashMap::<MapData, [u8; 4], Identities>::create(16, 0).unwrap().pin(at("addresses4")).unwrap();
        HashMap::<MapData, [u8; 16], Identities>::create(16, 0).unwrap().pin(at("addresses6")).unwrap();
        LpmTrie::<MapData, [u8; 4], Identities>::create(16, NO_PREALLOC)
            .unwrap()
            .pin(at("prefixes4"))
            .unwrap();
        LpmTrie::<MapData, [u8; 16], Identities>::create(16, NO_PREALLOC)
            .unwrap()
            .pin(at("prefixes6"))
            .unwrap();
        Array::<MapData, Bytes<Halves<PortAtom>>>::create(3 << 16, 0).unwrap().pin(at("ports")).unwrap();
        let mut set = Set {
            generation: pinned(
                Array::<MapData, Generation>::create(1, flags_of_generation).unwrap(),
                at("generation"),
                Array::pin,
            ),
            interfaces: pinned(HashMap::create(16, 0).unwrap(), at("interfaces"), HashMap::pin),
            rules: pinned(HashMap::create(16, 0).unwrap(), at("rules"), HashMap::pin),
            flows4: pinned(HashMap::create(1024, 0).unwrap(), at("flows4"), HashMap::pin),
            flows6: pinned(HashMap::create(1024, 0).unwrap(), at("flows6"), HashMap::pin),
        };
        set.fill();
        set
    }

    fn fill(&mut self) {
        let endpoint = Halves::settled(Endpoint::new(RuleSetId::NONE, SELECTIVE));
        let endpoint = endpoint.with(1, Endpoint::new(RuleSetId::NONE, CLOSED));
        let row = Interface { number: POD, endpoint, ..Interface::default() };
        self.interfaces.insert(POD, Bytes(row), 0).unwrap();
        let mut row = RuleRow::EMPTY;
        row.offer(Tier::Namespace, Slot::new(9, Action::Deny).unwrap());
        let row = row.anchoring(Anchors { ports: false, peers: false });
        let asking = [Slot::EMPTY, Slot::asking(0).unwrap(), Slot::EMPTY];
        let key = |rule_set| Bytes(RuleKey::new(rule_set, Identity::NONE, PortKey::All));
        self.rules.insert(key(SELECTIVE), Bytes(row.with_list(LIST, asking)), 0).unwrap();
        self.rules.insert(key(CLOSED), Bytes(row), 0).unwrap();
    }
}

fn state_of(layout: u64) -> [u64; 3] {
    [u64::from(ABI_VERSION), layout, 0]
}

/// Whoever pins a map gives it away, so it is opened again.
fn pinned<M, E: std::fmt::Debug>(map: M, path: PathBuf, pin: impl FnOnce(M, PathBuf) -> Result<(), E>) -> M
where
    M: TryFrom<aya::maps::Map>,
    M::Error: std::fmt::Debug,
{
    pin(map, path.clone()).unwrap();
    let map = aya::maps::Map::from_map_data(MapData::from_pin(path).unwrap()).unwrap();
    M::try_from(map).unwrap()
}

/// GET below `/public`.
fn list_bytes() -> Vec<u8> {
    let http = HttpMatch {
        at: "".into(),
        http2: false,
        methods: vec!["GET".into()],
        hosts: Vec::new(),
        path: Some(PathPattern::Prefix("/public".into())),
        headers: Vec::new(),
    };
    let asks = Arc::new(Asks::Http(vec![http]));
    let rule = Conditional { tier: Tier::Namespace, rank: 0, action: Action::Allow, asks };
    List::new(vec![rule]).bytes().to_vec()
}
