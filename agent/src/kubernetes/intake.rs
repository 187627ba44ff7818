//! What watches tell to what the task with the state is told. Pure: no clock, no network.
//!
//! - Nothing is handed on before every kind was listed once: half a cluster would open or close what the whole does not.
//! - What comes together is handed on together, one event for each object, namespaces first and what comes before what goes:
//!   work follows the change, not the number of messages.
//! - A policy that is gone may be gone because its namespace is being deleted (CVE-2024-7598), and the watch of namespaces
//!   may be behind that of policies. So the namespace is asked for before the policy is let go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use manifests::kind::Kind;
use manifests::live::{self, Live};
use policy_compiler::compiler::Event;
use policy_compiler::facts::Namespace;
use policy_compiler::object::{ObjectRef, PodKey};
use policy_compiler::problem::Problem;

use super::follow::Seen;
use super::intern::Interner;
use super::policies::{Outcome, Policies, lowered};
use super::server::FOLLOWED;
use super::snapshot::SavedPolicy;
use crate::source::{Followed, Names, PolicyText};

/// Who an object is: kind, namespace (empty for those of the whole cluster), name.
type Key = (Kind, Arc<str>, Arc<str>);

/// Between the watches and the task with the state.
#[derive(Debug, Default)]
pub(super) struct Intake {
    interner: Interner,
    policies: Policies,
    /// The kinds that were listed once.
    listed_once: BTreeSet<Kind>,
    /// Lists that are under way: what they named so far.
    listing: BTreeMap<Kind, Names>,
    /// A whole world was handed on.
    given: bool,
    /// UIDs of namespaces that are there, and whether they are being deleted.
    namespaces: BTreeMap<Arc<str>, (Arc<str>, bool)>,
    /// Policies that are gone, until it is known how their namespace is.
    leaving: BTreeMap<Arc<str>, BTreeSet<ObjectRef>>,
    /// Namespaces to ask for.
    asked: Vec<Arc<str>>,
    /// Policies that were in force before this agent began.
    saved: Vec<SavedPolicy>,
    pending: Pending,
    whole: bool,
}

/// What is to be handed on.
#[derive(Debug, Default)]
struct Pending {
    /// In the order in which they came, for what is equal in rank.
    events: Vec<Option<Event>>,
    places: HashMap<Key, usize>,
    rest: Followed,
    refused_changed: bool,
}

/// How many objects could not be read at all, and the last reason.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    pub(super) problems: Vec<Problem>,
}

impl Intake {
    /// With the policies that were in force when the last agent saved them.
    pub(super) fn new(saved: Vec<SavedPolicy>) -> Self {
        let mut policies = Policies::default();
        for policy in saved.iter().filter(|policy| policy.is_good()) {
            policies.remember(policy.object.clone(), policy.uid.clone());
        }
        Self { policies, saved, ..Self::default() }
    }

    /// Whether every kind was listed once.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The kinds that were not listed yet.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let missing = FOLLOWED.iter().filter(|one| !self.listed_once.contains(&one.kind));
        missing.map(|one| one.plural).collect()
    }

    /// Whether there is anything to hand on.
    pub(super) fn has_news(&self) -> bool {
        let pending = &self.pending;
        let nothing = pending.places.is_empty()
            && pending.rest.listed.is_empty()
            && pending.rest.versions.is_empty()
            && pending.rest.terminating.is_empty()
            && !pending.refused_changed
            && self.given;
        self.whole && !nothing
    }

    /// How many events wait.
    pub(super) fn waiting(&self) -> usize {
        self.pending.places.len()
    }

    /// Namespaces that have to be asked for before policies are let go.
    pub(super) fn questions(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.asked)
    }

    /// Takes in what a watch told; what could not be read is said.
    pub(super) fn take(&mut self, kind: Kind, seen: Seen) -> Result<(), Unreadable> {
        match seen {
            Seen::Begun => {
                self.listing.insert(kind, Names::default());
                Ok(())
            }
            Seen::Object(text) => self.object(kind, &text),
            Seen::Gone(text) => self.gone(kind, &text),
            Seen::Listed => {
                self.listed(kind);
                Ok(())
            }
            Seen::Absent => {
                if self.listed_once.contains(&kind) && self.policies.of(kind).next().is_none() {
                    return Ok(());
                }
                self.listing.insert(kind, Names::default());
                self.listed(kind);
                Ok(())
            }
            Seen::Version(version) => {
                self.pending.rest.versions.insert(kind, version);
                Ok(())
            }
            Seen::Trouble(_) | Seen::Well => Ok(()),
        }
    }

    fn object(&mut self, kind: Kind, text: &str) -> Result<(), Unreadable> {
        if kind.is_policy() {
            return self.policy(kind, text);
        }
        let Live { object, version, content } =
            live::read(kind, text).map_err(|problems| Unreadable { problems })?;
        let key = self.key(kind, &object);
        self.name(&key);
        let Some(event) = self.interner.event(content) else { return Ok(()) };
        if let Event::Namespace(namespace) = &event {
            self.namespace_seen(namespace, &version.uid);
        }
        self.pending.put(key, event);
        Ok(())
    }

    fn namespace_seen(&mut self, namespace: &Namespace, uid: &str) {
        let uid: Arc<str> = uid.into();
        self.namespaces.insert(Arc::clone(&namespace.name), (uid, namespace.terminating));
        if namespace.terminating {
            self.namespace_is(&namespace.name, Some(true));
        }
    }

    fn policy(&mut self, kind: Kind, text: &str) -> Result<(), Unreadable> {
        let (outcome, changed) = self.policies.take(kind, text);
        self.pending.refused_changed |= changed;
        let version = match outcome {
            Outcome::Unknown(problems) => return Err(Unreadable { problems }),
            _ => live::version(text).unwrap_or_default(),
        };
        let object = live::reference(kind, &version);
        let key = self.key(kind, &object);
        self.name(&key);
        if let Some(leaving) = self.leaving.get_mut(&key.1) {
            leaving.remove(&object);
        }
        match outcome {
            Outcome::InForce { policy, json } => self.put_policy(key, object, policy, json),
            // The last good version is one that the agent before this one had accepted.
            Outcome::Stays => {
                let saved =
                    self.saved.iter().find(|saved| saved.object == object && saved.uid == version.uid);
                if let Some(Ok((policy, json))) = saved.map(|saved| lowered(saved.kind, &saved.json)) {
                    self.put_policy(key, object, policy, json);
                }
            }
            Outcome::Unknown(_) => {}
        }
        Ok(())
    }

    fn put_policy(
        &mut self,
        key: Key,
        object: ObjectRef,
        policy: Box<policy_compiler::policy::Policy>,
        json: Arc<str>,
    ) {
        self.pending.rest.texts.push((object, PolicyText { json, namespace_uid: None }));
        self.pending.put(key, Event::Policy(policy));
    }

    fn gone(&mut self, kind: Kind, text: &str) -> Result<(), Unreadable> {
        let Ok(version) = live::version(text) else {
            return Err(Unreadable { problems: live::read(kind, text).err().unwrap_or_default() });
        };
        let object = live::reference(kind, &version);
        let key = self.key(kind, &object);
        if let Some(names) = self.pending.rest.listed.get_mut(&kind) {
            names.remove(&(Arc::clone(&key.1), Arc::clone(&key.2)));
        }
        if kind.is_policy() {
            self.policy_gone(&key, object);
            return Ok(());
        }
        let (namespace, name) = (Arc::clone(&key.1), Arc::clone(&key.2));
        let event = match kind {
            Kind::Namespace => {
                self.namespaces.remove(&name);
                self.namespace_is(&name, None);
                Event::NamespaceGone(name)
            }
            Kind::Node => Event::NodeGone(name),
            Kind::Service => Event::ServiceGone(namespace, name),
            Kind::EndpointSlice => Event::EndpointSliceGone(namespace, name),
            // What was told of the name before in this batch may be of another object: then it is gone whichever it is.
            _ => {
                let uid = (!self.pending.places.contains_key(&key)).then(|| version.uid.into());
                Event::PodGone { key: PodKey { namespace, name }, uid }
            }
        };
        self.pending.put(key, event);
        Ok(())
    }

    /// A policy is gone. Its namespace is asked for, unless it is known to be on its way out or there is none.
    fn policy_gone(&mut self, key: &Key, object: ObjectRef) {
        self.pending.refused_changed |= self.policies.gone(&object);
        let known = object.namespace.clone().filter(|_| self.whole);
        // What is not handed on yet is not in force by it either: `retain_saved` sees to what was before.
        let Some(namespace) = known else {
            self.pending.put(key.clone(), Event::PolicyGone(object));
            return;
        };
        if self.namespaces.get(&namespace).is_some_and(|(_, terminating)| *terminating) {
            self.pending.put(key.clone(), Event::PolicyGone(object));
            return;
        }
        let leaving = self.leaving.entry(Arc::clone(&namespace)).or_default();
        if leaving.is_empty() {
            self.asked.push(namespace);
        }
        leaving.insert(object);
    }

    /// How a namespace is, as the server said when asked: being deleted or not; `None`: it is gone.
    pub(super) fn namespace_is(&mut self, name: &Arc<str>, terminating: Option<bool>) {
        let Some(leaving) = self.leaving.remove(name) else { return };
        if terminating != Some(false) {
            if let Some(known) = self.namespaces.get_mut(name) {
                known.1 = true;
            }
            // The watch of namespaces will say so too, and all else about it.
            self.pending.rest.terminating.push(Arc::clone(name));
        }
        for object in leaving {
            if let Some(kind) = policy_kind(&object) {
                let key = self.key(kind, &object);
                self.pending.put(key, Event::PolicyGone(object));
            }
        }
    }

    fn listed(&mut self, kind: Kind) {
        let Some(names) = self.listing.remove(&kind) else { return };
        if kind.is_policy() {
            let gone: Vec<ObjectRef> = self.policies.of(kind).cloned().collect();
            for object in gone {
                let key = self.key(kind, &object);
                if !names.contains(&(Arc::clone(&key.1), Arc::clone(&key.2))) {
                    self.policy_gone(&key, object);
                }
            }
        } else {
            if kind == Kind::Namespace {
                self.namespaces.retain(|name, _| names.contains(&(Arc::from(""), Arc::clone(name))));
            }
            self.pending.rest.listed.insert(kind, names);
        }
        self.listed_once.insert(kind);
        if !self.whole && FOLLOWED.iter().all(|one| self.listed_once.contains(&one.kind)) {
            self.whole = true;
            self.retain_saved();
        }
    }

    /// Policies that were in force before and are not there any more. Where their namespace is the same still they are
    /// put in force once more, and let go as if that had just been seen: if the namespace is being deleted, they stay.
    fn retain_saved(&mut self) {
        for saved in std::mem::take(&mut self.saved) {
            if self.policies.contains(&saved.object) {
                continue;
            }
            let key = self.key(saved.kind, &saved.object);
            // One that was saved before its namespace was seen may be of this namespace: closed is the safe guess.
            let is_same = self.namespaces.get(&key.1).is_some_and(|(uid, _)| {
                saved.namespace_uid.as_ref().is_none_or(|saved_uid| saved_uid == uid)
            });
            if is_same && let Ok((policy, json)) = lowered(saved.kind, &saved.json) {
                self.put_policy(key.clone(), saved.object.clone(), policy, json);
            }
            self.policy_gone(&key, saved.object);
        }
    }

    /// What there is to hand on, if it may be handed on.
    pub(super) fn give(&mut self) -> Option<Followed> {
        if !self.has_news() {
            return None;
        }
        let mut pending = std::mem::take(&mut self.pending);
        if pending.refused_changed {
            pending.rest.refused = Some(self.policies.refused());
        }
        let mut events: Vec<Event> = pending.events.into_iter().flatten().collect();
        // Stable: what is said of one policy stays in order.
        events.sort_by_key(rank);
        pending.rest.events = events;
        // Not before: a policy may be listed before its namespace is.
        for (object, text) in &mut pending.rest.texts {
            let namespace = object.namespace.as_ref().and_then(|name| self.namespaces.get(name));
            text.namespace_uid = namespace.map(|(uid, _)| Arc::clone(uid));
        }
        pending.rest.whole = !std::mem::replace(&mut self.given, true);
        self.interner.sweep();
        Some(pending.rest)
    }

    fn key(&mut self, kind: Kind, object: &ObjectRef) -> Key {
        let namespace = self.interner.string(object.namespace.as_deref().unwrap_or_default());
        (kind, namespace, Arc::clone(&object.name))
    }

    /// An object is there: for lists that are under way or not handed on yet.
    fn name(&mut self, key: &Key) {
        for lists in [&mut self.listing, &mut self.pending.rest.listed] {
            if let Some(names) = lists.get_mut(&key.0) {
                names.insert((Arc::clone(&key.1), Arc::clone(&key.2)));
            }
        }
    }
}

impl Pending {
    /// The last word about an object counts. All that is said of a policy does: one that comes and goes may be retained.
    fn put(&mut self, key: Key, event: Event) {
        let place = self.events.len();
        let is_policy = key.0.is_policy();
        if let Some(before) = self.places.insert(key, place)
            && !is_policy
            && let Some(slot) = self.events.get_mut(before)
        {
            *slot = None;
        }
        self.events.push(Some(event));
    }
}

fn policy_kind(object: &ObjectRef) -> Option<Kind> {
    let kinds = FOLLOWED.iter().map(|one| one.kind).filter(|kind| kind.is_policy());
    kinds.into_iter().find(|kind| kind.name() == &*object.kind)
}

/// The order in which a batch means what it says.
pub(super) fn rank(event: &Event) -> u8 {
    match event {
        Event::Namespace(_) => 0,
        Event::NamespaceGone(_) => 1,
        Event::Node(_) => 2,
        Event::NodeGone(_) => 3,
        Event::Pod(_) => 4,
        Event::PodGone { .. } => 5,
        Event::Service(_) => 6,
        Event::ServiceGone(..) => 7,
        Event::EndpointSlice(_) => 8,
        Event::EndpointSliceGone(..) => 9,
        Event::Policy(_) | Event::PolicyGone(_) => 10,
    }
}

#[cfg(test)]
mod tests;
