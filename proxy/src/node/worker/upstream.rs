//! The way to the server: a connection from the client's own address and port, as the server would have seen it without us.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use proxy::log::Ends;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};

/// A peer that vanished is noticed after about three minutes of silence.
const IDLE: Duration = Duration::from_mins(2);
const BETWEEN: Duration = Duration::from_secs(20);
const PROBES: u32 = 3;

/// A client that resets its connections may use a port again at once, while our connection to the server, which ended in the
/// usual way, is kept for a moment (`net.ipv4.tcp_tw_reuse`: until the clock of seconds has moved on).
const REST: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(50);

/// What the kernel takes for a largest segment (`TCP_MIN_MSS`, `MAX_TCP_WINDOW`).
const SMALLEST: u32 = 88;
const LARGEST: u32 = 32767;

/// The largest segment of a connection's other side, which is asked for while that is open.
pub(crate) fn segment(client: &TcpStream) -> io::Result<u32> {
    SockRef::from(client).tcp_mss()
}

/// What both legs of a connection have in common: the client's inherits it from the listener.
pub(crate) fn tune(stream: &SockRef<'_>) -> io::Result<()> {
    stream.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(IDLE).with_interval(BETWEEN).with_retries(PROBES);
    stream.set_tcp_keepalive(&keepalive)
}

/// Connects to the server from where the client is.
///
/// # Errors
///
/// Those of this connection alone: the server's, or that the client's address and port are still in use here.
pub(crate) async fn connect(ends: Ends, segment: u32) -> io::Result<TcpStream> {
    let until = Instant::now() + REST;
    loop {
        match bound(ends, segment)?.connect(ends.server).await {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && Instant::now() < until => {
                sleep(LOOK).await;
            }
            result => return result,
        }
    }
}

/// A socket that is bound as the client is.
///
/// No address of this namespace is on an interface. With `IP_FREEBIND` a socket may have any, and what comes back finds it, as
/// the routing table says of every address that it is here. The server is told of segments as large as the client takes, as if
/// it spoke with the client.
fn bound(ends: Ends, segment: u32) -> io::Result<TcpSocket> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(ends.server), kind, Some(Protocol::TCP))?;
    match ends.client {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    // One client port may lead to many servers, and connections of it that ended stay in the table for a minute.
    socket.set_reuse_address(true)?;
    socket.set_tcp_mss(segment.clamp(SMALLEST, LARGEST))?;
    tune(&SockRef::from(&socket))?;
    socket.bind(&ends.client.into())?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}
