//! Text to standard output, with colour if that shows it.

use std::fmt::{self, Write as _};
use std::io::{self, Write};

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
