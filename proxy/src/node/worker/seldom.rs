//! Complaints that would otherwise come once a request.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often one is worth a line.
const EVERY: Duration = Duration::from_secs(10);

/// When something was last complained of.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// Whether it is time for a complaint; if so, this is it.
    pub(crate) fn is_due(&self) -> bool {
        self.is_due_at(Instant::now())
    }

    fn is_due_at(&self, now: Instant) -> bool {
        // Whoever holds it does no more than this.
        let Ok(mut last) = self.0.try_lock() else { return false };
        let due = last.is_none_or(|last| now.duration_since(last) >= EVERY);
        if due {
            *last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_complaint_in_a_while_is_enough() {
        let (seldom, now) = (Seldom::default(), Instant::now());
        assert!(seldom.is_due_at(now));
        assert!(!seldom.is_due_at(now + EVERY / 2));
        assert!(seldom.is_due_at(now + EVERY));
    }
}
