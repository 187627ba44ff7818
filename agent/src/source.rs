//! Where knowledge of the cluster comes from, and what the task with the state is told of it.
//!
//! Two sources: [`crate::standalone`] reads a directory, takes it whole or refuses it whole; [`crate::kubernetes`] follows
//! an API server, object by object.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use agent_api::world::Document;
use manifests::kind::Kind;
use policy_compiler::compiler::Event;
use policy_compiler::object::ObjectRef;
use policy_compiler::problem::Problem;

/// News of the cluster.
#[derive(Clone, Debug)]
pub enum Update {
    /// The directory as it is now is accepted.
    Changed {
        /// Everything that changed since the last accepted reading, as one batch.
        events: Vec<Event>,
        /// Policies that say what they said and stand elsewhere now: [`Event::Policy`] each. They change no table, and
        /// keep provenance at the right lines.
        moved: Vec<Event>,
        /// The accepted text, in the order of reading.
        documents: Arc<Vec<Document>>,
        /// Warnings and notes.
        remarks: Vec<Problem>,
    },
    /// The reading was refused whole; what was in force stays in force.
    Refused {
        /// Why: errors first.
        problems: Vec<Problem>,
    },
    /// What the watches of an API server told.
    Followed(Box<Followed>),
}

/// What the watches of an API server told since the last time.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    /// With this, everything is told for the first time.
    pub whole: bool,
    /// What changed, one event for each object at most, in an order in which a batch means what it says.
    pub events: Vec<Event>,
    /// Kinds that were listed anew: what is known of them and not named here is gone.
    pub listed: BTreeMap<Kind, Names>,
    /// Namespaces that are being deleted, although their own watch did not say so yet.
    pub terminating: Vec<Arc<str>>,
    /// The text of policies that are in force by these events.
    pub texts: Vec<(ObjectRef, PolicyText)>,
    /// Policies that are refused, all of them, if that changed.
    pub refused: Option<Vec<Refusal>>,
    /// Up to which version of the server's everything about the policies of a kind is in here.
    pub versions: BTreeMap<Kind, String>,
    /// How the source stands, if that changed.
    pub standing: Option<Standing>,
}

/// Names of objects: namespace (empty for those of the whole cluster) and name.
pub type Names = HashSet<(Arc<str>, Arc<str>)>;

/// A policy as it was written, without what the server adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyText {
    /// One line of JSON.
    pub json: Arc<str>,
    /// The UID of its namespace, if that is known: of which incarnation it was.
    pub namespace_uid: Option<Arc<str>>,
}

/// A policy that cannot be enforced as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The policy.
    pub object: ObjectRef,
    /// Which object of that name.
    pub uid: String,
    /// Which version of it.
    pub generation: i64,
    /// What is in force instead.
    pub instead: Instead,
    /// Why.
    pub problems: Vec<Problem>,
}

/// What is in force instead of a refused policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// Its last version that was accepted.
    LastGood,
    /// There never was one: the pods that it may select are closed.
    Closed,
    /// There never was one, and it only says what it would do: nothing.
    Nothing,
}

impl Instead {
    /// As users read it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::LastGood => "its last accepted version stays in force",
            Self::Closed => "the pods that it may select are closed",
            Self::Nothing => "nothing is in force of it, as it only audits",
        }
    }
}

/// How a source stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Since when something has been wrong, and what; `None`: all is well.
    pub trouble: Option<(Instant, String)>,
    /// When what is in force was saved, if it comes from disk because the server could not be asked.
    pub from_disk: Option<String>,
    /// What is wrong with what is on disk.
    pub disk: Option<String>,
}
