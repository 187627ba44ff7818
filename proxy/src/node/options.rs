//! What a user says on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const AFTER: &str = "\
The proxy judges requests by the rules that polder-agent compiled. The agent sends it the connections that need it as soon as the \
interface polderN is up. It needs root to start; what reads requests runs as another user, without capabilities, in a network \
namespace of its own.

POLDER_LOG sets what is logged: error, warn, info (the default), debug, or trace; to standard error.

SIGTERM: connections go on, and new ones are taken until another proxy has taken over; it ends when there have been none for a \
second. SIGINT, or a second SIGTERM: at once.

It ends with 0 when it was told to, with 1 when it cannot go on, with 2 when the command line is not understood.";

/// Judges requests, and passes on those that policy allows.
#[derive(Clone, Debug, Parser)]
#[command(name = "polder-proxy", version, after_long_help = AFTER, args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
    #[command(flatten)]
    pub(crate) keeper: KeeperOptions,
}

/// What else the program is.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Role {
    /// The process that reads requests, which the keeper starts
    #[command(hide = true)]
    Worker(WorkerOptions),
}

/// How the proxy is set up.
#[derive(Clone, Debug, Args)]
pub(crate) struct KeeperOptions {
    /// Where the agent pins programs and maps
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/polder")]
    pub(crate) bpffs: PathBuf,
    /// Where the agent writes lists of rules about requests
    #[arg(long, value_name = "DIR", default_value = "/run/polder/lists")]
    pub(crate) lists: PathBuf,
    /// The Unix socket on which metrics and requests are told, by HTTP
    #[arg(long, value_name = "PATH", default_value = "/run/polder/proxy.sock")]
    pub(crate) metrics: PathBuf,
    /// Write a line of JSON to standard output for each request
    #[arg(long)]
    pub(crate) access_log: bool,
    /// The user and group that read requests
    #[arg(long, value_name = "UID", default_value_t = 65534, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) user: u32,
    /// How long connections may go on when this proxy, or the maps that it reads, are replaced
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) drain: u64,
    /// The BPF object that hands connections to the listener, if another than the built-in one is to be used
    #[arg(long, value_name = "FILE")]
    pub(crate) bpf_object: Option<PathBuf>,
}

/// What the keeper tells a worker.
#[derive(Clone, Debug, Args)]
pub(crate) struct WorkerOptions {
    /// See [`KeeperOptions::user`].
    #[arg(long)]
    pub(crate) user: u32,
    /// See [`KeeperOptions::access_log`].
    #[arg(long)]
    pub(crate) access_log: bool,
    /// How often a worker died before.
    #[arg(long)]
    pub(crate) restarts: u64,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Options::command().debug_assert();
        assert!(Options::try_parse_from(["polder-proxy", "--user", "0"]).is_err(), "root reads no requests");
        let options = Options::parse_from(["polder-proxy", "--drain", "5"]);
        assert_eq!((options.keeper.drain, options.keeper.user), (5, 65534));
    }
}
