//! `cargo xtask demo`: policy decides real packets, on a node of network namespaces; or polctl on files, without root.

mod files;
mod node;
mod requests;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::process;

/// What to show.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave the node running until Ctrl-C, with hints for what to try
    #[arg(long)]
    keep: bool,
    /// Only polctl on the examples: needs neither root nor a BPF compiler
    #[arg(long, conflicts_with = "keep")]
    files: bool,
}

/// Where the programs that are shown come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Programs {
    /// They are built.
    New,
    /// `cargo test` has just built them, with features that others would have them built anew for.
    Tested,
}

impl Programs {
    /// The folder in which those of these packages are.
    fn of(self, packages: &[&str], root: &Path) -> Result<PathBuf> {
        if self == Self::New {
            let mut build = process::cargo(root);
            build.args(["build", "--quiet"]).args(packages.iter().flat_map(|package| ["--package", package]));
            process::run(&mut build)?;
        }
        Ok(root.join("target/debug"))
    }
}

/// Shows it, and fails if something is otherwise than it should be.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    if options.files {
        return files::run(root, Programs::New);
    }
    if !process::is_root() {
        println!(
            "-- Network namespaces and BPF need root: showing polctl on files instead (`sudo cargo xtask demo` for more)"
        );
        return files::run(root, Programs::New);
    }
    node::run(root, Programs::New, options.keep)
}

/// Everything that can be shown here, as a test.
pub(crate) fn all(root: &Path, programs: Programs) -> Result<()> {
    files::run(root, programs)?;
    if process::is_root() { node::run(root, programs, false) } else { Ok(()) }
}
