//! What a request through the proxy costs, beside none, nginx and haproxy: `cargo bench -p proxy`.
//!
//! 50 connections that are kept, one worker. Client and server share one processor, the proxy has another. All ways are
//! measured in turns, several times; the best of each counts, as other work on the machine only ever makes it worse.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a measurement ends at what it did not expect")]

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};
use prometheus_client::registry::Registry;
use proxy::connection::Proxy;
use proxy::limits::Limits;
use proxy::log::{Ends, Observer, Record};
use proxy::policy::{Head, Policy, Protocols, RuleId, Verdict};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

const CONNECTIONS: usize = 50;
const REQUEST: &[u8] = b"GET /public/items/42?full=1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nX-Request-Id: 0123456789abcdef\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: application/json\r\nContent-Length: 64\r\n\r\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Where the client and the server run, and where what is between them runs.
const OUTSIDE: usize = 0;
const BETWEEN: usize = 1;

/// Allows what a small policy would, at about its cost.
struct Rules;

impl Policy for Rules {
    fn generation(&self) -> u64 {
        1
    }

    fn protocols(&self) -> Protocols {
        Protocols { http1: true, http2: false, tls: false }
    }

    fn judge(&self, head: &Head<'_>) -> Verdict {
        if head.method == b"GET" && head.host == b"shop.example" && head.path.starts_with(b"/public/") {
            Verdict::Allow { rule: RuleId(1) }
        } else {
            Verdict::Deny { rule: RuleId(2), text: "denied".into() }
        }
    }

    fn judge_name(&self, _: Option<&[u8]>) -> Verdict {
        Verdict::Allow { rule: RuleId(1) }
    }

    fn names_header(&self, _: &[u8]) -> bool {
        false
    }
}

/// Takes records as an access log that keeps up would.
struct Log;

impl Observer for Log {
    fn record(&self, record: &Record<'_>) {
        std::hint::black_box(record);
    }
}

/// One way to the server.
struct Way {
    name: &'static str,
    address: SocketAddr,
    /// Whose processor time counts: a thread of this process, or a process.
    task: Pid,
    best: Figures,
}

#[derive(Clone, Copy, Debug)]
struct Figures {
    requests: f64,
    p50: Duration,
    p99: Duration,
    cpu: Duration,
}

fn main() {
    let seconds = std::env::var("BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2.0);
    let rounds = std::env::var("BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let (server, serving) = on_thread(OUTSIDE, None);
    let (near, proxying) = on_thread(BETWEEN, Some(server));
    let mut ways = vec![way("direct", server, serving), way("polder", near, proxying)];
    let peers: Vec<Peer> = [nginx(server), haproxy(server)].into_iter().flatten().collect();
    ways.extend(peers.iter().map(|peer| way(peer.name, peer.address, peer.worker())));
    for round in 0..rounds {
        // Each goes first once, so that none always follows the same one.
        let count = ways.len();
        for at in 0..count {
            let way = &mut ways[(at + round) % count];
            let figures = measure(way.address, way.task, Duration::from_secs_f64(seconds));
            way.best = way.best.better(figures);
        }
    }
    let direct = ways[0].best.requests;
    println!(
        "{:8} {:>11} {:>7} {:>9} {:>9} {:>13}",
        "", "requests/s", "ratio", "p50", "p99", "CPU a request"
    );
    for Way { name, best, .. } in ways {
        let Figures { requests, p50, p99, cpu } = best;
        println!("{name:8} {requests:11.0} {:7.2} {p50:9.1?} {p99:9.1?} {cpu:13.1?}", requests / direct);
    }
}

fn way(name: &'static str, address: SocketAddr, task: Pid) -> Way {
    let best = Figures { requests: 0.0, p50: Duration::MAX, p99: Duration::MAX, cpu: Duration::MAX };
    Way { name, address, task, best }
}

impl Figures {
    fn better(self, other: Figures) -> Figures {
        Figures {
            requests: self.requests.max(other.requests),
            p50: self.p50.min(other.p50),
            p99: self.p99.min(other.p99),
            cpu: self.cpu.min(other.cpu),
        }
    }
}

/// A server, or the proxy before one, in a thread of its own.
fn on_thread(processor: usize, upstream: Option<SocketAddr>) -> (SocketAddr, Pid) {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        pin(Pid::from_raw(0), processor);
        block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send((listener.local_addr().unwrap(), gettid())).unwrap();
            match upstream {
                Some(upstream) => run_proxy(listener, upstream).await,
                None => run_server(listener).await,
            }
        });
    });
    receiver.recv().unwrap()
}

fn block_on<R>(future: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, future)
}

fn pin(task: Pid, processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor).unwrap();
    sched_setaffinity(task, &set).expect("two processors");
}

async fn run_server(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::task::spawn_local(async move {
            let mut buffer = [0; 4096];
            let mut filled = 0;
            while let Ok(count @ 1..) = stream.read(&mut buffer[filled..]).await {
                filled += count;
                if buffer[..filled].ends_with(b"\r\n\r\n") {
                    filled = 0;
                    if stream.write_all(RESPONSE).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

async fn run_proxy(listener: TcpListener, upstream: SocketAddr) {
    let proxy = Arc::new(Proxy::new(Limits::default(), Arc::new(Log), &mut Registry::default()));
    loop {
        let (client, address) = listener.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move {
            let connect = async {
                let stream = TcpStream::connect(upstream).await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            };
            proxy.serve(client, Ends { client: address, server: upstream }, &Rules, connect).await;
        });
    }
}

/// Keeps all connections busy for so long.
fn measure(address: SocketAddr, task: Pid, time: Duration) -> Figures {
    thread::spawn(move || {
        pin(Pid::from_raw(0), OUTSIDE);
        block_on(async move {
            let stop = Arc::new(AtomicBool::new(false));
            let counts = Arc::new(AtomicBool::new(false));
            let clients: Vec<_> = (0..CONNECTIONS)
                .map(|_| tokio::task::spawn_local(ask(address, Arc::clone(&counts), Arc::clone(&stop))))
                .collect();
            tokio::time::sleep(Duration::from_millis(200)).await;
            counts.store(true, Ordering::Relaxed);
            let (begin, spent) = (Instant::now(), cpu_time(task));
            tokio::time::sleep(time).await;
            let (elapsed, spent) = (begin.elapsed(), cpu_time(task).saturating_sub(spent));
            stop.store(true, Ordering::Relaxed);
            let mut times = Vec::new();
            for client in clients {
                times.extend(client.await.unwrap());
            }
            times.sort_unstable();
            let count = times.len();
            #[expect(clippy::cast_precision_loss, reason = "far less than 2^53 requests")]
            let requests = count as f64 / elapsed.as_secs_f64();
            let cpu = spent / u32::try_from(count).unwrap();
            Figures { requests, p50: times[count / 2], p99: times[count * 99 / 100], cpu }
        })
    })
    .join()
    .unwrap()
}

async fn ask(address: SocketAddr, counts: Arc<AtomicBool>, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut times = Vec::with_capacity(1 << 16);
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        stream.write_all(REQUEST).await.unwrap();
        let mut filled = 0;
        loop {
            let count = stream.read(&mut buffer[filled..]).await.unwrap();
            assert!(count > 0, "{address} ended a connection: {}", buffer[..filled].escape_ascii());
            filled += count;
            if buffer[..filled].ends_with(&RESPONSE[RESPONSE.len() - 64..]) {
                break;
            }
        }
        if counts.load(Ordering::Relaxed) {
            times.push(begin.elapsed());
        }
    }
    times
}

/// What the scheduler says a thread has run.
fn cpu_time(task: Pid) -> Duration {
    let own = format!("/proc/self/task/{task}/schedstat");
    let text = fs::read_to_string(own).or_else(|_| fs::read_to_string(format!("/proc/{task}/schedstat")));
    let text = text.expect("the kernel counts processor time");
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Another proxy, which ends with this.
struct Peer {
    name: &'static str,
    address: SocketAddr,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Peer {
    fn start(name: &'static str, configuration: impl Fn(u16) -> String, arguments: &[&str]) -> Option<Peer> {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = folder.path().join("configuration");
        // nginx removes this file when it ends, so it has to be one of its own.
        fs::write(&file, configuration(port).replace("FOLDER", folder.path().to_str().unwrap())).unwrap();
        let mut command = Command::new(name);
        command.args(arguments).arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(child) = command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap())).spawn()
        else {
            println!("{name} is not here, and not measured");
            return None;
        };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let peer = Peer { name, address, child, _folder: folder };
        for _ in 0..100 {
            if std::net::TcpStream::connect(address).is_ok() {
                pin(peer.worker(), BETWEEN);
                return Some(peer);
            }
            thread::sleep(Duration::from_millis(50));
        }
        println!("{name} does not start, and is not measured");
        None
    }

    /// The process that does the work: the last child, if it has any.
    fn worker(&self) -> Pid {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let worker = children.split_whitespace().last().and_then(|child| child.parse().ok());
        Pid::from_raw(worker.unwrap_or_else(|| id.try_into().unwrap()))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let worker = self.worker();
        if let Ok(worker) = u32::try_from(worker.as_raw())
            && worker != self.child.id()
        {
            nix::sys::signal::kill(
                Pid::from_raw(worker.try_into().unwrap()),
                nix::sys::signal::Signal::SIGTERM,
            )
            .ok();
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn nginx(server: SocketAddr) -> Option<Peer> {
    let configuration = |port| {
        format!(
            "daemon off; worker_processes 1; pid FOLDER/pid; error_log /dev/null;
             events {{ worker_connections 1024; }}
             http {{ access_log off; upstream b {{ server {server}; keepalive 64; }}
             server {{ listen 127.0.0.1:{port}; keepalive_requests 1000000000;
             location / {{ proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }} }}"
        )
    };
    Peer::start("nginx", configuration, &["-c"])
}

fn haproxy(server: SocketAddr) -> Option<Peer> {
    let configuration = |port| {
        format!(
            "global\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
             frontend f\n  bind 127.0.0.1:{port}\n  default_backend b\nbackend b\n  http-reuse always\n  server s {server}\n"
        )
    };
    Peer::start("haproxy", configuration, &["-db", "-f"])
}
