//! When a worker ends.

use std::time::{Duration, Instant};

use crate::handover::Order;

/// For how long nothing may have come before a worker that still accepts ends.
pub(crate) const QUIET: Duration = Duration::from_secs(1);

/// What a worker was told, and what it saw since.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    order: Option<Order>,
    /// Since when no connection is open.
    quiet: Option<Instant>,
}

impl Leaving {
    /// Obeys. Whoever was told to accept no more does not begin again.
    pub(crate) fn obey(&mut self, order: Order) {
        if self.order != Some(Order::Drain) {
            self.order = Some(order);
        }
    }

    /// Whether connections are still accepted.
    pub(crate) fn accepts(&self) -> bool {
        self.order != Some(Order::Drain)
    }

    /// Whether it is time to end, with so many connections open.
    pub(crate) fn is_over(&mut self, now: Instant, open: usize) -> bool {
        if open > 0 {
            self.quiet = None;
            return false;
        }
        let since = *self.quiet.get_or_insert(now);
        match self.order {
            None => false,
            Some(Order::Drain) => true,
            Some(Order::Finish) => now.duration_since(since) >= QUIET,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_order_it_goes_on_for_ever() {
        let (mut leaving, now) = (Leaving::default(), Instant::now());
        assert!(!leaving.is_over(now, 0) && !leaving.is_over(now + QUIET * 1000, 0) && leaving.accepts());
    }

    #[test]
    fn a_drained_worker_accepts_no_more_and_ends_with_its_last_connection() {
        let (mut leaving, now) = (Leaving::default(), Instant::now());
        leaving.obey(Order::Drain);
        leaving.obey(Order::Finish);
        assert!(!leaving.accepts() && !leaving.is_over(now, 1) && leaving.is_over(now, 0));
    }

    #[test]
    fn a_finishing_worker_accepts_until_nothing_has_come_for_a_while() {
        let (mut leaving, now) = (Leaving::default(), Instant::now());
        leaving.obey(Order::Finish);
        assert!(leaving.accepts() && !leaving.is_over(now, 0));
        assert!(!leaving.is_over(now + QUIET / 2, 1));
        assert!(!leaving.is_over(now + QUIET, 0));
        assert!(leaving.is_over(now + QUIET * 2, 0));
    }
}
