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
use serde::Serialize;
pub(crate) use text::{question, verdict};

use crate::agent;
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

Exit codes:
  0  the kernel agrees with the policies
  1  it differs
  2  the agent cannot be reached, or could not compare";

/// The JSON: what the agent found, and whether that is agreement.
#[derive(Serialize)]
struct Record<'a> {
    agrees: bool,
    #[serde(flatten)]
    verification: &'a Verification,
}

pub(crate) fn run(args: &Args) -> crate::Answer {
    let (mut client, place) = args.agent.connect()?;
    let verification = ask(&mut client, args.resync).map_err(|error| agent::failure(&place, &error))?;
    let record = Record { agrees: verification.agrees(), verification: &verification };
    args.output.put(|| text::text(&verification), &record)?;
    Ok(if record.agrees { ExitCode::SUCCESS } else { ExitCode::from(1) })
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
