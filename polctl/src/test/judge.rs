//! Tests to outcomes. Who is meant and what is decided are `explain`'s business; here it is only compared.

use datapath::verdict::Reason;
use policy_compiler::compiler::Compiler;
use policy_compiler::explain::{Connection, Explanation, Party, Place, Side, ports, walk};
use policy_compiler::object::Location;
use serde::Serialize;

use super::file::{Asked, Test};
use crate::explain::units::{self, Unit, units};
use crate::input::Input;
use crate::party;

/// What became of a test.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Its name, or what it asks.
    pub(super) title: String,
    pub(super) location: Location,
    /// `allow`, `deny, by default-deny`
    pub(super) expected: String,
    pub(super) state: State,
    /// Every connection that was asked about.
    pub(super) cases: Vec<Case>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    Passed,
    Failed,
    /// It cannot be run, because of this.
    Broken(String),
}

/// One connection.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Case {
    pub(super) from: String,
    pub(super) to: String,
    /// `5432/TCP`
    pub(super) port: String,
    pub(super) passed: bool,
    /// `allow`, `deny`, `reject`, or `redirect` if what is asked decides and was not named.
    pub(super) verdict: &'static str,
    /// What each side says.
    pub(super) sides: Vec<Said>,
}

/// What one end says of a connection.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Said {
    /// `egress` or `ingress`.
    pub(super) direction: &'static str,
    pub(super) pod: String,
    pub(super) verdict: &'static str,
    /// `NetworkPolicy prod/api spec.ingress[0]`
    pub(super) by: String,
    /// `a.yaml:7`
    pub(super) location: Option<String>,
}

pub(super) fn run(input: &mut Input, test: &Test, namespace: &str) -> Outcome {
    let (state, cases) = match cases(input, test, namespace) {
        Ok(cases) if cases.iter().all(|case| case.passed) => (State::Passed, cases),
        Ok(cases) => (State::Failed, cases),
        Err(error) => (State::Broken(format!("{error:#}")), Vec::new()),
    };
    let verdict = if test.allow { "allow" } else { "deny" };
    let expected = test.by.as_ref().map_or_else(|| verdict.to_owned(), |by| format!("{verdict}, by {by}"));
    let title = test.name.clone();
    let title =
        title.unwrap_or_else(|| format!("{} -> {}: {verdict}", test.from.join(", "), test.to.join(", ")));
    Outcome { title, location: test.location.clone(), expected, state, cases }
}

fn cases(input: &mut Input, test: &Test, namespace: &str) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for from in &test.from {
        for to in &test.to {
            for asked in &test.asked {
                let source = party::find(input.compiler.cluster(), from, namespace)?;
                let target = party::find(input.compiler.cluster(), to, namespace)?;
                let asked = match asked {
                    Asked::Port(port) => units::Asked::Port(port.clone()),
                    Asked::Protocol(number) => units::Asked::Protocol(*number),
                    Asked::All => units::Asked::All,
                };
                for unit in units(input, source, target, &asked)?.units {
                    judged(&input.compiler, &unit, test, &mut cases);
                }
            }
        }
    }
    Ok(cases)
}

fn judged(compiler: &Compiler, unit: &Unit, test: &Test, cases: &mut Vec<Case>) {
    let Unit { from, to, protocol } = unit;
    match *protocol {
        Some(protocol) => {
            let (from, to, request) = (from.clone(), to.clone(), test.request.clone());
            let connection = Connection { from, to, protocol, request };
            cases.push(case(unit, protocol.to_string(), &walk(compiler, &connection), test));
        }
        None => {
            for group in ports::all(compiler, from, to) {
                let spans: Vec<String> = group.ports.iter().map(ToString::to_string).collect();
                cases.push(case(unit, spans.join(", "), &group.explanation, test));
            }
        }
    }
}

fn case(unit: &Unit, port: String, found: &Explanation, test: &Test) -> Case {
    // Of a denial, the side that denies is what decided; an allowed connection needs both.
    let decisive = |side: &&Side| found.allowed || side.verdict != "allow";
    let by =
        test.by.as_ref().is_none_or(|by| found.sides.iter().filter(decisive).any(|side| by.decides(side)));
    Case {
        from: name(&unit.from),
        to: name(&unit.to),
        port,
        passed: found.allowed == test.allow && by,
        verdict: found.verdict,
        sides: found.sides.iter().map(said).collect(),
    }
}

fn said(side: &Side) -> Said {
    let (by, place) = match (&side.rule, &side.isolated_by[..]) {
        (Some(place), _) => (place.to_string(), Some(place)),
        (None, [first, rest @ ..]) => {
            let names: Vec<String> = std::iter::once(first).chain(rest).map(Place::object_name).collect();
            (format!("default deny of {}", names.join(", ")), Some(first))
        }
        (None, []) if side.reason == Reason::NoPolicy.name() => ("no policy".to_owned(), None),
        (None, []) => (side.summary.clone(), None),
    };
    Said {
        direction: side.direction,
        pod: side.pod.to_string(),
        verdict: side.verdict,
        by,
        location: place.and_then(Place::location),
    }
}

fn name(party: &Party) -> String {
    match party {
        Party::Pod(key, address) if address.is_ipv6() => format!("{key} (IPv6)"),
        Party::Pod(key, _) => key.to_string(),
        Party::Address(address) => address.to_string(),
    }
}
