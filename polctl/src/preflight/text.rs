//! Findings as a table.

use owo_colors::{OwoColorize, Style};

use super::finding::{Finding, Level};
use crate::clean::clean;
use crate::print::put;

/// One line a finding, and below it what to do.
pub(super) fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
    let mut out = String::new();
    for finding in findings {
        let style = match finding.level {
            Level::Ok => Style::new().green(),
            Level::Warn => Style::new().yellow(),
            Level::Fail => Style::new().red().bold(),
        };
        let level = format!("{:<4}", finding.level.name());
        put(
            &mut out,
            format_args!("{}  {:<width$}  {}\n", level.style(style), finding.check, clean(&finding.found)),
        );
        if !finding.advice.is_empty() {
            put(&mut out, format_args!("{:indent$}-> {}\n", "", clean(&finding.advice), indent = width + 8));
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (fails, warnings) = (count(Level::Fail), count(Level::Warn));
    let verdict = if fails > 0 {
        "Polder cannot work on this node".red().bold().to_string()
    } else {
        "Polder can work on this node".green().bold().to_string()
    };
    put(&mut out, format_args!("{verdict}: {fails} failed, {warnings} to look at\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::{ok, warn};

    #[test]
    fn every_finding_is_a_line_and_advice_stands_below_it() {
        let findings = [ok("kernel", "version 6.18"), warn("mark bits", "used\u{1b}", "move")];
        assert_eq!(
            anstream::adapter::strip_str(&text(&findings)).to_string(),
            "ok    kernel     version 6.18\nwarn  mark bits  used\\u{1b}\n                 -> move\n\
             Polder can work on this node: 0 failed, 1 to look at\n"
        );
    }
}
