//! Clients that never come to a point, each with more connections than it may have: they are cut off, and nobody else notices.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::AddAssign;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Context as _, Result, ensure};
use netlab::{Cni, Family, Host as _, Pod, root_or_skip, tool_or_skip};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use proxy::limits::Limits;
use tests::node::Proxy;

use crate::bed::{Bed, READ_PUBLIC, Shape, policy};
use crate::http::Connection;

/// How many connections there are, unless `POLDER_SLOW` says otherwise.
const SLOW: usize = 1_100;
/// How many of them a client has: more than `Limits::connections`.
const EACH: usize = 1_100;
/// How many of those ask for something first, so that there is a connection to the server, too.
const FIRST_ASKED: usize = 40;
/// Between two octets of a head.
const PAUSE: Duration = Duration::from_millis(500);
/// However slow the machine is: `Limits::head_time` is much less.
const LONGEST: Duration = Duration::from_mins(2);
/// What docs/reference/proxy.md says that a connection holds at most (two heads and a read), and 16 KiB for all else: its task,
/// what it is judged by, what the allocator cannot use.
const MOST_MEMORY: usize = (2 * 24 + 8 + 16) << 10;

/// What a connection says before it says next to nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Nothing at all.
    Silent,
    /// The first octet of a head, and later the next.
    Octets,
    /// Most of the largest head that there may be.
    Large,
    /// A request that is allowed, and half of one that is not.
    Second,
}

impl Way {
    fn of(number: usize) -> Self {
        match number % 4 {
            _ if number < FIRST_ASKED => Self::Second,
            0 => Self::Silent,
            2 => Self::Octets,
            _ => Self::Large,
        }
    }
}

/// A head that never ends.
const HEAD: &[u8] = b"GET /public/slow HTTP/1.1\r\nHost: server\r\nX-Slow: ";

/// How connections ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ends {
    /// 408.
    told: usize,
    /// Without a word: those that said nothing, and those over quota.
    untold: usize,
    /// With an answer that is none of those that may be.
    wrong: usize,
}

impl AddAssign for Ends {
    fn add_assign(&mut self, other: Self) {
        self.told += other.told;
        self.untold += other.untold;
        self.wrong += other.wrong;
    }
}

/// Opens so many connections from a pod, and stays until the last has ended.
fn dawdle(pod: &Pod, to: SocketAddr, count: usize) -> Result<Ends> {
    let mut open =
        pod.run(|| (0..count).map(|number| begin(to, Way::of(number))).collect::<Result<Vec<_>>>())?;
    let begun = Instant::now();
    let mut ends = Ends::default();
    let mut octets = HEAD.iter().chain(&[b'x'; 1024]).copied();
    while !open.is_empty() {
        ensure!(begun.elapsed() < LONGEST, "{} connections of {} go on", open.len(), pod.name());
        let octet = octets.next().context("an octet")?;
        let mut left = Vec::new();
        for (way, mut stream) in open {
            if way == Way::Octets {
                // One that has ended says so when it is read.
                let _ended = stream.write_all(&[octet]);
            }
            match said(&mut stream)? {
                None => left.push((way, stream)),
                Some(said) if said.is_empty() => ends.untold += 1,
                Some(said) if said.starts_with(b"HTTP/1.1 408 ") => ends.told += 1,
                Some(said) => {
                    eprintln!("{}", said.escape_ascii());
                    ends.wrong += 1;
                }
            }
        }
        open = left;
        thread::sleep(PAUSE);
    }
    Ok(ends)
}

fn begin(to: SocketAddr, way: Way) -> Result<(Way, TcpStream)> {
    let mut stream = TcpStream::connect(to).context("connecting")?;
    match way {
        Way::Silent | Way::Octets => {}
        Way::Large => {
            let mut head = HEAD.to_vec();
            head.resize(Limits::default().head - 1024, b'x');
            // Over quota it may have ended.
            let _ended = stream.write_all(&head);
        }
        Way::Second => {
            stream.set_read_timeout(Some(LONGEST))?;
            stream.write_all(b"GET /public/first HTTP/1.1\r\nHost: server\r\n\r\n")?;
            let mut answer = [0; 1024];
            let length = stream.read(&mut answer)?;
            ensure!(answer[..length].starts_with(b"HTTP/1.1 200 "), "{}", answer[..length].escape_ascii());
            stream.write_all(b"GET /forbidden/second HTTP/1.1\r\nHost: ser")?;
        }
    }
    stream.set_nonblocking(true)?;
    Ok((way, stream))
}

/// What it said before it ended, if it has ended.
fn said(stream: &mut TcpStream) -> Result<Option<Vec<u8>>> {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => Ok(Some(said)),
        Err(error) if error.kind() == ErrorKind::WouldBlock && said.is_empty() => Ok(None),
        // What was said comes in one piece, and the end may be a moment later.
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionReset) => {
            Ok(Some(said))
        }
        Err(error) => Err(error).context("waiting for the end"),
    }
}

/// Of a process: bytes of memory at most until now, and open files.
fn usage(process: i32) -> Result<(usize, usize)> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("the worker's status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    let pages: usize = line.trim().trim_end_matches(" kB").parse().context("VmHWM")?;
    Ok((pages << 10, fs::read_dir(format!("/proc/{process}/fd")).context("the worker's files")?.count()))
}

/// The value of a metric.
fn metric(proxy: &Proxy, name: &str) -> Result<usize> {
    let page = proxy.metrics()?;
    let value = page.lines().find_map(|line| line.strip_prefix(name)).with_context(|| page.clone())?;
    value.trim().parse().with_context(|| format!("{name}{value}"))
}

#[test]
fn many_slow_connections_are_cut_off_within_bounds_of_memory_and_nobody_else_notices() {
    let name = "many_slow_connections_are_cut_off_within_bounds_of_memory_and_nobody_else_notices";
    if !root_or_skip(name) || !tool_or_skip("nft", name) || !tool_or_skip("nginx", name) {
        return;
    }
    let wanted: usize = env::var("POLDER_SLOW").ok().and_then(|text| text.parse().ok()).unwrap_or(SLOW);
    let clients = wanted.div_ceil(EACH);
    // A few more: those of this process itself.
    let files = u64::try_from(clients * EACH + 512).unwrap();
    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, files.max(now).min(most), most).unwrap();
    let shape = Shape { crowd: clients, ..Cni::Routed.into() };
    let bed = Bed::new("rq-slow", shape);
    bed.policies(&policy("server", "server", "ingress", &format!("{{action: Allow, {READ_PUBLIC}}}")));
    let (proxy, to) = (&bed.proxies[0], bed.at(0, Family::V4, false));
    let ask = |number: usize| {
        for (target, status) in [("/public/other", 200), ("/forbidden/other", 403)] {
            let answer = Connection::open(&bed.client, to).unwrap().ask("GET", target);
            assert_eq!(answer.unwrap().status, status, "request {number}: {}", proxy.log());
        }
    };
    ask(0);
    let [worker] = proxy.workers()[..] else { panic!("one worker: {}", proxy.log()) };
    let (memory, files) = usage(worker).unwrap();
    let (mut ends, mut open) = (Ends::default(), 0);
    thread::scope(|scope| {
        let slow: Vec<_> = bed.crowd.iter().map(|pod| scope.spawn(move || dawdle(pod, to, EACH))).collect();
        // They end by themselves, and so does this.
        for number in 1.. {
            ask(number);
            open = open.max(metric(proxy, "polder_l7_connections ").unwrap());
            if slow.iter().all(ScopedJoinHandle::is_finished) {
                println!("{number} requests were answered meanwhile");
                break;
            }
        }
        for slow in slow {
            ends += slow.join().unwrap().unwrap();
        }
    });
    let all = EACH * bed.crowd.len();
    let grown = usage(worker).unwrap().0 - memory;
    println!("{open} of {all} were open at a time, {} bytes each; {ends:?}", grown / open);
    let quota = usize::try_from(Limits::default().connections).unwrap();
    assert!(open > all / 2, "{open} of {all} were open at a time: that proves little");
    assert!(open <= quota * bed.crowd.len() + 2, "{open} were open at a time");
    assert!(grown <= open * MOST_MEMORY, "{open} connections had {grown} bytes");
    assert_eq!((ends.told + ends.untold, ends.wrong), (all, 0));
    assert!(ends.told > all / 2, "{ends:?}");
    let refused = metric(proxy, "polder_l7_faults_total{reason=\"too many connections\"} ").unwrap();
    assert!(refused > 0, "none was over quota");
    assert!(!bed.servers[0].asked().contains("forbidden"), "LEAK");
    assert!(!bed.servers[0].asked().contains("slow"), "half a request was passed on");
    assert_eq!(proxy.workers(), [worker], "it has not died");
    ask(1);
    let closed = bed.agents[0].within("the worker to close what was open", |_| {
        let now = usage(worker)?.1;
        ensure!(now <= files + 2, "{now} files, {files} before");
        Ok(())
    });
    closed.unwrap();
}
