//! Verdicts are counted exactly, and told as far as there is room.

use aya_ebpf::helpers::generated::bpf_jiffies64;
use datapath::event::{Count, Event, Report, Subject, Tally};
use datapath::verdict::Reason;

use crate::kernel::now;
use crate::maps::{self, COUNTERS, EVENTS, LIMITS, RECENT, Recent, TALLIES};

/// Counts a verdict, and sends an event unless the same was reported within the last second.
#[inline(never)]
pub fn report(report: &Report, subject: &Subject) {
    count(report, subject.length);
    let Some(packets) = news(report, subject) else { return };
    if !within(0, maps::settings().events) {
        tally(Tally::EventsLimited);
        return;
    }
    let Some(mut room) = EVENTS.reserve(0) else {
        tally(Tally::EventsLost);
        return;
    };
    // SAFETY: the helper takes nothing and cannot fail.
    let time = unsafe { bpf_jiffies64() };
    let rejected = report.cause == Reason::RuleRejects.into();
    room.write(Event::new(time, report, subject, packets, rejected));
    room.submit(0);
}

#[inline(always)]
fn count(report: &Report, length: u32) {
    let key = report.counter();
    let bytes = u64::from(length);
    if let Some(count) = COUNTERS.get_ptr_mut(key) {
        // SAFETY: the value is this CPU's own, and classifiers are not interrupted by each other on one CPU.
        unsafe {
            (*count).packets += 1;
            (*count).bytes += bytes;
        }
    } else if COUNTERS.insert(key, Count { packets: 1, bytes }, 0).is_err() {
        tally(Tally::Uncounted);
    }
}

/// How many packets to tell of now, if any: each of a kind is told once a second.
#[inline(always)]
fn news(report: &Report, subject: &Subject) -> Option<u32> {
    let hash = hash(report, subject);
    let slot = RECENT.get_ptr_mut(hash & (Recent::SLOTS as u32 - 1))?;
    // SAFETY: as in `count`.
    let slot = unsafe { &mut *slot };
    let now = now();
    let same = slot.hash == hash;
    if same && now.wrapping_sub(slot.reported) < maps::settings().second {
        slot.packets += 1;
        return None;
    }
    let packets = if same { slot.packets + 1 } else { 1 };
    *slot = Recent { hash, reported: now, packets: 0 };
    Some(packets)
}

/// Whether one more fits into this second.
#[inline(always)]
pub fn within(limit: u32, most: u32) -> bool {
    let Some(used) = LIMITS.get_ptr_mut(limit) else { return false };
    // SAFETY: as in `count`.
    let used = unsafe { &mut *used };
    let now = now();
    if now.wrapping_sub(used.began) >= maps::settings().second {
        used.began = now;
        used.used = 0;
    }
    if used.used >= most {
        return false;
    }
    used.used += 1;
    true
}

/// Counts something about the programs themselves.
#[inline(always)]
pub fn tally(tally: Tally) {
    if let Some(count) = TALLIES.get_ptr_mut(tally as u32) {
        // SAFETY: as in `count`.
        unsafe { *count += 1 };
    }
}

/// A hash of what is reported, of whom and why (the mixing step is that of FNV-1a on words).
#[inline(always)]
fn hash(report: &Report, subject: &Subject) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    let mut mix = |word: u32| hash = (hash ^ word).wrapping_mul(0x0100_0193);
    let word = |bytes: &[u8; 16], at: usize| {
        u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    mix(report.interface << 1 | u32::from(report.direction));
    mix(u32::from(report.cause.number()) << 8 | u32::from(subject.protocol));
    mix(u32::from(subject.source_port) << 16 | u32::from(subject.destination_port));
    mix(word(&subject.source, 0) ^ word(&subject.source, 4));
    mix(word(&subject.source, 8) ^ word(&subject.source, 12));
    mix(word(&subject.destination, 0) ^ word(&subject.destination, 4));
    mix(word(&subject.destination, 8) ^ word(&subject.destination, 12));
    hash ^ hash >> 15
}
