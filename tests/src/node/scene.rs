//! One node under policy, an attacker, a victim, and a friend whom the victim's policy allows.

use std::time::Duration;

use anyhow::Result;
use netlab::raw::{Ethernet, Method, Wire};
use netlab::{Cni, Family, Host, Lab, Node, Packet, Pod, Sniffer};
use std::net::SocketAddr;

use super::manifest::{self, DNS, WEB};
use super::polder::{Polder, counted_since};

/// How long an allowed packet may take.
const SOON: Duration = Duration::from_secs(2);
/// How long nothing may arrive until it is taken for settled.
const QUIET: Duration = Duration::from_millis(100);

/// Four pods of `shop` on one node. What comes to `victim` is policed: only `friend` may, to `web` (TCP) and `dns` (UDP).
/// No policy speaks of the others, nor of what the victim sends.
#[derive(Debug)]
pub struct Scene {
    /// The agent.
    pub polder: Polder,
    /// `shop/b`: not allowed.
    pub attacker: Pod,
    /// `shop/a`: allowed.
    pub friend: Pod,
    /// `shop/v`.
    pub victim: Pod,
    /// `shop/w`: may be reached by everybody.
    pub free: Pod,
    /// Their node.
    pub node: Node,
    // Last: everything is in it.
    _lab: Lab,
}

impl Scene {
    /// Makes one, and waits until the policy is in force.
    pub fn new(name: &str, cni: Cni) -> Result<Self> {
        Self::with(name, cni, &[])
    }

    /// Makes one whose agent has more arguments.
    pub fn with(name: &str, cni: Cni, arguments: &[&str]) -> Result<Self> {
        let lab = Lab::new(name)?;
        let node = lab.node(cni, 1)?;
        let [attacker, friend, victim, free] =
            [node.pod("b")?, node.pod("a")?, node.pod("v")?, node.pod("w")?];
        let mut facts = manifest::namespace("shop") + &manifest::node(&node);
        for pod in [&attacker, &friend, &victim, &free] {
            facts += &manifest::pod("shop", pod, &format!("app: {}", pod.name()));
        }
        let manifests = [("facts.yaml", facts), ("victim.yaml", Self::victims_policy())];
        let polder = Polder::start_with(&node, &manifests, arguments)?;
        polder.enforces(&["shop/a", "shop/b", "shop/v", "shop/w"])?;
        Ok(Self { polder, attacker, friend, victim, free, node, _lab: lab })
    }

    /// What is in force for the victim at first, in the file `victim.yaml`.
    pub fn victims_policy() -> String {
        let ports = format!("ports: [{{port: {WEB}}}, {{port: {DNS}, protocol: UDP}}]");
        let from = "from: [{podSelector: {matchLabels: {app: a}}}]";
        manifest::policy("victim", "v", &format!("policyTypes: [Ingress], ingress: [{{{from}, {ports}}}]"))
    }

    /// The link header of a frame from one pod to another.
    pub fn link(&self, from: &Pod, to: &Pod) -> Ethernet {
        Ethernet::new(from.mac(), from.next_hop(to))
    }

    /// A port of `from` and this port of the victim.
    pub fn ends(&self, from: &Pod, family: Family, port: u16) -> (SocketAddr, SocketAddr) {
        ((from.address(family), 40_000).into(), (self.victim.address(family), port).into())
    }

    /// Sends frames that hold `marker`, and says what leaked: nothing, if the victim's interface saw none of them, and
    /// every one of them was counted as a drop for one of these reasons.
    pub fn leak(
        &self,
        from: &Pod,
        method: Method,
        marker: &[u8],
        frames: &[Vec<u8>],
        reasons: &[&str],
    ) -> Result<Option<String>> {
        let sniffer = self.sniffer(marker)?;
        let before = self.polder.counters()?;
        let mut wire = Wire::open(from, method)?;
        for frame in frames {
            wire.send(frame)?;
        }
        let leaked = sniffer.settled(QUIET)?;
        let now = self.polder.counters()?;
        let counted: u64 = reasons.iter().map(|reason| counted_since(&before, &now, reason)).sum();
        let who = from.name();
        if leaked > 0 {
            let frames: Vec<String> =
                sniffer.frames().iter().take(3).map(|frame| format!("{frame:02x?}")).collect();
            return Ok(Some(format!(
                "LEAK {leaked} of {} from {who} by {method:?}: {}",
                frames.len(),
                frames.join("\n")
            )));
        }
        if counted < frames.len() as u64 {
            let grown: Vec<String> = now
                .keys()
                .map(|name| (name, counted_since(&before, &now, name)))
                .filter(|(_, grown)| *grown > 0)
                .map(|(name, grown)| format!("{name} {grown}"))
                .collect();
            let sent = frames.len();
            return Ok(Some(format!(
                "{who} by {method:?}: {sent} sent, {counted} counted as {reasons:?}; grown: {grown:?}"
            )));
        }
        Ok(None)
    }

    /// Sends frames that hold `marker`, and says how many arrived at the victim.
    pub fn arrivals(&self, from: &Pod, method: Method, marker: &[u8], frames: &[Vec<u8>]) -> Result<u64> {
        let sniffer = self.sniffer(marker)?;
        let mut wire = Wire::open(from, method)?;
        for frame in frames {
            wire.send(frame)?;
        }
        sniffer.wait_for(frames.len() as u64, SOON)
    }

    /// What arrives at the victim with these bytes in it. It echoes what comes to closed ports; that is no arrival.
    pub fn sniffer(&self, marker: &[u8]) -> Result<Sniffer> {
        let marker = marker.to_owned();
        Sniffer::at(&self.victim, move |packet: &Packet<'_>| {
            packet.contains(&marker) && !packet.is_port_unreachable()
        })
    }
}
