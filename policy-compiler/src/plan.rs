//! From what the kernel holds to what it is to hold: ordered writes with no moment of a third verdict.
//!
//! 1. Rows of the rule map are added. Nothing points at them yet.
//! 2. Pointers get their new value in the half that is not in force.
//! 3. The generation word is raised: one write, and the whole node judges by the new half.
//! 4. Once no packet is left that began under the old generation, pointers get their new value in both halves, and
//!    those that are gone are removed.
//! 5. Rows of the rule map that nothing points at any more are removed.
//!
//! Up to step 3 every packet gets the old verdict, from then on the new one, whatever changed and however much: this
//! needs no case-by-case reasoning about the order of writes. A plan that is broken off leaves one of the two in force;
//! [`adoption`] plans on from there.

use std::fmt;
use std::net::IpAddr;

use datapath::abi::{Endpoint, Generation, Halves, Identity, PortAtom, RuleKey, RuleRow, Transport};
use ipnet::IpNet;

use self::pointers::Pointers;
use crate::delta::Delta;
use crate::image::difference::{Held, Pointer, PortRange};
use crate::object::PodKey;
use crate::tables::{PortAtoms, Prefixes, Tables, port_atom};

pub mod adoption;
mod pointers;

/// One write to a map of the kernel (or, for [`Step::Ports`], one to each port of a range in any order).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// Adds a row of the rule map. It is never there already with another value, unless [`adoption`] repairs it.
    AddRule(RuleKey, RuleRow),
    /// Removes a row of the rule map.
    RemoveRule(RuleKey),
    /// Sets an endpoint.
    SetEndpoint(PodKey, Halves<Endpoint>),
    /// Removes an endpoint.
    RemoveEndpoint(PodKey),
    /// Sets an exact address.
    SetAddress(IpAddr, Halves<Identity>),
    /// Removes an exact address.
    RemoveAddress(IpAddr),
    /// Sets a prefix.
    SetPrefix(IpNet, Halves<Identity>),
    /// Removes a prefix.
    RemovePrefix(IpNet),
    /// Sets the atom of ports `first` to `last`.
    Ports {
        /// The protocol.
        transport: Transport,
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
        /// Their atom.
        atom: Halves<PortAtom>,
    },
    /// Raises the generation to this.
    Commit(Generation),
    /// Waits until no packet is being judged that read the old generation.
    Quiesce,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// A row would have to change its value in place: the key's ids are those of other content. Needs a collision of
    /// digests between what is there and what comes, so a plan by way of empty tables helps.
    KeyReused(RuleKey),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyReused(key) => {
                write!(
                    f,
                    "rule row {key:?} is in the kernel with other content; expected ids that are derived from content"
                )
            }
        }
    }
}

impl std::error::Error for PlanError {}

/// Plans the change that a [`Delta`] records, from generation `in_force` on. `new` are the tables it led to. The kernel
/// is taken to hold just what was before, at rest; if that is not sure, [`adoption`] is what helps.
pub fn plan(delta: &Delta, new: &Tables, in_force: Generation) -> Result<Vec<Step>, PlanError> {
    let mut steps = Vec::new();
    let mut last = Vec::new();
    rules(delta, new, &mut steps, &mut last)?;
    let mut pointers = Pointers::new(in_force);
    for (key, before) in &delta.endpoints {
        pointers.endpoint(&changed(key.clone(), *before, new.endpoints.get(key).copied()));
    }
    for (address, before) in &delta.addresses {
        pointers.address(&changed(*address, *before, new.addresses.get(address).copied()));
    }
    for (prefix, before) in &delta.prefixes {
        let inherited = [inherited_before(delta, &new.prefixes, prefix), new.prefixes.inherited(prefix)];
        pointers.prefix(&changed(*prefix, *before, new.prefixes.get(prefix)), inherited);
    }
    for (&transport, before) in &delta.ports {
        let after = &new.ports[transport as usize];
        for (first, last) in runs(before, after) {
            let [old, new] = [port_atom(before, first), port_atom(after, first)];
            pointers.ports(&changed(PortRange { transport, first, last }, Some(old), Some(new)));
        }
    }
    steps.extend(pointers.steps(false));
    steps.append(&mut last);
    Ok(steps)
}

/// A pointer that was at rest.
fn changed<K, T: Copy>(key: K, before: Option<T>, after: Option<T>) -> Pointer<K, T> {
    Pointer { key, wanted: after, found: before.map(Held::settled) }
}

/// Plans the change from one state of the tables to another.
pub fn plan_between(old: &Tables, new: &Tables, in_force: Generation) -> Result<Vec<Step>, PlanError> {
    plan(&Delta::between(old, new), new, in_force)
}

fn rules(delta: &Delta, new: &Tables, first: &mut Vec<Step>, last: &mut Vec<Step>) -> Result<(), PlanError> {
    for id in &delta.rule_sets {
        if let Some(rows) = new.rules.get(id) {
            first.extend(rows.iter(*id).map(|(key, row)| Step::AddRule(key, row)));
        }
    }
    for (key, before) in &delta.rules {
        let now = new.rules.get(&key.rule_set()).and_then(|rows| rows.get(key.identity(), key.ports()));
        match (before, now) {
            (None, Some(row)) => first.push(Step::AddRule(*key, row)),
            (Some(_), None) => last.push(Step::RemoveRule(*key)),
            (Some(before), Some(now)) if *before != now => return Err(PlanError::KeyReused(*key)),
            _ => {}
        }
    }
    Ok(())
}

/// What addresses in a prefix got before, if the prefix itself was not there.
fn inherited_before(delta: &Delta, now: &Prefixes, prefix: &IpNet) -> Identity {
    let outer = (0..prefix.prefix_len()).rev().filter_map(|length| IpNet::new(prefix.network(), length).ok());
    let mut before = outer.filter_map(|outer| {
        let outer = outer.trunc();
        delta.prefixes.get(&outer).copied().unwrap_or_else(|| now.get(&outer))
    });
    before.next().unwrap_or(Identity::NONE)
}

/// The runs of ports within which neither partition has an edge.
fn runs(before: &PortAtoms, after: &PortAtoms) -> Vec<(u16, u16)> {
    let edges = |atoms: &PortAtoms| -> Vec<u32> {
        atoms.iter().flat_map(|(&first, &last)| [u32::from(first), u32::from(last) + 1]).collect()
    };
    let mut cuts = vec![0, 1 << 16];
    cuts.extend(edges(before));
    cuts.extend(edges(after));
    cuts.sort_unstable();
    cuts.dedup();
    let pairs = cuts.iter().zip(cuts.iter().skip(1));
    pairs
        .filter_map(|(&start, &end)| Some((u16::try_from(start).ok()?, u16::try_from(end - 1).ok()?)))
        .collect()
}
