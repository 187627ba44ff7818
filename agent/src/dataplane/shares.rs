//! How many flows each endpoint tracks.
//!
//! The programs add one with an atomic instruction whenever they insert a flow. User space, which deletes flows, must take
//! away in the same way: reading, subtracting and writing by system calls would undo what the programs added between.
//! So the map is one whose values can be mapped into memory (`BPF_F_MMAPABLE`).

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd as _;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::error::MapError;
use super::map::Map;

/// The map's values, in memory.
#[derive(Debug)]
pub(super) struct Shares {
    memory: NonNull<AtomicU64>,
    count: usize,
    length: NonZeroUsize,
    _map: Map<u32, u64>,
}

// SAFETY: the memory is shared with the kernel's programs on all CPUs anyway, and only touched by atomic operations.
unsafe impl Send for Shares {}
// SAFETY: as for `Send`.
unsafe impl Sync for Shares {}

impl Shares {
    pub(super) fn new(map: Map<u32, u64>) -> Result<Self, MapError> {
        let failed = |error| MapError { map: "shares", key: None, operation: "map into memory", error };
        let count = map.size();
        let length = NonZeroUsize::new(count * size_of::<u64>())
            .ok_or_else(|| failed(io::Error::from_raw_os_error(libc::EINVAL)))?;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that is there.
        let memory = unsafe {
            mmap(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                map.raw().as_fd(),
                0,
            )
        };
        let memory = memory.map_err(|errno| failed(errno.into()))?.cast();
        Ok(Self { memory, count, length, _map: map })
    }

    fn all(&self) -> &[AtomicU64] {
        // SAFETY: the mapping holds `count` values of eight bytes, one behind the other (an array map's elements are rounded
        // up to eight bytes), begins at a page, and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.count) }
    }

    /// How many flows an endpoint tracks, by our own number of it.
    pub(super) fn get(&self, index: u16) -> u64 {
        self.all().get(usize::from(index)).map_or(0, |share| share.load(Ordering::Relaxed))
    }

    /// A flow of this endpoint is gone.
    pub(super) fn release(&self, index: u16) {
        let Some(share) = self.all().get(usize::from(index)) else { return };
        // Never below zero: the share of a number that was given anew begins at zero.
        let _was =
            share.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |share| Some(share.saturating_sub(1)));
    }

    /// The endpoint is gone.
    pub(super) fn clear(&self, index: u16) {
        if let Some(share) = self.all().get(usize::from(index)) {
            share.store(0, Ordering::Relaxed);
        }
    }
}

impl Drop for Shares {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it outlives the value.
        let result = unsafe { munmap(self.memory.cast(), self.length.get()) };
        debug_assert!(result.is_ok(), "a whole mapping can always be removed");
    }
}
