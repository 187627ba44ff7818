//! Policies of an API server: which are in force as written, which are not, and what is in force instead.

use std::collections::BTreeMap;
use std::sync::Arc;

use manifests::kind::Kind;
use manifests::live::{self, Live};
use manifests::object::Content;
use policy_compiler::lower::lower;
use policy_compiler::object::ObjectRef;
use policy_compiler::policy::{Mode, Policy};
use policy_compiler::problem::Problem;
use serde_json::{Value, json};

use crate::source::{Instead, Refusal};

/// What is known of each policy.
#[derive(Debug, Default)]
pub(super) struct Policies {
    known: BTreeMap<ObjectRef, Known>,
}

#[derive(Debug)]
struct Known {
    uid: String,
    generation: i64,
    /// `None`: in force as written.
    refused: Option<(Instead, Vec<Problem>)>,
}

/// What becomes of a policy.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is in force as written, or something is in its stead.
    InForce {
        policy: Box<Policy>,
        /// What is in force, as one line of JSON.
        json: Arc<str>,
    },
    /// What was in force stays in force.
    Stays,
    /// Not even who it is can be made out.
    Unknown(Vec<Problem>),
}

impl Policies {
    /// Takes in a policy as the server has it; also tells whether what is refused changed.
    pub(super) fn take(&mut self, kind: Kind, text: &str) -> (Outcome, bool) {
        let Ok(version) = live::version(text) else {
            return (Outcome::Unknown(live::read(kind, text).err().unwrap_or_default()), false);
        };
        let object = live::reference(kind, &version);
        let before = self.known.get(&object).filter(|known| known.uid == version.uid);
        let was_refused = self.known.get(&object).is_some_and(|known| known.refused.is_some());
        let mut known = Known { uid: version.uid, generation: version.generation, refused: None };
        let outcome = match lowered(kind, text) {
            Ok((policy, json)) => Outcome::InForce { policy, json },
            Err(problems) => match before.map(|known| &known.refused) {
                // Another object of the same name is no earlier version of it.
                Some(None | Some((Instead::LastGood, _))) => {
                    known.refused = Some((Instead::LastGood, problems));
                    Outcome::Stays
                }
                None | Some(Some((Instead::Closed | Instead::Nothing, _))) => {
                    let stand_in = closed(kind, text);
                    let audits = stand_in.as_ref().is_some_and(|(policy, _)| policy.mode == Mode::Audit);
                    let instead = if audits { Instead::Nothing } else { Instead::Closed };
                    known.refused = Some((instead, problems));
                    stand_in.map_or(Outcome::Stays, |(policy, json)| Outcome::InForce { policy, json })
                }
            },
        };
        let changed = was_refused || known.refused.is_some();
        self.known.insert(object, known);
        (outcome, changed)
    }

    /// A version that was accepted before this agent began: what a refused one falls back to.
    pub(super) fn remember(&mut self, object: ObjectRef, uid: String) {
        self.known.entry(object).or_insert(Known { uid, generation: 0, refused: None });
    }

    /// A policy is gone; tells whether what is refused changed.
    pub(super) fn gone(&mut self, object: &ObjectRef) -> bool {
        self.known.remove(object).is_some_and(|known| known.refused.is_some())
    }

    /// Whether a policy is there.
    pub(super) fn contains(&self, object: &ObjectRef) -> bool {
        self.known.contains_key(object)
    }

    /// The policies of a kind.
    pub(super) fn of(&self, kind: Kind) -> impl Iterator<Item = &ObjectRef> {
        self.known.keys().filter(move |object| *object.kind == *kind.name())
    }

    /// All that are refused.
    pub(super) fn refused(&self) -> Vec<Refusal> {
        let refused = self.known.iter().filter_map(|(object, known)| {
            let (instead, problems) = known.refused.as_ref()?;
            Some(Refusal {
                object: object.clone(),
                uid: known.uid.clone(),
                generation: known.generation,
                instead: *instead,
                problems: problems.clone(),
            })
        });
        refused.collect()
    }
}

/// A policy as written, or everything that is wrong with it.
pub(super) fn lowered(kind: Kind, text: &str) -> Result<(Box<Policy>, Arc<str>), Vec<Problem>> {
    let Live { content, .. } = live::read(kind, text)?;
    let Content::Policy(object) = content else { return Err(Vec::new()) };
    let policy = lower(&object, None)?.policy;
    Ok((Box::new(policy), bare(kind, text).to_string().into()))
}

/// Without what the server adds: what a user would write.
fn bare(kind: Kind, text: &str) -> Value {
    let mut value: Value = serde_json::from_str(text).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
        object.insert("apiVersion".to_owned(), kind.api_version().into());
        object.insert("kind".to_owned(), kind.name().into());
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "uid"));
        }
    }
    value
}

/// A policy that cannot be understood, read as the most closed one that it could be: everything is denied for the pods that
/// it selects, or may select, as far as its kind can deny at all.
///
/// It is made of a manifest and lowered like any other, so that it is explained like any other.
fn closed(kind: Kind, text: &str) -> Option<(Box<Policy>, Arc<str>)> {
    let written = bare(kind, text);
    let spec = |key: &str| {
        written.get("spec").and_then(|spec| spec.get(key)).filter(|value| !value.is_null()).cloned()
    };
    let candidates = if kind == Kind::NetworkPolicy {
        let both = || json!(["Ingress", "Egress"]);
        let selector = || spec("podSelector").unwrap_or_else(|| json!({}));
        vec![
            json!({"podSelector": selector(), "policyTypes": spec("policyTypes").unwrap_or_else(both)}),
            json!({"podSelector": selector(), "policyTypes": both()}),
            json!({"podSelector": {}, "policyTypes": both()}),
        ]
    } else {
        let all = if kind == Kind::PolderPolicy { "podSelector" } else { "namespaces" };
        let all = || json!({ all: {} });
        let subjects = [spec("subject").unwrap_or_else(all), all()];
        let priorities = [spec("priority"), Some(json!(0))];
        let tiers = [spec("tier"), Some(json!("Admin"))];
        // One that only says what it would do closes nothing in any reading.
        let audits = spec("mode").is_some_and(|mode| mode == "Audit");
        let mut candidates = Vec::new();
        for subject in subjects {
            for (priority, tier) in priorities.iter().zip(&tiers) {
                let mut spec = deny_all(kind, &subject, priority.clone(), tier.clone());
                if audits {
                    spec["mode"] = json!("Audit");
                }
                candidates.push(spec);
            }
        }
        candidates
    };
    candidates.into_iter().find_map(|spec| {
        let metadata = written.get("metadata").cloned().unwrap_or_default();
        let object = json!({
            "apiVersion": kind.api_version(), "kind": kind.name(), "metadata": metadata, "spec": spec,
        });
        lowered(kind, &object.to_string()).ok()
    })
}

/// Denies what a kind can deny. Those of SIG Network: what pods send them, and what they send anywhere. Our own: everything.
fn deny_all(kind: Kind, subject: &Value, priority: Option<Value>, tier: Option<Value>) -> Value {
    let [ingress, egress] = if matches!(kind, Kind::PolderPolicy | Kind::ClusterPolderPolicy) {
        [json!({"action": "Deny"}), json!({"action": "Deny"})]
    } else {
        [
            json!({"action": "Deny", "from": [{"namespaces": {}}]}),
            json!({"action": "Deny", "to": [{"networks": ["0.0.0.0/0", "::/0"]}]}),
        ]
    };
    let mut spec = json!({"subject": subject, "ingress": [ingress], "egress": [egress]});
    match kind {
        Kind::BaselineAdminNetworkPolicy => {}
        // Without one it stands with NetworkPolicy.
        Kind::PolderPolicy if priority.is_none() => {}
        _ => spec["priority"] = priority.unwrap_or_else(|| json!(0)),
    }
    if matches!(kind, Kind::ClusterNetworkPolicy | Kind::ClusterPolderPolicy) {
        spec["tier"] = tier.unwrap_or_else(|| json!("Admin"));
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(uid: &str, generation: i64, spec: &Value) -> String {
        let metadata = json!({"name": "p", "namespace": "prod", "uid": uid, "generation": generation,
            "resourceVersion": "1"});
        json!({"metadata": metadata, "spec": spec}).to_string()
    }

    /// What is in force, or that nothing new is.
    fn take(policies: &mut Policies, text: &str) -> Option<Value> {
        match policies.take(Kind::NetworkPolicy, text).0 {
            Outcome::InForce { json, .. } => {
                let value: Value = serde_json::from_str(&json).unwrap();
                Some(value["spec"].clone())
            }
            Outcome::Stays => None,
            Outcome::Unknown(problems) => panic!("{problems:?}"),
        }
    }

    #[test]
    fn a_refused_policy_keeps_its_last_good_version_and_closes_without_one() {
        let good = json!({"podSelector": {"matchLabels": {"a": "b"}}, "ingress": [{}]});
        let bad = json!({"podSelector": {"matchLabels": {"a": "b"}}, "ingress": [{"mood": 1}], "policyTypes": ["Ingress"]});
        let mut policies = Policies::default();
        assert_eq!(take(&mut policies, &policy("u", 1, &good)), Some(good.clone()));
        assert_eq!(policies.refused(), []);
        assert_eq!(take(&mut policies, &policy("u", 2, &bad)), None);
        let refused = policies.refused();
        assert_eq!((refused.len(), refused[0].generation, refused[0].instead), (1, 2, Instead::LastGood));
        assert_eq!(refused[0].problems.len(), 1);
        // Refused again: the last good version is still what it was.
        assert_eq!(take(&mut policies, &policy("u", 3, &bad)), None);
        // Another object of that name has no last good version.
        let closed = json!({"podSelector": {"matchLabels": {"a": "b"}}, "policyTypes": ["Ingress"]});
        assert_eq!(take(&mut policies, &policy("v", 1, &bad)), Some(closed.clone()));
        assert_eq!(policies.refused()[0].instead, Instead::Closed);
        // What stands in for it is no good version either.
        assert_eq!(take(&mut policies, &policy("v", 2, &bad)), Some(closed));
        assert_eq!(policies.refused()[0].instead, Instead::Closed);
        assert_eq!(take(&mut policies, &policy("v", 3, &good)), Some(good));
        assert_eq!(policies.refused(), []);
    }

    #[test]
    fn where_the_selection_cannot_be_read_all_that_it_may_select_is_closed() {
        let mut policies = Policies::default();
        let odd = json!({"podSelector": {"matchLabels": 5}, "policyTypes": ["Sideways"]});
        let closed = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
        assert_eq!(take(&mut policies, &policy("u", 1, &odd)), Some(closed));
    }

    #[test]
    fn every_kind_has_a_closed_form() {
        let kinds = [
            Kind::ClusterNetworkPolicy,
            Kind::AdminNetworkPolicy,
            Kind::BaselineAdminNetworkPolicy,
            Kind::PolderPolicy,
            Kind::ClusterPolderPolicy,
        ];
        for kind in kinds {
            for spec in
                [json!({"mood": 1}), json!(7), json!({"subject": {"namespaces": {}}, "priority": 5, "x": 1})]
            {
                let mut object = json!({"metadata": {"name": "default", "uid": "u"}, "spec": spec});
                if kind == Kind::PolderPolicy {
                    object["metadata"]["namespace"] = json!("prod");
                }
                let object = object.to_string();
                let mut policies = Policies::default();
                let (outcome, changed) = policies.take(kind, &object);
                let Outcome::InForce { policy, .. } = outcome else { panic!("{kind:?} {spec}") };
                assert!(changed);
                assert_eq!(
                    (policy.ingress.rules.len(), policy.egress.rules.len()),
                    (1, 1),
                    "{kind:?} {spec}"
                );
            }
        }
    }

    #[test]
    fn one_of_our_own_is_closed_for_its_pods_at_its_place_and_closes_nothing_if_it_only_audits() {
        let closed = |spec: &Value| {
            let mut policies = Policies::default();
            let outcome = policies.take(Kind::PolderPolicy, &policy("u", 1, spec)).0;
            let Outcome::InForce { policy, json } = outcome else { panic!("{outcome:?}") };
            let value: Value = serde_json::from_str(&json).unwrap();
            (value["spec"].clone(), policy.mode, policies.refused()[0].instead)
        };
        let subject = json!({"podSelector": {"matchLabels": {"a": "b"}}});
        let bad = json!([{"action": "Allow", "http": [{"path": {"regex": "("}}]}]);
        let deny = json!([{"action": "Deny"}]);
        assert_eq!(
            closed(&json!({"subject": subject, "ingress": bad})),
            (json!({"subject": subject, "ingress": deny, "egress": deny}), Mode::Enforce, Instead::Closed)
        );
        assert_eq!(
            closed(&json!({"subject": subject, "priority": -1, "mode": "Audit", "ingress": bad})),
            (
                json!({"subject": subject, "priority": 0, "mode": "Audit", "ingress": deny, "egress": deny}),
                Mode::Audit,
                Instead::Nothing
            )
        );
    }
}
