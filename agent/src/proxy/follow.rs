//! The requests that proxies tell of, stream by stream.
//!
//! The socket's path belongs to the newest proxy. Whoever came before goes on telling of what began before, on the streams that
//! were begun with it: so a stream is followed to its end, and another one is begun beside it as soon as the path leads to somebody
//! else, or the one before has ended.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use http_body_util::BodyExt as _;
use proxy_api::news::{LINE_LENGTH, News};
use proxy_api::request::Request;
use proxy_api::{NOTABLE, PLAIN};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use super::ask;
use crate::api::history::History;

/// How often it is looked whether somebody else is there.
const LOOK: Duration = Duration::from_millis(200);
/// How many streams of a kind are followed at a time: that of the newest, and those of who came before.
const STREAMS: usize = 8;
/// How many requests are handed on at a time.
const BATCH: usize = 256;

/// Follows the proxies of a node.
#[derive(Clone, Debug)]
pub struct Proxies {
    socket: PathBuf,
    history: Arc<History>,
    requests: mpsc::Sender<Vec<Request<'static>>>,
}

/// Where a socket is: the file, which another process replaces and never writes to.
type Place = (u64, u64, i64, i64);

impl Proxies {
    /// Of a socket. Who takes the requests is waited for, as then it is the proxy that has to lose some; holes go into the
    /// history.
    pub fn new(socket: &Path, history: Arc<History>, requests: mpsc::Sender<Vec<Request<'static>>>) -> Self {
        Self { socket: socket.to_owned(), history, requests }
    }

    /// Follows for ever.
    pub async fn run(self) {
        let plain = async {
            let demand = self.history.demand();
            loop {
                demand.becomes(true).await;
                tokio::select! {
                    () = self.follow(PLAIN) => {}
                    () = demand.becomes(false) => {}
                }
            }
        };
        tokio::join!(self.follow(NOTABLE), plain);
    }

    async fn follow(&self, target: &'static str) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut streams = JoinSet::new();
        let mut newest: Option<(Place, Arc<AtomicBool>)> = None;
        loop {
            tokio::select! {
                _ = look.tick() => {}
                Some(_) = streams.join_next() => continue,
            }
            let Some(place) = place(&self.socket) else { continue };
            let is_followed = newest
                .as_ref()
                .is_some_and(|(of, has_ended)| *of == place && !has_ended.load(Ordering::Relaxed));
            if !is_followed && streams.len() < STREAMS {
                let has_ended = Arc::new(AtomicBool::new(false));
                newest = Some((place, Arc::clone(&has_ended)));
                let proxies = self.clone();
                streams.spawn(async move {
                    if let Err(error) = proxies.hear(target).await {
                        tracing::debug!(target, error = format!("{error:#}"), "requests of a proxy");
                    }
                    has_ended.store(true, Ordering::Relaxed);
                });
            }
        }
    }

    /// Follows one stream to its end.
    async fn hear(&self, target: &str) -> Result<()> {
        let body = ask::get(&self.socket, target).await?;
        let octets = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
        let lines = FramedRead::new(octets, LinesCodec::new_with_max_length(LINE_LENGTH));
        let mut batches = lines.ready_chunks(BATCH);
        while let Some(batch) = batches.next().await {
            let (mut requests, mut lost) = (Vec::with_capacity(batch.len()), 0);
            for line in batch {
                match serde_json::from_str(&line?).context("a line that is none of a proxy's")? {
                    News::Request(request) => requests.push(request),
                    News::Lost(count) => lost += count,
                }
            }
            // Nobody takes them when the agent ends.
            self.requests.send(requests).await?;
            if lost > 0 {
                self.history.lose(lost);
            }
        }
        Ok(())
    }
}

fn place(socket: &Path) -> Option<Place> {
    let found = std::fs::symlink_metadata(socket).ok()?;
    // Its number may be used again, but not at the same time.
    Some((found.dev(), found.ino(), found.ctime(), found.ctime_nsec()))
}

#[cfg(test)]
mod tests;
