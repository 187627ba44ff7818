//! What an object that was built for debugging writes down of every packet.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::error::{Error, MapError};

/// The buffer that programs write to.
pub(super) struct Written(EbpfLogger<&'static dyn log::Log>);

/// Hands what the programs write down to this process's own log, at level `debug`.
#[derive(Debug)]
pub struct Log(AsyncFd<Written>);

impl Written {
    /// Of an object that was loaded, if it has one.
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Option<Self>, Error> {
        match EbpfLogger::init(ebpf) {
            Ok(logger) => Ok(Some(Self(logger))),
            Err(aya_log::Error::MapNotFound) => Ok(None),
            Err(error) => Err(failed(io::Error::other(error)).into()),
        }
    }
}

impl AsRawFd for Written {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Written").finish_non_exhaustive()
    }
}

fn failed(error: io::Error) -> MapError {
    MapError { map: "AYA_LOGS", key: None, operation: "map into memory", error }
}

impl Log {
    /// Must be called inside a tokio runtime with I/O.
    pub(super) fn new(written: Written) -> Result<Self, Error> {
        // SAFETY: the buffer's reader owns its descriptor: it always gives the same one, and keeps it open as long as it lives; it is
        // not taken out of the `AsyncFd` before that is dropped.
        let written = unsafe { AsyncFd::register_with_interest(written, Interest::READABLE) }
            .map_err(|error| failed(error.into()))?;
        Ok(Self(written))
    }

    /// Writes until the process ends.
    ///
    /// # Errors
    ///
    /// The buffer cannot be waited for.
    pub async fn run(mut self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable_mut().await?;
            ready.get_inner_mut().0.flush();
            ready.clear_ready();
        }
    }
}
