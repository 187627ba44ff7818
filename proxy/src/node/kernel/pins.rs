//! What the agent pinned: which set of maps is in use, and where it is (see `agent/src/dataplane/pins.rs`).

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use datapath::abi::ABI_VERSION;

use super::map::Map;
use super::sys;
use super::tables::Tables;

/// A set of maps. It is another one if anything here differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    directory: PathBuf,
    /// Of the map of the generation: whoever removes all pins and starts anew makes a set of the same name.
    id: u32,
    /// Device and inode of the directory of lists, for the same reason.
    lists: (u64, u64),
}

impl Set {
    /// The set in use under a directory on a bpffs; `None` if no agent has attached programs yet.
    ///
    /// # Errors
    ///
    /// It cannot be looked at, or it is one of another version.
    pub(crate) fn in_use(root: &Path, lists: &Path) -> Result<Option<Self>> {
        let Some(state) = open(&root.join("abi"))? else { return Ok(None) };
        let state = Map::<u32, [u64; 3]>::new(state).context("the map abi")?;
        let [abi, layout, _] = state.get(&0).context("reading the map abi")?.unwrap_or_default();
        if abi == 0 {
            return Ok(None);
        }
        ensure!(
            abi == u64::from(ABI_VERSION),
            "the agent's maps have version {abi}, and this proxy reads {ABI_VERSION}: both are to be of one release"
        );
        let directory = root.join(format!("v{abi}-{layout:016x}"));
        let Some(generation) = open(&directory.join("generation"))? else { return Ok(None) };
        let id = sys::info(generation.as_fd()).context("asking about the map generation")?.id;
        let lists = fs::metadata(lists).with_context(|| format!("looking at {}", lists.display()))?;
        Ok(Some(Self { directory, id, lists: (lists.dev(), lists.ino()) }))
    }

    /// Opens its maps.
    pub(crate) fn open(&self) -> Result<Tables> {
        Tables::open(&self.directory)
    }

    /// Opens the map of the generation so that it can be mapped into memory; `None` if that is not allowed.
    pub(crate) fn open_generation(&self) -> Option<OwnedFd> {
        sys::pinned_for_mapping(&self.directory.join("generation")).unwrap_or_else(|error| {
            tracing::debug!(%error, "the generation is read by system calls");
            None
        })
    }
}

fn open(path: &Path) -> Result<Option<OwnedFd>> {
    let failed = |error: io::Error| anyhow::Error::new(error).context(format!("opening {}", path.display()));
    sys::pinned(path).map_err(failed)
}
