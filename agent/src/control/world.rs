//! What the sources told, and what of it is in force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use agent_api::node::{EndpointCounts, LISTED, NodeStatus};
use agent_api::status::EndpointState;
use agent_api::world::Document;
use manifests::kind::Kind;
use policy_compiler::compiler::{Compiler, Event};
use policy_compiler::facts::{Cluster, Namespace};
use policy_compiler::object::{ObjectRef, PodKey};

use super::Control;
use crate::api::Pieces;
use crate::kubernetes::status::{self, Report};
use crate::source::{Followed, Names, PolicyText, Refusal, Standing};

/// What was told, as far as the compiler does not keep it.
#[derive(Debug, Default)]
pub(super) struct World {
    /// The accepted files of a directory.
    pub(super) files: Option<Arc<Vec<Document>>>,
    /// The text of an API server's policies that are in force.
    pub(super) texts: BTreeMap<ObjectRef, PolicyText>,
    /// Policies that are refused.
    pub(super) refused: Vec<Refusal>,
    /// How the source stands.
    pub(super) standing: Standing,
    /// Up to which of the server's versions all policies of a kind are told.
    pub(super) told: BTreeMap<Kind, String>,
    /// The same, and the kernel holds them.
    pub(super) enforced: BTreeMap<Kind, String>,
    /// Counts changes of policies that are in force.
    pub(super) changes: u64,
    /// A whole world was told.
    pub(super) is_known: bool,
}

/// How long the server may be out of reach before the agent counts as not ready: connections end now and then.
const TROUBLE: Duration = Duration::from_secs(10);
/// How many facts are in one document.
const FACTS: usize = 1000;

impl World {
    /// Why the agent is not ready.
    pub(super) fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let trouble = self.standing.trouble.as_ref();
        if !self.is_known {
            let why = trouble.map(|(_, why)| format!(": {why}")).unwrap_or_default();
            reasons.push(format!("nothing is known of the cluster yet{why}"));
        }
        reasons.extend(self.standing.from_disk.clone());
        reasons.extend(
            trouble
                .filter(|(since, _)| self.is_known && since.elapsed() > TROUBLE)
                .map(|(since, why)| format!("not followed for {} s: {why}", since.elapsed().as_secs())),
        );
        reasons
    }

    /// What is wrong and keeps the agent from nothing.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self
            .refused
            .iter()
            .flat_map(|refusal| {
                let instead = refusal.instead.text();
                refusal.problems.iter().map(move |problem| format!("refused: {problem}; {instead}"))
            })
            .collect();
        notes.extend(self.standing.disk.iter().map(|why| format!("saved state: {why}")));
        notes
    }
}

impl Control {
    /// The documents in force: files as they were read, or manifests made of what is known.
    pub(super) fn documents(&self) -> Option<Pieces> {
        if let Some(files) = &self.world.files {
            let files = Arc::clone(files);
            let documents = (0..files.len()).filter_map(move |index| files.get(index).cloned());
            return Some(Pieces::of(documents));
        }
        if !self.world.is_known {
            return None;
        }
        let policies: Vec<Document> = self
            .compiler
            .policies()
            .filter_map(|policy| {
                let text = self.world.texts.get(&policy.object)?;
                Some((&policy.object, text))
            })
            .map(|(object, text)| document(object, text))
            .collect();
        // Facts are shared: this copies what leads to them. Their text is made piece by piece, as the client takes it.
        let cluster = self.compiler.cluster().clone();
        let mut facts = manifests::write::cluster_of(cluster);
        let mut number = 0;
        let facts = std::iter::from_fn(move || {
            let mut text = String::new();
            for fact in facts.by_ref().take(FACTS) {
                text.push_str(&fact.to_string());
                text.push('\n');
            }
            number += 1;
            (!text.is_empty()).then(|| Document { name: format!("facts/{number:04}.json"), text })
        });
        Some(Pieces::of(policies.into_iter().chain(facts)))
    }

    /// Takes in what the watches of an API server told.
    pub(super) fn take_followed(&mut self, followed: Followed) {
        let Followed { whole, mut events, listed, terminating, texts, refused, versions, standing } =
            followed;
        if let Some(standing) = standing {
            self.world.standing = standing;
        }
        if let Some(refused) = refused {
            self.take_refused(refused);
        }
        self.waiting.correct(&mut events);
        let news = News::of(&self.compiler, events, &listed, &terminating);
        self.waiting.forget(&news.events);
        self.world.texts.extend(texts);
        self.world.told.extend(versions);
        let first = whole && !self.world.is_known;
        self.world.is_known |= whole;
        let is_policy = |event: &Event| matches!(event, Event::Policy(_) | Event::PolicyGone(_));
        if first || news.events.iter().any(is_policy) {
            self.world.changes += 1;
        }
        if first || !news.events.is_empty() {
            let touched = self.to_append(&news.events);
            self.enforce(news.events, Vec::new(), first);
            self.save_changes(&touched);
            let compiler = &self.compiler;
            if self.world.texts.len() > compiler.policies().count() {
                self.world.texts.retain(|object, _| compiler.policy(object).is_some());
            }
        }
        self.note_enforced();
    }

    fn take_refused(&mut self, refused: Vec<Refusal>) {
        for refusal in &refused {
            let is_new = !self.world.refused.contains(refusal);
            if is_new {
                let instead = refusal.instead.text();
                for problem in &refusal.problems {
                    tracing::error!(%problem, instead, "refused");
                }
                self.parts.metrics.refused_policies.inc();
            }
        }
        self.world.refused = refused;
        self.world.changes += 1;
    }

    /// Tells the cluster, by whoever writes it down.
    pub(super) fn tell_how_it_stands(&self) {
        let Some(reports) = &self.parts.reports else { return };
        if !self.world.is_known {
            return;
        }
        let mut endpoints = EndpointCounts::default();
        for endpoint in self.endpoints() {
            let count = match endpoint.state {
                EndpointState::Enforced => &mut endpoints.enforced,
                EndpointState::Held => &mut endpoints.held,
                EndpointState::Unknown => &mut endpoints.unknown,
                EndpointState::Failed => &mut endpoints.failed,
            };
            *count += 1;
        }
        let mut reasons = self.reasons();
        let enforced = self.world.enforced.iter();
        let status = NodeStatus {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: reasons.is_empty(),
            reasons: reasons.drain(..reasons.len().min(LISTED)).collect(),
            generation: i64::from(self.parts.dataplane.generation()),
            policies: signed(self.compiler.policies().count()),
            enforced: enforced.map(|(kind, version)| (kind.name().to_owned(), version.clone())).collect(),
            refused_policies: signed(self.world.refused.len()),
            refused: status::refused(&self.world.refused),
            endpoints,
            written: String::new(),
        };
        let report = Report {
            status,
            // What is told but not in the kernel is no change yet.
            changes: if self.behind.is_none() { self.world.changes } else { 0 },
            nodes: self.compiler.cluster().nodes.len(),
            refused: self.world.refused.clone(),
        };
        reports.send_if_modified(|last| {
            let is_new = *last != report;
            if is_new {
                *last = report;
            }
            is_new
        });
    }

    /// What was told is in force if the kernel holds what is intended.
    pub(super) fn note_enforced(&mut self) {
        if self.behind.is_none() && self.world.is_known && self.world.enforced != self.world.told {
            self.world.enforced.clone_from(&self.world.told);
        }
    }
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A policy over many lines, so that its fields can be told apart by line.
fn document(object: &ObjectRef, text: &PolicyText) -> Document {
    let folder = object.namespace.as_deref().unwrap_or_default();
    let name =
        format!("{}/{folder}{}{}.json", object.kind, if folder.is_empty() { "" } else { "/" }, object.name);
    let pretty = serde_json::from_str::<serde_json::Value>(&text.json)
        .and_then(|value| serde_json::to_string_pretty(&value));
    Document { name, text: pretty.unwrap_or_else(|_| text.json.to_string()) }
}

/// What is new to the compiler.
#[derive(Debug, Default)]
struct News {
    events: Vec<Event>,
}

impl News {
    /// Without what is known already, and with what lists do not name any more.
    fn of(
        compiler: &Compiler,
        events: Vec<Event>,
        listed: &BTreeMap<Kind, Names>,
        terminating: &[Arc<str>],
    ) -> Self {
        let cluster = compiler.cluster();
        let mut news = Self::default();
        let told: BTreeSet<&Arc<str>> = events
            .iter()
            .filter_map(|event| match event {
                Event::Namespace(namespace) => Some(&namespace.name),
                _ => None,
            })
            .collect();
        for name in terminating.iter().filter(|name| !told.contains(name)) {
            let known = cluster.namespaces.get(name).filter(|known| !known.terminating);
            news.events.extend(
                known.map(|known| {
                    Event::Namespace(Namespace { terminating: true, ..Namespace::clone(known) })
                }),
            );
        }
        news.events.extend(events.into_iter().filter(|event| !is_known(cluster, event)));
        let rank_of_gone = news.events.len();
        for (kind, names) in listed {
            gone(cluster, *kind, names, &mut news.events);
        }
        // Namespaces that are gone come before the policies that are; pods come before those that go.
        if news.events.len() > rank_of_gone {
            news.events.sort_by_key(|event| matches!(event, Event::Policy(_) | Event::PolicyGone(_)));
        }
        news
    }
}

/// Whether an event says nothing new.
fn is_known(cluster: &Cluster, event: &Event) -> bool {
    match event {
        Event::Namespace(new) => cluster.namespaces.get(&new.name).is_some_and(|known| **known == *new),
        Event::Node(new) => cluster.nodes.get(&new.name).is_some_and(|known| **known == *new),
        Event::Pod(new) => cluster.pods.get(&new.key).is_some_and(|known| **known == **new),
        Event::Service(new) => {
            let key = (Arc::clone(&new.namespace), Arc::clone(&new.name));
            cluster.services.get(&key).is_some_and(|known| **known == *new)
        }
        Event::EndpointSlice(new) => {
            let key = (Arc::clone(&new.namespace), Arc::clone(&new.name));
            cluster.endpoint_slices.get(&key).is_some_and(|known| **known == *new)
        }
        Event::NamespaceGone(_)
        | Event::PodGone { .. }
        | Event::NodeGone(_)
        | Event::ServiceGone(..)
        | Event::EndpointSliceGone(..)
        | Event::Policy(_)
        | Event::PolicyGone(_) => false,
    }
}

/// What is known of a kind and not among the names of a complete list.
fn gone(cluster: &Cluster, kind: Kind, names: &Names, events: &mut Vec<Event>) {
    let is_gone =
        |namespace: &Arc<str>, name: &Arc<str>| !names.contains(&(Arc::clone(namespace), Arc::clone(name)));
    let nowhere: Arc<str> = Arc::from("");
    match kind {
        Kind::Namespace => {
            let all = cluster.namespaces.keys().filter(|name| is_gone(&nowhere, name));
            events.extend(all.map(|name| Event::NamespaceGone(Arc::clone(name))));
        }
        Kind::Node => {
            let all = cluster.nodes.keys().filter(|name| is_gone(&nowhere, name));
            events.extend(all.map(|name| Event::NodeGone(Arc::clone(name))));
        }
        Kind::Pod => {
            let all = cluster.pods.keys().filter(|key| is_gone(&key.namespace, &key.name));
            events.extend(all.map(|key: &PodKey| Event::PodGone { key: key.clone(), uid: None }));
        }
        Kind::Service => {
            let all = cluster.services.keys().filter(|(namespace, name)| is_gone(namespace, name));
            events.extend(
                all.map(|(namespace, name)| Event::ServiceGone(Arc::clone(namespace), Arc::clone(name))),
            );
        }
        Kind::EndpointSlice => {
            let all = cluster.endpoint_slices.keys().filter(|(namespace, name)| is_gone(namespace, name));
            events.extend(
                all.map(|(namespace, name)| {
                    Event::EndpointSliceGone(Arc::clone(namespace), Arc::clone(name))
                }),
            );
        }
        // Of policies, the source says which are gone.
        Kind::NetworkPolicy
        | Kind::ClusterNetworkPolicy
        | Kind::AdminNetworkPolicy
        | Kind::BaselineAdminNetworkPolicy
        | Kind::PolderPolicy
        | Kind::ClusterPolderPolicy
        | Kind::Workload => {}
    }
}
