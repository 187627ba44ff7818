//! From the tree of an object to what is read of it, and the lines of that.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;

use crate::kind::Keep;
use crate::node::{Content, Node, push_index, push_key};

/// The longest path whose line is kept, in bytes.
const PATH: usize = 1024;

/// Takes away what is not kept.
pub(crate) fn reduce(mut node: Node, keep: Keep) -> Node {
    match (&mut node.content, keep) {
        (Content::Map(entries), Keep::Keys(_) | Keep::Except(_)) => {
            let written = std::mem::take(entries);
            entries.extend(written.into_iter().filter_map(|mut entry| {
                let keep = keep.of_key(&entry.key);
                if !is_kept(&entry.value, keep) {
                    return None;
                }
                entry.value = reduce(entry.value, keep);
                Some(entry)
            }));
        }
        (Content::Seq(items), Keep::Items(keep)) => {
            let written = std::mem::take(items);
            items.extend(written.into_iter().map(|item| reduce(item, *keep)));
        }
        _ => {}
    }
    node
}

fn is_kept(node: &Node, keep: Keep) -> bool {
    match keep {
        Keep::Nothing => false,
        Keep::Time => node.text().is_some_and(|_| Time::deserialize(node.to_value()).is_ok()),
        _ => true,
    }
}

/// The line of every field. `budget` is how many bytes of paths the file has left: a long key around many values would
/// otherwise make gigabytes of them. A field without a line of its own is found at the one around it.
pub(crate) fn lines(node: &Node, budget: &mut usize) -> BTreeMap<String, u32> {
    let mut lines = BTreeMap::new();
    add_lines(node, &mut String::new(), &mut lines, budget);
    lines
}

fn add_lines(node: &Node, path: &mut String, lines: &mut BTreeMap<String, u32>, budget: &mut usize) {
    let length = path.len();
    let mut add = |path: &mut String, line: u32, value: &Node| {
        if path.len() <= PATH && path.len() <= *budget {
            *budget -= path.len();
            lines.insert(path.clone(), line);
            add_lines(value, path, lines, budget);
        }
        path.truncate(length);
    };
    match &node.content {
        Content::Map(entries) => {
            for entry in entries {
                push_key(path, &entry.key);
                add(path, entry.line, &entry.value);
            }
        }
        Content::Seq(items) => {
            for (index, item) in items.iter().enumerate() {
                push_index(path, index);
                add(path, item.line, item);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kind::Kind;
    use crate::yaml;

    fn tree(text: &str) -> Node {
        yaml::read(text).remove(0).unwrap()
    }

    #[test]
    fn only_what_policy_depends_on_is_kept_of_a_pod() {
        let text = "\
kind: Pod
metadata: {name: p, annotations: {a: 1}, creationTimestamp: yesterday}
spec:
  weight: heavy
  containers:
  - image: 5
    ports: [{containerPort: 80, hostIP: 7}]
";
        let reduced = reduce(tree(text), Kind::Pod.keep());
        let expected =
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{"ports": [{"containerPort": 80}]}]}});
        assert_eq!(reduced.to_value(), expected);
        let expected = [
            ("metadata", 2),
            ("metadata.name", 2),
            ("spec", 3),
            ("spec.containers", 5),
            ("spec.containers[0]", 6),
            ("spec.containers[0].ports", 7),
            ("spec.containers[0].ports[0]", 7),
            ("spec.containers[0].ports[0].containerPort", 7),
        ];
        let expected = expected.map(|(path, line)| (path.to_owned(), line)).into();
        assert_eq!(lines(&reduced, &mut 1_000_000), expected);
    }

    #[test]
    fn a_policy_is_kept_whole_but_for_what_the_server_writes() {
        let text =
            "kind: X\nspec: {x: {status: 1}}\nstatus: {}\nmetadata: {name: p, managedFields: [], odd: 1}\n";
        let reduced = reduce(tree(text), Kind::NetworkPolicy.keep());
        assert_eq!(
            reduced.to_value(),
            json!({"spec": {"x": {"status": 1}}, "metadata": {"name": "p", "odd": 1}})
        );
    }

    #[test]
    fn paths_are_bounded() {
        let text = format!("a: 1\nc: {{{}: [1, 2]}}\nb: [1]\n", "k".repeat(1023));
        let expected =
            [("a", 1), ("c", 2), ("b", 3), ("b[0]", 3)].map(|(path, line)| (path.to_owned(), line)).into();
        assert_eq!(lines(&tree(&text), &mut 1_000_000), expected);
        assert_eq!(lines(&tree(&text), &mut 2).len(), 2);
    }
}
