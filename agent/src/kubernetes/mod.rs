//! An API server as the source of truth.
//!
//! ```text
//! server <--list, watch-- follow (one task a kind) --Seen--> intake (pure) --Followed--> control
//!            ^                                                |   ^
//!            +---- how is this namespace? <-------------------+   +-- snapshot: what was in force, from disk
//! ```
//!
//! All of it has a thread of its own: to read a list of a hundred thousand pods takes seconds, and who owns the state must
//! not wait for it.
//!
//! If the server cannot be asked when the agent starts, what the last agent knew is enforced instead
//! ([`snapshot`]): pods that it did not know stay closed, and the agent says that it is not ready. When the server is
//! back, lists show what changed meanwhile.

mod follow;
mod intake;
mod intern;
mod policies;
mod server;
pub mod snapshot;
pub mod status;
mod traffic;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use manifests::kind::Kind;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use crate::metrics::Metrics;
use crate::source::{Followed, Standing, Update};

pub use follow::Patience;
pub use server::connect;
pub use traffic::Received;

use follow::{Follower, Seen};
use intake::{Intake, Unreadable};
use server::FOLLOWED;
use snapshot::{Saved, Store};
use status::Report;

/// Messages of the watches that may wait.
const HEARD: usize = 1024;
/// How many are taken at a time.
const AT_ONCE: usize = 256;
/// How many changes wait for the task with the state before the watches have to.
const CHANGES: usize = 20_000;
/// How long to wait for the server's word about a namespace, and before it is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What is followed, and how patiently.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the server is reached; `None`: as a pod is told.
    pub kubeconfig: Option<PathBuf>,
    /// The node.
    pub node: String,
    /// Where what is known is kept; `None`: nowhere.
    pub store: Option<Store>,
    /// How patient watches are.
    pub patience: Patience,
    /// How long the server is waited for before what is on disk is enforced.
    pub disk_after: Duration,
}

/// What belongs to the thread.
#[derive(Debug)]
pub struct Parts {
    /// What is followed.
    pub options: Options,
    /// To ask for new lists.
    pub resync: Arc<Notify>,
    /// Where news go.
    pub updates: mpsc::Sender<Update>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How the node stands, to be told to the cluster.
    pub reports: Option<watch::Receiver<Report>>,
}

/// Follows the server on a thread of its own until nobody receives any more. The client that it uses comes back.
///
/// # Errors
///
/// It is not known how to reach the server.
pub async fn spawn(parts: Parts) -> anyhow::Result<Client> {
    let (connected, connection) = oneshot::channel();
    let thread = std::thread::Builder::new().name("kubernetes".to_owned());
    thread
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => {
                    // Who waits sees that nobody will answer.
                    tracing::error!(%error, "no runtime for the thread that follows the API server");
                    return;
                }
            };
            runtime.block_on(async move {
                let received = Received::default();
                match connect(parts.options.kubeconfig.as_deref(), &received).await {
                    Ok(client) => {
                        if connected.send(Ok(client.clone())).is_ok() {
                            Source::new(client, parts, received).run().await;
                        }
                    }
                    Err(error) => drop(connected.send(Err(error))),
                }
            });
        })
        .context("starting the thread that follows the API server")?;
    connection.await.context("the thread that follows the API server ended")?
}

/// Follows with a client that is there already.
pub async fn run(client: Client, parts: Parts) {
    Source::new(client, parts, Received::default()).run().await;
}

struct Source {
    client: Client,
    parts: Parts,
    received: Received,
    intake: Intake,
    /// What was on disk, until everything is known or it is enforced.
    saved: Option<Saved>,
    standing: Standing,
    /// As it was told last.
    told: Standing,
    troubles: BTreeMap<Kind, String>,
    heard: mpsc::Sender<(Kind, Seen)>,
    hearing: mpsc::Receiver<(Kind, Seen)>,
    followers: JoinSet<()>,
}

impl Source {
    fn new(client: Client, parts: Parts, received: Received) -> Self {
        let read = parts.options.store.as_ref().map_or(Ok(None), |store| store.read(&parts.options.node));
        let lost = |saved: &Saved| {
            let lost = saved.lost;
            (lost > 0).then(|| format!("its last {lost} bytes are damaged or cut off, and not used"))
        };
        let (saved, why) = match read {
            Ok(saved) => {
                let why = saved.as_ref().and_then(lost);
                (saved, why)
            }
            Err(error) => (None, Some(format!("{error:#}; it is not used"))),
        };
        if let Some(why) = &why {
            tracing::error!(why, "what was saved of the cluster");
            parts.metrics.snapshot_failures.inc();
        }
        let standing = Standing { disk: why, ..Standing::default() };
        let policies = saved.as_ref().map(|saved| saved.policies.clone()).unwrap_or_default();
        let (heard, hearing) = mpsc::channel(HEARD);
        Self {
            client,
            parts,
            received,
            intake: Intake::new(policies),
            saved,
            standing,
            told: Standing::default(),
            troubles: BTreeMap::new(),
            heard,
            hearing,
            followers: JoinSet::new(),
        }
    }

    async fn run(mut self) {
        self.follow_all();
        if let Some(reports) = self.parts.reports.take() {
            let node = self.parts.options.node.clone();
            tokio::spawn(status::write(self.client.clone(), node, reports));
        }
        let mut batch = Vec::with_capacity(AT_ONCE);
        let mut answers = FuturesUnordered::new();
        let from_disk_at = tokio::time::Instant::now() + self.parts.options.disk_after;
        let updates = self.parts.updates.clone();
        let resync = Arc::clone(&self.parts.resync);
        loop {
            let may_hear = !self.intake.is_whole() || self.intake.waiting() < CHANGES;
            let has_news = self.has_news();
            tokio::select! {
                permit = updates.reserve(), if has_news => match permit {
                    Ok(permit) => {
                        if let Some(followed) = self.give() {
                            permit.send(Update::Followed(Box::new(followed)));
                        }
                    }
                    Err(_) => return,
                },
                count = self.hearing.recv_many(&mut batch, AT_ONCE), if may_hear => {
                    tracing::trace!(count, "heard");
                    for (kind, seen) in batch.drain(..) {
                        self.hear(kind, seen);
                    }
                    for name in self.intake.questions() {
                        answers.push(namespace(self.client.clone(), name));
                    }
                }
                Some((name, answer)) = answers.next(), if !answers.is_empty() => {
                    self.intake.namespace_is(&name, answer);
                }
                () = sleep_until(from_disk_at), if self.saved.is_some() && !self.intake.is_whole() => {
                    self.use_saved(&updates).await;
                }
                () = resync.notified() => {
                    self.followers.shutdown().await;
                    self.follow_all();
                }
                () = updates.closed() => return,
            }
        }
    }

    fn follow_all(&mut self) {
        for what in FOLLOWED {
            let (client, heard) = (self.client.clone(), self.heard.clone());
            let follower = Follower::new(client, what, self.parts.options.patience, heard);
            self.followers.spawn(follower.run());
        }
    }

    fn hear(&mut self, kind: Kind, seen: Seen) {
        match &seen {
            Seen::Trouble(why) if self.troubles.insert(kind, why.clone()).is_none() => {
                tracing::warn!(why, "following the API server");
                self.parts.metrics.watch_failures.inc();
            }
            Seen::Well if self.troubles.remove(&kind).is_some() => {
                tracing::info!(kind = kind.name(), "followed again");
            }
            _ => {}
        }
        if let Err(Unreadable { problems }) = self.intake.take(kind, seen) {
            self.parts.metrics.unreadable_objects.inc();
            for problem in problems {
                tracing::error!(%problem, "an object cannot be read, and what is known of it stays as it is");
            }
        }
        let since = self.standing.trouble.take().map_or_else(Instant::now, |(since, _)| since);
        self.standing.trouble = self.troubles.values().next().map(|why| (since, why.clone()));
    }

    fn has_news(&self) -> bool {
        self.intake.has_news() || self.standing != self.told
    }

    fn give(&mut self) -> Option<Followed> {
        self.parts.metrics.set_api_bytes(self.received.bytes());
        let given = self.intake.give();
        if given.is_some() {
            self.saved = None;
            self.standing.from_disk = None;
        }
        let mut followed = given;
        if self.standing != self.told {
            self.told = self.standing.clone();
            followed.get_or_insert_default().standing = Some(self.standing.clone());
        }
        followed
    }

    /// The server could not be asked in time.
    async fn use_saved(&mut self, updates: &mpsc::Sender<Update>) {
        let Some(Saved { written, mut followed, .. }) = self.saved.take() else { return };
        let missing = self.intake.missing().join(", ");
        tracing::warn!(%written, missing, "the API server was not heard in time: what was saved is enforced");
        self.standing.from_disk =
            Some(format!("what was known at {written} is enforced: not heard of yet: {missing}"));
        self.told = self.standing.clone();
        followed.standing = Some(self.standing.clone());
        // Nobody receives any more: the loop sees it too.
        let _closed = updates.send(Update::Followed(Box::new(followed))).await;
    }
}

/// How a namespace is: being deleted or not; `None`: there is none.
async fn namespace(client: Client, name: Arc<str>) -> (Arc<str>, Option<bool>) {
    let namespaces: Api<Namespace> = Api::all(client);
    loop {
        match timeout(ASK_AGAIN * 10, namespaces.get_opt(&name)).await {
            Ok(Ok(found)) => {
                let terminating = found
                    .map(|namespace| policy_compiler::facts::Namespace::from_api(&namespace).terminating);
                return (name, terminating);
            }
            Ok(Err(error)) => tracing::debug!(%error, namespace = &*name, "asking for a namespace"),
            Err(_) => tracing::debug!(namespace = &*name, "asking for a namespace takes too long"),
        }
        sleep(ASK_AGAIN).await;
    }
}
