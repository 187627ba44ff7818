//! `polctl preflight`: whether this node can run Polder, and who else is at its packets.
//!
//! ```text
//! /proc, /sys -> system    bpf(2) -> programs    netlink -> links, rules    CNI's folder -> cni
//!      \______________________ findings: ok, warn, fail; what was found; what to do ____/ -> text | JSON; exit code
//! ```
//!
//! It changes nothing, but for `--mount-bpffs`, which does only that.

mod cni;
mod engines;
mod finding;
mod links;
mod marks;
mod netlink;
mod programs;
mod rules;
mod system;
mod text;
mod uplinks;

use std::path::PathBuf;
use std::process::ExitCode;

use datapath::mark::Mark;
use serde::Serialize;

use crate::print::{self, Output};
use finding::{Finding, Level};

/// Look at this node before Polder is installed: kernel, BPF, interfaces, CNI, and who else is at its packets
#[derive(Debug, clap::Args)]
#[command(after_long_help = LONG_HELP)]
pub(crate) struct Args {
    /// The bpffs below which programs and maps are to be pinned
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf")]
    bpffs: PathBuf,

    /// Where the container runtime reads network configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    cni_conf_dir: PathBuf,

    /// Where our 14 bits of the packet mark begin
    #[arg(long, value_name = "BIT", default_value_t = Mark::DEFAULT_SHIFT,
          value_parser = clap::value_parser!(u8).range(0..=18))]
    mark_shift: u8,

    /// An interface that leads out of the node, by name or pattern (`*`, `?`); may be repeated
    #[arg(long, value_name = "NAME")]
    uplink: Vec<String>,

    /// Warnings are failures
    #[arg(long)]
    strict: bool,

    /// Mount a bpffs there if none is, and do nothing else
    #[arg(long, value_name = "DIR", exclusive = true)]
    mount_bpffs: Option<PathBuf>,

    /// How to say it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

const LONG_HELP: &str = "\
Run it as root in the node's own network namespace; the chart does so before the agent starts.

Exit codes:
  0  Polder can work here (warnings are no failures, unless --strict)
  1  it cannot
  2  the command line is wrong, or nothing could be looked at";

#[derive(Serialize)]
struct Record<'a> {
    ok: bool,
    findings: &'a [Finding],
}

pub(crate) fn run(args: &Args) -> crate::Answer {
    if let Some(path) = &args.mount_bpffs {
        print::stdout(&format!("{}\n", system::mount_bpffs(path)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let findings = look(args)?;
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    let ok = worst == Level::Ok || (worst == Level::Warn && !args.strict);
    let record = Record { ok, findings: &findings };
    args.output.put(|| text::text(&findings), &record)?;
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn look(args: &Args) -> anyhow::Result<Vec<Finding>> {
    let links =
        links::links().map_err(|error| anyhow::anyhow!("asking the kernel for interfaces: {error}"))?;
    let rules = rules::rules();
    let installed = args.bpffs.join("polder").join("links").is_dir();
    let mut findings = system::kernel();
    findings.push(system::privileges());
    findings.push(system::bpffs(&args.bpffs));
    findings.extend(programs::kernel());
    findings.extend(uplinks::uplinks(&links, &args.uplink, installed));
    findings.push(cni::cni(&args.cni_conf_dir));
    findings.push(engines::engines(&links, &rules, &args.bpffs));
    findings.push(programs::in_front(&links, installed));
    findings.extend(marks::marks(&rules, args.mark_shift));
    findings.extend(system::settings(&links));
    Ok(findings)
}
