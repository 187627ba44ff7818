//! A place of its own: a network and a mount namespace that end with this process.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

const BPF_FILE_SYSTEM: &str = "/sys/fs/bpf";

/// Devices that come up in this namespace get no IPv6 address, and so send nothing that would be counted.
const NO_IPV6: &str = "/proc/sys/net/ipv6/conf/default/disable_ipv6";

/// Moves this process, which must have one thread, to its own namespaces.
pub(crate) fn enter() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .context("this process gets no network and mount namespace of its own (it needs CAP_SYS_ADMIN)")?;
    // Otherwise the next mount would appear in the namespace that this one was copied from.
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&Path>, "/", None::<&str>, private, None::<&str>)
        .context("mounts of this process cannot be made private")?;
    // An object may say that its maps are pinned by name. In a fresh file system no name is taken.
    mount(Some("bpf"), BPF_FILE_SYSTEM, Some("bpf"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("no BPF file system can be mounted on {BPF_FILE_SYSTEM}"))?;
    match fs::write(NO_IPV6, "1") {
        // A kernel without IPv6.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.with_context(|| format!("{NO_IPV6} cannot be written")),
    }
}
