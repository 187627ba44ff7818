//! A difference as text, tables and JSON.

use std::collections::BTreeSet;
use std::fmt::Write;

use owo_colors::{OwoColorize, Style};
use serde::Serialize;
use serde_json::json;

use super::{Difference, Entry};
use crate::connectivity::cause::Cause;
use crate::connectivity::json::{Allow, allow, by_request};
use crate::connectivity::names::escape;
use crate::connectivity::table;

impl Entry {
    fn change(&self) -> &'static str {
        match (self.before.is_empty(), self.after.is_empty()) {
            (true, _) => "added",
            (_, true) => "removed",
            _ => "changed",
        }
    }

    /// What is said of the ports: all of them, or what comes and goes.
    fn ports(&self) -> String {
        match self.change() {
            "added" => self.after.to_string(),
            "removed" => self.before.to_string(),
            _ => {
                let part = |name: &str, set: &policy_compiler::connectivity::PortSet| {
                    (!set.is_empty()).then(|| format!("{name} {set}"))
                };
                let parts = [part("gains", &self.gained), part("loses", &self.lost)];
                parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// Each reason once.
    fn reasons(&self) -> Vec<String> {
        let mut reasons: Vec<String> = self.only.iter().map(|only| escape(only)).collect();
        let mut seen = BTreeSet::new();
        for (when, causes) in [("before", &self.was), ("now", &self.is)] {
            for cause in causes {
                let verb = if cause.allows() { "allowed" } else { "denied" };
                let text = format!("{when} {verb} by {}", cause.text());
                if seen.insert(text.clone()) {
                    reasons.push(text);
                }
            }
        }
        reasons
    }
}

pub(super) fn text(difference: &Difference) -> String {
    let mut text = String::new();
    let added = Style::new().green();
    let removed = Style::new().red();
    for (sign, style, names) in [('+', added, &difference.appeared), ('-', removed, &difference.vanished)] {
        for name in names {
            let line = format!("{sign} workload {}", escape(name));
            let _ = writeln!(text, "{}", line.style(style));
        }
    }
    for entry in &difference.entries {
        let (sign, style) = match entry.change() {
            "added" => ('+', added),
            "removed" => ('-', removed),
            _ => ('~', Style::new().yellow()),
        };
        let line = format!("{sign} {} => {}: {}", escape(&entry.src), escape(&entry.dst), entry.ports());
        let _ = writeln!(text, "{}", line.style(style));
        for reason in entry.reasons() {
            let _ = writeln!(text, "    {reason}");
        }
    }
    text + &summary(difference)
}

fn summary(difference: &Difference) -> String {
    let count = |change: &str| difference.entries.iter().filter(|entry| entry.change() == change).count();
    match difference.entries.len() {
        0 if difference.appeared.is_empty() && difference.vanished.is_empty() => {
            "No connection changes.\n".to_owned()
        }
        _ => format!(
            "{} added, {} removed, {} changed; {} new workloads, {} gone.\n",
            count("added"),
            count("removed"),
            count("changed"),
            difference.appeared.len(),
            difference.vanished.len()
        ),
    }
}

const HEADER: [&str; 8] = ["CHANGE", "SOURCE", "DESTINATION", "BEFORE", "AFTER", "GAINED", "LOST", "BECAUSE"];

fn cells(difference: &Difference) -> Vec<Vec<String>> {
    let workload = |change: &str, name: &String| {
        let mut cells = vec![change.to_owned(), escape(name)];
        cells.resize(HEADER.len(), String::new());
        cells
    };
    let appeared = difference.appeared.iter().map(|name| workload("workload added", name));
    let vanished = difference.vanished.iter().map(|name| workload("workload removed", name));
    let entries = difference.entries.iter().map(|entry| {
        let sets = [&entry.before, &entry.after, &entry.gained, &entry.lost].map(ToString::to_string);
        let mut cells = vec![entry.change().to_owned(), escape(&entry.src), escape(&entry.dst)];
        cells.extend(sets);
        cells.push(entry.reasons().join("\n"));
        cells
    });
    appeared.chain(vanished).chain(entries).collect()
}

pub(super) fn markdown(difference: &Difference) -> String {
    table::markdown(&HEADER, &cells(difference)) + "\n" + &summary(difference)
}

pub(super) fn csv(difference: &Difference) -> String {
    table::csv(&HEADER, &cells(difference))
}

#[derive(Serialize)]
struct JsonEntry<'a> {
    change: &'static str,
    src: &'a str,
    dst: &'a str,
    before: Ports,
    after: Ports,
    gained: Ports,
    lost: Ports,
    decided_before: &'a [Cause],
    decided_after: &'a [Cause],
}

#[derive(Serialize)]
struct Ports {
    allow: Vec<Allow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    by_request: Vec<Allow>,
    other: bool,
}

impl Ports {
    fn of(set: &policy_compiler::connectivity::PortSet) -> Self {
        Self { allow: allow(set), by_request: by_request(set), other: set.other() }
    }
}

impl<'a> JsonEntry<'a> {
    fn of(entry: &'a Entry) -> Self {
        Self {
            change: entry.change(),
            src: &entry.src,
            dst: &entry.dst,
            before: Ports::of(&entry.before),
            after: Ports::of(&entry.after),
            gained: Ports::of(&entry.gained),
            lost: Ports::of(&entry.lost),
            decided_before: &entry.was,
            decided_after: &entry.is,
        }
    }
}

pub(super) fn json(difference: &Difference) -> anyhow::Result<String> {
    let connections: Vec<JsonEntry<'_>> = difference.entries.iter().map(JsonEntry::of).collect();
    let all = json!({
        "workloads": {"added": difference.appeared, "removed": difference.vanished},
        "connections": connections,
    });
    Ok(serde_json::to_string_pretty(&all)? + "\n")
}
