//! The proxy's network namespace: the calling thread's own from now on, and that of all it starts.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Protocol, Socket, Type};

use super::netlink::Netlink;
use super::routes::{self, Family};
use super::veth::{self, Outside};
use super::{sysctl, veth::INSIDE};

/// How many connections may wait to be accepted: while no worker lives they do.
const BACKLOG: i32 = 4096;

/// The port that the listener is bound to. The program that hands connections to it does not look at it; but no socket can be
/// bound to a port that somebody listens on, and clients have every port. None uses this one (tcpmux, RFC 1078).
const PORT: u16 = 1;

/// A namespace, and how it is reached.
#[derive(Debug)]
pub(super) struct Namespace {
    /// The side of its veth that is in the host's namespace; down.
    pub(super) outside: Outside,
    /// Where all connections come in.
    pub(super) listener: OwnedFd,
}

impl Namespace {
    /// Makes a namespace, and moves the calling thread there. It ends with the last process and socket in it, and its veth with
    /// it.
    pub(super) fn make() -> Result<Self> {
        const OWN: &str = "/proc/thread-self/ns/net";
        let host_namespace = File::open(OWN).with_context(|| format!("opening {OWN}"))?;
        let host = Netlink::open().context("opening a netlink socket")?;
        let mtu = veth::usual_mtu(&host);
        unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace (it needs CAP_SYS_ADMIN)")?;
        let inside = Netlink::open().context("opening a netlink socket")?;
        let outside = veth::make(&inside, host, &host_namespace)?;
        let lo = veth::set_up(&inside, "lo")?;
        sysctl::write_all();
        let out = veth::set_up(&inside, INSIDE)?;
        routes::set(&inside, Family::Four, out, lo, mtu).context("routes of IPv4")?;
        let has_six = routes::is_known(Family::Six).context("asking for IPv6")?
            && routes::set(&inside, Family::Six, out, lo, mtu).context("routes of IPv6").map_or_else(
                |error| {
                    tracing::warn!("connections of IPv6 are not taken: {error:#}");
                    false
                },
                |()| true,
            );
        let listener = listen(has_six).context(
            "listening at a low port (it needs CAP_NET_BIND_SERVICE if settings cannot be written)",
        )?;
        Ok(Self { outside, listener })
    }
}

fn listen(has_six: bool) -> std::io::Result<OwnedFd> {
    let (domain, any) = if has_six {
        (Domain::IPV6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)))
    } else {
        (Domain::IPV4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)))
    };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if has_six {
        socket.set_only_v6(false)?;
    }
    // What is accepted inherits it, and does not stand in the way of the sockets that are bound as clients are.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&any.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
