//! Which workload a pod belongs to, and the pods that stand for workloads without any.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use policy_compiler::facts::{Phase, Pod, Workload};
use policy_compiler::object::PodKey;
use policy_compiler::problem::Problem;

use crate::object::{Content, Object, WorkloadManifest};
use crate::world::Replicas;

/// How many owners are climbed: a Pod's `ReplicaSet` or Job and that one's owner, with one to spare.
const CLIMB: usize = 3;

/// The workloads of the input, by namespace, name and kind.
#[derive(Default)]
pub(crate) struct Workloads<'a> {
    known: BTreeMap<WorkloadKey, (&'a Object, &'a WorkloadManifest)>,
    /// Those that unfinished pods of the input belong to.
    inhabited: BTreeSet<WorkloadKey>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct WorkloadKey {
    namespace: Arc<str>,
    name: Arc<str>,
    kind: Arc<str>,
}

/// A pod that stands for a workload.
pub(crate) struct StandIn {
    pub(crate) pod: Pod,
    pub(crate) replicas: Replicas,
    pub(crate) remarks: Vec<Problem>,
}

impl<'a> Workloads<'a> {
    /// All workloads among objects.
    pub(crate) fn new(objects: &'a [Object]) -> Self {
        let known = objects.iter().filter_map(|object| match &object.content {
            Content::Workload(manifest) => {
                let namespace = object.object.namespace.clone().unwrap_or_default();
                let key = WorkloadKey {
                    namespace,
                    name: object.object.name.clone(),
                    kind: object.object.kind.clone(),
                };
                Some((key, (object, &**manifest)))
            }
            _ => None,
        });
        Self { known: known.collect(), inhabited: BTreeSet::new() }
    }

    /// Finds the workload of a pod of the input, better than the pod alone tells if its owners are in the input.
    pub(crate) fn adopt(&mut self, pod: &mut Pod, metadata: &ObjectMeta) {
        let Some(owner) = controller(metadata) else { return };
        let owner = WorkloadKey { namespace: pod.key.namespace.clone(), name: owner.name, kind: owner.kind };
        if self.known.contains_key(&owner) {
            let top = self.climb(owner.clone());
            pod.workload = Workload { kind: top.kind, name: top.name };
        }
        // A pod that is finished has no address any more, and policy no effect on it: who reaches the workload's next pod
        // is shown by a stand-in.
        if pod.phase == Phase::Finished {
            return;
        }
        self.inhabited.insert(owner);
        let (kind, name) = (pod.workload.kind.clone(), pod.workload.name.clone());
        self.inhabited.insert(WorkloadKey { namespace: pod.key.namespace.clone(), name, kind });
    }

    /// From what makes pods to what users call the workload: a Deployment, not its `ReplicaSet`.
    fn climb(&self, mut key: WorkloadKey) -> WorkloadKey {
        for _ in 0..CLIMB {
            if !matches!(&*key.kind, "ReplicaSet" | "Job") {
                break;
            }
            let owner = self.known.get(&key).and_then(|(_, manifest)| controller(&manifest.metadata));
            let Some(Workload { kind, name }) = owner else { break };
            key = WorkloadKey { namespace: key.namespace, name, kind };
        }
        key
    }

    /// One pod for each workload that has none, or only finished ones, in a name that no pod has.
    pub(crate) fn stand_ins(&self, mut names: BTreeSet<PodKey>) -> Vec<StandIn> {
        let mut stand_ins = Vec::new();
        for (key, (object, manifest)) in &self.known {
            if self.inhabited.contains(key) || self.is_controlled(key, manifest) {
                continue;
            }
            let Some((path, template)) = manifest.template() else { continue };
            let name = free_name(key, &names);
            names.insert(name.clone());
            let (mut pod, remarks) = Pod::from_api(&pod_of(template, &name));
            let top = self.climb(key.clone());
            pod.workload = Workload { kind: top.kind, name: top.name };
            pod.phase = Phase::Running;
            let remarks = remarks.into_iter().map(|mut remark| {
                remark.object = object.object.clone();
                // What is `spec` of a pod is `spec` of the template.
                remark.path = format!("{path}.{}", remark.path);
                remark.located(Some(&object.source))
            });
            stand_ins.push(StandIn {
                pod,
                replicas: replicas(&key.kind, manifest),
                remarks: remarks.collect(),
            });
        }
        stand_ins
    }

    /// Whether another workload of the input makes this one, and stands for it.
    fn is_controlled(&self, key: &WorkloadKey, manifest: &WorkloadManifest) -> bool {
        controller(&manifest.metadata).is_some_and(|Workload { kind, name }| {
            let owner = WorkloadKey { namespace: key.namespace.clone(), name, kind };
            owner != *key && self.known.contains_key(&owner)
        })
    }
}

/// What made an object. As in [`Pod::from_api`], an owner without the flag will do: some tools drop it.
fn controller(metadata: &ObjectMeta) -> Option<Workload> {
    let owners = || metadata.owner_references.iter().flatten();
    let flagged = owners().find(|owner| owner.controller == Some(true));
    let owner = flagged.or_else(|| owners().find(|owner| owner.controller.is_none()))?;
    Some(Workload { kind: owner.kind.as_str().into(), name: owner.name.as_str().into() })
}

/// The workload's name, or if a pod has that, the kind and if need be a number after it.
fn free_name(key: &WorkloadKey, names: &BTreeSet<PodKey>) -> PodKey {
    let mut name = PodKey { namespace: key.namespace.clone(), name: key.name.clone() };
    let mut number = 1_usize;
    while names.contains(&name) {
        let kind = key.kind.to_lowercase();
        let text = if number == 1 {
            format!("{}-{kind}", key.name)
        } else {
            format!("{}-{kind}-{number}", key.name)
        };
        name.name = text.into();
        number += 1;
    }
    name
}

fn pod_of(template: &core::PodTemplateSpec, key: &PodKey) -> core::Pod {
    let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.clone());
    let metadata = ObjectMeta {
        name: Some(key.name.to_string()),
        namespace: Some(key.namespace.to_string()),
        labels,
        ..ObjectMeta::default()
    };
    core::Pod { metadata, spec: template.spec.clone(), status: None }
}

fn replicas(kind: &str, manifest: &WorkloadManifest) -> Replicas {
    let in_cron_job = manifest.spec.job_template.as_ref().and_then(|template| template.spec.parallelism);
    let number = match kind {
        "DaemonSet" => return Replicas::OnePerNode,
        "Job" => manifest.spec.parallelism,
        "CronJob" => in_cron_job,
        _ => manifest.spec.replicas,
    };
    // The API server refuses a negative number.
    Replicas::Number(u32::try_from(number.unwrap_or(1)).unwrap_or(0))
}
