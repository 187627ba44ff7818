//! `polctl test`: what policies are meant to do, written down and asked of the engine.
//!
//! ```text
//! FILE --file--> tests --+
//!                        +--judge: party, units, policy_compiler::explain--> outcomes --report--> text, JSON, JUnit
//! manifests --Input------+
//! ```

mod by;
mod file;
mod judge;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::input::{self, Input};
use judge::{Outcome, State};

/// Run policy tests: who must reach whom, and who must not
///
/// Exit code: 0 if all tests pass, 1 if one fails, 2 if one cannot be run: a test file that is not valid, manifests that
/// are refused, a name that nothing has. The format of test files is in docs/reference/test.md.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Test files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Manifests (a file, a directory, or `-` for standard input) in place of those that the test files name; may be
    /// repeated
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    filename: Vec<PathBuf>,

    /// The namespace of names that say none
    #[arg(short, long, default_value = "default")]
    namespace: String,

    /// How to say it
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people
    Text,
    /// One object, see docs/reference/test.md
    Json,
    /// For CI systems
    Junit,
}

/// A test file, and what became of its tests.
struct Ran {
    file: String,
    outcomes: Vec<Outcome>,
}

pub(crate) fn run(args: &Args) -> crate::Answer {
    let mut suites = Vec::new();
    let mut invalid = 0;
    for path in &args.files {
        match file::read(path)? {
            Ok(suite) => suites.push(suite),
            Err(problems) => {
                for problem in &problems {
                    anstream::eprintln!("error: {}", crate::clean::clean(&problem.to_string()));
                }
                invalid += problems.len();
            }
        }
    }
    if invalid > 0 {
        anyhow::bail!("the test files are not valid, so that no test was run");
    }
    // Standard input can be read only once.
    let mut shared = match &args.filename[..] {
        [] => None,
        paths => Some(load(paths.to_vec())?),
    };
    let mut ran = Vec::new();
    for suite in &suites {
        let mut own;
        let input = if let Some(input) = &mut shared {
            input
        } else {
            own = load(suite.manifests.clone())?;
            &mut own
        };
        let outcomes = suite.tests.iter().map(|test| judge::run(input, test, &args.namespace)).collect();
        ran.push(Ran { file: suite.file.to_string(), outcomes });
    }
    let report = match args.output {
        Output::Text => report::text(&ran),
        Output::Json => report::json(&ran)?,
        Output::Junit => report::junit(&ran)?,
    };
    crate::print::stdout(&report)?;
    Ok(ExitCode::from(exit_code(&ran)))
}

fn load(filename: Vec<PathBuf>) -> anyhow::Result<Input> {
    let input = Input::load(&input::Args { filename });
    anyhow::ensure!(
        input.accepted(),
        "some objects are refused, so that what they would allow or deny cannot be said"
    );
    Ok(input)
}

fn exit_code(ran: &[Ran]) -> u8 {
    let states = || ran.iter().flat_map(|ran| &ran.outcomes).map(|outcome| &outcome.state);
    if states().any(|state| matches!(state, State::Broken(_))) {
        return 2;
    }
    u8::from(states().any(|state| matches!(state, State::Failed)))
}

#[cfg(test)]
mod tests;
