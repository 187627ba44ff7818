//! The demo's requests: one that policy allows and one that it does not, to a server that says who asked.

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netlab::{Host, Node, Pod, Task};
use nix::sched::{CloneFlags, setns};

/// Where the api is asked for orders.
pub(super) const PORT: u16 = 8081;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many requests the server answers: those of the demo that are allowed.
const ANSWERS: usize = 1;

/// A running proxy.
pub(super) struct Proxy(Child);

impl Proxy {
    /// Starts one beside the agent whose files are in `folder`.
    pub(super) fn start(program: &Path, object: &Path, node: &Node, folder: &Path) -> Result<Self> {
        let namespace =
            std::fs::File::open(node.namespace().path()).context("opening the node's namespace")?;
        let mut command = Command::new(program);
        for (flag, value) in [
            ("--bpffs", folder.join("bpffs/polder")),
            ("--lists", folder.join("run/lists")),
            ("--metrics", folder.join("run/proxy.sock")),
            ("--bpf-object", object.with_file_name("polder-accept")),
        ] {
            command.arg(flag).arg(value);
        }
        command
            .env("POLDER_LOG", std::env::var("POLDER_LOG").unwrap_or_else(|_| "warn".to_owned()))
            .stdin(Stdio::null());
        // SAFETY: between fork and exec only a system call is made.
        unsafe { command.pre_exec(move || Ok(setns(&namespace, CloneFlags::CLONE_NEWNET)?)) };
        Ok(Self(command.spawn().with_context(|| format!("cannot start {}", program.display()))?))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait().map(drop)) {
            eprintln!("demo: the proxy is still running: {error}");
        }
    }
}

/// Answers so many requests as are allowed, and says what each was, and who asked.
pub(super) fn serve(pod: &Pod) -> Result<Task<Vec<String>>> {
    let listener = pod.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).context("listening"))?;
    pod.spawn(move || {
        let mut asked = Vec::new();
        for _ in 0..ANSWERS {
            let (mut stream, from) = listener.accept()?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let line = head(&mut stream)?;
            asked.push(line);
            let from = SocketAddr::new(from.ip().to_canonical(), from.port());
            let body = format!("orders, for {from}\n");
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )?;
        }
        Ok(asked)
    })
}

/// Asks, and gives the status line and the body of the answer.
pub(super) fn ask(from: &Pod, to: &Pod, method: &str, path: &str) -> Result<(String, String)> {
    let to = SocketAddr::new(to.ipv4().into(), PORT);
    from.run(|| {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE).context("connecting")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n")?;
        let own = stream.local_addr()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).context("reading the answer")?;
        let (head, body) = text.split_once("\r\n\r\n").context("an answer has a head")?;
        let status = head.lines().next().unwrap_or_default().to_owned();
        println!("$ curl -X {method} http://api:{PORT}{path}        # from {own}");
        println!("   {status}: {}", body.trim_end());
        ensure!(!status.is_empty(), "an answer begins with its status");
        Ok((status, body.to_owned()))
    })
}

/// The first line of a request's head.
fn head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    let mut octet = [0];
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(stream.read(&mut octet)? == 1, "a request ended in its head");
        head.extend(octet);
    }
    let text = String::from_utf8(head).context("a request")?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
