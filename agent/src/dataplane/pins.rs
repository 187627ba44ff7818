//! What outlives the agent: a directory on a bpffs.
//!
//! ```text
//! abi                          which set of maps the attached programs use: ABI version, digests of layout and object
//! v1-0123456789abcdef/NAME     the maps of one layout
//! links/7-from-pod             links that hold programs on interface 7
//! ```
//!
//! Names hold no dots: the kernel reserves them (`bpf_lookup`). Whoever has the directory open holds a lock on it: two
//! agents at one root would each take the other's writes for damage, and undo them.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::error::Error;
use super::map::Map;
use super::sys;
use super::sys::map::{RawMap, Shape, kind};

/// Where pins are, unless said otherwise.
pub const DEFAULT_ROOT: &str = "/sys/fs/bpf/polder";

/// Which set of maps is in use by attached programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// [`datapath::abi::ABI_VERSION`] of the agent that wrote it.
    pub(super) abi: u64,
    /// Digest of the maps' names, types and sizes.
    pub(super) layout: u64,
    /// Digest of the object.
    pub(super) object: u64,
}

impl State {
    /// The directory of its maps, below the root.
    pub(super) fn set(&self) -> String {
        format!("v{}-{:016x}", self.abi, self.layout)
    }
}

/// The directory of all pins.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    /// The directory itself, locked; the kernel lets go of it with the process, however that ends.
    _lock: File,
}

impl Root {
    /// Opens the directory, for this process alone; makes it if its parent is on a bpffs.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let parent = if path.exists() { path } else { path.parent().unwrap_or(path) };
        let place = |problem: String| Error::Place { path: path.to_owned(), problem };
        let found = statfs(parent).map_err(|errno| {
            place(format!(
                "{} cannot be looked at ({errno}); it is to be on a bpffs: `mount -t bpf bpf DIR`",
                parent.display()
            ))
        })?;
        if found.filesystem_type() != BPF_FS_MAGIC {
            return Err(place(format!(
                "{} is not on a bpffs: `mount -t bpf bpf /sys/fs/bpf`, or name a directory on one with --bpffs",
                parent.display()
            )));
        }
        make(path)?;
        let root = Self { path: path.to_owned(), _lock: lock(path)? };
        make(&root.links())?;
        Ok(root)
    }

    /// The directory of links.
    pub(super) fn links(&self) -> PathBuf {
        self.path.join("links")
    }

    /// The directory of a set of maps.
    pub(super) fn set(&self, state: &State) -> PathBuf {
        self.path.join(state.set())
    }

    /// Makes the directory of a set of maps; true if it was not there.
    pub(super) fn make_set(&self, state: &State) -> Result<bool, Error> {
        let path = self.set(state);
        let is_new = !path.exists();
        make(&path)?;
        Ok(is_new)
    }

    fn state_map(&self) -> Result<Option<Map<u32, [u64; 3]>>, Error> {
        let path = self.path.join("abi");
        let failed = |error| Error::Pin { path: path.clone(), operation: "open the pinned map", error };
        let Some(fd) = sys::pinned(&path).map_err(failed)? else { return Ok(None) };
        Ok(Some(Map::new("abi", RawMap::new(fd, 1).map_err(failed)?)?))
    }

    /// Which set of maps attached programs use; `None` if no agent ever attached any.
    pub(super) fn state(&self) -> Result<Option<State>, Error> {
        let Some(map) = self.state_map()? else { return Ok(None) };
        Ok(map.get(&0)?.and_then(|[abi, layout, object]| (abi != 0).then_some(State { abi, layout, object })))
    }

    /// Writes down which set of maps attached programs use.
    pub(super) fn set_state(&self, state: &State) -> Result<(), Error> {
        let map = match self.state_map()? {
            Some(map) => map,
            None => self.make_state_map()?,
        };
        Ok(map.set(&0, &[state.abi, state.layout, state.object])?)
    }

    fn make_state_map(&self) -> Result<Map<u32, [u64; 3]>, Error> {
        let path = self.path.join("abi");
        let failed = |error| Error::Pin { path: path.clone(), operation: "create the map", error };
        let shape = Shape { kind: kind::ARRAY, key_size: 4, value_size: 24, max_entries: 1 };
        let fd = RawMap::create("polder_abi", shape, 0, None).map_err(failed)?;
        sys::pin(fd.as_fd(), &path).map_err(failed)?;
        Ok(Map::new("abi", RawMap::new(fd, 1).map_err(failed)?)?)
    }

    /// Removes all sets of maps but one. Maps that programs still use live on without their names.
    pub(super) fn remove_other_sets(&self, keep: &State) -> Result<usize, Error> {
        let mut removed = 0;
        for name in names(&self.path)? {
            if name.starts_with('v') && name != keep.set() {
                let path = self.path.join(&name);
                for map in names(&path)? {
                    remove(&path.join(map))?;
                }
                fs::remove_dir(&path).map_err(|error| Error::Pin { path, operation: "remove", error })?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes every pin: programs are taken off, maps vanish.
    pub(super) fn remove_all(&self) -> Result<(), Error> {
        fs::remove_dir_all(&self.path).map_err(|error| Error::Pin {
            path: self.path.clone(),
            operation: "remove",
            error,
        })
    }
}

/// Has the directory for this process alone.
fn lock(path: &Path) -> Result<File, Error> {
    let failed = |operation| move |error| Error::Pin { path: path.to_owned(), operation, error };
    let directory = File::open(path).map_err(failed("open the directory"))?;
    match directory.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Error::Taken { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(failed("lock the directory")(error)),
    }
    // Whoever had it may have removed it (`--uninstall`) between the opening and the lock.
    let locked = directory.metadata().map_err(failed("look at the directory"))?;
    let named = fs::metadata(path).map_err(failed("look at the directory"))?;
    if (locked.dev(), locked.ino()) == (named.dev(), named.ino()) {
        Ok(directory)
    } else {
        Err(Error::Taken { path: path.to_owned() })
    }
}

fn make(path: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::Pin { path: path.to_owned(), operation: "make the directory", error })
        }
        _ => Ok(()),
    }
}

/// The names in a directory, sorted.
pub(super) fn names(path: &Path) -> Result<Vec<String>, Error> {
    let failed = |error| Error::Pin { path: path.to_owned(), operation: "list", error };
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Removes a pin; it is no failure if it is gone already.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::Pin { path: path.to_owned(), operation: "remove", error })
        }
        _ => Ok(()),
    }
}
