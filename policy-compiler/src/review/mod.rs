//! What a reviewer would say of policies that are valid.
//!
//! ```text
//! Compiler: facts, policies --Selection--> selectors, ports, requests, effect, breadth, order
//!           tables          --cells------> shadowed, dns                               what is decided
//!                                              |
//!                                              +--> Problems, located, none twice
//! ```
//!
//! Everything here is said of the facts at hand: a directory of manifests is rarely a whole cluster, so what could be
//! explained by a missing part of it is a note. Ids and what to do about each: `docs/reference/check.md`.

mod addresses;
mod breadth;
mod cells;
mod dns;
mod effect;
mod near;
mod order;
mod ports;
mod requests;
mod selection;
mod selectors;
mod shadowed;
#[cfg(test)]
mod testing;

use crate::compiler::Compiler;
use crate::policy::Policy;
use crate::problem::{Problem, Severity};

use selection::Selection;

/// Looks at all policies in force. Sorted by severity, id and object; a policy needs a [`crate::object::Source`] for its
/// findings to have a place.
pub fn review(compiler: &Compiler) -> Vec<Problem> {
    let selection = Selection::new(compiler.cluster());
    let mut found = Vec::new();
    for policy in compiler.policies() {
        selectors::review(policy, &selection, &mut found);
        ports::review(policy, &selection, &mut found);
        effect::review(policy, &selection, &mut found);
        breadth::review(policy, &mut found);
        requests::review(policy, &mut found);
    }
    order::review(compiler, &selection, &mut found);
    dns::review(compiler, &mut found);
    addresses::review(compiler, &mut found);
    shadowed::review(compiler, &mut found);
    found.sort();
    found.dedup();
    found
}

/// Something about a field of a policy.
struct Remark<'a> {
    severity: Severity,
    id: &'static str,
    path: &'a str,
    message: String,
    expected: String,
}

impl Remark<'_> {
    fn of(self, policy: &Policy) -> Problem {
        let Self { severity, id, path, message, expected } = self;
        let invalid = Problem::invalid(&policy.object, path, message, expected);
        Problem { severity, id, ..invalid }.located(policy.source.as_ref())
    }
}

/// `a`, `a and b`, `a, b and 3 more`
fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    /// More than these are counted, not named.
    const NAMED: usize = 4;
    let mut items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.len() > NAMED {
        let more = items.len() + 1 - NAMED;
        items.truncate(NAMED - 1);
        items.push(format!("{more} more"));
    }
    match &items[..] {
        [] => String::new(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests;
