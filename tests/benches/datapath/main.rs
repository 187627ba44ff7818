//! What the datapath costs: nanoseconds a packet, and real traffic beside other ways of enforcing the same policy.
//!
//! `cargo xtask bench datapath [--quick] [--only packets|traffic] [-o json]`, as root. How it is measured and what the
//! columns mean: docs/reference/performance.md.
//!
//! ```text
//! policy --tables--> enforced (the agent's dataplane) --maps--> programs --BPF_PROG_TEST_RUN--> packets --> report
//!    │                        └── attached ──────────────────────────────> traffic (load) ─────────────────┤
//!    └── nftables, ipset ────────────────────────────────────────────────> traffic (load) ────── plot ──────┘
//! ```

mod cases;
mod enforced;
mod load;
mod packets;
mod place;
mod plot;
mod policy;
mod programs;
mod report;
mod series;
mod test_run;
mod traffic;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use netlab::Lab;

use crate::place::{PINS, Place};
use crate::traffic::Effort;

/// What the datapath costs.
#[derive(Parser)]
#[command(name = "cargo xtask bench datapath")]
struct Arguments {
    /// Fewer rounds and sizes: for a first impression
    #[arg(long)]
    quick: bool,
    /// Only one half
    #[arg(long)]
    only: Option<Half>,
    /// What to print; both forms hold the same figures
    #[arg(short, long, default_value = "table")]
    output: Output,
    /// The BPF object, as `cargo xtask bpf` builds it
    #[arg(long, env = "POLDER_BPF_OBJECT")]
    bpf_object: PathBuf,
    /// Where datapath.json and datapath.svg are written
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"))]
    folder: PathBuf,
    /// Cargo says this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Half {
    /// Nanoseconds a packet
    Packets,
    /// Real traffic
    Traffic,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Tables
    Table,
    /// JSON
    Json,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let folder = &arguments.folder;
    let folder = fs::create_dir_all(folder)
        .and_then(|()| fs::canonicalize(folder))
        .with_context(|| format!("{}: cannot make the folder", folder.display()))?;
    let object = fs::canonicalize(&arguments.bpf_object).with_context(|| {
        format!("BPF object {}: build it with `cargo xtask bpf`", arguments.bpf_object.display())
    })?;
    place::private_pins()?;
    let lab = Lab::new("bench")?;
    let place = Place { lab: &lab, object: &object, pins: Path::new(PINS) };
    let wanted = |half| arguments.only.is_none_or(|only| only == half);
    let figures = if wanted(Half::Packets) {
        packets::measure(&place, if arguments.quick { 1 } else { 5 })?
    } else {
        packets::Figures::new()
    };
    let subjects = match (wanted(Half::Traffic), arguments.quick) {
        (false, _) => Vec::new(),
        (true, true) => traffic::measure(&place, &[traffic::RULES[0], traffic::RULES[2]], QUICK)?,
        (true, false) => traffic::measure(&place, &traffic::RULES, THOROUGH)?,
    };
    let json = serde_json::to_string_pretty(&report::json(&figures, &subjects))? + "\n";
    let written = |name, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("{}: cannot write it", path.display()))
    };
    written("datapath.json", &json)?;
    written("datapath.svg", &plot::svg(&report::charts(&figures, &subjects)))?;
    match arguments.output {
        Output::Json => print!("{json}"),
        Output::Table => {
            if !figures.is_empty() {
                println!("{}\n", report::packets(&figures));
            }
            if !subjects.is_empty() {
                println!("{}\n", report::traffic(&subjects));
            }
            println!("written: datapath.json and datapath.svg in {}", folder.display());
        }
    }
    Ok(())
}

/// Many short rounds: the machine is then quiet during some of them for everybody.
const THOROUGH: Effort =
    Effort { rounds: 80, streaming: Duration::from_millis(60), exchanges: 1_000, connections: 100 };
const QUICK: Effort = Effort { rounds: 25, ..THOROUGH };
