//! What is said: a line for each program and step, and how many there were of each kind.

use std::fmt;

use nix::sys::utsname;

/// What came of one step of one program.
pub(crate) enum Outcome {
    /// It went as it must, with these facts.
    Passed(String),
    /// This kernel cannot do it, and need not.
    Skipped(String),
    /// It did not.
    Failed(String),
}

/// The steps so far.
pub(crate) struct Report {
    kernel: String,
    passed: usize,
    skipped: usize,
    failed: usize,
}

impl Report {
    pub(crate) fn new() -> Self {
        let kernel = utsname::uname()
            .map_or_else(|_| String::new(), |name| name.release().to_string_lossy().into_owned());
        Self { kernel, passed: 0, skipped: 0, failed: 0 }
    }

    /// Counts a step and prints its line at once: on a kernel that dies, the last line tells in which step.
    pub(crate) fn add(&mut self, program: &str, step: &str, outcome: &Outcome) {
        let (word, text) = match outcome {
            Outcome::Passed(text) => {
                self.passed += 1;
                ("ok", text)
            }
            Outcome::Skipped(text) => {
                self.skipped += 1;
                ("skip", text)
            }
            Outcome::Failed(text) => {
                self.failed += 1;
                ("FAIL", text)
            }
        };
        println!("{word:<5} {program:<24} {step:<15} {text}");
    }

    pub(crate) fn is_good(&self) -> bool {
        self.failed == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "kernel {}: {} steps passed, {} skipped, {} failed",
            self.kernel, self.passed, self.skipped, self.failed
        )
    }
}
