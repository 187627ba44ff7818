//! What cargo cannot say.
//!
//! ```text
//! setup -> test = (bpf, cargo test, demo, kernels, tidy)      lint      demo      bench      fuzz      cases
//! ```
//!
//! One file for each verb. `compiler` and `process` know which BPF compiler is here and how programs are run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

mod bench;
mod bpf;
mod cases;
mod cluster;
mod compiler;
mod demo;
mod fuzz;
mod image;
mod kernel_matrix;
mod lint;
mod manifests;
mod process;
mod setup;
mod static_build;
mod test;
mod tidy;

/// What cargo cannot say.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what the tests need and is missing
    Setup,
    /// Render the chart as plain manifests, or check that they are current
    Manifests(manifests::Options),
    /// Run every test: the BPF build, the workspace's tests, the demo, other kernels, tidy
    Test(test::Options),
    /// Check format, clippy, and the dependencies' licences and sources
    Lint(lint::Options),
    /// Check the laws that compilers do not know
    Tidy,
    /// Build the BPF object and print its path
    Bpf(bpf::Options),
    /// Load, run and attach the BPF object on other kernels than this machine's
    KernelMatrix(kernel_matrix::Options),
    /// Show policy on real packets, on a node of network namespaces
    Demo(demo::Options),
    /// Run a benchmark of the package `tests`
    Bench(bench::Options),
    /// Bring up a Kubernetes cluster on this machine, use it, take it down
    Cluster(cluster::Options),
    /// Build the image that the chart runs, as a file
    Image(image::Options),
    /// Run the fuzz targets
    Fuzz(fuzz::Options),
    /// Run a corpus of connectivity cases with answers that others wrote
    Cases(cases::Options),
}

fn main() -> ExitCode {
    // Not `Result`: that would print a backtrace of this program, where the failure is in another.
    match run(Arguments::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    let root = root()?;
    match verb {
        Verb::Setup => setup::run(&root),
        Verb::Manifests(options) => manifests::run(&root, &options),
        Verb::Test(options) => test::run(&root, &options),
        Verb::Lint(options) => lint::run(&root, &options),
        Verb::Tidy => tidy::run(&root),
        Verb::Bpf(options) => bpf::run(&root, &options),
        Verb::KernelMatrix(options) => kernel_matrix::run(&root, &options),
        Verb::Demo(options) => demo::run(&root, &options),
        Verb::Bench(options) => bench::run(&root, &options),
        Verb::Cluster(options) => return cluster::run(&root, &options),
        Verb::Image(options) => image::run(&root, &options),
        Verb::Fuzz(options) => fuzz::run(&root, &options),
        Verb::Cases(options) => cases::run(&root, &options),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// The root of the repository: the folder above this crate's.
fn root() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask is not in a repository")?;
    Ok(root.to_owned())
}
