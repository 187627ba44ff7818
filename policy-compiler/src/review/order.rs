//! Policies of one tier with the same priority.

use std::collections::{BTreeMap, BTreeSet};

use datapath::abi::Direction;

use super::selection::Selection;
use super::{Remark, listed};
use crate::compiler::Compiler;
use crate::object::PodKey;
use crate::policy::{Policy, Tier};
use crate::problem::{Problem, Severity};

/// The id of findings about policies of one tier and one priority, whose order the API leaves open.
pub(super) const EQUAL_PRIORITY: &str = "equal-priority";

pub(super) fn review(compiler: &Compiler, selection: &Selection<'_>, found: &mut Vec<Problem>) {
    let mut groups = BTreeMap::<(Tier, i32), Vec<&Policy>>::new();
    for policy in compiler.policies().filter(|policy| policy.tier != Tier::Namespace) {
        groups.entry((policy.tier, policy.priority)).or_default().push(policy);
    }
    for ((_, priority), mut group) in groups.into_iter().filter(|(_, group)| group.len() > 1) {
        group.sort_unstable_by(|a, b| a.order().cmp(&b.order()));
        let subjects: Vec<BTreeSet<&PodKey>> = group
            .iter()
            .map(|policy| selection.pods(&policy.subject).into_iter().map(|pod| &pod.key).collect())
            .collect();
        for (index, (later, of_later)) in group.iter().zip(&subjects).enumerate().skip(1) {
            let earlier = group.iter().zip(&subjects).take(index);
            let (meet, apart): (Vec<_>, Vec<_>) = earlier
                .partition(|(policy, of)| share_a_direction(policy, later) && !of.is_disjoint(of_later));
            let (severity, others, consequence) = if meet.is_empty() {
                (Severity::Note, apart, "they do not meet on any pod at hand")
            } else {
                (
                    Severity::Warning,
                    meet,
                    "both apply to some pods, and other implementations may ask in another order",
                )
            };
            let names = listed(others.iter().map(|(policy, _)| match policy.locate("spec.priority") {
                Some(place) => format!("{} ({place})", policy.object),
                None => policy.object.to_string(),
            }));
            let (verb, asked) = if others.len() == 1 { ("has", "which is") } else { ("have", "which are") };
            let message = format!(
                "{names} {verb} the same priority {priority}, {asked} asked first, by kind and name; {consequence}"
            );
            let (id, path, expected) = (EQUAL_PRIORITY, "spec.priority", "a priority of its own".to_owned());
            found.push(Remark { severity, id, path, message, expected }.of(later));
        }
    }
}

fn share_a_direction(one: &Policy, two: &Policy) -> bool {
    Direction::ALL.into_iter().any(|of| !one.block(of).rules.is_empty() && !two.block(of).rules.is_empty())
}
