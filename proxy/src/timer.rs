//! One timer for a connection's whole life.
//!
//! Putting off what it waits for costs nothing: it notices when it goes off too early, and goes on. So the requests of a busy
//! connection touch the runtime's timer wheel once in many seconds.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline that can be moved.
#[derive(Debug)]
pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
    due: Instant,
    early: bool,
}

impl Timer {
    pub(crate) fn new(wait: Duration) -> Self {
        let due = Instant::now() + wait;
        Timer { sleep: Box::pin(sleep_until(due)), due, early: false }
    }

    /// Is due so long after `now`.
    pub(crate) fn set(&mut self, now: Instant, wait: Duration) {
        self.due = now + wait;
        if self.due < self.sleep.deadline() {
            self.sleep.as_mut().reset(self.due);
        }
    }

    /// Whether it is due.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(context));
            if self.sleep.deadline() >= self.due {
                return Poll::Ready(());
            }
            self.early = true;
            self.sleep.as_mut().reset(self.due);
        }
    }

    /// Whether it went off too early since this was last asked: so some time has passed, which nobody needed to measure.
    pub(crate) fn went_off_early(&mut self) -> bool {
        std::mem::take(&mut self.early)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_moves_both_ways() {
        let begin = Instant::now();
        let mut timer = Timer::new(Duration::from_secs(10));
        timer.set(begin, Duration::from_secs(30));
        poll_fn(|context| timer.poll(context)).await;
        assert_eq!(begin.elapsed().as_secs(), 30);
        timer.set(Instant::now(), Duration::from_mins(1));
        timer.set(Instant::now(), Duration::from_secs(5));
        poll_fn(|context| timer.poll(context)).await;
        assert_eq!(begin.elapsed().as_secs(), 35);
    }
}
