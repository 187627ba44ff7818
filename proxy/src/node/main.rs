//! `polder-proxy`: requests that rules are about, judged on their way between a pod and whom it talks to.
//!
//! ```text
//! polder-proxy  keeper: namespace, veth, listener, maps     root; looks at nothing that strangers send
//!      └── polder-proxy worker: reads requests, judges      nobody, no capabilities; may die at any time
//! ```
//!
//! It is a bump in the wire. The agent's programs take the packets of a connection that has to be read from the host side of a
//! pod's veth and put them into a veth of the proxy's; what comes out of that they put back. Both legs of the connection are in
//! the proxy's network namespace: towards the client as the server, towards the server as the client. There every address is
//! local, and everything leaves by the one interface, so that no socket needs a capability to have an address of somebody else.
//! `docs/reference/proxy.md` says what belongs to whom.

mod handover;
mod keeper;
mod kernel;
mod options;
mod worker;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use crate::options::{Options, Role};

fn main() -> ExitCode {
    let options = Options::parse();
    let filter = EnvFilter::try_from_env("POLDER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    let result = match &options.role {
        None => keeper::run(&options.keeper),
        Some(Role::Worker(worker)) => worker::run(worker),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
