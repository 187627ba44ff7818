//! The program of the proxy: a listener at one address and port gets connections to others, and only while it is attached.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::SockMap;
use aya::programs::{Program, SkLookup};

use crate::program;
use crate::report::{Outcome, Report};
use crate::veth::{self, LOOPBACK};

const PROGRAM: &str = "polder_accept";
const LISTENER: &str = "listener";
/// Nobody listens there, and the addresses are not those of the listener.
const ELSEWHERE: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 7, 7, 7)), 8080),
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 65535),
];
const PATIENCE: Duration = Duration::from_secs(5);

/// Loads the program, and has it hand connections over.
pub(crate) fn check(object: &mut Ebpf, report: &mut Report) -> Result<()> {
    veth::up(LOOPBACK)?;
    // Of both families, as the proxy's is; a kernel without IPv6 has one.
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))
        .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))
        .context("no listener can be had")?;
    listener.set_nonblocking(true)?;
    let map = object.map_mut(LISTENER).with_context(|| format!("the object has no map {LISTENER}"))?;
    SockMap::try_from(map)?.set(0, &listener.as_raw_fd(), 0).context("the map does not take a listener")?;
    let program =
        object.program_mut(PROGRAM).with_context(|| format!("the object has no program {PROGRAM}"))?;
    if program::load(PROGRAM, program, report)
        && let Program::SkLookup(program) = program
    {
        let outcome = hand_over(program, &listener).map_or_else(
            |error| Outcome::Failed(format!("{error:#}")),
            |()| Outcome::Passed(format!("{} connections while attached, 0 after", ELSEWHERE.len())),
        );
        report.add(PROGRAM, "hand over", &outcome);
    }
    Ok(())
}

fn hand_over(program: &mut SkLookup, listener: &TcpListener) -> Result<()> {
    nobody_listens()?;
    let namespace = File::open("/proc/thread-self/ns/net").context("opening the network namespace")?;
    let link = program.attach(&namespace).context("it cannot be attached")?;
    for to in ELSEWHERE {
        let client = TcpStream::connect_timeout(&to, PATIENCE)
            .with_context(|| format!("no connection to {to} while it is attached"))?;
        // Connected: so it waits in the queue.
        let (stream, from) = listener.accept().with_context(|| format!("the listener got none to {to}"))?;
        let own = SocketAddr::new(stream.local_addr()?.ip().to_canonical(), stream.local_addr()?.port());
        ensure!(own == to, "a connection to {to} was told that it is one to {own}");
        ensure!(from.port() == client.local_addr()?.port(), "the listener got another connection");
    }
    program.detach(link).context("it cannot be detached")?;
    nobody_listens()
}

fn nobody_listens() -> Result<()> {
    for to in ELSEWHERE {
        let refused = TcpStream::connect_timeout(&to, PATIENCE).map(drop).map_err(|error| error.kind());
        ensure!(
            refused == Err(io::ErrorKind::ConnectionRefused),
            "a connection to {to} while it is not attached: {refused:?}"
        );
    }
    Ok(())
}
