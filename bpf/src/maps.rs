//! The maps. Sizes are defaults: the agent may ask for others.

use core::marker::PhantomData;

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf};
use aya_ebpf::macros::btf_map;
use datapath::abi::{
    Address, Endpoint, Generation, Halves, Identity, PortAtom, Prefix4, Prefix6, RuleKey, RuleRow,
};
use datapath::detour::Detour;
use datapath::event::{Count, CounterKey, Event, Tally};
use datapath::family::{Family, Ipv4, Ipv6};
use datapath::flow::{Flow, FlowKey, Fragment, FragmentKey};
use datapath::hook::{Bench, ServiceKey, ServiceRow, Work};
use datapath::interface::Interface;
use datapath::lookup::Maps;
use datapath::settings::Settings;

/// One entry for every port of every protocol that has ports.
const PORTS_EACH: usize = 3 << 16;
/// Tables that grow with the cluster, and that only user space writes to, take memory as they fill.
const NO_PREALLOC: usize = aya_ebpf::bindings::BPF_F_NO_PREALLOC as usize;
/// User space may map the values into its memory (Linux 5.5).
const MAPPABLE: usize = aya_ebpf::bindings::BPF_F_MMAPABLE as usize;

/// The proxy looks at it twice a request: a system call each would be a tenth of what it does.
#[btf_map(name = "generation")]
static GENERATION: Array<Generation, 1, MAPPABLE> = Array::new();

#[btf_map(name = "settings")]
static SETTINGS: Array<Settings, 1> = Array::new();

/// Interfaces by number modulo the number of slots: an array costs a tenth of a hash table.
#[btf_map(name = "slots")]
static SLOTS: Array<Interface, { Interface::SLOTS as usize }> = Array::new();

/// Interfaces whose slot is another one's.
#[btf_map(name = "interfaces")]
static INTERFACES: HashMap<u32, Interface, 4096> = HashMap::new();

/// Interface by our own number of it.
#[btf_map(name = "numbers")]
static NUMBERS: Array<u32, 4096> = Array::new();

#[btf_map(name = "addresses4")]
static ADDRESSES4: HashMap<[u8; 4], Halves<Identity>, { 1 << 17 }, NO_PREALLOC> = HashMap::new();

#[btf_map(name = "addresses6")]
static ADDRESSES6: HashMap<[u8; 16], Halves<Identity>, { 1 << 17 }, NO_PREALLOC> = HashMap::new();

#[btf_map(name = "prefixes4")]
static PREFIXES4: LpmTrie<[u8; 4], WordAligned<Halves<Identity>>, { 1 << 16 }> = LpmTrie::new();

#[btf_map(name = "prefixes6")]
static PREFIXES6: LpmTrie<[u8; 16], Halves<Identity>, { 1 << 16 }> = LpmTrie::new();

#[btf_map(name = "ports")]
static PORTS: Array<Halves<PortAtom>, PORTS_EACH> = Array::new();

#[btf_map(name = "rules")]
static RULES: HashMap<RuleKey, RuleRow, { 1 << 18 }, NO_PREALLOC> = HashMap::new();

#[btf_map(name = "locals4")]
static LOCALS4: HashMap<[u8; 4], u32, 4096> = HashMap::new();

#[btf_map(name = "locals6")]
static LOCALS6: HashMap<[u8; 16], u32, 4096> = HashMap::new();

#[btf_map(name = "nodes4")]
static NODES4: HashMap<[u8; 4], u8, { 1 << 15 }, NO_PREALLOC> = HashMap::new();

#[btf_map(name = "nodes6")]
static NODES6: HashMap<[u8; 16], u8, { 1 << 15 }, NO_PREALLOC> = HashMap::new();

#[btf_map(name = "services")]
pub static SERVICES: HashMap<ServiceKey, ServiceRow, { 1 << 16 }, NO_PREALLOC> = HashMap::new();

/// Preallocated: to allocate an entry costs a new flow as much as to judge it. (Some 25 MB, and 30 MB for IPv6.)
#[btf_map(name = "flows4")]
static FLOWS4: HashMap<FlowKey<Ipv4>, Flow, { 1 << 18 }> = HashMap::new();

#[btf_map(name = "flows6")]
static FLOWS6: HashMap<FlowKey<Ipv6>, Flow, { 1 << 18 }> = HashMap::new();

/// How many flows each endpoint tracks, by our own number of it.
#[btf_map(name = "shares")]
pub static SHARES: Array<u64, 4096> = Array::new();

#[btf_map(name = "fragments4")]
static FRAGMENTS4: LruHashMap<FragmentKey<Ipv4>, Fragment, 8192> = LruHashMap::new();

#[btf_map(name = "fragments6")]
static FRAGMENTS6: LruHashMap<FragmentKey<Ipv6>, Fragment, 8192> = LruHashMap::new();

/// Where flows go by the proxy. Few do, so memory is taken as they come.
#[btf_map(name = "detours4")]
static DETOURS4: HashMap<FlowKey<Ipv4>, Detour, { 1 << 18 }, NO_PREALLOC> = HashMap::new();

#[btf_map(name = "detours6")]
static DETOURS6: HashMap<FlowKey<Ipv6>, Detour, { 1 << 18 }, NO_PREALLOC> = HashMap::new();

/// When a packet last went by the proxy, in ticks, by our own number of the endpoint.
#[btf_map(name = "detoured")]
pub static DETOURED: Array<u32, 4096> = Array::new();

#[btf_map(name = "counters")]
pub static COUNTERS: PerCpuHashMap<CounterKey, Count, { 1 << 16 }, NO_PREALLOC> = PerCpuHashMap::new();

#[btf_map(name = "tallies")]
pub static TALLIES: PerCpuArray<u64, { Tally::COUNT }> = PerCpuArray::new();

#[btf_map(name = "events")]
pub static EVENTS: RingBuf<Event, { 1 << 20 }> = RingBuf::new();

/// What was reported lately, by a hash of it.
#[btf_map(name = "recent")]
pub static RECENT: PerCpuArray<Recent, { Recent::SLOTS }> = PerCpuArray::new();

/// How much of each limit is used up in the present second.
#[btf_map(name = "limits")]
pub static LIMITS: PerCpuArray<Used, 2> = PerCpuArray::new();

/// Where packets are looked at in full.
#[btf_map(name = "work4")]
static WORK4: PerCpuArray<Work<Ipv4>, 1> = PerCpuArray::new();

#[btf_map(name = "work6")]
static WORK6: PerCpuArray<Work<Ipv6>, 1> = PerCpuArray::new();

/// This CPU's place to look at packets in full.
pub struct ThisCpu;

impl Bench for ThisCpu {
    #[inline(always)]
    fn four(&mut self) -> Option<&mut Work<Ipv4>> {
        Ipv4::work()
    }

    #[inline(always)]
    fn six(&mut self) -> Option<&mut Work<Ipv6>> {
        Ipv6::work()
    }
}

/// Something that was reported lately.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Recent {
    /// A hash of it.
    pub hash: u32,
    /// When it was reported, in ticks.
    pub reported: u32,
    /// How many packets came since then.
    pub packets: u32,
}

impl Recent {
    /// How many are remembered.
    pub const SLOTS: usize = 1024;
}

/// How much of a limit is used up.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Used {
    /// When the present second began, in ticks.
    pub began: u32,
    /// How much was used in it.
    pub used: u32,
}

/// A value with the alignment of a 32-bit word, and otherwise the same bytes.
///
/// A prefix trie stores its value right behind the address (`trie_lookup_elem` returns `data + data_size`), so behind
/// four bytes of IPv4 a value of 64-bit numbers is not aligned.
#[derive(Clone, Copy)]
#[repr(C, packed(4))]
pub struct WordAligned<T>(T);

const _: () = {
    assert!(size_of::<WordAligned<Halves<Identity>>>() == size_of::<Halves<Identity>>());
    // What user space writes as keys is what `datapath` calls a prefix.
    assert!(size_of::<Key<[u8; 4]>>() == size_of::<Prefix4>());
    assert!(size_of::<Key<[u8; 16]>>() == size_of::<Prefix6>());
};

/// What the agent said. Before it said anything, programs drop all they see: no interface is known.
#[inline(always)]
pub fn settings() -> &'static Settings {
    static NOTHING_SAID: Settings = Settings::new(0);
    SETTINGS.get(0).unwrap_or(&NOTHING_SAID)
}

/// An interface of a pod.
#[inline(always)]
pub fn interface(number: u32) -> Option<&'static Interface> {
    if let Some(row) = SLOTS.get(Interface::slot(number))
        && row.number == number
        && number != 0
    {
        return Some(row);
    }
    // SAFETY: another CPU may change the entry while it is read. Every bit pattern is a valid value, and the half that is
    // in force is not written to; an entry that is removed is of an interface that is gone.
    unsafe { INTERFACES.get(number) }
}

/// The interface with this number of ours, 0 if there is none.
#[inline(always)]
pub fn number(index: u16) -> u32 {
    NUMBERS.get(u32::from(index)).copied().unwrap_or(0)
}

/// An address family, as far as the maps differ by it.
pub trait Stored: Family + 'static {
    /// How many bytes an address has.
    type Bytes;
    /// See [`Maps::address`].
    fn exact(address: Address) -> Option<Halves<Identity>>;
    /// See [`Maps::prefix`].
    fn prefix(address: Address) -> Option<Halves<Identity>>;
    /// The interface of a local pod's address.
    fn local(self) -> u32;
    /// Whether this is an address of a node.
    fn is_node(self) -> bool;
    /// From the bytes in a service row.
    fn from_row(bytes: &[u8; 16]) -> Self;
    /// The flow of a key.
    fn flow(key: &FlowKey<Self>) -> Option<*mut Flow>;
    /// Writes a flow.
    fn put_flow(key: &FlowKey<Self>, flow: &Flow, flags: u64) -> bool;
    /// Where a flow goes by the proxy.
    fn detour(key: &FlowKey<Self>) -> Option<Detour>;
    /// Sets it.
    fn put_detour(key: &FlowKey<Self>, detour: &Detour) -> bool;
    /// A first fragment.
    fn fragment(key: &FragmentKey<Self>) -> Option<Fragment>;
    /// Remembers a first fragment.
    fn put_fragment(key: &FragmentKey<Self>, fragment: &Fragment);
    /// This CPU's place to look at a packet in full.
    fn work() -> Option<&'static mut Work<Self>>;
}

/// Both families differ by maps and by the number of bytes; the rest is one text.
macro_rules! stored {
    ($family:ident, $bytes:ty, $variant:ident, $addresses:ident, $prefixes:ident, $unwrap:expr, $bits:literal,
     $locals:ident, $nodes:ident, $flows:ident, $detours:ident, $fragments:ident, $work:ident, $from_row:expr) => {
        impl Stored for $family {
            type Bytes = $bytes;

            #[inline(always)]
            fn exact(address: Address) -> Option<Halves<Identity>> {
                match address {
                    // SAFETY: the value is copied before anything else is done with the map. Another CPU may still
                    // remove the entry and reuse its memory meanwhile: the copy is then torn, but every bit pattern is
                    // a valid value.
                    Address::$variant(bytes) => unsafe { $addresses.get(bytes) }.copied(),
                    _ => None,
                }
            }

            #[inline(always)]
            fn prefix(address: Address) -> Option<Halves<Identity>> {
                match address {
                    Address::$variant(bytes) => $prefixes.get(&Key::new($bits, bytes)).map($unwrap),
                    _ => None,
                }
            }

            #[inline(always)]
            fn local(self) -> u32 {
                match self.address() {
                    // SAFETY: as in `exact`.
                    Address::$variant(bytes) => unsafe { $locals.get(bytes) }.copied().unwrap_or(0),
                    _ => 0,
                }
            }

            #[inline(always)]
            fn is_node(self) -> bool {
                match self.address() {
                    Address::$variant(bytes) => $nodes.get_ptr(bytes).is_some(),
                    _ => false,
                }
            }

            #[inline(always)]
            fn from_row(bytes: &[u8; 16]) -> Self {
                $from_row(bytes)
            }

            #[inline(always)]
            fn flow(key: &FlowKey<Self>) -> Option<*mut Flow> {
                $flows.get_ptr_mut(key)
            }

            #[inline(always)]
            fn put_flow(key: &FlowKey<Self>, flow: &Flow, flags: u64) -> bool {
                $flows.insert(key, flow, flags).is_ok()
            }

            #[inline(always)]
            fn detour(key: &FlowKey<Self>) -> Option<Detour> {
                // SAFETY: as in `exact`.
                unsafe { $detours.get(key) }.copied()
            }

            #[inline(always)]
            fn put_detour(key: &FlowKey<Self>, detour: &Detour) -> bool {
                $detours.insert(key, detour, 0).is_ok()
            }

            #[inline(always)]
            fn fragment(key: &FragmentKey<Self>) -> Option<Fragment> {
                // SAFETY: as in `exact`.
                unsafe { $fragments.get(key) }.copied()
            }

            #[inline(always)]
            fn put_fragment(key: &FragmentKey<Self>, fragment: &Fragment) {
                // Without it the fragments that follow are dropped: closed.
                let _closed = $fragments.insert(key, fragment, 0);
            }

            #[inline(always)]
            fn work() -> Option<&'static mut Work<Self>> {
                // SAFETY: the value is this CPU's own, classifiers are not interrupted by each other on one CPU, and no
                // two references to it are in use at a time. A value of zeros is a valid one.
                $work.get_ptr_mut(0).map(|work| unsafe { &mut *work })
            }
        }
    };
}

stored!(
    Ipv4,
    [u8; 4],
    V4,
    ADDRESSES4,
    PREFIXES4,
    |found| found.0,
    32,
    LOCALS4,
    NODES4,
    FLOWS4,
    DETOURS4,
    FRAGMENTS4,
    WORK4,
    |bytes: &[u8; 16]| Ipv4(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
);
stored!(
    Ipv6,
    [u8; 16],
    V6,
    ADDRESSES6,
    PREFIXES6,
    |found| *found,
    128,
    LOCALS6,
    NODES6,
    FLOWS6,
    DETOURS6,
    FRAGMENTS6,
    WORK6,
    Ipv6::from_bytes
);

/// The maps of this object, asked about addresses of one family only.
///
/// With one implementation for both, the look-up is compiled once for both, on an [`Address`] that may be either. Twelve
/// of its bytes are then undefined for IPv4; the compiler may copy undefined bytes through registers, and the verifier
/// refuses a register that was never written ("R9 !read_ok"). Each family having a look-up of its own, there is none.
pub struct KernelMaps<F>(PhantomData<F>);

impl<F> KernelMaps<F> {
    /// The maps; they are there once, so this holds nothing.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<F: Stored> Maps for KernelMaps<F> {
    /// The index of the interface at whose hook the program runs.
    type EndpointKey = u32;

    #[inline(always)]
    fn generation(&self) -> Generation {
        GENERATION.get(0).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn endpoint(&self, number: &u32) -> Option<Halves<Endpoint>> {
        interface(*number).map(|row| row.endpoint)
    }

    #[inline(always)]
    fn address(&self, address: Address) -> Option<Halves<Identity>> {
        F::exact(address)
    }

    #[inline(always)]
    fn prefix(&self, address: Address) -> Option<Halves<Identity>> {
        F::prefix(address)
    }

    #[inline(always)]
    fn port(&self, index: u32) -> Option<Halves<PortAtom>> {
        PORTS.get(index).copied()
    }

    #[inline(always)]
    fn rule(&self, key: &RuleKey) -> Option<RuleRow> {
        // SAFETY: as in `Stored::exact`.
        unsafe { RULES.get(key) }.copied()
    }
}
