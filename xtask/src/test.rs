//! `cargo xtask test`: every test there is, with what it needs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::demo::Programs;
use crate::kernel_matrix::{self, Said};
use crate::{bpf, cluster, demo, manifests, process, setup, tidy};

/// How much to test.
#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own on the command line")]
pub(crate) struct Options {
    /// Run property tests for at least 100,000 cases each, optimised (for the night)
    #[arg(long)]
    long: bool,
    /// Fail if a step has to be skipped (for machines that can run all of them)
    #[arg(long)]
    strict: bool,
    /// Bring a cluster up, run the tests that need one, and take it down; nothing else
    #[arg(long, conflicts_with = "long")]
    cluster: bool,
    /// Leave the cluster up
    #[arg(long, requires = "cluster")]
    keep: bool,
    #[command(flatten)]
    shape: cluster::Wanted,
}

/// Cases of each property test in a long run.
const LONG_CASES: &str = "100000";
/// Packets through the real programs in a long run.
const LONG_PACKETS: &str = "10000000";
/// Requests of the test in which everything changes meanwhile.
const LONG_REQUESTS: &str = "1000000";
/// Connections of clients that never come to a point.
const LONG_SLOW: &str = "10000";
/// How often what reads requests dies under load.
const LONG_DEATHS: &str = "100";

enum Outcome {
    Passed,
    Skipped(String),
    Failed(anyhow::Error),
}

struct Step {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
}

/// Runs every step, whatever came of the ones before, and ends with a table.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    if options.cluster {
        return on_cluster(root, options);
    }
    ensure!(options.shape == cluster::Wanted::default(), "--nodes, --cni and --proxy are for --cluster");
    let mut object: Option<PathBuf> = None;
    let mut steps = Vec::new();
    steps.push(timed("setup", || match setup::run(root) {
        Ok(()) => Ok(Outcome::Passed),
        // Later steps say what they miss; a machine without root can still run most tests.
        Err(error) => Ok(Outcome::Skipped(format!("{error:#}"))),
    }));
    let ready = matches!(steps[0].outcome, Outcome::Passed);
    steps.push(timed("bpf build", || {
        match bpf::build(root) {
            Ok(built) => object = Some(built),
            Err(error) if !ready => return Ok(Outcome::Skipped(format!("{error:#}"))),
            Err(error) => return Err(error),
        }
        Ok(Outcome::Passed)
    }));
    steps.push(timed("cargo test", || {
        workspace_tests(root, options, object.as_deref()).map(|()| Outcome::Passed)
    }));
    let tested = matches!(steps.last(), Some(Step { outcome: Outcome::Passed, .. })) && !options.long;
    let programs = if tested { Programs::Tested } else { Programs::New };
    steps.push(timed("demo", || demo::all(root, programs).map(|()| Outcome::Passed)));
    steps.push(timed("kernels", || match &object {
        None => Ok(Outcome::Skipped("there is no BPF object".to_owned())),
        Some(object) => Ok(match kernel_matrix::check(root, object)? {
            Said::Yes => Outcome::Passed,
            Said::NotAsked(reason) => Outcome::Skipped(reason),
        }),
    }));
    steps.push(timed("manifests", || {
        if !manifests::can_run() {
            return Ok(Outcome::Skipped("there is neither helm nor go to build it".to_owned()));
        }
        manifests::check(root).map(|()| Outcome::Passed)
    }));
    steps.push(timed("tidy", || tidy::run(root).map(|()| Outcome::Passed)));
    summarise(&steps, options.strict)
}

/// The tests on real nodes.
fn on_cluster(root: &Path, options: &Options) -> Result<()> {
    let mut steps = Vec::new();
    steps
        .push(timed("cluster up", || cluster::up_with_polder(root, options.shape).map(|()| Outcome::Passed)));
    if matches!(steps[0].outcome, Outcome::Passed) {
        steps.push(timed("cluster test", || {
            let mut command = process::cargo(root);
            // The features of `cargo test` on the workspace: what that has built is not built anew.
            command.args(["test", "--workspace", "--all-features", "--test", "cluster"]);
            command.args(["--", "--nocapture", "--test-threads=1"]);
            process::run(command.env("POLDER_CLUSTER", "1").env("POLDER_STRICT", "1"))
                .map(|()| Outcome::Passed)
        }));
    }
    if !options.keep {
        steps.push(timed("cluster down", || cluster::down().map(|()| Outcome::Passed)));
    }
    summarise(&steps, options.strict)
}

fn workspace_tests(root: &Path, options: &Options, object: Option<&Path>) -> Result<()> {
    let mut command = process::cargo(root);
    command.args(["test", "--workspace", "--all-features"]);
    if options.long {
        command.arg("--release").env("PROPTEST_CASES", LONG_CASES).env("POLDER_PACKETS", LONG_PACKETS);
        command.env("POLDER_REQUESTS", LONG_REQUESTS).env("POLDER_SLOW", LONG_SLOW);
        command.env("POLDER_DEATHS", LONG_DEATHS);
    }
    // What the tests that need the kernel ask it about.
    if let Some(object) = object {
        command.env("POLDER_BPF_OBJECT", object);
    }
    if options.strict {
        command.env("POLDER_STRICT", "1");
    }
    process::run(&mut command)
}

fn timed(name: &'static str, step: impl FnOnce() -> Result<Outcome>) -> Step {
    println!("\n== {name}");
    let start = Instant::now();
    let outcome = step().unwrap_or_else(Outcome::Failed);
    match &outcome {
        Outcome::Passed => {}
        Outcome::Skipped(reason) => println!("{name}: skipped because {reason}"),
        Outcome::Failed(error) => println!("{name}: {error:#}"),
    }
    Step { name, outcome, took: start.elapsed() }
}

fn summarise(steps: &[Step], strict: bool) -> Result<()> {
    println!("\n== summary");
    for step in steps {
        let (word, reason) = match &step.outcome {
            Outcome::Passed => ("passed", String::new()),
            Outcome::Skipped(reason) => ("skipped", first_line(reason)),
            Outcome::Failed(error) => ("FAILED", first_line(&error.to_string())),
        };
        println!(
            "{}",
            format!("{:<13}{word:<9}{:>7.1} s  {reason}", step.name, step.took.as_secs_f64()).trim_end()
        );
    }
    verdict(steps, strict)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// Whether the whole run succeeded.
fn verdict(steps: &[Step], strict: bool) -> Result<()> {
    let bad = |step: &&Step| match step.outcome {
        Outcome::Passed => false,
        Outcome::Skipped(_) => strict,
        Outcome::Failed(_) => true,
    };
    let names: Vec<&str> = steps.iter().filter(bad).map(|step| step.name).collect();
    if names.is_empty() {
        return Ok(());
    }
    let how = if strict { "failed or were skipped" } else { "failed" };
    bail!("{} of {} steps {how}: {}", names.len(), steps.len(), names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skipped_step_fails_only_a_strict_run_and_a_failed_one_every_run() {
        let step = |outcome| [Step { name: "kernel", outcome, took: Duration::ZERO }];
        let skipped = step(Outcome::Skipped("no root".to_owned()));
        assert!(verdict(&skipped, false).is_ok() && verdict(&skipped, true).is_err());
        let failed = step(Outcome::Failed(anyhow::anyhow!("no")));
        assert_eq!(verdict(&failed, false).unwrap_err().to_string(), "1 of 1 steps failed: kernel");
        assert!(verdict(&step(Outcome::Passed), true).is_ok());
    }
}
