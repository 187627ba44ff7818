//! What the laws look at: the files that are, or would be, in the repository, and who depends on whom.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;

/// The repository, read once.
#[derive(Debug, Default)]
pub(crate) struct Repository {
    /// Text by path from the root; empty for files that are not text.
    pub(crate) files: BTreeMap<String, String>,
    /// For each crate, the crates of this repository that it depends on, in whatever way.
    pub(crate) arrows: BTreeMap<String, Vec<String>>,
}

impl Repository {
    /// Reads it. New files count as well unless they are ignored, so that a law speaks before the commit.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let listed = process::capture(Command::new("git").current_dir(root).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))?;
        let mut files = BTreeMap::new();
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            // A file that was removed and is still in the index is no concern of the laws.
            if let Ok(bytes) = fs::read(root.join(path)) {
                files.insert(path.to_owned(), String::from_utf8(bytes).unwrap_or_default());
            }
        }
        let mut arrows = BTreeMap::new();
        for manifest in ["Cargo.toml", "bpf/Cargo.toml", "fuzz/Cargo.toml"] {
            if files.contains_key(manifest) {
                arrows.extend(arrows_of(root, manifest)?);
            }
        }
        Ok(Self { files, arrows })
    }

    /// The text of a file; empty if it is not there.
    pub(crate) fn text(&self, path: &str) -> &str {
        self.files.get(path).map_or("", String::as_str)
    }

    /// The lines of all files that people write, with their places.
    pub(crate) fn written_lines(&self) -> impl Iterator<Item = (String, &str)> {
        self.files.iter().filter(|(path, _)| !is_lock(path)).flat_map(|(path, text)| {
            text.lines().enumerate().map(move |(index, line)| (format!("{path}:{}", index + 1), line))
        })
    }
}

/// Whether a tool writes this file to pin versions.
pub(crate) fn is_lock(path: &str) -> bool {
    has_extension(path, "lock")
}

/// Whether the name ends in this extension.
pub(crate) fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

/// The arrows between the crates of one workspace and those it reaches by path.
fn arrows_of(root: &Path, manifest: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let metadata = process::capture(process::cargo(root).args([
        "metadata",
        "--no-deps",
        "--format-version=1",
        "--manifest-path",
        manifest,
    ]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata is not JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    Ok(packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().into_iter().flatten();
            let inner = dependencies.filter(|dependency| dependency["path"].is_string()).map(name);
            (name(package), inner.collect())
        })
        .collect())
}

fn name(of: &Value) -> String {
    of["name"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
impl Repository {
    /// A repository that holds these files.
    pub(crate) fn with_files<const N: usize>(files: [(&str, &str); N]) -> Self {
        let files = files.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
        Self { files, ..Self::default() }
    }
}
