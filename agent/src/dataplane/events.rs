//! Events, as the programs write them into a ring buffer.

use std::io;

use aya::maps::{Map, MapData, RingBuf};
use datapath::event::Event;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::error::{Error, MapError};
use super::sys::plain::Plain as _;

/// Reads events.
pub struct Events {
    buffer: AsyncFd<RingBuf<MapData>>,
}

impl Events {
    /// Must be called inside a tokio runtime with I/O.
    pub(super) fn new(map: Map) -> Result<Self, Error> {
        let failed = |error| MapError { map: "events", key: None, operation: "map into memory", error };
        let buffer = RingBuf::try_from(map).map_err(|error| failed(io::Error::other(error)))?;
        // SAFETY: the ring buffer owns its descriptor: it always gives the same one, and keeps it open as long as it lives;
        // it is not taken out of the `AsyncFd` before that is dropped.
        let buffer = unsafe { AsyncFd::register_with_interest(buffer, Interest::READABLE) }
            .map_err(|error| failed(error.into()))?;
        Ok(Self { buffer })
    }

    /// Waits for events and puts those that are there into `events`, up to its capacity (at least one fits). Gives how
    /// many came that are of another size than this version knows.
    ///
    /// Cancelling it loses nothing.
    pub async fn next(&mut self, events: &mut Vec<Event>) -> io::Result<usize> {
        events.reserve(1);
        loop {
            let mut ready = self.buffer.readable_mut().await?;
            let (mut unknown, room) = (0, events.capacity());
            while events.len() < room {
                let Some(item) = ready.get_inner_mut().next() else {
                    ready.clear_ready();
                    break;
                };
                match Event::read(&item) {
                    Some(event) if item.len() == size_of::<Event>() => events.push(event),
                    _ => unknown += 1,
                }
            }
            if !events.is_empty() || unknown > 0 {
                return Ok(unknown);
            }
        }
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}
