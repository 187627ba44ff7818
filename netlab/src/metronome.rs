//! A numbered datagram every millisecond: when exactly was the way open?

use std::net::{SocketAddr, UdpSocket};
use std::ops::{Range, RangeInclusive};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use crate::address::Family;
use crate::host::Host;
use crate::namespace::Task;
use crate::packet::Arrival;
use crate::sniffer::Tap;
use crate::stop::Stop;

/// The time between two datagrams.
const INTERVAL: Duration = Duration::from_millis(1);
/// After so many datagrams, ten minutes, it ends by itself.
const LONGEST: usize = 600_000;
/// How long a datagram that was sent may take to arrive before it counts as dropped.
const LAST_ARRIVAL: Duration = Duration::from_millis(50);

/// A sender at one host and a sniffer at another. Whether anyone listens at the port is of no importance.
#[derive(Debug)]
pub struct Metronome {
    stop: Stop,
    sender: Option<Task<Sent>>,
    receiver: Tap,
    arrived: Arc<Mutex<Vec<(u64, Instant)>>>,
}

/// When each datagram was sent, by number.
#[derive(Debug, Default)]
struct Sent {
    at: Vec<Instant>,
    /// Datagrams that the sender's own kernel refused, such as for want of a route.
    refused: u64,
}

/// What was sent, and what of it arrived.
#[derive(Debug)]
pub struct MetronomeReport {
    sent: Vec<Instant>,
    refused: u64,
    /// By number of the datagram, when it arrived first.
    arrived: Vec<Option<Instant>>,
}

/// A time in which nothing arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The numbers of the datagrams that are missing.
    pub missing: RangeInclusive<usize>,
    /// From the sending of the first one that is missing to that of the next one that arrived, or of the last at all.
    pub length: Duration,
}

impl Metronome {
    /// Starts to send from one host to this UDP port of another. The sender may be a sandbox that has no interface yet;
    /// the receiver has to have its `eth0`.
    pub fn start(from: &dyn Host, to: &dyn Host, family: Family, port: u16) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        // Other metronomes, those of other processes included, are told apart by this.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let tag =
            [b"metronom".as_slice(), &u64::from(std::process::id()).to_be_bytes(), &number.to_be_bytes()]
                .concat();
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let (seen, marker) = (Arc::clone(&arrived), tag.clone());
        let receiver = Tap::start(to, "eth0", move |packet, now| {
            if packet.arrival != Arrival::Outgoing
                && let Some(sequence) = sequence_in(packet.frame, &marker)
            {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                // Each can arrive more than once, flooded and directed: that is bounded too.
                if seen.len() < 4 * LONGEST {
                    seen.push((sequence, now));
                }
            }
        })?;
        let stop = Stop::new()?;
        let stopped = stop.clone();
        let to = SocketAddr::new(to.address(family), port);
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = from.namespace().run(|| UdpSocket::bind(any).context("cannot make a UDP socket"))?;
        let sender = from.namespace().spawn(move || send(&socket, to, &tag, &stopped))?;
        Ok(Self { stop, sender: Some(sender), receiver, arrived })
    }

    /// Stops, waits for the last datagram to arrive, and says what did.
    ///
    /// # Errors
    ///
    /// If the sniffer failed or lost frames: then the report would prove nothing.
    pub fn stop(mut self) -> Result<MetronomeReport> {
        self.stop.stop()?;
        let sent = self.sender.take().ok_or_else(|| anyhow!("a metronome stops once"))?.join()?;
        let deadline = Instant::now() + Duration::from_secs(5);
        thread::sleep(LAST_ARRIVAL);
        while !self.receiver.is_idle()? {
            ensure!(
                Instant::now() < deadline,
                "a metronome's receiver does not come to an end of what arrived"
            );
            thread::sleep(INTERVAL);
        }
        self.receiver.check()?;
        let mut arrived = vec![None; sent.at.len()];
        for (sequence, when) in self.arrived.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let slot = usize::try_from(*sequence).ok().and_then(|sequence| arrived.get_mut(sequence));
            let slot: &mut Option<Instant> = slot.context("a datagram arrived that was never sent")?;
            slot.get_or_insert(*when);
        }
        Ok(MetronomeReport { sent: sent.at, refused: sent.refused, arrived })
    }
}

impl Drop for Metronome {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take()
            && let Err(error) = self.stop.stop().and_then(|()| sender.join())
        {
            eprintln!("netlab: a metronome: {error:#}");
        }
    }
}

impl MetronomeReport {
    /// How many datagrams were sent.
    pub fn sent(&self) -> usize {
        self.sent.len()
    }

    /// How many of them arrived.
    pub fn arrived(&self) -> usize {
        self.arrived.iter().flatten().count()
    }

    /// How many the sender's own kernel refused to send, such as for want of a route.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The numbers of those that arrived, as ranges.
    pub fn delivered(&self) -> Vec<RangeInclusive<usize>> {
        runs(&self.arrived, Option::is_some)
    }

    /// The times without an arrival that are at least so long.
    pub fn gaps(&self, at_least: Duration) -> Vec<Gap> {
        let gap = |missing: RangeInclusive<usize>| {
            let end = self.sent.get(missing.end() + 1).or(self.sent.last());
            let length =
                end.map_or(Duration::ZERO, |end| end.saturating_duration_since(self.sent[*missing.start()]));
            Gap { missing, length }
        };
        runs(&self.arrived, Option::is_none)
            .into_iter()
            .map(gap)
            .filter(|gap| gap.length >= at_least)
            .collect()
    }

    /// In how many milliseconds of this time a datagram was sent that arrived. While the way should be closed, this has
    /// to be 0.
    pub fn open_ms(&self, during: Range<Instant>) -> u64 {
        let mut last = None;
        let mut open = 0;
        for sent in self.delivered_at().filter(|sent| during.contains(sent)) {
            let millisecond = sent.duration_since(during.start).as_millis();
            if last.replace(millisecond) != Some(millisecond) {
                open += 1;
            }
        }
        open
    }

    /// From the beginning of this time on, how long until the last datagram was sent that still arrived? Nothing, if
    /// none did. After a change that closes the way, this is how long the change took.
    pub fn open_until(&self, during: Range<Instant>) -> Option<Duration> {
        self.delivered_at().filter(|sent| during.contains(sent)).last().map(|sent| sent - during.start)
    }

    /// From the beginning of this time on, how long until the first datagram was sent that arrived? Nothing, if none
    /// did. After a change that opens the way, this is how long the change took.
    pub fn closed_until(&self, during: Range<Instant>) -> Option<Duration> {
        self.delivered_at().find(|sent| during.contains(sent)).map(|sent| sent - during.start)
    }

    /// How long the datagrams were on their way, from the shortest time to the longest.
    pub fn delays(&self) -> Vec<Duration> {
        let both = self.sent.iter().zip(&self.arrived);
        let mut delays: Vec<_> =
            both.filter_map(|(sent, arrived)| Some((*arrived)?.saturating_duration_since(*sent))).collect();
        delays.sort_unstable();
        delays
    }

    fn delivered_at(&self) -> impl Iterator<Item = Instant> + '_ {
        self.sent.iter().zip(&self.arrived).filter(|(_, arrived)| arrived.is_some()).map(|(sent, _)| *sent)
    }
}

fn send(socket: &UdpSocket, to: SocketAddr, tag: &[u8], stop: &Stop) -> Result<Sent> {
    // A full send buffer would make the sender late; a datagram that does not fit is one that was refused.
    socket.set_nonblocking(true)?;
    setsockopt(socket, sockopt::SndBuf, &(1 << 20)).context("SO_SNDBUF")?;
    let mut sent = Sent::default();
    let mut next = Instant::now();
    while sent.at.len() < LONGEST {
        let payload = [tag, &u64::try_from(sent.at.len())?.to_be_bytes()].concat();
        sent.at.push(Instant::now());
        if socket.send_to(&payload, to).is_err() {
            sent.refused += 1;
        }
        // What is late is not made up for: a burst says no more about when the way was open than one datagram.
        next = (next + INTERVAL).max(Instant::now());
        if pause(stop, next)? {
            break;
        }
    }
    Ok(sent)
}

/// Waits until a moment with the precision of a timer, which poll(2) does not have. True if it is time to stop.
fn pause(stop: &Stop, until: Instant) -> Result<bool> {
    thread::sleep(until.saturating_duration_since(Instant::now()));
    stop.is_given()
}

fn sequence_in(frame: &[u8], tag: &[u8]) -> Option<u64> {
    let start = frame.windows(tag.len()).position(|window| window == tag)?;
    frame.get(start + tag.len()..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

fn runs<T>(items: &[T], belongs: impl Fn(&T) -> bool) -> Vec<RangeInclusive<usize>> {
    let mut runs: Vec<RangeInclusive<usize>> = Vec::new();
    for (index, _) in items.iter().enumerate().filter(|(_, item)| belongs(item)) {
        match runs.last_mut() {
            Some(run) if run.end() + 1 == index => *run = *run.start()..=index,
            _ => runs.push(index..=index),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_by_the_time_of_sending() {
        let start = Instant::now();
        let sent: Vec<_> = (0..10).map(|n| start + INTERVAL * n).collect();
        let arrived =
            sent.iter().enumerate().map(|(n, at)| (!(3..=5).contains(&n)).then_some(*at + INTERVAL));
        let report = MetronomeReport { arrived: arrived.collect(), sent, refused: 0 };
        assert_eq!(report.delivered(), [0..=2, 6..=9]);
        assert_eq!(report.gaps(INTERVAL), [Gap { missing: 3..=5, length: 3 * INTERVAL }]);
        assert_eq!(report.gaps(4 * INTERVAL), []);
        assert_eq!(report.open_ms(start + 3 * INTERVAL..start + 6 * INTERVAL), 0);
        assert_eq!(report.open_ms(start..start + 100 * INTERVAL), 7);
        assert_eq!(report.open_until(start + INTERVAL..start + 7 * INTERVAL), Some(5 * INTERVAL));
        assert_eq!(report.closed_until(start + 3 * INTERVAL..start + 9 * INTERVAL), Some(3 * INTERVAL));
        assert_eq!(report.closed_until(start + 3 * INTERVAL..start + 6 * INTERVAL), None);
    }
}
