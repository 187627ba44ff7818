//! Polder on the cluster, as its users install it: the image, then the chart.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use kubelab::cluster::Cluster;
use kubelab::programs::HELM;

use crate::{image, process, static_build};

/// The chart, from the root.
const CHART: &str = "deploy/helm/polder";
/// Its namespace, and the name of what it installs.
pub(crate) const NAME: &str = "polder";
/// How long its pods may take to be ready on every node.
const PATIENCE: &str = "180s";

/// Builds the image, gives it to every node, installs the chart or what of it has changed, and waits for its pods.
pub(super) fn run(root: &Path, cluster: &Cluster) -> Result<()> {
    let archive = image::build(root, None, None)?;
    cluster.import_image(&archive)?;
    let polctl = static_build::folder(root)?.join("polctl");
    cluster.add_program("polctl", &polctl)?;
    cluster.add_program("kubectl-polder", &polctl)?;
    // The tag does not change with the programs; this does, so that pods are replaced.
    let sum = process::capture(Command::new("sha256sum").arg(&archive))?;
    let sum = sum.split_whitespace().next().context("sha256sum printed nothing")?.to_owned();
    let mut helm = Command::new(HELM.find()?);
    helm.args(["upgrade", "--install", NAME]).arg(root.join(CHART));
    helm.args(["--namespace", NAME, "--create-namespace", "--wait", "--timeout", PATIENCE]);
    helm.arg("--set-string").arg(format!("podAnnotations.archive={sum}"));
    helm.env("KUBECONFIG", cluster.kubeconfig());
    let installed = process::capture(&mut helm).with_context(|| state(cluster))?;
    // Helm is content while as many are unavailable as the update strategy lets be.
    let rollout = ["rollout", "status", "daemonset/polder", "--namespace", NAME];
    let rollout = [&rollout[..], &["--request-timeout=0", "--timeout", PATIENCE]].concat();
    cluster.kubectl(&rollout).with_context(|| state(cluster))?;
    println!("{}", installed.lines().take(6).collect::<Vec<_>>().join("\n"));
    Ok(())
}

/// What to look at if it does not become ready.
fn state(cluster: &Cluster) -> String {
    let asked = [
        &["get", "pods", "--namespace", NAME, "-o", "wide"][..],
        &["get", "events", "--namespace", NAME, "--sort-by=.lastTimestamp"],
        &["logs", "--namespace", NAME, "daemonset/polder", "--container=preflight", "--tail=30"],
        &["logs", "--namespace", NAME, "daemonset/polder", "--tail=30"],
    ];
    let answers =
        asked.map(|arguments| cluster.kubectl(arguments).unwrap_or_else(|error| format!("{error:#}\n")));
    format!("the chart was not installed:\n{}", answers.join(""))
}
