//! When to ask which peer again: no notification is sure to come from another namespace. Pure: time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const SHORTEST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(256);
/// A peer that reports changes faster is asked no oftener: what happens there is not in the node's hands.
const APART: Duration = Duration::from_millis(5);

/// What an answer means for the next question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// All is known, and changes will be heard of.
    Settled,
    /// All is known, but more might follow unheard: goes on to the end of the backoff.
    Unsure,
    /// There is something to wait for.
    Incomplete,
}

/// Interfaces whose peer is to be asked, in order of time.
#[derive(Debug)]
pub(super) struct Polls {
    give_up_after: Duration,
    due: BTreeSet<(Instant, u32)>,
    of: BTreeMap<u32, Poll>,
}

#[derive(Clone, Copy, Debug)]
struct Poll {
    at: Option<Instant>,
    last: Option<Instant>,
    next_delay: Duration,
    /// None: the next answer is the last, whatever it is.
    since: Option<Instant>,
}

impl Polls {
    pub(super) fn new(give_up_after: Duration) -> Self {
        Self { give_up_after, due: BTreeSet::new(), of: BTreeMap::new() }
    }

    /// Asks now, then with growing delays until the answer is complete or too much time has passed.
    pub(super) fn start(&mut self, interface: u32, now: Instant) {
        self.ask(interface, now, |poll| {
            poll.next_delay = SHORTEST;
            poll.since = Some(now);
        });
    }

    /// Asks once, without disturbing what is under way.
    pub(super) fn once(&mut self, interface: u32, now: Instant) {
        self.ask(interface, now, |_| {});
    }

    pub(super) fn forget(&mut self, interface: u32) {
        if let Some(at) = self.of.remove(&interface).and_then(|poll| poll.at) {
            self.due.remove(&(at, interface));
        }
    }

    /// Forgets all but those that `keep` knows.
    pub(super) fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        self.of.retain(|interface, _| keep(*interface));
        self.due.retain(|(_, interface)| keep(*interface));
    }

    /// Lets the next incomplete answer be followed by further questions, if none would be.
    pub(super) fn persist(&mut self, interface: u32, now: Instant) {
        if let Some(poll) = self.of.get_mut(&interface).filter(|poll| poll.since.is_none()) {
            poll.next_delay = SHORTEST;
            poll.since = Some(now);
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes what is due, at most `limit`. Each must be reported to [`Self::answered`] or forgotten.
    pub(super) fn take(&mut self, now: Instant, limit: usize) -> Vec<u32> {
        let taken: Vec<(Instant, u32)> =
            self.due.iter().take_while(|(at, _)| *at <= now).take(limit).copied().collect();
        for entry in &taken {
            self.due.remove(entry);
            if let Some(poll) = self.of.get_mut(&entry.1) {
                poll.at = None;
                poll.last = Some(now);
            }
        }
        taken.into_iter().map(|(_, interface)| interface).collect()
    }

    pub(super) fn answered(&mut self, interface: u32, answer: Answer, now: Instant) {
        let Some(poll) = self.of.get_mut(&interface) else { return };
        let Some(since) = poll.since else { return };
        let top = poll.next_delay >= LONGEST;
        let over = match answer {
            Answer::Settled => true,
            Answer::Unsure => top,
            Answer::Incomplete => now.duration_since(since) >= self.give_up_after,
        };
        if over {
            poll.since = None;
        } else if poll.at.is_none() {
            let at = now + poll.next_delay;
            poll.next_delay = (poll.next_delay * 2).min(LONGEST);
            poll.at = Some(at);
            self.due.insert((at, interface));
        }
    }

    fn ask(&mut self, interface: u32, now: Instant, change: impl FnOnce(&mut Poll)) {
        let none = Poll { at: None, last: None, next_delay: SHORTEST, since: None };
        let poll = self.of.entry(interface).or_insert(none);
        change(poll);
        let at = poll.last.map_or(now, |last| now.max(last + APART));
        if let Some(planned) = poll.at {
            if planned <= at {
                return;
            }
            self.due.remove(&(planned, interface));
        }
        poll.at = Some(at);
        self.due.insert((at, interface));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds after `start` at which interface 7 is asked, always with the same answer.
    fn asked(polls: &mut Polls, start: Instant, answer: Answer) -> Vec<u128> {
        let mut times = Vec::new();
        while let Some(at) = polls.next() {
            assert_eq!(polls.take(at, 10), [7]);
            times.push(at.duration_since(start).as_millis());
            polls.answered(7, answer, at);
        }
        times
    }

    #[test]
    fn an_incomplete_answer_is_asked_for_with_doubling_delays_until_time_is_up() {
        let now = Instant::now();
        let mut polls = Polls::new(Duration::from_secs(1));
        polls.start(7, now);
        let times = asked(&mut polls, now, Answer::Incomplete);
        assert_eq!(times, [0, 2, 6, 14, 30, 62, 126, 254, 510, 766, 1022]);
    }

    #[test]
    fn an_unsure_answer_is_asked_for_to_the_end_of_the_backoff_and_a_settled_one_no_more() {
        let now = Instant::now();
        let mut polls = Polls::new(Duration::from_mins(1));
        polls.start(7, now);
        assert_eq!(asked(&mut polls, now, Answer::Unsure), [0, 2, 6, 14, 30, 62, 126, 254]);
        let later = now + Duration::from_secs(10);
        polls.start(7, later);
        assert_eq!(asked(&mut polls, later, Answer::Settled), [0]);
        polls.once(7, later + Duration::from_secs(1));
        assert_eq!(asked(&mut polls, later, Answer::Incomplete), [1000]);
    }

    #[test]
    fn one_interface_is_not_asked_oftener_than_every_five_milliseconds_by_its_own_doing() {
        let now = Instant::now();
        let mut polls = Polls::new(Duration::from_secs(1));
        polls.once(7, now);
        assert_eq!(polls.take(now, 10), [7]);
        polls.once(7, now + Duration::from_millis(1));
        polls.once(7, now + Duration::from_millis(2));
        assert_eq!(polls.next(), Some(now + APART));
        polls.retain(|interface| interface != 7);
        assert_eq!(polls.next(), None);
    }
}
