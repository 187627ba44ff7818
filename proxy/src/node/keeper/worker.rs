//! A worker, as the keeper sees it: a process, and a socket to it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use crate::handover::{self, READY, Rules};
use crate::options::{KeeperOptions, WorkerOptions};

/// This program, even if its file was replaced meanwhile.
const SELF: &str = "/proc/self/exe";

/// What is heard of a worker, by its number.
#[derive(Debug)]
pub(super) enum Event {
    /// It accepts connections.
    Ready(u64),
    /// It ended.
    Ended(u64, std::io::Result<ExitStatus>),
}

/// What a worker is started with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Things<'a> {
    /// Where connections come in.
    pub(super) listener: BorrowedFd<'a>,
    /// Where metrics and requests are asked for.
    pub(super) metrics: BorrowedFd<'a>,
    /// What requests are judged by.
    pub(super) rules: &'a Rules,
}

/// What whoever attends to a worker is told.
enum Told {
    Rules(Arc<Rules>),
    Finish,
    Kill,
}

/// A process that reads requests. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Worker {
    /// Its number.
    pub(super) number: u64,
    /// When it was started.
    pub(super) started: Instant,
    /// When it is killed.
    pub(super) deadline: Option<Instant>,
    commands: UnboundedSender<Told>,
}

impl Worker {
    /// Starts one.
    pub(super) fn start(
        number: u64,
        options: &WorkerOptions,
        things: Things<'_>,
        events: UnboundedSender<Event>,
    ) -> Result<Self> {
        let (ours, theirs) = StdUnixStream::pair().context("making a socket for a worker")?;
        let mut command = Command::new(SELF);
        command.arg0("polder-proxy").args(["worker", "--user", &options.user.to_string()]);
        command.args(["--restarts", &options.restarts.to_string()]);
        if options.access_log {
            command.arg("--access-log");
        }
        let child = command.stdin(Stdio::from(OwnedFd::from(theirs))).kill_on_drop(true).spawn();
        let child = child.context("starting a worker")?;
        let Things { listener, metrics, rules } = things;
        handover::send_all(ours.as_fd(), listener, metrics, rules)
            .context("handing things over to a worker")?;
        ours.set_nonblocking(true).context("the socket to a worker")?;
        let channel = UnixStream::from_std(ours).context("the socket to a worker")?;
        let (commands, orders) = unbounded_channel();
        tokio::spawn(attend(number, child, channel, orders, events));
        Ok(Self { number, started: Instant::now(), deadline: None, commands })
    }

    /// Has it judge by these from now on.
    pub(super) fn follow(&self, rules: Arc<Rules>) {
        self.tell(Told::Rules(rules));
    }

    /// Has it end when nothing comes any more, or then.
    pub(super) fn finish(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
        self.tell(Told::Finish);
    }

    /// Ends it. Its end is heard of as any other.
    pub(super) fn kill(&self) {
        self.tell(Told::Kill);
    }

    /// Nobody listens to a worker that has ended, of which there is an event under way.
    fn tell(&self, command: Told) {
        if self.commands.send(command).is_err() {
            tracing::debug!(number = self.number, "the worker has ended already");
        }
    }
}

/// The options of a keeper's workers.
pub(super) fn options(options: &KeeperOptions, restarts: u64) -> WorkerOptions {
    WorkerOptions { user: options.user, access_log: options.access_log, restarts }
}

async fn attend(
    number: u64,
    mut child: Child,
    mut channel: UnixStream,
    mut commands: UnboundedReceiver<Told>,
    events: UnboundedSender<Event>,
) {
    let mut listens = true;
    let ended = loop {
        let problem = tokio::select! {
            ended = child.wait() => break ended,
            said = channel.read_u8(), if listens => {
                // Whatever else it says or does not say: its end is heard of by other means.
                listens = matches!(said, Ok(READY));
                if listens {
                    // Nobody wants to know any more when the keeper ends.
                    let _unheard = events.send(Event::Ready(number));
                }
                Ok(())
            },
            command = commands.recv() => match command {
                Some(Told::Rules(rules)) => say(&channel, |to| rules.send(to)).await,
                Some(Told::Finish) => say(&channel, handover::send_finish).await,
                Some(Told::Kill) | None => child.start_kill(),
            },
        };
        if let Err(error) = problem {
            // It is at its end, or must be: what it judges by may hold no more.
            tracing::debug!(number, %error, "telling a worker");
            let _ended_already = child.start_kill();
        }
    };
    let _unheard = events.send(Event::Ended(number, ended));
}

async fn say(
    channel: &UnixStream,
    send: impl Fn(BorrowedFd<'_>) -> std::io::Result<()>,
) -> std::io::Result<()> {
    channel.async_io(Interest::WRITABLE, || send(channel.as_fd())).await
}
