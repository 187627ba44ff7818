//! A client that says exactly what a test wants said.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use netlab::{Host, Outcome, tcp_connect_from};
use nix::sys::socket::{getsockopt, sockopt::TcpMaxSeg};

/// How long a connection, or an answer, may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection, and from where it came.
pub(crate) struct Connection {
    stream: TcpStream,
    pub(crate) own: SocketAddr,
}

/// What a server, or who reads requests, answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Connection {
    /// Opens one.
    pub(crate) fn open(from: &dyn Host, to: SocketAddr) -> Result<Self> {
        Self::open_from(from, None, to)
    }

    /// Opens one from an address and port.
    pub(crate) fn open_from(from: &dyn Host, own: Option<SocketAddr>, to: SocketAddr) -> Result<Self> {
        let answer = tcp_connect_from(from, own, to, PATIENCE)?;
        match answer.value {
            Some(stream) if answer.outcome == Outcome::Connected => {
                stream.set_read_timeout(Some(PATIENCE))?;
                let own = stream.local_addr()?;
                Ok(Self { stream, own })
            }
            _ => bail!("{} to {to}: {:?}", from.name(), answer.outcome),
        }
    }

    /// The largest segment that it sends.
    pub(crate) fn segment(&self) -> Result<u32> {
        getsockopt(&self.stream, TcpMaxSeg).context("the size of segments")
    }

    /// Sends these octets.
    pub(crate) fn send(&mut self, octets: &[u8]) -> Result<()> {
        self.stream.write_all(octets).context("sending")
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, method: &str, target: &str) -> Result<Answer> {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: server\r\n\r\n").as_bytes())?;
        self.answer()
    }

    /// Reads an answer whose length is said.
    pub(crate) fn answer(&mut self) -> Result<Answer> {
        let (status, body) = self.read()?;
        Ok(Answer { status, body: String::from_utf8(body).context("an answer's body")? })
    }

    /// Reads the body of such an answer.
    pub(crate) fn octets(&mut self) -> Result<Vec<u8>> {
        Ok(self.read()?.1)
    }

    fn read(&mut self) -> Result<(u16, Vec<u8>)> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            match self.stream.read(&mut octet).context("reading the head of an answer")? {
                0 => bail!("it ended after {:?}", String::from_utf8_lossy(&head)),
                _ => head.extend(octet),
            }
        }
        let head = String::from_utf8(head).context("an answer's head")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("a status")?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok()).flatten()
        });
        let mut body = vec![0; length.unwrap_or(0)];
        self.stream.read_exact(&mut body).context("reading the body of an answer")?;
        Ok((status, body))
    }

    /// What comes until the other side ends the connection, and whether it was reset.
    pub(crate) fn rest(&mut self) -> Result<(Vec<u8>, bool)> {
        let mut octets = Vec::new();
        match self.stream.read_to_end(&mut octets) {
            Ok(_) => Ok((octets, false)),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok((octets, true)),
            Err(error) => Err(error).context("waiting for the end"),
        }
    }
}
