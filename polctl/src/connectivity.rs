//! `polctl connectivity`: who may talk to whom, on which ports.
//!
//! ```text
//! Input -> policy_compiler::connectivity -> Line --jsonl, json--> standard output
//!                                             +--view: fold, name, escape--> Row --table, dot, svg--> standard output
//!                                             +--matrix--> standard output
//! ```

pub(crate) mod cause;
mod dot;
pub(crate) mod json;
mod matrix;
pub(crate) mod names;
mod svg;
pub(crate) mod table;
#[cfg(test)]
pub(crate) mod tests;
mod twins;
mod view;

use std::process::ExitCode;
use std::sync::Arc;

use policy_compiler::connectivity::{Connectivity, Line, Peer, WorkloadRef};

use crate::input::Input;
use crate::print;
use names::Names;
use view::View;

/// List who may talk to whom, and on which ports
///
/// Every pair of workloads, and of workloads with addresses outside, that anything is allowed: both the egress of the
/// source and the ingress of the destination allow it. A pair that is not listed may not talk at all.
///
/// Exit code: 0 if there is an answer, 2 if the manifests are rejected (standard error says why).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  polctl connectivity -f deploy/                          all connections, as a table
  polctl connectivity -f deploy/ --focus prod/web --explain
                                                          those of one workload, and the rules that allow them
  polctl connectivity -f deploy/ -o svg > map.svg         a picture
  kubectl get all,networkpolicies,namespaces -A -o yaml | polctl connectivity -f - -o matrix

The formats are described in docs/reference/connectivity.md.")]
pub(crate) struct Args {
    #[command(flatten)]
    input: crate::input::Args,

    /// How to say it
    #[arg(short, long, value_enum, default_value_t = Output::Wide)]
    output: Output,

    /// Only connections from or to this workload
    #[arg(long, value_name = "NS/NAME")]
    focus: Option<String>,

    /// Say which rules allow each connection
    #[arg(long)]
    explain: bool,

    /// Leave out addresses outside the cluster
    #[arg(long)]
    no_external: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// A table
    Wide,
    /// One list of objects
    Json,
    /// One object a line, for programs
    Jsonl,
    /// Comma-separated values
    Csv,
    /// A Markdown table
    Md,
    /// A graph for Graphviz
    Dot,
    /// A picture of that graph
    Svg,
    /// Workloads by workloads: . all, X none, p some ports
    Matrix,
}

pub(crate) fn run(args: &Args) -> crate::Answer {
    let input = Input::load(&args.input);
    if !input.accepted() {
        return Ok(ExitCode::from(2));
    }
    let connectivity = Connectivity::of(&input.compiler, &input.replicas);
    let names = Names::of([&connectivity]);
    let focus = args.focus.as_deref().map(|focus| names.find(focus)).transpose()?;
    let choice = Choice { focus, external: !args.no_external };
    let lines = connectivity.lines().filter(|line| choice.takes(line));
    match args.output {
        Output::Jsonl => json::lines(lines, &connectivity, &names, args.explain)?,
        Output::Json => print::stdout(&json::list(lines, &connectivity, &names, args.explain)?)?,
        Output::Matrix => print::stdout(&matrix::render(&connectivity, &names, choice.focus.as_deref()))?,
        Output::Wide | Output::Csv | Output::Md | Output::Dot | Output::Svg => {
            let view = View::of(&lines.collect::<Vec<_>>(), &connectivity, &names, args.explain);
            print::stdout(&match args.output {
                Output::Csv => table::csv(&view.header(), &view.cells()),
                Output::Md => table::markdown(&view.header(), &view.cells()),
                Output::Dot => dot::render(&view),
                Output::Svg => svg::render(&view)?,
                _ => table::wide(&view.header(), &view.cells()),
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Which lines were asked for.
struct Choice {
    focus: Option<Arc<WorkloadRef>>,
    external: bool,
}

impl Choice {
    fn takes(&self, line: &Line<'_>) -> bool {
        let ends = [&line.src, &line.dst];
        let is_focus =
            |peer: &&Peer| matches!(peer, Peer::Workload(name) if Some(name) == self.focus.as_ref());
        (self.external || ends.iter().all(|peer| matches!(peer, Peer::Workload(_))))
            && (self.focus.is_none() || ends.iter().any(is_focus))
    }
}
