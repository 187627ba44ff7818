//! The workers: one that takes connections, and those whose connections have not ended yet.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::worker::{self, Event, Things, Worker};
use crate::handover::Order;
use crate::kernel::pins::Set;
use crate::kernel::tables::Tables;
use crate::options::KeeperOptions;

/// What workers read: opened anew whenever the agent has another set of maps.
#[derive(Debug)]
pub(super) struct Rules {
    /// Which set it is.
    pub(super) set: Set,
    tables: Tables,
    /// The map of the generation, to be mapped into memory.
    generation: Option<OwnedFd>,
    lists: OwnedFd,
}

impl Rules {
    /// Opens a set.
    pub(super) fn open(set: Set, options: &KeeperOptions) -> Result<Self> {
        let lists =
            File::open(&options.lists).with_context(|| format!("opening {}", options.lists.display()))?;
        Ok(Self { tables: set.open()?, generation: set.open_generation(), set, lists: lists.into() })
    }
}

/// All workers of a keeper.
pub(super) struct Crew<'a> {
    options: &'a KeeperOptions,
    listener: OwnedFd,
    metrics: OwnedFd,
    rules: Rules,
    /// The one that takes connections, or will.
    current: Option<Worker>,
    /// Those that were replaced.
    old: Vec<Worker>,
    /// When the next one is started in place of one that died.
    restart: Option<Instant>,
    backoff: Backoff,
    restarts: u64,
    numbers: u64,
    /// Until when everything is to have ended, if it is to end.
    finish: Option<Instant>,
    events: (UnboundedSender<Event>, UnboundedReceiver<Event>),
}

impl<'a> Crew<'a> {
    /// With a first worker.
    pub(super) fn new(
        options: &'a KeeperOptions,
        listener: OwnedFd,
        metrics: OwnedFd,
        rules: Rules,
    ) -> Result<Self> {
        let mut crew = Self {
            options,
            listener,
            metrics,
            rules,
            current: None,
            old: Vec::new(),
            restart: None,
            backoff: Backoff::default(),
            restarts: 0,
            numbers: 0,
            finish: None,
            events: unbounded_channel(),
        };
        crew.start()?;
        Ok(crew)
    }

    /// What the workers read.
    pub(super) fn set(&self) -> &Set {
        &self.rules.set
    }

    /// Waits until a worker is ready, and looks after all of them meanwhile. Once it is time to finish it ends when all have
    /// ended: then it gives `None`.
    pub(super) async fn attend(&mut self) -> Option<()> {
        while !self.is_over() {
            let due = self.due();
            let event = tokio::select! {
                event = self.events.1.recv() => event,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => None,
            };
            match event {
                Some(Event::Ready(number)) => {
                    if self.current.as_ref().is_some_and(|current| current.number == number) {
                        self.takes_over();
                        return Some(());
                    }
                }
                Some(Event::Ended(number, status)) => {
                    let is_well = status.as_ref().is_ok_and(ExitStatus::success);
                    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                    self.ended(number, is_well, &status);
                }
                None => self.on_time(Instant::now()),
            }
        }
        None
    }

    /// Starts a worker that reads another set of maps. The one before takes connections until this one does.
    pub(super) fn replace(&mut self, rules: Rules) -> Result<()> {
        self.rules = rules;
        self.old.extend(self.current.take());
        self.start()
    }

    /// Ends when no connection is left, and takes new ones until then.
    pub(super) fn finish(&mut self) {
        let deadline = Instant::now() + self.patience();
        self.finish = Some(deadline);
        for worker in self.current.iter_mut().chain(&mut self.old) {
            worker.order(Order::Finish, deadline);
        }
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.options.drain)
    }

    fn is_over(&self) -> bool {
        self.finish.is_some() && self.current.is_none() && self.old.is_empty() && self.restart.is_none()
    }

    fn start(&mut self) -> Result<()> {
        self.restart = None;
        self.numbers += 1;
        let things = Things {
            listener: self.listener.as_fd(),
            metrics: self.metrics.as_fd(),
            lists: self.rules.lists.as_fd(),
            tables: &self.rules.tables,
            generation: self.rules.generation.as_ref().map(OwnedFd::as_fd),
        };
        let options = worker::options(self.options, self.restarts);
        let worker = Worker::start(self.numbers, &options, things, self.events.0.clone())?;
        self.current = Some(worker);
        Ok(())
    }

    /// The current worker takes connections.
    fn takes_over(&mut self) {
        let drained = Instant::now() + self.patience();
        for worker in &mut self.old {
            worker.order(Order::Drain, drained);
        }
        if let (Some(deadline), Some(current)) = (self.finish, &mut self.current) {
            current.order(Order::Finish, deadline);
        }
    }

    fn ended(&mut self, number: u64, is_well: bool, status: &str) {
        self.old.retain(|worker| worker.number != number);
        let Some(current) = self.current.take_if(|current| current.number == number) else {
            tracing::info!(status, "a worker that was replaced has ended");
            return;
        };
        if self.finish.is_some_and(|deadline| is_well || deadline <= Instant::now()) {
            tracing::info!(status, "the worker has ended");
            return;
        }
        let wait = self.backoff.after(current.started.elapsed());
        self.restarts += 1;
        tracing::error!(status, restarts = self.restarts, "the worker died, and another one is started");
        self.restart = Some(Instant::now() + wait);
    }

    /// When something is to be done next.
    fn due(&self) -> Option<Instant> {
        let deadlines = self.current.iter().chain(&self.old).filter_map(|worker| worker.deadline);
        deadlines.chain(self.restart).min()
    }

    fn on_time(&mut self, now: Instant) {
        for worker in self.current.iter_mut().chain(&mut self.old) {
            if worker.deadline.take_if(|deadline| *deadline <= now).is_some() {
                tracing::warn!("connections that did not end in time are cut off");
                worker.kill();
            }
        }
        if self.restart.is_some_and(|restart| restart <= now)
            && let Err(error) = self.start()
        {
            let wait = self.backoff.after(Duration::ZERO);
            tracing::error!("no worker could be started: {error:#}");
            self.restart = Some(now + wait);
        }
    }
}
