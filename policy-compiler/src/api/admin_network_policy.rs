//! `AdminNetworkPolicy` and `BaselineAdminNetworkPolicy`, policy.networking.k8s.io/v1alpha1.
//!
//! Subjects and peers have the shape they have in `ClusterNetworkPolicy`. A required field that is absent is read as
//! empty or `None`: that it is missing is for lowering to say.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::cluster_network_policy::{EgressPeer, IngressPeer, Subject};
use super::null_is_absent;

/// Cluster-wide rules that are asked before any `NetworkPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AdminNetworkPolicy {
    /// Name, labels and so on.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub metadata: ObjectMeta,
    /// What it demands.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub spec: Spec,
    /// Written by implementations; not read here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<serde_json::Value>,
}

/// Cluster-wide defaults, asked after every `NetworkPolicy`. There is only one, named `default`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BaselineAdminNetworkPolicy {
    /// Name, labels and so on.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub metadata: ObjectMeta,
    /// What it demands.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub spec: BaselineSpec,
    /// Written by implementations; not read here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<serde_json::Value>,
}

/// What an `AdminNetworkPolicy` demands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// 0 to 1000; lower is asked first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// The pods it applies to.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub subject: Subject,
    /// At most 100 rules about traffic to them.
    #[serde(default, deserialize_with = "null_is_absent", skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<IngressRule>,
    /// At most 100 rules about traffic from them.
    #[serde(default, deserialize_with = "null_is_absent", skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<EgressRule>,
}

/// What a `BaselineAdminNetworkPolicy` demands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BaselineSpec {
    /// The pods it applies to.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub subject: Subject,
    /// At most 100 rules about traffic to them.
    #[serde(default, deserialize_with = "null_is_absent", skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<IngressRule>,
    /// At most 100 rules about traffic from them.
    #[serde(default, deserialize_with = "null_is_absent", skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<EgressRule>,
}

/// A rule about traffic to the subject.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IngressRule {
    /// At most 100 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `Allow`, `Deny`, or, in an `AdminNetworkPolicy` only, `Pass`.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub action: String,
    /// 1 to 100 sources.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub from: Vec<IngressPeer>,
    /// Absent: every protocol. Else 1 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<Port>>,
}

/// A rule about traffic from the subject.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressRule {
    /// At most 100 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `Allow`, `Deny`, or, in an `AdminNetworkPolicy` only, `Pass`.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub action: String,
    /// 1 to 100 destinations; `domainNames` among them only in an `AdminNetworkPolicy`.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub to: Vec<EgressPeer>,
    /// Absent: every protocol. Else 1 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<Port>>,
}

/// One port match; exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// A protocol and a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_number: Option<PortNumber>,
    /// The name of a container port, whatever its protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named_port: Option<String>,
    /// A protocol and a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_range: Option<PortRange>,
}

/// A protocol and a port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PortNumber {
    /// `TCP` (the default), `UDP` or `SCTP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// 1 to 65535.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// A protocol and ports `start` to `end`, both included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PortRange {
    /// `TCP` (the default), `UDP` or `SCTP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// 1 to 65535.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<i32>,
    /// 1 to 65535, not below `start`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<i32>,
}
