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
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use datapath::abi::{Direction, Transport};
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::api::PolicyObject;
use crate::facts::{Cluster, Phase, Pod};
use crate::object::{ObjectRef, PodKey};
use matching::Scene;

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
    /// A `NetworkPolicy` that allows it, or the isolation of the pod if none does.
    NetworkPolicy,
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

    let scene = Scene::new(cluster, subject, packet);
    if let Some((answer, rule)) = cluster_tier(policies, Tier::Admin, &scene) {
        return Decision { answer, decider: Decider::Admin(rule) };
    }
    if let Some(answer) = network_policies(policies, &scene) {
        return Decision { answer, decider: Decider::NetworkPolicy };
    }
    if let Some((answer, rule)) = cluster_tier(policies, Tier::Baseline, &scene) {
        return Decision { answer, decider: Decider::Baseline(rule) };
    }
    allow(Decider::Default)
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
        let Some((index, action)) = scene.first_matching_rule(policy) else { continue };
        let answer = match action {
            "Accept" | "Allow" => Answer::Allow,
            "Pass" => return None,
            _ => Answer::Deny,
        };
        return Some((answer, RuleName { policy: policy.object(), index }));
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
        _ => return None,
    };
    Some((priority?, kind, metadata.name.as_deref().unwrap_or_default()))
}

/// What the `NetworkPolicy` objects say together. `None` if none of them isolates the pod in this direction.
fn network_policies(policies: &[PolicyObject], scene: &Scene<'_>) -> Option<Answer> {
    let mut isolated = false;
    for policy in policies {
        let PolicyObject::NetworkPolicy(policy) = policy else { continue };
        if !scene.is_selected_by(policy) || !speaks_about(policy, scene.packet.direction) {
            continue;
        }
        isolated = true;
        if scene.is_allowed_by(policy) {
            return Some(Answer::Allow);
        }
    }
    isolated.then_some(Answer::Deny)
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
