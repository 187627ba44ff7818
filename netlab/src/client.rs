//! Clients that try once, and say how it ended.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::address::Family;
use crate::host::Host;
use crate::raw;

/// How long to wait for an answer before a packet is taken to be dropped: long for a veth pair, short for a test.
pub const PATIENCE: Duration = Duration::from_millis(300);

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// A connection was made, or the answer came that was asked for.
    Connected,
    /// It was refused: by a TCP reset, or by ICMP port unreachable.
    Refused,
    /// Nothing came back.
    TimedOut,
    /// ICMP said that the destination cannot be reached or is prohibited, or there is no route to it.
    Unreachable,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Connected => "connected",
            Self::Refused => "refused",
            Self::TimedOut => "timed out",
            Self::Unreachable => "unreachable",
        })
    }
}

/// An outcome, and what was left in the client's hands.
#[derive(Debug)]
pub struct Answer<T> {
    /// How it ended.
    pub outcome: Outcome,
    /// The connection or the bytes, if it is [`Outcome::Connected`].
    pub value: Option<T>,
}

/// Opens a TCP connection and closes it.
pub fn tcp_connect(from: &dyn Host, to: IpAddr, port: u16, timeout: Duration) -> Result<Outcome> {
    Ok(tcp_connect_from(from, None, SocketAddr::new(to, port), timeout)?.outcome)
}

/// Opens a TCP connection, from a chosen address and port if one is given, and keeps it.
pub fn tcp_connect_from(
    from: &dyn Host,
    source: Option<SocketAddr>,
    to: SocketAddr,
    timeout: Duration,
) -> Result<Answer<TcpStream>> {
    let socket = open(from, Type::STREAM, None, source, to)?;
    match outcome_of(socket.connect_timeout(&to.into(), timeout)) {
        Ok((outcome, connected)) => Ok(Answer { outcome, value: connected.map(|()| socket.into()) }),
        Err(error) => Err(error).with_context(|| format!("{} to {to}: cannot connect", from.name())),
    }
}

/// Sends a datagram and waits for one to come back.
pub fn udp_exchange(
    from: &dyn Host,
    to: IpAddr,
    port: u16,
    payload: &[u8],
    timeout: Duration,
) -> Result<Outcome> {
    Ok(udp_exchange_from(from, None, SocketAddr::new(to, port), payload, timeout)?.outcome)
}

/// Sends a datagram, from a chosen address and port if one is given, and gives what came back.
pub fn udp_exchange_from(
    from: &dyn Host,
    source: Option<SocketAddr>,
    to: SocketAddr,
    payload: &[u8],
    timeout: Duration,
) -> Result<Answer<Vec<u8>>> {
    let socket = open(from, Type::DGRAM, None, source, to)?;
    let exchanged = socket.connect(&to.into()).and_then(|()| socket.send(payload)).and_then(|_| {
        socket.set_read_timeout(Some(timeout))?;
        receive(&socket)
    });
    match outcome_of(exchanged) {
        Ok((outcome, value)) => Ok(Answer { outcome, value }),
        Err(error) => {
            Err(error).with_context(|| format!("{} to {to}: cannot exchange datagrams", from.name()))
        }
    }
}

/// Sends an ICMP echo request and waits for its reply.
pub fn ping(from: &dyn Host, to: IpAddr, timeout: Duration) -> Result<Outcome> {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    ping_as(from, to, NEXT.fetch_add(1, Ordering::Relaxed), 1, timeout)
}

/// Like [`ping`], with this identifier and sequence number.
pub fn ping_as(from: &dyn Host, to: IpAddr, id: u16, sequence: u16, timeout: Duration) -> Result<Outcome> {
    let protocol = match Family::of(to) {
        Family::V4 => Protocol::ICMPV4,
        Family::V6 => Protocol::ICMPV6,
    };
    let to = SocketAddr::new(to, 0);
    let socket = open(from, Type::RAW, Some(protocol), None, to)?;
    // The kernel writes the checksum of ICMPv6 itself, because only it knows the source (RFC 3542 section 3.1).
    let request = raw::echo_message(Family::of(to.ip()), raw::Echo::Request, id, sequence, b"netlab");
    let deadline = Instant::now() + timeout;
    let sent = socket.connect(&to.into()).and_then(|()| socket.send(&request));
    let answered = sent.and_then(|_| await_reply(&socket, Family::of(to.ip()), id, sequence, deadline));
    match outcome_of(answered) {
        Ok((outcome, _)) => Ok(outcome),
        Err(error) => Err(error).with_context(|| format!("{} to {to}: cannot ping", from.name())),
    }
}

/// True if a message is the reply to an echo request.
pub fn answer_to(family: Family, message: &[u8], id: u16, sequence: u16) -> bool {
    let (kind, header) = match family {
        // A raw IPv4 socket gets the IP header too.
        Family::V4 => (0, usize::from(message.first().copied().unwrap_or_default() & 0xf) * 4),
        Family::V6 => (129, 0),
    };
    let message = message.get(header..).unwrap_or_default();
    message.first() == Some(&kind)
        && message.get(4..6) == Some(&id.to_be_bytes())
        && message.get(6..8) == Some(&sequence.to_be_bytes())
}

fn await_reply(socket: &Socket, family: Family, id: u16, sequence: u16, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        // A raw socket sees every ICMP message of the peer.
        if answer_to(family, &receive(socket)?, id, sequence) {
            return Ok(());
        }
    }
}

fn open(
    from: &dyn Host,
    kind: Type,
    protocol: Option<Protocol>,
    source: Option<SocketAddr>,
    to: SocketAddr,
) -> Result<Socket> {
    let opened = from.namespace().run(|| {
        let socket = Socket::new(Domain::for_address(to), kind, protocol)?;
        if let Some(source) = source {
            socket.set_reuse_address(true)?;
            socket.bind(&source.into())?;
        }
        Ok(socket)
    });
    opened.with_context(|| match source {
        Some(source) => format!("{}: cannot make a socket for {to} at {source}", from.name()),
        None => format!("{}: cannot make a socket for {to}", from.name()),
    })
}

fn receive(mut socket: &Socket) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 64 << 10];
    let length = socket.read(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn outcome_of<T>(result: io::Result<T>) -> io::Result<(Outcome, Option<T>)> {
    let outcome = match result {
        Ok(value) => return Ok((Outcome::Connected, Some(value))),
        Err(error) => match (error.kind(), error.raw_os_error()) {
            (ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset, _) => Outcome::Refused,
            (ErrorKind::TimedOut | ErrorKind::WouldBlock, _) => Outcome::TimedOut,
            (ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable, _)
            | (_, Some(libc::EACCES | libc::EHOSTDOWN | libc::ENONET | libc::EPROTO)) => Outcome::Unreachable,
            _ => return Err(error),
        },
    };
    Ok((outcome, None))
}
