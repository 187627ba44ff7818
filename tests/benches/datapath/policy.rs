//! A policy of any size: as Polder's tables, as nftables sets, as iptables with ipset.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use datapath::abi::{Anchors, Endpoint, Identity, PortKey, RuleRow, RuleSetId, Slot, Transport};
use datapath::verdict::{Action, Tier};
use netlab::{Host as _, Pod};
use policy_compiler::tables::{RuleRows, Tables};

use crate::enforced::key;

/// The first peer's address; the others follow.
pub(crate) const PEERS_V4: u32 = 0x0b00_0000;
/// The same.
pub(crate) const PEERS_V6: u128 = 0xfd0b << 112;
/// A port that no rule names.
pub(crate) const CLOSED_PORT: u16 = 9;
/// The lowest port that a rule names.
const FIRST_PORT: u16 = 1024;

/// How large a policy is. It isolates pods in both directions; each rule allows one identity at one TCP port, and the
/// last one is the one that packets need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Policy {
    /// Peers that are told apart, each with an address of each family.
    pub(crate) identities: u32,
    /// Rules.
    pub(crate) rules: u32,
}

impl Policy {
    /// The peer that the last rule allows.
    pub(crate) const fn allowed_peer(self) -> u32 {
        self.peer(self.last())
    }

    /// The port at which the last rule allows it.
    pub(crate) const fn allowed_port(self) -> u16 {
        self.port(self.last())
    }

    const fn last(self) -> u32 {
        self.rules.saturating_sub(1)
    }

    const fn peer(self, rule: u32) -> u32 {
        rule % self.identities
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a thousand ports at most: 10,000 rules about 10 identities"
    )]
    const fn port(self, rule: u32) -> u16 {
        FIRST_PORT + (rule / self.identities) as u16
    }

    /// Peer and port of each rule.
    fn rules(self) -> impl Iterator<Item = (u32, u32, u16)> {
        (0..self.rules).map(move |rule| (rule, self.peer(rule), self.port(rule)))
    }

    /// The tables. The pods have the identity that the last rule allows, so that they may speak with each other.
    pub(crate) fn tables(self, pods: &[&Pod], free: &[&Pod]) -> Tables {
        let set = RuleSetId::new(u64::from(self.identities) << 20 | u64::from(self.rules));
        let mut tables = Tables::default();
        tables.endpoints.extend(free.iter().map(|pod| (key(pod), Endpoint::default())));
        tables.endpoints.extend(pods.iter().map(|pod| (key(pod), Endpoint::new(set, set))));
        for peer in 0..self.identities {
            let v6 = Ipv6Addr::from_bits(PEERS_V6 + u128::from(peer));
            tables.addresses.insert(address(peer).into(), identity(peer));
            tables.addresses.insert(v6.into(), identity(peer));
        }
        for pod in pods {
            for address in [IpAddr::from(pod.ipv4()), pod.ipv6().into()] {
                tables.addresses.insert(address, identity(self.allowed_peer()));
            }
        }
        let mut rows = RuleRows::default();
        let mut peers = BTreeMap::<Identity, Vec<(PortKey, RuleRow)>>::new();
        // As the compiler says it of these rules: all name peers and ports.
        let anchors = Anchors { ports: true, peers: false };
        rows.any.insert(PortKey::All, row(Slot::new(self.rules, Action::Deny)).anchoring(anchors));
        for (rank, peer, port) in self.rules() {
            let key = PortKey::Port(Transport::Tcp, port);
            tables.ports[Transport::Tcp as usize].insert(port, port);
            rows.any.insert(key, RuleRow::EMPTY.with_class(port));
            peers.entry(identity(peer)).or_default().push((key, row(Slot::new(rank, Action::Allow))));
        }
        rows.peers = peers.into_iter().map(|(identity, rows)| (identity, rows.into_boxed_slice())).collect();
        tables.rules.insert(set, rows);
        tables
    }

    /// The same for IPv4 as nftables: one set for all rules, the best that it can do.
    pub(crate) fn nftables(self, pods: &[&Pod]) -> String {
        let mut allowed = String::new();
        for (_, peer, port) in self.rules() {
            let _ = write!(allowed, "{} . {port}, ", address(peer));
        }
        for pod in pods {
            let _ = write!(allowed, "{} . {}, ", pod.ipv4(), self.allowed_port());
        }
        let ours = pods.iter().map(|pod| pod.ipv4().to_string()).collect::<Vec<_>>().join(", ");
        format!(
            "table ip bench {{
                set allowed {{
                    type ipv4_addr . inet_service
                    elements = {{ {allowed} }}
                }}
                set pods {{
                    type ipv4_addr
                    elements = {{ {ours} }}
                }}
                chain egress {{
                    ip daddr . tcp dport @allowed return
                    drop
                }}
                chain ingress {{
                    ip saddr . tcp dport @allowed return
                    drop
                }}
                chain forward {{
                    type filter hook forward priority 0
                    ct state established,related accept
                    ip saddr @pods jump egress
                    ip daddr @pods jump ingress
                }}
            }}
            "
        )
    }

    /// The same for IPv4 as sets of ipset, one for each identity.
    pub(crate) fn ipset(self, pods: &[&Pod]) -> String {
        let mut sets = String::new();
        for peer in 0..self.identities.min(self.rules) {
            let _ = writeln!(sets, "create peer{peer} hash:ip\nadd peer{peer} {}", address(peer));
        }
        for pod in pods {
            let _ = writeln!(sets, "add peer{} {}", self.allowed_peer(), pod.ipv4());
        }
        sets
    }

    /// The rules that refer to them, one for each rule and direction, as the usual controllers write them.
    pub(crate) fn iptables(self, pods: &[&Pod]) -> String {
        let mut rules = "*filter\n:EGRESS - [0:0]\n:INGRESS - [0:0]\n".to_owned();
        rules += "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n";
        for pod in pods {
            let pod = pod.ipv4();
            let _ = writeln!(rules, "-A FORWARD -s {pod} -j EGRESS\n-A FORWARD -d {pod} -j INGRESS");
        }
        for (chain, end) in [("EGRESS", "dst"), ("INGRESS", "src")] {
            for (_, peer, port) in self.rules() {
                let _ = writeln!(
                    rules,
                    "-A {chain} -p tcp --dport {port} -m set --match-set peer{peer} {end} -j RETURN"
                );
            }
            let _ = writeln!(rules, "-A {chain} -j DROP");
        }
        rules + "COMMIT\n"
    }
}

fn address(peer: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(PEERS_V4 + peer)
}

fn identity(peer: u32) -> Identity {
    Identity::new(u64::from(peer) + 1)
}

fn row(slot: Option<Slot>) -> RuleRow {
    let mut row = RuleRow::EMPTY;
    row.offer(Tier::Namespace, slot.unwrap_or(Slot::EMPTY));
    row
}
