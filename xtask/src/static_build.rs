//! Programs without shared libraries: for images that hold nothing else, and for kernels that boot alone.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

const FOLDER: &str = "target/static";

/// Builds packages of the workspace, and gives the folder with their programs.
pub(crate) fn build(root: &Path, packages: &[&str], environment: &[(&str, &Path)]) -> Result<PathBuf> {
    let target = target(root)?;
    println!("building {} without shared libraries for {target}", packages.join(", "));
    let mut cargo = process::cargo(root);
    cargo.args(["build", "--quiet", "--release", "--target", &target]);
    for package in packages {
        cargo.args(["--package", package]);
    }
    for (name, value) in environment {
        cargo.env(name, value);
    }
    cargo
        .env("CARGO_TARGET_DIR", root.join(FOLDER))
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols");
    // It would win over the one above.
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS");
    process::run(&mut cargo)
        .context("it cannot be linked statically if `libc.a` (Debian: libc6-dev) is missing; another way is `rustup target add` with the musl target")?;
    folder(root)
}

/// Where they are.
pub(crate) fn folder(root: &Path) -> Result<PathBuf> {
    Ok(root.join(FOLDER).join(target(root)?).join("release"))
}

/// musl's target if the toolchain has it, as it is made for this; else glibc's, which links statically too.
fn target(root: &Path) -> Result<String> {
    let sysroot = process::capture(Command::new("rustc").args(["--print", "sysroot"]).current_dir(root))?;
    let musl = format!("{ARCH}-unknown-linux-musl");
    let library = Path::new(sysroot.trim()).join("lib/rustlib").join(&musl).join("lib");
    Ok(if library.is_dir() { musl } else { format!("{ARCH}-unknown-linux-gnu") })
}
