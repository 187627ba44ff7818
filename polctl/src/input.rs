//! Manifests to an engine: what every verb begins with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use manifests::world::Replicas;
use policy_compiler::api::PolicyObject;
use policy_compiler::compiler::{Compiler, Scope};
use policy_compiler::facts::Cluster;
use policy_compiler::lower::lower;
use policy_compiler::object::{PodKey, Source};
use policy_compiler::problem::{Problem, Severity};

use crate::clean::clean;

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
        let loaded = manifests::load::load(&args.filename, &mut std::io::stdin().lock());
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

    /// Whether nothing was refused; says what was, on standard error.
    pub(crate) fn accepted(&self) -> bool {
        let mut accepted = true;
        for problem in self.errors() {
            anstream::eprintln!("error: {}", clean(&problem.to_string()));
            accepted = false;
        }
        if accepted && self.compiler.cluster().pods.is_empty() {
            anstream::eprintln!("warning: there are no pods and no workloads in the input");
        }
        accepted
    }
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
