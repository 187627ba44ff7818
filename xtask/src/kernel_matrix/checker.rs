//! `kernel-check` as a static binary: under emulation it is alone, without any library.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

const PACKAGE: &str = "kernel-check";

/// Builds it and gives its path.
pub(super) fn build(root: &Path) -> Result<PathBuf> {
    let target = target(root)?;
    println!("building {PACKAGE} without shared libraries for {target}");
    let folder = root.join("target/static");
    process::run(
        process::cargo(root)
            .args(["build", "--quiet", "--release", "--package", PACKAGE, "--target", &target])
            .env("CARGO_TARGET_DIR", &folder)
            .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols")
            // It would win over the one above.
            .env_remove("CARGO_ENCODED_RUSTFLAGS"),
    )
    .context("it cannot be linked statically if `libc.a` (Debian: libc6-dev) is missing; another way is `rustup target add` with the musl target")?;
    Ok(folder.join(target).join("release").join(PACKAGE))
}

/// musl's target if the toolchain has it, as it is made for this; else glibc's, which links statically too.
fn target(root: &Path) -> Result<String> {
    let sysroot = process::capture(Command::new("rustc").args(["--print", "sysroot"]).current_dir(root))?;
    let musl = format!("{ARCH}-unknown-linux-musl");
    let library = Path::new(sysroot.trim()).join("lib/rustlib").join(&musl).join("lib");
    Ok(if library.is_dir() { musl } else { format!("{ARCH}-unknown-linux-gnu") })
}
