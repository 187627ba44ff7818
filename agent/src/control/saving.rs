//! What is known, on disk, by a thread that the task with the state does not wait for: everything now and then, and what
//! changes as it happens.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use manifests::kind::Kind;
use policy_compiler::compiler::Event;
use policy_compiler::facts::{EndpointSlice, Namespace, Node, Service};
use policy_compiler::object::{ObjectRef, PodKey};

use super::Control;
use crate::kubernetes::snapshot::{Contents, PolicyStanding, SavedPolicy, Store, Writer};
use crate::source::{Instead, Refusal};

/// How long at least between two writings of everything.
const EVERY: Duration = Duration::from_secs(5);
/// How much longer than the last writing took: a large cluster is not to wear out the disk.
const SHARE: u32 = 50;
/// How much is appended before everything is written anew.
const APPENDED: u64 = 1 << 20;
/// How many changes may wait for the disk.
const WAITING: usize = 1024;

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touched {
    Namespace(Arc<str>),
    Node(Arc<str>),
    Pod(PodKey),
    Service((Arc<str>, Arc<str>)),
    EndpointSlice((Arc<str>, Arc<str>)),
    Policy(ObjectRef),
}

impl Touched {
    fn by(event: &Event) -> Self {
        match event {
            Event::Namespace(Namespace { name, .. }) | Event::NamespaceGone(name) => {
                Self::Namespace(Arc::clone(name))
            }
            Event::Node(Node { name, .. }) | Event::NodeGone(name) => Self::Node(Arc::clone(name)),
            Event::Pod(pod) => Self::Pod(pod.key.clone()),
            Event::PodGone { key, .. } => Self::Pod(key.clone()),
            Event::Service(Service { namespace, name, .. }) | Event::ServiceGone(namespace, name) => {
                Self::Service((Arc::clone(namespace), Arc::clone(name)))
            }
            Event::EndpointSlice(EndpointSlice { namespace, name, .. })
            | Event::EndpointSliceGone(namespace, name) => {
                Self::EndpointSlice((Arc::clone(namespace), Arc::clone(name)))
            }
            Event::Policy(policy) => Self::Policy(policy.object.clone()),
            Event::PolicyGone(object) => Self::Policy(object.clone()),
        }
    }

    fn object(&self) -> ObjectRef {
        match self {
            Self::Namespace(name) => ObjectRef::cluster(Kind::Namespace.name(), name),
            Self::Node(name) => ObjectRef::cluster(Kind::Node.name(), name),
            Self::Pod(key) => ObjectRef::namespaced(Kind::Pod.name(), &key.namespace, &key.name),
            Self::Service((namespace, name)) => ObjectRef::namespaced(Kind::Service.name(), namespace, name),
            Self::EndpointSlice((namespace, name)) => {
                ObjectRef::namespaced(Kind::EndpointSlice.name(), namespace, name)
            }
            Self::Policy(object) => object.clone(),
        }
    }
}

/// Copies what has this name; whether there is any.
fn copy<K: Ord + Clone, V>(from: &BTreeMap<K, Arc<V>>, to: &mut BTreeMap<K, Arc<V>>, name: &K) -> bool {
    let found = from.get(name).map(|fact| to.insert(name.clone(), Arc::clone(fact)));
    found.is_some()
}

/// Has what is known written.
#[derive(Debug)]
pub struct Saver {
    store: Store,
    node: String,
    messages: SyncSender<Message>,
    shared: Arc<Mutex<Shared>>,
    thread: JoinHandle<()>,
    /// The failure that was told last.
    told: Option<String>,
}

#[derive(Debug)]
enum Message {
    Everything(Contents),
    Changes(Contents),
}

/// What the thread and the task know of each other.
#[derive(Debug)]
struct Shared {
    /// What is on disk, or will be when all messages are taken, lacks something.
    lacks: bool,
    /// Everything is being written.
    busy: bool,
    /// Everything is to be written.
    wanted: bool,
    /// But not before.
    earliest: Instant,
    /// Why it cannot be written.
    failure: Option<String>,
}

impl Saver {
    /// Writes there.
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub fn new(store: Store, node: &str) -> io::Result<Self> {
        let (messages, received) = sync_channel(WAITING);
        let shared =
            Shared { lacks: true, busy: false, wanted: false, earliest: Instant::now(), failure: None };
        let shared = Arc::new(Mutex::new(shared));
        let mut disk = Disk {
            store: store.clone(),
            node: node.to_owned(),
            received,
            shared: Arc::clone(&shared),
            writer: None,
        };
        let thread = std::thread::Builder::new().name("saving".to_owned()).spawn(move || disk.run())?;
        Ok(Self { store, node: node.to_owned(), messages, shared, thread, told: None })
    }

    /// Whether everything is to be written now.
    fn is_due(&self) -> bool {
        with(&self.shared, |shared| shared.wanted && !shared.busy && Instant::now() >= shared.earliest)
    }

    /// From now on, what changes is appended.
    fn write_everything(&self, contents: Contents) {
        with(&self.shared, |shared| (shared.lacks, shared.wanted, shared.busy) = (false, false, true));
        if !self.send(Message::Everything(contents)) {
            with(&self.shared, |shared| shared.busy = false);
        }
    }

    /// Whether what changes is to be appended; else everything is to be written.
    fn appends(&self) -> bool {
        with(&self.shared, |shared| {
            shared.wanted |= shared.lacks;
            !shared.lacks
        })
    }

    /// Whether the thread will see it; else what is on disk lacks something.
    fn send(&self, message: Message) -> bool {
        let why = match self.messages.try_send(message) {
            Ok(()) => return true,
            Err(TrySendError::Full(_)) => "the disk is slower than the cluster changes",
            Err(TrySendError::Disconnected(_)) => "the thread that writes ended",
        };
        with(&self.shared, |shared| shared.fail(why));
        false
    }
}

impl Shared {
    /// What is on disk is not what is known any more, until everything is written anew.
    fn fail(&mut self, why: impl Into<String>) {
        (self.lacks, self.wanted) = (true, true);
        self.earliest = Instant::now() + EVERY;
        self.failure = Some(why.into());
    }
}

/// No panic can leave it half-changed.
fn with<T>(shared: &Mutex<Shared>, change: impl FnOnce(&mut Shared) -> T) -> T {
    change(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The thread's side.
struct Disk {
    store: Store,
    node: String,
    received: Receiver<Message>,
    shared: Arc<Mutex<Shared>>,
    writer: Option<Writer>,
}

impl Disk {
    fn run(&mut self) {
        while let Ok(message) = self.received.recv() {
            match message {
                Message::Changes(changes) => append(&mut self.writer, &self.shared, &changes),
                Message::Everything(contents) => self.everything(&contents),
            }
        }
    }

    /// What changes meanwhile goes to the old file, which counts until the new one is there, and to the new one.
    fn everything(&mut self, contents: &Contents) {
        let begun = Instant::now();
        let Self { received, shared, writer, .. } = self;
        let meanwhile = || {
            let mut news = Vec::new();
            while let Ok(message) = received.try_recv() {
                // Everything is asked for by one message at a time.
                let Message::Changes(changes) = message else { continue };
                append(writer, shared, &changes);
                news.push(changes);
            }
            news
        };
        let written = self.store.write(&self.node, contents, meanwhile);
        let pause = begun.elapsed().saturating_mul(SHARE).max(EVERY);
        with(&self.shared, |shared| {
            shared.busy = false;
            match written {
                Ok(writer) => {
                    self.writer = Some(writer);
                    shared.earliest = Instant::now() + pause;
                    shared.failure = None;
                }
                Err(error) => shared.fail(format!("{error:#}")),
            }
        });
    }
}

/// Where nothing was written yet, or something failed, everything is to come first.
fn append(writer: &mut Option<Writer>, shared: &Mutex<Shared>, changes: &Contents) {
    let Some(file) = writer else { return };
    match file.append(changes) {
        Ok(()) => with(shared, |shared| shared.wanted |= file.is_long(APPENDED)),
        Err(error) => {
            *writer = None;
            with(shared, |shared| shared.fail(format!("appending what changed: {error}")));
        }
    }
}

impl Control {
    /// Has everything written, if it is time.
    pub(super) fn save(&mut self) {
        let Some(saver) = &mut self.parts.saver else { return };
        let failure = with(&saver.shared, |shared| shared.failure.clone());
        if let Some(failure) = failure.as_ref().filter(|_| failure != saver.told) {
            tracing::error!(failure, "what is known of the cluster is not saved");
            self.parts.metrics.snapshot_failures.inc();
        }
        saver.told = failure;
        // What comes from disk is there already.
        if saver.is_due() && self.world.standing.from_disk.is_none() {
            let contents = self.contents();
            if let Some(saver) = &self.parts.saver {
                saver.write_everything(contents);
            }
        }
    }

    /// What of these events is to be appended when they are in force; nothing if everything is to be written.
    pub(super) fn to_append(&self, events: &[Event]) -> BTreeSet<Touched> {
        let saver = self.parts.saver.as_ref().filter(|_| self.world.standing.from_disk.is_none());
        if saver.is_some_and(Saver::appends) {
            events.iter().map(Touched::by).collect()
        } else {
            BTreeSet::new()
        }
    }

    /// Has written what changed.
    pub(super) fn save_changes(&self, touched: &BTreeSet<Touched>) {
        if let Some(saver) = self.parts.saver.as_ref().filter(|_| !touched.is_empty()) {
            saver.send(Message::Changes(self.contents_of(touched)));
        }
    }

    /// Waits until all is written, at the end.
    pub(super) fn save_last(&mut self) {
        let Some(saver) = self.parts.saver.take() else { return };
        let Saver { store, node, messages, shared, thread, .. } = saver;
        drop(messages);
        let ended = thread.join();
        let lacks = ended.is_err() || with(&shared, |shared| shared.lacks);
        if lacks
            && self.world.is_known
            && self.world.standing.from_disk.is_none()
            && let Err(error) = store.write(&node, &self.contents(), Vec::new)
        {
            tracing::error!(error = format!("{error:#}"), "what is known of the cluster is not saved");
        }
    }

    fn contents(&self) -> Contents {
        let policies = self.world.texts.keys().filter_map(|object| self.saved_policy(object));
        // Facts are shared: this copies what leads to them.
        Contents { cluster: self.compiler.cluster().clone(), policies: policies.collect(), gone: Vec::new() }
    }

    fn contents_of(&self, touched: &BTreeSet<Touched>) -> Contents {
        let (known, mut contents) = (self.compiler.cluster(), Contents::default());
        for one in touched {
            let is_there = match one {
                Touched::Namespace(name) => copy(&known.namespaces, &mut contents.cluster.namespaces, name),
                Touched::Node(name) => copy(&known.nodes, &mut contents.cluster.nodes, name),
                Touched::Pod(key) => copy(&known.pods, &mut contents.cluster.pods, key),
                Touched::Service(name) => copy(&known.services, &mut contents.cluster.services, name),
                Touched::EndpointSlice(name) => {
                    copy(&known.endpoint_slices, &mut contents.cluster.endpoint_slices, name)
                }
                Touched::Policy(object) => {
                    let saved = self.saved_policy(object);
                    let is_there = saved.is_some();
                    contents.policies.extend(saved);
                    is_there
                }
            };
            if !is_there {
                contents.gone.push(one.object());
            }
        }
        contents
    }

    /// A policy, if it is in force.
    fn saved_policy(&self, object: &ObjectRef) -> Option<SavedPolicy> {
        self.compiler.policy(object)?;
        let stands_in = |refusal: &Refusal| refusal.object == *object && refusal.instead != Instead::LastGood;
        let standing = if self.compiler.retained().contains(object) {
            PolicyStanding::Retained
        } else if self.world.refused.iter().any(stands_in) {
            PolicyStanding::StandIn
        } else {
            PolicyStanding::Written
        };
        SavedPolicy::new(object, self.world.texts.get(object)?, standing)
    }
}

#[cfg(test)]
mod tests;
