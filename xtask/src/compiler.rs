//! Which compiler builds for the kernel (see `docs/decisions/0002-bpf-toolchain.md`).
//!
//! The BPF target has no precompiled `core`, so the compiler must bring the library's source and accept `-Z build-std`.
//! Two that do are known to work: Debian's, and a rustup nightly with `rust-src`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process;

/// A compiler that can build for BPF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// The distribution's `rustc-web` and `cargo-web`, told by `RUSTC_BOOTSTRAP` to accept unstable options.
    Debian,
    /// rustup's nightly toolchain.
    Nightly,
}

impl Compiler {
    /// The compiler to use: the distribution's before a nightly, because it is the same on every machine.
    pub(crate) fn detect() -> Option<Self> {
        [Self::Debian, Self::Nightly].into_iter().find(Self::has_library_source)
    }

    /// The command that runs cargo with this compiler.
    ///
    /// Nothing of the outer cargo may leak in: its library path would make this compiler load the other one's libraries,
    /// and its flags are for another target.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = match self {
            Self::Debian => Command::new(DEBIAN_CARGO),
            Self::Nightly => Command::new("rustup"),
        };
        for name in OUTER_CARGO {
            command.env_remove(name);
        }
        match self {
            Self::Debian => command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1"),
            Self::Nightly => command.args(["run", "nightly", "cargo"]),
        };
        command
    }

    /// The major version of the LLVM that this compiler writes; the linker must be built with the same.
    pub(crate) fn llvm(&self) -> Option<u32> {
        llvm_major(&process::capture(self.rustc().arg("-vV")).ok()?)
    }

    fn rustc(&self) -> Command {
        match self {
            Self::Debian => Command::new(DEBIAN_RUSTC),
            Self::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "rustc"]);
                command
            }
        }
    }

    fn has_library_source(&self) -> bool {
        let cargo_is_there = match self {
            Self::Debian => Path::new(DEBIAN_CARGO).is_file(),
            Self::Nightly => true,
        };
        cargo_is_there
            && process::capture(self.rustc().args(["--print", "sysroot"])).is_ok_and(|sysroot| {
                let library: PathBuf = [sysroot.trim(), "lib/rustlib/src/rust/library/core"].iter().collect();
                library.is_dir()
            })
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Debian => "the distribution's rustc with RUSTC_BOOTSTRAP=1",
            Self::Nightly => "rustup's nightly with rust-src",
        })
    }
}

/// Named by path: rustup's proxies of the same names come first in most people's `PATH`.
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// What `cargo run` sets, or a user may have set, for the outer build.
const OUTER_CARGO: [&str; 9] = [
    "CARGO",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "LD_LIBRARY_PATH",
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// From the output of `rustc -vV`.
fn llvm_major(version: &str) -> Option<u32> {
    let version = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_of_llvm_is_read() {
        assert_eq!(llvm_major("rustc 1.96.0\nhost: x\nLLVM version: 22.1.8\n"), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0\n"), None);
    }
}
