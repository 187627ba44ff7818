//! Telling threads that wait for packets to stop.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// A signal to any number of threads. Once given it stays.
#[derive(Debug, Clone)]
pub(crate) struct Stop(Arc<EventFd>);

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Readable,
    Stopped,
    TimedOut,
}

impl Stop {
    pub(crate) fn new() -> Result<Self> {
        let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        Ok(Self(Arc::new(event.context("cannot make an eventfd")?)))
    }

    pub(crate) fn stop(&self) -> Result<()> {
        self.0.write(1).map(drop).context("cannot signal an eventfd")
    }

    /// Waits until this can be read, or the signal comes, or the time is over.
    pub(crate) fn wait(&self, readable: BorrowedFd<'_>, timeout: Option<Duration>) -> Result<Wait> {
        let mut waiting =
            [PollFd::new(self.0.as_fd(), PollFlags::POLLIN), PollFd::new(readable, PollFlags::POLLIN)];
        loop {
            match poll(&mut waiting, limit(timeout)) {
                Ok(0) => return Ok(Wait::TimedOut),
                Ok(_) if waiting[0].any().unwrap_or(true) => return Ok(Wait::Stopped),
                // An error condition is for the caller's next read to report.
                Ok(_) => return Ok(Wait::Readable),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("cannot wait for a socket"),
            }
        }
    }

    /// True if the signal was given.
    pub(crate) fn is_given(&self) -> Result<bool> {
        Ok(self.wait(self.0.as_fd(), Some(Duration::ZERO))? == Wait::Stopped)
    }
}

/// poll(2) counts in milliseconds; a shorter wait than one becomes one.
fn limit(timeout: Option<Duration>) -> PollTimeout {
    match timeout {
        None => PollTimeout::NONE,
        Some(time) => PollTimeout::try_from(time.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX),
    }
}
