//! The tables of `datapath` as BPF maps.

use core::marker::PhantomData;

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie};
use aya_ebpf::macros::btf_map;
use datapath::abi::{
    Address, Endpoint, Generation, Halves, Identity, PortAtom, Prefix4, Prefix6, RuleKey, RuleRow,
};
use datapath::lookup::Maps;

/// One entry for every port of every protocol that has ports.
const PORT_ENTRIES: usize = 3 << 16;
/// Pods on a node: the kubelet's default is 110, and nobody runs thousands.
const ENDPOINT_ENTRIES: usize = 4096;
/// Addresses that some policy on the node selects.
const ADDRESS_ENTRIES: usize = 1 << 17;
/// Prefixes that some policy on the node names.
const PREFIX_ENTRIES: usize = 1 << 16;
/// Rows of all rule sets on the node.
const RULE_ENTRIES: usize = 1 << 18;
/// Tables that grow with the cluster take memory as they fill.
const NO_PREALLOC: usize = aya_ebpf::bindings::BPF_F_NO_PREALLOC as usize;

#[btf_map(name = "generation")]
static GENERATION: Array<Generation, 1> = Array::new();

#[btf_map(name = "endpoints")]
static ENDPOINTS: HashMap<u32, Halves<Endpoint>, ENDPOINT_ENTRIES> = HashMap::new();

#[btf_map(name = "addresses4")]
static ADDRESSES4: HashMap<[u8; 4], Halves<Identity>, ADDRESS_ENTRIES, NO_PREALLOC> = HashMap::new();

#[btf_map(name = "addresses6")]
static ADDRESSES6: HashMap<[u8; 16], Halves<Identity>, ADDRESS_ENTRIES, NO_PREALLOC> = HashMap::new();

#[btf_map(name = "prefixes4")]
static PREFIXES4: LpmTrie<[u8; 4], WordAligned<Halves<Identity>>, PREFIX_ENTRIES> = LpmTrie::new();

#[btf_map(name = "prefixes6")]
static PREFIXES6: LpmTrie<[u8; 16], Halves<Identity>, PREFIX_ENTRIES> = LpmTrie::new();

#[btf_map(name = "ports")]
static PORTS: Array<Halves<PortAtom>, PORT_ENTRIES> = Array::new();

#[btf_map(name = "rules")]
static RULES: HashMap<RuleKey, RuleRow, RULE_ENTRIES, NO_PREALLOC> = HashMap::new();

/// A value with the alignment of a 32-bit word, and otherwise the same bytes.
///
/// A prefix trie stores its value right behind the address (`trie_lookup_elem` returns `data + data_size`), so behind
/// four bytes of IPv4 a value of 64-bit numbers is not aligned.
#[derive(Clone, Copy)]
#[repr(C, packed(4))]
struct WordAligned<T>(T);

const _: () = {
    assert!(size_of::<WordAligned<Halves<Identity>>>() == size_of::<Halves<Identity>>());
    // What user space writes as keys is what `datapath` calls a prefix.
    assert!(size_of::<Key<[u8; 4]>>() == size_of::<Prefix4>());
    assert!(size_of::<Key<[u8; 16]>>() == size_of::<Prefix6>());
};

/// An address family, as far as the tables differ by it.
pub trait Family {
    /// See [`Maps::address`].
    fn exact(address: Address) -> Option<Halves<Identity>>;
    /// See [`Maps::prefix`].
    fn prefix(address: Address) -> Option<Halves<Identity>>;
}

/// IPv4.
pub struct Ipv4;

/// IPv6.
pub struct Ipv6;

impl Family for Ipv4 {
    #[inline(always)]
    fn exact(address: Address) -> Option<Halves<Identity>> {
        match address {
            // SAFETY: as in `KernelMaps::endpoint`.
            Address::V4(bytes) => unsafe { ADDRESSES4.get(bytes) }.copied(),
            Address::V6(_) => None,
        }
    }

    #[inline(always)]
    fn prefix(address: Address) -> Option<Halves<Identity>> {
        match address {
            Address::V4(bytes) => PREFIXES4.get(&Key::new(32, bytes)).map(|found| found.0),
            Address::V6(_) => None,
        }
    }
}

impl Family for Ipv6 {
    #[inline(always)]
    fn exact(address: Address) -> Option<Halves<Identity>> {
        match address {
            Address::V4(_) => None,
            // SAFETY: as in `KernelMaps::endpoint`.
            Address::V6(bytes) => unsafe { ADDRESSES6.get(bytes) }.copied(),
        }
    }

    #[inline(always)]
    fn prefix(address: Address) -> Option<Halves<Identity>> {
        match address {
            Address::V4(_) => None,
            Address::V6(bytes) => PREFIXES6.get(&Key::new(128, bytes)).copied(),
        }
    }
}

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

impl<F: Family> Maps for KernelMaps<F> {
    /// The index of the interface at whose hook the program runs.
    type EndpointKey = u32;

    #[inline(always)]
    fn generation(&self) -> Generation {
        GENERATION.get(0).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn endpoint(&self, interface: &u32) -> Option<Halves<Endpoint>> {
        // SAFETY: the value is copied before anything else is done with the map. Another CPU may still remove the entry
        // and reuse its memory meanwhile: the copy is then torn, but every bit pattern is a valid value.
        unsafe { ENDPOINTS.get(interface) }.copied()
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
        // SAFETY: as in `endpoint`.
        unsafe { RULES.get(key) }.copied()
    }
}
