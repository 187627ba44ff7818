//! When a worker ends.

use std::time::{Duration, Instant};

/// For how long nothing may have come before a worker that is to finish ends.
pub(crate) const QUIET: Duration = Duration::from_secs(1);

/// What a worker was told, and what it saw since.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    is_told: bool,
    /// Since when no connection is open.
    quiet: Option<Instant>,
}

impl Leaving {
    /// It is to end when nothing comes any more.
    pub(crate) fn finish(&mut self) {
        self.is_told = true;
    }

    /// Whether it is time to end, with so many connections open.
    pub(crate) fn is_over(&mut self, now: Instant, open: usize) -> bool {
        if open > 0 {
            self.quiet = None;
            return false;
        }
        let since = *self.quiet.get_or_insert(now);
        self.is_told && now.duration_since(since) >= QUIET
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_order_it_goes_on_for_ever() {
        let (mut leaving, now) = (Leaving::default(), Instant::now());
        assert!(!leaving.is_over(now, 0) && !leaving.is_over(now + QUIET * 1000, 0));
    }

    #[test]
    fn a_finishing_worker_goes_on_until_nothing_has_come_for_a_while() {
        let (mut leaving, now) = (Leaving::default(), Instant::now());
        leaving.finish();
        assert!(!leaving.is_over(now, 0));
        assert!(!leaving.is_over(now + QUIET / 2, 1));
        assert!(!leaving.is_over(now + QUIET, 0));
        assert!(leaving.is_over(now + QUIET * 2, 0));
    }
}
