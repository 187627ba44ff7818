//! The objects behind a decision, and where they are written.

use std::collections::BTreeSet;

use datapath::abi::Direction;
use datapath::lookup::Decision;
use datapath::verdict::{Reason, Verdict};
use policy_compiler::compiler::Compiler;
use policy_compiler::connectivity::{Connectivity, Ground, Peer, PortSet};
use policy_compiler::object::ObjectRef;
use policy_compiler::rule_set::Origin;
use serde::Serialize;

use super::names::escape;

/// One object (or the lack of one) that decides about some ports of a pair.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Cause {
    /// `egress` of the source or `ingress` of the destination.
    direction: &'static str,
    allows: bool,
    /// As in events and metrics: `rule_allows`, `no_policy`.
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<String>,
    /// The field of the rule; absent if the object isolates the pod and no rule of it allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    ports: String,
}

/// What decides about some ports of a pair and says this about them; no more ports than these are named.
pub(crate) fn causes(
    of: &Connectivity<'_>,
    (src, dst): (&Peer, &Peer),
    ports: &PortSet,
    wanted: impl Fn(Direction, bool) -> bool,
) -> Vec<Cause> {
    let mut found = Vec::new();
    for Ground { direction, decision, ports: about } in of.grounds(src, dst) {
        let ports = about.intersection(ports);
        if !ports.is_empty() && wanted(direction, lets(decision.verdict)) {
            add(&mut found, of.compiler(), direction, decision, &ports);
        }
    }
    found
}

fn add(
    found: &mut Vec<Cause>,
    compiler: &Compiler,
    direction: Direction,
    decision: Decision,
    ports: &PortSet,
) {
    let bare = Cause {
        direction: name(direction),
        allows: lets(decision.verdict),
        reason: decision.reason.name(),
        object: None,
        rule: None,
        location: None,
        ports: ports.to_string(),
    };
    let of_object = |object: &ObjectRef, rule: Option<usize>| {
        let policy = compiler.policy(object);
        let rule = rule
            .and_then(|index| policy?.block(direction).rules.get(index))
            .map(|rule| rule.path.to_string());
        let location = policy.and_then(|policy| policy.locate(rule.as_deref().unwrap_or_default()));
        let location = location.map(|location| location.to_string());
        Cause { object: Some(object.to_string()), rule, location, ..bare.clone() }
    };
    match decision.rule.and_then(|rule| compiler.rule(rule)).map(|rule| &rule.origin) {
        Some(Origin::Rule { object, index } | Origin::Claim { object, index }) => {
            found.push(of_object(object, Some(*index)));
        }
        Some(Origin::Isolation { policies }) => {
            found.extend(policies.iter().map(|object| of_object(object, None)));
        }
        None => found.push(bare),
    }
}

/// Causes as text, each once; that nothing is against it on either side is said in one word.
pub(crate) fn texts(causes: &[Cause]) -> Vec<String> {
    if causes.iter().all(|cause| cause.reason == Reason::NoPolicy.name()) {
        return vec!["no policy".to_owned()];
    }
    let mut seen = BTreeSet::new();
    causes.iter().map(Cause::text).filter(|text| seen.insert(text.clone())).collect()
}

/// The directions in which anything stands against some ports of a pair.
pub(crate) fn against(of: &Connectivity<'_>, (src, dst): (&Peer, &Peer), ports: &PortSet) -> Vec<Direction> {
    let grounds = of.grounds(src, dst);
    let denies =
        |ground: &&Ground| !lets(ground.decision.verdict) && !ground.ports.intersection(ports).is_empty();
    let mut directions: Vec<Direction> =
        grounds.iter().filter(denies).map(|ground| ground.direction).collect();
    directions.dedup();
    directions
}

/// Whether anything is let through, be it some requests only.
const fn lets(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Allow | Verdict::Redirect)
}

pub(crate) const fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

impl Cause {
    pub(crate) fn allows(&self) -> bool {
        self.allows
    }

    /// Whether an object decides, not the lack of one.
    pub(crate) fn has_object(&self) -> bool {
        self.object.is_some()
    }

    /// `ingress: NetworkPolicy b/db, spec.ingress[0] (db.yaml:12)`
    pub(crate) fn text(&self) -> String {
        let what = match (&self.object, &self.rule) {
            (Some(object), Some(rule)) => format!("{object}, {rule}"),
            (Some(object), None) => format!("{object} isolates the pod, and no rule allows it"),
            (None, _) if self.reason == Reason::NoPolicy.name() => "no policy is against it".to_owned(),
            (None, _) if self.reason == Reason::OwnNode.name() => {
                "the pod's own node always reaches it".to_owned()
            }
            (None, _) => self.reason.to_owned(),
        };
        let place = self.location.as_ref().map_or_else(String::new, |location| format!(" ({location})"));
        escape(&format!("{}: {what}{place}", self.direction))
    }
}
