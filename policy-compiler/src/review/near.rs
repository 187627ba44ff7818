//! What was probably meant: the nearest name, and the part of a selector for which nothing is found.

use std::collections::BTreeSet;

use strsim::osa_distance;

use super::listed;
use crate::labels::{Condition, Labels, NAMESPACE_NAME_LABEL, Requirement, Selector, Space};

/// Why a selector finds nothing among labels.
pub(super) struct Miss {
    /// What nobody has: `app=frontnd`.
    pub(super) lacking: String,
    /// What would be found; empty if nothing comes near.
    pub(super) expected: String,
    /// Whether only the name of a namespace is not there, and none that is spelled alike: a part of the cluster that is
    /// not at hand explains that as well as a mistake does.
    pub(super) is_elsewhere: bool,
}

/// Why a selector finds nothing among these labels.
pub(super) fn miss<S: Space>(selector: &Selector<S>, labels: &[&Labels<S>]) -> Miss {
    let alone = |requirement: &&Requirement| !labels.iter().any(|labels| requirement.matches(labels));
    if let Some(requirement) = selector.requirements().iter().find(alone) {
        let (expected, is_near) = nearest(requirement, labels);
        let names_namespace = &*requirement.key == NAMESPACE_NAME_LABEL;
        let is_name = names_namespace && matches!(requirement.condition, Condition::In(_));
        return Miss { lacking: requirement.to_string(), expected, is_elsewhere: is_name && !is_near };
    }
    // Each is met by somebody, all of them by nobody: the one that comes nearest tells which is one too many.
    let unmet = |labels: &Labels<S>| {
        let unmet = selector.requirements().iter().filter(|requirement| !requirement.matches(labels));
        unmet.map(ToString::to_string).collect::<Vec<_>>()
    };
    let nearest = labels.iter().map(|labels| unmet(labels)).min_by_key(Vec::len);
    let expected = nearest.map_or_else(String::new, |unmet| {
        format!("one that has both: the nearest {} is without {}", S::NAME, listed(unmet))
    });
    Miss { lacking: selector.to_string(), expected, is_elsewhere: false }
}

/// What comes near to a requirement that nobody meets, and whether that may be what was meant.
fn nearest<S: Space>(requirement: &Requirement, labels: &[&Labels<S>]) -> (String, bool) {
    let key = &*requirement.key;
    let wanted: Vec<&str> = match &requirement.condition {
        Condition::In(values) => values.iter().map(AsRef::as_ref).collect(),
        Condition::Exists => Vec::new(),
        Condition::NotIn(_) | Condition::DoesNotExist => return (String::new(), false),
    };
    let values: BTreeSet<&str> = labels.iter().filter_map(|labels| labels.get(key)).collect();
    if let Some(value) = wanted.iter().find_map(|wanted| alike(wanted, values.iter().copied())) {
        return (format!("{key}={value}"), true);
    }
    let pairs: BTreeSet<(&str, &str)> = labels.iter().flat_map(|labels| labels.iter()).collect();
    if values.is_empty() {
        if let Some((other, value)) = pairs.iter().find(|(_, value)| wanted.contains(value)) {
            return (format!("{other}={value}"), true);
        }
        let near = alike(key, pairs.iter().map(|(key, _)| *key));
        return (near.map_or_else(String::new, |near| format!("the label {near}")), near.is_some());
    }
    // The names of all namespaces are not what anybody chose between.
    let few = values.len() <= 8 && key != NAMESPACE_NAME_LABEL;
    (
        if few {
            format!("{key} with the value {}", values.into_iter().collect::<Vec<_>>().join(" or "))
        } else {
            String::new()
        },
        false,
    )
}

/// The one that is spelled most alike, if one is alike enough to be meant.
pub(super) fn alike<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bound = match wanted.len() {
        0..=2 => 0,
        3..=4 => 1,
        5..=9 => 2,
        _ => 3,
    };
    let distances = names.into_iter().map(|name| (osa_distance(wanted, name), name));
    distances.min().filter(|(distance, _)| (1..=bound).contains(distance)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::OfPod;

    #[test]
    fn a_name_is_alike_if_a_slip_of_the_keyboard_explains_it() {
        let names = ["frontend", "cart", "catalog", "db"];
        for (wanted, expected) in [
            ("fronted", Some("frontend")),
            ("frontned", Some("frontend")),
            ("crat", Some("cart")),
            ("card", Some("cart")),
            ("cartoon", None),
            ("dc", None),
            ("", None),
            ("Ŧrontend", Some("frontend")),
        ] {
            assert_eq!(alike(wanted, names), expected, "{wanted}");
        }
    }

    #[test]
    fn a_miss_names_what_nobody_has_and_what_comes_near() {
        let all = [
            Labels::<OfPod>::new([("app", "web"), ("tier", "front")]),
            Labels::<OfPod>::new([("app", "api"), ("tier", "back")]),
        ];
        let is = |key: &str, value: &str| Requirement {
            key: key.into(),
            condition: Condition::In([value.into()].into()),
        };
        let exists = |key: &str| Requirement { key: key.into(), condition: Condition::Exists };
        let absent = |key: &str| Requirement { key: key.into(), condition: Condition::DoesNotExist };
        for (requirements, lacking, expected) in [
            (vec![is("tier", "fornt")], "tier=fornt", "tier=front"),
            (vec![is("app", "database")], "app=database", "app with the value api or web"),
            (vec![is("name", "web")], "name=web", "app=web"),
            (vec![is("teir", "x")], "teir=x", "the label tier"),
            (vec![exists("zone")], "zone", ""),
            (vec![absent("app")], "!app", ""),
            (
                vec![is("app", "web"), is("tier", "back")],
                "app=web,tier=back",
                "one that has both: the nearest pod is without tier=back",
            ),
        ] {
            let miss = miss(&Selector::new(requirements), &all.iter().collect::<Vec<_>>());
            assert_eq!((&*miss.lacking, &*miss.expected, miss.is_elsewhere), (lacking, expected, false));
        }
    }
}
