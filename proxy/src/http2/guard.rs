//! Floods of HTTP/2 are made of frames that cost their sender a few octets and carry none: they are counted here, before they
//! are read in earnest (CVE-2019-9511 to 9518, CVE-2023-44487, CVE-2024-27316).
//!
//! Windows are widened and pings are sent in proportion to what moves, so each KiB that has moved pays for one such frame.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::leg::Stream;
use crate::limits::Limits;

const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
const HEADER: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// The most CONTINUATION frames of one header block: a block that fits the limits needs two.
const MOST_CONTINUATIONS: u32 = 8;

/// What there is to see of a connection from outside.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    flooded: AtomicBool,
    moved: AtomicU64,
}

impl Meter {
    /// Whether its client floods it. Nothing more is read then.
    pub(crate) fn is_flooded(&self) -> bool {
        self.flooded.load(Ordering::Relaxed)
    }

    /// Octets that came and went.
    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }
}

/// Counts the frames that carry nothing.
#[derive(Debug)]
pub struct Frames {
    /// Octets until the next frame's header.
    skip: usize,
    header: [u8; HEADER],
    filled: usize,
    continuations: u32,
    has_flooded: bool,
    most: u64,
    control: u64,
}

impl Frames {
    /// Before a client's preface. More than `most` such frames are a flood.
    pub fn new(most: u32) -> Self {
        let most = u64::from(most);
        Frames {
            skip: PREFACE,
            header: [0; HEADER],
            filled: 0,
            continuations: 0,
            has_flooded: false,
            most,
            control: 0,
        }
    }

    /// Whether these octets, which come next, make a flood.
    pub fn flood(&mut self, mut octets: &[u8]) -> bool {
        while !octets.is_empty() {
            let skipped = self.skip.min(octets.len());
            self.skip -= skipped;
            octets = &octets[skipped..];
            let copied = (HEADER - self.filled).min(octets.len());
            self.header[self.filled..self.filled + copied].copy_from_slice(&octets[..copied]);
            self.filled += copied;
            octets = &octets[copied..];
            if self.filled == HEADER {
                self.filled = 0;
                self.count();
            }
        }
        self.control > self.most || self.has_flooded
    }

    /// So many octets have moved: each KiB pays for a frame.
    fn pay(&mut self, octets: u64) {
        self.control = self.control.saturating_sub(octets / 1024);
    }

    fn count(&mut self) {
        let [a, b, c, kind, ..] = self.header;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.skip = length;
        self.continuations = if kind == CONTINUATION { self.continuations + 1 } else { 0 };
        // However the octets fall into reads, and whatever comes behind them.
        self.has_flooded |= self.continuations > MOST_CONTINUATIONS;
        // Each block of headers is a request, of which there can be only so many at a time.
        let carries = match kind {
            DATA => length > 0,
            kind => kind == HEADERS,
        };
        self.control += u64::from(!carries);
    }
}

/// A client's stream, with what was read of it already, whose frames are counted.
#[derive(Debug)]
pub(crate) struct Guarded<S> {
    stream: S,
    read: BytesMut,
    frames: Frames,
    meter: Arc<Meter>,
    period: Duration,
    since: Instant,
    paid: u64,
}

impl<S: Stream> Guarded<S> {
    pub(crate) fn new(stream: S, read: BytesMut, limits: &Limits) -> (Self, Arc<Meter>) {
        let meter = Arc::new(Meter::default());
        let frames = Frames::new(limits.control_frames);
        let shared = Arc::clone(&meter);
        let since = Instant::now();
        (Guarded { stream, read, frames, meter: shared, period: limits.pace_time, since, paid: 0 }, meter)
    }

    fn look_at(&mut self, octets: &[u8]) {
        let moved = self.meter.moved.fetch_add(octets.len() as u64, Ordering::Relaxed) + octets.len() as u64;
        if !self.frames.flood(octets) {
            return;
        }
        // The clock is asked only now: most connections never come here.
        let now = Instant::now();
        if now - self.since >= self.period {
            self.frames.control = 0;
            self.since = now;
        }
        self.frames.pay(moved - self.paid);
        self.paid = moved;
        if self.frames.flood(&[]) {
            self.meter.flooded.store(true, Ordering::Relaxed);
        }
    }
}

impl<S: Stream> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.meter.is_flooded() {
            // The connection looks at the meter once it has nothing more to read.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if self.read.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        } else {
            let count = self.read.len().min(buffer.remaining());
            buffer.put_slice(&self.read[..count]);
            self.read.advance(count);
        }
        self.look_at(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(context, octets))?;
        self.meter.moved.fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, 0, 0, 0, 0, 1];
        frame.resize(HEADER + usize::from(length), 0);
        frame
    }

    fn floods(most: u32, frames: &[(u8, u8, usize)]) -> bool {
        let mut octets = vec![b'x'; PREFACE];
        for &(kind, length, times) in frames {
            octets.extend(frame(kind, length).repeat(times));
        }
        let whole = Frames::new(most).flood(&octets);
        let mut frames = Frames::new(most);
        let by_octet = octets.iter().fold(false, |_, octet| frames.flood(&[*octet]));
        assert_eq!(whole, by_octet);
        whole
    }

    #[test]
    fn frames_that_carry_nothing_are_counted_and_others_are_not() {
        assert!(!floods(10, &[(DATA, 1, 1000), (HEADERS, 20, 1000), (6, 8, 10)]));
        for kind in [2, 3, 4, 6, 7, 8, 99] {
            assert!(floods(10, &[(kind, 8, 11)]), "kind {kind}");
        }
        assert!(floods(10, &[(DATA, 0, 11)]));
    }

    #[test]
    fn a_block_of_headers_has_so_many_continuations() {
        assert!(!floods(
            1000,
            &[(HEADERS, 1, 1), (CONTINUATION, 0, 8), (HEADERS, 1, 1), (CONTINUATION, 1, 8)]
        ));
        assert!(floods(1000, &[(HEADERS, 1, 1), (CONTINUATION, 0, 9)]));
        assert!(floods(1000, &[(HEADERS, 1, 1), (CONTINUATION, 0, 9), (DATA, 1, 1)]));
    }
}
