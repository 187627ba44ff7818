//! Problems as text, as JSON, and as annotations.

use std::fmt::Write;
use std::sync::Arc;

use owo_colors::{OwoColorize, Style};
use policy_compiler::problem::{Problem, Severity};
use serde::Serialize;

use crate::clean::{clean, clean_json};

/// Grouped by file, with a last line that counts.
pub(super) fn text(problems: &[Problem], policies: usize) -> String {
    let mut text = String::new();
    let mut group: Option<Option<&Arc<str>>> = None;
    for problem in problems {
        let file = problem.location.as_ref().map(|location| &location.file);
        if group != Some(file) {
            if group.is_some() {
                text.push('\n');
            }
            put(&mut text, format_args!("{}\n", clean(file.map_or("(no file)", AsRef::as_ref)).bold()));
            group = Some(file);
        }
        one(&mut text, problem);
    }
    if !problems.is_empty() {
        text.push('\n');
    }
    put(&mut text, format_args!("{}\n", summary(problems, policies)));
    text
}

fn one(text: &mut String, problem: &Problem) {
    let Problem { severity, id, object, path, message, expected, location } = problem;
    let line = location.as_ref().map_or_else(String::new, |location| location.line.to_string());
    let word = format!("{:<7}", severity.name());
    put(
        text,
        format_args!(
            "{line:>5}  {}  {}  {}\n",
            word.style(style(*severity)),
            id.dimmed(),
            clean(&object.to_string())
        ),
    );
    let field = if path.is_empty() { String::new() } else { format!("{}: ", clean(path)) };
    put(text, format_args!("       {field}{}\n", clean(message)));
    if !expected.is_empty() {
        put(text, format_args!("       {} {}\n", "expected".dimmed(), clean(expected)));
    }
}

fn style(severity: Severity) -> Style {
    match severity {
        Severity::Error => Style::new().red().bold(),
        Severity::Warning => Style::new().yellow(),
        Severity::Note => Style::new().cyan(),
    }
}

/// `2 errors, no warnings, 1 note in 7 policies`
fn summary(problems: &[Problem], policies: usize) -> String {
    let counted = [(Severity::Error, "errors"), (Severity::Warning, "warnings"), (Severity::Note, "notes")];
    let counted = counted.map(|(severity, plural)| {
        match problems.iter().filter(|problem| problem.severity == severity).count() {
            0 => format!("no {plural}"),
            1 => format!("1 {}", severity.name()).style(style(severity)).to_string(),
            count => format!("{count} {plural}").style(style(severity)).to_string(),
        }
    });
    let policies = if policies == 1 { "1 policy".to_owned() } else { format!("{policies} policies") };
    format!("{} in {policies}", counted.join(", "))
}

/// One problem in JSON: fields are added, never renamed (`docs/reference/check.md`).
#[derive(Serialize)]
struct Record<'a> {
    id: &'a str,
    severity: &'a str,
    object: String,
    path: &'a str,
    message: &'a str,
    expected: &'a str,
    file: Option<&'a str>,
    line: Option<u32>,
}

pub(super) fn json(problems: &[Problem]) -> anyhow::Result<String> {
    let records: Vec<_> = problems
        .iter()
        .map(|problem| Record {
            id: problem.id,
            severity: problem.severity.name(),
            object: problem.object.to_string(),
            path: &problem.path,
            message: &problem.message,
            expected: &problem.expected,
            file: problem.location.as_ref().map(|location| &*location.file),
            line: problem.location.as_ref().map(|location| location.line),
        })
        .collect();
    let json = serde_json::to_string_pretty(&records)?;
    Ok(format!("{}\n", clean_json(&json)))
}

/// Workflow commands of GitHub Actions, one a line.
pub(super) fn github(problems: &[Problem]) -> String {
    let mut text = String::new();
    for problem in problems {
        let command = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "notice",
        };
        put(&mut text, format_args!("::{command} "));
        if let Some(location) = &problem.location {
            put(&mut text, format_args!("file={},line={},", property(&location.file), location.line));
        }
        // The place is in the properties already.
        let said = Problem { location: None, ..problem.clone() }.to_string();
        put(&mut text, format_args!("title={}::{}\n", property(problem.id), data(&said)));
    }
    text
}

/// As `@actions/core` escapes the text of a command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// As `@actions/core` escapes a property of a command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(what);
}
