//! Answers as text: a walk through the tiers.

use std::fmt::Write;

use owo_colors::OwoColorize;
use policy_compiler::explain::ports::{PortGroup, PortSpan};
use policy_compiler::explain::{
    Change, Direction, Explanation, Mismatch, Outcome, Part, Place, RuleWalk, Side, TierWalk,
};

use super::group::{Answer, Answers};
use crate::clean::clean;

/// How many pairs are named.
const MOST_PAIRS: usize = 5;

/// All of it, with colours.
pub(crate) fn text(answers: &Answers) -> String {
    let mut out = String::new();
    let title = format!("{} -> {}", clean(&answers.from), clean(&answers.to));
    line(&mut out, 0, &title.bold().to_string());
    for note in &answers.notes {
        line(&mut out, 0, &format!("note: {}", clean(note)).dimmed().to_string());
    }
    let families =
        answers.answers.iter().flat_map(|answer| &answer.families).collect::<std::collections::BTreeSet<_>>();
    let alone = answers.answers.len() == 1;
    for answer in &answers.answers {
        out.push('\n');
        whom(&mut out, answer, alone, answer.families.len() < families.len());
        if let Some(explanation) = &answer.explanation {
            connection(&mut out, explanation);
        }
        if let Some(groups) = &answer.ports {
            ports(&mut out, groups);
        }
        let asked: Vec<_> = answer.kernels.iter().filter(|kernel| !kernel.is_empty()).collect();
        // One of which nothing could be asked says so, if it is the only one.
        let shown = if asked.is_empty() { answer.kernels.iter().take(1).collect() } else { asked };
        if !shown.is_empty() {
            out.push('\n');
        }
        for kernel in shown {
            out.push_str(&kernel.text(answer.kernels.len() > 1));
        }
    }
    out
}

fn line(out: &mut String, indent: usize, text: &str) {
    // Writing into a string cannot fail.
    let _ = writeln!(out, "{:indent$}{text}", "");
}

/// For whom an answer is.
fn whom(out: &mut String, answer: &Answer, alone: bool, by_family: bool) {
    let count = answer.pairs.len();
    let family = if by_family { format!(", over {}", join(&answer.families)) } else { String::new() };
    match (&answer.pairs[..], alone) {
        ([_], true) if !by_family => {}
        ([pair], _) => line(out, 0, &format!("{} -> {}{family}:", clean(&pair.from), clean(&pair.to))),
        (_, true) => line(out, 0, &format!("The same for all {count} pairs{family}; shown for the first:")),
        (pairs, false) => {
            line(out, 0, &format!("For {count} pairs{family}, shown for the first:"));
            for pair in pairs.iter().take(MOST_PAIRS) {
                line(out, 2, &format!("{} -> {}", clean(&pair.from), clean(&pair.to)));
            }
            if count > MOST_PAIRS {
                line(out, 2, &format!("and {} more", count - MOST_PAIRS));
            }
        }
    }
}

fn join<T: AsRef<str>>(words: impl IntoIterator<Item = T>) -> String {
    words.into_iter().map(|word| word.as_ref().to_owned()).collect::<Vec<_>>().join(", ")
}

fn verdict(word: &str) -> String {
    match word {
        "allow" => "ALLOWED".green().bold().to_string(),
        "deny" => "DENIED".red().bold().to_string(),
        "redirect" => "DEPENDS ON WHAT IS ASKED".yellow().bold().to_string(),
        _ => "REJECTED".red().bold().to_string(),
    }
}

fn connection(out: &mut String, explanation: &Explanation) {
    let what = match (&explanation.http, &explanation.tls) {
        (Some(http), _) => {
            let host = http.host.as_ref().map_or_else(String::new, |host| format!(" of {}", clean(host)));
            format!("{} {}{host} on {}", clean(&http.method), clean(&http.path), explanation.protocol)
        }
        (None, Some(name)) => format!("TLS to {} on {}", clean(name), explanation.protocol),
        (None, None) => explanation.protocol.clone(),
    };
    line(out, 0, &format!("{what}: {}", verdict(explanation.verdict)));
    notes(out, explanation);
    for side in &explanation.sides {
        out.push('\n');
        whole_side(out, side);
    }
}

fn notes(out: &mut String, explanation: &Explanation) {
    for note in &explanation.notes {
        line(out, 2, &format!("note: {}", clean(note)).dimmed().to_string());
    }
}

/// `Egress of pod shop/web: ALLOWED`, and the sentence.
fn heading(out: &mut String, side: &Side) {
    let direction = match side.of {
        Direction::Ingress => "Ingress",
        Direction::Egress => "Egress",
    };
    let head = format!("{direction} of pod {}: {}", clean(&side.pod.to_string()), verdict(side.verdict));
    line(out, 0, &head);
    if side.isolated_by.is_empty() {
        line(out, 2, &format!("{}{}", clean(&side.summary), location(side.rule.as_ref())));
    } else {
        // Who isolates it is said by the tier.
        line(out, 2, "the pod is isolated and no rule allows it: denied by default");
    }
}

fn whole_side(out: &mut String, side: &Side) {
    heading(out, side);
    for tier in &side.tiers {
        tier_text(out, tier, true);
    }
    misses(out, side);
    if !side.changes.is_empty() {
        line(out, 2, &"smallest changes that would allow it here:".bold().to_string());
    }
    for (number, change) in (1..).zip(&side.changes) {
        change_text(out, number, change);
    }
    if matches!(side.verdict, "deny" | "reject") && side.changes.is_empty() {
        line(out, 2, &"no small change was found that would allow it here".dimmed().to_string());
    }
}

fn misses(out: &mut String, side: &Side) {
    if !side.nearest_misses.is_empty() {
        line(out, 2, &"nearest misses:".bold().to_string());
    }
    for miss in &side.nearest_misses {
        line(out, 4, &format!("- {}{}", clean(&miss.text), location(Some(&miss.place))));
    }
}

/// ` (a.yaml:7)`
fn location(place: Option<&Place>) -> String {
    match place.and_then(Place::location) {
        Some(location) => format!(" ({})", clean(&location)).dimmed().to_string(),
        None => String::new(),
    }
}

fn tier_text(out: &mut String, tier: &TierWalk, with_ports: bool) {
    let name = match tier.tier {
        "admin" => "[Admin]        ",
        "namespace" => "[NetworkPolicy]",
        _ => "[Baseline]     ",
    };
    let by = |rank: u32| {
        let rule = tier.rules.iter().find(|rule| rule.rank == rank);
        rule.map(|rule| format!("{}{}", clean(&rule.place.to_string()), location(Some(&rule.place))))
            .unwrap_or_default()
    };
    let outcome = match &tier.outcome {
        Outcome::NoPolicy => "silent: no policy speaks about this pod".dimmed().to_string(),
        Outcome::NoMatch => "silent: no rule matches".dimmed().to_string(),
        Outcome::NotReached => "not reached".dimmed().to_string(),
        Outcome::Passed { rank } => format!("{} by {}", "passed on".yellow(), by(*rank)),
        Outcome::Allowed { rank } => format!("{} by {}", "allowed".green(), by(*rank)),
        Outcome::Denied { rank } => format!("{} by {}", "denied".red(), by(*rank)),
        Outcome::Rejected { rank } => format!("{} by {}", "rejected".red(), by(*rank)),
        Outcome::Undecided { rank } => format!("{} by {}", "what is asked decides,".yellow(), by(*rank)),
        Outcome::NotAmongAllowed { .. } => {
            format!("{}: only some requests are allowed here, and this is none of them", "denied".red())
        }
        Outcome::DeniedByDefault { policies, .. } => {
            let policies: Vec<String> = policies
                .iter()
                .map(|policy| format!("{}{}", clean(&policy.object_name()), location(Some(policy))))
                .collect();
            format!("{}, isolated by {}", "denied by default".red(), policies.join(" and "))
        }
    };
    line(out, 2, &format!("{name} {outcome}"));
    for rule in tier.rules.iter().filter(|rule| rule.reached && !rule.matched) {
        missed_rule(out, rule, with_ports);
    }
    let later = tier.rules.iter().filter(|rule| !rule.reached).count();
    if later > 0 && tier.outcome != Outcome::NotReached {
        line(
            out,
            6,
            &format!("{later} later {} not asked", if later == 1 { "rule" } else { "rules" })
                .dimmed()
                .to_string(),
        );
    }
}

fn missed_rule(out: &mut String, rule: &RuleWalk, with_ports: bool) {
    let head = format!(
        "- {} does not {}{}",
        clean(&rule.place.to_string()),
        rule.action,
        location(Some(&rule.place))
    );
    line(out, 6, &head);
    for why in &rule.why_not {
        if why.part == Part::Port && !with_ports {
            line(out, 8, "it is for other ports");
        } else {
            line(out, 8, &reason(rule, why));
        }
    }
}

/// With the end of the field's path, where the rule has several entries.
fn reason(rule: &RuleWalk, why: &Mismatch) -> String {
    let field = why.path.strip_prefix(&rule.place.path).unwrap_or(&why.path).trim_start_matches('.');
    if field.is_empty() { clean(&why.text).into_owned() } else { format!("{field}: {}", clean(&why.text)) }
}

fn change_text(out: &mut String, number: usize, change: &Change) {
    line(out, 4, &format!("{number}. {}{}", clean(&change.title), location(Some(&change.place))));
    let path = clean(&change.place.path);
    let whither = match &*change.position {
        "append" => format!("append to {path}"),
        "set" => format!("set in {path}"),
        "create" => "a new object".to_owned(),
        before => format!("insert {before} of {}", path.rsplit_once('[').map_or(&*path, |(list, _)| list)),
    };
    line(out, 7, &format!("{whither}:").dimmed().to_string());
    for of in change.yaml.lines() {
        line(out, 9, &clean(of).cyan().to_string());
    }
    let blast = match change.blast {
        None => "what else it changes was not counted: there are too many pairs of pods".to_owned(),
        Some(blast) => format!(
            "of {} pairs of pods in this direction, it opens {} and closes {}",
            blast.of, blast.opens, blast.closes
        ),
    };
    line(out, 7, &blast.dimmed().to_string());
}

fn ports(out: &mut String, groups: &[PortGroup]) {
    for (index, group) in groups.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        let last = index + 1 == groups.len();
        let spans = if groups.len() == 1 {
            "every protocol and port".to_owned()
        } else if last && group.ports.contains(&PortSpan::OTHER) {
            "everything else".to_owned()
        } else {
            spans(&group.ports)
        };
        line(out, 0, &format!("{}: {}", spans.bold(), verdict(group.explanation.verdict)));
        if index == 0 {
            notes(out, &group.explanation);
        }
        for side in &group.explanation.sides {
            heading(out, side);
            if !side.decision.verdict.is_allow() {
                for tier in &side.tiers {
                    tier_text(out, tier, false);
                }
            }
        }
    }
    if groups.iter().any(|group| !group.explanation.allowed) {
        out.push('\n');
        line(out, 0, &"Ask with --port for the smallest change that would allow it.".dimmed().to_string());
    }
}

/// `TCP 80, 443, 8000-8090; UDP`
fn spans(spans: &[PortSpan]) -> String {
    let mut out = String::new();
    let mut current = "";
    for span in spans {
        let text = span.to_string();
        let of = span.protocol;
        if let Some(ports) = text.strip_prefix(of).filter(|_| of == current) {
            out.push(',');
            out.push_str(ports);
        } else {
            if !out.is_empty() {
                out.push_str("; ");
            }
            out.push_str(&text);
        }
        current = of;
    }
    out
}
