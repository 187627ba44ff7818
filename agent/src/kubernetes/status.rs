//! How this node stands, told to the cluster: its `PolderNode`, and an Event on each policy that is refused.
//!
//! Both are for reading only: nothing that is enforced waits for them, and the server is not asked more often than a large
//! cluster's can bear.

use std::collections::HashSet;
use std::time::Duration;

use agent_api::node::{LISTED, NodeStatus, PolderNode, PolderNodeSpec, RefusedPolicy};
use anyhow::{Context as _, Result};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use manifests::kind::Kind;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::server::FOLLOWED;
use crate::source::Refusal;

/// Who writes: the server remembers which fields are whose.
const MANAGER: &str = "polder-agent";
/// How long at least between two writings of what somebody may wait for.
const SOON: Duration = Duration::from_secs(1);
/// How much longer for each node of the cluster: all of them write after a change of policy.
const PER_NODE: Duration = Duration::from_millis(10);
/// How long at least between two writings of what only changes numbers.
const NUMBERS: Duration = Duration::from_secs(30);
/// How long at most: who reads can tell an agent that is gone.
const AT_MOST: Duration = Duration::from_mins(5);
/// How long a writing may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the note of an Event may be.
const NOTE: usize = 1024;

/// How the node stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is written.
    pub status: NodeStatus,
    /// Counts changes of policies: somebody may wait for these.
    pub changes: u64,
    /// How many nodes there are.
    pub nodes: usize,
    /// All refused policies.
    pub refused: Vec<Refusal>,
}

/// As it is listed.
pub fn refused(refusals: &[Refusal]) -> Vec<RefusedPolicy> {
    let listed = refusals.iter().take(LISTED).map(|refusal| RefusedPolicy {
        kind: refusal.object.kind.to_string(),
        namespace: refusal.object.namespace.as_deref().unwrap_or_default().to_owned(),
        name: refusal.object.name.to_string(),
        uid: refusal.uid.clone(),
        generation: refusal.generation,
        instead: refusal.instead.text().to_owned(),
        message: message(refusal),
    });
    listed.collect()
}

fn message(refusal: &Refusal) -> String {
    let said: Vec<String> = refusal
        .problems
        .iter()
        .map(|problem| {
            let path = if problem.path.is_empty() { String::new() } else { format!("{}: ", problem.path) };
            format!("{path}{}; expected {}", problem.message, problem.expected)
        })
        .collect();
    let mut text = said.join("; ");
    let cut = text.floor_char_boundary(NOTE - 100);
    text.truncate(cut);
    text
}

/// Writes until nobody reports any more.
pub async fn write(client: Client, node: String, mut reports: watch::Receiver<Report>) {
    let mut writer = Writer {
        nodes: Api::all(client.clone()),
        client,
        node,
        written: None,
        noted: HashSet::new(),
        failing: false,
    };
    loop {
        let report = reports.borrow_and_update().clone();
        if let Some(due) = writer.due(&report) {
            if Instant::now() >= due {
                writer.perform(&report).await;
                continue;
            }
            tokio::select! {
                () = sleep_until(due) => {}
                changed = reports.changed() => if changed.is_err() { return },
            }
        } else if reports.changed().await.is_err() {
            return;
        }
    }
}

struct Writer {
    client: Client,
    nodes: Api<PolderNode>,
    node: String,
    written: Option<(Report, Instant)>,
    /// Refusals that have their Event.
    noted: HashSet<(String, i64)>,
    failing: bool,
}

impl Writer {
    /// When a report is to be written; `None`: there is none yet.
    fn due(&self, report: &Report) -> Option<Instant> {
        if report.status.agent_version.is_empty() {
            return None;
        }
        let Some((written, when)) = &self.written else { return Some(Instant::now()) };
        let per_node = PER_NODE.saturating_mul(u32::try_from(report.nodes).unwrap_or(u32::MAX));
        let soon = SOON.max(per_node);
        let wait = if written.changes != report.changes
            || written.refused != report.refused
            || written.status.ready != report.status.ready
        {
            soon
        } else if numbers(written) != numbers(report) {
            soon.max(NUMBERS)
        } else {
            AT_MOST
        };
        Some(*when + wait)
    }

    async fn perform(&mut self, report: &Report) {
        let told = match timeout(PATIENCE, self.tell(report)).await {
            Ok(told) => told,
            Err(_) => Err(anyhow::anyhow!("no answer within {PATIENCE:?}")),
        };
        match told {
            Ok(()) => {
                self.failing = false;
                self.written = Some((report.clone(), Instant::now()));
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(error = format!("{error:#}"), "how this node stands is not written down");
                }
                sleep(PATIENCE).await;
            }
        }
    }

    async fn tell(&mut self, report: &Report) -> Result<()> {
        let parameters = PatchParams::apply(MANAGER).force();
        if self.written.is_none() {
            let bare = PolderNode::new(&self.node, PolderNodeSpec {});
            let applied = self.nodes.patch(&self.node, &parameters, &Patch::Apply(&bare)).await;
            applied.with_context(|| format!("PolderNode {}", self.node))?;
        }
        let mut status = report.status.clone();
        status.written = Timestamp::now().to_string();
        let patch = json!({"apiVersion": "polder.dev/v1alpha1", "kind": "PolderNode", "status": status});
        let applied = self.nodes.patch_status(&self.node, &parameters, &Patch::Apply(&patch)).await;
        applied.with_context(|| format!("status of PolderNode {}", self.node))?;
        for refusal in &report.refused {
            let key = (refusal.uid.clone(), refusal.generation);
            if !self.noted.contains(&key) {
                self.note(refusal).await?;
                self.noted.insert(key);
            }
        }
        self.noted.retain(|(uid, generation)| {
            report.refused.iter().any(|one| one.uid == *uid && one.generation == *generation)
        });
        Ok(())
    }

    /// One Event for each version of a policy, whichever node is first: its name is made of them.
    async fn note(&self, refusal: &Refusal) -> Result<()> {
        let object = &refusal.object;
        let namespace = object.namespace.as_deref().unwrap_or("default");
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let kind = FOLLOWED.iter().map(|one| one.kind).find(|kind| kind.name() == &*object.kind);
        let mut note = format!("Not enforced as written, {}: {}", refusal.instead.text(), message(refusal));
        let cut = note.floor_char_boundary(NOTE);
        note.truncate(cut);
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("polder-{}-{}", refusal.uid, refusal.generation)),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            action: Some("Enforce".to_owned()),
            event_time: Some(MicroTime(Timestamp::now())),
            note: Some(note),
            reason: Some("NotEnforced".to_owned()),
            regarding: Some(ObjectReference {
                api_version: kind.map(|kind: Kind| kind.api_version().to_owned()),
                kind: Some(object.kind.to_string()),
                name: Some(object.name.to_string()),
                namespace: object.namespace.as_deref().map(str::to_owned),
                uid: Some(refusal.uid.clone()),
                ..ObjectReference::default()
            }),
            reporting_controller: Some("polder.dev/agent".to_owned()),
            reporting_instance: Some(self.node.clone()),
            type_: Some("Warning".to_owned()),
            ..Event::default()
        };
        match events.create(&PostParams::default(), &event).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            // The namespace is on its way out: nobody will read it.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 403 => {
                tracing::debug!(policy = %object, status.message, "no Event");
                Ok(())
            }
            Err(error) => Err(error).with_context(|| format!("an Event on {object}")),
        }
    }
}

/// What only changes numbers.
fn numbers(report: &Report) -> NodeStatus {
    NodeStatus {
        written: String::new(),
        enforced: std::collections::BTreeMap::new(),
        ..report.status.clone()
    }
}
