//! This program as the only one of an emulated kernel: it is `/init`, prepares what a machine would have, does its work,
//! and turns the machine off.
//!
//! What it prints goes to the second serial port, as the first has the kernel's own messages. The last line says the exit
//! code, for a kernel has none.

use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::termios::tcdrain;
use nix::unistd::{dup2_stderr, dup2_stdout};

/// The object.
pub(crate) const OBJECT: &str = "/object";
/// The proxy's object, if there is such a file.
pub(crate) const ACCEPT: &str = "/accept";
/// The vectors, if there is such a file.
pub(crate) const VECTORS: &str = "/vectors";
/// Kernel modules, in the order of their names.
const MODULES: &str = "/modules";
/// Where the report goes.
const REPORT: &str = "/dev/ttyS1";
/// The exit code where there is nothing to ask for it. The program that started the emulator looks for it.
const EXIT: &str = "kernel-check: exit";

const MOUNTS: [(&str, &str); 3] = [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")];

/// Whether this process is the first of its kernel.
pub(crate) fn is_init() -> bool {
    std::process::id() == 1
}

/// Prepares the machine, does the work, tells its exit code, and turns the machine off.
pub(crate) fn run(work: impl FnOnce() -> u8) -> ExitCode {
    let code = match prepare() {
        Ok(()) => work(),
        Err(error) => {
            println!("error: the emulated machine cannot be prepared: {error:#}");
            2
        }
    };
    match turn_off(code) {
        Ok(()) => ExitCode::from(code),
        // Without its first process the kernel panics, and the emulator ends: slower to tell, but an end.
        Err(error) => {
            println!("error: the emulated machine cannot be turned off: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn prepare() -> Result<()> {
    for (kind, place) in MOUNTS {
        mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&CStr>)
            .with_context(|| format!("no {kind} on {place}"))?;
    }
    let port = OpenOptions::new().write(true).open(REPORT).with_context(|| format!("no {REPORT}"))?;
    dup2_stdout(&port)?;
    dup2_stderr(&port)?;
    let modules: io::Result<Vec<PathBuf>> = fs::read_dir(MODULES)?.map(|entry| Ok(entry?.path())).collect();
    let mut modules = modules?;
    modules.sort_unstable();
    for module in modules {
        finit_module(File::open(&module)?, c"", ModuleInitFlags::empty())
            .with_context(|| format!("the kernel does not take the module {}", module.display()))?;
    }
    Ok(())
}

fn turn_off(code: u8) -> Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{EXIT} {code}")?;
    out.flush()?;
    tcdrain(&out)?;
    // The emulator is told to end where a machine would start again.
    reboot(RebootMode::RB_AUTOBOOT)?;
    Ok(())
}
