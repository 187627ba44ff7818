//! What policies that are only audited would do.

use super::{Connection, judge, overall, verdict_name};
use crate::compiler::Compiler;

/// A line for a connection on which they would change the verdict.
pub(super) fn note(compiler: &Compiler, connection: &Connection) -> Option<String> {
    let audited = compiler.audited()?;
    let [now, then] = [compiler, &audited].map(|compiler| {
        overall(judge(compiler, connection).into_iter().map(|(_, _, decision)| decision.verdict))
    });
    if now == then {
        return None;
    }
    let deciding = judge(&audited, connection).into_iter().find(|(_, _, decision)| decision.verdict == then);
    let rule = deciding.and_then(|(_, _, decision)| audited.rule(decision.rule?));
    let by = rule.map_or_else(String::new, |rule| format!(" by {}", rule.origin));
    Some(format!(
        "audit: with the policies in force that are only audited, the verdict would be {}{by}",
        verdict_name(then)
    ))
}
