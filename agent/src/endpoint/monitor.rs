//! Watches the interfaces of one network namespace on a thread of its own, and shows what is there.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use tokio::sync::watch;

use super::session::Session;
use super::snapshot::Snapshot;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How to watch.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Octets of each socket's receive buffer. What does not fit is lost, noticed, and read again.
    pub receive_buffer: usize,
    /// Everything is read again after this long, lost or not.
    pub resync_every: Duration,
    /// A pod without an address is asked for it for this long, and later only when everything is read again.
    pub poll_for: Duration,
    /// Hear of changes in the pods' namespaces too, where the kernel allows it (`CAP_NET_BROADCAST`).
    pub listen_everywhere: bool,
}

/// What happened so far; all only grow, but for `listens_everywhere`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Times that the kernel had to drop messages to us.
    pub lost_messages: AtomicU64,
    /// Times that everything was read, the first time too.
    pub resyncs: AtomicU64,
    /// Times that the peer of one veth was asked for.
    pub polls: AtomicU64,
    /// Times that the kernel refused an answer about a peer, for another reason than that it is gone.
    pub refusals: AtomicU64,
    /// Times that the sockets were given up and opened again.
    pub reopened: AtomicU64,
    /// Snapshots that were shown.
    pub snapshots: AtomicU64,
    /// Changes in the pods' namespaces are heard of (else they are polled for).
    pub listens_everywhere: AtomicBool,
}

/// Starts watching.
#[derive(Debug)]
pub struct Monitor;

/// A running monitor; dropping it ends the thread.
#[derive(Debug)]
pub struct Handle {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    counters: Arc<Counters>,
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

/// What others want of the thread, and a pipe to wake it with.
#[derive(Debug)]
pub(super) struct Orders {
    stop: AtomicBool,
    resync: AtomicBool,
    /// A wake-up is in the pipe, which thus never has more than one octet.
    woken: AtomicBool,
    wake: PipeWriter,
    waiting: PipeReader,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            receive_buffer: 8 << 20,
            resync_every: Duration::from_secs(30),
            poll_for: Duration::from_secs(10),
            listen_everywhere: true,
        }
    }
}

impl Monitor {
    /// Watches the namespace of the caller. The first snapshot is whole, the pods' addresses included.
    pub fn spawn(settings: Settings) -> Result<Handle> {
        start(settings, None)
    }

    /// Watches another namespace: `netns` is an open `/proc/PID/ns/net` or `/run/netns/NAME`. The node agent has no use
    /// for it; tests have.
    pub fn spawn_in(netns: OwnedFd, settings: Settings) -> Result<Handle> {
        start(settings, Some(netns))
    }
}

impl Handle {
    /// Snapshots as they come; who is slow sees only the latest.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// The latest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// What happened so far.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Has everything read again soon; returns at once.
    pub fn resync(&self) -> Result<()> {
        self.orders.resync.store(true, Ordering::Release);
        self.orders.wake()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.orders.stop.store(true, Ordering::Release);
        if let Err(error) = self.orders.wake() {
            tracing::error!("discovery: cannot be ended: {error:#}");
            return;
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("discovery: its thread had panicked");
        }
    }
}

impl Orders {
    fn new() -> Result<Self> {
        let (waiting, wake) = std::io::pipe().context("discovery: a pipe to wake the thread")?;
        let [stop, resync, woken] = [(); 3].map(|()| AtomicBool::new(false));
        Ok(Self { stop, resync, woken, wake, waiting })
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn take_resync(&self) -> bool {
        self.resync.swap(false, Ordering::AcqRel)
    }

    /// Readable when somebody wants something.
    pub(super) fn waiting(&self) -> BorrowedFd<'_> {
        self.waiting.as_fd()
    }

    /// Empties the pipe. The flags must be read after, so that nothing is missed.
    pub(super) fn hear(&self) -> Result<()> {
        if self.woken.load(Ordering::Acquire) {
            (&self.waiting).read_exact(&mut [0]).context("discovery: read the wake-up")?;
            self.woken.store(false, Ordering::Release);
        }
        Ok(())
    }

    fn wake(&self) -> Result<()> {
        if !self.woken.swap(true, Ordering::AcqRel) {
            (&self.wake).write_all(&[1]).context("discovery: wake the thread")?;
        }
        Ok(())
    }

    /// Waits, but not if it is to stop.
    fn pause(&self, duration: Duration) -> Result<()> {
        let mut waited = [PollFd::new(self.waiting(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(duration).unwrap_or(PollTimeout::MAX);
        match poll(&mut waited, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => self.hear(),
            Err(errno) => Err(errno).context("discovery: wait"),
        }
    }
}

fn start(settings: Settings, netns: Option<OwnedFd>) -> Result<Handle> {
    let (sender, snapshots) = watch::channel(Arc::new(Snapshot::default()));
    let counters = Arc::new(Counters::default());
    let orders = Arc::new(Orders::new()?);
    let (first, begun) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("discovery".to_owned()).spawn({
        let (counters, orders) = (Arc::clone(&counters), Arc::clone(&orders));
        move || {
            let enter = || match netns {
                Some(netns) => setns(File::from(netns), CloneFlags::CLONE_NEWNET)
                    .context("discovery: enter the network namespace"),
                None => Ok(()),
            };
            match enter().and_then(|()| Session::open(&settings, &orders, &counters, &sender)) {
                Ok(session) => {
                    if first.send(Ok(())).is_ok() {
                        keep_watching(session, &settings, &orders, &counters, &sender);
                    }
                }
                Err(error) => drop(first.send(Err(error))),
            }
        }
    });
    let thread = thread.context("discovery: start its thread")?;
    let handle = Handle { snapshots, counters, orders, thread: Some(thread) };
    begun.recv().map_err(|_| anyhow!("discovery: its thread ended before it began"))??;
    Ok(handle)
}

/// Until it is told to stop. What was shown last stays shown while there is no socket.
fn keep_watching(
    session: Session<'_>,
    settings: &Settings,
    orders: &Orders,
    counters: &Counters,
    sender: &watch::Sender<Arc<Snapshot>>,
) {
    let mut session = Some(session);
    let mut pause = FIRST_PAUSE;
    while !orders.stopped() {
        let opened = match session.take() {
            Some(session) => Ok(session),
            None => Session::open(settings, orders, counters, sender),
        };
        let ended = opened.and_then(|mut session| {
            pause = FIRST_PAUSE;
            session.run()
        });
        let Err(error) = ended else { return };
        tracing::error!("discovery: begins anew in {pause:?}: {error:#}");
        counters.reopened.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = orders.pause(pause) {
            tracing::error!("discovery: {error:#}");
            // The pipe is of no use: wait without it.
            std::thread::sleep(pause);
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
