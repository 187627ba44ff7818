//! A program by itself: the verifier's word, and a run on every frame.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use aya::programs::{Program, ProgramError, ProgramInfo, TestRun, TestRunOptions};

use crate::report::{Outcome, Report};
use crate::{actions, frames};

/// The end of a verifier's log says why; before it may come a hundred thousand lines of how it got there.
const LOG_LINES: usize = 40;
/// Bytes of a BPF instruction.
const INSTRUCTION: u32 = 8;

/// Loads a program, and says whether it can be used.
pub(crate) fn load(name: &str, program: &mut Program, report: &mut Report) -> bool {
    let outcome = match load_by_type(program) {
        Ok(info) => Outcome::Passed(format!(
            "{} instructions, {} walked by the verifier",
            count(info.size_translated().map(|bytes| bytes / INSTRUCTION)),
            count(info.verified_instruction_count())
        )),
        Err(error) => Outcome::Failed(last_lines(&format!("{error:#}"))),
    };
    report.add(name, "load", &outcome);
    matches!(outcome, Outcome::Passed(_))
}

fn load_by_type(program: &mut Program) -> Result<ProgramInfo> {
    let refused = |error: ProgramError| match error {
        // The text of the source would repeat what this says.
        ProgramError::LoadError { io_error, verifier_log } => {
            anyhow::anyhow!("the kernel refuses it: {io_error}\n{verifier_log}")
        }
        other => other.into(),
    };
    match program {
        Program::SchedClassifier(program) => program.load().map_err(refused)?,
        Program::Xdp(program) => program.load().map_err(refused)?,
        Program::SkLookup(program) => program.load().map_err(refused)?,
        other => bail!(
            "its type is {:?}; this check knows classifiers, XDP and look-ups of sockets",
            other.prog_type()
        ),
    }
    Ok(program.info()?)
}

fn count(number: Option<u32>) -> String {
    number.map_or_else(|| "an unknown number".to_owned(), |number| number.to_string())
}

fn last_lines(text: &str) -> String {
    let mut lines = text.trim_end().lines();
    let Some(first) = lines.next() else {
        return String::new();
    };
    let rest: Vec<&str> = lines.collect();
    let from = rest.len().saturating_sub(LOG_LINES);
    let omitted = (from > 0).then(|| format!("({from} lines of the verifier's log before these)"));
    let shown = rest[from..].iter().map(|line| (*line).to_owned());
    std::iter::once(first.to_owned()).chain(omitted).chain(shown).collect::<Vec<_>>().join("\n      ")
}

/// Runs a program on every frame: each time it must return an action that the kernel knows.
pub(crate) fn test_run(name: &str, program: &Program, report: &mut Report) {
    let outcome = run_all(program).map_or_else(
        |error| Outcome::Failed(format!("{error:#}")),
        |actions| {
            let actions: Vec<String> =
                actions.iter().map(|(action, times)| format!("{action} {times}")).collect();
            Outcome::Passed(format!("{} frames: {}", frames::all().len(), actions.join(", ")))
        },
    );
    report.add(name, "test run", &outcome);
}

fn run_all(program: &Program) -> Result<BTreeMap<&'static str, usize>> {
    let mut actions = BTreeMap::new();
    for (kind, frame) in frames::all() {
        let value = run(program, &frame).with_context(|| format!("BPF_PROG_TEST_RUN ({kind}) fails"))?;
        let action = actions::name(program, value);
        ensure!(action.is_some(), "for a frame ({kind}) it returns {value}, which is no action");
        *actions.entry(action.unwrap_or_default()).or_default() += 1;
    }
    Ok(actions)
}

/// What a program returns for a frame.
pub(crate) fn run(program: &Program, frame: &[u8]) -> Result<i32> {
    let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
    let result = match program {
        Program::SchedClassifier(program) => program.test_run(options)?,
        Program::Xdp(program) => program.test_run(options)?,
        other => bail!("programs of type {:?} are not run on frames", other.prog_type()),
    };
    Ok(result.return_value.cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_the_first_line_and_the_end_are_shown() {
        let log: Vec<String> = (0..100).map(|line| format!("line {line}")).collect();
        let shown = last_lines(&log.join("\n"));
        assert!(shown.starts_with("line 0\n") && shown.ends_with("line 99"), "{shown}");
        assert_eq!(shown.lines().count(), LOG_LINES + 2);
        assert_eq!(last_lines("one\ntwo\n"), "one\n      two");
    }
}
