//! Whether the kernel it runs on takes a BPF object: every program is loaded, run on frames, and attached to a device.
//!
//! ```text
//! (as init: guest) -> isolation -> object -> each program: load -> test run -> attach, send, detach -> report
//!                                        \-> vectors: rows into maps, frames into programs, expected return values
//!                       \-> the proxy's: load -> attach -> connections, which a listener elsewhere gets -> detach
//! ```
//!
//! Nothing about the object is known here but what it says itself. Everything happens in a network and a mount namespace
//! of this process, with a BPF file system of its own: programs that are at work on the machine, and the maps they have
//! pinned, are neither used nor changed, and when this process ends nothing is left.
//!
//! One line is printed for each program and step. Exit codes: 0 all passed; 1 a step failed; 2 the check could not be made;
//! 3 the kernel does not allow this process to make it.

mod accept;
mod actions;
mod attach;
mod frames;
mod guest;
mod isolation;
mod program;
mod report;
mod vectors;
mod veth;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::programs::Program;
use aya::sys::{Stats, enable_stats};
use clap::Parser;

use crate::report::Report;

/// Loads, runs and attaches every program of a BPF object on this kernel.
#[derive(Parser)]
#[command(name = "kernel-check")]
struct Arguments {
    /// The BPF object
    object: PathBuf,
    /// The proxy's, whose program is to hand connections to a listener
    #[arg(long)]
    accept: Option<PathBuf>,
    /// Rows for maps and frames with the values that programs return for them: `map NAME KEY VALUE` or
    /// `run PROGRAM FRAME RETURN` a line, bytes in hexadecimal
    #[arg(long)]
    vectors: Option<PathBuf>,
}

impl Arguments {
    /// As init: a kernel's command line is no place for them, since init also gets every word that the kernel does not know.
    fn of_guest() -> Self {
        let found = |path: &str| Some(PathBuf::from(path)).filter(|path| path.exists());
        Self { object: guest::OBJECT.into(), accept: found(guest::ACCEPT), vectors: found(guest::VECTORS) }
    }
}

/// `EPERM`: the kernel does not let this process do it. (A verifier that refuses a program says `EACCES` or `EINVAL`.)
const EPERM: i32 = 1;

fn main() -> ExitCode {
    if guest::is_init() {
        return guest::run(|| work(&Arguments::of_guest()));
    }
    ExitCode::from(work(&Arguments::parse()))
}

/// Does what the arguments ask for, and gives the exit code.
fn work(arguments: &Arguments) -> u8 {
    match examine(arguments) {
        Ok(report) => {
            println!("{report}");
            u8::from(!report.is_good())
        }
        Err(error) => {
            println!("error: {error:#}");
            if is_forbidden(&error) { 3 } else { 2 }
        }
    }
}

fn examine(arguments: &Arguments) -> Result<Report> {
    isolation::enter()?;
    let pair = veth::Pair::create()?;
    // The kernel counts runs for as long as this is open.
    let _counting = enable_stats(Stats::RunTime).context("the kernel does not count runs of programs")?;
    let mut report = Report::new();
    let mut ebpf = load(&arguments.object)?;
    let mut programs: Vec<(&str, &mut Program)> = ebpf.programs_mut().collect();
    programs.sort_unstable_by_key(|(name, _)| *name);
    ensure!(!programs.is_empty(), "{} has no program", arguments.object.display());
    for (name, program) in programs {
        if program::load(name, program, &mut report) {
            program::test_run(name, program, &mut report);
            attach::everywhere(name, program, &pair, &mut report);
        }
    }
    if let Some(path) = &arguments.accept {
        accept::check(&mut load(path)?, &mut report)?;
    }
    if let Some(path) = &arguments.vectors {
        vectors::run(&mut ebpf, path, &mut report)?;
    }
    Ok(report)
}

fn load(object: &Path) -> Result<Ebpf> {
    Ebpf::load_file(object)
        .with_context(|| format!("{} cannot be read, or its maps cannot be made", object.display()))
}

fn is_forbidden(error: &anyhow::Error) -> bool {
    error.chain().any(|cause: &(dyn Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.raw_os_error() == Some(EPERM))
            || cause.downcast_ref::<nix::Error>().is_some_and(|error| *error == nix::Error::EPERM)
    })
}
