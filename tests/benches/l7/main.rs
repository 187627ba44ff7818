//! What rules about requests cost on a node: `cargo xtask bench l7 [--quick]`, as root.
//!
//! ```text
//! load: a client's pod ──┬──────────────────────────────────────────> web: a server's pod    direct
//!   50 connections       ├── programs ── polder-proxy ── programs ──> the same               polder: 1 rule, 10,000 rules
//!                        └── nginx, haproxy in a pod of their own ──> the same               an equal rule
//! ```
//!
//! One worker each. Client and server share one processor, what is between them has the other. Ways are measured in turns,
//! several times; of each figure the best counts, as other work on the machine only makes it worse. Ratios count, not figures.
#![expect(clippy::unwrap_used, reason = "a measurement ends at what it did not expect")]

mod load;
mod ways;
mod web;

use std::fs;
use std::time::Duration;

use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};

use crate::load::{Figures, Load};
use crate::ways::{Bed, Way};

/// What rules about requests cost on a node.
#[derive(Parser)]
#[command(name = "cargo xtask bench l7")]
struct Arguments {
    /// Fewer and shorter rounds: for a first impression
    #[arg(long)]
    quick: bool,
    /// Only the loads whose names have this in them
    #[arg(long, value_name = "TEXT", default_value = "")]
    load: String,
    /// Only the direct way, and those whose names have this in them
    #[arg(long, value_name = "TEXT", default_value = "")]
    way: String,
    /// Cargo says this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// Where client and server run, and where what is between them runs.
const OUTSIDE: usize = 0;
const BETWEEN: usize = 1;

fn main() {
    let arguments = Arguments::parse();
    let (rounds, time) =
        if arguments.quick { (2, Duration::from_millis(500)) } else { (6, Duration::from_secs(2)) };
    // What paces its packets is as fast by another way as it is given processors, and large bodies say more of it than of the way.
    let control = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap();
    println!("congestion control: {}\n", control.trim());
    let bed = Bed::new();
    let is_asked = |(at, way): &(usize, Way)| *at == 0 || way.name.contains(&arguments.way);
    let ways: Vec<Way> = bed.ways().into_iter().enumerate().filter(is_asked).map(|(_, way)| way).collect();
    for load in Load::ALL.into_iter().filter(|load| load.name().contains(&arguments.load)) {
        let mut best = vec![Figures::NONE; ways.len()];
        for round in 0..rounds {
            // Each goes first once, so that none always follows the same one.
            for at in 0..ways.len() {
                let index = (at + round) % ways.len();
                eprint!("\r{}: round {} of {rounds}, {:16}", load.name(), round + 1, ways[index].name);
                best[index] = best[index].better(load::measure(&bed.client, &ways[index], load, time));
            }
        }
        eprintln!();
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([load.name(), "requests/s", "to direct", "p50", "p99", "CPU a request"]);
        for (way, figures) in ways.iter().zip(&best) {
            table.add_row([
                way.name.to_owned(),
                format!("{:.0}", figures.requests),
                format!("{:.2}", figures.requests / best[0].requests),
                format!("{:.2?}", figures.p50),
                format!("{:.2?}", figures.p99),
                if way.worker.is_some() { format!("{:.1?}", figures.cpu) } else { "-".to_owned() },
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{table}\n");
    }
}
