//! What the process gives up before it looks at anything that strangers send.

use std::io;

use anyhow::{Context as _, Result};
use rustix::process::{
    DumpableBehavior, Gid, Signal, Uid, set_dumpable_behavior, set_parent_process_death_signal,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::kernel::tables::Source;

/// Becomes a user, and keeps no capability, nor a way to one. If the kernel reads no map for whoever has no `CAP_BPF` (before
/// Linux 5.19, with unprivileged BPF off), that one stays.
///
/// The process has one thread still: capabilities and users are those of a thread.
pub(crate) fn give_up(user: u32, source: &impl Source) -> Result<()> {
    set_no_new_privs(true).context("giving up new privileges")?;
    clear_ambient_capability_set().context("giving up ambient capabilities")?;
    // A worker that somebody without privileges started by hand has none to give up.
    let held = capabilities(None).context("asking for capabilities")?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for one in CapabilitySet::all().iter() {
            // A kernel does not know those that came after it.
            if capability_is_in_bounding_set(one).unwrap_or(false) {
                remove_capability_from_bounding_set(one).context("giving up capabilities for good")?;
            }
        }
    }
    set_keep_capabilities(true).context("keeping capabilities for a moment")?;
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    if held.effective.contains(CapabilitySet::SETGID) {
        set_thread_groups(&[]).context("giving up groups")?;
        set_thread_res_gid(gid, gid, gid).with_context(|| format!("becoming group {user}"))?;
    }
    if held.effective.contains(CapabilitySet::SETUID) {
        set_thread_res_uid(uid, uid, uid).with_context(|| format!("becoming user {user}"))?;
    }
    keep(CapabilitySet::empty(), held.permitted & CapabilitySet::BPF)?;
    // Not the generation, which may be in memory already.
    let needed = needed(source.port(0)).context("reading a map")?;
    keep(needed, needed)?;
    if !needed.is_empty() {
        source.port(0).context("reading a map")?;
        tracing::warn!("the kernel reads maps for nobody without CAP_BPF, so requests are read with it");
    }
    set_keep_capabilities(false).context("keeping no capabilities")?;
    // Both are forgotten when a process changes its user, so they come last.
    set_parent_process_death_signal(Some(Signal::KILL)).context("ending with the keeper")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("closing its memory to others")
}

/// What the kernel wants of whoever reads maps, by what came of reading one without any capability.
fn needed<T>(read: io::Result<T>) -> io::Result<CapabilitySet> {
    match read {
        Ok(_) => Ok(CapabilitySet::empty()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(CapabilitySet::BPF),
        Err(error) => Err(error),
    }
}

fn keep(effective: CapabilitySet, permitted: CapabilitySet) -> Result<()> {
    let sets = CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).context("giving up capabilities")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_is_kept_only_if_maps_are_not_read_for_want_of_it() {
        let needed = |read: Result<u32, io::ErrorKind>| {
            needed(read.map_err(io::Error::from)).map_err(|error| error.kind())
        };
        assert_eq!(needed(Ok(7)), Ok(CapabilitySet::empty()));
        assert_eq!(needed(Err(io::ErrorKind::PermissionDenied)), Ok(CapabilitySet::BPF));
        assert_eq!(needed(Err(io::ErrorKind::InvalidInput)), Err(io::ErrorKind::InvalidInput));
    }
}
