//! `polctl verify`: whether the kernel does what the policies say.
//!
//! ```text
//! agent --Verification--> text | JSON | YAML; exit code
//! ```

mod text;

use std::process::ExitCode;

use agent_api::client::{Client, Error};
use agent_api::request::Request;
use agent_api::verification::Verification;
use owo_colors::OwoColorize as _;
use serde::Serialize;
pub(crate) use text::{question, verdict};

use crate::agent;
use crate::agents::Agents;
use crate::clean::clean;
use crate::print::Output;

/// Compare what is in the kernel of this node with what the policies say
///
/// The agent reads the kernel's maps back and compares every entry with the tables of its compiler; then it puts every
/// pair of pods of this node, with every port that a rule tells apart, to both.
#[derive(Debug, clap::Args)]
#[command(after_long_help = LONG_HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    agent: agent::Args,

    /// The agents of all nodes of the cluster, from anywhere
    #[arg(long, conflicts_with_all = ["node", "socket"])]
    all_nodes: bool,

    /// Have the agent read everything outside anew, and put the kernel right, before it compares
    #[arg(long)]
    resync: bool,

    /// How to say it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

const LONG_HELP: &str = "\
Examples:
  polctl verify                      compare
  polctl verify --resync             put right what differs, then compare
  polctl verify -o json | jq '.disagreements'
  polctl verify --node n1            another node's, from anywhere
  kubectl polder verify --all-nodes  every node's

Exit codes:
  0  the kernel agrees with the policies
  1  it differs
  2  the agent cannot be reached, or could not compare; with --all-nodes, that of some node";

/// The JSON: what the agent found, and whether that is agreement.
#[derive(Serialize)]
struct Record<'a> {
    agrees: bool,
    #[serde(flatten)]
    verification: &'a Verification,
}

/// The same of one of several nodes.
#[derive(Serialize)]
struct NodeRecord<'a> {
    node: &'a str,
    #[serde(flatten)]
    outcome: Outcome<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome<'a> {
    Compared(Record<'a>),
    Failed { error: &'a str },
}

impl<'a> Record<'a> {
    fn of(verification: &'a Verification) -> Self {
        Self { agrees: verification.agrees(), verification }
    }
}

pub(crate) fn run(args: &Args) -> crate::Answer {
    if args.all_nodes {
        return run_everywhere(args);
    }
    let (mut client, place) = args.agent.connect()?;
    let verification = ask(&mut client, args.resync).map_err(|error| agent::failure(&place, &error))?;
    let record = Record::of(&verification);
    args.output.put(|| text::text(&verification), &record)?;
    Ok(if record.agrees { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Every node's agent is asked, whatever came of the ones before.
fn run_everywhere(args: &Args) -> crate::Answer {
    let agents = Agents::find(&args.agent.cluster)?;
    let ask_one = |node: &str| {
        let mut client = agents.connect(node)?;
        ask(&mut client, args.resync).map_err(|error| agent::failure(&format!("node {node}"), &error))
    };
    let asked: Vec<(&str, Result<Verification, String>)> =
        agents.nodes().map(|node| (node, ask_one(node).map_err(|error| format!("{error:#}")))).collect();
    let records: Vec<NodeRecord<'_>> = asked.iter().map(|(node, outcome)| record(node, outcome)).collect();
    args.output.put(|| asked.iter().map(|(node, outcome)| node_text(node, outcome)).collect(), &records)?;
    Ok(exit_code(&asked))
}

fn record<'a>(node: &'a str, outcome: &'a Result<Verification, String>) -> NodeRecord<'a> {
    let outcome = match outcome {
        Ok(verification) => Outcome::Compared(Record::of(verification)),
        Err(error) => Outcome::Failed { error },
    };
    NodeRecord { node, outcome }
}

fn node_text(node: &str, outcome: &Result<Verification, String>) -> String {
    let text = match outcome {
        Ok(verification) => text::text(verification),
        Err(error) => format!("{}: {}\n", "not compared".red().bold(), clean(error)),
    };
    format!("{}: {text}", clean(node))
}

/// What is worst.
fn exit_code(asked: &[(&str, Result<Verification, String>)]) -> ExitCode {
    let worst = asked.iter().map(|(_, outcome)| match outcome {
        Ok(verification) => u8::from(!verification.agrees()),
        Err(_) => 2,
    });
    ExitCode::from(worst.max().unwrap_or(2))
}

fn ask(client: &mut Client, resync: bool) -> Result<Verification, Error> {
    if resync {
        for reply in client.request(&Request::Resync)? {
            // How the agent is then is not asked here; whether it managed is.
            reply?;
        }
    }
    client.verify()
}
