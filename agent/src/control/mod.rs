//! The one task that owns the state.
//!
//! ```text
//! source --Update-----> Control --Event--> Compiler --Delta--> plan --Step--> Dataplane
//! endpoint --Snapshot->    |                                                     |
//! api --Call--------->     +-- answers, metrics, health          events, counters+
//! ```
//!
//! - `enforce`: what the compiler says becomes what the kernel holds, and is compared with it;
//! - `endpoints`: which pod is behind which interface, and which programs are attached;
//! - `facts`: node and service addresses; `services`: the rows of the latter;
//! - `answers`: what clients ask; `audit`: what does nothing, and is not to be taken for more;
//! - `flows`: events as users read them;
//! - `numbers`: metrics and health;
//! - `world`: what the sources told;
//! - `proxies`: who reads requests; `requests`: what they tell of them;
//! - `saving`: what is known, on disk;
//! - `waiting`: pods whose containers are held back until their policy is in force.
//!
//! Nothing here waits for anybody but the kernel. If the kernel holds something else than intended (a write failed, a map
//! was too small), the task knows that it is `behind`: it says so, and tries again from what the kernel holds.

mod answers;
mod audit;
mod endpoints;
mod enforce;
mod facts;
mod flows;
mod neighbours;
mod numbers;
mod proxies;
mod requests;
mod saving;
mod services;
mod waiting;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent_api::flow::FlowLine;
use agent_api::status::Reconcile;
use anyhow::Result;
use datapath::event::Event as PacketEvent;
use jiff::Timestamp;
use policy_compiler::compiler::{Compiler, Scope};
use policy_compiler::problem::{Problem, Severity};
use proxy_api::request::Request;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::time::{Instant, interval};

use crate::api::Call;
use crate::dataplane::{Dataplane, Events};
use crate::endpoint::monitor::Handle;
use crate::endpoint::role::{Classifier, Role};
use crate::endpoint::snapshot::Snapshot;
use crate::kubernetes::status::Report;
use crate::lists::Lists;
use crate::memory;
use crate::metrics::{Health, Metrics};
use crate::proxy::demand::Demand;
use crate::source::Update;

pub use saving::Saver;

/// How often hooks are looked at.
const HOOKS_EVERY: Duration = Duration::from_secs(1);
/// How often the kernel's maps are compared with intent.
const MAPS_EVERY: Duration = Duration::from_secs(30);
/// How often flows that are over are removed, and counters read.
const FLOWS_EVERY: Duration = Duration::from_secs(5);
/// How often free memory is given back.
const MEMORY_EVERY: Duration = Duration::from_secs(10);
/// How long to wait after a failure before the kernel is written to again.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How many events are read at a time.
const EVENTS: usize = 256;

/// What the task is given.
#[derive(Debug)]
pub struct Parts {
    /// The node's name.
    pub node: String,
    /// For which pods tables are made.
    pub scope: Scope,
    /// The kernel's side.
    pub dataplane: Dataplane,
    /// What rules about requests are judged by, for who reads requests.
    pub lists: Lists,
    /// The netlink side.
    pub monitor: Handle,
    /// What interfaces are.
    pub classifier: Classifier,
    /// News of the world.
    pub updates: mpsc::Receiver<Update>,
    /// How long the first world is waited for before interfaces are closed for want of it.
    pub first_world: Duration,
    /// Where what is known is saved, if anywhere.
    pub saver: Option<Saver>,
    /// Where it is told how the node stands, if anywhere.
    pub reports: Option<watch::Sender<Report>>,
    /// To ask for news at once.
    pub reread: Arc<Notify>,
    /// Requests of clients.
    pub calls: mpsc::Receiver<Call>,
    /// Requests that proxies tell of.
    pub requests: mpsc::Receiver<Vec<Request<'static>>>,
    /// Who wants to hear of requests that were allowed.
    pub demand: Arc<Demand>,
    /// Flows, for whoever follows them.
    pub flows: broadcast::Sender<FlowLine>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Health.
    pub health: Arc<Health>,
}

/// The state.
#[derive(Debug)]
pub struct Control {
    parts: Parts,
    compiler: Compiler,
    started: Timestamp,
    /// What the sources told.
    world: world::World,
    /// What is wrong with the last reading, or noteworthy about it.
    remarks: Vec<Problem>,
    snapshot: Arc<Snapshot>,
    roles: BTreeMap<u32, Role>,
    /// Why an interface's endpoint is not enforced, by interface.
    held: BTreeMap<u32, String>,
    /// What failed at an interface.
    failed: BTreeMap<u32, String>,
    /// Interfaces are hooked; before that, those that were there before the agent are left as they are.
    armed: bool,
    /// Nothing of an agent before this one is attached any more.
    took_over: bool,
    /// Why the kernel does not hold what is intended.
    behind: Option<String>,
    retry_at: Instant,
    reconciled: Option<Reconcile>,
    met: enforce::Met,
    /// A pod was found behind an interface whose rules an agent before this one wrote: they are still to be compared.
    adopted: bool,
    /// Pods that were opened a moment ago.
    asked: neighbours::Asked,
    /// What the facts of nodes and services were made from, to see whether they changed.
    facts: facts::Written,
    /// Who waits for a pod's policy.
    waiting: waiting::Waiting,
}

impl Control {
    /// The task's state before anything is known.
    pub fn new(parts: Parts) -> Self {
        let snapshot = parts.monitor.snapshot();
        let compiler = Compiler::new(parts.scope.clone());
        Self {
            parts,
            compiler,
            started: Timestamp::now(),
            world: world::World::default(),
            remarks: Vec::new(),
            snapshot,
            roles: BTreeMap::new(),
            held: BTreeMap::new(),
            failed: BTreeMap::new(),
            armed: false,
            took_over: false,
            behind: None,
            retry_at: Instant::now(),
            reconciled: None,
            met: enforce::Met::default(),
            adopted: false,
            asked: neighbours::Asked::default(),
            facts: facts::Written::default(),
            waiting: waiting::Waiting::default(),
        }
    }

    /// Runs until `stop` is told.
    ///
    /// # Errors
    ///
    /// The source of readings or the netlink monitor ended, or the events of the kernel cannot be read.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<()> {
        let mut events = self.parts.dataplane.events()?;
        let mut snapshots = self.parts.monitor.subscribe();
        let [mut hooks, mut maps, mut flows] = [HOOKS_EVERY, MAPS_EVERY, FLOWS_EVERY].map(interval);
        let mut tidy = interval(MEMORY_EVERY);
        let mut beat = interval(Duration::from_millis(250));
        let deadline = Instant::now() + self.parts.first_world;
        let mut heard = Vec::with_capacity(EVENTS);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => {
                    self.save_last();
                    return Ok(());
                }
                update = self.parts.updates.recv() => match update {
                    Some(update) => self.take(update),
                    None => anyhow::bail!("nothing tells of the cluster any more"),
                },
                changed = snapshots.changed() => {
                    changed.map_err(|_| anyhow::anyhow!("nothing watches the interfaces any more"))?;
                    self.snapshot = snapshots.borrow_and_update().clone();
                    self.follow();
                }
                Some(call) = self.parts.calls.recv() => self.answer(call),
                Some(requests) = self.parts.requests.recv() => self.report_requests(requests),
                unknown = next(events.as_mut(), &mut heard) => {
                    self.report(&heard, unknown?);
                    heard.clear();
                }
                _ = hooks.tick() => self.look_at_hooks(),
                _ = maps.tick() => self.compare(),
                _ = flows.tick() => self.expire(),
                _ = tidy.tick() => memory::give_back(),
                now = beat.tick() => {
                    self.parts.health.beat();
                    if !self.armed && now >= deadline {
                        // Nothing is known, so nothing is allowed.
                        self.arm();
                    }
                    if self.behind.is_some() && now >= self.retry_at {
                        self.catch_up();
                        self.take_over();
                        self.note_enforced();
                    }
                    self.save();
                    self.tell_how_it_stands();
                }
            }
            self.settle_waiting();
            self.parts.health.set_reasons(self.reasons());
        }
    }

    /// Takes in a reading.
    fn take(&mut self, update: Update) {
        match update {
            Update::Refused { problems } => {
                self.parts.metrics.refused_readings.inc();
                for problem in &problems {
                    tracing::error!(%problem, "refused; what was in force stays in force");
                }
                self.remarks = problems;
            }
            Update::Followed(followed) => self.take_followed(*followed),
            Update::Changed { mut events, moved, documents, remarks } => {
                self.waiting.correct(&mut events);
                self.waiting.forget(&events);
                for remark in &remarks {
                    tracing::info!(%remark, "accepted with a remark");
                }
                self.remarks = remarks;
                self.world.files = Some(documents);
                let first = !std::mem::replace(&mut self.world.is_known, true);
                self.enforce(events, moved, first);
            }
        }
    }

    /// Why the agent is not ready.
    fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        reasons.extend(self.world.reasons());
        reasons.extend(self.behind.clone());
        for (interface, why) in &self.failed {
            let name = self.snapshot.devices.get(interface).map_or("?", |device| device.name.as_str());
            reasons.push(format!("interface {name}: {why}"));
        }
        let refused = self.remarks.iter().filter(|problem| problem.severity == Severity::Error);
        reasons.extend(refused.map(|problem| format!("refused: {problem}")));
        reasons
    }
}

/// Waits for events; for ever, if there is nothing to read them from.
async fn next(events: Option<&mut Events>, heard: &mut Vec<PacketEvent>) -> std::io::Result<usize> {
    match events {
        Some(events) => events.next(heard).await,
        None => std::future::pending().await,
    }
}
