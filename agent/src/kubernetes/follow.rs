//! One kind of objects, listed and watched for as long as anybody listens.
//!
//! ```text
//! stream (list and watch in one) --refused--> pages of a list, then watch
//!        |                                          |
//!        +--> Begun, Object..., Listed, then Object, Gone, Version ... <--+
//! ```
//!
//! The crate's own watcher hides bookmarks, so that it cannot tell a quiet kind from a connection that is dead; knows only
//! one of the two ways to list; and gives no version of the server's that a client could wait for. All three are needed.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use futures::StreamExt as _;
use http::Request;
use kube::Client;
use kube::api::WatchEvent;
use manifests::kind::Kind;
use manifests::live;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::server::{Followable, Page};

/// What is told of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A list begins: what is not told until it ends is gone.
    Begun,
    /// An object is there, or changed.
    Object(Box<str>),
    /// An object is gone; its last state.
    Gone(Box<str>),
    /// The list is complete.
    Listed,
    /// There is no such kind (any more).
    Absent,
    /// All up to this version has been told.
    Version(String),
    /// What is wrong. It is tried again.
    Trouble(String),
    /// Nothing is wrong any more.
    Well,
}

/// How patient it is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long a request may take to be answered at all.
    pub answer: Duration,
    /// How long a watch may say nothing. Servers send a bookmark every minute.
    pub silence: Duration,
    /// How long to wait after a first failure; doubled with each further one.
    pub first_retry: Duration,
    /// At most.
    pub last_retry: Duration,
    /// How often it is looked whether a kind that is missing is there now; also for how long one that was there has to be
    /// missing before that is believed.
    pub absent: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            silence: Duration::from_secs(75),
            first_retry: Duration::from_millis(200),
            last_retry: Duration::from_secs(5),
            absent: Duration::from_secs(10),
        }
    }
}

/// Nobody listens any more.
struct Unheard;

/// Why it has to be begun again.
enum Failure {
    /// The version is too old: list again.
    Expired,
    /// There is no such path.
    NotFound,
    /// The server cannot list as a stream.
    NoStream,
    /// Anything else; the server may have said how long to wait.
    Other(String, Option<Duration>),
    Unheard,
}

impl From<Unheard> for Failure {
    fn from(Unheard: Unheard) -> Self {
        Self::Unheard
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        if let kube::Error::Api(status) = &error {
            let wait =
                status.details.as_ref().map(|details| details.retry_after_seconds).filter(|wait| *wait > 0);
            match status.code {
                410 => return Self::Expired,
                404 => return Self::NotFound,
                code => {
                    let message = format!("the server answers {code} {}: {}", status.reason, status.message);
                    return Self::Other(
                        message,
                        wait.map(|wait| Duration::from_secs(u64::from(wait).min(60))),
                    );
                }
            }
        }
        Self::Other(with_causes(&error), None)
    }
}

/// An error and what it comes from, each said once.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}

/// Follows one kind.
pub(super) struct Follower {
    client: Client,
    what: Followable,
    patience: Patience,
    heard: mpsc::Sender<(Kind, Seen)>,
    /// Whether the server lists as a stream, as far as is known.
    streams: bool,
    /// Failures since it last went well.
    failures: u32,
    /// All up to here has been told; `None`: list.
    version: Option<String>,
    /// Objects of the kind have been told of.
    present: bool,
    /// Since when the kind has been missing.
    missing: Option<Instant>,
}

impl Follower {
    pub(super) fn new(
        client: Client,
        what: Followable,
        patience: Patience,
        heard: mpsc::Sender<(Kind, Seen)>,
    ) -> Self {
        Self {
            client,
            what,
            patience,
            heard,
            streams: true,
            failures: 0,
            version: None,
            present: false,
            missing: None,
        }
    }

    /// Runs until nobody listens.
    pub(super) async fn run(mut self) {
        loop {
            match self.once().await {
                // The server ends watches after a while; the next goes on where this one was.
                Ok(()) => {}
                Err(Failure::Unheard) => return,
                Err(Failure::Expired) => self.version = None,
                Err(Failure::NoStream) => {
                    tracing::debug!(kind = self.what.kind.name(), "the server lists in pages only");
                    self.streams = false;
                }
                Err(Failure::NotFound) if self.what.custom => {
                    if self.is_missing().await.is_err() {
                        return;
                    }
                }
                Err(Failure::NotFound) => {
                    if self.fail("the server does not know this kind", None).await.is_err() {
                        return;
                    }
                }
                Err(Failure::Other(message, wait)) => {
                    if self.fail(&message, wait).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// One watch, after a list if that is needed.
    async fn once(&mut self) -> Result<(), Failure> {
        // Watches of all nodes and kinds are not to end at once.
        let seconds = 300 + u32::try_from(random() % 300).unwrap_or_default();
        let Some(version) = self.version.clone() else {
            if self.streams {
                return self.stream(seconds).await;
            }
            return self.pages().await;
        };
        let request = self.what.watch(&version, seconds)?;
        self.watch(request, false).await
    }

    /// Lists and watches in one.
    async fn stream(&mut self, seconds: u32) -> Result<(), Failure> {
        let request = self.what.stream(seconds)?;
        match self.watch(request, true).await {
            Err(Failure::Other(message, wait)) if is_no_stream(&message) => {
                tracing::debug!(message, ?wait, "sendInitialEvents");
                Err(Failure::NoStream)
            }
            other => other,
        }
    }

    async fn pages(&mut self) -> Result<(), Failure> {
        let mut continued = None;
        let mut begun = false;
        loop {
            let request = self.what.list(continued.take())?;
            let page: Page = self.answered(self.client.request(request)).await?;
            if !begun {
                self.tell(Seen::Begun).await?;
                begun = true;
            }
            for item in page.items.into_iter().flatten() {
                self.object(item).await?;
            }
            continued = page.metadata.continue_.filter(|token| !token.is_empty());
            if continued.is_some() {
                continue;
            }
            let Some(version) = page.metadata.resource_version.filter(|version| !version.is_empty()) else {
                return Err(Failure::Other("a list has no resourceVersion".to_owned(), None));
            };
            self.listed(version).await?;
            return Ok(());
        }
    }

    async fn watch(&mut self, request: Request<Vec<u8>>, mut listing: bool) -> Result<(), Failure> {
        let events = self.answered(self.client.request_events::<Box<RawValue>>(request)).await?;
        let mut events = events.boxed();
        if listing {
            self.tell(Seen::Begun).await?;
        } else {
            self.well().await?;
        }
        loop {
            let Ok(next) = timeout(self.patience.silence, events.next()).await else {
                let silence = self.patience.silence;
                if listing {
                    return Err(Failure::Other(format!("a list was silent for {silence:?}"), None));
                }
                // Nothing to report: servers on an old etcd have no bookmarks for what does not change. A dead connection
                // shows when the next watch gets no answer.
                tracing::debug!(kind = self.what.kind.name(), ?silence, "a silent watch is begun again");
                return Ok(());
            };
            match next {
                Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                    let version = Self::version_of(&object)?;
                    self.object(object).await?;
                    if !listing {
                        self.reached(version).await?;
                    }
                }
                Some(Ok(WatchEvent::Deleted(object))) => {
                    let version = Self::version_of(&object)?;
                    self.tell(Seen::Gone(text(object))).await?;
                    if !listing {
                        self.reached(version).await?;
                    }
                }
                Some(Ok(WatchEvent::Bookmark(mark))) => {
                    let ends = mark.metadata.annotations.contains_key("k8s.io/initial-events-end");
                    if listing && ends {
                        listing = false;
                        self.listed(mark.metadata.resource_version).await?;
                    } else if !listing {
                        self.reached(mark.metadata.resource_version).await?;
                    }
                }
                Some(Ok(WatchEvent::Error(status))) => return Err(kube::Error::Api(status).into()),
                Some(Err(error)) => return Err(error.into()),
                None if listing => {
                    return Err(Failure::Other("a list ended before it was complete".to_owned(), None));
                }
                None => return Ok(()),
            }
        }
    }

    /// Bounds the time until a request is answered.
    async fn answered<T>(&self, answer: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
        let bound = self.patience.answer;
        match timeout(bound, answer).await {
            Ok(answer) => answer.map_err(Failure::from),
            Err(_) => Err(Failure::Other(format!("the server does not answer within {bound:?}"), None)),
        }
    }

    fn version_of(object: &RawValue) -> Result<String, Failure> {
        match live::version(object.get()) {
            Ok(version) if !version.resource_version.is_empty() => Ok(version.resource_version),
            Ok(_) => Err(Failure::Other("an object has no metadata.resourceVersion".to_owned(), None)),
            Err(error) => Err(Failure::Other(format!("an object has no metadata: {error}"), None)),
        }
    }

    async fn object(&mut self, object: Box<RawValue>) -> Result<(), Unheard> {
        self.present = true;
        self.tell(Seen::Object(text(object))).await
    }

    async fn listed(&mut self, version: String) -> Result<(), Unheard> {
        self.tell(Seen::Listed).await?;
        self.reached(version).await?;
        self.well().await
    }

    async fn reached(&mut self, version: String) -> Result<(), Unheard> {
        self.version = Some(version.clone());
        if self.what.kind.is_policy() { self.tell(Seen::Version(version)).await } else { Ok(()) }
    }

    async fn well(&mut self) -> Result<(), Unheard> {
        self.missing = None;
        let failed = std::mem::take(&mut self.failures) > 0;
        if failed { self.tell(Seen::Well).await } else { Ok(()) }
    }

    /// Says what is wrong, and waits: longer each time, and never as long as the others.
    async fn fail(&mut self, message: &str, wait: Option<Duration>) -> Result<(), Unheard> {
        let doubled = self.patience.first_retry.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let bound = doubled.min(self.patience.last_retry);
        let pause = bound.mul_f64(0.5 + unit(random()) / 2.0).max(wait.unwrap_or_default());
        tracing::debug!(kind = self.what.kind.name(), message, ?pause, "tried again");
        self.tell(Seen::Trouble(format!("{}: {message}", self.what.plural))).await?;
        self.pause(pause).await
    }

    /// A kind that was never there is missing at once; one that was, when it has been for a while: a server that starts
    /// may know less at first, and to believe it would drop policies.
    async fn is_missing(&mut self) -> Result<(), Unheard> {
        let now = Instant::now();
        let since = *self.missing.get_or_insert(now);
        let believed = !self.present || now.duration_since(since) >= self.patience.absent;
        if believed {
            self.present = false;
            self.version = None;
            self.tell(Seen::Absent).await?;
            let failed = std::mem::take(&mut self.failures) > 0;
            if failed {
                self.tell(Seen::Well).await?;
            }
        }
        let pause = if believed { self.patience.absent } else { self.patience.absent / 2 };
        self.pause(pause.mul_f64(0.75 + unit(random()) / 4.0)).await
    }

    async fn pause(&self, pause: Duration) -> Result<(), Unheard> {
        tokio::select! {
            () = sleep(pause) => Ok(()),
            () = self.heard.closed() => Err(Unheard),
        }
    }

    async fn tell(&self, seen: Seen) -> Result<(), Unheard> {
        self.heard.send((self.what.kind, seen)).await.map_err(|_| Unheard)
    }
}

/// Whether a refusal means that the server cannot list as a stream: it does not know the parameter, or has it switched off.
fn is_no_stream(message: &str) -> bool {
    ["sendInitialEvents", "resourceVersionMatch", "RequestWatchProgress"]
        .iter()
        .any(|parameter| message.contains(parameter))
}

fn text(object: Box<RawValue>) -> Box<str> {
    object.into()
}

/// Enough chance to keep nodes apart.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// From 0 to 1.
fn unit(random: u64) -> f64 {
    f64::from(u32::try_from(random >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
