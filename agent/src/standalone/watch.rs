//! When to read: what inotify says, and whether somebody is still writing.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep};

use super::Options;
use super::read::{Reading, is_manifest};

/// What is of interest in a directory that is read.
const IN_DIRECTORY: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MODIFY)
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_MOVE)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// What is of interest in a directory on the way to one that is read.
const ON_THE_WAY: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVE)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_ONLYDIR);

/// How many batches of notices are taken before the outside gets a turn.
const BATCHES: usize = 1024;

/// The directories that a reading went through, by their watches.
#[derive(Debug, Default)]
pub(super) struct Watched {
    by_watch: HashMap<WatchDescriptor, Interest>,
    /// Why one could not be watched, the first time.
    pub(super) failure: Option<(PathBuf, Errno)>,
}

#[derive(Debug)]
struct Interest {
    directory: PathBuf,
    /// The names that matter in it; `None`: all.
    only: Option<BTreeSet<OsString>>,
}

impl Watched {
    /// Watches a directory that will be read.
    pub(super) fn directory(&mut self, inotify: Option<&Inotify>, path: &Path) {
        self.add(inotify, path, IN_DIRECTORY, None);
    }

    /// Watches one name in a directory; `written`: its content too.
    pub(super) fn name(&mut self, inotify: Option<&Inotify>, path: &Path, name: &OsStr, written: bool) {
        let flags = if written { IN_DIRECTORY } else { ON_THE_WAY };
        self.add(inotify, path, flags, Some(name));
    }

    fn add(&mut self, inotify: Option<&Inotify>, path: &Path, flags: AddWatchFlags, only: Option<&OsStr>) {
        let Some(inotify) = inotify else { return };
        match inotify.add_watch(path, flags) {
            Ok(watch) => {
                let interest = self
                    .by_watch
                    .entry(watch)
                    .or_insert_with(|| Interest { directory: path.to_owned(), only: Some(BTreeSet::new()) });
                match (only, &mut interest.only) {
                    (Some(name), Some(names)) => {
                        names.insert(name.to_owned());
                    }
                    (None, _) => interest.only = None,
                    (Some(_), None) => {
                        // The flags of a second watch replace those of the first: all of it is to be watched still.
                        if flags != IN_DIRECTORY
                            && let Err(error) = inotify.add_watch(path, IN_DIRECTORY)
                        {
                            self.failure.get_or_insert((path.to_owned(), error));
                        }
                    }
                }
            }
            // It is not there (any more), or no directory: who watches its parent sees it come.
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(error) => {
                self.failure.get_or_insert((path.to_owned(), error));
            }
        }
    }
}

/// Lends a shared inotify to the runtime.
#[derive(Debug)]
struct Shared(Arc<Inotify>);

impl AsRawFd for Shared {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Notices of changes.
#[derive(Debug)]
pub(super) struct Watch {
    /// `None` where the kernel gives no inotify (its limits are reached): then only the clock leads to readings.
    notices: Option<AsyncFd<Shared>>,
    watched: Watched,
    /// Files that were written to and not closed since.
    writing: HashSet<(WatchDescriptor, OsString)>,
    /// Something changed since the last reading began.
    dirty: bool,
    coalesce: Duration,
    patience: Duration,
}

impl Watch {
    pub(super) fn new(options: &Options) -> anyhow::Result<Self> {
        let notices = match Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC) {
            Ok(inotify) => {
                let shared = Shared(Arc::new(inotify));
                // SAFETY: `Shared` owns its inotify and never gives it away or replaces it, so that its descriptor stays
                // open and the same for as long as `AsyncFd` has it.
                let registered = unsafe { AsyncFd::register(shared) };
                Some(registered.context("watching the directory of manifests")?)
            }
            Err(error) => {
                tracing::warn!(%error, "no inotify: the directory is read again and again instead");
                None
            }
        };
        Ok(Self {
            notices,
            watched: Watched::default(),
            writing: HashSet::new(),
            dirty: false,
            coalesce: options.coalesce,
            patience: options.patience,
        })
    }

    pub(super) fn inotify(&self) -> Option<Arc<Inotify>> {
        self.notices.as_ref().map(|notices| Arc::clone(&notices.get_ref().0))
    }

    /// Whether changes can go unnoticed until the clock leads to a reading.
    pub(super) fn is_blind(&self) -> bool {
        self.notices.is_none() || self.watched.failure.is_some()
    }

    /// Comes back when something changed.
    pub(super) async fn changed(&mut self) {
        while !self.drain() {
            let Some(notices) = &self.notices else { return std::future::pending().await };
            match notices.readable().await {
                // What was ready is taken by `drain`, until there is no more.
                Ok(mut ready) => ready.clear_ready(),
                Err(error) => {
                    tracing::error!(%error, "no more notices of changes: the directory is read by the clock");
                    self.notices = None;
                }
            }
        }
    }

    /// Waits until it is quiet, and what is being written is closed; not for ever.
    pub(super) async fn settle(&mut self) {
        let end = Instant::now() + self.patience;
        self.drain();
        loop {
            self.dirty = false;
            sleep(self.coalesce).await;
            let noisy = self.drain();
            if !noisy && self.writing.is_empty() {
                break;
            }
            if Instant::now() >= end {
                // Whoever keeps a file open all the time is waited for once.
                self.writing.clear();
                break;
            }
        }
        self.dirty = false;
    }

    /// Watches what a reading went through, and no more what it did not.
    pub(super) fn follow(&mut self, reading: &mut Reading) {
        let before = std::mem::replace(&mut self.watched, std::mem::take(&mut reading.watched));
        let Some(inotify) = self.inotify() else { return };
        for (watch, interest) in before.by_watch {
            if self.watched.by_watch.contains_key(&watch) {
                continue;
            }
            self.writing.retain(|(of, _)| *of != watch);
            // EINVAL: the directory is gone, and its watch with it.
            if let Err(error) = inotify.rm_watch(watch)
                && error != Errno::EINVAL
            {
                tracing::debug!(%error, directory = %interest.directory.display(), "a watch stays");
            }
        }
    }

    /// Takes all notices; whether something changed since it was last settled.
    pub(super) fn drain(&mut self) -> bool {
        let Some(inotify) = self.inotify() else { return self.dirty };
        for _ in 0..BATCHES {
            match inotify.read_events() {
                Ok(events) => {
                    for event in &events {
                        self.dirty |= self.note(event);
                    }
                }
                Err(Errno::EAGAIN) => return self.dirty,
                Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!(%error, "no more notices of changes: the directory is read by the clock");
                    self.notices = None;
                    return true;
                }
            }
        }
        self.dirty = true;
        true
    }

    /// Whether a notice is of something that is read.
    fn note(&mut self, event: &InotifyEvent) -> bool {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            // Closing may be among what was lost.
            self.writing.clear();
            return true;
        }
        let Some(interest) = self.watched.by_watch.get(&event.wd) else { return false };
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            return false;
        }
        let Some(name) = &event.name else { return true };
        if interest.only.as_ref().is_some_and(|names| !names.contains(name)) {
            return false;
        }
        let file = interest.directory.join(name);
        if is_manifest(&file) {
            let being_written = event.mask.contains(AddWatchFlags::IN_MODIFY)
                || (event.mask.contains(AddWatchFlags::IN_CREATE) && is_new_file(&file));
            let key = (event.wd, name.clone());
            if being_written {
                self.writing.insert(key);
            } else if !event.mask.contains(AddWatchFlags::IN_ATTRIB) {
                self.writing.remove(&key);
            }
        }
        true
    }
}

/// Whether a file that was just made will be closed by who made it: links are not.
fn is_new_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
}
