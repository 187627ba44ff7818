//! `PolderPolicy` and `ClusterPolderPolicy`, polder.dev/v1alpha1: the shape of `ClusterNetworkPolicy`, with rules about what is
//! asked over a connection.
//!
//! A required field that is absent is read as empty or `None`: that it is missing is for lowering to say.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::{Deserialize, Serialize};

use super::cluster_network_policy::{EgressPeer, Protocol, Subject};
use super::null_is_absent;

/// A policy of a namespace, about pods in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PolderPolicy {
    /// Name, labels and so on.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub metadata: ObjectMeta,
    /// What it demands.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub spec: PolderPolicySpec,
    /// Written by implementations; not read here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<serde_json::Value>,
}

/// What a `PolderPolicy` demands. A direction that is there isolates the subject in it, even if its list is empty; one that is
/// not there is not spoken about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("required" = ["subject"])))]
pub struct PolderPolicySpec {
    /// The pods it applies to.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub subject: OwnSubject,
    /// 0 to 2000, lower is asked first; 1000, where NetworkPolicy stands, if absent.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 2000), extend("default" = 1000)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// `Enforce`, which is the default, or `Audit`.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["Enforce", "Audit"], "default" = "Enforce")))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Whether decisions of its rules are to be logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<bool>,
    /// At most 100 rules about traffic to them.
    #[cfg_attr(feature = "schema", schemars(length(max = 100)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Vec<IngressRule>>,
    /// At most 100 rules about traffic from them.
    #[cfg_attr(feature = "schema", schemars(length(max = 100)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<EgressRule>>,
}

/// Pods of the policy's own namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("required" = ["podSelector"])))]
pub struct OwnSubject {
    /// The pods; empty selects all. Required.
    #[cfg_attr(feature = "schema", schemars(schema_with = "super::definition::label_selector"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
}

/// A cluster-wide policy in the Admin or the Baseline tier.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterPolderPolicy {
    /// Name, labels and so on.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub metadata: ObjectMeta,
    /// What it demands.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub spec: ClusterPolderPolicySpec,
    /// Written by implementations; not read here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<serde_json::Value>,
}

/// What a `ClusterPolderPolicy` demands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("required" = ["tier", "priority", "subject"])))]
pub struct ClusterPolderPolicySpec {
    /// `Admin` or `Baseline`.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["Admin", "Baseline"])))]
    #[serde(default, deserialize_with = "null_is_absent")]
    pub tier: String,
    /// 0 to 1000; lower is asked first.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 1000)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// The pods it applies to.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub subject: Subject,
    /// `Enforce`, which is the default, or `Audit`.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["Enforce", "Audit"], "default" = "Enforce")))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Whether decisions of its rules are to be logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<bool>,
    /// At most 100 rules about traffic to them.
    #[cfg_attr(feature = "schema", schemars(length(max = 100)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Vec<IngressRule>>,
    /// At most 100 rules about traffic from them.
    #[cfg_attr(feature = "schema", schemars(length(max = 100)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<EgressRule>>,
}

/// A rule about traffic to the subject. At most one of `http`, `grpc` and `tls` is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("required" = ["action"])))]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = [{"rule": "[has(self.http), has(self.grpc), has(self.tls)].filter(x, x).size() <= 1", "message": "at most one of http, grpc and tls"}, {"rule": "!(has(self.http) || has(self.grpc) || has(self.tls)) || !has(self.protocols) || self.protocols.all(p, has(p.tcp) || has(p.destinationNamedPort))", "message": "http, grpc and tls are read from TCP only"}, {"rule": "self.action == 'Allow' || !has(self.from) || self.from.all(p, !has(p.domainNames))", "message": "domainNames stand only in rules that allow"}])))]
pub struct IngressRule {
    /// At most 100 characters.
    #[cfg_attr(feature = "schema", schemars(length(max = 100)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `Allow`, `Deny`, `Reject` or `Pass`.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["Allow", "Deny", "Reject", "Pass"])))]
    #[serde(default, deserialize_with = "null_is_absent")]
    pub action: String,
    /// Absent: everyone. Else 1 to 25 sources.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 25)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<EgressPeer>>,
    /// Absent: every protocol, or all of TCP where it matters what is asked. Else 1 to 25.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 25)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<Protocol>>,
    /// 1 to 16 kinds of HTTP requests.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 16)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Vec<Http>>,
    /// 1 to 16 services of gRPC.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 16)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<Vec<Grpc>>,
    /// TLS, which is not terminated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// A rule about traffic from the subject. At most one of `http`, `grpc` and `tls` is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("required" = ["action"])))]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = [{"rule": "[has(self.http), has(self.grpc), has(self.tls)].filter(x, x).size() <= 1", "message": "at most one of http, grpc and tls"}, {"rule": "!(has(self.http) || has(self.grpc) || has(self.tls)) || !has(self.protocols) || self.protocols.all(p, has(p.tcp) || has(p.destinationNamedPort))", "message": "http, grpc and tls are read from TCP only"}, {"rule": "self.action == 'Allow' || !has(self.to) || self.to.all(p, !has(p.domainNames))", "message": "domainNames stand only in rules that allow"}, {"rule": "!has(self.to) || !has(self.protocols) || self.protocols.all(p, !has(p.destinationNamedPort)) || self.to.all(p, has(p.pods) || has(p.namespaces))", "message": "named ports stand only beside peers that are pods"}])))]
pub struct EgressRule {
    /// At most 100 characters.
    #[cfg_attr(feature = "schema", schemars(length(max = 100)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `Allow`, `Deny`, `Reject` or `Pass`.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["Allow", "Deny", "Reject", "Pass"])))]
    #[serde(default, deserialize_with = "null_is_absent")]
    pub action: String,
    /// Absent: everyone. Else 1 to 25 destinations.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 25)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<EgressPeer>>,
    /// Absent: every protocol, or all of TCP where it matters what is asked. Else 1 to 25.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 25)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<Protocol>>,
    /// 1 to 16 kinds of HTTP requests.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 16)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Vec<Http>>,
    /// 1 to 16 services of gRPC.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 16)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<Vec<Grpc>>,
    /// TLS, which is not terminated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// A kind of HTTP requests: all that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Http {
    /// Absent: any, but CONNECT is let through by name only. Else 1 to 16.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 16), inner(length(min = 1, max = 64))))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// Absent: any. Else 1 to 16 names, or `*.` and a name for all names under it.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 16), inner(length(min = 1, max = 255))))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
    /// The path, without the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Path>,
    /// All of these, at most 16; each name once.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 16)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<Header>>,
}

/// A path; exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = [{"rule": "[has(self.exact), has(self.prefix), has(self.regex)].exists_one(x, x)", "message": "exactly one of exact, prefix and regex"}])))]
pub struct Path {
    /// Just this one.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 1024), regex(pattern = r"^(/.*|\*)$")))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// This one and all beneath it, segment by segment.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 1024), regex(pattern = r"^/")))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Those that this expression matches from the first byte to the last.
    #[cfg_attr(feature = "schema", schemars(length(max = 1024)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
}

/// A header; exactly one of `present`, `equal` and `regex` is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("required" = ["name"])))]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = [{"rule": "[has(self.present), has(self.equal), has(self.regex)].exists_one(x, x)", "message": "exactly one of present, equal and regex"}, {"rule": "!has(self.present) || self.present", "message": "present is true"}])))]
pub struct Header {
    /// Its name, in any case.
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9!#$%&'*+.^`|~-]+$"))
    )]
    #[serde(default, deserialize_with = "null_is_absent")]
    pub name: String,
    /// `true`: with any value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
    /// Just this value.
    #[cfg_attr(feature = "schema", schemars(length(max = 1024)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equal: Option<String>,
    /// Values that this expression matches from the first byte to the last.
    #[cfg_attr(feature = "schema", schemars(length(max = 1024)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
}

/// A service of gRPC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("required" = ["service"])))]
pub struct Grpc {
    /// Its full name: `shop.v1.Cart`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 1024)))]
    #[serde(default, deserialize_with = "null_is_absent")]
    pub service: String,
    /// Absent: any. Else 1 to 16.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 16), inner(length(min = 1, max = 1024))))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
}

/// What a TLS client asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("required" = ["serverNames"])))]
pub struct Tls {
    /// 1 to 16 names, or `*.` and a name for all names under it.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 16), inner(length(min = 1, max = 255))))]
    #[serde(default, deserialize_with = "null_is_absent")]
    pub server_names: Vec<String>,
}
