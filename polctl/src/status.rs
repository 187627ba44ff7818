//! `polctl status`: how the agent of this node is.
//!
//! ```text
//! agent --Status--> text (table, wide) | JSON | YAML; exit code
//! ```

mod nodes;
mod text;

use std::process::ExitCode;

use agent_api::status::{EndpointState, Status};

use crate::clean::clean_json;
use crate::{agent, print, yaml};

/// How the agent of this node is, and which pods it protects
#[derive(Debug, clap::Args)]
#[command(after_long_help = LONG_HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    agent: agent::Args,

    /// All nodes of the cluster, as their agents wrote it down in its API server
    #[arg(long, conflicts_with = "agent")]
    all_nodes: bool,

    /// How to say it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// Pods and problems
    Table,
    /// And hooks, maps, counters, flows by pod, the last comparison with the kernel
    Wide,
    /// See docs/reference/status.md
    Json,
    /// The same
    Yaml,
}

const LONG_HELP: &str = "\
Examples:
  polctl status                                  pods, and what is wrong
  polctl status -o wide                          and hooks, maps, counters
  polctl status -o json | jq '.endpoints[] | select(.state != \"enforced\")'
  polctl status --all-nodes                      every node of the cluster, from anywhere
  polctl status --node n1 -o wide                one of them, from anywhere
  until polctl status > /dev/null; do sleep 1; done

Exit codes:
  0  ready: policy is in force, and no pod's interface has failed
  1  not ready, or an interface has failed; with --all-nodes, on some node, or a node has no agent
  2  the agent or the API server cannot be reached";

pub(crate) fn run(args: &Args) -> crate::Answer {
    if args.all_nodes {
        return nodes::run(args);
    }
    let (mut client, place) = args.agent.connect()?;
    let status = client.status().map_err(|error| agent::failure(&place, &error))?;
    print::stdout(&match args.output {
        Output::Table => text::text(&status, false),
        Output::Wide => text::text(&status, true),
        Output::Json => format!("{}\n", clean_json(&serde_json::to_string_pretty(&status)?)),
        Output::Yaml => yaml::document(&status)?,
    })?;
    Ok(if is_well(&status) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn is_well(status: &Status) -> bool {
    status.ready && status.endpoints.iter().all(|endpoint| endpoint.state != EndpointState::Failed)
}

#[cfg(test)]
mod tests;
