//! Equal answers made one: a representative, and for whom it speaks.

use std::collections::BTreeSet;

use policy_compiler::compiler::Compiler;
use policy_compiler::explain::ports::{self, Key, PortGroup, PortSpan};
use policy_compiler::explain::{Connection, Explanation, Party, Request, explain};
use serde::Serialize;

use super::kernel::Kernel;
use super::units::{Unit, Units};

/// Everything that is answered. The JSON of `polctl explain`.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the JSON has this name")]
pub(crate) struct Answers {
    /// What FROM means.
    pub(crate) from: String,
    /// What TO means.
    pub(crate) to: String,
    /// Whether the exit code is 0.
    pub(crate) allowed: bool,
    /// How FROM and TO were understood.
    pub(crate) notes: Vec<String>,
    /// One for each distinct answer.
    pub(crate) answers: Vec<Answer>,
}

/// One answer, explained for one pair.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    /// The pairs that get it.
    pub(crate) pairs: Vec<Pair>,
    /// `IPv4`, `IPv6`: the families in which they get it.
    pub(crate) families: BTreeSet<&'static str>,
    /// With `--port` or `--protocol`, and for services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) explanation: Option<Explanation>,
    /// Without: every protocol and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ports: Option<Vec<PortGroup>>,
    /// What the kernels say of the pairs, a node each, if agents were asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) kernels: Vec<Kernel>,
    /// The pairs, as they were judged.
    #[serde(skip)]
    pub(super) units: Vec<Unit>,
}

impl Answers {
    /// Whether nothing is denied, and what is asked decides about something.
    pub(super) fn depends_on_request(&self) -> bool {
        let verdicts = || {
            self.answers.iter().flat_map(|answer| {
                let ports = answer.ports.iter().flatten().map(|group| group.explanation.verdict);
                answer.explanation.iter().map(|explanation| explanation.verdict).chain(ports)
            })
        };
        let by_port = self.answers.iter().any(|answer| answer.ports.is_some());
        verdicts().any(|verdict| verdict == "redirect")
            && (by_port || verdicts().all(|verdict| matches!(verdict, "allow" | "redirect")))
    }

    /// Whether a kernel was asked and does otherwise.
    pub(super) fn kernel_differs(&self) -> bool {
        self.answers.iter().flat_map(|answer| &answer.kernels).any(Kernel::differs)
    }
}

/// Two ends, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Pair {
    /// A pod, or an address.
    pub(crate) from: String,
    /// A pod, or an address.
    pub(crate) to: String,
}

/// What tells answers apart.
#[derive(PartialEq, Eq)]
enum Told {
    One(Key, String),
    All(Vec<(Vec<PortSpan>, Key)>),
}

/// Judges every unit, and explains one of each distinct answer. `any`: one allowed answer is enough to be allowed.
pub(crate) fn answer(compiler: &Compiler, units: Units, request: Option<&Request>, any: bool) -> Answers {
    let mut groups: Vec<(Told, Vec<Unit>)> = Vec::new();
    for unit in units.units {
        let told = match unit.protocol {
            Some(protocol) => {
                let (from, to, request) = (unit.from.clone(), unit.to.clone(), request.cloned());
                let connection = Connection { from, to, protocol, request };
                Told::One(ports::key(compiler, &connection), name_of_protocol(&unit))
            }
            None => Told::All(ports::keys(compiler, &unit.from, &unit.to)),
        };
        match groups.iter_mut().find(|(known, _)| *known == told) {
            Some((_, members)) => members.push(unit),
            None => groups.push((told, vec![unit])),
        }
    }
    let answers: Vec<Answer> =
        groups.into_iter().filter_map(|(_, members)| explained(compiler, members, request)).collect();
    let mut verdicts = answers.iter().flat_map(|answer| {
        let ports = answer.ports.iter().flatten().map(|group| group.explanation.allowed);
        answer.explanation.iter().map(|explanation| explanation.allowed).chain(ports)
    });
    let allowed = if any { verdicts.any(|allowed| allowed) } else { verdicts.all(|allowed| allowed) };
    Answers { from: units.from, to: units.to, allowed, notes: units.notes, answers }
}

/// ICMP is one protocol, whatever the family calls it.
fn name_of_protocol(unit: &Unit) -> String {
    unit.protocol.map(|protocol| protocol.to_string().replace("ICMPv6", "ICMP")).unwrap_or_default()
}

fn explained(compiler: &Compiler, members: Vec<Unit>, request: Option<&Request>) -> Option<Answer> {
    let first = members.first()?;
    let (from, to) = (&first.from, &first.to);
    let explanation = first.protocol.map(|protocol| {
        let (from, to, request) = (from.clone(), to.clone(), request.cloned());
        explain(compiler, &Connection { from, to, protocol, request })
    });
    let ports = first.protocol.is_none().then(|| ports::all(compiler, from, to));
    let pairs: BTreeSet<Pair> =
        members.iter().map(|unit| Pair { from: name(&unit.from), to: name(&unit.to) }).collect();
    let families = members.iter().map(|unit| if address(&unit.from).is_ipv6() { "IPv6" } else { "IPv4" });
    Some(Answer {
        pairs: pairs.into_iter().collect(),
        families: families.collect(),
        explanation,
        ports,
        kernels: Vec::new(),
        units: members,
    })
}

fn name(party: &Party) -> String {
    match party {
        Party::Pod(key, _) => key.to_string(),
        Party::Address(address) => address.to_string(),
    }
}

pub(super) fn address(party: &Party) -> &std::net::IpAddr {
    match party {
        Party::Pod(_, address) | Party::Address(address) => address,
    }
}
