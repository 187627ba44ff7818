//! Text to standard output, with colour if that shows it.

use std::fmt::{self, Write as _};
use std::io::{self, Write};

use serde::Serialize;

use crate::clean::clean_json;
use crate::yaml;

/// How a verb says what it found: the table is its own, the rest is one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people
    Table,
    /// As the verb's page in docs/reference says
    Json,
    /// The same
    Yaml,
}

impl Output {
    /// Writes it.
    pub(crate) fn put(self, table: impl FnOnce() -> String, record: &impl Serialize) -> anyhow::Result<()> {
        stdout(&match self {
            Self::Table => table(),
            Self::Json => format!("{}\n", clean_json(&serde_json::to_string_pretty(record)?)),
            Self::Yaml => yaml::document(record)?,
        })
    }
}

/// Writes all of it. Colours are stripped where they do not belong (pipes, `NO_COLOR`); a reader that has seen enough
/// and hung up (`| head`) is no error.
pub(crate) fn stdout(text: &str) -> anyhow::Result<()> {
    let mut stdout = anstream::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Text put behind other text.
pub(crate) fn put(out: &mut String, what: fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(what);
}
