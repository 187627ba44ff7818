//! `ClusterNetworkPolicy`, policy.networking.k8s.io/v1alpha2.
//!
//! A required field that is absent is read as empty or `None`: that it is missing is for lowering to say.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::{Deserialize, Serialize};

use super::null_is_absent;

/// A cluster-wide policy in the Admin or the Baseline tier.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterNetworkPolicy {
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

/// What a `ClusterNetworkPolicy` demands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// `Admin` or `Baseline`.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub tier: String,
    /// 0 to 1000; lower is asked first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// The pods it applies to.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub subject: Subject,
    /// At most 25 rules about traffic to them.
    #[serde(default, deserialize_with = "null_is_absent", skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<IngressRule>,
    /// At most 25 rules about traffic from them.
    #[serde(default, deserialize_with = "null_is_absent", skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<EgressRule>,
}

/// The pods a policy applies to; exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = [{"rule": "[has(self.namespaces), has(self.pods)].exists_one(x, x)", "message": "exactly one of namespaces and pods"}])))]
pub struct Subject {
    /// All pods of these namespaces.
    #[cfg_attr(feature = "schema", schemars(schema_with = "super::definition::label_selector"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// These pods of these namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPod>,
}

/// Pods in namespaces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("required" = ["podSelector"])))]
pub struct NamespacedPod {
    /// The namespaces; empty selects all, and so does absent in `ClusterNetworkPolicy`. Required in v1alpha1.
    #[cfg_attr(feature = "schema", schemars(schema_with = "super::definition::label_selector"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// The pods in them; empty selects all. Required.
    #[cfg_attr(feature = "schema", schemars(schema_with = "super::definition::label_selector"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
}

/// A rule about traffic to the subject.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IngressRule {
    /// At most 100 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `Accept`, `Deny` or `Pass`.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub action: String,
    /// 1 to 25 sources.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub from: Vec<IngressPeer>,
    /// Absent: every protocol. Else 1 to 25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<Protocol>>,
}

/// A rule about traffic from the subject.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressRule {
    /// At most 100 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `Accept`, `Deny` or `Pass`.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub action: String,
    /// 1 to 25 destinations.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub to: Vec<EgressPeer>,
    /// Absent: every protocol. Else 1 to 25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<Protocol>>,
}

/// A source; exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IngressPeer {
    /// All pods of these namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// These pods of these namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPod>,
}

/// A destination; exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = [{"rule": "[has(self.namespaces), has(self.pods), has(self.nodes), has(self.networks), has(self.domainNames)].exists_one(x, x)", "message": "exactly one of namespaces, pods, nodes, networks and domainNames"}])))]
pub struct EgressPeer {
    /// All pods of these namespaces.
    #[cfg_attr(feature = "schema", schemars(schema_with = "super::definition::label_selector"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// These pods of these namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPod>,
    /// The addresses of these nodes.
    #[cfg_attr(feature = "schema", schemars(schema_with = "super::definition::label_selector"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<LabelSelector>,
    /// 1 to 25 prefixes.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 25), inner(length(max = 43))))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    /// 1 to 25 names; only in `Accept` rules.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 25), inner(length(max = 255))))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain_names: Option<Vec<String>>,
}

/// One protocol match; exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = [{"rule": "[has(self.tcp), has(self.udp), has(self.sctp), has(self.destinationNamedPort)].exists_one(x, x)", "message": "exactly one of tcp, udp, sctp and destinationNamedPort"}])))]
pub struct Protocol {
    /// TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<ProtocolPorts>,
    /// UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<ProtocolPorts>,
    /// SCTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sctp: Option<ProtocolPorts>,
    /// The name of a container port, whatever its protocol.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 63)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_named_port: Option<String>,
}

/// What is matched of a protocol; at least one field is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("minProperties" = 1)))]
pub struct ProtocolPorts {
    /// The destination port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<Port>,
}

/// A port or a range; exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = [{"rule": "[has(self.number), has(self.range)].exists_one(x, x)", "message": "exactly one of number and range"}])))]
pub struct Port {
    /// 1 to 65535.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65535)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i32>,
    /// A range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<PortRange>,
}

/// Ports `start` to `end`, both included; `start` is below `end`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("required" = ["start", "end"])))]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = [{"rule": "self.start < self.end", "message": "start is below end"}])))]
pub struct PortRange {
    /// 1 to 65535.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65535)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<i32>,
    /// 1 to 65535.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65535)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<i32>,
}
