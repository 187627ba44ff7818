//! `polctl check`: everything a reviewer would want to hear.
//!
//! ```text
//! Input.problems (reading, lowering) --+
//!                                      +--> sorted by file and line --report--> text, JSON, GitHub; exit code
//! policy_compiler::review -------------+
//! ```

mod report;

use std::process::ExitCode;

use policy_compiler::problem::{Problem, Severity};
use policy_compiler::review::review;

use crate::input::Input;

/// Say what is wrong with policies, and what may be
///
/// Exit code: 0 if nothing is found that is as severe as --severity, 1 if something is, 2 if a file cannot be read.
/// What each finding means, and what to do about it, is in docs/reference/check.md.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    input: crate::input::Args,

    /// How to say it
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,

    /// The least severity for which the exit code is 1
    #[arg(long, value_enum, default_value_t = Level::Warning)]
    severity: Level,

    /// Leave out what is less severe than that
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people
    Text,
    /// A list of objects
    Json,
    /// Annotations of a pull request, by a GitHub workflow
    Github,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Level {
    /// The object is refused: none of it is in force
    Error,
    /// It is in force, and probably does not do what its author thinks
    Warning,
    /// Worth knowing
    Note,
}

impl From<Level> for Severity {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::Error,
            Level::Warning => Self::Warning,
            Level::Note => Self::Note,
        }
    }
}

pub(crate) fn run(args: &Args) -> crate::Answer {
    let input = Input::load(&args.input);
    let policies = input.objects.len();
    let mut problems = input.problems;
    problems.extend(review(&input.compiler));
    sort(&mut problems);
    let threshold = Severity::from(args.severity);
    let code = exit_code(&problems, threshold);
    if args.quiet {
        problems.retain(|problem| problem.severity <= threshold);
    }
    let report = match args.output {
        Output::Text => report::text(&problems, policies),
        Output::Json => report::json(&problems)?,
        Output::Github => report::github(&problems),
    };
    crate::print::stdout(&report)?;
    Ok(ExitCode::from(code))
}

/// By file and line; what has no place comes last.
fn sort(problems: &mut Vec<Problem>) {
    let place = |problem: &Problem| (problem.location.is_none(), problem.location.clone());
    problems.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.cmp(b)));
    problems.dedup();
}

fn exit_code(problems: &[Problem], threshold: Severity) -> u8 {
    if problems.iter().any(|problem| problem.id == manifests::load::UNREADABLE_FILE) {
        return 2;
    }
    // The more severe, the smaller.
    u8::from(problems.iter().any(|problem| problem.severity <= threshold))
}

#[cfg(test)]
mod tests;
