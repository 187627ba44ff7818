//! What a test needs of its machine.

use std::env;

/// True if it is there. If not, this says loudly that nothing was proved; with `POLDER_STRICT=1` that is a failure.
pub(crate) fn there_or_skip(there: bool, test: &str, what: &str) -> bool {
    if !there {
        let strict = env::var_os("POLDER_STRICT").is_some_and(|value| value == "1");
        assert!(!strict, "{test}: {what}, and POLDER_STRICT=1 forbids to skip it");
        eprintln!("**** SKIPPED, NOTHING PROVED: {test}: {what} ****");
    }
    there
}
