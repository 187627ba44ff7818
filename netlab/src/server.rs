//! Servers that answer everybody and remember who came.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::host::Host;
use crate::stop::{Stop, Wait};

/// How many sources a server remembers; it counts the others together.
const LOG: usize = 4096;
/// How many connections a TCP server serves at a time; it closes the ones beyond.
const CONNECTIONS: usize = 2048;
/// How many of the first bytes of a source are kept.
const FIRST: usize = 64;

/// Whether a TCP server speaks first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// It waits for the client, and echoes.
    None,
    /// It sends its name and a line feed, and then echoes.
    Name,
}

/// What a server got from one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The source's address and port as the server saw them.
    pub source: SocketAddr,
    /// Its first bytes, at most 64. Empty for a connection on which nothing came.
    pub first: Vec<u8>,
    /// How many datagrams came, or how many times something could be read of a connection.
    pub count: u64,
}

/// An echo server on all addresses of a host, of both families. It stops when it is dropped.
#[derive(Debug)]
pub struct Server {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    log: Arc<Log>,
}

#[derive(Debug, Default)]
struct Log {
    sources: Mutex<BTreeMap<SocketAddr, (Vec<u8>, u64)>>,
    beyond: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl Server {
    /// A TCP server.
    pub fn tcp(host: &dyn Host, port: u16, greeting: Greeting) -> Result<Self> {
        let listener: TcpListener = bind(host, Type::STREAM, port)?.into();
        let greeting = match greeting {
            Greeting::None => Vec::new(),
            Greeting::Name => format!("{}\n", host.name()).into_bytes(),
        };
        Self::start(move |stop, log| serve_tcp(&listener, &greeting, stop, log))
    }

    /// A UDP server. It answers with the bytes it got.
    pub fn udp(host: &dyn Host, port: u16) -> Result<Self> {
        let socket: UdpSocket = bind(host, Type::DGRAM, port)?.into();
        Self::start(move |stop, log| serve_udp(&socket, stop, log))
    }

    /// What came until now, by source.
    ///
    /// # Errors
    ///
    /// If the server failed: then nothing came that it could have seen.
    pub fn received(&self) -> Result<Vec<Received>> {
        let failure = self.log.failure.lock().unwrap_or_else(PoisonError::into_inner);
        anyhow::ensure!(failure.is_none(), "a server failed: {}", failure.as_deref().unwrap_or_default());
        let sources = self.log.sources();
        let received = |(source, (first, count)): (&SocketAddr, &(Vec<u8>, u64))| Received {
            source: *source,
            first: first.clone(),
            count: *count,
        };
        Ok(sources.iter().map(received).collect())
    }

    /// How many datagrams or reads came from sources beyond those remembered.
    pub fn beyond(&self) -> u64 {
        self.log.beyond.load(Ordering::Relaxed)
    }

    fn start(serve: impl FnOnce(&Stop, &Arc<Log>) -> Result<()> + Send + 'static) -> Result<Self> {
        let (stop, log) = (Stop::new()?, Arc::new(Log::default()));
        let (stopped, shared) = (stop.clone(), Arc::clone(&log));
        let builder = thread::Builder::new().name("netlab-server".to_owned());
        let thread = builder.spawn(move || {
            if let Err(error) = serve(&stopped, &shared) {
                *shared.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{error:#}"));
            }
        });
        Ok(Self { stop, thread: Some(thread.context("cannot start a thread")?), log })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop.stop() {
            eprintln!("netlab: a server cannot be stopped: {error:#}");
        } else if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("netlab: a server panicked");
        }
    }
}

impl Log {
    fn sources(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, (Vec<u8>, u64)>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, source: SocketAddr, bytes: &[u8], count: u64) {
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        let mut sources = self.sources();
        if sources.len() >= LOG && !sources.contains_key(&source) {
            self.beyond.fetch_add(count, Ordering::Relaxed);
            return;
        }
        let (first, total) = sources.entry(source).or_default();
        if first.is_empty() {
            *first = bytes[..bytes.len().min(FIRST)].to_vec();
        }
        *total += count;
    }
}

/// One socket for both families: an IPv4 client comes with a mapped address.
fn bind(host: &dyn Host, kind: Type, port: u16) -> Result<Socket> {
    let bound = host.namespace().run(|| {
        let socket = Socket::new(Domain::IPV6, kind, None)?;
        socket.set_only_v6(false)?;
        socket.set_reuse_address(kind == Type::STREAM)?;
        socket.bind(&SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port).into())?;
        if kind == Type::STREAM {
            socket.listen(1024)?;
        }
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    bound.with_context(|| {
        format!("{}: cannot serve port {port} of protocol {}", host.name(), i32::from(protocol))
    })
}

fn serve_tcp(listener: &TcpListener, greeting: &[u8], stop: &Stop, log: &Arc<Log>) -> Result<()> {
    let connections = AtomicUsize::new(0);
    thread::scope(|scope| {
        while stop.wait(listener.as_fd(), None)? == Wait::Readable {
            let (stream, source) = match listener.accept() {
                Ok(accepted) => accepted,
                // The client may be gone already (accept(2), "Error handling").
                Err(error) if is_passing(error.kind()) => continue,
                Err(error) => return Err(error).context("cannot accept a connection"),
            };
            log.add(source, &[], 0);
            if connections.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS {
                connections.fetch_sub(1, Ordering::AcqRel);
                log.beyond.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let connections = &connections;
            scope.spawn(move || {
                // How a connection ends is the client's to notice.
                let _ended = echo(stream, source, greeting, stop, log);
                connections.fetch_sub(1, Ordering::AcqRel);
            });
        }
        Ok(())
    })
}

fn echo(mut stream: TcpStream, source: SocketAddr, greeting: &[u8], stop: &Stop, log: &Log) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(false)?;
    // A client that does not read must not keep the server from stopping.
    stream.set_write_timeout(Some(std::time::Duration::from_secs(1)))?;
    stream.write_all(greeting)?;
    let mut buffer = vec![0; 16 << 10];
    while stop.wait(stream.as_fd(), None)? == Wait::Readable {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        log.add(source, &buffer[..length], 1);
        stream.write_all(&buffer[..length])?;
    }
    Ok(())
}

fn serve_udp(socket: &UdpSocket, stop: &Stop, log: &Log) -> Result<()> {
    setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true).context("IPV6_RECVPKTINFO")?;
    let mut buffer = vec![0; 64 << 10];
    while stop.wait(socket.as_fd(), None)? == Wait::Readable {
        match receive_with_destination(socket, &mut buffer) {
            Ok((length, source, asked)) => {
                log.add(SocketAddr::V6(source), &buffer[..length], 1);
                // A host with several addresses answers from the one that was asked. An answer that cannot be sent,
                // because a source was spoofed, is a datagram that arrived all the same.
                let from = asked.map(|info| libc::in6_pktinfo { ipi6_ifindex: 0, ..info });
                let control: Vec<_> = from.iter().map(ControlMessage::Ipv6PacketInfo).collect();
                let payload = [IoSlice::new(&buffer[..length])];
                let to = SockaddrIn6::from(source);
                let _sent = sendmsg(socket.as_raw_fd(), &payload, &control, MsgFlags::empty(), Some(&to));
            }
            // ICMP errors of earlier answers are reported here too.
            Err(error) if is_passing(error.kind()) || error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error).context("cannot receive a datagram"),
        }
    }
    Ok(())
}

/// Receives a datagram: its length, its source, and to which of this host's addresses it was sent.
fn receive_with_destination(
    socket: &UdpSocket,
    buffer: &mut [u8],
) -> io::Result<(usize, SocketAddrV6, Option<libc::in6_pktinfo>)> {
    let mut payload = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let message =
        recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut payload, Some(&mut control), MsgFlags::empty())?;
    let source = message.address.ok_or(ErrorKind::InvalidData)?;
    let asked = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(info),
        _ => None,
    });
    Ok((message.bytes, source.into(), asked))
}

fn is_passing(kind: ErrorKind) -> bool {
    use ErrorKind::{ConnectionAborted, HostUnreachable, Interrupted, NetworkUnreachable, WouldBlock};
    matches!(kind, WouldBlock | Interrupted | ConnectionAborted | HostUnreachable | NetworkUnreachable)
}
