//! Moving octets between sockets within the kernel: through a pipe, with splice(2).
//!
//! Two calls to the kernel move up to 64 KiB, as reading and writing would, but nothing is copied. It is worth its pipe for what
//! is long: the rest of large bodies, and tunnels that have moved much already.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What a pipe holds if nobody asks for more (pipe(7)).
const ROOM: usize = 64 * 1024;

/// From how many octets on a pipe is worth making.
pub(crate) const WORTH_A_PIPE: u64 = 64 * 1024;

/// A pipe, and how much is in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
}

/// What a step has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// So much into the pipe; 0 is the sender's end.
    In(usize),
    /// So much out of it.
    Out(usize),
}

/// Which side failed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failed {
    Sender,
    Receiver,
}

impl Pipe {
    /// `None` if the process has no more descriptors to give: there is another way, which needs none.
    pub(crate) fn new() -> Option<Pipe> {
        let made = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
        made.ok().map(|(read, write)| Pipe { read, write, held: 0 })
    }

    /// Whether something is on its way.
    pub(crate) fn holds(&self) -> bool {
        self.held > 0
    }

    /// Moves up to `most` octets one step further. The pipe is filled only when it is empty: so a call that would block says
    /// something of the socket, and never of the pipe.
    pub(crate) fn poll_move(
        &mut self,
        from: &TcpStream,
        to: &TcpStream,
        most: u64,
        context: &mut Context<'_>,
    ) -> Poll<Result<Moved, Failed>> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        loop {
            let tried = if self.held > 0 {
                ready!(to.poll_write_ready(context)).map_err(|_| Failed::Receiver)?;
                let out = || Ok(splice(&self.read, None, to, None, self.held, flags)?);
                to.try_io(Interest::WRITABLE, out).map(Moved::Out).map_err(|error| (error, Failed::Receiver))
            } else {
                ready!(from.poll_read_ready(context)).map_err(|_| Failed::Sender)?;
                let most = usize::try_from(most).unwrap_or(ROOM).min(ROOM);
                let into = || Ok(splice(from, None, &self.write, None, most, flags)?);
                from.try_io(Interest::READABLE, into).map(Moved::In).map_err(|error| (error, Failed::Sender))
            };
            match tried {
                Ok(Moved::In(count)) => self.held += count,
                Ok(Moved::Out(count)) => self.held -= count,
                Err((error, _)) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err((_, failed)) => return Poll::Ready(Err(failed)),
            }
            return Poll::Ready(tried.map_err(|(_, failed)| failed));
        }
    }
}
