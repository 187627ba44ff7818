//! Rules that never decide, because others leave nothing for them. (Of rules that match nothing to begin with, `selectors`
//! and `ports` say why.)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datapath::abi::{Direction, RuleSetId};
use datapath::verdict::{Action, Tier};

use super::{Remark, cells, listed};
use crate::compiler::Compiler;
use crate::object::ObjectRef;
use crate::policy::{Policy, Rule};
use crate::problem::{Problem, Severity};
use crate::rule_set::{Origin, RuleSet};

/// The id of findings about a rule that others of its tier leave nothing for.
pub(super) const SHADOWED_RULE: &str = "shadowed-rule";

/// The id of findings about a rule of a NetworkPolicy that the Admin tier always forestalls.
pub(super) const ADMIN_OVERRIDES: &str = "admin-overrides";

/// A rule, by its object, its direction and its index there.
type Key = (ObjectRef, Direction, usize);

/// What became of a rule in all cells in which it matches.
#[derive(Default)]
struct Fate {
    matches: bool,
    /// It is needed: in some cell no other rule of its tier does its work.
    is_needed: bool,
    /// In some cell of those the Admin tier leaves the decision to its tier.
    is_asked: bool,
    shadowed_by: BTreeSet<Key>,
    overridden_by: BTreeSet<Key>,
}

pub(super) fn review(compiler: &Compiler, found: &mut Vec<Problem>) {
    for ((object, direction, index), fate) in fates(compiler) {
        let Some(policy) = compiler.policy(&object) else { continue };
        let Some(rule) = policy.block(direction).rules.get(index) else { continue };
        if !fate.matches {
            continue;
        }
        if !fate.is_needed {
            found.push(shadowed(compiler, policy, rule, &fate.shadowed_by));
        } else if policy.tier == Tier::Namespace && !fate.is_asked {
            found.push(overridden(compiler, policy, rule, &fate.overridden_by));
        }
    }
}

/// The rule sets of all endpoints, each once.
fn rule_sets(compiler: &Compiler) -> BTreeSet<RuleSetId> {
    let endpoints = compiler.tables().endpoints.values();
    endpoints.flat_map(|endpoint| Direction::ALL.map(|direction| endpoint.rule_set(direction))).collect()
}

fn fates(compiler: &Compiler) -> BTreeMap<Key, Fate> {
    let sets: Vec<_> = rule_sets(compiler)
        .into_iter()
        .filter_map(|id| compiler.rule_set_by_id(id))
        .map(|set| (set, cells::matching(compiler, set)))
        .collect();
    let mut fates = BTreeMap::<Key, Fate>::new();
    for (set, matching) in &sets {
        for key in (0..).zip(set.rules()).filter_map(|(rank, _)| key(set, rank)) {
            fates.entry(key).or_default();
        }
        for cell in matching {
            ordered_tiers(set, cell, &mut fates);
        }
    }
    let redundant = additive_tier(&sets, &mut fates);
    for (set, matching) in &sets {
        for cell in matching {
            names_of_shadows(set, cell, &redundant, &mut fates);
        }
    }
    fates
}

fn key(set: &RuleSet, rank: u32) -> Option<Key> {
    match &set.rules().get(rank as usize)?.origin {
        Origin::Rule { object, index } | Origin::Claim { object, index } => {
            Some((object.clone(), set.direction(), *index))
        }
        Origin::Isolation { .. } => None,
    }
}

/// A rule of the namespace tier that adds to others of its kind: a plain one that allows.
fn is_additive(set: &RuleSet, rank: u32) -> bool {
    set.rules().get(rank as usize).is_some_and(|rule| {
        rule.tier == Tier::Namespace && rule.action == Action::Allow && rule.asks.is_none()
    })
}

/// The rank from which on nothing of a tier is asked in a cell, if there is one: that of the first rule that decides whatever is
/// asked. What adds up does not forestall its like.
fn last_asked(set: &RuleSet, ranks: &[u32]) -> Option<u32> {
    let decides = |rank: &u32| {
        let plain = set.rules().get(*rank as usize).is_some_and(|rule| rule.asks.is_none());
        plain && !is_additive(set, *rank)
    };
    ranks.iter().copied().find(decides)
}

/// In the tiers with an order the first rule that matches does the work of all.
fn ordered_tiers(set: &RuleSet, cell: &cells::Matching, fates: &mut BTreeMap<Key, Fate>) {
    let admin = last_asked(set, &cell[Tier::Admin as usize]);
    let decides =
        |rank: &u32| set.rules().get(*rank as usize).is_some_and(|rule| rule.action != Action::Pass);
    let overrider = admin.filter(decides).and_then(|rank| key(set, rank));
    for tier in Tier::ALL {
        let ranks = &cell[tier as usize];
        let last = last_asked(set, ranks);
        let first = last.and_then(|rank| key(set, rank));
        for (rank, rule) in ranks.iter().filter_map(|&rank| Some((rank, key(set, rank)?))) {
            let fate = fates.entry(rule.clone()).or_default();
            fate.matches = true;
            match &overrider {
                Some(overrider) if tier != Tier::Admin => fate.overridden_by.extend([overrider.clone()]),
                _ => fate.is_asked = true,
            }
            let is_asked = last.is_none_or(|last| rank <= last);
            if !is_asked {
                fate.shadowed_by.extend(first.clone().filter(|first| *first != rule));
            } else if !is_additive(set, rank) {
                fate.is_needed = true;
            }
        }
    }
}

/// Rules of `NetworkPolicy` objects add up: one is redundant if in every cell another one that is not redundant matches too. Of
/// two that do the same work the later one is called redundant, by object and index.
fn additive_tier(
    sets: &[(&RuleSet, BTreeSet<cells::Matching>)],
    fates: &mut BTreeMap<Key, Fate>,
) -> BTreeSet<Key> {
    let mut by_rule = BTreeMap::<Key, BTreeSet<Arc<BTreeSet<Key>>>>::new();
    for (set, matching) in sets {
        for cell in matching {
            let ranks = &cell[Tier::Namespace as usize];
            let last = last_asked(set, ranks).unwrap_or(u32::MAX);
            let additive = ranks.iter().filter(|rank| **rank < last && is_additive(set, **rank));
            let keys: BTreeSet<Key> = additive.filter_map(|&rank| key(set, rank)).collect();
            let keys = Arc::new(keys);
            for rule in &*keys {
                by_rule.entry(rule.clone()).or_default().insert(Arc::clone(&keys));
            }
        }
    }
    let mut redundant = BTreeSet::new();
    for (rule, cells) in by_rule.iter().rev() {
        let others_do_it =
            |cell: &Arc<BTreeSet<Key>>| cell.iter().any(|other| other != rule && !redundant.contains(other));
        if cells.iter().all(others_do_it) {
            redundant.insert(rule.clone());
        } else if let Some(fate) = fates.get_mut(rule) {
            fate.is_needed = true;
        }
    }
    redundant
}

/// The rules that do the work of redundant ones.
fn names_of_shadows(
    set: &RuleSet,
    cell: &cells::Matching,
    redundant: &BTreeSet<Key>,
    fates: &mut BTreeMap<Key, Fate>,
) {
    let additive = cell[Tier::Namespace as usize].iter().filter(|rank| is_additive(set, **rank));
    let keys: Vec<Key> = additive.filter_map(|&rank| key(set, rank)).collect();
    let worker = keys.iter().find(|key| !redundant.contains(*key));
    for rule in keys.iter().filter(|key| redundant.contains(*key)) {
        if let Some(fate) = fates.get_mut(rule) {
            fate.shadowed_by.extend(worker.cloned());
        }
    }
}

fn named(compiler: &Compiler, rules: &BTreeSet<Key>) -> String {
    listed(rules.iter().map(|(object, direction, index)| {
        let policy = compiler.policy(object);
        let rule = policy.and_then(|policy| policy.block(*direction).rules.get(*index));
        let Some((policy, rule)) = policy.zip(rule) else { return object.to_string() };
        let name = rule.name.as_ref().map_or_else(String::new, |name| format!(" {name:?}"));
        match policy.locate(&rule.path) {
            Some(place) => format!("{} {}{name} ({place})", policy.object, rule.path),
            None => format!("{} {}{name}", policy.object, rule.path),
        }
    }))
}

fn actions(compiler: &Compiler, rules: &BTreeSet<Key>) -> BTreeSet<Action> {
    let rule = |(object, direction, index): &Key| {
        Some(compiler.policy(object)?.block(*direction).rules.get(*index)?.action)
    };
    rules.iter().filter_map(rule).collect()
}

fn shadowed(compiler: &Compiler, policy: &Policy, rule: &Rule, by: &BTreeSet<Key>) -> Problem {
    let contradicts = actions(compiler, by).iter().any(|action| *action != rule.action);
    let names = named(compiler, by);
    let is_plain = |rule: &Rule| rule.action == Action::Allow && rule.asks.is_none();
    let adds_up = policy.tier == Tier::Namespace
        && is_plain(rule)
        && by.iter().all(|(object, direction, index)| {
            let of = compiler.policy(object).and_then(|of| of.block(*direction).rules.get(*index));
            of.is_some_and(is_plain)
        });
    let (severity, message, expected) = if adds_up {
        (Severity::Note, format!("all that this rule allows is allowed by {names} too"), "")
    } else if contradicts {
        let message = format!(
            "this rule never decides: whatever it matches, {names} matches first, with another action"
        );
        (Severity::Warning, message, "this rule before that one, or without it")
    } else {
        let message = format!(
            "this rule never decides: whatever it matches, {names} matches first, with the same action"
        );
        (Severity::Note, message, "")
    };
    let (id, path, expected) = (SHADOWED_RULE, &*rule.path, expected.to_owned());
    Remark { severity, id, path, message, expected }.of(policy)
}

fn overridden(compiler: &Compiler, policy: &Policy, rule: &Rule, by: &BTreeSet<Key>) -> Problem {
    let denies = actions(compiler, by).iter().any(|action| matches!(action, Action::Deny | Action::Reject));
    let names = named(compiler, by);
    let (severity, message) = if denies {
        (
            Severity::Warning,
            format!("this rule allows nothing that the Admin tier leaves to it: {names} decides before"),
        )
    } else {
        (
            Severity::Note,
            format!("all that this rule allows is already allowed in the Admin tier, by {names}"),
        )
    };
    let (id, path, expected) = (ADMIN_OVERRIDES, &*rule.path, String::new());
    Remark { severity, id, path, message, expected }.of(policy)
}
