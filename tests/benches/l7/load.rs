//! A client that keeps 50 connections busy, and what it measured.

use std::cell::Cell;
use std::fs;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use netlab::{Host as _, Pod};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::OUTSIDE;
use crate::ways::Way;

const CONNECTIONS: usize = 50;
/// Bytes of a large body.
pub(crate) const LARGE: usize = 8 << 20;
/// Before anything counts.
const WARM: Duration = Duration::from_millis(200);

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// A small answer after another, on connections that are kept.
    Kept,
    /// A small answer to each connection.
    Fresh,
    /// A large answer after another.
    Large,
}

impl Load {
    pub(crate) const ALL: [Self; 3] = [Self::Kept, Self::Fresh, Self::Large];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept connections",
            Self::Fresh => "a connection each",
            Self::Large => "8 MiB",
        }
    }

    fn request(self) -> &'static [u8] {
        match self {
            Self::Kept => {
                b"GET /public/items/42?full=1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n"
            }
            Self::Fresh => {
                b"GET /public/items/42?full=1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench/1.0\r\nConnection: close\r\n\r\n"
            }
            Self::Large => b"GET /public/large HTTP/1.1\r\nHost: shop.example\r\n\r\n",
        }
    }

    /// Large bodies are moved by few.
    fn connections(self) -> usize {
        if self == Self::Large { 4 } else { CONNECTIONS }
    }
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) requests: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) cpu: Duration,
}

impl Figures {
    pub(crate) const NONE: Self =
        Self { requests: 0.0, p50: Duration::MAX, p99: Duration::MAX, cpu: Duration::MAX };

    /// Of each figure the best.
    pub(crate) fn better(self, other: Self) -> Self {
        Self {
            requests: self.requests.max(other.requests),
            p50: self.p50.min(other.p50),
            p99: self.p99.min(other.p99),
            cpu: self.cpu.min(other.cpu),
        }
    }
}

/// Has a thread (0 is this one) run on one processor.
pub(crate) fn pin(task: i32, processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor).unwrap();
    sched_setaffinity(Pid::from_raw(task), &set).unwrap();
}

/// Asks by a way for so long.
pub(crate) fn measure(client: &Pod, way: &Way, load: Load, time: Duration) -> Figures {
    client
        .run(|| {
            pin(0, OUTSIDE);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(LocalSet::new().block_on(&runtime, run(way, load, time)))
        })
        .unwrap()
}

async fn run(way: &Way, load: Load, time: Duration) -> Figures {
    let phase = Rc::new(Cell::new(Phase::Warm));
    let clients: Vec<_> = (0..load.connections())
        .map(|_| tokio::task::spawn_local(ask(way.address, load, Rc::clone(&phase))))
        .collect();
    tokio::time::sleep(WARM).await;
    phase.set(Phase::Counts);
    let spent = || way.worker.map_or(Duration::ZERO, cpu_time);
    let (begin, before) = (Instant::now(), spent());
    tokio::time::sleep(time).await;
    let (elapsed, spent) = (begin.elapsed(), spent().saturating_sub(before));
    phase.set(Phase::Over);
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await.unwrap());
    }
    times.sort_unstable();
    let count = times.len();
    assert!(count > 0, "{}: nothing was answered", way.name);
    #[expect(clippy::cast_precision_loss, reason = "far less than 2^53 requests")]
    let requests = count as f64 / elapsed.as_secs_f64();
    let cpu = spent / u32::try_from(count).unwrap();
    Figures { requests, p50: times[count / 2], p99: times[count * 99 / 100], cpu }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Warm,
    Counts,
    Over,
}

async fn ask(to: SocketAddr, load: Load, phase: Rc<Cell<Phase>>) -> Vec<Duration> {
    let mut times = Vec::with_capacity(1 << 12);
    let mut kept = None;
    let mut buffer = vec![0; 1 << 16];
    while phase.get() != Phase::Over {
        let begin = Instant::now();
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => connect(to).await,
        };
        stream.write_all(load.request()).await.unwrap();
        read_answer(&mut stream, &mut buffer).await;
        if load != Load::Fresh {
            kept = Some(stream);
        }
        if phase.get() == Phase::Counts {
            times.push(begin.elapsed());
        }
    }
    times
}

async fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads an answer to its end, whose length it says.
async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) {
    let mut filled = 0;
    let (head, length) = loop {
        let count = stream.read(&mut buffer[filled..]).await.unwrap();
        assert!(count > 0, "ended: {}", buffer[..filled].escape_ascii());
        filled += count;
        if let Some(head) = buffer[..filled].windows(4).position(|end| end == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
            assert!(text.starts_with("http/1.1 200"), "{text}");
            let (_, rest) = text.split_once("content-length: ").unwrap();
            break (head + 4, rest.lines().next().unwrap().trim().parse::<usize>().unwrap());
        }
    };
    let mut left = (head + length) - filled;
    while left > 0 {
        let count = stream.read(buffer).await.unwrap();
        assert!(count > 0, "a body ended {left} bytes early");
        left -= count;
    }
}

/// What the scheduler says a process's one thread has run.
fn cpu_time(worker: i32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{worker}/schedstat")).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}
