//! Rules about requests that say more, or less, than they seem to.

use datapath::abi::Direction;

use super::Remark;
use crate::asks::{Asks, HttpMatch, PathPattern, ValuePattern};
use crate::list::{MOST_STATES, regex_states};
use crate::policy::{Policy, Ports, Rule};
use crate::problem::{Problem, Severity};

/// The id of the warning about a rule about requests that names no ports.
pub(super) const READS_ALL_PORTS: &str = "reads-all-ports";
/// The id of the warning about a method that hardly anybody sends.
pub(super) const UNUSUAL_METHOD: &str = "unusual-method";
/// The id of the note about an expression that needs many states.
pub(super) const LARGE_EXPRESSION: &str = "large-expression";

/// Expressions that need more states are worth a word.
const MANY_STATES: usize = 500;

pub(super) fn review(policy: &Policy, found: &mut Vec<Problem>) {
    for rule in Direction::ALL.into_iter().flat_map(|direction| &policy.block(direction).rules) {
        let Some(asks) = &rule.asks else { continue };
        found.extend(all_ports(rule).map(|remark| remark.of(policy)));
        let Asks::Http(any) = &**asks else { continue };
        for http in any {
            methods(policy, http, found);
            expressions(policy, http, found);
        }
    }
}

/// Lowering gives such a rule all of TCP, at the path of the rule itself.
fn all_ports(rule: &Rule) -> Option<Remark<'_>> {
    let Ports::AnyOf(ports) = &rule.ports else { return None };
    ports.iter().any(|port| port.path == rule.path).then(|| Remark {
        severity: Severity::Warning,
        id: READS_ALL_PORTS,
        path: &rule.path,
        message: "this rule is about requests and names no ports: on every TCP port of these peers, what is in no protocol \
                  that such a rule is about is closed"
            .to_owned(),
        expected: "protocols: the ports on which this is spoken".to_owned(),
    })
}

fn methods(policy: &Policy, http: &HttpMatch, found: &mut Vec<Problem>) {
    for (index, method) in http.methods.iter().enumerate() {
        let (message, expected) = if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let message =
                format!("methods are case-sensitive, and {method} is none that clients are known to send");
            (message, method.to_ascii_uppercase())
        } else if **method == *"CONNECT" {
            (
                "CONNECT makes the connection a tunnel, and the proxy refuses it whatever rules say"
                    .to_owned(),
                String::new(),
            )
        } else {
            continue;
        };
        let remark = Remark {
            severity: Severity::Warning,
            id: UNUSUAL_METHOD,
            path: &format!("{}.methods[{index}]", http.at),
            message,
            expected,
        };
        found.push(remark.of(policy));
    }
}

fn expressions(policy: &Policy, http: &HttpMatch, found: &mut Vec<Problem>) {
    let path = match &http.path {
        Some(PathPattern::Regex(regex)) => Some((format!("{}.path.regex", http.at), regex)),
        _ => None,
    };
    let headers = http.headers.iter().enumerate().filter_map(|(index, header)| match &header.value {
        ValuePattern::Regex(regex) => Some((format!("{}.headers[{index}].regex", http.at), regex)),
        ValuePattern::Present | ValuePattern::Equal(_) => None,
    });
    for (path, regex) in path.into_iter().chain(headers) {
        if let Ok(states) = regex_states(regex)
            && states > MANY_STATES
        {
            let remark = Remark {
                severity: Severity::Note,
                id: LARGE_EXPRESSION,
                path: &path,
                message: format!(
                    "this expression needs {states} states of at most {MOST_STATES}, on every node whose pods are selected"
                ),
                expected: String::new(),
            };
            found.push(remark.of(policy));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::PolicyObject;
    use crate::lower::lower;

    #[test]
    fn rules_about_requests_are_reviewed() {
        let rules = json!([
            {"action": "Allow", "http": [{"methods": ["GET", "get"]}]},
            {"action": "Allow", "protocols": [{"tcp": {"destinationPort": {"number": 80}}}], "http": [
                {"path": {"regex": "/[a-z]+"}, "headers": [{"name": "a", "regex": ".*a.{9}"}]}]},
        ]);
        let object =
            json!({"metadata": {"name": "p"}, "spec": {"subject": {"podSelector": {}}, "ingress": rules}});
        let object = PolicyObject::PolderPolicy(serde_json::from_value(object).unwrap());
        let mut found = Vec::new();
        review(&lower(&object, None).unwrap().policy, &mut found);
        let said: Vec<_> = found.iter().map(|one| (one.severity, one.id, &*one.path)).collect();
        assert_eq!(
            said,
            [
                (Severity::Warning, READS_ALL_PORTS, "spec.ingress[0]"),
                (Severity::Warning, UNUSUAL_METHOD, "spec.ingress[0].http[0].methods[1]"),
                (Severity::Note, LARGE_EXPRESSION, "spec.ingress[1].http[0].headers[0].regex"),
            ]
        );
    }
}
