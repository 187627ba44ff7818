//! `polder-cni`: a chained CNI plugin, and what puts it on a node.
//!
//! ```text
//! container runtime --CNI_COMMAND, stdin--> plugin --Wait--> agent's socket     the pod starts when its policy is in force
//! chart --install, follow, uninstall--> chain (pure) --> files of the node      the plugin behind the node's own CNI
//! ```
//!
//! It fails closed: without an agent, or without policy in force in time, the runtime is told to try again.
#![forbid(unsafe_code)]

mod answer;
mod chain;
mod config;
mod follow;
mod install;
mod plugin;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// A chained CNI plugin that holds back a pod's containers until its policy is in force
#[derive(Parser)]
#[command(name = "polder-cni", version, after_long_help = AFTER)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

const AFTER: &str = "\
With CNI_COMMAND in the environment and no arguments, it is a CNI plugin (spec 0.3.0 to 1.1.0) and reads its configuration \
from standard input.";

#[derive(Subcommand)]
enum Verb {
    /// Put the plugin behind the CNI that the node has
    Install(Install),
    /// Install, and follow what others do to the node's CNI configuration until told to stop
    Follow(Install),
    /// Take the plugin out again
    Uninstall(Uninstall),
    /// Do nothing until told to stop, for a pod whose work is done
    Idle,
}

/// Where the node keeps what container runtimes read.
#[derive(Clone, Debug, clap::Args)]
struct Folders {
    /// Where the container runtime reads network configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    conf_dir: PathBuf,
    /// Where the container runtime finds plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    bin_dir: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
struct Install {
    #[command(flatten)]
    folders: Folders,
    /// The agent's socket, on the node
    #[arg(long, value_name = "PATH", default_value = agent_api::SOCKET)]
    socket: PathBuf,
    /// Seconds that the plugin waits for a pod's policy
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=config::MOST_SECONDS))]
    timeout: u64,
}

#[derive(Clone, Debug, clap::Args)]
struct Uninstall {
    #[command(flatten)]
    folders: Folders,
    /// Leave the program: a runtime that takes pods down by the configuration they were started with still calls it
    #[arg(long)]
    keep_program: bool,
}

fn main() -> ExitCode {
    if std::env::args_os().len() == 1 && std::env::var_os("CNI_COMMAND").is_some() {
        return plugin::main();
    }
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Install(options) => {
            let place = place(options);
            println!("{}", place.install_program()?);
            println!("{}", place.install_configuration()?);
            Ok(())
        }
        Verb::Follow(options) => follow::follow(&place(options)),
        Verb::Uninstall(options) => {
            for line in install::uninstall(&options.folders, options.keep_program)? {
                println!("{line}");
            }
            Ok(())
        }
        Verb::Idle => follow::idle(),
    }
}

fn place(options: Install) -> install::Place {
    let link = chain::Link { socket: options.socket, timeout_seconds: options.timeout };
    install::Place { folders: options.folders, link }
}
