//! How long a worker that died stays dead.

use std::time::Duration;

/// The first time: nobody notices.
const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);
/// Whoever lived so long died of something new.
const HEALTHY: Duration = Duration::from_secs(5);

/// What is known of deaths.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// How long to wait after the death of one that lived so long.
    pub(super) fn after(&mut self, lived: Duration) -> Duration {
        let wait = match self.last {
            Some(last) if lived < HEALTHY => (last * 2).min(LONGEST),
            _ => FIRST,
        };
        self.last = Some(wait);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_death_costs_nothing_and_many_in_a_row_a_second_each() {
        let mut backoff = Backoff::default();
        let mut waits = (0..9).map(|_| backoff.after(Duration::ZERO).as_millis()).collect::<Vec<_>>();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        waits.clear();
        assert_eq!(backoff.after(HEALTHY), FIRST);
    }
}
