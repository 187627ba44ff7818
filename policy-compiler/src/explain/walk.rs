//! The walk through the tiers: which rules there are, which match, and where it ends.

use datapath::abi::{Identity, RuleSetId};
use datapath::lookup::{Decision, Origin as PacketOrigin, RuleId};
use datapath::verdict::{Action, Reason, Tier, Verdict};

use super::answer::{Outcome, Place, RuleWalk, Side, TierWalk, action_name};
use super::ends::Judged;
use super::why::PeerMiss;
use super::{direction_name, miss, request, verdict_name, why};
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
        Some(Origin::Rule { object, index } | Origin::Claim { object, index }) => {
            side.rule = place(compiler, judged, object, *index);
        }
        Some(Origin::Isolation { policies }) => side.isolated_by = isolating(compiler, judged, policies),
        None => {}
    }
    if matches!(decision.verdict, Verdict::Deny | Verdict::Reject) {
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
            | Reason::NeedsRequest
            | Reason::OtherProtocol
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
            let heard = heard(judged, decision, rule);
            if open && found.is_full() && heard != Heard::No {
                of.outcome = outcome(compiler, judged, rank, rule, heard);
                open = false;
                of.rules.extend(rule_walk(compiler, judged, rank, rule, (found, heard), true));
                decided = !matches!(of.outcome, Outcome::Passed { .. });
                continue;
            }
            of.rules.extend(rule_walk(compiler, judged, rank, rule, (found, heard), open));
        }
        of
    };
    Tier::ALL.map(&mut walk).into()
}

fn matches(compiler: &Compiler, judged: &Judged<'_>, identity: Identity, rule: RuleId) -> Option<RuleMatch> {
    compiler.rule_matches(rule, identity, judged.protocol.port())
}

/// What a rule says of what is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// It does not ask.
    Unasked,
    /// It asks, and nothing is known; or nothing that is asked can be read as what it is about.
    Unknown,
    /// It matches.
    Yes,
    /// It does not.
    No,
}

fn heard(judged: &Judged<'_>, decision: &Decision, rule: &RankedRule) -> Heard {
    let Some(asks) = &rule.asks else { return Heard::Unasked };
    let Some(request) = judged.request.filter(|_| decision.reason != Reason::OtherProtocol) else {
        return Heard::Unknown;
    };
    if request::matches(request, rule.action, asks) { Heard::Yes } else { Heard::No }
}

fn outcome(compiler: &Compiler, judged: &Judged<'_>, rank: u32, rule: &RankedRule, heard: Heard) -> Outcome {
    if heard == Heard::Unknown {
        return Outcome::Undecided { rank };
    }
    match (&rule.origin, rule.action) {
        (Origin::Claim { .. }, _) => Outcome::NotAmongAllowed { rank },
        (Origin::Isolation { policies }, _) => {
            Outcome::DeniedByDefault { rank, policies: isolating(compiler, judged, policies) }
        }
        (_, Action::Allow) => Outcome::Allowed { rank },
        (_, Action::Deny) => Outcome::Denied { rank },
        (_, Action::Pass) => Outcome::Passed { rank },
        (_, Action::Reject) => Outcome::Rejected { rank },
    }
}

/// A rule of an object; the default of a tier, and what a claim closes, are outcomes and no rules.
fn rule_walk(
    compiler: &Compiler,
    judged: &Judged<'_>,
    rank: u32,
    rule: &RankedRule,
    (found, heard): (RuleMatch, Heard),
    reached: bool,
) -> Option<RuleWalk> {
    let Origin::Rule { object, index } = &rule.origin else { return None };
    let written = rule_of(compiler, judged, object, *index)?;
    let misses = if found.peer { Vec::new() } else { why::peers(compiler, judged, written) };
    let mut why_not: Vec<_> = misses.iter().map(PeerMiss::mismatch).collect();
    if !found.port {
        why_not.push(why::ports(judged, written));
    }
    if let (Heard::No, Some(request), Some(asks)) = (heard, judged.request, &rule.asks) {
        why_not.extend(request::mismatch(request, written, asks));
    }
    Some(RuleWalk {
        rank,
        place: place(compiler, judged, object, *index)?,
        index: *index,
        action: action_name(rule.action),
        matched: found.is_full() && matches!(heard, Heard::Unasked | Heard::Yes),
        peer: found.peer,
        port: found.port,
        request: match heard {
            Heard::Unasked | Heard::Unknown => None,
            Heard::Yes => Some(true),
            Heard::No => Some(false),
        },
        asks: rule.asks.as_ref().map(ToString::to_string),
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
        Reason::RuleDenies
            if side.tiers.iter().any(|tier| matches!(tier.outcome, Outcome::NotAmongAllowed { .. })) =>
        {
            let rule = side.rule.as_ref().map_or_else(String::new, |place| format!(": see {place}"));
            format!("only some requests are allowed here, and this is none of them{rule}")
        }
        Reason::NeedsRequest => match &side.rule {
            Some(place) => format!("what is asked decides: {place} is about requests"),
            None => "what is asked decides".to_owned(),
        },
        Reason::OtherProtocol => match &side.rule {
            Some(place) => {
                format!("this is no protocol that {place}, or another rule here, is about: closed")
            }
            None => "this is no protocol that a rule here is about: closed".to_owned(),
        },
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
