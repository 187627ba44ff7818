//! What arrives: the measure of every leak.

use std::fmt;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::host::Host;
use crate::packet::{Arrival, Packet};
use crate::packet_socket::PacketSocket;
use crate::stop::{Stop, Wait};

/// The largest frame there is: an IP packet of 64 KiB that was never cut, and its link header with room.
const LARGEST_FRAME: usize = 65_536 + 64;

/// How many of the frames that matched are kept to be looked at.
const KEPT: usize = 256;

/// A thread that hands every frame of an interface to a function, as it arrives.
pub(crate) struct Tap {
    socket: Arc<PacketSocket>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    state: Arc<TapState>,
}

#[derive(Debug, Default)]
struct TapState {
    /// True while frames are being read, which is before the socket stops being readable.
    busy: AtomicBool,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    lost: u64,
    failure: Option<String>,
}

/// Counts the packets that arrive at an interface and match. Frames sent from there are never counted.
///
/// Sniffing begins before [`Sniffer::at`] returns. A frame counts when it has reached the interface, whatever the
/// stack behind it does with it: a denied packet has to be stopped before.
#[derive(Debug)]
pub struct Sniffer {
    tap: Tap,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    matches: Mutex<Matches>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Matches {
    count: u64,
    last: Option<Instant>,
    frames: Vec<Vec<u8>>,
}

impl Sniffer {
    /// Counts the packets for which `filter` is true at a pod's `eth0`.
    pub fn at(host: &dyn Host, filter: impl FnMut(&Packet<'_>) -> bool + Send + 'static) -> Result<Self> {
        Self::on(host, "eth0", filter)
    }

    /// Counts the packets that hold these bytes anywhere at a pod's `eth0`.
    ///
    /// So it counts ICMP errors that quote them too. Where the victim echoes what an attacker sent from a closed port,
    /// ask for [`Packet::is_port_unreachable`] with [`Sniffer::at`].
    pub fn marked(host: &dyn Host, marker: &[u8]) -> Result<Self> {
        ensure!(
            !marker.is_empty(),
            "the marker of a sniffer at {} is empty: it would match nothing",
            host.name()
        );
        let marker = marker.to_owned();
        Self::at(host, move |packet| packet.contains(&marker))
    }

    /// Counts the packets for which `filter` is true at any interface.
    pub fn on(
        host: &dyn Host,
        interface: &str,
        mut filter: impl FnMut(&Packet<'_>) -> bool + Send + 'static,
    ) -> Result<Self> {
        let seen = Arc::new(Seen::default());
        let matched = Arc::clone(&seen);
        let tap = Tap::start(host, interface, move |packet, now| {
            if packet.arrival != Arrival::Outgoing && filter(packet) {
                let mut matches = matched.matches();
                matches.count += 1;
                matches.last = Some(now);
                if matches.frames.len() < KEPT {
                    matches.frames.push(packet.frame.to_owned());
                }
                matched.changed.notify_all();
            }
        })?;
        Ok(Self { tap, seen })
    }

    /// How many packets matched until now.
    ///
    /// # Errors
    ///
    /// If the sniffer failed or lost frames: then the count proves nothing.
    pub fn count(&self) -> Result<u64> {
        self.tap.check()?;
        Ok(self.seen.matches().count)
    }

    /// Waits until this many packets matched, or the time is over, and gives how many did.
    pub fn wait_for(&self, count: u64, timeout: Duration) -> Result<u64> {
        let waited = self.seen.changed.wait_timeout_while(self.seen.matches(), timeout, |m| m.count < count);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.count()
    }

    /// Waits until no packet matched for so long and every frame was looked at, and gives how many matched. This is how
    /// to ask for a count of zero. It never waits more than a hundred times as long.
    pub fn settled(&self, quiet: Duration) -> Result<u64> {
        let started = Instant::now();
        loop {
            let last = self.seen.matches().last.unwrap_or(started).max(started);
            let since = last.elapsed();
            if (since >= quiet && self.tap.is_idle()?) || started.elapsed() >= quiet * 100 {
                return self.count();
            }
            thread::sleep(quiet.saturating_sub(since).max(Duration::from_millis(1)));
        }
    }

    /// When the last packet arrived that matched.
    pub fn last(&self) -> Option<Instant> {
        self.seen.matches().last
    }

    /// The first frames that matched, at most 256.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        self.seen.matches().frames.clone()
    }

    /// Forgets what was counted.
    pub fn reset(&self) {
        *self.seen.matches() = Matches::default();
    }
}

impl Seen {
    fn matches(&self) -> MutexGuard<'_, Matches> {
        self.matches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tap {
    pub(crate) fn start(
        host: &dyn Host,
        interface: &str,
        mut handle: impl FnMut(&Packet<'_>, Instant) + Send + 'static,
    ) -> Result<Self> {
        let socket = Arc::new(PacketSocket::open(host.namespace(), interface, true)?);
        let stop = Stop::new()?;
        let state = Arc::new(TapState::default());
        let (stopped, shared, source) = (stop.clone(), Arc::clone(&state), Arc::clone(&socket));
        let builder = thread::Builder::new().name("netlab-sniffer".to_owned());
        let thread = builder.spawn(move || {
            if let Err(error) = listen(&source, &stopped, &shared, &mut handle) {
                shared.progress().failure = Some(format!("{error:#}"));
            }
        });
        Ok(Self { socket, stop, thread: Some(thread.context("cannot start a thread")?), state })
    }

    /// Fails if what was seen is not all there was.
    pub(crate) fn check(&self) -> Result<()> {
        let progress = self.state.progress();
        ensure!(
            progress.failure.is_none(),
            "a sniffer failed: {}",
            progress.failure.as_deref().unwrap_or_default()
        );
        let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        ensure!(!ended, "a sniffer's filter panicked: its count proves nothing");
        ensure!(progress.lost == 0, "a sniffer lost {} frames: its count proves nothing", progress.lost);
        Ok(())
    }

    /// True if every frame that arrived before this call was handed over.
    pub(crate) fn is_idle(&self) -> Result<bool> {
        let waiting = Stop::new()?.wait(self.socket.as_fd(), Some(Duration::ZERO))? == Wait::Readable;
        Ok(!waiting && !self.state.busy.load(Ordering::Acquire))
    }
}

fn listen(
    socket: &PacketSocket,
    stop: &Stop,
    state: &TapState,
    handle: &mut dyn FnMut(&Packet<'_>, Instant),
) -> Result<()> {
    let mut buffer = Vec::with_capacity(LARGEST_FRAME);
    while stop.wait(socket.as_fd(), None)? == Wait::Readable {
        state.busy.store(true, Ordering::Release);
        // A flood must not keep the signal to stop from being seen.
        for _ in 0..4096 {
            let Some(arrival) = socket.receive(&mut buffer)? else { break };
            handle(&Packet::read(&buffer, arrival), Instant::now());
        }
        state.busy.store(false, Ordering::Release);
        let lost = socket.take_lost()?;
        if lost > 0 {
            state.progress().lost += u64::from(lost);
        }
    }
    Ok(())
}

impl TapState {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if let Err(error) = self.stop.stop() {
            eprintln!("netlab: a sniffer cannot be stopped: {error:#}");
        } else if self.thread.take().is_some_and(|thread| thread.join().is_err()) && !thread::panicking() {
            eprintln!("netlab: a sniffer's filter panicked");
        }
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("state", &self.state).finish_non_exhaustive()
    }
}
