//! What the keeper keeps of root once everything is set up. It looks at nothing that strangers send, but it lives for long.

use anyhow::{Context as _, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// To open maps again that the agent pins anew (BPF), and to make of a worker, which begins with what the keeper has, somebody
/// who has nothing (SETUID, SETGID, SETPCAP), and to end it (KILL).
const KEPT: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::KILL);
/// To set the veth up, which is done once.
pub(super) const FOR_THE_VETH: CapabilitySet = CapabilitySet::NET_ADMIN;

/// Keeps what is needed for as long as the keeper lives, and what is named.
///
/// The process has one thread, so that of a thread is that of the process.
pub(super) fn keep(also: CapabilitySet) -> Result<()> {
    let kept = KEPT | also;
    set_no_new_privs(true).context("giving up new privileges")?;
    let held = capabilities(None).context("asking for capabilities")?;
    for one in CapabilitySet::all().iter().filter(|one| !kept.contains(*one)) {
        // A kernel does not know those that came after it.
        if capability_is_in_bounding_set(one).unwrap_or(false) {
            remove_capability_from_bounding_set(one).context("giving up capabilities for good")?;
        }
    }
    let (effective, permitted) = (held.effective & kept, held.permitted & kept);
    let sets = CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).context("giving up capabilities")
}

/// Raises what workers may have: two descriptors a connection, and those of the kernel's pipes for what is long; and the memory
/// that maps count as before Linux 5.11.
pub(super) fn raise_limits() {
    let hard = |resource| getrlimit(resource).map_or(0, |(_, hard)| hard);
    for (resource, wanted) in [
        (Resource::RLIMIT_NOFILE, hard(Resource::RLIMIT_NOFILE)),
        (Resource::RLIMIT_MEMLOCK, nix::sys::resource::RLIM_INFINITY),
    ] {
        if let Err(error) = setrlimit(resource, wanted, wanted) {
            tracing::debug!(%error, ?resource, "a limit stays as it is");
        }
    }
}
