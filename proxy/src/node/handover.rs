//! What keeper and worker say to each other, over a socket that is the worker's standard input.
//!
//! ```text
//! keeper -> worker   once: sockets, and what it judges by
//! worker -> keeper   once: it is ready
//! keeper -> worker   orders: what it judges by from now on; to end when nothing comes any more
//! ```
//!
//! The descriptors come as such (`SCM_RIGHTS`, unix(7)), so that none has to be inherited by number.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::kernel::tables::Tables;

/// Says that the worker accepts connections.
pub(crate) const READY: u8 = b'r';
/// What a byte from the keeper says.
const HERE: u8 = b'h';
const RULES: u8 = b'j';
const FINISH: u8 = b'f';
/// More descriptors than there are.
const MOST: usize = 32;

/// What requests are judged by.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The maps.
    pub(crate) tables: Tables,
    /// The directory of lists.
    pub(crate) lists: OwnedFd,
    /// The map of the generation, to be mapped into memory. It could be written to, so it is only given to a worker that has heard
    /// no stranger yet, which keeps no descriptor of it.
    pub(crate) generation: Option<OwnedFd>,
}

impl Rules {
    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let mut fds = vec![self.lists.as_fd()];
        fds.extend(self.tables.fds());
        fds
    }

    /// Has a worker judge by these from now on.
    pub(crate) fn send(&self, to: BorrowedFd<'_>) -> io::Result<()> {
        send(to, RULES, &self.fds())
    }
}

/// Has a worker go on, and end when nothing has come for a while: another proxy is taking over.
pub(crate) fn send_finish(to: BorrowedFd<'_>) -> io::Result<()> {
    send(to, FINISH, &[])
}

/// What the keeper opens for a worker.
#[derive(Debug)]
pub(crate) struct Handover {
    /// Where connections come in.
    pub(crate) listener: OwnedFd,
    /// Where metrics and requests are asked for.
    pub(crate) metrics: OwnedFd,
    /// What requests are judged by.
    pub(crate) rules: Rules,
}

/// Hands it over.
pub(crate) fn send_all(
    to: BorrowedFd<'_>,
    listener: BorrowedFd<'_>,
    metrics: BorrowedFd<'_>,
    rules: &Rules,
) -> io::Result<()> {
    let mut fds = vec![listener, metrics];
    fds.extend(rules.fds());
    fds.extend(rules.generation.as_ref().map(OwnedFd::as_fd));
    send(to, HERE, &fds)
}

impl Handover {
    /// Takes it, and waits for it.
    pub(crate) fn receive(from: BorrowedFd<'_>) -> Result<Self> {
        let (said, fds) = receive(from).context("waiting for the keeper")?;
        ensure!(said == Some(HERE), "the keeper handed nothing over");
        let mut fds = fds.into_iter();
        let (listener, metrics) = (next(&mut fds, "listener")?, next(&mut fds, "metrics socket")?);
        Ok(Self { listener, metrics, rules: rules(fds)? })
    }

    /// The socket to the keeper, of a worker.
    pub(crate) fn channel() -> io::Result<OwnedFd> {
        io::stdin().as_fd().try_clone_to_owned()
    }
}

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// To judge by these from now on.
    Rules(Box<Rules>),
    /// To go on, and to end when nothing has come for a while.
    Finish,
    /// Nothing any more: nobody would look after it, and the program that sends connections to it is gone.
    End,
}

impl Order {
    /// The next one; `WouldBlock` if there is none yet and the socket does not wait.
    pub(crate) fn receive(from: BorrowedFd<'_>) -> io::Result<Self> {
        let (said, fds) = receive(from)?;
        match said {
            None => Ok(Self::End),
            Some(FINISH) => Ok(Self::Finish),
            Some(RULES) => Ok(Self::Rules(Box::new(rules(fds.into_iter()).map_err(io::Error::other)?))),
            Some(other) => Err(io::Error::other(format!("the keeper said {other:#04x}"))),
        }
    }
}

fn rules(mut fds: impl Iterator<Item = OwnedFd>) -> Result<Rules> {
    let lists = next(&mut fds, "directory of lists")?;
    let mut tables = Tables::new(fds.by_ref())?;
    if let Some(generation) = fds.next()
        && let Err(error) = tables.map_generation(&generation)
    {
        tracing::debug!(%error, "the generation is read by system calls");
    }
    Ok(Rules { tables, lists, generation: None })
}

fn next(fds: &mut impl Iterator<Item = OwnedFd>, name: &str) -> Result<OwnedFd> {
    fds.next().with_context(|| format!("the keeper handed over no {name}"))
}

/// Says a byte, and gives descriptors with it.
fn send(to: BorrowedFd<'_>, said: u8, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !message.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    sendmsg(to, &[IoSlice::new(&[said])], &mut message, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Hears a byte, if the other end is still there, and takes the descriptors that come with it.
fn receive(from: BorrowedFd<'_>) -> io::Result<(Option<u8>, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut said = [0];
    let read = recvmsg(from, &mut [IoSliceMut::new(&mut said)], &mut message, RecvFlags::CMSG_CLOEXEC)?;
    let fds = message.drain().filter_map(|part| match part {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds = fds.flatten().collect();
    Ok(((read.bytes > 0).then_some(said[0]), fds))
}
