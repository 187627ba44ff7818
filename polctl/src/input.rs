//! Manifests to an engine: what every verb begins with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use agent_api::world::Document;
use manifests::gather::Loaded;
use manifests::parse::parse;
use manifests::world::Replicas;
use policy_compiler::api::PolicyObject;
use policy_compiler::compiler::{Compiler, Scope};
use policy_compiler::facts::Cluster;
use policy_compiler::lower::lower;
use policy_compiler::object::{PodKey, Source};
use policy_compiler::problem::{Problem, Severity};

use crate::clean::clean;

/// The ids of warnings that bear on every answer: what is asked about may be missing, or judged by what it is not.
const MISLEADING: &[&str] =
    &[manifests::world::MADE_UP_ADDRESSES, manifests::gather::SKIPPED_KIND, "not-enforceable"];

/// Where manifests come from.
#[derive(Debug, Clone, clap::Args)]
// Every verb has an `Args` of its own around this one, and groups are named after types.
#[group(id = "input")]
pub(crate) struct Args {
    /// A directory (read recursively), a file, or `-` for standard input; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    pub(crate) filename: Vec<PathBuf>,
}

/// Namespace, kind and name of a workload.
pub(crate) type WorkloadKey = (Arc<str>, Arc<str>, Arc<str>);

/// An engine for all endpoints of the manifests, and everything there was to say about these.
pub(crate) struct Input {
    pub(crate) compiler: Compiler,
    /// The policy objects as they were written, the refused ones included.
    pub(crate) objects: Vec<(PolicyObject, Arc<Source>)>,
    /// Of reading, of lowering; sorted, errors first.
    pub(crate) problems: Vec<Problem>,
    /// How many pods each workload wants, by namespace, kind and name; absent for bare pods.
    pub(crate) replicas: BTreeMap<WorkloadKey, u32>,
}

impl Input {
    /// Reads manifests. What is wrong with them is among the problems.
    pub(crate) fn load(args: &Args) -> Self {
        Self::of(manifests::load::load(&args.filename, &mut std::io::stdin().lock()))
    }

    /// The manifests that an agent has in force, as if they were read from its directory.
    pub(crate) fn of_agent(documents: &[Document]) -> Self {
        Self::of(Loaded::gather(
            documents.iter().map(|document| parse(&document.name, document.text.as_bytes())),
        ))
    }

    fn of(loaded: Loaded) -> Self {
        let world = loaded.world();
        let mut problems = loaded.problems;
        problems.extend(world.problems);
        let mut policies = Vec::new();
        for (object, source) in &world.policies {
            match lower(object, Some(source)) {
                Ok(lowered) => {
                    policies.push(Arc::new(lowered.policy));
                    problems.extend(lowered.remarks);
                }
                Err(errors) => problems.extend(errors),
            }
        }
        problems.sort();
        let replicas = replicas(&world.cluster, &world.replicas);
        let compiler = Compiler::compile(Scope::All, &world.cluster, policies);
        Self { compiler, objects: world.policies, problems, replicas }
    }

    /// The problems for which something was refused.
    pub(crate) fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error)
    }

    /// The warnings without which an answer would mislead.
    fn warnings(&self) -> impl Iterator<Item = &Problem> {
        let misleads =
            |problem: &&Problem| problem.severity == Severity::Warning && MISLEADING.contains(&problem.id);
        self.problems.iter().filter(misleads)
    }

    /// Whether nothing was refused; says what was, and what the answer has to be read with, on standard error.
    pub(crate) fn accepted(&self) -> bool {
        let mut accepted = true;
        for problem in self.errors() {
            anstream::eprintln!("error: {}", clean(&problem.to_string()));
            accepted = false;
        }
        for problem in self.warnings() {
            let text = problem.to_string();
            let text = clean(&text);
            if is_new(&text) {
                anstream::eprintln!("warning: {text}");
            }
        }
        if accepted && self.compiler.cluster().pods.is_empty() {
            anstream::eprintln!("warning: there are no pods and no workloads in the input");
        }
        accepted
    }
}

/// Whether this was not said before: test files often read the same manifests.
fn is_new(text: &str) -> bool {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned())
}

fn replicas(cluster: &Cluster, stand_ins: &BTreeMap<PodKey, Replicas>) -> BTreeMap<WorkloadKey, u32> {
    let known = stand_ins.iter().filter_map(|(key, replicas)| {
        let pod = cluster.pods.get(key)?;
        let number = match replicas {
            Replicas::Number(number) => *number,
            // How many nodes there will be is not known from manifests: at least two.
            Replicas::OnePerNode => u32::try_from(cluster.nodes.len()).unwrap_or(u32::MAX).max(2),
        };
        let workload = &pod.workload;
        Some(((Arc::clone(&key.namespace), Arc::clone(&workload.kind), Arc::clone(&workload.name)), number))
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_that_bear_on_the_answer_are_said_and_only_once() {
        let folder = std::env::temp_dir().join(format!("polctl-input-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let text = "\
{apiVersion: v1, kind: Deployment, metadata: {name: d}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p}, status: {podIPs: [{ip: nonsense}]}}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: names}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {}}
  egress:
  - {action: Accept, to: [{domainNames: [example.org]}]}
  - {action: Deny, to: [{networks: [0.0.0.0/1, 128.0.0.0/1]}]}
";
        std::fs::write(folder.join("all.yaml"), text).unwrap();
        let input = Input::load(&Args { filename: vec![folder.clone()] });
        std::fs::remove_dir_all(&folder).unwrap();
        let ids: BTreeSet<_> = input.warnings().map(|problem| problem.id).collect();
        // The others are `polctl check`'s.
        assert_eq!(ids, ["made-up-addresses", "not-enforceable", "skipped-kind"].into());
        assert_eq!(input.warnings().count(), 3);
        assert!(input.problems.iter().any(|problem| problem.id == "unusable-value"));
        assert!(input.accepted());
        for warning in input.warnings() {
            assert!(!is_new(&clean(&warning.to_string())), "{warning} was said");
        }
    }
}
