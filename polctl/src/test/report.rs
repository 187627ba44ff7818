//! Outcomes as text, as JSON, and for CI systems.

use std::fmt::Write;

use owo_colors::{OwoColorize, Style};
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite, XmlString};
use serde::Serialize;

use super::Ran;
use super::judge::{Case, Outcome, State};
use crate::clean::{clean, clean_json};

pub(super) fn text(ran: &[Ran]) -> String {
    let mut text = String::new();
    for Ran { file, outcomes } in ran {
        put(&mut text, format_args!("{}\n", clean(file).bold()));
        for outcome in outcomes {
            one(&mut text, outcome);
        }
        text.push('\n');
    }
    let [passed, failed, broken] = counts(ran);
    let mut parts = vec![format!("{passed} passed").style(Style::new().green()).to_string()];
    if failed > 0 {
        parts.push(format!("{failed} failed").style(Style::new().red().bold()).to_string());
    }
    if broken > 0 {
        parts.push(format!("{broken} cannot be run").style(Style::new().red().bold()).to_string());
    }
    put(&mut text, format_args!("{}\n", parts.join(", ")));
    text
}

fn one(text: &mut String, outcome: &Outcome) {
    let (word, style) = match outcome.state {
        State::Passed => ("PASS", Style::new().green()),
        State::Failed => ("FAIL", Style::new().red().bold()),
        State::Broken(_) => ("ERROR", Style::new().red().bold()),
    };
    let word = format!("{word:<5}");
    let place = format!("line {}", outcome.location.line);
    put(text, format_args!("  {}  {} ({})\n", word.style(style), clean(&outcome.title), place.dimmed()));
    text.push_str(&details(outcome));
}

/// What was expected and found. Of a test that passes, one line for each answer, for that is what it was about.
fn details(outcome: &Outcome) -> String {
    let mut text = String::new();
    match &outcome.state {
        State::Broken(why) => put(&mut text, format_args!("         {}\n", clean(why))),
        State::Failed => {
            let failed = outcome.cases.iter().filter(|case| !case.passed);
            for case in failed.clone() {
                put(
                    &mut text,
                    format_args!(
                        "         {}: expected {}, found {}\n",
                        connection(case),
                        outcome.expected,
                        case.verdict
                    ),
                );
                for side in &case.sides {
                    let place = side
                        .location
                        .as_ref()
                        .map_or_else(String::new, |place| format!(" ({})", clean(place)));
                    let (direction, pod, verdict) = (side.direction, clean(&side.pod), side.verdict);
                    put(
                        &mut text,
                        format_args!(
                            "           {direction} of {pod}: {verdict}, {}{place}\n",
                            clean(&side.by)
                        ),
                    );
                }
            }
            let (wrong, all) = (failed.count(), outcome.cases.len());
            if wrong < all {
                put(&mut text, format_args!("         {wrong} of {all} connections\n"));
            }
        }
        State::Passed => {
            let mut answers: Vec<String> = outcome.cases.iter().map(answer).collect();
            answers.sort();
            answers.dedup();
            for answer in answers {
                put(&mut text, format_args!("         {answer}\n"));
            }
        }
    }
    text
}

/// What decided: all sides of what is allowed, and the first that denies.
fn answer(case: &Case) -> String {
    let deciding = case.sides.iter().filter(|side| case.verdict == "allow" || side.verdict != "allow");
    let said: Vec<String> = deciding
        .map(|side| {
            let place =
                side.location.as_ref().map_or_else(String::new, |place| format!(" ({})", clean(place)));
            format!("{} {}{place}", side.direction, clean(&side.by))
        })
        .collect();
    format!("{}: {}", case.verdict, said.join("; "))
}

fn connection(case: &Case) -> String {
    format!("{} -> {} {}", clean(&case.from), clean(&case.to), case.port)
}

/// Passed, failed, broken.
fn counts(ran: &[Ran]) -> [usize; 3] {
    let mut counts = [0; 3];
    for outcome in ran.iter().flat_map(|ran| &ran.outcomes) {
        let index = match outcome.state {
            State::Passed => 0,
            State::Failed => 1,
            State::Broken(_) => 2,
        };
        counts[index] += 1;
    }
    counts
}

/// The JSON of a run: fields are added, never renamed (`docs/reference/test.md`).
#[derive(Serialize)]
struct Record<'a> {
    passed: usize,
    failed: usize,
    errors: usize,
    tests: Vec<TestRecord<'a>>,
}

#[derive(Serialize)]
struct TestRecord<'a> {
    name: &'a str,
    file: &'a str,
    line: u32,
    /// `passed`, `failed` or `error`.
    state: &'static str,
    expected: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    connections: &'a [Case],
}

pub(super) fn json(ran: &[Ran]) -> anyhow::Result<String> {
    let [passed, failed, errors] = counts(ran);
    let outcomes = ran.iter().flat_map(|ran| ran.outcomes.iter().map(move |outcome| (ran, outcome)));
    let tests = outcomes.map(|(ran, outcome)| {
        let (state, error) = match &outcome.state {
            State::Passed => ("passed", None),
            State::Failed => ("failed", None),
            State::Broken(why) => ("error", Some(&**why)),
        };
        TestRecord {
            name: &outcome.title,
            file: &ran.file,
            line: outcome.location.line,
            state,
            expected: &outcome.expected,
            error,
            connections: &outcome.cases,
        }
    });
    let tests = tests.collect();
    let json = serde_json::to_string_pretty(&Record { passed, failed, errors, tests })?;
    Ok(format!("{}\n", clean_json(&json)))
}

/// `JUnit` XML: a suite a file, a case a test. Without times: nothing is measured, and equal runs are to look equal.
pub(super) fn junit(ran: &[Ran]) -> anyhow::Result<String> {
    let mut report = quick_junit::Report::new("polctl test");
    for Ran { file, outcomes } in ran {
        let mut suite = TestSuite::new(XmlString::new(file));
        for outcome in outcomes {
            let mut status = match &outcome.state {
                State::Passed => TestCaseStatus::success(),
                State::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
                State::Broken(_) => TestCaseStatus::non_success(NonSuccessKind::Error),
            };
            if outcome.state != State::Passed {
                status.set_message(XmlString::new(format!("expected {}", outcome.expected)));
                status.set_description(XmlString::new(details(outcome)));
            }
            let mut case = TestCase::new(XmlString::new(&outcome.title), status);
            case.set_classname(XmlString::new(format!("{file}:{}", outcome.location.line)));
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
    }
    Ok(report.to_string()? + "\n")
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(what);
}
