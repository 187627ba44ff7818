//! `polctl relay`: standard input and output as a connection to the agent of this node. How [`crate::agents`] reaches it.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use anyhow::Context as _;

/// Standard input and output as a connection to the agent of this node
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The socket of the agent on this node
    #[arg(long, value_name = "PATH", default_value = agent_api::SOCKET)]
    socket: PathBuf,
}

pub(crate) fn run(args: &Args) -> crate::Answer {
    let place = || format!("the agent's socket {}", args.socket.display());
    let mut socket = UnixStream::connect(&args.socket).with_context(place)?;
    let mut requests = socket.try_clone().with_context(place)?;
    thread::spawn(move || {
        // Whichever way it ends, nothing more is asked: the end of the answers ends this process.
        let _ = io::copy(&mut io::stdin().lock(), &mut requests);
        let _ = requests.shutdown(Shutdown::Both);
    });
    // Lines are passed on when they are whole.
    io::copy(&mut socket, &mut io::stdout().lock()).with_context(place)?;
    Ok(ExitCode::SUCCESS)
}
