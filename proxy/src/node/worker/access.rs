//! The access log: a line of JSON for each request, on standard output.
//!
//! ```text
//! requests ──a line each──> buffer ──when it is full, or a moment after its first line──> thread ──> standard output
//! ```
//!
//! A request never waits for whoever reads the log: lines that do not fit are counted and lost. Lines are gathered, as waking a
//! thread and writing cost more than all else that is done for the log. Several workers may write to one pipe, so what is
//! written at a time is whole lines, and no more than the kernel takes in one piece (`PIPE_BUF`, pipe(7)).

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use proxy_api::request::Request;

/// How long lines are gathered at most.
const GATHER: Duration = Duration::from_millis(200);
/// How much is gathered.
const FULL: usize = 64 << 10;
/// How much may wait for a slow reader.
const MOST: usize = 2 << 20;
/// What is written at a time.
const PIECE: usize = 4096;

/// The log.
#[derive(Debug)]
pub(crate) struct Access {
    desk: Arc<Desk>,
    lost: Counter,
}

/// What is between requests and the thread that writes.
#[derive(Debug, Default)]
struct Desk {
    state: Mutex<State>,
    /// The state is another one.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    /// Nothing more comes.
    is_over: bool,
    /// Nothing more is written: all of it was, or nobody takes it.
    has_ended: bool,
}

impl Access {
    /// A log that is written by a thread of its own. What it loses is counted.
    pub(crate) fn new(lost: Counter) -> io::Result<Self> {
        Self::over(io::stdout(), lost)
    }

    fn over(output: impl Write + Send + 'static, lost: Counter) -> io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let of_thread = Arc::clone(&desk);
        thread::Builder::new().name("access-log".to_owned()).spawn(move || write(&of_thread, output))?;
        Ok(Self { desk, lost })
    }

    /// Puts a line into the log.
    pub(crate) fn write(&self, request: &Request<'_>) {
        let mut state = self.desk.lock();
        let before = state.lines.len();
        if before >= MOST || state.has_ended {
            self.lost.inc();
            return;
        }
        if let Err(error) = serde_json::to_writer(&mut state.lines, request) {
            // Strings and numbers: there is nothing that JSON could not say.
            tracing::error!(%error, "a request cannot be told");
            state.lines.truncate(before);
            self.lost.inc();
            return;
        }
        state.lines.push(b'\n');
        let is_due = before == 0 || before < FULL && state.lines.len() >= FULL;
        drop(state);
        if is_due {
            self.desk.changed.notify_all();
        }
    }

    /// Writes what was gathered, and takes no more: to be called at the end. Does not wait for a reader that is stuck.
    pub(crate) fn finish(&self) {
        let mut state = self.desk.lock();
        state.is_over = true;
        self.desk.changed.notify_all();
        let ended = self.desk.changed.wait_timeout_while(state, GATHER * 5, |state| !state.has_ended);
        if ended.is_ok_and(|(_, timeout)| timeout.timed_out()) {
            tracing::warn!("the last lines of the access log are lost: its reader does not take them");
        }
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What is done under it is done to whole lines.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until lines are to be written; `None` if there are none, and none will come.
    fn take(&self) -> Option<Vec<u8>> {
        let idle = |state: &mut State| state.lines.is_empty() && !state.is_over;
        let filling = |state: &mut State| state.lines.len() < FULL && !state.is_over;
        let state = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let gathered = self.changed.wait_timeout_while(state, GATHER, filling);
        let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        Some(mem::take(&mut state.lines)).filter(|lines| !lines.is_empty())
    }
}

fn write(desk: &Desk, mut output: impl Write) {
    while let Some(lines) = desk.take() {
        let mut pieces = pieces(&lines);
        if let Err(error) = pieces.try_for_each(|piece| output.write_all(piece)).and_then(|()| output.flush())
        {
            tracing::error!(%error, "the access log ends here");
            break;
        }
    }
    desk.lock().has_ended = true;
    desk.changed.notify_all();
}

/// Whole lines, as many as fit a piece; a line that is longer is one by itself.
fn pieces(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = lines;
    std::iter::from_fn(move || {
        let within = rest.get(..PIECE).unwrap_or(rest);
        let end = memchr::memrchr(b'\n', within).or_else(|| memchr::memchr(b'\n', rest));
        let (piece, others) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
        rest = others;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proxy_api::request::{Outcome, Protocol};

    use super::*;

    /// Keeps what is written, piece by piece.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Paper {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(octets.to_vec());
            Ok(octets.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Takes nothing until it is let go.
    struct Stuck(Arc<Mutex<()>>);

    impl Write for Stuck {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            let _held = self.0.lock().unwrap();
            Ok(octets.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn request(path: &str) -> Request<'_> {
        Request {
            time: "2026-01-02T03:04:05Z".parse().unwrap(),
            client: ([10, 0, 0, 1], 4000).into(),
            server: ([10, 0, 0, 2], 80).into(),
            protocol: Protocol::Http1,
            method: "GET".into(),
            host: "shop".into(),
            path: path.into(),
            status: Some(200),
            outcome: Outcome::Allowed,
            fault: None,
            reason: None,
            rule_set: None,
            rank: None,
            generation: 1,
            seconds: 0.0,
        }
    }

    #[test]
    fn lines_are_gathered_and_none_is_lost_at_the_end() {
        let (paper, lost) = (Paper::default(), Counter::default());
        let access = Access::over(paper.clone(), lost.clone()).unwrap();
        for number in 0..100 {
            access.write(&request(&format!("/{number}")));
        }
        access.finish();
        let pieces = paper.0.lock().unwrap();
        assert!(
            pieces.len() < 20 && pieces.iter().all(|piece| piece.len() <= PIECE && piece.ends_with(b"\n"))
        );
        let text = String::from_utf8(pieces.concat()).unwrap();
        assert_eq!(text.lines().count(), 100);
        assert!(
            text.lines().enumerate().all(|(number, line)| line.contains(&format!("\"path\":\"/{number}\"")))
        );
        assert_eq!(lost.get(), 0);
    }

    #[test]
    fn a_line_is_written_a_moment_after_it_came() {
        let paper = Paper::default();
        let access = Access::over(paper.clone(), Counter::default()).unwrap();
        let begun = Instant::now();
        access.write(&request("/a"));
        while paper.0.lock().unwrap().is_empty() {
            assert!(begun.elapsed() < GATHER * 20);
            thread::sleep(GATHER / 20);
        }
    }

    #[test]
    fn what_a_stuck_reader_does_not_take_is_counted_and_delays_nobody() {
        let (gate, lost) = (Arc::new(Mutex::new(())), Counter::default());
        let held = gate.lock().unwrap();
        let access = Access::over(Stuck(Arc::clone(&gate)), lost.clone()).unwrap();
        let path = "/".repeat(1 << 16);
        while lost.get() < 3 {
            access.write(&request(&path));
        }
        access.finish();
        drop(held);
    }

    #[test]
    fn a_piece_is_whole_lines() {
        let long = vec![b'x'; PIECE * 2];
        let lines = [&b"a\nb\n"[..], &long, b"\nc\n"].concat();
        let found: Vec<usize> = pieces(&lines).map(<[u8]>::len).collect();
        assert_eq!(found, [4, PIECE * 2 + 1, 2]);
        assert_eq!(pieces(&lines).collect::<Vec<_>>().concat(), lines);
        assert_eq!(pieces(b"").count(), 0);
    }
}
