//! `polctl`: who may talk to whom, and why.
//!
//! ```text
//! -f DIR -> manifests -> Input { compiler, problems } -> one file per verb -> text, table, JSON; exit code
//! API server -> what the agents of all nodes wrote down
//! --socket, --node -> agent -> its status, flows, documents (to manifests, as files), verdicts of its kernel ---^
//! ```
//!
//! Nothing here decides about packets: every verb asks `policy_compiler`, or an agent.
#![forbid(unsafe_code)]

mod agent;
mod agents;
mod check;
mod clean;
mod cluster;
mod connectivity;
mod diff;
mod explain;
mod flows;
mod input;
mod party;
mod preflight;
mod print;
mod relay;
mod status;
mod test;
mod verify;
mod wait;
mod yaml;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Who may talk to whom in a Kubernetes cluster, and why.
#[derive(Debug, Parser)]
#[command(name = "polctl", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Explain(explain::Args),
    Connectivity(connectivity::Args),
    Diff(diff::Args),
    Check(check::Args),
    Test(test::Args),
    Status(status::Args),
    Flows(flows::Args),
    Verify(verify::Args),
    Preflight(preflight::Args),
    Wait(wait::Args),
    #[command(hide = true)]
    Relay(relay::Args),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// An answer that a script can use. What each number means is said by each verb.
pub(crate) type Answer = anyhow::Result<ExitCode>;

/// Whether kubectl found this program as `kubectl-polder` and calls it as its plugin.
pub(crate) fn as_kubectl_plugin() -> bool {
    let name = std::env::args_os().next().map(PathBuf::from);
    name.and_then(|path| path.file_stem().map(|stem| stem == "kubectl-polder")).unwrap_or(false)
}

fn main() -> ExitCode {
    let mut command = Cli::command();
    if as_kubectl_plugin() {
        command = command.bin_name("kubectl polder");
    }
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    let answer = match cli.verb {
        Verb::Explain(args) => explain::run(&args),
        Verb::Connectivity(args) => connectivity::run(&args),
        Verb::Diff(args) => diff::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Flows(args) => flows::run(&args),
        Verb::Verify(args) => verify::run(&args),
        Verb::Preflight(args) => preflight::run(&args),
        Verb::Wait(args) => wait::run(&args),
        Verb::Relay(args) => relay::run(&args),
        Verb::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "polctl", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    answer.unwrap_or_else(|error| {
        // 2 is "cannot say" for every verb.
        anstream::eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
