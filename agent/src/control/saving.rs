//! What is known, on disk: now and then, by a thread that the task with the state does not wait for.

use std::time::Duration;

use futures::FutureExt as _;
use policy_compiler::object::ObjectRef;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

use super::Control;
use crate::kubernetes::snapshot::{Contents, PolicyStanding, SavedPolicy, Store};
use crate::source::Instead;

/// How long at least between two writings.
const EVERY: Duration = Duration::from_secs(5);
/// How much longer than the last writing took: a large cluster is not to wear out the disk.
const SHARE: u32 = 50;
/// How long at most.
const AT_MOST: Duration = Duration::from_mins(2);

/// Writes what is known.
#[derive(Debug)]
pub struct Saver {
    store: Store,
    writing: Option<(JoinHandle<anyhow::Result<()>>, Instant)>,
    next: Instant,
    /// Why the last writing failed.
    failure: Option<String>,
}

impl Saver {
    /// Writes there.
    pub fn new(store: Store) -> Self {
        Self { store, writing: None, next: Instant::now(), failure: None }
    }

    /// Whether it may be written now; takes note of the end of the last writing, which may have failed.
    fn is_free(&mut self, now: Instant) -> bool {
        if let Some((writing, begun)) = &mut self.writing {
            let Some(ended) = writing.now_or_never() else { return false };
            let took = now.duration_since(*begun);
            self.next = now + took.saturating_mul(SHARE).clamp(EVERY, AT_MOST);
            self.failure = match ended {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("{error:#}")),
                Err(error) => Some(format!("the thread that writes it ended: {error}")),
            };
            self.writing = None;
        }
        now >= self.next
    }
}

impl Control {
    /// Writes what is known, if it changed and it is time.
    pub(super) fn save(&mut self, now: Instant) {
        let Some(saver) = &mut self.parts.saver else { return };
        let failed = saver.failure.is_some();
        if !saver.is_free(now) {
            return;
        }
        if let Some(failure) = &saver.failure
            && !failed
        {
            tracing::error!(failure, "what is known of the cluster is not saved");
            self.parts.metrics.snapshot_failures.inc();
        }
        // What comes from disk is there already.
        if self.changed_at.is_none() || self.world.standing.from_disk.is_some() {
            return;
        }
        self.changed_at = None;
        let contents = self.contents();
        if let Some(saver) = &mut self.parts.saver {
            let store = saver.store.clone();
            saver.writing = Some((spawn_blocking(move || store.write(&contents)), now));
        }
    }

    /// Writes what is known and not written yet, at the end.
    pub(super) fn save_last(&self) {
        if let Some(saver) = &self.parts.saver
            && self.changed_at.is_some()
            && self.world.standing.from_disk.is_none()
            && let Err(error) = saver.store.write(&self.contents())
        {
            tracing::error!(error = format!("{error:#}"), "what is known of the cluster is not saved");
        }
    }

    fn contents(&self) -> Contents {
        let retained = self.compiler.retained();
        let stands_in = |object: &ObjectRef| {
            let refused = self.world.refused.iter();
            refused.into_iter().any(|refusal| refusal.object == *object && refusal.instead == Instead::Closed)
        };
        let policies = self.world.texts.iter().filter_map(|(object, text)| {
            self.compiler.policy(object)?;
            let standing = if retained.contains(object) {
                PolicyStanding::Retained
            } else if stands_in(object) {
                PolicyStanding::StandIn
            } else {
                PolicyStanding::Written
            };
            SavedPolicy::new(object, text, standing)
        });
        Contents {
            node: self.parts.node.clone(),
            // Facts are shared: this copies what leads to them.
            cluster: self.compiler.cluster().clone(),
            policies: policies.collect(),
        }
    }
}
