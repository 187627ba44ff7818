//! Where it happens: a laboratory, and a file system of pins that nobody else sees.

use std::path::Path;

use anyhow::{Context, Result};
use netlab::Lab;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// What both halves of the benchmark need.
pub(crate) struct Place<'a> {
    pub(crate) lab: &'a Lab,
    /// The BPF object.
    pub(crate) object: &'a Path,
    /// A directory on a bpffs.
    pub(crate) pins: &'a Path,
}

/// Where the private bpffs is, in the mount namespace of this process.
pub(crate) const PINS: &str = "/sys/fs/bpf";

/// Gives this process mounts of its own, and a bpffs: it goes with the process, however that ends. To be called before
/// there are other threads.
pub(crate) fn private_pins() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("cannot have mounts of its own; it needs root")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("cannot make mounts private")?;
    mount(Some("bpf"), PINS, Some("bpf"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("{PINS}: cannot mount a bpffs there"))
}
