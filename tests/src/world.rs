//! A whole cluster with its policies, and random ones.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use policy_compiler::api::PolicyObject;
use policy_compiler::facts::Cluster;
use policy_compiler::object::ObjectRef;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{facts, policies};

/// All that verdicts depend on.
#[derive(Clone, Default, PartialEq)]
pub struct World {
    /// The facts.
    pub cluster: Cluster,
    /// The policies in force, each object once, in no particular order.
    pub policies: Vec<PolicyObject>,
    /// Those among them that are deleted already, and stay in force because their namespace is being deleted and still
    /// has pods (`docs/reference/semantics.md`, "Namespaces that are being deleted").
    pub lingering: BTreeSet<ObjectRef>,
    /// Namespaces that are gone already, and stay in the facts as terminating ones while they still have pods.
    pub gone_namespaces: BTreeSet<Arc<str>>,
}

/// One to eight pods in one to four namespaces, some of which the facts do not know, one to three nodes, and up to
/// eight policies. Mostly valid: `lower` should accept nearly every policy.
pub fn world() -> impl Strategy<Value = World> {
    let namespaces = vec(facts::namespace(), 0..=4);
    let pods = vec(facts::pod(), 1..=8);
    let nodes = vec(facts::node(), 1..=3);
    let policies = vec(policies::policy(), 0..=8);
    (namespaces, pods, nodes, policies).prop_map(|(namespaces, pods, nodes, policies)| {
        let mut world = World::default();
        for namespace in namespaces {
            world.cluster.namespaces.insert(Arc::clone(&namespace.name), Arc::new(namespace));
        }
        for pod in pods {
            world.cluster.pods.insert(pod.key.clone(), Arc::new(pod));
        }
        for node in nodes {
            world.cluster.nodes.insert(Arc::clone(&node.name), Arc::new(node));
        }
        for policy in policies {
            world.put_policy(policy);
        }
        world
    })
}

impl World {
    /// Adds a policy, or puts it in the place of the one of the same name.
    pub fn put_policy(&mut self, policy: PolicyObject) {
        let object = policy.object();
        self.lingering.remove(&object);
        match self.policies.iter_mut().find(|known| known.object() == object) {
            Some(known) => *known = policy,
            None => self.policies.push(policy),
        }
    }

    /// Whether any pod of a namespace is left.
    pub fn has_pods(&self, namespace: &str) -> bool {
        self.cluster.pods.keys().any(|pod| *pod.namespace == *namespace)
    }
}

impl fmt::Debug for World {
    /// Policies as JSON: as Rust values they are a page each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "World {{")?;
        for namespace in self.cluster.namespaces.values() {
            writeln!(f, "  {namespace:?}")?;
        }
        for node in self.cluster.nodes.values() {
            writeln!(f, "  {node:?}")?;
        }
        for pod in self.cluster.pods.values() {
            writeln!(f, "  {pod:?}")?;
        }
        for policy in &self.policies {
            let object = policy.object();
            let lingers = if self.lingering.contains(&object) { " (lingering)" } else { "" };
            writeln!(f, "  {object}{lingers} {}", spec(policy))?;
        }
        write!(f, "}}")
    }
}

/// The `spec` of a policy as JSON.
pub fn spec(policy: &PolicyObject) -> serde_json::Value {
    let spec = match policy {
        PolicyObject::NetworkPolicy(policy) => serde_json::to_value(&policy.spec),
        PolicyObject::ClusterNetworkPolicy(policy) => serde_json::to_value(&policy.spec),
        PolicyObject::AdminNetworkPolicy(policy) => serde_json::to_value(&policy.spec),
        PolicyObject::BaselineAdminNetworkPolicy(policy) => serde_json::to_value(&policy.spec),
        PolicyObject::PolderPolicy(policy) => serde_json::to_value(&policy.spec),
        PolicyObject::ClusterPolderPolicy(policy) => serde_json::to_value(&policy.spec),
    };
    spec.unwrap_or_default()
}
