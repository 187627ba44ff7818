//! Objects as they were read.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use policy_compiler::api::PolicyObject;
use policy_compiler::object::{ObjectRef, Source};
use serde::{Deserialize, Serialize};

/// An object and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Kind, namespace and name.
    pub object: ObjectRef,
    /// File, line, and the line of every field that was read.
    pub source: Arc<Source>,
    /// What it says.
    pub content: Content,
}

/// What an object says. Policies are whole; of all other objects only the fields that policy depends on are set, which
/// `docs/reference/manifests.md` lists. `metadata.name` is set, and `metadata.namespace` is if and only if the kind has
/// namespaces.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A policy of any dialect.
    Policy(Box<PolicyObject>),
    /// v1
    Namespace(Box<core::Namespace>),
    /// v1
    Node(Box<core::Node>),
    /// v1
    Pod(Box<core::Pod>),
    /// v1
    Service(Box<core::Service>),
    /// discovery.k8s.io/v1
    EndpointSlice(Box<EndpointSlice>),
    /// A Deployment, `StatefulSet`, `DaemonSet`, `ReplicaSet`, `ReplicationController`, Job or `CronJob`; which one, its
    /// reference says.
    Workload(Box<WorkloadManifest>),
}

/// What all workloads have in common.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkloadManifest {
    /// Name, owners and so on.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What it demands.
    #[serde(default)]
    pub spec: WorkloadSpec,
}

/// What a workload demands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSpec {
    /// How many pods; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// How many pods at a time, of a Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<i32>,
    /// Its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<core::PodTemplateSpec>,
    /// Its jobs, of a `CronJob`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_template: Option<JobTemplate>,
}

/// The jobs of a `CronJob`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobTemplate {
    /// What they demand.
    #[serde(default)]
    pub spec: JobSpec,
}

/// What a job of a `CronJob` demands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// How many pods at a time; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<i32>,
    /// Its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<core::PodTemplateSpec>,
}

impl WorkloadManifest {
    /// The template of its pods and where it is.
    pub fn template(&self) -> Option<(&'static str, &core::PodTemplateSpec)> {
        let own = self.spec.template.as_ref().map(|template| ("spec.template", template));
        own.or_else(|| {
            let template = self.spec.job_template.as_ref()?.spec.template.as_ref()?;
            Some(("spec.jobTemplate.spec.template", template))
        })
    }
}

impl Content {
    /// Name, labels and so on.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Policy(policy) => match &**policy {
                PolicyObject::NetworkPolicy(policy) => &policy.metadata,
                PolicyObject::ClusterNetworkPolicy(policy) => &policy.metadata,
                PolicyObject::AdminNetworkPolicy(policy) => &policy.metadata,
                PolicyObject::BaselineAdminNetworkPolicy(policy) => &policy.metadata,
                PolicyObject::PolderPolicy(policy) => &policy.metadata,
                PolicyObject::ClusterPolderPolicy(policy) => &policy.metadata,
            },
            Self::Namespace(namespace) => &namespace.metadata,
            Self::Node(node) => &node.metadata,
            Self::Pod(pod) => &pod.metadata,
            Self::Service(service) => &service.metadata,
            Self::EndpointSlice(slice) => &slice.metadata,
            Self::Workload(workload) => &workload.metadata,
        }
    }

    pub(crate) fn metadata_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Policy(policy) => match &mut **policy {
                PolicyObject::NetworkPolicy(policy) => &mut policy.metadata,
                PolicyObject::ClusterNetworkPolicy(policy) => &mut policy.metadata,
                PolicyObject::AdminNetworkPolicy(policy) => &mut policy.metadata,
                PolicyObject::BaselineAdminNetworkPolicy(policy) => &mut policy.metadata,
                PolicyObject::PolderPolicy(policy) => &mut policy.metadata,
                PolicyObject::ClusterPolderPolicy(policy) => &mut policy.metadata,
            },
            Self::Namespace(namespace) => &mut namespace.metadata,
            Self::Node(node) => &mut node.metadata,
            Self::Pod(pod) => &mut pod.metadata,
            Self::Service(service) => &mut service.metadata,
            Self::EndpointSlice(slice) => &mut slice.metadata,
            Self::Workload(workload) => &mut workload.metadata,
        }
    }
}
