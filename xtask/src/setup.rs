//! `cargo xtask setup`: installs what the tests need and is not there.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use kubelab::programs;

use crate::compiler::Compiler;
use crate::{kernel_matrix, process};

/// Pinned, so that a machine set up today and one set up next year judge alike.
const BPF_LINKER: &str = "0.13.0";
const CARGO_DENY: &str = "0.20.2";

/// What tests and benchmarks run inside network namespaces.
const NETWORK_TOOLS: [&str; 9] =
    ["nft", "iptables", "iptables-restore", "ipset", "ip", "tc", "bridge", "bpftool", "ethtool"];

/// Something the tests need.
struct Need {
    name: &'static str,
    why: &'static str,
    is_there: fn() -> bool,
    install: fn(&Path) -> Result<()>,
    /// What to do where this program cannot install it.
    by_hand: &'static str,
}

/// Servers of others: the proxy's tests stand before them.
const SERVERS: [&str; 4] = ["nginx", "haproxy", "node", "gunicorn"];

const NEEDS: [Need; 9] = [
    Need {
        name: "a compiler for BPF",
        why: "builds bpf/ for the kernel",
        is_there: || Compiler::detect().is_some(),
        install: install_compiler,
        by_hand: "on Debian `apt-get install rustc-web cargo-web rust-web-src`; elsewhere \
                  `rustup toolchain install nightly --component rust-src`",
    },
    Need {
        name: "bpf-linker",
        why: "turns the compiler's LLVM bitcode into one BPF object with type information",
        is_there: linker_works,
        install: install_linker,
        by_hand: "install LLVM's development files in the major version of `rustc -vV`, then \
                  `cargo install bpf-linker --no-default-features --features llvm-MAJOR`",
    },
    Need {
        name: "cargo-deny",
        why: "checks licences, bans and sources of dependencies (`cargo xtask lint`)",
        is_there: || has_version("cargo-deny", CARGO_DENY),
        install: install_cargo_deny,
        by_hand: "`cargo install --locked cargo-deny`",
    },
    Need {
        name: "an emulator",
        why: "boots other kernels than this machine's (`cargo xtask kernel-matrix`)",
        is_there: emulator_works,
        install: |_| apt_install(&["qemu-system-x86", "xz-utils"]),
        by_hand: "install qemu for x86_64, and xz",
    },
    Need {
        name: "network tools",
        why: "writes the rules that nodes have in tests, and that `cargo xtask bench datapath` measures beside Polder's",
        is_there: || NETWORK_TOOLS.iter().all(|program| process::find(program).is_some()),
        install: |_| apt_install(&["nftables", "iptables", "ipset", "iproute2", "bpftool", "ethtool"]),
        by_hand: "install nft, iptables, ipset, iproute2, bpftool and ethtool",
    },
    Need {
        name: "web servers",
        why: "are asked through the proxy in its tests, and measured beside it (`cargo bench -p proxy`)",
        is_there: || SERVERS.iter().all(|program| process::find(program).is_some()),
        install: |_| apt_install(&["nginx-light", "haproxy", "nodejs", "gunicorn"]),
        by_hand: "install nginx, haproxy, node and gunicorn",
    },
    Need {
        name: "an API server",
        why: "is what the tests of the agent's watch and rights talk to (five minutes of building, once)",
        is_there: api_server_works,
        install: install_api_server,
        by_hand: "install etcd, and Go 1.24 or newer, then `cargo xtask cluster build --api-server`",
    },
    Need {
        name: "Helm",
        why: "renders the chart, to compare it with the plain manifests (three minutes of building, once)",
        is_there: || process::find("helm").is_some() || programs::HELM.is_there(),
        install: |_| kubelab::build(&[programs::HELM]),
        by_hand: "install Helm 3, or Go 1.24 or newer",
    },
    Need {
        name: "h2spec",
        why: "asks the proxy what the RFCs say of a server of HTTP/2 (a quarter of a minute of building, once)",
        is_there: || programs::H2SPEC.is_there(),
        install: |_| kubelab::build(&[programs::H2SPEC]),
        by_hand: "install Go 1.24 or newer",
    },
];

/// Installs whatever is missing, and says so for each thing.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut failed = Vec::new();
    for need in &NEEDS {
        if (need.is_there)() {
            println!("setup: {} is there ({})", need.name, need.why);
            continue;
        }
        println!("setup: installing {}, which {}", need.name, need.why);
        let installed = (need.install)(root).and_then(|()| {
            if (need.is_there)() { Ok(()) } else { bail!("it was installed, but still does not work") }
        });
        if let Err(error) = installed {
            println!("setup: {} is missing: {error:#}\n       by hand: {}", need.name, need.by_hand);
            failed.push(need.name);
        }
    }
    if !failed.is_empty() {
        bail!("could not install {}: see above for what to do by hand", failed.join(", "));
    }
    Ok(())
}

fn install_compiler(_: &Path) -> Result<()> {
    let packages = ["rustc-web", "cargo-web", "rust-web-src"];
    let by_apt = apt_install(&packages);
    if by_apt.is_ok() || process::find("rustup").is_none() {
        return by_apt;
    }
    println!("setup: not by apt ({:#}), so by rustup", by_apt.err().context("no error")?);
    process::run(Command::new("rustup").args([
        "toolchain",
        "install",
        "nightly",
        "--profile",
        "minimal",
        "--component",
        "rust-src",
    ]))
}

/// The linker reads the compiler's bitcode, so it must be built with the same LLVM.
fn install_linker(root: &Path) -> Result<()> {
    let compiler =
        Compiler::detect().context("there is no compiler for BPF yet, so its LLVM is not known")?;
    let llvm = compiler.llvm().context("the compiler does not say which LLVM it has")?;
    let prefix = format!("/usr/lib/llvm-{llvm}");
    if !Path::new(&prefix).join("bin/llvm-config").exists() {
        let (llvm, polly) = (format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev"));
        apt_install(&[&llvm, &polly, "zlib1g-dev", "libzstd-dev"])?;
    }
    let mut path = std::ffi::OsString::from(format!("{prefix}/bin:"));
    path.push(std::env::var_os("PATH").unwrap_or_default());
    process::run(
        cargo_install(root, "bpf-linker", BPF_LINKER)
            .args(["--no-default-features", "--features", &format!("llvm-{llvm}")])
            .env("LLVM_PREFIX", prefix)
            .env("PATH", path),
    )
}

fn install_cargo_deny(root: &Path) -> Result<()> {
    process::run(&mut cargo_install(root, "cargo-deny", CARGO_DENY))
}

fn api_server_works() -> bool {
    programs::is_installed("etcd") && programs::FOR_API_SERVER.iter().all(|program| program.is_there())
}

fn install_api_server(_: &Path) -> Result<()> {
    if !programs::is_installed("etcd") {
        apt_install(&["etcd-server"])?;
    }
    kubelab::build(&programs::FOR_API_SERVER)
}

fn cargo_install(root: &Path, package: &str, version: &str) -> Command {
    let mut command = process::cargo(root);
    // `--force`: a binary that is there but does not start (its LLVM was removed) is to be replaced.
    command.args(["install", "--quiet", "--force", "--locked", package, "--version", version]);
    command
}

pub(crate) fn apt_install(packages: &[&str]) -> Result<()> {
    if process::find("apt-get").is_none() {
        bail!("there is no apt-get here");
    }
    if !process::is_root() {
        bail!("apt-get needs root: `sudo apt-get install --no-install-recommends {}`", packages.join(" "));
    }
    // Another apt-get may be at work on a machine that has just been started.
    let wait = ["-q", "-o", "DPkg::Lock::Timeout=300"];
    process::run(Command::new("apt-get").args(wait).arg("update"))?;
    process::run(
        Command::new("apt-get")
            .args(wait)
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// Starts it: a linker whose LLVM library is gone is there and does not work.
fn linker_works() -> bool {
    has_version("bpf-linker", BPF_LINKER)
}

/// On other machines no kernel is emulated, and nothing is missing.
fn emulator_works() -> bool {
    std::env::consts::ARCH != "x86_64"
        || [kernel_matrix::EMULATOR, "xz"].iter().all(|program| process::find(program).is_some())
}

fn has_version(program: &str, version: &str) -> bool {
    process::find(program).is_some_and(|program| {
        process::capture(Command::new(program).arg("--version"))
            .is_ok_and(|printed| printed.split_whitespace().any(|word| word == version))
    })
}
