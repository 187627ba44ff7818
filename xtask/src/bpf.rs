//! `cargo xtask bpf`: builds the BPF objects: that of the agent, and beside it that of the proxy.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::compiler::Compiler;
use crate::kernel_matrix::{self, Said};
use crate::process;

/// The compilation target: BPF in the byte order of the machine, as programs and maps share bytes with user space.
const TARGET: &str = if cfg!(target_endian = "little") { "bpfel-unknown-none" } else { "bpfeb-unknown-none" };

/// The agent's object: the name of the binary in `bpf/Cargo.toml`.
const OBJECT: &str = "polder";
/// The proxy's, likewise. `proxy/build.rs` looks for it beside the agent's.
pub(crate) const PROXY_OBJECT: &str = "polder-accept";

/// What to do beside building.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Also ask this machine's kernel whether it accepts the object (needs root)
    #[arg(long)]
    load: bool,
    /// Build one that writes down every packet, for `polder-agent --bpf-object` while debugging
    #[arg(long)]
    log: bool,
}

/// Builds the objects and prints where the agent's is.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let object = if options.log { build_logging(root)? } else { build(root)? };
    if options.load
        && let Said::NotAsked(reason) = kernel_matrix::check_host(root, &object)?
    {
        bail!("the kernel was not asked: {reason}");
    }
    println!("{}", object.display());
    Ok(())
}

/// Builds the objects and gives the path of the agent's.
pub(crate) fn build(root: &Path) -> Result<PathBuf> {
    build_as(root, "target/bpf", &[])
}

/// Builds the objects, of which the agent's writes down every packet.
pub(crate) fn build_logging(root: &Path) -> Result<PathBuf> {
    build_as(root, "target/bpf-log", &["--features", "log"])
}

fn build_as(root: &Path, folder: &str, features: &[&str]) -> Result<PathBuf> {
    let compiler = Compiler::detect().context("no compiler for BPF is here: run `cargo xtask setup`")?;
    let linker = process::find("bpf-linker").context("bpf-linker is not here: run `cargo xtask setup`")?;
    println!("building bpf/ for {TARGET} with {compiler}");
    let folder = root.join(folder);
    let flags = format!("-C linker={} -C debuginfo=2 -C link-arg=--btf", linker.display());
    process::run(
        compiler
            .cargo()
            .args(["build", "--release", "--target", TARGET, "-Z", "build-std=core"])
            .args(features)
            .current_dir(root.join("bpf"))
            .env("CARGO_TARGET_DIR", &folder)
            .env("RUSTFLAGS", flags),
    )?;
    let built = folder.join(TARGET).join("release");
    for name in [OBJECT, PROXY_OBJECT] {
        let object = built.join(name);
        let size =
            fs::metadata(&object).with_context(|| format!("the build left no {}", object.display()))?.len();
        println!("built {name}: {size} bytes");
    }
    Ok(built.join(OBJECT))
}
