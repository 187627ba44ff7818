//! Long-lived connections: what of them breaks while something else happens?

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::address::Family;
use crate::client::tcp_connect_from;
use crate::host::Host;
use crate::namespace::Task;
use crate::stop::Stop;

/// How many interruptions of one connection are kept.
const KEPT: usize = 64;

/// How long a connection may be silent before it is given up as broken.
const GIVEN_UP: Duration = Duration::from_secs(10);

/// A connection that broke, or was silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interruption {
    /// The client's address and port.
    pub connection: SocketAddr,
    /// When the exchange began that was not answered in time.
    pub at: Instant,
    /// How long it took until the answer came, or the connection broke.
    pub length: Duration,
    /// What broke it; nothing if the answer came late.
    pub broken: Option<String>,
}

impl fmt::Display for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.broken {
            Some(error) => write!(f, "{}: broken after {:?}: {error}", self.connection, self.length),
            None => write!(f, "{}: silent for {:?}", self.connection, self.length),
        }
    }
}

/// What became of the connections.
#[derive(Debug, Default)]
pub struct KeptReport {
    /// How many requests were answered.
    pub exchanges: u64,
    /// Connections that broke and silences, 64 of each connection at most.
    pub interruptions: Vec<Interruption>,
}

/// TCP connections to an echo server on which one request follows the answer to the last.
#[derive(Debug)]
pub struct KeptStreams {
    stop: Stop,
    tasks: Vec<Task<KeptReport>>,
}

impl KeptStreams {
    /// Opens so many connections to an echo server that sends no greeting.
    ///
    /// A client waits `interval` between two requests, with 0 not at all; an answer that takes longer than `silence` is
    /// an interruption.
    pub fn start(
        from: &dyn Host,
        to: &dyn Host,
        family: Family,
        port: u16,
        connections: usize,
        interval: Duration,
        silence: Duration,
    ) -> Result<Self> {
        let stop = Stop::new()?;
        let mut kept = Self { stop: stop.clone(), tasks: Vec::new() };
        let to = SocketAddr::new(to.address(family), port);
        for _ in 0..connections {
            let answer = tcp_connect_from(from, None, to, Duration::from_secs(2))?;
            let outcome = answer.outcome;
            let stream = answer.value.with_context(|| format!("{} to {to}: {outcome}", from.name()))?;
            let connection = stream.local_addr().context("a connection has an address")?;
            let stopped = stop.clone();
            let keep = move || Ok(keep(stream, connection, interval, silence, &stopped));
            kept.tasks.push(from.namespace().spawn(keep)?);
        }
        Ok(kept)
    }

    /// Closes the connections, and says what became of them.
    pub fn stop(mut self) -> Result<KeptReport> {
        self.stop.stop()?;
        let mut report = KeptReport::default();
        for task in self.tasks.drain(..) {
            let one = task.join()?;
            report.exchanges += one.exchanges;
            report.interruptions.extend(one.interruptions);
        }
        Ok(report)
    }
}

impl Drop for KeptStreams {
    fn drop(&mut self) {
        if let Err(error) = self.stop.stop() {
            eprintln!("netlab: kept connections cannot be closed: {error:#}");
            return;
        }
        for task in self.tasks.drain(..) {
            if let Err(error) = task.join() {
                eprintln!("netlab: a kept connection: {error:#}");
            }
        }
    }
}

fn keep(
    mut stream: TcpStream,
    connection: SocketAddr,
    interval: Duration,
    silence: Duration,
    stop: &Stop,
) -> KeptReport {
    let mut report = KeptReport::default();
    let mut sequence = 0_u64;
    loop {
        let at = Instant::now();
        let exchanged = exchange(&mut stream, sequence, stop);
        let length = at.elapsed();
        let (broken, end) = match exchanged {
            Ok(Exchange::Answered) => (None, false),
            Ok(Exchange::Stopped) => (None, true),
            Err(error) => (Some(format!("{error:#}")), true),
        };
        if (broken.is_some() || length > silence) && report.interruptions.len() < KEPT {
            report.interruptions.push(Interruption { connection, at, length, broken });
        }
        if end {
            return report;
        }
        report.exchanges += 1;
        sequence += 1;
        thread::sleep(interval);
    }
}

enum Exchange {
    Answered,
    Stopped,
}

fn exchange(stream: &mut TcpStream, sequence: u64, stop: &Stop) -> Result<Exchange> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    stream.write_all(&sequence.to_be_bytes()).context("cannot send")?;
    let started = Instant::now();
    let (mut answer, mut got) = ([0; 8], 0);
    while got < answer.len() {
        match stream.read(&mut answer[got..]) {
            Ok(0) => anyhow::bail!("the server closed the connection"),
            Ok(length) => got += length,
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                if stop.is_given()? {
                    return Ok(Exchange::Stopped);
                }
                ensure!(started.elapsed() < GIVEN_UP, "no answer within {GIVEN_UP:?}");
            }
            Err(error) => return Err(error).context("cannot receive"),
        }
    }
    ensure!(answer == sequence.to_be_bytes(), "the answer to request {sequence} is {answer:?}");
    Ok(if stop.is_given()? { Exchange::Stopped } else { Exchange::Answered })
}
