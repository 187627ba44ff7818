//! Who reaches whom: every pair, every probe, all at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Result;

use crate::address::Family;
use crate::client::{Outcome, PATIENCE, ping, tcp_connect, udp_exchange};
use crate::host::Host;

/// How many probes wait at a time.
const AT_ONCE: usize = 64;

/// One question that a host asks another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Probe {
    /// Does this TCP port accept a connection?
    Tcp(Family, u16),
    /// Does this UDP port answer?
    Udp(Family, u16),
    /// Is an ICMP echo request answered?
    Ping(Family),
}

impl Probe {
    /// All three in both families.
    pub fn all(tcp: u16, udp: u16) -> Vec<Self> {
        Family::BOTH.into_iter().flat_map(|f| [Self::Tcp(f, tcp), Self::Udp(f, udp), Self::Ping(f)]).collect()
    }

    /// Asks it.
    pub fn ask(self, from: &dyn Host, to: &dyn Host) -> Result<Outcome> {
        match self {
            Self::Tcp(family, port) => tcp_connect(from, to.address(family), port, PATIENCE),
            Self::Udp(family, port) => udp_exchange(from, to.address(family), port, b"probe", PATIENCE),
            Self::Ping(family) => ping(from, to.address(family), PATIENCE),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = |family: &Family| if *family == Family::V4 { 4 } else { 6 };
        match self {
            Self::Tcp(family, port) => write!(f, "tcp{}:{port}", version(family)),
            Self::Udp(family, port) => write!(f, "udp{}:{port}", version(family)),
            Self::Ping(family) => write!(f, "ping{}", version(family)),
        }
    }
}

/// The outcome of every probe between every two hosts, the way to oneself included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matrix {
    outcomes: BTreeMap<(String, String, Probe), Outcome>,
}

/// Asks every probe from each host to each, themselves included.
///
/// Hosts are told apart by name.
pub fn reachability(hosts: &[&dyn Host], probes: &[Probe]) -> Result<Matrix> {
    let mut questions = Vec::new();
    for from in hosts {
        for to in hosts {
            questions.extend(probes.iter().map(|probe| (*from, *to, *probe)));
        }
    }
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(BTreeMap::new());
    let failure = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..questions.len().min(AT_ONCE) {
            scope.spawn(|| {
                while let Some((from, to, probe)) = questions.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match probe.ask(*from, *to) {
                        Ok(outcome) => {
                            let key = (from.name().to_owned(), to.name().to_owned(), *probe);
                            outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(key, outcome);
                        }
                        Err(error) => *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
                    }
                }
            });
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(Matrix { outcomes: outcomes.into_inner().unwrap_or_else(PoisonError::into_inner) }),
    }
}

impl Matrix {
    /// The outcome of one probe, if it was asked.
    pub fn get(&self, from: &str, to: &str, probe: Probe) -> Option<Outcome> {
        self.outcomes.get(&(from.to_owned(), to.to_owned(), probe)).copied()
    }

    /// Where it is not as expected: a line each, empty if all is well.
    pub fn differences(&self, expected: impl Fn(&str, &str, Probe) -> Outcome) -> Vec<String> {
        let line = |((from, to, probe), found): (&(String, String, Probe), &Outcome)| {
            let wanted = expected(from, to, *probe);
            (wanted != *found).then(|| format!("{from} -> {to} {probe}: {found}, expected {wanted}"))
        };
        self.outcomes.iter().filter_map(line).collect()
    }

    /// True if every probe was answered.
    pub fn all_connected(&self) -> bool {
        self.outcomes.values().all(|outcome| *outcome == Outcome::Connected)
    }
}

/// One table for each probe: rows ask, columns are asked; `+` connected, `R` refused, `.` timed out, `!` unreachable.
impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: BTreeSet<&str> =
            self.outcomes.keys().flat_map(|(from, to, _)| [from.as_str(), to]).collect();
        let probes: BTreeSet<Probe> = self.outcomes.keys().map(|(.., probe)| *probe).collect();
        let width = names.iter().map(|name| name.len()).chain([8]).max().unwrap_or_default();
        for probe in probes {
            write!(f, "{:width$}", probe.to_string())?;
            for to in &names {
                write!(f, "  {to}")?;
            }
            writeln!(f)?;
            for from in &names {
                write!(f, "{from:>width$}")?;
                for to in &names {
                    let sign = match self.get(from, to, probe) {
                        Some(Outcome::Connected) => "+",
                        Some(Outcome::Refused) => "R",
                        Some(Outcome::TimedOut) => ".",
                        Some(Outcome::Unreachable) => "!",
                        None => " ",
                    };
                    write!(f, "  {sign:^0$}", to.len())?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_a_table_for_each_probe_and_names_what_differs() {
        let probe = Probe::Tcp(Family::V4, 80);
        let outcome = |to: &str| if to == "b" { Outcome::TimedOut } else { Outcome::Connected };
        let pairs = [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")];
        let outcomes = pairs.map(|(from, to)| ((from.to_owned(), to.to_owned(), probe), outcome(to)));
        let matrix = Matrix { outcomes: outcomes.into() };
        assert_eq!(matrix.to_string(), "tcp4:80   a  b\n       a  +  .\n       b  +  .\n");
        let differences = matrix.differences(|_, _, _| Outcome::Connected);
        assert_eq!(
            differences,
            [
                "a -> b tcp4:80: timed out, expected connected",
                "b -> b tcp4:80: timed out, expected connected"
            ]
        );
    }
}
