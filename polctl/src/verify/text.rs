//! A verification as text.

use agent_api::judgement::{Answer, Direction, Protocol, Question, Verdict};
use agent_api::verification::Verification;
use owo_colors::OwoColorize;

use crate::clean::clean;
use crate::print::put;

/// All of it, with colours.
pub(super) fn text(verification: &Verification) -> String {
    let compared: Vec<String> =
        verification.compared.iter().map(|map| format!("{} {}", map.entries, clean(&map.map))).collect();
    let word = if verification.agrees() {
        "AGREES".green().bold().to_string()
    } else {
        "DIFFERS".red().bold().to_string()
    };
    let differences = verification.differences.len() as u64 + verification.more_differences;
    let disagreements = verification.disagreements.len() as u64 + verification.more_disagreements;
    let mut out = format!(
        "kernel: {word} (generation {})\n  compared: {}; differences: {differences}\n  asked: {} questions; \
         disagreements: {disagreements}\n",
        verification.generation,
        if compared.is_empty() { "nothing".to_owned() } else { compared.join(", ") },
        verification.pairs,
    );
    if differences > 0 {
        put(&mut out, format_args!("\n{}\n", "entries that are not as they should be:".bold()));
    }
    let nothing = "nothing";
    for difference in &verification.differences {
        put(
            &mut out,
            format_args!(
                "  {} {}\n    wanted: {}\n    found:  {}\n",
                clean(&difference.map),
                clean(&difference.key),
                clean(difference.wanted.as_deref().unwrap_or(nothing)),
                clean(difference.found.as_deref().unwrap_or(nothing)),
            ),
        );
    }
    more(&mut out, verification.more_differences);
    if disagreements > 0 {
        put(&mut out, format_args!("\n{}\n", "questions that the kernel answers otherwise:".bold()));
    }
    for disagreement in &verification.disagreements {
        put(
            &mut out,
            format_args!(
                "  {}\n    wanted: {}\n    found:  {}\n",
                question(&disagreement.question),
                answer(&disagreement.wanted),
                answer(&disagreement.found)
            ),
        );
    }
    more(&mut out, verification.more_disagreements);
    out
}

fn more(out: &mut String, count: u64) {
    if count > 0 {
        put(out, format_args!("  and {count} more\n"));
    }
}

/// `ingress of shop/v from 10.0.0.1, 8080/TCP`
pub(crate) fn question(question: &Question) -> String {
    let (direction, from) = match question.direction {
        Direction::Ingress => ("ingress", "from"),
        Direction::Egress => ("egress", "to"),
    };
    let port = match question.port {
        Some((protocol, port)) => {
            let protocol = match protocol {
                Protocol::Tcp => "TCP",
                Protocol::Udp => "UDP",
                Protocol::Sctp => "SCTP",
            };
            format!("{port}/{protocol}")
        }
        None => "a protocol without ports".to_owned(),
    };
    format!("{direction} of {} {from} {}, {port}", clean(&question.pod), question.peer)
}

pub(crate) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
        Verdict::Reject => "reject",
        Verdict::Redirect => "redirect",
    }
}

/// `deny (rule_denies, rule 3 of set 0x1f)`
fn answer(answer: &Answer) -> String {
    let rule =
        answer.rank.map(|rank| format!(", rule {rank} of set {:#x}", answer.rule_set)).unwrap_or_default();
    format!("{} ({}{rule})", verdict(answer.verdict), clean(&answer.reason))
}

#[cfg(test)]
mod tests {
    use agent_api::verification::{Compared, Difference, Disagreement};

    use super::*;

    #[test]
    fn what_was_compared_and_what_differs_is_said() {
        let mut verification = Verification {
            generation: 4,
            compared: vec![
                Compared { map: "endpoints".to_owned(), entries: 3 },
                Compared { map: "rules".to_owned(), entries: 9 },
            ],
            pairs: 54,
            ..Verification::default()
        };
        let plain =
            |verification: &Verification| anstream::adapter::strip_str(&text(verification)).to_string();
        assert_eq!(
            plain(&verification),
            "kernel: AGREES (generation 4)\n  compared: 3 endpoints, 9 rules; differences: 0\n  asked: 54 questions; \
             disagreements: 0\n"
        );
        verification.differences.push(Difference {
            map: "rules".to_owned(),
            key: "set 1\u{1b}".to_owned(),
            wanted: Some("allow".to_owned()),
            found: None,
        });
        verification.more_differences = 2;
        let question = Question {
            pod: "shop/v".to_owned(),
            direction: Direction::Ingress,
            peer: [10, 0, 0, 1].into(),
            port: Some((Protocol::Tcp, 8080)),
        };
        let answer = |verdict, reason: &str, rank| Answer {
            verdict,
            reason: reason.to_owned(),
            rule_set: 31,
            rank,
            generation: 4,
        };
        verification.disagreements.push(Disagreement {
            question,
            wanted: answer(Verdict::Deny, "rule_denies", Some(3)),
            found: answer(Verdict::Allow, "no_policy", None),
        });
        let text = plain(&verification);
        let (_, details) = text.split_once("disagreements: 1\n").unwrap();
        assert!(
            text.starts_with("kernel: DIFFERS (generation 4)\n") && text.contains("differences: 3\n"),
            "{text}"
        );
        assert_eq!(
            details,
            "
entries that are not as they should be:
  rules set 1\\u{1b}
    wanted: allow
    found:  nothing
  and 2 more

questions that the kernel answers otherwise:
  ingress of shop/v from 10.0.0.1, 8080/TCP
    wanted: deny (rule_denies, rule 3 of set 0x1f)
    found:  allow (no_policy)
"
        );
    }
}
