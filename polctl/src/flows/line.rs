//! A flow as a line of text.

use std::fmt::Write;

use agent_api::flow::{Asked, End, FlowLine, FlowVerdict, Rule};
use agent_api::judgement::Direction;
use owo_colors::OwoColorize;

use crate::clean::clean;

/// `TIME shop/a:4711 -> shop/v:80 tcp DENIED at ingress, rule_denies: NetworkPolicy shop/v spec.ingress[0] (a.yaml:3) x2`; of a
/// request what was asked and answered instead of `tcp`.
pub(super) fn flow(flow: &FlowLine) -> String {
    let verdict = match flow.verdict {
        FlowVerdict::Allowed => "ALLOWED".green().to_string(),
        FlowVerdict::Denied => "DENIED".red().bold().to_string(),
        FlowVerdict::Rejected => "REJECTED".red().bold().to_string(),
    };
    let at = match flow.direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    let what = flow.request.as_deref().map_or_else(|| clean(&flow.protocol).to_string(), asked);
    let mut out = format!(
        "{} {} -> {} {what} {verdict} at {at}, {}",
        format!("{:.3}", flow.time).dimmed(),
        end(&flow.source),
        end(&flow.destination),
        clean(&flow.reason),
    );
    if let Some(rule) = &flow.rule {
        put_rule(&mut out, rule);
    }
    if flow.repeats > 1 {
        // Writing into a string cannot fail.
        let _ = write!(out, " x{}", flow.repeats);
    }
    out
}

/// `http1 GET shop/cart/7 403`, and what was wrong with it.
fn asked(asked: &Asked) -> String {
    let mut out = clean(&asked.protocol).to_string();
    let target = format!("{}{}", asked.host, asked.path);
    for word in [&asked.method, &target].into_iter().filter(|word| !word.is_empty()) {
        let _ = write!(out, " {}", clean(word));
    }
    if let Some(status) = asked.status {
        let _ = write!(out, " {status}");
    }
    if let Some(fault) = &asked.fault {
        let _ = write!(out, " ({})", clean(fault));
    }
    out
}

fn put_rule(out: &mut String, rule: &Rule) {
    let path = if rule.path.is_empty() { "has no rule that allows it" } else { &rule.path };
    let _ = write!(out, ": {} {}", clean(&rule.policy), clean(path));
    if let Some(place) = &rule.place {
        let _ = write!(out, " {}", format!("({})", clean(place)).dimmed());
    }
}

/// The pod if it is one, else the address; and the port.
fn end(end: &End) -> String {
    let port = end.port.map(|port| format!(":{port}")).unwrap_or_default();
    match &end.pod {
        Some(pod) => format!("{}{port}", clean(pod)),
        None if end.address.is_ipv6() && end.port.is_some() => format!("[{}]{port}", end.address),
        None => format!("{}{port}", end.address),
    }
}

/// That there is a hole here.
pub(super) fn lost(lines: u64) -> String {
    let text = format!("-- {lines} {} lost here: they came faster than they were read", of(lines));
    text.yellow().to_string()
}

const fn of(lines: u64) -> &'static str {
    if lines == 1 { "line is" } else { "lines are" }
}
