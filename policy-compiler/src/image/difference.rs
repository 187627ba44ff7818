//! What the kernel holds against what it is to hold, entry by entry.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use datapath::abi::{
    Direction, Endpoint, Generation, Halves, Identity, PortAtom, PortKey, RuleKey, RuleRow, RuleSetId, Slot,
    Transport,
};
use datapath::verdict::Tier;
use ipnet::IpNet;

use crate::object::PodKey;

/// An entry that is not what it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Of the endpoint map.
    Endpoint(Pointer<PodKey, Endpoint>),
    /// Of the map of exact addresses.
    Address(Pointer<IpAddr, Identity>),
    /// Of the prefix tries.
    Prefix(Pointer<IpNet, Identity>),
    /// Of the port map: neighbours that differ in the same way.
    Ports(Pointer<PortRange, PortAtom>),
    /// Of the rule map, whose values have no halves.
    Rule {
        /// The key.
        key: RuleKey,
        /// The row that is to be there, if any is.
        wanted: Option<RuleRow>,
        /// The row that is there, if any is.
        found: Option<RuleRow>,
    },
}

/// An entry of a map that holds two halves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer<K, T> {
    /// The key.
    pub key: K,
    /// What both halves are to say; `None` if the entry is not to be there.
    pub wanted: Option<T>,
    /// What is there.
    pub found: Option<Held<T>>,
}

/// The halves of a value, seen from the generation in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held<T> {
    /// What packets are judged by.
    pub in_force: T,
    /// What they would be judged by if the generation were raised now.
    pub other: T,
}

/// Ports of one transport, `first` to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    /// The protocol.
    pub transport: Transport,
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

/// A map, as users are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Map {
    /// Local pods to their rule sets.
    Endpoints,
    /// Exact addresses to identities.
    Addresses,
    /// Prefixes to identities.
    Prefixes,
    /// Ports to port atoms.
    Ports,
    /// The rows of rule sets.
    Rules,
}

/// In which way an entry differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It is wanted, and not there.
    Missing,
    /// It is there, and not wanted.
    Extra,
    /// Packets are judged by another value than the one wanted.
    Wrong,
    /// Packets are judged by the value wanted, but the half that is not in force has another one: a plan was broken off.
    Stale,
}

/// How many entries differ, by map and kind. Of the port map, ports are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found(BTreeMap<(Map, Kind), usize>);

impl Found {
    /// Counts.
    pub fn of(differences: &[Difference]) -> Self {
        let mut found = BTreeMap::new();
        for difference in differences {
            *found.entry((difference.map(), difference.kind())).or_default() += difference.entries();
        }
        Self(found)
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many entries of a map differ in this way.
    pub fn get(&self, map: Map, kind: Kind) -> usize {
        self.0.get(&(map, kind)).copied().unwrap_or(0)
    }

    /// Those of which there is at least one.
    pub fn iter(&self) -> impl Iterator<Item = (Map, Kind, usize)> {
        self.0.iter().map(|(&(map, kind), &count)| (map, kind, count))
    }
}

impl fmt::Display for Found {
    /// `2 missing in endpoints, 1 wrong in rules`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no difference");
        }
        for (index, (map, kind, count)) in self.iter().enumerate() {
            write!(f, "{}{count} {kind} in {map}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Map {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Endpoints => "endpoints",
            Self::Addresses => "addresses",
            Self::Prefixes => "prefixes",
            Self::Ports => "ports",
            Self::Rules => "rules",
        }
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Wrong => "wrong",
            Self::Stale => "stale",
        })
    }
}

impl<T: Copy> Held<T> {
    /// The same in both halves.
    pub(crate) fn settled(value: T) -> Self {
        Self { in_force: value, other: value }
    }

    /// The halves of a value under this generation.
    pub(crate) fn of(halves: Halves<T>, generation: Generation) -> Self {
        Self { in_force: halves.at(generation), other: halves.at(generation.wrapping_add(1)) }
    }
}

impl<K, T: PartialEq> Pointer<K, T> {
    fn kind(&self) -> Kind {
        match (&self.wanted, &self.found) {
            (None, _) => Kind::Extra,
            (_, None) => Kind::Missing,
            (Some(wanted), Some(found)) if found.in_force == *wanted => Kind::Stale,
            _ => Kind::Wrong,
        }
    }
}

impl Difference {
    /// The map.
    pub fn map(&self) -> Map {
        match self {
            Self::Endpoint(_) => Map::Endpoints,
            Self::Address(_) => Map::Addresses,
            Self::Prefix(_) => Map::Prefixes,
            Self::Ports(_) => Map::Ports,
            Self::Rule { .. } => Map::Rules,
        }
    }

    /// In which way the entry differs.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Endpoint(pointer) => pointer.kind(),
            Self::Address(pointer) => pointer.kind(),
            Self::Prefix(pointer) => pointer.kind(),
            Self::Ports(pointer) => pointer.kind(),
            Self::Rule { wanted: None, .. } => Kind::Extra,
            Self::Rule { found: None, .. } => Kind::Missing,
            Self::Rule { .. } => Kind::Wrong,
        }
    }

    /// How many entries of the map this is about.
    pub fn entries(&self) -> usize {
        match self {
            Self::Ports(ports) => usize::from(ports.key.last - ports.key.first) + 1,
            _ => 1,
        }
    }

    /// The key, as users are told of it.
    pub fn key(&self) -> String {
        match self {
            Self::Endpoint(pointer) => pointer.key.to_string(),
            Self::Address(pointer) => pointer.key.to_string(),
            Self::Prefix(pointer) => pointer.key.to_string(),
            Self::Ports(pointer) => {
                let PortRange { transport, first, last } = pointer.key;
                if first == last {
                    format!("{} {first}", transport_name(transport))
                } else {
                    format!("{} {first}-{last}", transport_name(transport))
                }
            }
            Self::Rule { key, .. } => {
                let peer = if key.identity().is_none() {
                    "any peer".to_owned()
                } else {
                    format!("identity {:#x}", key.identity().get())
                };
                let ports = match key.ports() {
                    PortKey::All => "all ports".to_owned(),
                    PortKey::Port(transport, port) => format!("{} {port}", transport_name(transport)),
                };
                format!("rule set {:#x}, {peer}, {ports}", key.rule_set().get())
            }
        }
    }

    /// What is to be there, as users are told of it.
    pub fn wanted(&self) -> String {
        match self {
            Self::Endpoint(pointer) => told(pointer.wanted, endpoint_text),
            Self::Address(pointer) => told(pointer.wanted, identity_text),
            Self::Prefix(pointer) => told(pointer.wanted, identity_text),
            Self::Ports(pointer) => told(pointer.wanted, atom_text),
            Self::Rule { wanted, .. } => told(*wanted, row_text),
        }
    }

    /// What is there, as users are told of it.
    pub fn found(&self) -> String {
        match self {
            Self::Endpoint(pointer) => told(pointer.found, |held| halves_text(held, endpoint_text)),
            Self::Address(pointer) => told(pointer.found, |held| halves_text(held, identity_text)),
            Self::Prefix(pointer) => told(pointer.found, |held| halves_text(held, identity_text)),
            Self::Ports(pointer) => told(pointer.found, |held| halves_text(held, atom_text)),
            Self::Rule { found, .. } => told(*found, row_text),
        }
    }
}

impl fmt::Display for Difference {
    /// `prefixes 10.0.0.0/8: wanted identity 0x2a, found nothing`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: wanted {}, found {}", self.map(), self.key(), self.wanted(), self.found())
    }
}

fn told<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "nothing".to_owned(), text)
}

fn halves_text<T: PartialEq>(held: Held<T>, text: impl Fn(T) -> String) -> String {
    if held.in_force == held.other {
        text(held.in_force)
    } else {
        format!("{} in force, {} in the other half", text(held.in_force), text(held.other))
    }
}

fn endpoint_text(endpoint: Endpoint) -> String {
    let [ingress, egress] = Direction::ALL.map(|direction| match endpoint.rule_set(direction) {
        RuleSetId::NONE => "none".to_owned(),
        RuleSetId::HOLD => "hold".to_owned(),
        id => format!("{:#x}", id.get()),
    });
    format!("rule sets {ingress} (ingress) and {egress} (egress)")
}

fn identity_text(identity: Identity) -> String {
    if identity.is_none() { "no identity".to_owned() } else { format!("identity {:#x}", identity.get()) }
}

fn atom_text(atom: PortAtom) -> String {
    if atom == 0 { "the rest".to_owned() } else { format!("atom {atom}") }
}

fn row_text(row: RuleRow) -> String {
    let slot = |slot: Slot| match slot.action() {
        _ if slot.is_empty() => "nothing".to_owned(),
        Some(action) => format!("{action:?} by rule {}", slot.rank()).to_lowercase(),
        None if slot.asks() => format!("what is asked, by rule {}", slot.rank()),
        None => format!("an unknown action by rule {}", slot.rank()),
    };
    let [admin, namespace, baseline] =
        [Tier::Admin, Tier::Namespace, Tier::Baseline].map(|tier| slot(row.slot(tier)));
    let class = row.class().map_or_else(String::new, |class| format!(", class {class}"));
    let list = if row.list() == 0 { String::new() } else { format!(", list {:#x}", row.list()) };
    format!("admin {admin}, namespace {namespace}, baseline {baseline}{class}{list}")
}

fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
        Transport::Sctp => "SCTP",
    }
}

#[cfg(test)]
mod tests {
    use datapath::verdict::Action;

    use super::*;

    #[test]
    fn a_difference_names_the_map_the_key_what_is_wanted_and_what_is_found() {
        let [one, two] = [1, 2].map(RuleSetId::new);
        let row =
            |action| RuleRow::new([Slot::new(3, action).unwrap(), Slot::EMPTY, Slot::EMPTY]).with_class(80);
        let key = RuleKey::new(RuleSetId::new(0x2a), Identity::new(7), PortKey::Port(Transport::Tcp, 80));
        let settled = |identity| Some(Held::settled(Identity::new(identity)));
        let differences = [
            Difference::Endpoint(Pointer {
                key: PodKey::new("shop", "web"),
                wanted: Some(Endpoint::new(one, RuleSetId::NONE)),
                found: Some(Held {
                    in_force: Endpoint::new(one, RuleSetId::NONE),
                    other: Endpoint::new(two, two),
                }),
            }),
            Difference::Address(Pointer { key: [10, 0, 0, 1].into(), wanted: None, found: settled(0x2a) }),
            Difference::Prefix(Pointer {
                key: "10.0.0.0/8".parse().unwrap(),
                wanted: Some(Identity::NONE),
                found: settled(0x2a),
            }),
            Difference::Ports(Pointer {
                key: PortRange { transport: Transport::Udp, first: 53, last: 54 },
                wanted: Some(53),
                found: Some(Held::settled(0)),
            }),
            Difference::Rule { key, wanted: Some(row(Action::Deny)), found: Some(row(Action::Allow)) },
            Difference::Rule { key, wanted: Some(row(Action::Deny)), found: None },
        ];
        let text = differences.each_ref().map(ToString::to_string);
        assert_eq!(
            text,
            [
                "endpoints shop/web: wanted rule sets 0x1 (ingress) and none (egress), found rule sets 0x1 (ingress) \
                 and none (egress) in force, rule sets 0x2 (ingress) and 0x2 (egress) in the other half",
                "addresses 10.0.0.1: wanted nothing, found identity 0x2a",
                "prefixes 10.0.0.0/8: wanted no identity, found identity 0x2a",
                "ports UDP 53-54: wanted atom 53, found the rest",
                "rules rule set 0x2a, identity 0x7, TCP 80: wanted admin deny by rule 3, namespace nothing, baseline \
                 nothing, class 80, found admin allow by rule 3, namespace nothing, baseline nothing, class 80",
                "rules rule set 0x2a, identity 0x7, TCP 80: wanted admin deny by rule 3, namespace nothing, baseline \
                 nothing, class 80, found nothing",
            ]
        );
        let found = Found::of(&differences);
        assert_eq!(
            found.to_string(),
            "1 stale in endpoints, 1 extra in addresses, 1 wrong in prefixes, 2 wrong in ports, 1 missing in rules, \
             1 wrong in rules"
        );
        assert_eq!((found.get(Map::Ports, Kind::Wrong), found.get(Map::Ports, Kind::Missing)), (2, 0));
        assert_eq!(Found::default().to_string(), "no difference");
    }
}
