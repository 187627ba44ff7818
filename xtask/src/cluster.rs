//! `cargo xtask cluster`: a Kubernetes cluster on this machine.

use std::path::Path;

use anyhow::Result;
use kubelab::programs::{self, Program};

use crate::{process, setup};

/// What to do with the cluster.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Build and install what a cluster is made of, if it is missing
    Build {
        /// Only what an API server without nodes needs
        #[arg(long)]
        api_server: bool,
        /// Also flannel
        #[arg(long, conflicts_with = "api_server")]
        flannel: bool,
    },
}

/// Packages of Debian, and a program of each that says whether it is there.
const PACKAGES: [(&str, &str); 6] = [
    ("etcd-server", "etcd"),
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("conntrack", "conntrack"),
    ("busybox-static", "busybox"),
    ("bash-static", "bash-static"),
];

/// Does it.
pub(crate) fn run(_root: &Path, options: Options) -> Result<()> {
    match options.verb {
        Verb::Build { api_server: true, .. } => build(&PACKAGES[..1], &programs::FOR_API_SERVER),
        Verb::Build { flannel, .. } => build_cluster(flannel),
    }
}

fn build_cluster(flannel: bool) -> Result<()> {
    let mut wanted: Vec<Program> = programs::FOR_API_SERVER.to_vec();
    wanted.extend(programs::FOR_CLUSTER);
    wanted.extend(programs::CNI_PLUGINS);
    if flannel {
        wanted.extend(programs::FOR_FLANNEL);
    }
    build(&PACKAGES, &wanted)
}

fn build(packages: &[(&str, &str)], programs: &[Program]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|(_, program)| process::find(program).is_none() && !programs::is_installed(program))
        .map(|(package, _)| *package)
        .collect();
    if !missing.is_empty() {
        setup::apt_install(&missing)?;
    }
    kubelab::build(programs)
}
