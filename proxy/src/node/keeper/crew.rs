//! The worker, and the next one when it dies.

use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::worker::{self, Event, Things, Worker};
use crate::handover::Rules;
use crate::options::KeeperOptions;

/// All workers of a keeper, one after the other.
pub(super) struct Crew<'a> {
    options: &'a KeeperOptions,
    listener: OwnedFd,
    metrics: OwnedFd,
    /// What workers judge by.
    rules: Arc<Rules>,
    current: Option<Worker>,
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
            rules: Arc::new(rules),
            current: None,
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
                    if let Some(current) = self.current.as_mut().filter(|current| current.number == number) {
                        if let Some(deadline) = self.finish {
                            current.finish(deadline);
                        }
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

    /// Has workers judge by these from now on.
    pub(super) fn follow(&mut self, rules: Rules) {
        self.rules = Arc::new(rules);
        if let Some(current) = &self.current {
            current.follow(Arc::clone(&self.rules));
        }
    }

    /// Ends when no connection is left, and takes new ones until then.
    pub(super) fn finish(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(self.options.drain);
        self.finish = Some(deadline);
        if let Some(current) = &mut self.current {
            current.finish(deadline);
        }
    }

    fn is_over(&self) -> bool {
        self.finish.is_some() && self.current.is_none() && self.restart.is_none()
    }

    fn start(&mut self) -> Result<()> {
        self.restart = None;
        self.numbers += 1;
        let things =
            Things { listener: self.listener.as_fd(), metrics: self.metrics.as_fd(), rules: &self.rules };
        let options = worker::options(self.options, self.restarts);
        let worker = Worker::start(self.numbers, &options, things, self.events.0.clone())?;
        self.current = Some(worker);
        Ok(())
    }

    fn ended(&mut self, number: u64, is_well: bool, status: &str) {
        let Some(current) = self.current.take_if(|current| current.number == number) else { return };
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
        let deadline = self.current.as_ref().and_then(|worker| worker.deadline);
        deadline.into_iter().chain(self.restart).min()
    }

    fn on_time(&mut self, now: Instant) {
        if let Some(worker) = &mut self.current
            && worker.deadline.take_if(|deadline| *deadline <= now).is_some()
        {
            tracing::warn!("connections that did not end in time are cut off");
            worker.kill();
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
