//! A directory of manifests as the source of truth, instead of an API server.
//!
//! ```text
//! inotify, clock, reread --> watch: when? --> read: files --> accept: a world, or a refusal --> difference --> Update
//! ```
//!
//! A reading is taken whole or refused whole: while anything in the directory is wrong, what was in force stays in force.
//! The same files are read as by `polctl -f DIR`; a directory without any is refused like a missing one, because it is
//! rather a volume that is not mounted than a cluster without policy.
//!
//! Watches are set on a directory before it is listed, and a reading during which something changed is thrown away, so
//! that no change is lost. A file that is being written is waited for until it is closed, for a bounded time: rename files
//! into place where half of one must never be read.

mod accept;
mod difference;
mod read;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

pub use crate::source::Update;
pub use accept::NOT_AN_ENDPOINT;
pub use agent_api::world::Document;

use accept::Acceptance;
use watch::Watch;

/// How often a reading is thrown away because something changed meanwhile, before one is taken as it is.
const ATTEMPTS: usize = 5;

/// What is watched, and how patiently.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory.
    pub directory: PathBuf,
    /// How long it must be quiet before it is read.
    pub coalesce: Duration,
    /// How long files that are being written, or a directory that is never quiet, are waited for.
    pub patience: Duration,
    /// After which time it is read again in case a notice was lost.
    pub reread: Duration,
    /// The same where it cannot be watched at all.
    pub blind_reread: Duration,
}

impl Options {
    /// The usual times: 10 ms, 1 s, 30 s, 1 s.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            coalesce: Duration::from_millis(10),
            patience: Duration::from_secs(1),
            reread: Duration::from_secs(30),
            blind_reread: Duration::from_secs(1),
        }
    }
}

/// Watches until nobody receives any more. `resync` asks for a reading at once.
///
/// # Errors
///
/// A reading that panicked, or an inotify descriptor that the runtime refuses.
pub async fn run(options: Options, resync: Arc<Notify>, updates: mpsc::Sender<Update>) -> anyhow::Result<()> {
    let mut watch = Watch::new(&options)?;
    let mut acceptance = Acceptance::default();
    loop {
        let reading = stable(&options, &mut watch).await?;
        let judged = spawn_blocking(move || {
            let update = acceptance.take(reading);
            (acceptance, update)
        });
        let (again, update) = judged.await.context("reading manifests")?;
        acceptance = again;
        if let Some(update) = update
            && updates.send(update).await.is_err()
        {
            return Ok(());
        }
        let due = Instant::now() + if watch.is_blind() { options.blind_reread } else { options.reread };
        tokio::select! {
            () = watch.changed() => {}
            () = resync.notified() => {}
            () = sleep_until(due) => {}
            () = updates.closed() => return Ok(()),
        }
    }
}

/// A reading during which nothing changed; the last one, if that cannot be had.
async fn stable(options: &Options, watch: &mut Watch) -> anyhow::Result<read::Reading> {
    let mut attempt = 1;
    loop {
        watch.settle().await;
        let (directory, inotify) = (options.directory.clone(), watch.inotify());
        let reading = spawn_blocking(move || read::read(&directory, inotify.as_deref()));
        let mut reading = reading.await.context("reading the directory of manifests")?;
        watch.follow(&mut reading);
        if !watch.drain() || attempt == ATTEMPTS {
            return Ok(reading);
        }
        attempt += 1;
    }
}

#[cfg(test)]
mod tests;
