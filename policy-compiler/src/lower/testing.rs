//! What the tests of all dialects need: objects from JSON, and short ways of writing what is expected of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datapath::abi::Transport;
use serde_json::Value;

use super::{Lowered, lower};
use crate::api::PolicyObject;
use crate::labels::{Condition, Requirement, Selector};
use crate::object::Source;
use crate::policy::{Namespaces, Network, Peer, PeerTerm, Pods, Policy, Port, PortTerm};
use crate::problem::{INVALID_OBJECT, Problem, Severity};

/// The object of a manifest, by its kind.
pub(super) fn object(manifest: Value) -> PolicyObject {
    let text = manifest.to_string();
    try_object(manifest).unwrap_or_else(|| panic!("{text} cannot be read"))
}

/// The same, or `None` if a field has a value of another type.
pub(super) fn try_object(manifest: Value) -> Option<PolicyObject> {
    let kind = manifest["kind"].as_str().unwrap().to_owned();
    match kind.as_str() {
        "NetworkPolicy" => serde_json::from_value(manifest).ok().map(PolicyObject::NetworkPolicy),
        "ClusterNetworkPolicy" => {
            serde_json::from_value(manifest).ok().map(PolicyObject::ClusterNetworkPolicy)
        }
        "AdminNetworkPolicy" => serde_json::from_value(manifest).ok().map(PolicyObject::AdminNetworkPolicy),
        "BaselineAdminNetworkPolicy" => {
            serde_json::from_value(manifest).ok().map(PolicyObject::BaselineAdminNetworkPolicy)
        }
        "PolderPolicy" => serde_json::from_value(manifest).ok().map(PolicyObject::PolderPolicy),
        "ClusterPolderPolicy" => serde_json::from_value(manifest).ok().map(PolicyObject::ClusterPolderPolicy),
        other => panic!("no kind {other}"),
    }
}

/// The policy and the remarks of a manifest that is right.
pub(super) fn lowered(manifest: Value) -> Lowered {
    let text = manifest.to_string();
    lower(&object(manifest), None).unwrap_or_else(|problems| panic!("{text} is refused: {problems:?}"))
}

/// The policy of a manifest about which there is nothing to say.
pub(super) fn policy(manifest: Value) -> Policy {
    let lowered = lowered(manifest);
    assert_eq!(lowered.remarks, []);
    lowered.policy
}

/// The errors of a manifest that is wrong: `path: message; expected ...`.
pub(super) fn errors(manifest: Value) -> Vec<String> {
    let object = object(manifest);
    let problems = lower(&object, None).expect_err("it must be refused");
    assert!(!problems.is_empty());
    for problem in &problems {
        assert_eq!((problem.severity, problem.id), (Severity::Error, INVALID_OBJECT));
        assert_eq!(problem.object, object.object());
    }
    problems.iter().map(text).collect()
}

/// The remarks on a manifest that is right: `severity id path: message; expected ...`.
pub(super) fn remarks(manifest: Value) -> Vec<String> {
    let remarks = lowered(manifest).remarks;
    remarks
        .iter()
        .map(|remark| format!("{} {} {}", remark.severity.name(), remark.id, text(remark)))
        .collect()
}

fn text(problem: &Problem) -> String {
    format!("{}: {}; expected {}", problem.path, problem.message, problem.expected)
}

/// A source with these fields on these lines.
pub(super) fn source(fields: &[(&str, u32)]) -> Arc<Source> {
    let fields: BTreeMap<_, _> = fields.iter().map(|(path, line)| ((*path).to_owned(), *line)).collect();
    Arc::new(Source { file: "a.yaml".into(), line: 1, fields })
}

/// `key=value`
pub(super) fn equal(key: &str, value: &str) -> Requirement {
    Requirement { key: key.into(), condition: Condition::In(values(&[value])) }
}

pub(super) fn values(values: &[&str]) -> BTreeSet<Arc<str>> {
    values.iter().map(|&value| value.into()).collect()
}

/// Pods of a namespace, by its name.
pub(super) fn pods_in(namespace: &str, pods: impl IntoIterator<Item = Requirement>) -> Pods {
    Pods { namespaces: Namespaces::Named(namespace.into()), pods: Selector::new(pods) }
}

/// Pods of namespaces, both by labels.
pub(super) fn pods_of(
    namespaces: impl IntoIterator<Item = Requirement>,
    pods: impl IntoIterator<Item = Requirement>,
) -> Pods {
    Pods { namespaces: Namespaces::Matching(Selector::new(namespaces)), pods: Selector::new(pods) }
}

pub(super) fn peer(path: &str, term: PeerTerm) -> Peer {
    Peer { path: path.into(), term }
}

pub(super) fn network(cidr: &str, except: &[&str]) -> PeerTerm {
    let except = except.iter().map(|except| except.parse().unwrap()).collect();
    PeerTerm::Network(Network { cidr: cidr.parse().unwrap(), except })
}

pub(super) fn port(path: &str, term: PortTerm) -> Port {
    Port { path: path.into(), term }
}

pub(super) fn range(transport: Transport, first: u16, last: u16) -> PortTerm {
    PortTerm::Range { transport, first, last }
}

pub(super) fn named(transport: Option<Transport>, name: &str) -> PortTerm {
    PortTerm::Named { transport, name: name.into() }
}
