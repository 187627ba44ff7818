//! What keeper and worker say to each other, over a socket that is the worker's standard input.
//!
//! ```text
//! keeper -> worker   once: a byte, and with it the descriptors of what the worker could not open itself
//! worker -> keeper   once: it is ready
//! keeper -> worker   orders
//! ```
//!
//! The descriptors come as such (`SCM_RIGHTS`, unix(7)), so that none has to be inherited by number.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::kernel::tables::Tables;

/// Says that descriptors come with it.
const HERE: u8 = b'h';
/// Says that the worker accepts connections.
pub(crate) const READY: u8 = b'r';
/// More than there are.
const MOST: usize = 32;

/// What a worker is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Accept no more, and end with the last connection: another worker has taken over.
    Drain,
    /// Go on, and end when nothing has come for a while: another proxy is taking over.
    Finish,
}

impl Order {
    /// As it is sent.
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Drain => b'd',
            Self::Finish => b'f',
        }
    }

    /// What [`Self::byte`] made.
    pub(crate) const fn of(byte: u8) -> Option<Self> {
        match byte {
            b'd' => Some(Self::Drain),
            b'f' => Some(Self::Finish),
            _ => None,
        }
    }
}

/// What the keeper opens for the worker.
#[derive(Debug)]
pub(crate) struct Handover {
    /// Where connections come in.
    pub(crate) listener: OwnedFd,
    /// Where metrics and requests are asked for.
    pub(crate) metrics: OwnedFd,
    /// The directory of lists.
    pub(crate) lists: OwnedFd,
    /// The maps.
    pub(crate) tables: Tables,
}

/// Hands it over.
pub(crate) fn send(
    to: BorrowedFd<'_>,
    listener: BorrowedFd<'_>,
    metrics: BorrowedFd<'_>,
    lists: BorrowedFd<'_>,
    tables: &Tables,
) -> io::Result<()> {
    let mut fds = vec![listener, metrics, lists];
    fds.extend(tables.fds());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    if !message.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    sendmsg(to, &[IoSlice::new(&[HERE])], &mut message, SendFlags::NOSIGNAL)?;
    Ok(())
}

impl Handover {
    /// Takes it, and waits for it.
    pub(crate) fn receive(from: BorrowedFd<'_>) -> Result<Self> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut message = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut message, RecvFlags::CMSG_CLOEXEC)
            .context("waiting for the keeper")?;
        let mut fds = message
            .drain()
            .filter_map(|part| match part {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten();
        let mut next = |name: &str| fds.next().with_context(|| format!("the keeper handed over no {name}"));
        let (listener, metrics, lists) =
            (next("listener")?, next("metrics socket")?, next("directory of lists")?);
        Ok(Self { listener, metrics, lists, tables: Tables::new(fds)? })
    }

    /// The socket to the keeper, of a worker.
    pub(crate) fn channel() -> io::Result<OwnedFd> {
        io::stdin().as_fd().try_clone_to_owned()
    }
}
