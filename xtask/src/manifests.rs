//! `cargo xtask manifests`: the chart rendered as plain manifests, for those without Helm.
//!
//! ```text
//! deploy/crds --> deploy/helm/polder/crds
//! deploy/helm/polder --helm template--> plain --> deploy/manifests/*.yaml    (--check: compared instead of written)
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use kubelab::programs::HELM;

use crate::process;

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Compare with what is checked in instead of writing it
    #[arg(long)]
    check: bool,
}

/// Definitions of the kinds that are our own, from the root: made from their types.
const DEFINITIONS: &str = "deploy/crds";
/// The chart, from the root.
const CHART: &str = "deploy/helm/polder";
/// Where the manifests are, from the root.
const FOLDER: &str = "deploy/manifests";
/// The Kubernetes for which they are rendered: that which tests run.
const KUBERNETES: &str = "1.34.0";

/// A file of manifests.
struct Rendering {
    file: &'static str,
    about: &'static str,
    /// Arguments of `helm template`.
    arguments: &'static [&'static str],
    namespace: bool,
}

const RENDERINGS: [Rendering; 2] = [
    Rendering {
        file: "polder.yaml",
        about: "Installs Polder in the namespace `polder`: kubectl apply -f polder.yaml",
        arguments: &["--include-crds"],
        namespace: true,
    },
    Rendering {
        file: "uninstall.yaml",
        about: "Takes Polder off every node: kubectl apply -f uninstall.yaml; when its pods are ready, kubectl delete -f \
                polder.yaml",
        arguments: &["--set", "uninstall=true", "--show-only", "templates/daemonset.yaml"],
        namespace: false,
    },
];

/// Pods with the node's network, its folders and capabilities are refused elsewhere where Pod Security is in force.
const NAMESPACE: &str = "\
---
apiVersion: v1
kind: Namespace
metadata:
  name: polder
  labels:
    pod-security.kubernetes.io/enforce: privileged
    pod-security.kubernetes.io/audit: privileged
    pod-security.kubernetes.io/warn: privileged
";

/// Writes the manifests, or compares them.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let helm = helm()?;
    process::run(Command::new(&helm).args(["lint", "--strict", "--quiet", CHART]).current_dir(root))?;
    versions_agree(root)?;
    let mut stale = Vec::new();
    // The chart has a copy, as Helm reads nothing outside of it.
    for (name, text) in definitions(root)? {
        stale.extend(settle(root, &format!("{CHART}/crds/{name}"), &text, options.check)?);
    }
    for rendering in &RENDERINGS {
        let text = render(&helm, root, rendering)?;
        stale.extend(settle(root, &format!("{FOLDER}/{}", rendering.file), &text, options.check)?);
    }
    if !stale.is_empty() {
        bail!("not what the chart renders; run `cargo xtask manifests`:\n  {}", stale.join("\n  "));
    }
    Ok(())
}

/// Writes a file, or says what is wrong with the one that is there.
fn settle(root: &Path, file: &str, text: &str, check: bool) -> Result<Option<String>> {
    let path = root.join(file);
    let found = fs::read_to_string(&path).unwrap_or_default();
    if found == text {
        println!("{file}: current");
        return Ok(None);
    }
    if check {
        return Ok(Some(format!("{file}{}", first_difference(&found, text))));
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    println!("{file}: written");
    Ok(None)
}

/// Name and text of each definition.
fn definitions(root: &Path) -> Result<Vec<(String, String)>> {
    let folder = root.join(DEFINITIONS);
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        found.push((name, fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?));
    }
    found.sort();
    Ok(found)
}

/// Fails unless the manifests are what the chart renders.
pub(crate) fn check(root: &Path) -> Result<()> {
    run(root, &Options { check: true })
}

/// Whether there is Helm, or what builds it.
pub(crate) fn can_run() -> bool {
    ["helm", "go"].iter().any(|program| process::find(program).is_some()) || HELM.is_there()
}

/// Helm: from `PATH`, or from where `cargo xtask cluster` keeps what it builds; built there if need be.
fn helm() -> Result<PathBuf> {
    if let Some(helm) = process::find("helm") {
        return Ok(helm);
    }
    if !HELM.is_there() {
        kubelab::build(&[HELM]).context("building Helm, as none is installed")?;
    }
    HELM.find()
}

fn render(helm: &Path, root: &Path, rendering: &Rendering) -> Result<String> {
    let rendered = process::capture(
        Command::new(helm)
            .args(["template", "polder", CHART, "--namespace", "polder", "--kube-version", KUBERNETES])
            .args(rendering.arguments)
            .current_dir(root),
    )?;
    let namespace = if rendering.namespace { NAMESPACE } else { "" };
    let about = rendering.about;
    Ok(format!(
        "# {}erated by `cargo xtask manifests` from {CHART}. Do not edit.\n# {about}\n{namespace}{}",
        concat!("@", "gen"),
        plain(&rendered)
    ))
}

/// Without what is Helm's own: nobody who applies these has a release.
fn plain(rendered: &str) -> String {
    let of_helm = ["# Source: ", "app.kubernetes.io/managed-by: ", "helm.sh/chart: "];
    let kept = rendered.lines().filter(|line| !of_helm.iter().any(|key| line.trim_start().starts_with(key)));
    kept.fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

/// The chart is released with the programs that it installs.
fn versions_agree(root: &Path) -> Result<()> {
    let text = fs::read_to_string(root.join(CHART).join("Chart.yaml")).context("reading Chart.yaml")?;
    let said = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        value.map(|value| value.trim().trim_matches('"').to_owned())
    };
    let ours = env!("CARGO_PKG_VERSION");
    for key in ["version", "appVersion"] {
        let found = said(key);
        if found.as_deref() != Some(ours) {
            bail!("{CHART}/Chart.yaml: {key}: found {found:?}, expected {ours:?}, the workspace's version");
        }
    }
    Ok(())
}

/// `:12: found ..., expected ...`
fn first_difference(found: &str, expected: &str) -> String {
    let mut lines = (found.lines().map(Some).chain(std::iter::repeat(None)))
        .zip(expected.lines().map(Some).chain([None]))
        .enumerate();
    match lines.find(|(_, (found, expected))| found != expected) {
        Some((number, (found, expected))) => {
            let said =
                |line: Option<&str>| line.map_or("the end".to_owned(), |line| format!("`{}`", line.trim()));
            format!(":{}: found {}, expected {}", number + 1, said(found), said(expected))
        }
        None => format!(": {} lines, expected {}", found.lines().count(), expected.lines().count()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_helms_own_is_left_out() {
        let rendered =
            "---\n# Source: polder/templates/a.yaml\nkind: A  \nlabels:\n  helm.sh/chart: polder-1\n  a: b\n";
        assert_eq!(plain(rendered), "---\nkind: A\nlabels:\n  a: b\n");
    }

    #[test]
    fn a_stale_file_is_told_by_its_first_line_that_differs() {
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), ":2: found `b`, expected `c`");
        assert_eq!(first_difference("a\n", "a\nc\n"), ":2: found the end, expected `c`");
        assert_eq!(first_difference("a\nb\nc\n", "a\n"), ":2: found `b`, expected the end");
    }

    #[test]
    fn the_chart_has_the_version_of_the_workspace() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        versions_agree(root).unwrap();
    }
}
