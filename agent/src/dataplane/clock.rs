//! The clock of the programs: jiffies, cut to 32 bits.
//!
//! User space cannot read jiffies, so a program of the object writes them into the frame on which it is run by
//! `BPF_PROG_TEST_RUN`. How many
//! there are in a second is measured once, from the edge of one tick to the edge of another.

use std::thread;
use std::time::{Duration, Instant};

use super::error::Error;
use super::programs::Program;
use super::sys;

/// What kernels are configured with (`kernel/Kconfig.hz`, and 1024 and 1200 of some machines).
const RATES: [u32; 6] = [100, 250, 300, 1000, 1024, 1200];
/// For how long ticks are counted: 5 of them at the slowest rate.
const MEASURED: Duration = Duration::from_millis(50);
/// Between two looks at the clock, far less than a tick.
const PAUSE: Duration = Duration::from_micros(50);
/// No tick is this long: the clock stands still.
const PATIENCE: Duration = Duration::from_secs(2);

/// The smallest frame that the kernel runs a classifier on: an Ethernet header.
const FRAME: [u8; 14] = [0; 14];

/// The time now, in ticks.
pub(super) fn now(clock: &Program) -> Result<u32, Error> {
    let mut out = FRAME;
    sys::run_into(clock.fd(), &FRAME, &mut out)
        .map_err(|error| Error::Clock(format!("cannot be run: {error}")))?;
    let [a, b, c, d, ..] = out;
    Ok(u32::from_ne_bytes([a, b, c, d]))
}

/// Ticks a second.
pub(super) fn rate(clock: &Program) -> Result<u32, Error> {
    let (first, begin) = edge(clock)?;
    thread::sleep(MEASURED);
    let (last, end) = edge(clock)?;
    let ticks = f64::from(last.wrapping_sub(first));
    nearest(ticks / end.duration_since(begin).as_secs_f64()).ok_or_else(|| {
        Error::Clock(format!("{ticks} ticks in {:?}, expected one of {RATES:?} a second", end - begin))
    })
}

/// The rate that comes closest, if one does within a tenth.
fn nearest(measured: f64) -> Option<u32> {
    let off = |rate: &u32| (f64::from(*rate) - measured).abs() / f64::from(*rate);
    RATES.into_iter().min_by(|a, b| off(a).total_cmp(&off(b))).filter(|rate| off(rate) < 0.1)
}

/// Waits until the tick changes.
fn edge(clock: &Program) -> Result<(u32, Instant), Error> {
    let (before, begin) = (now(clock)?, Instant::now());
    while begin.elapsed() < PATIENCE {
        let tick = now(clock)?;
        if tick != before {
            return Ok((tick, Instant::now()));
        }
        thread::sleep(PAUSE);
    }
    Err(Error::Clock(format!("no tick in {PATIENCE:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measured_rate_is_one_of_those_that_kernels_have() {
        for (measured, rate) in [
            (98.3, Some(100)),
            (251.0, Some(250)),
            (296.0, Some(300)),
            (1003.0, Some(1000)),
            (600.0, None),
            (0.0, None),
        ] {
            assert_eq!(nearest(measured), rate, "{measured}");
        }
    }
}
