//! The naive evaluator that the tests hold the compiler against.
//!
//! ```text
//! policy objects, cluster facts, one packet -> judge -> Answer
//! ```
//!
//! Written from the API documentation and `docs/reference/semantics.md`, section by section, to be checked by eye:
//! loops over policies and rules, and nothing prepared beforehand. It shares only the input types (`api`, `facts`,
//! `Labels::get`, `object`) with the compiler, so a mistake would have to be made twice to go unseen. Slow, and never
//! part of a shipped binary.
//!
//! Objects are taken to be valid, as the API server and `lower` accept them; callers leave the others out. Where an
//! invalid one gets in all the same, an unreadable part matches nothing and an unknown action denies.

mod matching;
mod request;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use datapath::abi::{Direction, Transport};
use datapath::http::Request;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::api::PolicyObject;
use crate::facts::{Cluster, Phase, Pod};
use crate::object::{ObjectRef, PodKey};
use matching::{Found, Heard, Scene};

/// A packet at one hook: the first of a flow, for replies belong to the flow and are not judged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Packet {
    /// The local pod at whose interface the packet is judged.
    pub pod: PodKey,
    /// Whether it goes to that pod or comes from it.
    pub direction: Direction,
    /// The other end: the source address at ingress, the destination address at egress.
    pub peer: IpAddr,
    /// The protocol and, if it has ports, the destination port.
    pub protocol: Protocol,
    /// Whether it began in a process of the pod's own node. Means nothing at egress.
    pub from_own_node: bool,
}

/// What follows the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// A protocol with ports, and the destination port.
    Transport(Transport, u16),
    /// Any other, by its IANA number: 1 is ICMP, 58 is ICMPv6.
    Other(u8),
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    /// It goes on.
    Allow,
    /// It is dropped.
    Deny,
    /// What is asked over the connection decides.
    Ask,
}

/// What decided about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decider {
    /// Policy does not apply: the pod is unknown, finished, or on its node's network.
    NotSubject,
    /// The peer address is one of the pod's own.
    OwnAddress,
    /// The packet began in the pod's own node.
    OwnNode,
    /// A rule of the Admin tier.
    Admin(RuleName),
    /// The `NetworkPolicy` and `PolderPolicy` objects that select the pod.
    Namespaced,
    /// A rule of the Baseline tier.
    Baseline(RuleName),
    /// Nothing else did.
    Default,
}

/// A rule of a cluster-wide policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleName {
    /// The policy.
    pub policy: ObjectRef,
    /// The index in its `spec.ingress` or `spec.egress`, as the packet's direction has it.
    pub index: usize,
}

/// An answer and what gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What becomes of the packet.
    pub answer: Answer,
    /// What decided so.
    pub decider: Decider,
}

/// Judges a packet.
pub fn judge(policies: &[PolicyObject], cluster: &Cluster, packet: &Packet) -> Answer {
    decide(policies, cluster, packet).answer
}

/// Judges what is asked over a connection that begins with a packet.
pub fn judge_request(
    policies: &[PolicyObject],
    cluster: &Cluster,
    packet: &Packet,
    request: &Request<'_>,
) -> Answer {
    let connection = decide(policies, cluster, packet);
    let Some(subject) = cluster.pods.get(&packet.pod).filter(|_| connection.answer == Answer::Ask) else {
        return connection.answer;
    };
    let scene = Scene::new(cluster, subject, packet, Some(request));
    if policies.iter().any(|policy| scene.speaks_of_protocol(policy, request)) {
        by_policy(policies, &scene).answer
    } else {
        Answer::Deny
    }
}

/// Judges a packet and says what decided.
pub fn decide(policies: &[PolicyObject], cluster: &Cluster, packet: &Packet) -> Decision {
    let allow = |decider| Decision { answer: Answer::Allow, decider };
    let Some(subject) = cluster.pods.get(&packet.pod) else { return allow(Decider::NotSubject) };
    if subject.host_network || subject.phase == Phase::Finished {
        return allow(Decider::NotSubject);
    }
    if subject.addresses.contains(&packet.peer) {
        return allow(Decider::OwnAddress);
    }
    if packet.direction == Direction::Ingress && packet.from_own_node {
        return allow(Decider::OwnNode);
    }

    by_policy(policies, &Scene::new(cluster, subject, packet, None))
}

/// Asks the tiers.
fn by_policy(policies: &[PolicyObject], scene: &Scene<'_>) -> Decision {
    if let Some((answer, rule)) = cluster_tier(policies, Tier::Admin, scene) {
        return Decision { answer, decider: Decider::Admin(rule) };
    }
    if let Some(answer) = namespaced(policies, scene) {
        return Decision { answer, decider: Decider::Namespaced };
    }
    if let Some((answer, rule)) = cluster_tier(policies, Tier::Baseline, scene) {
        return Decision { answer, decider: Decider::Baseline(rule) };
    }
    Decision { answer: Answer::Allow, decider: Decider::Default }
}

/// The pod that an address belongs to.
fn owner(cluster: &Cluster, address: IpAddr) -> Option<&Pod> {
    let mut owner: Option<&Pod> = None;
    for pod in cluster.pods.values() {
        if pod.host_network || pod.phase == Phase::Finished || !pod.addresses.contains(&address) {
            continue;
        }
        if owner.is_none_or(|owner| pod.claim() > owner.claim()) {
            owner = Some(pod);
        }
    }
    owner
}

/// The tiers of cluster-wide policies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tier {
    Admin,
    Baseline,
}

/// What a tier of cluster-wide policies says: the first rule that matches. `None` if none does or if it passes.
fn cluster_tier(policies: &[PolicyObject], tier: Tier, scene: &Scene<'_>) -> Option<(Answer, RuleName)> {
    let mut members: Vec<_> =
        policies.iter().filter_map(|policy| Some((place(policy, tier)?, policy))).collect();
    members.sort_by_key(|(place, _)| *place);
    for (_, policy) in members {
        for Found { index, action, asked } in scene.matching_rules(policy) {
            let rule = || RuleName { policy: policy.object(), index };
            match scene.heard(action, asked) {
                Heard::No => continue,
                Heard::Unknown => return Some((Answer::Ask, rule())),
                Heard::Yes => {}
            }
            return match action {
                "Accept" | "Allow" => Some((Answer::Allow, rule())),
                "Pass" => None,
                _ => Some((Answer::Deny, rule())),
            };
        }
    }
    None
}

/// A policy's place in a tier: priority, then kind, then name. `None` if it is not in that tier.
fn place(policy: &PolicyObject, tier: Tier) -> Option<(i32, &str, &str)> {
    let (priority, kind, metadata) = match (policy, tier) {
        (PolicyObject::ClusterNetworkPolicy(policy), _) => {
            let spoken = match &*policy.spec.tier {
                "Admin" => Tier::Admin,
                "Baseline" => Tier::Baseline,
                _ => return None,
            };
            if spoken != tier {
                return None;
            }
            (policy.spec.priority, "ClusterNetworkPolicy", &policy.metadata)
        }
        (PolicyObject::AdminNetworkPolicy(policy), Tier::Admin) => {
            (policy.spec.priority, "AdminNetworkPolicy", &policy.metadata)
        }
        (PolicyObject::BaselineAdminNetworkPolicy(policy), Tier::Baseline) => {
            (Some(0), "BaselineAdminNetworkPolicy", &policy.metadata)
        }
        (PolicyObject::ClusterPolderPolicy(policy), _) => {
            let wanted = if tier == Tier::Admin { "Admin" } else { "Baseline" };
            if policy.spec.tier != wanted || policy.spec.mode.as_deref() == Some("Audit") {
                return None;
            }
            (policy.spec.priority, "ClusterPolderPolicy", &policy.metadata)
        }
        _ => return None,
    };
    Some((priority?, kind, metadata.name.as_deref().unwrap_or_default()))
}

/// What the namespaced policies say together, level by level. `None` if a rule passes, or none decides and none of them isolates
/// the pod in this direction.
fn namespaced(policies: &[PolicyObject], scene: &Scene<'_>) -> Option<Answer> {
    let mut isolated = false;
    // By level, the rules that match peer and port.
    let mut levels: std::collections::BTreeMap<i32, Vec<Found<'_>>> = std::collections::BTreeMap::new();
    for policy in policies {
        match policy {
            PolicyObject::NetworkPolicy(policy) => {
                if !scene.is_selected_by(policy) || !speaks_about(policy, scene.packet.direction) {
                    continue;
                }
                isolated = true;
                if scene.is_allowed_by(policy) {
                    levels.entry(1000).or_default().push(Found::plain("Allow"));
                }
            }
            PolicyObject::PolderPolicy(own) => {
                if !scene.is_isolated_by(own) {
                    continue;
                }
                isolated = true;
                let level = own.spec.priority.unwrap_or(1000);
                levels.entry(level).or_default().extend(scene.matching_rules(policy));
            }
            _ => {}
        }
    }
    for rules in levels.values() {
        match level(rules, scene) {
            Level::Silent => {}
            Level::Passes => return None,
            Level::Says(answer) => return Some(answer),
        }
    }
    isolated.then_some(Answer::Deny)
}

/// What one level says.
enum Level {
    Silent,
    Passes,
    Says(Answer),
}

/// The rules of one level, without any order among them: what closes, what allows some requests and closes the rest of them, what
/// allows, what passes.
fn level(rules: &[Found<'_>], scene: &Scene<'_>) -> Level {
    let closes = |rule: &&Found<'_>| matches!(rule.action, "Deny" | "Reject");
    let of = |action: &'static str, conditional: bool| {
        rules.iter().filter(move |rule| rule.action == action && rule.asked.is_conditional() == conditional)
    };
    if rules.iter().filter(closes).any(|rule| !rule.asked.is_conditional()) {
        return Level::Says(Answer::Deny);
    }
    for rule in rules.iter().filter(closes) {
        match scene.heard(rule.action, rule.asked) {
            Heard::Unknown => return Level::Says(Answer::Ask),
            Heard::Yes => return Level::Says(Answer::Deny),
            Heard::No => {}
        }
    }
    let mut limited = false;
    for rule in of("Allow", true) {
        limited = true;
        match scene.heard(rule.action, rule.asked) {
            Heard::Unknown => return Level::Says(Answer::Ask),
            Heard::Yes => return Level::Says(Answer::Allow),
            Heard::No => {}
        }
    }
    if limited {
        return Level::Says(Answer::Deny);
    }
    if of("Allow", false).next().is_some() {
        return Level::Says(Answer::Allow);
    }
    for rule in of("Pass", true) {
        match scene.heard(rule.action, rule.asked) {
            Heard::Unknown => return Level::Says(Answer::Ask),
            Heard::Yes => return Level::Passes,
            Heard::No => {}
        }
    }
    if of("Pass", false).next().is_some() { Level::Passes } else { Level::Silent }
}

/// Whether a policy isolates the pods that it selects in a direction: `spec.policyTypes` and its default.
fn speaks_about(policy: &NetworkPolicy, direction: Direction) -> bool {
    let Some(spec) = &policy.spec else { return direction == Direction::Ingress };
    let types = spec.policy_types.as_deref().unwrap_or_default();
    if types.is_empty() {
        return match direction {
            Direction::Ingress => true,
            Direction::Egress => spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
        };
    }
    let name = match direction {
        Direction::Ingress => "Ingress",
        Direction::Egress => "Egress",
    };
    types.iter().any(|spoken| spoken == name)
}
