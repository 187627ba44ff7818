//! `cargo xtask bench`: benchmarks, which live in the package `tests`.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::process;

/// Which benchmark.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Its name: a file of tests/benches without `.rs`, such as `compiler`
    name: String,
    /// What to pass to it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Builds and runs it.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let file = format!("tests/benches/{}.rs", options.name);
    ensure!(root.join(&file).is_file(), "there is no benchmark `{}`: it would be {file}", options.name);
    let cargo = &mut process::cargo(root);
    process::run(
        cargo.args(["bench", "--package", "tests", "--bench", &options.name, "--"]).args(&options.arguments),
    )
}
