//! Waiting until no packet is left that began before.
//!
//! The kernel waits for a grace period of RCU when a map of maps is changed by a system call (`maybe_wait_bpf_programs`,
//! commit 1ae80cf31938, Linux 4.20): "wait for running BPF programs when updating map-in-map". Programs on TC and XDP hooks
//! run inside RCU read-side sections from beginning to end, so when the call returns, all of them that ran before it have
//! ended. `membarrier(MEMBARRIER_CMD_GLOBAL)` would do less: it is refused on machines with `nohz_full` CPUs, and does
//! nothing on one with a single CPU, where a real-time kernel may have preempted a program.

use std::io;
use std::os::fd::AsFd as _;

use super::error::MapError;
use super::sys::map::{RawMap, Shape, kind};

/// A map of maps that no program uses.
#[derive(Debug)]
pub(super) struct Grace {
    outer: RawMap,
    inner: RawMap,
}

impl Grace {
    pub(super) fn new() -> Result<Self, MapError> {
        let inner = Shape { kind: kind::ARRAY, key_size: 4, value_size: 4, max_entries: 1 };
        let inner = RawMap::create("grace_inner", inner, 0, None).and_then(|fd| RawMap::new(fd, 1));
        let inner = inner.map_err(|error| failed("create", error))?;
        let outer = Shape { kind: kind::ARRAY_OF_MAPS, key_size: 4, value_size: 4, max_entries: 1 };
        let outer = RawMap::create("grace", outer, 0, Some(inner.as_fd())).and_then(|fd| RawMap::new(fd, 1));
        Ok(Self { outer: outer.map_err(|error| failed("create", error))?, inner })
    }

    /// Returns when every program that ran at the time of the call has ended.
    pub(super) fn wait(&self) -> Result<(), MapError> {
        self.outer.put_map(0, self.inner.as_fd()).map_err(|error| failed("wait for running programs", error))
    }
}

fn failed(operation: &'static str, error: io::Error) -> MapError {
    MapError { map: "grace", key: None, operation, error }
}
