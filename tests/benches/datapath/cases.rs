//! The packets that are measured, and how the flows come about to which they belong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use datapath::mark::Mark;
use netlab::{Family, Host as _, Mac, Pod, raw};

use crate::policy::{PEERS_V4, PEERS_V6, Policy};
use crate::programs::{Entry, Programs};
use crate::test_run::{self, Packet};

const PASS: i32 = -1;
const DROP: i32 = 2;
/// A port that no rule names.
const CLOSED: u16 = 9;

/// The pods at whose hooks packets are: two that policy speaks about, and one that it does not.
pub(crate) struct Pods {
    pub(crate) first: Pod,
    pub(crate) second: Pod,
    pub(crate) free: Pod,
}

/// How a case is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeated {
    /// The same packet.
    Same,
    /// Every packet has another source port, and so is of another flow.
    Anew,
}

/// A packet that is measured.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) family: Family,
    pub(crate) entry: Entry,
    pub(crate) repeated: Repeated,
    pub(crate) packet: Packet,
    pub(crate) returns: i32,
}

/// One end of a TCP connection: a pod's, or one outside the node.
#[derive(Clone, Copy)]
struct End {
    address: SocketAddr,
    mac: Mac,
}

/// All cases of a family, with their flows made.
pub(crate) fn all(programs: &Programs, pods: &Pods, policy: &Policy, family: Family) -> Result<Vec<Case>> {
    let make = Make { programs, pods, family };
    let (peer, port) = (make.peer(policy.allowed_peer()), policy.allowed_port());
    let outside = |source| End { address: SocketAddr::new(peer, source), mac: pods.first.node().gateway_mac() };
    let (first, second) = (&pods.first, &pods.second);
    let mark = Mark::Outside.put(0, Mark::DEFAULT_SHIFT);
    let mut cases = vec![make.case("empty program", Entry::Empty, Repeated::Same, make.arriving(outside(1), end(first, port, family), first, raw::ACK, mark)?, PASS)];

    let (client, server) = (outside(40_000), end(first, port, family));
    make.connect((client, None), (server, Some(first)))?;
    let data = make.arriving(client, server, first, raw::ACK | raw::PSH, mark)?;
    cases.push(make.case("established, ingress", Entry::ToPod, Repeated::Same, data, PASS));

    let (client, server) = (end(first, 41_000, family), outside(port));
    make.connect((client, Some(first)), (server, None))?;
    let data = make.leaving(client, server, first, raw::ACK | raw::PSH)?;
    cases.push(make.case("established, egress", Entry::FromPod, Repeated::Same, data, PASS));

    let (client, server) = (end(first, 42_000, family), end(second, port, family));
    make.connect((client, Some(first)), (server, Some(second)))?;
    let data = make.leaving(client, server, first, raw::ACK | raw::PSH)?;
    let between = make.run(Entry::FromPod, &data, PASS)?;
    cases.push(make.case("same node, from pod", Entry::FromPod, Repeated::Same, data, PASS));
    let data = make.arriving(client, server, second, raw::ACK | raw::PSH, between)?;
    cases.push(make.case("same node, to pod", Entry::ToPod, Repeated::Same, data, PASS));

    let (to, closed) = (end(first, port, family), end(first, CLOSED, family));
    let arriving = |source, to| make.arriving(outside(source), to, first, raw::SYN, mark);
    cases.push(make.case("SYN allowed, entry made", Entry::ToPod, Repeated::Anew, arriving(0, to)?, PASS));
    cases.push(make.case("SYN allowed, re-judged", Entry::ToPod, Repeated::Same, arriving(43_000, to)?, PASS));
    cases.push(make.case("SYN denied, each an event", Entry::ToPod, Repeated::Anew, arriving(0, closed)?, DROP));
    cases.push(make.case("SYN denied, same again", Entry::ToPod, Repeated::Same, arriving(44_000, closed)?, DROP));
    let (from, to) = (end(first, 45_000, family), outside(port));
    let leaving = make.leaving(from, to, first, raw::SYN)?;
    cases.push(make.case("SYN allowed, entry made, egress", Entry::FromPod, Repeated::Anew, leaving, PASS));

    let free = &pods.free;
    let data = make.arriving(outside(46_000), end(free, port, family), free, raw::ACK | raw::PSH, mark)?;
    cases.push(make.case("no policy, ingress", Entry::ToPod, Repeated::Same, data, PASS));
    let data = make.leaving(end(free, 47_000, family), outside(port), free, raw::ACK | raw::PSH)?;
    cases.push(make.case("no policy, egress", Entry::FromPod, Repeated::Same, data, PASS));
    Ok(cases)
}

/// What all cases of one family have in common.
struct Make<'a> {
    programs: &'a Programs,
    pods: &'a Pods,
    family: Family,
}

impl Make<'_> {
    fn case(&self, name: &'static str, entry: Entry, repeated: Repeated, packet: Packet, returns: i32) -> Case {
        Case { name, family: self.family, entry, repeated, packet, returns }
    }

    fn peer(&self, number: u32) -> IpAddr {
        match self.family {
            Family::V4 => Ipv4Addr::from_bits(PEERS_V4 + number).into(),
            Family::V6 => Ipv6Addr::from_bits(PEERS_V6 + u128::from(number)).into(),
        }
    }

    fn leaving(&self, from: End, to: End, pod: &Pod, flags: u8) -> Result<Packet> {
        // The pod's bridge knows the way, wherever it leads.
        self.packet(from, to, pod, flags, 0)
    }

    fn arriving(&self, from: End, to: End, pod: &Pod, flags: u8, mark: u32) -> Result<Packet> {
        self.packet(from, to, pod, flags, mark)
    }

    fn packet(&self, from: End, to: End, pod: &Pod, flags: u8, mark: u32) -> Result<Packet> {
        let bytes = raw::tcp(from.address, to.address, flags, b"");
        let frame = raw::Ethernet::new(from.mac, to.mac).carry(&bytes);
        let _ = self.pods;
        Ok(Packet { frame, interface: pod.host_interface_index()?, mark })
    }

    /// The three packets that open a connection, through all hooks on their way.
    fn connect(&self, client: (End, Option<&Pod>), server: (End, Option<&Pod>)) -> Result<()> {
        let flags = [(client, server, raw::SYN), (server, client, raw::SYN | raw::ACK), (client, server, raw::ACK)];
        for ((from, sender), (to, receiver), flags) in flags {
            let mut mark = Mark::Outside.put(0, Mark::DEFAULT_SHIFT);
            if let Some(pod) = sender {
                mark = self.run(Entry::FromPod, &self.leaving(from, to, pod, flags)?, PASS)?;
            }
            if let Some(pod) = receiver {
                self.run(Entry::ToPod, &self.arriving(from, to, pod, flags, mark)?, PASS)?;
            }
        }
        Ok(())
    }

    /// Runs a packet once; gives its mark behind the hook.
    fn run(&self, entry: Entry, packet: &Packet, returns: i32) -> Result<u32> {
        let run = test_run::run(self.programs.plain(entry), packet, 1)
            .with_context(|| format!("a test run of {entry:?}"))?;
        ensure!(run.returned == returns, "{entry:?} returned {} for a packet where {returns} is right", run.returned);
        Ok(run.mark)
    }
}

fn end(pod: &Pod, port: u16, family: Family) -> End {
    End { address: SocketAddr::new(pod.address(family), port), mac: pod.mac() }
}
