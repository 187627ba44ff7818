//! Real traffic between two pods of one node: without policy, with Polder, and with the same policy as others write it.
//!
//! Each way of enforcing has a node of its own, so that all of them are there at the same time and are measured in turn.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netlab::{Cni, Host as _, Outcome, PATIENCE, Pod, br_netfilter_present, tcp_connect, tool_present};

use crate::enforced::Enforced;
use crate::load;
use crate::place::Place;
use crate::policy::{CLOSED_PORT, Policy};
use crate::series::Series;

/// Sizes of the policy.
pub(crate) const RULES: [u32; 3] = [10, 1_000, 10_000];

/// Who enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    Nobody,
    Polder,
    Nftables,
    Ipset,
}

impl By {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nobody => "no policy",
            Self::Polder => "Polder",
            Self::Nftables => "nftables set",
            Self::Ipset => "iptables + ipset",
        }
    }

    /// Programs without which it cannot be tried.
    const fn tools(self) -> &'static [&'static str] {
        match self {
            Self::Nobody | Self::Polder => &[],
            Self::Nftables => &["nft"],
            Self::Ipset => &["ipset", "iptables-restore"],
        }
    }
}

/// What was measured, the best of all rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Gigabits a second.
    pub(crate) throughput: f64,
    /// Request and response on one connection: 50th and 99th percentile, in nanoseconds.
    pub(crate) exchange: [f64; 2],
    /// A connection for each: the same.
    pub(crate) connection: [f64; 2],
}

impl Figures {
    const NONE: Self = Self { throughput: 0.0, exchange: [f64::INFINITY; 2], connection: [f64::INFINITY; 2] };

    fn better(self, other: Self) -> Self {
        let least = |one: [f64; 2], other: [f64; 2]| [one[0].min(other[0]), one[1].min(other[1])];
        Self {
            throughput: self.throughput.max(other.throughput),
            exchange: least(self.exchange, other.exchange),
            connection: least(self.connection, other.connection),
        }
    }
}

/// A node with a client and a server, and who enforces what between them.
pub(crate) struct Subject {
    pub(crate) by: By,
    pub(crate) policy: Policy,
    pub(crate) figures: Figures,
    client: Pod,
    server: Pod,
    /// Its programs are attached as long as it is there.
    _enforced: Option<Enforced>,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) streaming: Duration,
    pub(crate) exchanges: usize,
    pub(crate) connections: usize,
}

/// Measures all ways of enforcing policies of these sizes.
pub(crate) fn measure(place: &Place<'_>, rules: &[u32], effort: Effort) -> Result<Vec<Subject>> {
    let mut subjects = vec![Subject::make(place, 2, By::Nobody, 1)?];
    for by in [By::Polder, By::Nftables, By::Ipset] {
        if let Some(missing) = by.tools().iter().find(|tool| !tool_present(tool)) {
            eprintln!(
                "**** NOT MEASURED: {}: there is no `{missing}`; `cargo xtask setup` installs it ****",
                by.name()
            );
            continue;
        }
        for rules in rules {
            subjects.push(Subject::make(place, subjects.len() + 2, by, *rules)?);
        }
    }
    // The first round only makes caches and neighbours known.
    for round in 0..=effort.rounds {
        if round % 10 == 0 {
            eprintln!("traffic: round {round} of {}", effort.rounds);
        }
        // Another one begins each time, and none always comes after the same one.
        subjects.reverse();
        subjects.rotate_left(1);
        for subject in &mut subjects {
            let figures = subject
                .round(effort)
                .with_context(|| format!("{} with {} rules", subject.by.name(), subject.policy.rules))?;
            if round > 0 {
                subject.figures = subject.figures.better(figures);
            }
        }
    }
    subjects.sort_by_key(|subject| (subject.by, subject.policy));
    Ok(subjects)
}

impl Subject {
    fn make(place: &Place<'_>, subnet: usize, by: By, rules: u32) -> Result<Self> {
        // Port numbers are few: of ten rules each, one is about another port.
        let policy = Policy { identities: (rules / 10).max(10), rules };
        let node = place.lab.node(cni(), u8::try_from(subnet)?)?;
        let (client, server) = (node.pod("client")?, node.pod("server")?);
        let pods = [&client, &server];
        let enforced = match by {
            By::Nobody => None,
            By::Polder => Some(node.run(|| {
                let mut enforced =
                    Enforced::open(&place.pins.join(format!("traffic-{rules}")), place.object, &pods)?;
                enforced.change(policy.tables(&pods, &[]))?;
                enforced.attach()?;
                Ok(enforced)
            })?),
            By::Nftables => {
                node.nft(&policy.nftables(&pods))?;
                None
            }
            By::Ipset => {
                node.command("ipset", &["restore"], &policy.ipset(&pods))?;
                node.command("iptables-restore", &["--noflush"], &policy.iptables(&pods))?;
                None
            }
        };
        let subject = Self { by, policy, figures: Figures::NONE, client, server, _enforced: enforced };
        subject.check()?;
        Ok(subject)
    }

    /// A policy that lets everything pass costs little: see that it is one.
    fn check(&self) -> Result<()> {
        let expected = if self.by == By::Nobody { Outcome::Refused } else { Outcome::TimedOut };
        for (from, to) in [(&self.client, &self.server), (&self.server, &self.client)] {
            let found = tcp_connect(from, to.ipv4().into(), CLOSED_PORT, PATIENCE)?;
            ensure!(
                found == expected,
                "{} with {} rules: port {CLOSED_PORT} {found}; expected that it {expected}",
                self.by.name(),
                self.policy.rules
            );
        }
        Ok(())
    }

    fn round(&self, effort: Effort) -> Result<Figures> {
        let (client, server, port) = (&self.client, &self.server, self.policy.allowed_port());
        let both = |series: Series| [series.median(), series.percentile(99)];
        Ok(Figures {
            throughput: load::throughput(client, server, port, effort.streaming)?,
            exchange: both(load::ping_pong(client, server, port, effort.exchanges)?),
            connection: both(load::connections(client, server, port, effort.connections)?),
        })
    }
}

/// A bridge whose packets pass iptables, as kubeadm sets nodes up; where the kernel cannot do that, routed pods.
pub(crate) fn cni() -> Cni {
    if br_netfilter_present() { Cni::Bridge { br_netfilter: true } } else { Cni::Routed }
}
