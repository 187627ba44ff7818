//! Two kinds of netlink sockets: one that listens, one that asks.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Context as _, Result};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, NetlinkAddr, recvmsg, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::wire::{self, Malformed, Message};

/// Kernel messages to user space are at most 32 KiB (`NLMSG_GOODSIZE` grows with what the reader offers, up to that).
const DATAGRAM: usize = 65536;
/// A request waits for the kernel's lock over all interfaces; whoever holds it longer than this is stuck.
const PATIENCE: Duration = Duration::from_secs(5);
/// Datagrams of one answer. A full routing table of the Internet is a million routes, some hundred in a datagram.
const LONGEST_ANSWER: usize = 65536;
/// Datagrams thrown away after a loss; the buffer that they are in holds fewer.
const MOST_DISCARDED: usize = 1 << 20;

/// What the listening socket had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// A datagram of that many octets, from another namespace if one is named.
    Datagram { length: usize, netns: Option<i32> },
    /// Nothing more for now.
    Empty,
    /// The kernel had more to say than there was room for.
    Lost,
}

/// Hears of changes.
pub(super) struct Listener {
    socket: Socket,
    buffer: Vec<u8>,
}

/// Why a question has no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The kernel says no, such as for a device that is gone meanwhile.
    Refused { asked: String, errno: Errno },
    /// The socket is of no use any more.
    Broken { asked: String, error: io::Error },
}

/// Asks the kernel.
pub(super) struct Asker {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Listener {
    /// Joins `groups`; with `everywhere` also those of all namespaces that this one has a number for, which asks for
    /// `CAP_NET_BROADCAST`.
    pub(super) fn open(groups: &[u32], receive_buffer: usize, everywhere: bool) -> Result<Self> {
        let mut socket = open()?;
        // Without CAP_NET_ADMIN the system's limit holds (net.core.rmem_max), silently.
        if setsockopt(&socket, sockopt::RcvBufForce, &receive_buffer).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &receive_buffer)
                .with_context(|| format!("netlink: a receive buffer of {receive_buffer} octets"))?;
        }
        if everywhere {
            socket.set_listen_all_namespaces(true).context("netlink: listen to all namespaces")?;
        }
        socket.set_non_blocking(true).context("netlink: a socket that does not block")?;
        socket.bind_auto().context("netlink: bind")?;
        for group in groups {
            socket.add_membership(*group).with_context(|| format!("netlink: join group {group}"))?;
        }
        Ok(Self { socket, buffer: vec![0; DATAGRAM] })
    }

    pub(super) fn receive(&mut self) -> Result<Received> {
        match receive(&self.socket, &mut self.buffer) {
            Ok(received) => Ok(received),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Received::Empty),
            Err(Errno::ENOBUFS) => Ok(Received::Lost),
            Err(errno) => Err(errno).context("netlink: receive events"),
        }
    }

    /// The messages of the last datagram.
    pub(super) fn messages(&self, length: usize) -> impl Iterator<Item = Result<Message<'_>, Malformed>> {
        wire::messages(self.buffer.get(..length).unwrap_or(&[]))
    }

    /// Throws away all that waits. After a loss the kernel sends nothing more until the queue was empty once
    /// (`NETLINK_S_CONGESTED`), so a dump must not begin before.
    pub(super) fn discard(&mut self) -> Result<()> {
        for _ in 0..MOST_DISCARDED {
            if self.receive()? == Received::Empty {
                break;
            }
        }
        Ok(())
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Asker {
    pub(super) fn open() -> Result<Self> {
        let mut socket = open()?;
        // Without it the kernel ignores what a dump is to be limited to, the namespace too.
        socket.set_netlink_get_strict_chk(true).context("netlink: strict checks (Linux 4.20 or later)")?;
        let patience = TimeVal::milliseconds(i64::try_from(PATIENCE.as_millis()).unwrap_or(i64::MAX));
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience).context("netlink: receive timeout")?;
        socket.bind_auto().context("netlink: bind")?;
        Ok(Self { socket, buffer: vec![0; DATAGRAM], sequence: 0 })
    }

    /// Asks and hands every message of the answer to `read`. False: the kernel says that what it listed changed
    /// meanwhile, so that something may be missing.
    pub(super) fn ask(
        &mut self,
        mut request: Vec<u8>,
        asked: impl Fn() -> String,
        mut read: impl FnMut(Message<'_>),
    ) -> Result<bool, Unanswered> {
        self.sequence = self.sequence.wrapping_add(1);
        wire::set_sequence(&mut request, self.sequence);
        let broken = |error: io::Error| Unanswered::Broken { asked: asked(), error };
        self.socket.send_to(&request, &SocketAddr::new(0, 0), 0).map_err(broken)?;
        let mut whole = true;
        for _ in 0..LONGEST_ANSWER {
            let length = match receive(&self.socket, &mut self.buffer) {
                Ok(Received::Datagram { length, .. }) => length,
                Ok(Received::Empty | Received::Lost) => return Err(broken(Errno::ENOBUFS.into())),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(broken(errno.into())),
            };
            for message in wire::messages(&self.buffer[..length]) {
                let Ok(message) = message else {
                    return Err(broken(io::ErrorKind::InvalidData.into()));
                };
                // The rest of an answer that an earlier question did not wait for.
                if message.sequence != self.sequence {
                    continue;
                }
                let flags = libc::c_int::from(message.flags);
                whole &= flags & libc::NLM_F_DUMP_INTR == 0;
                match libc::c_int::from(message.kind) {
                    libc::NLMSG_DONE | libc::NLMSG_ERROR => {
                        return match wire::error_number(message.body) {
                            0 => Ok(whole),
                            number => {
                                let errno = Errno::from_raw(number);
                                Err(Unanswered::Refused { asked: asked(), errno })
                            }
                        };
                    }
                    _ => read(message),
                }
                if flags & libc::NLM_F_MULTI == 0 {
                    return Ok(whole);
                }
            }
        }
        Err(broken(io::ErrorKind::InvalidData.into()))
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { asked, errno } => write!(out, "netlink: {asked}: the kernel refuses: {errno}"),
            Self::Broken { asked, error } => write!(out, "netlink: {asked}: no answer: {error}"),
        }
    }
}

impl std::error::Error for Unanswered {}

fn open() -> Result<Socket> {
    Socket::new(NETLINK_ROUTE).context("netlink: open a route socket")
}

fn receive(socket: &Socket, buffer: &mut [u8]) -> Result<Received, Errno> {
    let mut control = nix::cmsg_space!(libc::c_int);
    let mut slices = [IoSliceMut::new(buffer)];
    let received =
        recvmsg::<NetlinkAddr>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::empty())?;
    if received.flags.contains(MsgFlags::MSG_TRUNC) {
        return Ok(Received::Lost);
    }
    // Other processes may write to this port too, if they are privileged; only the kernel is port 0.
    if received.address.is_some_and(|from| from.pid() != 0) {
        return Ok(Received::Datagram { length: 0, netns: None });
    }
    let mut netns = None;
    for message in received.cmsgs()? {
        if let ControlMessageOwned::Unknown(message) = message
            && message.cmsg_header.cmsg_level == libc::SOL_NETLINK
            && message.cmsg_header.cmsg_type == libc::NETLINK_LISTEN_ALL_NSID
        {
            netns = message.data_bytes.first_chunk().map(|number| i32::from_ne_bytes(*number));
        }
    }
    Ok(Received::Datagram { length: received.bytes, netns })
}
