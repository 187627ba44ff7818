//! The packets that are measured, and how the flows come about to which they belong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use datapath::mark::Mark;
use netlab::{Family, Host as _, Mac, Pod, raw};

use crate::policy::{CLOSED_PORT, PEERS_V4, PEERS_V6, Policy};
use crate::programs::{Entry, Programs};
use crate::test_run::{self, Packet};

/// `TC_ACT_UNSPEC`: the next program decides.
const PASS: i32 = -1;
/// `TC_ACT_SHOT`.
const DROP: i32 = 2;
const DATA: u8 = raw::ACK | raw::PSH;

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

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Empty,
    EstablishedIngress,
    EstablishedEgress,
    SameNodeFromPod,
    SameNodeToPod,
    NewIngress,
    NewEgress,
    Rejudged,
    DeniedEvent,
    DeniedAgain,
    FreeIngress,
    FreeEgress,
}

impl Kind {
    pub(crate) const ALL: [Self; 12] = [
        Self::Empty,
        Self::EstablishedIngress,
        Self::EstablishedEgress,
        Self::SameNodeFromPod,
        Self::SameNodeToPod,
        Self::NewIngress,
        Self::NewEgress,
        Self::Rejudged,
        Self::DeniedEvent,
        Self::DeniedAgain,
        Self::FreeIngress,
        Self::FreeEgress,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty program",
            Self::EstablishedIngress => "established, ingress",
            Self::EstablishedEgress => "established, egress",
            Self::SameNodeFromPod => "same node, first hook",
            Self::SameNodeToPod => "same node, second hook",
            Self::NewIngress => "SYN allowed, entry made, ingress",
            Self::NewEgress => "SYN allowed, entry made, egress",
            Self::Rejudged => "SYN allowed, judged again",
            Self::DeniedEvent => "SYN denied, each with an event",
            Self::DeniedAgain => "SYN denied, same again",
            Self::FreeIngress => "pod without policy, ingress",
            Self::FreeEgress => "pod without policy, egress",
        }
    }

    const fn entry(self) -> Entry {
        match self {
            Self::Empty => Entry::Empty,
            Self::EstablishedEgress | Self::SameNodeFromPod | Self::NewEgress | Self::FreeEgress => {
                Entry::FromPod
            }
            _ => Entry::ToPod,
        }
    }

    const fn repeated(self) -> Repeated {
        match self {
            Self::NewIngress | Self::NewEgress | Self::DeniedEvent => Repeated::Anew,
            _ => Repeated::Same,
        }
    }

    const fn returns(self) -> i32 {
        if matches!(self, Self::DeniedEvent | Self::DeniedAgain) { DROP } else { PASS }
    }
}

/// A packet that is measured.
pub(crate) struct Case {
    pub(crate) kind: Kind,
    pub(crate) family: Family,
    packet: Packet,
}

impl Case {
    /// Runs it so many times, and gives the mean in nanoseconds. `burst` tells apart those that make new flows.
    pub(crate) fn run(&mut self, programs: &Programs, times: u16, burst: u16) -> Result<u32> {
        let entry = self.kind.entry();
        let program = match self.kind.repeated() {
            Repeated::Same => programs.plain(entry),
            Repeated::Anew => {
                let at = Programs::source_port(self.family);
                // In the order in which the program counts it up, and past 0 and the ports of other cases' flows.
                let port = 1_u16.wrapping_add(burst.wrapping_mul(times)).to_ne_bytes();
                if let Some(bytes) = self.packet.frame.get_mut(at..at + port.len()) {
                    bytes.copy_from_slice(&port);
                }
                programs.turning(entry, self.family)
            }
        };
        let run = test_run::run(program, &self.packet, times.into()).context("BPF_PROG_TEST_RUN")?;
        let expected = self.kind.returns();
        ensure!(
            run.returned == expected,
            "{} ({:?}): the program returned {}; {expected} is right",
            self.kind.name(),
            self.family,
            run.returned
        );
        Ok(run.nanoseconds)
    }
}

/// All cases of a family, with their flows made.
pub(crate) fn all(programs: &Programs, pods: &Pods, policy: Policy, family: Family) -> Result<Vec<Case>> {
    let scene = Scene {
        programs,
        pods,
        family,
        peer: peer(policy.allowed_peer(), family),
        port: policy.allowed_port(),
    };
    Kind::ALL.into_iter().map(|kind| Ok(Case { kind, family, packet: scene.packet_of(kind)? })).collect()
}

fn peer(number: u32, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(PEERS_V4 + number).into(),
        Family::V6 => Ipv6Addr::from_bits(PEERS_V6 + u128::from(number)).into(),
    }
}

/// One end of a TCP connection: a pod's, or one outside the node.
#[derive(Clone, Copy)]
struct End<'a> {
    address: SocketAddr,
    mac: Mac,
    pod: Option<&'a Pod>,
}

/// What all cases of one family have in common.
struct Scene<'a> {
    programs: &'a Programs,
    pods: &'a Pods,
    family: Family,
    /// Who is allowed, outside the node.
    peer: IpAddr,
    /// At which port.
    port: u16,
}

impl<'a> Scene<'a> {
    fn packet_of(&self, kind: Kind) -> Result<Packet> {
        let Pods { first, second, free } = self.pods;
        let (outside, pod, port) = (|port| self.outside(port), |pod, port| self.end(pod, port), self.port);
        match kind {
            Kind::Empty => arriving(outside(1), pod(first, port), raw::ACK),
            Kind::EstablishedIngress => {
                let ends = (outside(own_port(0)), pod(first, port));
                self.connect(ends)?;
                arriving(ends.0, ends.1, DATA)
            }
            Kind::EstablishedEgress => {
                let ends = (pod(first, own_port(1)), outside(port));
                self.connect(ends)?;
                leaving(ends.0, ends.1, DATA)
            }
            Kind::SameNodeFromPod | Kind::SameNodeToPod => {
                let ends = (pod(first, own_port(2)), pod(second, port));
                self.connect(ends)?;
                let data = leaving(ends.0, ends.1, DATA)?;
                if kind == Kind::SameNodeFromPod {
                    return Ok(data);
                }
                let mark = self.pass(Entry::FromPod, &data)?;
                Ok(Packet { mark, ..arriving(ends.0, ends.1, DATA)? })
            }
            Kind::NewIngress => arriving(outside(0), pod(first, port), raw::SYN),
            Kind::NewEgress => leaving(pod(first, 0), outside(port), raw::SYN),
            Kind::Rejudged => arriving(outside(own_port(3)), pod(first, port), raw::SYN),
            Kind::DeniedEvent => arriving(outside(0), pod(first, CLOSED_PORT), raw::SYN),
            Kind::DeniedAgain => arriving(outside(own_port(4)), pod(first, CLOSED_PORT), raw::SYN),
            Kind::FreeIngress => arriving(outside(own_port(5)), pod(free, port), DATA),
            Kind::FreeEgress => leaving(pod(free, own_port(6)), outside(port), DATA),
        }
    }

    fn outside(&self, port: u16) -> End<'a> {
        End {
            address: SocketAddr::new(self.peer, port),
            mac: self.pods.first.node().gateway_mac(),
            pod: None,
        }
    }

    fn end(&self, pod: &'a Pod, port: u16) -> End<'a> {
        End { address: SocketAddr::new(pod.address(self.family), port), mac: pod.mac(), pod: Some(pod) }
    }

    /// The three packets that open a connection, through all hooks on their way.
    fn connect(&self, (client, server): (End<'_>, End<'_>)) -> Result<()> {
        let opening =
            [(client, server, raw::SYN), (server, client, raw::SYN | raw::ACK), (client, server, raw::ACK)];
        for (from, to, flags) in opening {
            let mut mark = from_outside();
            if from.pod.is_some() {
                mark = self.pass(Entry::FromPod, &leaving(from, to, flags)?)?;
            }
            if to.pod.is_some() {
                self.pass(Entry::ToPod, &Packet { mark, ..arriving(from, to, flags)? })?;
            }
        }
        Ok(())
    }

    /// Runs a packet once; gives its mark behind the hook.
    fn pass(&self, entry: Entry, packet: &Packet) -> Result<u32> {
        let run = test_run::run(self.programs.plain(entry), packet, 1).context("BPF_PROG_TEST_RUN")?;
        ensure!(
            run.returned == PASS,
            "{entry:?}: the program returned {} where {PASS} is right",
            run.returned
        );
        Ok(run.mark)
    }
}

/// Source ports of flows that are to stay as they are. With their bytes swapped, as [`Programs::turning`] counts, they are
/// higher than it ever counts.
const fn own_port(number: u16) -> u16 {
    0x9cf0 + 0x400 * number
}

/// The mark of packets that came in by an uplink.
fn from_outside() -> u32 {
    Mark::Outside.put(0, Mark::DEFAULT_SHIFT)
}

fn leaving(from: End<'_>, to: End<'_>, flags: u8) -> Result<Packet> {
    packet(from, to, flags, from.pod, 0)
}

fn arriving(from: End<'_>, to: End<'_>, flags: u8) -> Result<Packet> {
    packet(from, to, flags, to.pod, from_outside())
}

fn packet(from: End<'_>, to: End<'_>, flags: u8, at: Option<&Pod>, mark: u32) -> Result<Packet> {
    let pod = at.context("a packet at the hook of an end that is no pod")?;
    let frame = raw::Ethernet::new(from.mac, to.mac).carry(&raw::tcp(from.address, to.address, flags, b""));
    Ok(Packet { frame, interface: pod.host_interface_index()?, mark })
}
