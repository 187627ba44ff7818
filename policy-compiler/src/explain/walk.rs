//! The walk through the tiers: which rules there are, which match, and where it ends.

use datapath::abi::{Identity, RuleSetId};
use datapath::lookup::{Decision, Origin as PacketOrigin, RuleId};
use datapath::verdict::{Action, Reason, Tier};

use super::answer::{Outcome, Place, RuleWalk, Side, TierWalk, action_name};
use super::ends::Judged;
use super::why::PeerMiss;
use super::{direction_name, miss, verdict_name, why};
use crate::compiler::Compiler;
use crate::object::ObjectRef;
use crate::policy::Rule;
use crate::rule_set::{Origin, RankedRule, RuleMatch, RuleSet};

/// Judges one side and walks it.
pub(super) fn side(compiler: &Compiler, judged: &Judged<'_>) -> Side {
    let decision = judged.decide(compiler);
    let tiers = tiers(compiler, judged, &decision);
    let mut side = Side {
        pod: judged.pod.key.clone(),
        direction: direction_name(judged.direction),
        verdict: verdict_name(decision.verdict),
        reason: decision.reason.name(),
        summary: String::new(),
        rule: None,
        isolated_by: Vec::new(),
        tiers,
        nearest_misses: Vec::new(),
        changes: Vec::new(),
        decision,
        of: judged.direction,
    };
    match decision.rule.and_then(|rule| compiler.rule(rule)).map(|rule| &rule.origin) {
        Some(Origin::Rule { object, index }) => side.rule = place(compiler, judged, object, *index),
        Some(Origin::Isolation { policies }) => side.isolated_by = isolating(compiler, judged, policies),
        None => {}
    }
    if !decision.verdict.is_allow() {
        side.nearest_misses = miss::nearest(compiler, judged, &side);
    }
    side.summary = summary(judged, &side);
    side
}

/// The rule of an object.
pub(super) fn rule_of<'a>(
    compiler: &'a Compiler,
    judged: &Judged<'_>,
    object: &ObjectRef,
    index: usize,
) -> Option<&'a Rule> {
    compiler.policy(object)?.block(judged.direction).rules.get(index)
}

fn place(compiler: &Compiler, judged: &Judged<'_>, object: &ObjectRef, index: usize) -> Option<Place> {
    let rule = rule_of(compiler, judged, object, index)?;
    let place = Place::policy(compiler.policy(object)?, &rule.path);
    Some(Place { rule_name: rule.name.as_ref().map(ToString::to_string), ..place })
}

fn isolating(compiler: &Compiler, judged: &Judged<'_>, policies: &[ObjectRef]) -> Vec<Place> {
    let path = format!("spec.{}", direction_name(judged.direction));
    policies.iter().filter_map(|object| Some(Place::policy(compiler.policy(object)?, &path))).collect()
}

/// The tiers; none if policy was not asked.
fn tiers(compiler: &Compiler, judged: &Judged<'_>, decision: &Decision) -> Vec<TierWalk> {
    let asked = matches!(
        decision.reason,
        Reason::RuleAllows
            | Reason::NoPolicy
            | Reason::RuleDenies
            | Reason::RuleRejects
            | Reason::CorruptTable
    );
    if !asked || judged.origin == PacketOrigin::OwnAddress {
        return Vec::new();
    }
    let set = compiler.rule_set(&judged.pod.key, judged.direction);
    let id = set.map_or(RuleSetId::NONE, RuleSet::id);
    let rules = set.map_or(&[][..], RuleSet::rules);
    let identity = compiler.identity(judged.peer.address);
    let mut decided = false;
    let mut walk = |tier| {
        let mut of: TierWalk =
            TierWalk { tier: tier_name(tier), outcome: Outcome::NoPolicy, rules: Vec::new() };
        if decided {
            of.outcome = Outcome::NotReached;
        }
        // Within a tier, the first rule that matches ends it, whatever it says.
        let mut open = !decided;
        for (rank, rule) in (0_u32..).zip(rules).filter(|(_, rule)| rule.tier == tier) {
            if of.outcome == Outcome::NoPolicy {
                of.outcome = Outcome::NoMatch;
            }
            let Some(found) = matches(compiler, judged, identity, RuleId { rule_set: id, rank }) else {
                continue;
            };
            if open && found.is_full() {
                of.outcome = outcome(compiler, judged, rank, rule);
                open = false;
                of.rules.extend(rule_walk(compiler, judged, rank, rule, found, true));
                decided = !matches!(of.outcome, Outcome::Passed { .. });
                continue;
            }
            of.rules.extend(rule_walk(compiler, judged, rank, rule, found, open));
        }
        of
    };
    Tier::ALL.map(&mut walk).into()
}

fn matches(compiler: &Compiler, judged: &Judged<'_>, identity: Identity, rule: RuleId) -> Option<RuleMatch> {
    compiler.rule_matches(rule, identity, judged.protocol.port())
}

fn outcome(compiler: &Compiler, judged: &Judged<'_>, rank: u32, rule: &RankedRule) -> Outcome {
    match (&rule.origin, rule.action) {
        (Origin::Isolation { policies }, _) => {
            Outcome::DeniedByDefault { rank, policies: isolating(compiler, judged, policies) }
        }
        (_, Action::Allow) => Outcome::Allowed { rank },
        (_, Action::Deny) => Outcome::Denied { rank },
        (_, Action::Pass) => Outcome::Passed { rank },
        (_, Action::Reject) => Outcome::Rejected { rank },
    }
}

/// A rule of an object; the default of a tier is an outcome, not a rule.
fn rule_walk(
    compiler: &Compiler,
    judged: &Judged<'_>,
    rank: u32,
    rule: &RankedRule,
    found: RuleMatch,
    reached: bool,
) -> Option<RuleWalk> {
    let Origin::Rule { object, index } = &rule.origin else { return None };
    let written = rule_of(compiler, judged, object, *index)?;
    let misses = if found.peer { Vec::new() } else { why::peers(compiler, judged, written) };
    let mut why_not: Vec<_> = misses.iter().map(PeerMiss::mismatch).collect();
    if !found.port {
        why_not.push(why::ports(judged, written));
    }
    Some(RuleWalk {
        rank,
        place: place(compiler, judged, object, *index)?,
        index: *index,
        action: action_name(rule.action),
        matched: found.is_full(),
        peer: found.peer,
        port: found.port,
        reached,
        why_not,
        does: rule.action,
        object: object.clone(),
        misses,
    })
}

const fn tier_name(tier: Tier) -> &'static str {
    match tier {
        Tier::Admin => "admin",
        Tier::Namespace => "namespace",
        Tier::Baseline => "baseline",
    }
}

fn summary(judged: &Judged<'_>, side: &Side) -> String {
    let direction = side.direction;
    match side.decision.reason {
        Reason::RuleAllows | Reason::RuleDenies | Reason::RuleRejects => {
            match (&side.rule, side.decision.reason) {
                (Some(place), Reason::RuleAllows) => format!("{place} allows it"),
                (Some(place), Reason::RuleRejects) => format!("{place} rejects it"),
                (Some(place), _) => format!("{place} denies it"),
                (None, _) => {
                    let names: Vec<String> = side.isolated_by.iter().map(Place::object_name).collect();
                    format!("denied by default: isolated by {}, and no rule allows it", names.join(" and "))
                }
            }
        }
        Reason::NoPolicy if side.tiers.iter().all(|tier| tier.outcome == Outcome::NoPolicy) => {
            format!("no policy speaks about {direction} of pod {}: allowed", judged.pod.key)
        }
        Reason::NoPolicy => "no rule decides, and nothing isolates the pod: allowed by default".to_owned(),
        Reason::OwnAddress => "a pod always reaches itself".to_owned(),
        Reason::OwnNode => "a pod is always reached from its own node".to_owned(),
        Reason::UnknownEndpoint => "no tables are made for this pod, so that it is closed".to_owned(),
        Reason::CorruptTable => "the tables hold a value that is not known, so that it is closed".to_owned(),
    }
}
