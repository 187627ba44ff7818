//! `PolderNode`: how enforcement stands on a node, for everybody in the cluster who may read it. One object a node, of the
//! node's name, written by the agent there.
//!
//! A policy is in force on a node if the node's `enforced` version of the policy's kind is not older than the policy's
//! `metadata.resourceVersion`, and the policy is not among its `refused`. Versions of one kind are compared as numbers, as
//! Kubernetes allows (KEP-5504).

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many refused policies and reasons a status lists at most.
pub const LISTED: usize = 50;

/// Nothing is asked of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::duplicated_attributes, reason = "columns of one type differ in their names")]
#[kube(
    group = "polder.dev",
    version = "v1alpha1",
    kind = "PolderNode",
    plural = "poldernodes",
    doc = "How Polder enforces network policy on the node of this name. Written by the agent there.",
    status = "NodeStatus",
    printcolumn(name = "Ready", type_ = "boolean", json_path = ".status.ready"),
    printcolumn(name = "Policies", type_ = "integer", json_path = ".status.policies"),
    printcolumn(name = "Refused", type_ = "integer", json_path = ".status.refusedPolicies"),
    printcolumn(name = "Enforced", type_ = "integer", json_path = ".status.endpoints.enforced"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.endpoints.failed"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.agentVersion")
)]
pub struct PolderNodeSpec {}

/// How enforcement stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// The agent's version.
    pub agent_version: String,
    /// Whether everything that is known is in force.
    pub ready: bool,
    /// Why not, a line each.
    pub reasons: Vec<String>,
    /// The generation of the tables in force: it counts changes on this node.
    pub generation: i64,
    /// How many policies are in force.
    pub policies: i64,
    /// By kind: every policy of it is in force as it was at this `resourceVersion`, but for those refused.
    pub enforced: BTreeMap<String, String>,
    /// How many policies are refused.
    pub refused_policies: i64,
    /// The first of them.
    pub refused: Vec<RefusedPolicy>,
    /// How many pods' interfaces stand how.
    pub endpoints: EndpointCounts,
    /// When this was written (RFC 3339).
    pub written: String,
}

/// A policy that cannot be enforced as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RefusedPolicy {
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty for policies of the whole cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Which of its generations.
    pub generation: i64,
    /// What is in force instead.
    pub instead: String,
    /// Why.
    pub message: String,
}

/// How many pods' interfaces stand how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointCounts {
    /// Their rules are in the kernel.
    pub enforced: i64,
    /// Closed until their rules are in.
    pub held: i64,
    /// Of no known pod: closed.
    pub unknown: i64,
    /// Something could not be done.
    pub failed: i64,
}

/// How a policy stands on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyOnNode<'a> {
    /// It is in force.
    Enforced,
    /// The node has not come to this version yet.
    Pending,
    /// It is refused.
    Refused(&'a RefusedPolicy),
}

impl NodeStatus {
    /// How a version of a policy stands; `None` if versions cannot be compared.
    pub fn policy(&self, kind: &str, uid: &str, resource_version: &str) -> Option<PolicyOnNode<'_>> {
        let Some(reached) = self.enforced.get(kind) else { return Some(PolicyOnNode::Pending) };
        let (reached, wanted) = (reached.parse::<u128>().ok()?, resource_version.parse::<u128>().ok()?);
        if reached < wanted {
            return Some(PolicyOnNode::Pending);
        }
        let refused = self.refused.iter().find(|refused| refused.uid == uid);
        // Not all are listed: whether this one is among them cannot be said.
        if refused.is_none()
            && usize::try_from(self.refused_policies).is_ok_and(|all| all > self.refused.len())
        {
            return None;
        }
        Some(refused.map_or(PolicyOnNode::Enforced, PolicyOnNode::Refused))
    }
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt as _;

    use super::*;

    #[test]
    fn a_policy_is_in_force_where_its_version_is_reached_and_it_is_not_refused() {
        let refused = RefusedPolicy { uid: "bad".to_owned(), ..RefusedPolicy::default() };
        let status = NodeStatus {
            enforced: [("NetworkPolicy".to_owned(), "99".to_owned())].into(),
            refused: vec![refused.clone()],
            refused_policies: 1,
            ..NodeStatus::default()
        };
        let of = |kind, uid, version| status.policy(kind, uid, version);
        assert_eq!(of("NetworkPolicy", "good", "99"), Some(PolicyOnNode::Enforced));
        assert_eq!(
            of("NetworkPolicy", "good", "100"),
            Some(PolicyOnNode::Pending),
            "as numbers, not as text"
        );
        assert_eq!(of("NetworkPolicy", "bad", "98"), Some(PolicyOnNode::Refused(&refused)));
        assert_eq!(of("AdminNetworkPolicy", "good", "1"), Some(PolicyOnNode::Pending));
        assert_eq!(of("NetworkPolicy", "good", "opaque"), None);
        let more = NodeStatus { refused_policies: 2, ..status.clone() };
        assert_eq!(more.policy("NetworkPolicy", "good", "99"), None, "it may be the one that is not listed");
    }

    /// With `POLDER_WRITE=1` it is written.
    #[test]
    fn the_definition_in_deploy_is_of_this_type() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds/poldernodes.polder.dev.yaml");
        let mut definition = serde_json::to_value(PolderNode::crd()).unwrap();
        definition["metadata"]["labels"] = serde_json::json!({"app.kubernetes.io/part-of": "polder"});
        // JSON is YAML, and needs no writer of its own.
        let wanted = format!("{}\n", serde_json::to_string_pretty(&definition).unwrap());
        if std::env::var_os("POLDER_WRITE").is_some_and(|write| write == "1") {
            std::fs::write(path, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(found == wanted, "{path} is not current; POLDER_WRITE=1 cargo test -p agent-api writes it");
    }
}
