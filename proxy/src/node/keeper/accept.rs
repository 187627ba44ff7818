//! The program that hands every connection of the namespace to the listener, whatever address and port it is for.

use std::fs::File;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::SockMap;
use aya::programs::SkLookup;

#[cfg(embedded_object)]
static EMBEDDED: Option<&[u8]> =
    Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/polder-accept.bpf.o")));
#[cfg(not(embedded_object))]
static EMBEDDED: Option<&[u8]> = None;

/// The program at work: for as long as this lives.
#[derive(Debug)]
pub(super) struct Accept {
    _object: Ebpf,
}

impl Accept {
    /// Attaches it to the calling thread's network namespace.
    pub(super) fn attach(object: Option<&Path>, listener: BorrowedFd<'_>) -> Result<Self> {
        let mut object = load(object)?;
        let map = object.map_mut("listener").context("the BPF object has no map `listener`")?;
        let mut map = SockMap::try_from(map).context("the map `listener`")?;
        map.set(0, &listener.as_raw_fd(), 0).context("putting the listener into its map")?;
        let program =
            object.program_mut("polder_accept").context("the BPF object has no program `polder_accept`")?;
        let program: &mut SkLookup = program.try_into().context("the program `polder_accept`")?;
        program.load().context("loading the program (it needs CAP_BPF and CAP_NET_ADMIN)")?;
        let namespace = File::open("/proc/thread-self/ns/net").context("opening the network namespace")?;
        program.attach(&namespace).context("attaching the program to the network namespace")?;
        Ok(Self { _object: object })
    }
}

fn load(object: Option<&Path>) -> Result<Ebpf> {
    match (object, EMBEDDED) {
        (Some(path), _) => {
            let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
            Ebpf::load(&bytes).with_context(|| format!("loading {}", path.display()))
        }
        (None, Some(embedded)) => Ebpf::load(embedded).context("loading the BPF object that is built in"),
        (None, None) => anyhow::bail!(
            "no BPF object is built into this program: name one with --bpf-object (`cargo xtask bpf` builds polder-accept)"
        ),
    }
}
