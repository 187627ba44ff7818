//! What the programs know of a pod's interface.

use crate::abi::{Endpoint, Halves};

/// A pod's interface: whose it is, what it may say it is, and its rule sets.
///
/// The first 64 bytes are all that a packet of an established flow needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C, align(8))]
pub struct Interface {
    /// Its rule sets, for both generations.
    pub endpoint: Halves<Endpoint>,
    /// Its index in the kernel; 0 in a slot that is free.
    pub number: u32,
    /// Its address; all zero if it has none of the family.
    pub ipv4: [u8; 4],
    /// Its address; all zero if it has none of the family.
    pub ipv6: [u8; 16],
    /// The MAC address of the pod's end.
    pub mac: [u8; 6],
    /// Our own number of it, from 1 to [`crate::mark::Mark::MAX_INDEX`].
    pub index: u16,
    /// Its link-local address; all zero if it has none.
    pub link_local: [u8; 16],
    /// Since when its flows are tracked, in ticks.
    pub tracked_since: u32,
    /// Whether `tracked_since` says anything.
    pub was_untracked: u32,
}

impl Interface {
    /// How many slots the direct-mapped table of interfaces has; an interface's slot is its number modulo this.
    pub const SLOTS: u32 = 4096;

    /// The slot of an interface.
    #[inline(always)]
    pub const fn slot(number: u32) -> u32 {
        number & (Self::SLOTS - 1)
    }
}

const _: () = assert!(size_of::<Interface>() == 88 && core::mem::offset_of!(Interface, link_local) == 64);
