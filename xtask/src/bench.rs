//! `cargo xtask bench`: benchmarks, which live in the package `tests`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process;

/// Which benchmark.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Its name: a file of tests/benches without `.rs`, or a folder there: `compiler`, `datapath`, `l7`, `requests`
    name: String,
    /// What to pass to it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Builds and runs it. Standard output is the benchmark's alone, which may be asked for JSON.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let folder = format!("tests/benches/{}", options.name);
    ensure!(
        root.join(&folder).join("main.rs").is_file() || root.join(&folder).with_extension("rs").is_file(),
        "there is no benchmark `{}`: it would be {folder}.rs or {folder}/main.rs",
        options.name
    );
    let mut command = process::cargo(root);
    command.args(["bench", "--package", "tests", "--bench", &options.name, "--"]).args(&options.arguments);
    if ["datapath", "l7"].contains(&options.name.as_str()) {
        ensure!(
            process::is_root() || options.arguments.iter().any(|argument| argument == "--help"),
            "the benchmark `{}` makes network namespaces and loads BPF programs: it needs root",
            options.name
        );
        command.env("POLDER_BPF_OBJECT", object(root)?);
    }
    if options.name == "l7" {
        // What it runs, as users run it.
        let mut programs = process::cargo(root);
        programs.args(["build", "--quiet", "--release", "--package", "agent", "--package", "proxy"]);
        process::run(&mut programs)?;
    }
    eprintln!("$ cargo bench --package tests --bench {}", options.name);
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the benchmark `{}` failed: {status}", options.name);
    }
    Ok(())
}

/// The BPF object: the one that the environment names, or one built by `cargo xtask bpf`, which prints the path last.
fn object(root: &Path) -> Result<OsString> {
    if let Some(object) = std::env::var_os("POLDER_BPF_OBJECT").filter(|path| !path.is_empty()) {
        // Benchmarks run in the folder of their package.
        let object = PathBuf::from(object);
        let absolute = std::path::absolute(&object);
        return Ok(absolute.with_context(|| format!("POLDER_BPF_OBJECT is {}", object.display()))?.into());
    }
    let xtask = std::env::current_exe().context("this program does not know where it is")?;
    let printed = process::capture(Command::new(xtask).arg("bpf").current_dir(root))?;
    printed.lines().last().map(OsString::from).context("`cargo xtask bpf` printed no path")
}
