//! Packets from inside pods: sockets that are made in a pod's network namespace, and used from here.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_millis(700);
/// A kept connection that is silent for longer was interrupted.
const SILENT: Duration = Duration::from_secs(2);
/// How long threads wait before they look whether they are to end.
const TICK: Duration = Duration::from_millis(50);

/// The inside of a pod.
#[derive(Clone)]
pub(crate) struct Inside(Arc<File>);

impl Inside {
    /// That of a process, which has to live now but not later.
    pub(crate) fn of(pid: u32) -> Self {
        Self(Arc::new(File::open(format!("/proc/{pid}/ns/net")).unwrap()))
    }

    /// Runs a function in the namespace. A socket stays in the namespace in which it was made.
    pub(crate) fn run<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let entered = scope.spawn(|| {
                setns(&*self.0, CloneFlags::CLONE_NEWNET).unwrap();
                function()
            });
            entered.join().unwrap()
        })
    }

    /// Whether a connection can be made.
    pub(crate) fn connects(&self, to: SocketAddr) -> bool {
        self.run(|| TcpStream::connect_timeout(&to, CONNECT).is_ok())
    }

    /// Notes every datagram that arrives at a port.
    pub(crate) fn sink(&self, port: u16) -> Sink {
        let socket = self.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        socket.set_read_timeout(Some(TICK)).unwrap();
        let arrivals = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&arrivals);
        let task = Task::start(move |stop| {
            let mut bytes = [0; 64];
            while !stop.load(Ordering::Relaxed) {
                match socket.recv_from(&mut bytes) {
                    Ok((_, from)) => {
                        noted.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), from));
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    // The answer of a port that nobody listens on, to a datagram of before.
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                    Err(error) => unreachable!("a sink: {error}"),
                }
            }
        });
        Sink { arrivals, _task: task }
    }

    /// Sends a datagram each millisecond.
    pub(crate) fn metronome(&self, to: SocketAddr) -> Metronome {
        let socket = self.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
        let port = socket.local_addr().unwrap().port();
        let task = Task::start(move |stop| {
            let (started, mut sent) = (Instant::now(), 0_u32);
            while !stop.load(Ordering::Relaxed) {
                // A policy may well refuse it.
                let _ = socket.send_to(&sent.to_be_bytes(), to);
                sent += 1;
                thread::sleep((Duration::from_millis(1) * sent).saturating_sub(started.elapsed()));
            }
        });
        Metronome { port, _task: task }
    }

    /// Accepts connections and sends back what comes.
    pub(crate) fn echo(&self, port: u16) -> Echo {
        let listener = self.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        listener.set_nonblocking(true).unwrap();
        Echo(Task::start(move |stop| {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => drop(thread::spawn(move || send_back(stream))),
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
        }))
    }

    /// Keeps connections busy: a byte to and fro every 10 ms on each.
    pub(crate) fn keep(&self, to: SocketAddr, streams: usize) -> Kept {
        let interrupted = Arc::new(AtomicU32::new(0));
        let tasks = (0..streams).map(|_| {
            let stream = self.run(|| TcpStream::connect_timeout(&to, SILENT).unwrap());
            stream.set_read_timeout(Some(SILENT)).unwrap();
            let interrupted = Arc::clone(&interrupted);
            Task::start(move |stop| {
                if !is_busy(stream, stop) {
                    interrupted.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        Kept { _tasks: tasks.collect(), interrupted }
    }
}

/// True if each byte came back until the end.
fn is_busy(mut stream: TcpStream, stop: &AtomicBool) -> bool {
    let mut byte = [7];
    while !stop.load(Ordering::Relaxed) {
        if stream.write_all(&byte).and_then(|()| stream.read_exact(&mut byte)).is_err() {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

fn send_back(mut stream: TcpStream) {
    // Accepted sockets of a listener that does not block may not block either.
    if stream.set_nonblocking(false).is_err() {
        return;
    }
    let mut bytes = [0; 256];
    while let Ok(read @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..read]).is_err() {
            return;
        }
    }
}

/// A thread that ends with this value.
pub(crate) struct Task {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Task {
    pub(crate) fn start(function: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        Self { stop, thread: Some(thread::spawn(move || function(&seen))) }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("a thread of the test panicked");
        }
    }
}

/// A server that sends back what comes, until it is dropped.
pub(crate) struct Echo(#[expect(dead_code, reason = "it is there to be dropped")] Task);

/// A sender, until it is dropped.
pub(crate) struct Metronome {
    /// Where its datagrams come from.
    pub(crate) port: u16,
    _task: Task,
}

/// A port that notes what arrives.
pub(crate) struct Sink {
    arrivals: Arc<Mutex<Vec<(Instant, SocketAddr)>>>,
    _task: Task,
}

impl Sink {
    /// How many datagrams from a port arrived after a time.
    pub(crate) fn count(&self, from: u16, after: Instant) -> usize {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.iter().filter(|(at, source)| source.port() == from && *at > after).count()
    }

    /// The last arrival from a port, counted from a time; zero if none was later.
    pub(crate) fn last(&self, from: u16, after: Instant) -> Duration {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = arrivals.iter().filter(|(at, source)| source.port() == from && *at > after);
        ours.map(|(at, _)| *at - after).max().unwrap_or_default()
    }

    /// The first arrival from a port after a time, counted from it.
    pub(crate) fn first(&self, from: u16, after: Instant) -> Option<Duration> {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = arrivals.iter().filter(|(at, source)| source.port() == from && *at > after);
        ours.map(|(at, _)| *at - after).min()
    }
}

/// Connections that are kept busy, until this is dropped.
pub(crate) struct Kept {
    _tasks: Vec<Task>,
    interrupted: Arc<AtomicU32>,
}

impl Kept {
    /// How many broke or were silent so far.
    pub(crate) fn interrupted(&self) -> u32 {
        self.interrupted.load(Ordering::Relaxed)
    }
}
