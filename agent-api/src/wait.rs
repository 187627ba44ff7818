//! Waiting until the policy of a pod is in force: what the CNI plugin asks before the pod's containers start.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A pod, and which one of that name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID; empty if whoever asks does not know it.
    pub uid: String,
}

/// The network of a pod is made. The agent takes these addresses for the pod's until the API server says them itself, which
/// it does when the containers have been started, and answers when the pod's policy is in force at its interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// The pod.
    pub pod: Pod,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// How long the agent may take before it says why it is not in force yet, in milliseconds.
    pub patience_ms: u64,
}

/// The policy of a pod is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// The node's side of its interface.
    pub interface: String,
    /// The generation in force.
    pub generation: u64,
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
