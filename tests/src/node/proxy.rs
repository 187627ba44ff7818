//! A proxy on a node, beside its agent.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netlab::{Host, Node};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

use super::polder::{Polder, last_lines, object, program};

/// How long a proxy may take to be there, and to end.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A proxy. Ended without mercy when dropped.
#[derive(Debug)]
pub struct Proxy {
    node: Node,
    keeper: Child,
    log: PathBuf,
    /// What it wrote for each request.
    access: PathBuf,
    metrics: PathBuf,
}

impl Proxy {
    /// Starts one, and waits until the agent sends it what begins.
    pub fn start(polder: &Polder) -> Result<Self> {
        Self::start_with(polder, &["--access-log"])
    }

    /// The same, with these arguments.
    pub fn start_with(polder: &Polder, arguments: &[&str]) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = polder.socket().parent().context("the agent's folder")?.to_owned();
        let file = |name: &str| folder.join(format!("proxy-{number}.{name}"));
        // The newest has the path, as on a node.
        let (log, access, metrics) = (file("log"), file("access"), polder.proxy());
        let object = object()?.with_file_name("polder-accept");
        let mut command = Command::new(program("polder-proxy", "proxy")?);
        for (flag, value) in [
            ("--bpffs", polder.bpffs().as_os_str()),
            ("--lists", polder.lists().as_os_str()),
            ("--metrics", metrics.as_os_str()),
            ("--bpf-object", object.as_os_str()),
            ("--drain", OsStr::new("20")),
        ] {
            command.arg(flag).arg(value);
        }
        command.args(arguments).env("NO_COLOR", "1").stdin(Stdio::null());
        command.stdout(File::create(&access)?).stderr(File::create(&log)?);
        let node = polder.node().clone();
        let keeper = node.run(|| command.spawn().with_context(|| format!("{command:?}")))?;
        let proxy = Self { node, keeper, log, access, metrics };
        let there = polder.within("a proxy to be there", |client| {
            let (log, now) = (proxy.log(), client.status()?.proxies);
            let own = log.split_once("interface=\"").and_then(|(_, rest)| rest.split_once('"'));
            let own = own.map(|(own, _)| own).context("it takes no connections yet")?;
            ensure!(now.first().is_some_and(|first| first == own), "proxies: {now:?}, and this is {own}");
            Ok(())
        });
        there.with_context(|| proxy.log())?;
        Ok(proxy)
    }

    /// The processes that read requests.
    pub fn workers(&self) -> Vec<i32> {
        let path = format!("/proc/{0}/task/{0}/children", self.keeper.id());
        let text = fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Begins a connection in the proxy's network, in the name of a client, of which the programs know nothing.
    pub fn stray(&self, client: IpAddr, server: SocketAddr) -> Result<io::Result<()>> {
        let worker = *self.workers().first().with_context(|| self.log())?;
        let network = File::open(format!("/proc/{worker}/ns/net")).context("the proxy's network")?;
        let begin = || {
            setns(&network, CloneFlags::CLONE_NEWNET).context("entering the proxy's network")?;
            let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
            match client {
                IpAddr::V4(_) => socket.set_freebind_v4(true)?,
                IpAddr::V6(_) => socket.set_freebind_v6(true)?,
            }
            socket.bind(&SocketAddr::new(client, 0).into())?;
            Ok(socket.connect_timeout(&server.into(), PATIENCE))
        };
        // A thread's network is its own.
        thread::scope(|scope| scope.spawn(begin).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Ends what reads requests as the kernel does when memory runs out.
    pub fn kill_workers(&self) -> Result<()> {
        let workers = self.workers();
        ensure!(!workers.is_empty(), "nobody reads requests: {}", self.log());
        for worker in workers {
            kill(Pid::from_raw(worker), Signal::SIGKILL).context("ending a worker")?;
        }
        Ok(())
    }

    /// Tells it to end when its connections have.
    pub fn drain(&self) -> Result<()> {
        let keeper = i32::try_from(self.keeper.id()).context("a process id")?;
        kill(Pid::from_raw(keeper), Signal::SIGTERM).context("telling the proxy to end")
    }

    /// Waits until it has ended by itself.
    pub fn ended(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.keeper.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "it goes on after {PATIENCE:?}: {}", self.log());
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Ends all of it.
    pub fn kill9(&mut self) -> Result<()> {
        self.keeper.kill().context("cannot end the proxy")?;
        self.keeper.wait().context("cannot wait for the proxy's end")?;
        Ok(())
    }

    /// What it measured, as Prometheus reads it.
    pub fn metrics(&self) -> Result<String> {
        let mut stream = UnixStream::connect(&self.metrics).context("its metrics")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// A line for each request, when it has written of one for this path: it gathers them before it writes.
    pub fn access(&self, path: &str) -> Result<String> {
        let (wanted, deadline) = (format!("\"path\":\"{path}\""), Instant::now() + PATIENCE);
        loop {
            let written = fs::read_to_string(&self.access).context("its access log")?;
            if written.contains(&wanted) {
                return Ok(written);
            }
            ensure!(Instant::now() < deadline, "nothing of {path} after {PATIENCE:?}: {written}");
            thread::sleep(LOOK_EVERY);
        }
    }

    /// The last lines of its log.
    pub fn log(&self) -> String {
        last_lines(&self.log)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "---- proxy on {}:\n{}\n{}----",
                self.node.name(),
                self.log(),
                last_lines(&self.access)
            );
        }
        if let Err(error) = self.kill9() {
            eprintln!("{}: {error:#}", self.node.name());
        }
    }
}
