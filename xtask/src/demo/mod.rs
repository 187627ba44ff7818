//! `cargo xtask demo`: policy decides real packets, on a node of network namespaces; or polctl on files, without root.

mod files;
mod node;
mod requests;

use std::path::Path;

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

/// Shows it, and fails if something is otherwise than it should be.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    if options.files {
        return files::run(root);
    }
    if !process::is_root() {
        println!(
            "-- Network namespaces and BPF need root: showing polctl on files instead (`sudo cargo xtask demo` for more)"
        );
        return files::run(root);
    }
    node::run(root, options.keep)
}

/// Everything that can be shown here, as a test.
pub(crate) fn all(root: &Path) -> Result<()> {
    files::run(root)?;
    if process::is_root() { node::run(root, false) } else { Ok(()) }
}
