//! A picture: namespaces as boxes, in them the workloads, those that connect alike in one box.

use anyhow::bail;
use graphlay::svg::{
    BuiltinMarker, EdgeLabel, HeuristicMeasurer, MarkerRef, NodeContent, Scene, SketchOptions, Stroke,
    TextRun, Theme, render as draw, sketch_scene,
};
use graphlay::{
    Edge as Line, Effort, Graph, GraphBuilder, Layout, LayoutOptions, Node, NodeId, Shape, Size, layout,
};

use super::names::escape;
use super::twins::{Group, Picture};
use super::view::View;

/// More than this is no picture that a person can read, and takes long to lay out.
const MOST_EDGES: usize = 400;
/// More names than this in one box are only counted.
const MOST_NAMES: usize = 12;
/// Longer texts are cut.
const MOST_LETTERS: usize = 34;

const LETTER: f64 = 7.2;
const LINE: f64 = 16.0;

/// What is written in the boxes, by node.
type Texts = Vec<Vec<String>>;

pub(super) fn render(view: &View) -> anyhow::Result<String> {
    let picture = Picture::of(view);
    if picture.edges.len() > MOST_EDGES {
        bail!(
            "a picture of {} connections cannot be read; expected at most {MOST_EDGES}: try --focus NS/NAME, --no-external, or -o dot",
            picture.edges.len()
        );
    }
    let (graph, texts) = graph(&picture);
    let mut options = LayoutOptions::layered_default();
    options.spacing.compound_header = 20.0;
    if picture.edges.len() > MOST_EDGES / 4 {
        options.effort = Effort::Fast;
    }
    let drawing = layout(&graph, &options)?;
    Ok(draw(&scene(&picture, &graph, &drawing, &texts), &Theme::default(), &HeuristicMeasurer::new()) + "\n")
}

/// Namespaces first, then what is outside, then what is in a namespace: the order in which they are drawn, too.
fn graph(picture: &Picture<'_>) -> (Graph, Texts) {
    let mut builder = GraphBuilder::new();
    let mut namespaces: Vec<&str> = picture.groups.iter().filter_map(|group| group.namespace).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    let mut texts = Texts::new();
    let mut boxes = Vec::new();
    for namespace in &namespaces {
        let key = Some(format!("namespace {namespace}"));
        boxes.push(builder.add_node(Node { key, size: Size::new(10.0, 10.0), ..Node::default() }));
        texts.push(vec![short(&escape(namespace))]);
    }
    let mut nodes: Vec<Option<NodeId>> = vec![None; picture.groups.len()];
    for outside in [true, false] {
        for (group, node) in
            picture.groups.iter().zip(&mut nodes).filter(|(group, _)| group.namespace.is_none() == outside)
        {
            let text = lines(group);
            let longest = text.iter().map(|line| line.chars().count()).max().unwrap_or(0);
            // No text is long enough to lose precision, nor a box high enough.
            let [width, height] =
                [longest, text.len()].map(|count| f64::from(u16::try_from(count).unwrap_or(u16::MAX)));
            let parent = group
                .namespace
                .and_then(|name| namespaces.binary_search(&name).ok())
                .map(|index| boxes[index]);
            *node = Some(builder.add_node(Node {
                key: group.members.first().map(|end| end.name.clone()),
                size: Size::new((width * LETTER + 24.0).max(70.0), height * LINE + 18.0),
                shape: if outside { Shape::Ellipse } else { Node::default().shape },
                parent,
                ..Node::default()
            }));
            texts.push(text);
        }
    }
    for edge in &picture.edges {
        if let (Some(src), Some(dst)) = (nodes[edge.src], nodes[edge.dst]) {
            let letters = short(&edge.ports.to_string()).chars().count();
            let width = f64::from(u16::try_from(letters).unwrap_or(u16::MAX)) * LETTER + 10.0;
            builder.add_edge(Line { label_size: Some(Size::new(width, LINE)), ..Line::new(src, dst) });
        }
    }
    (builder.build(), texts)
}

fn lines(group: &Group<'_>) -> Vec<String> {
    let name = |name: &str| {
        short(name.split_once('/').filter(|_| group.namespace.is_some()).map_or(name, |(_, name)| name))
    };
    let mut lines: Vec<String> = group.members.iter().take(MOST_NAMES).map(|end| name(&end.name)).collect();
    if group.members.len() > MOST_NAMES {
        lines.push(format!("and {} more", group.members.len() - MOST_NAMES));
    }
    let whom = if group.members.len() > 1 { "each other" } else { "itself" };
    lines.extend(group.within.map(|ports| short(&format!("({whom}: {ports})"))));
    lines
}

fn scene(picture: &Picture<'_>, graph: &Graph, drawing: &Layout, texts: &Texts) -> Scene {
    let mut scene = sketch_scene(graph, drawing, &SketchOptions::default());
    let namespaces = texts.len().saturating_sub(picture.groups.len());
    for (index, (node, text)) in scene.nodes.iter_mut().zip(texts).enumerate() {
        let more = f64::from(u16::try_from(text.len().saturating_sub(1)).unwrap_or(u16::MAX));
        // The title of a namespace stands at its top; what is in a box, around its middle.
        let mut dy = if index < namespaces { 13.0 - node.rect.h / 2.0 } else { -more * LINE / 2.0 };
        node.content.clear();
        for line in text {
            let run = TextRun::new(line.clone()).at(0.0, dy).size(12.0).weight(if index < namespaces {
                700.0
            } else {
                500.0
            });
            node.content.push(NodeContent::Text(run));
            dy += LINE;
        }
    }
    // An edge without a route is not drawn.
    let routed = picture.edges.iter().zip(&drawing.edges).filter(|(_, route)| route.points.len() >= 2);
    for (line, (edge, _)) in scene.edges.iter_mut().zip(routed) {
        let colour = if edge.ports.is_all() { "#8a94a6" } else { "#2563eb" };
        line.stroke = Stroke::new(colour, 1.4);
        line.marker_end = MarkerRef::builtin(BuiltinMarker::Arrow).colored(colour);
        if edge.both {
            line.marker_start = MarkerRef::builtin(BuiltinMarker::Arrow).colored(colour);
        }
        let label = TextRun::new(short(&edge.ports.to_string())).size(11.0);
        // In the middle of the line: the room that the layout kept is elsewhere where a line leaves a box.
        line.labels.push(EdgeLabel { text: label, ..EdgeLabel::default() }.chip());
    }
    scene
}

fn short(text: &str) -> String {
    if text.chars().count() <= MOST_LETTERS {
        return text.to_owned();
    }
    text.chars().take(MOST_LETTERS - 1).chain(['\u{2026}']).collect()
}
