//! Values that are just their bytes.

use std::mem::MaybeUninit;

use datapath::abi::{Endpoint, Halves, Identity, PortAtom, Prefix4, Prefix6, RuleKey, RuleRow};
use datapath::detour::Detour;
use datapath::event::{Count, CounterKey, Event};
use datapath::family::{Ipv4, Ipv6};
use datapath::flow::{Flow, FlowKey};
use datapath::hook::{ServiceKey, ServiceRow};
use datapath::interface::Interface;
use datapath::settings::Settings;

/// A key or value of a map.
///
/// # Safety
///
/// The type has no padding, every bit pattern is a valid value of it, and it holds no reference.
pub(in crate::dataplane) unsafe trait Plain: Copy + 'static {
    /// The bytes of a value.
    fn bytes(&self) -> &[u8] {
        // SAFETY: the type has no padding, so all its bytes are initialised; the slice borrows from the value.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }

    /// The bytes of many values.
    fn all_bytes(values: &[Self]) -> &[u8] {
        // SAFETY: as in `bytes`; elements of a slice lie without gaps.
        unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
    }

    /// From its bytes; `None` if there are fewer.
    fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..size_of::<Self>())?;
        let mut value = MaybeUninit::<Self>::uninit();
        // SAFETY: the source has as many bytes as the destination, they do not overlap, and every bit pattern is valid.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), value.as_mut_ptr().cast(), size_of::<Self>());
            Some(value.assume_init())
        }
    }
}

macro_rules! plain {
    ($($type:ty),* $(,)?) => {
        // SAFETY: these are numbers, arrays of them, and `repr(C)` structures of `datapath` without implicit padding (each
        // is as large as its fields, which that crate or the assertion below checks); none holds a `bool`, an enum or a
        // reference.
        $(unsafe impl Plain for $type {})*
    };
}

plain!(
    u8,
    u32,
    u64,
    [u8; 4],
    [u8; 16],
    [u64; 3],
    Halves<Endpoint>,
    Halves<Identity>,
    Halves<PortAtom>,
    Prefix4,
    Prefix6,
    RuleKey,
    RuleRow,
    CounterKey,
    Count,
    Event,
    FlowKey<Ipv4>,
    FlowKey<Ipv6>,
    Flow,
    Detour,
    ServiceKey,
    ServiceRow,
    Interface,
    Settings,
);

const _: () = {
    // Settings: 2 words, 4 half words, 4 bytes, 2 words, 4 words.
    assert!(size_of::<Settings>() == 44);
    assert!(size_of::<Interface>() == 32 + 4 + 4 + 16 + 6 + 2 + 16 + 4 + 4);
    assert!(size_of::<Event>() == 8 + 8 + 4 + 4 + 16 + 16 + 2 + 2 + 4 + 6 + 2);
    assert!(size_of::<ServiceKey>() == 16 + 2 + 1 + 1 && size_of::<ServiceRow>() == 16 + 2 + 2);
    assert!(size_of::<CounterKey>() == 8 + 4 + 4 + 1 + 1 + 6);
    assert!(size_of::<Detour>() == 4 + 4 + 12 + 2 + 2);
    assert!(size_of::<Flow>() == 16 + 4 + 4 + 4 + 2 + 1 + 1);
};
