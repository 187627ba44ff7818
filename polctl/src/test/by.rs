//! Which rule is expected to decide.

use policy_compiler::explain::{Place, Side};

/// How it is written.
pub(super) const FORM: &str = "NAMESPACE/NAME, KIND NAMESPACE/NAME, KIND NAME, each with `rule N` (1 is the first) if it matters, default-deny or no-policy";

/// What is expected to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Some policies isolate the pod, and no rule allows it.
    DefaultDeny,
    /// No rule speaks about it.
    NoPolicy,
    /// A policy.
    Policy {
        kind: Option<String>,
        namespace: Option<String>,
        name: String,
        /// The first is 1.
        rule: Option<usize>,
    },
}

pub(super) fn parse(text: &str) -> Option<By> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (object, rule) = match &words[..] {
        ["default-deny"] => return Some(By::DefaultDeny),
        ["no-policy"] => return Some(By::NoPolicy),
        [object @ .., "rule", number] => (object, Some(number.parse().ok().filter(|number| *number > 0)?)),
        object => (object, None),
    };
    let (kind, name) = match object {
        [name] => (None, name),
        [kind, name] => (Some((*kind).to_owned()), name),
        _ => return None,
    };
    let (namespace, name) = match name.split_once('/') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name),
        None => (None, *name),
    };
    (!name.is_empty()).then(|| By::Policy { kind, namespace, name: name.to_owned(), rule })
}

impl By {
    /// Whether this is what decided at one end.
    pub(super) fn decides(&self, side: &Side) -> bool {
        match self {
            Self::DefaultDeny => !side.isolated_by.is_empty(),
            Self::NoPolicy => side.rule.is_none() && side.isolated_by.is_empty(),
            Self::Policy { rule: Some(number), .. } => side.rule.as_ref().is_some_and(|place| {
                self.is_at(place) && place.path.ends_with(&format!("[{}]", number.saturating_sub(1)))
            }),
            Self::Policy { rule: None, .. } => {
                side.rule.iter().chain(&side.isolated_by).any(|place| self.is_at(place))
            }
        }
    }

    fn is_at(&self, place: &Place) -> bool {
        let Self::Policy { kind, namespace, name, .. } = self else { return false };
        let of_kind = kind.as_ref().is_none_or(|kind| *kind == place.kind);
        of_kind && *namespace == place.namespace && *name == place.name
    }
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, namespace, name, rule) = match self {
            Self::DefaultDeny => return f.write_str("default-deny"),
            Self::NoPolicy => return f.write_str("no-policy"),
            Self::Policy { kind, namespace, name, rule } => (kind, namespace, name, rule),
        };
        if let Some(kind) = kind {
            write!(f, "{kind} ")?;
        }
        if let Some(namespace) = namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(name)?;
        rule.map_or(Ok(()), |rule| write!(f, " rule {rule}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_named_as_reports_name_them() {
        let policy = |kind: Option<&str>, namespace: Option<&str>, rule| {
            let own = |text: Option<&str>| text.map(str::to_owned);
            Some(By::Policy { kind: own(kind), namespace: own(namespace), name: "api".to_owned(), rule })
        };
        for (text, expected) in [
            ("default-deny", Some(By::DefaultDeny)),
            ("no-policy", Some(By::NoPolicy)),
            ("api", policy(None, None, None)),
            ("prod/api", policy(None, Some("prod"), None)),
            ("NetworkPolicy prod/api rule 2", policy(Some("NetworkPolicy"), Some("prod"), Some(2))),
            ("ClusterNetworkPolicy api", policy(Some("ClusterNetworkPolicy"), None, None)),
            ("prod/api rule 0", None),
            ("prod/api rule x", None),
            ("prod/", None),
            ("", None),
            ("a b c", None),
        ] {
            let found = parse(text);
            assert_eq!(found, expected, "{text:?}");
            assert!(found.is_none_or(|by| by.to_string() == text));
        }
    }
}
