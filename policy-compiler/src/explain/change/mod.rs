//! The smallest edits that would allow what is denied.
//!
//! ```text
//! candidates (policy, labels) -> smallest first -> trial: copy of facts and policies, compile, judge -> those that work
//! ```

mod candidates;
mod dialect;
mod trial;
mod yaml;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::answer::{Change, Place, Side};
use super::ends::Judged;
use crate::compiler::Compiler;
use crate::object::PodKey;
use crate::policy::Policy;

/// How many are offered.
const MOST: usize = 3;
/// How many are tried: each costs a compile.
const TRIES: usize = 12;

/// An edit that may help.
struct Candidate {
    title: String,
    place: Place,
    position: String,
    add: Value,
    edit: Edit,
}

/// What an edit does to policies or facts.
enum Edit {
    /// This policy is there, in the place of the one of its name.
    Policy(Box<Policy>),
    /// These pods get these labels.
    Pods(Vec<PodKey>, BTreeMap<Arc<str>, Arc<str>>),
    /// This namespace gets these labels.
    Namespace(Arc<str>, BTreeMap<Arc<str>, Arc<str>>),
}

/// Edits that make one side allow the connection, smallest first. Each was compiled and judged.
pub(super) fn smallest(compiler: &Compiler, judged: &Judged<'_>, side: &Side) -> Vec<Change> {
    let mut candidates: Vec<(String, Candidate)> = candidates::all(compiler, judged, side)
        .into_iter()
        .map(|candidate| (yaml::text(&candidate.add), candidate))
        .collect();
    candidates.sort_by_key(|(yaml, candidate)| (candidate.position == "create", yaml.lines().count()));
    let mut changes: Vec<Change> = Vec::new();
    for (yaml, candidate) in candidates.into_iter().take(TRIES) {
        if changes.len() == MOST {
            break;
        }
        let after = trial::compile(compiler, &candidate.edit);
        if !judged.decide(&after).verdict.is_allow() {
            continue;
        }
        let blast = trial::blast(compiler, &after, judged.direction, judged.protocol);
        let Candidate { title, place, position, add, .. } = candidate;
        changes.push(Change { title, place, position, add, yaml, blast });
    }
    // What is created anew stays last: it isolates pods that nothing isolated before.
    changes.sort_by_key(|change| (change.position == "create", change.yaml.lines().count(), change.blast));
    changes
}
