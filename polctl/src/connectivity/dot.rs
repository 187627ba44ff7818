//! A graph for Graphviz: a cluster for each namespace, an edge for each pair.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use policy_compiler::connectivity::PortSet;

use super::names::escape;
use super::view::{End, View};

/// Edges of a view, each pair of directions that allow the same drawn once.
pub(super) fn edges(view: &View) -> Vec<Edge<'_>> {
    let known: BTreeMap<(&End, &End), &PortSet> =
        view.rows.iter().map(|row| ((&row.src, &row.dst), &row.allow)).collect();
    let mut edges = Vec::new();
    for row in &view.rows {
        let both = row.src != row.dst && known.get(&(&row.dst, &row.src)) == Some(&&row.allow);
        if !both || row.src < row.dst {
            edges.push(Edge { src: &row.src, dst: &row.dst, both, ports: &row.allow });
        }
    }
    edges
}

/// A line of the picture.
pub(super) struct Edge<'a> {
    pub(super) src: &'a End,
    pub(super) dst: &'a End,
    /// The other way round just the same is allowed.
    pub(super) both: bool,
    pub(super) ports: &'a PortSet,
}

pub(super) fn render(view: &View) -> String {
    let mut namespaces: BTreeMap<&str, BTreeSet<&End>> = BTreeMap::new();
    let mut outside = BTreeSet::new();
    for end in view.rows.iter().flat_map(|row| [&row.src, &row.dst]) {
        match &end.workload {
            Some(workload) => {
                namespaces.entry(&workload.namespace).or_default().insert(end);
            }
            None => {
                outside.insert(end);
            }
        }
    }
    let mut text = "digraph connectivity {\n  rankdir=LR; fontname=Helvetica;\n  node [shape=box, style=rounded, fontname=Helvetica]; \
                    edge [fontname=Helvetica, fontsize=10];\n"
        .to_owned();
    for (namespace, ends) in namespaces {
        let _ = writeln!(text, "  subgraph {} {{", quoted(&format!("cluster_{}", escape(namespace))));
        let _ = writeln!(
            text,
            "    label={}; style=\"rounded,filled\"; color=gray; fillcolor=gray97;",
            quoted(&escape(namespace))
        );
        for end in ends {
            let label = end.name.split_once('/').map_or(&*end.name, |(_, name)| name);
            let _ = writeln!(text, "    {} [label={}];", quoted(&end.name), quoted(label));
        }
        text += "  }\n";
    }
    for end in outside {
        let _ = writeln!(text, "  {} [shape=ellipse, style=dashed];", quoted(&end.name));
    }
    for edge in edges(view) {
        let both = if edge.both { ", dir=both" } else { "" };
        let (src, dst, ports) =
            (quoted(&edge.src.name), quoted(&edge.dst.name), quoted(&edge.ports.to_string()));
        let _ = writeln!(text, "  {src} -> {dst} [label={ports}{both}];");
    }
    text + "}\n"
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
