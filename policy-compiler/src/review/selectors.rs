//! Selectors that find nothing.

use datapath::abi::Direction;

use super::near::{Miss, miss};
use super::selection::Selection;
use super::{Remark, listed};
use crate::facts::Pod;
use crate::labels::{OfNode, Selector};
use crate::policy::{Namespaces, PeerTerm, Peers, Pods, Policy};
use crate::problem::{Problem, Severity};

/// The id of findings about a selector of a subject or a peer for which there is no pod, namespace or node.
pub(super) const SELECTOR_MATCHES_NOTHING: &str = "selector-matches-nothing";

pub(super) fn review(policy: &Policy, selection: &Selection<'_>, found: &mut Vec<Problem>) {
    if let Some(nothing) = nothing(&policy.subject, selection)
        // Of pods that policy cannot be about, `effect` speaks.
        && !nothing.out_of_reach
    {
        let (path, consequence) = (subject_path(policy, nothing.part), "the policy applies to nobody");
        found.push(nothing.remark(&path, consequence).of(policy));
    }
    for direction in Direction::ALL {
        for rule in &policy.block(direction).rules {
            let Peers::AnyOf(peers) = &rule.peers else { continue };
            for peer in peers {
                let (nothing, path) = match &peer.term {
                    PeerTerm::Pods(pods) => {
                        let Some(nothing) = nothing(pods, selection) else { continue };
                        let path = peer_path(policy, &peer.path, pods, nothing.part);
                        (nothing, path)
                    }
                    PeerTerm::Nodes(nodes) => {
                        let Some(nothing) = no_node(nodes, selection) else { continue };
                        (nothing, format!("{}.nodes", peer.path))
                    }
                    PeerTerm::Network(_) | PeerTerm::Domain(_) => continue,
                };
                found.push(nothing.remark(&path, "this peer is nobody").of(policy));
            }
        }
    }
}

/// Which of the two selectors it is due to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Namespaces,
    Pods,
}

struct Nothing {
    part: Part,
    severity: Severity,
    message: String,
    expected: String,
    /// Whether there are pods, but none with addresses of their own.
    out_of_reach: bool,
}

impl Nothing {
    fn remark<'a>(&self, path: &'a str, consequence: &str) -> Remark<'a> {
        let Self { severity, message, expected, .. } = self;
        let message = format!("{message}: {consequence}");
        Remark {
            severity: *severity,
            id: SELECTOR_MATCHES_NOTHING,
            path,
            message,
            expected: expected.clone(),
        }
    }
}

/// Why no pod is meant, if none is.
fn nothing(pods: &Pods, selection: &Selection<'_>) -> Option<Nothing> {
    if !selection.pods(pods).is_empty() {
        return None;
    }
    let note = |message: String| Nothing {
        part: Part::Namespaces,
        severity: Severity::Note,
        message,
        expected: String::new(),
        out_of_reach: false,
    };
    let namespaces = selection.namespaces(&pods.namespaces);
    if let Namespaces::Matching(selector) = &pods.namespaces
        && namespaces.is_empty()
    {
        let all: Vec<_> = selection.all_namespaces().collect();
        if all.is_empty() {
            return Some(note("no namespace is known".to_owned()));
        }
        let Miss { lacking, expected, is_elsewhere } = miss(selector, &all);
        let severity = if is_elsewhere { Severity::Note } else { Severity::Warning };
        return Some(Nothing { severity, expected, ..note(format!("no namespace has {lacking}")) });
    }
    let place = match &namespaces[..] {
        many if matches!(&pods.namespaces, Namespaces::Matching(all) if all.is_everything())
            && many.len() > 1 =>
        {
            "in any namespace".to_owned()
        }
        [one] => format!("in namespace {one}"),
        many => format!("in the namespaces {}", listed(many)),
    };
    let there: Vec<&Pod> =
        namespaces.iter().flat_map(|name| selection.pods_in(name)).map(|pod| &**pod).collect();
    if there.is_empty() {
        return Some(note(format!("no pod is known {place}")));
    }
    let warning = |message| Nothing { part: Part::Pods, severity: Severity::Warning, ..note(message) };
    if there.iter().any(|pod| pods.pods.matches(&pod.labels)) {
        let expected =
            "the addresses of their nodes, for a peer; policy cannot be about them otherwise".to_owned();
        let message = format!("all pods {place} that match are on the host network or finished");
        return Some(Nothing { out_of_reach: true, expected, ..warning(message) });
    }
    let labels: Vec<_> = there.iter().map(|pod| &pod.labels).collect();
    let Miss { lacking, expected, .. } = miss(&pods.pods, &labels);
    Some(Nothing { expected, ..warning(format!("no pod {place} has {lacking}")) })
}

fn no_node(selector: &Selector<OfNode>, selection: &Selection<'_>) -> Option<Nothing> {
    let all: Vec<_> = selection.cluster.nodes.values().map(|node| &node.labels).collect();
    if all.iter().any(|labels| selector.matches(labels)) {
        return None;
    }
    let (severity, message, expected) = if all.is_empty() {
        (Severity::Note, "no node is known".to_owned(), String::new())
    } else {
        let Miss { lacking, expected, .. } = miss(selector, &all);
        (Severity::Warning, format!("no node has {lacking}"), expected)
    };
    Some(Nothing { part: Part::Namespaces, severity, message, expected, out_of_reach: false })
}

pub(super) fn is_network_policy(policy: &Policy) -> bool {
    &*policy.object.kind == "NetworkPolicy"
}

fn is_written(policy: &Policy, path: &str) -> bool {
    policy.source.as_ref().is_some_and(|source| source.fields.contains_key(path))
}

fn subject_path(policy: &Policy, part: Part) -> String {
    if is_network_policy(policy) {
        return "spec.podSelector".to_owned();
    }
    if &*policy.object.kind == "PolderPolicy" {
        return "spec.subject.podSelector".to_owned();
    }
    cluster_wide_path(policy, "spec.subject", part)
}

fn peer_path(policy: &Policy, path: &str, pods: &Pods, part: Part) -> String {
    if !is_network_policy(policy) {
        return cluster_wide_path(policy, path, part);
    }
    let named = matches!(pods.namespaces, Namespaces::Named(_));
    if named || (part == Part::Pods && !pods.pods.is_everything()) {
        format!("{path}.podSelector")
    } else {
        format!("{path}.namespaceSelector")
    }
}

/// Lowered, `namespaces: X` and `pods` with an empty selector in X are one; what is written tells them apart.
fn cluster_wide_path(policy: &Policy, path: &str, part: Part) -> String {
    if is_written(policy, &format!("{path}.namespaces")) {
        return format!("{path}.namespaces");
    }
    let selector = format!("{path}.pods.namespaceSelector");
    match part {
        Part::Pods => format!("{path}.pods.podSelector"),
        Part::Namespaces if is_written(policy, &selector) => selector,
        Part::Namespaces => path.to_owned(),
    }
}
