//! `cargo xtask image`: the image that the chart runs, as a file, without a registry and without a container runtime.
//!
//! It holds static programs and nothing else: no shell, no libraries, no package manager. The same programs give the same
//! file. `ctr images import`, `docker load` and `podman load` take it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use kubelab::archive::{Entry, Image};
use serde_json::Value;

use crate::{bpf, process, static_build};

/// What to build.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The image's name and tag, if not `polder` and the version, as the chart has it
    #[arg(long, value_name = "NAME:TAG")]
    name: Option<String>,
    /// Where to write it, if not to the build folder
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,
}

/// What the chart runs.
const PROGRAMS: [&str; 4] = ["polder-agent", "polctl", "polder-proxy", "polder-cni"];
/// What goes without: a chained CNI plugin is an option of the chart.
const OPTIONAL: &str = "polder-cni";

/// Builds the image and prints where it is.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    println!("{}", build(root, options.name.as_deref(), options.output.as_deref())?.display());
    Ok(())
}

/// The name under which the chart looks for it.
pub(crate) fn default_name() -> String {
    format!("polder:{}", env!("CARGO_PKG_VERSION"))
}

/// Builds the image and gives its file.
pub(crate) fn build(root: &Path, name: Option<&str>, output: Option<&Path>) -> Result<PathBuf> {
    let packages = packages(root)?;
    let object = bpf::build(root)?;
    let wanted: Vec<&str> = packages.values().map(String::as_str).collect();
    let folder = static_build::build(root, &wanted, &[("POLDER_BPF_OBJECT", &object)])?;
    let name = name.map_or_else(default_name, str::to_owned);
    let mut image = Image { names: vec![name.clone()], ..Image::default() };
    for program in packages.keys() {
        let file = folder.join(program);
        let size =
            fs::metadata(&file).with_context(|| format!("the build left no {}", file.display()))?.len();
        println!("{program}: {:.1} MB", megabytes(size));
        image.program(&format!("bin/{program}"), &file);
    }
    image.entries.insert("etc/passwd".to_owned(), Entry::Text("root:x:0:0:root:/:/\n".to_owned()));
    image.entrypoint = vec!["/bin/polder-agent".to_owned()];
    image.labels = labels();
    let place = match output {
        Some(path) => path.to_owned(),
        None => default_place(root)?,
    };
    image.write(&place)?;
    let size = fs::metadata(&place).with_context(|| format!("{} is not there", place.display()))?.len();
    println!("image {name}: {:.1} MB", megabytes(size));
    Ok(place)
}

fn default_place(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target/image");
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    Ok(folder.join(format!("polder-{}.tar", env!("CARGO_PKG_VERSION"))))
}

/// Program -> package of the workspace.
fn packages(root: &Path) -> Result<BTreeMap<&'static str, String>> {
    let printed =
        process::capture(process::cargo(root).args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&printed).context("`cargo metadata` printed no JSON")?;
    let found = programs(&metadata);
    let missing = PROGRAMS.iter().find(|program| **program != OPTIONAL && !found.contains_key(*program));
    ensure!(
        missing.is_none(),
        "no package of the workspace has a program {}",
        missing.copied().unwrap_or_default()
    );
    Ok(found)
}

fn programs(metadata: &Value) -> BTreeMap<&'static str, String> {
    let mut found = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        for target in package["targets"].as_array().into_iter().flatten() {
            let is_program =
                target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "bin"));
            let known = PROGRAMS.into_iter().find(|program| target["name"] == *program);
            if let (true, Some(program), Some(package)) = (is_program, known, package["name"].as_str()) {
                found.insert(program, package.to_owned());
            }
        }
    }
    found
}

fn labels() -> BTreeMap<String, String> {
    let labels = [
        ("title", "polder"),
        ("description", "Network policy for Kubernetes, decided by eBPF, on the CNI you already have"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("licenses", "Apache-2.0"),
    ];
    labels.map(|(name, value)| (format!("org.opencontainers.image.{name}"), value.to_owned())).into()
}

#[expect(clippy::cast_precision_loss, reason = "it is shown with one digit behind the point")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn programs_are_found_by_their_name_and_built_by_their_package() {
        let target = |name: &str, kind: &str| json!({"name": name, "kind": [kind]});
        let metadata = json!({"packages": [
            {"name": "agent", "targets": [target("agent", "lib"), target("polder-agent", "bin")]},
            {"name": "polctl", "targets": [target("polctl", "bin")]},
            {"name": "tests", "targets": [target("polder-cni", "test")]},
        ]});
        let found = programs(&metadata);
        assert_eq!(
            found,
            BTreeMap::from([("polder-agent", "agent".to_owned()), ("polctl", "polctl".to_owned())])
        );
    }
}
