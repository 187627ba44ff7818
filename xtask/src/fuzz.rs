//! `cargo xtask fuzz`: runs the targets of `fuzz/` with cargo-fuzz.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process;

/// What to fuzz, and how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The target; all of them, one after the other, if none is named
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Runs one target or all, and fails at the first input that breaks one.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    ensure!(root.join("fuzz/Cargo.toml").is_file(), "there is no crate in fuzz/");
    process::find("cargo-fuzz").context("cargo-fuzz is not here: `cargo install --locked cargo-fuzz`")?;
    process::capture(Command::new("rustup").args(["run", "nightly", "rustc", "--version"]))
        .context("fuzzing needs a nightly compiler for its sanitizers: `rustup toolchain install nightly`")?;
    let targets = match &options.target {
        Some(target) => vec![target.clone()],
        None => process::capture(cargo_fuzz(root).arg("list"))?.lines().map(str::to_owned).collect(),
    };
    let limit = format!("-max_total_time={}", options.seconds);
    for target in targets {
        process::run(cargo_fuzz(root).args(["run", &target, "--", &limit]))?;
    }
    Ok(())
}

/// `RUSTUP_TOOLCHAIN` and `CARGO` of the outer cargo would bring the pinned compiler back in.
fn cargo_fuzz(root: &Path) -> Command {
    let mut command = Command::new("rustup");
    command.current_dir(root).env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
    command.args(["run", "nightly", "cargo", "fuzz"]);
    command
}
