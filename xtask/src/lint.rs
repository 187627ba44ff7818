//! `cargo xtask lint`: format, clippy, dependencies.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// What to check beside the usual.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Also look for security advisories (fetches the advisory database)
    #[arg(long)]
    advisories: bool,
}

/// The workspaces of the repository; each has its own lock file.
const WORKSPACES: [&str; 3] = ["Cargo.toml", "bpf/Cargo.toml", "fuzz/Cargo.toml"];

/// Runs every check, and fails if any does.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let mut failed = Vec::new();
    let mut check = |result: Result<()>| {
        if let Err(error) = result {
            println!("lint: {error:#}\n");
            failed.push(format!("{error:#}"));
        }
    };
    let workspaces = || WORKSPACES.into_iter().filter(|manifest| root.join(manifest).is_file());
    for manifest in workspaces() {
        check(format(root, manifest));
    }
    check(clippy(root));
    for manifest in workspaces() {
        check(deny(root, manifest, options.advisories));
    }
    if failed.is_empty() {
        println!("lint: clean");
        return Ok(());
    }
    bail!("{} checks failed:\n  {}", failed.len(), failed.join("\n  "))
}

/// Each workspace on its own: `--all` would also take in the workspace that a path dependency belongs to.
fn format(root: &Path, manifest: &str) -> Result<()> {
    let mut command = process::cargo(root);
    command.args(["fmt", "--check", "--manifest-path", manifest]);
    if manifest == WORKSPACES[0] {
        command.arg("--all");
    }
    process::run(&mut command)
}

/// `bpf/` is left out: clippy comes with the pinned toolchain, which cannot build for BPF.
fn clippy(root: &Path) -> Result<()> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    process::run(process::cargo(root).args(arguments))
}

fn deny(root: &Path, manifest: &str, advisories: bool) -> Result<()> {
    let program = process::find("cargo-deny").context("cargo-deny is not here: run `cargo xtask setup`")?;
    let mut command = Command::new(program);
    command.current_dir(root).args(["--manifest-path", manifest, "--all-features", "--config", "deny.toml"]);
    command.args(["check", "bans", "licenses", "sources"]);
    if advisories {
        command.arg("advisories");
    }
    process::run(&mut command)
}
