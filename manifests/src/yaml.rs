//! The events of the YAML parser to trees, with bounds on what a small file can make of itself.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::node::{Content, Defect, Entry, Node, Short};
use crate::scalar::{self, Tag};

/// How deep lists and maps may nest; the same bound as `serde_json`'s.
pub(crate) const DEPTH: usize = 128;

/// How many values a file may write out.
pub(crate) const NODES: usize = 4_000_000;

/// How many bytes anchors and aliases may copy: a few lines of aliases of aliases can name billions of values.
const COPIED: usize = 8 << 20;

/// All documents of a stream, empty ones included. A document that breaks a rule of ours is an error in its place; an
/// error of the syntax ends the stream, and comes last.
pub(crate) fn read(text: &str) -> Vec<Result<Node, Defect>> {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((Event::StreamEnd, _)) => break,
            Ok((event, span)) => builder.event(event, line(span.start.line())),
            Err(error) => Err(syntax(text, line(error.marker().line()), error.info())),
        };
        if let Err(fatal) = step {
            builder.documents.push(Err(fatal));
            break;
        }
    }
    builder.documents
}

fn line(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX).max(1)
}

/// What the parser says, with the two usual reasons named.
fn syntax(text: &str, line: u32, info: &str) -> Defect {
    let index = usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1);
    let written = text.lines().nth(index).unwrap_or_default();
    let indent = written.len() - written.trim_start().len();
    let expected = if written.contains("{{") {
        "plain YAML; this looks like a template, which has to be rendered first"
    } else if written.get(..indent).is_some_and(|indent| indent.contains('\t')) {
        "spaces for indentation; this line has a tab"
    } else {
        "valid YAML"
    };
    Defect::new(line, format!("not YAML: {}", Short(info)), expected)
}

#[derive(Default)]
struct Builder {
    documents: Vec<Result<Node, Defect>>,
    /// The first defect of the present document.
    defect: Option<Defect>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Anchor>,
    nodes: usize,
    copied: usize,
}

/// A list or map that is being read.
struct Frame {
    line: u32,
    anchor: usize,
    inner: Inner,
}

enum Inner {
    Seq(Vec<Node>),
    Map(MapFrame),
}

#[derive(Default)]
struct MapFrame {
    entries: Vec<Entry>,
    /// The key whose value comes next.
    key: Option<(Key, u32)>,
    /// What `<<` names, and how many keys came before it.
    merge: Option<(Node, usize)>,
}

enum Key {
    Name(String),
    Merge,
}

struct Anchor {
    node: Node,
    size: usize,
    height: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, line: u32) -> Result<(), Defect> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => Ok(()),
            Event::DocumentEnd => {
                // Anchors end with their document.
                self.anchors.clear();
                Ok(())
            }
            Event::Alias(anchor) => self.alias(anchor, line),
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let tag = tag.as_deref();
                let merge = text == "<<"
                    && tag.map_or(plain, |tag| tag.is_yaml_core_schema() && tag.suffix == "merge");
                let tag = match tag {
                    None => Tag::Absent,
                    Some(tag) if tag.is_yaml_core_schema() => Tag::of_core_schema(&tag.suffix),
                    Some(_) => Tag::Text,
                };
                let content = scalar::resolve(&text, plain, tag).unwrap_or_else(|expected| {
                    self.defect(line, format!("found `{}`", Short(&text)), expected);
                    Content::Null
                });
                self.complete(Node { line, content }, anchor, merge)
            }
            Event::SequenceStart(anchor, _) => self.open(line, anchor, Inner::Seq(Vec::new())),
            Event::MappingStart(anchor, _) => self.open(line, anchor, Inner::Map(MapFrame::default())),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    /// Notes a defect of the present document; the first one stays.
    fn defect(&mut self, line: u32, message: String, expected: impl Into<String>) {
        self.defect.get_or_insert_with(|| Defect::new(line, message, expected));
    }

    fn open(&mut self, line: u32, anchor: usize, inner: Inner) -> Result<(), Defect> {
        if self.stack.len() >= DEPTH {
            return Err(too_deep(line));
        }
        self.stack.push(Frame { line, anchor, inner });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Defect> {
        let Some(Frame { line, anchor, inner }) = self.stack.pop() else { return Ok(()) };
        let content = match inner {
            Inner::Seq(items) => Content::Seq(items),
            Inner::Map(frame) => Content::Map(self.finish(frame)),
        };
        self.complete(Node { line, content }, anchor, false)
    }

    fn alias(&mut self, anchor: usize, line: u32) -> Result<(), Defect> {
        let Some(named) = self.anchors.get(&anchor) else {
            // The parser knows all anchors of the file, also of documents before and of what is still being read.
            return Err(Defect::new(
                line,
                "an alias to a value that is not complete here",
                "an anchor earlier in the same document",
            ));
        };
        if self.stack.len() + named.height > DEPTH {
            return Err(too_deep(line));
        }
        self.copied = self.copied.saturating_add(named.size);
        if self.copied > COPIED {
            return Err(too_many_copies(line));
        }
        // The alias stands on its own line; what is in it, where it was written.
        let node = Node { line, content: named.node.content.clone() };
        self.complete(node, 0, false)
    }

    /// Puts a finished value where it belongs.
    fn complete(&mut self, node: Node, anchor: usize, merge: bool) -> Result<(), Defect> {
        self.nodes += 1;
        if self.nodes > NODES {
            return Err(Defect::new(node.line, "too many values in one file", format!("at most {NODES}")));
        }
        if anchor != 0 {
            let size = node.size();
            self.copied = self.copied.saturating_add(size);
            if self.copied > COPIED {
                return Err(too_many_copies(node.line));
            }
            self.anchors.insert(anchor, Anchor { node: node.clone(), size, height: node.height() });
        }
        match self.stack.last_mut() {
            None => {
                let defect = self.defect.take();
                self.documents.push(defect.map_or(Ok(node), Err));
            }
            Some(Frame { inner: Inner::Seq(items), .. }) => items.push(node),
            Some(Frame { inner: Inner::Map(frame), .. }) => {
                let line = node.line;
                if let Some((message, expected)) = frame.put(node, merge) {
                    self.defect(line, message, expected);
                }
            }
        }
        Ok(())
    }

    /// Checks that no key comes twice and takes in what `<<` names.
    fn finish(&mut self, frame: MapFrame) -> Vec<Entry> {
        let MapFrame { mut entries, merge, .. } = frame;
        if let Some(twice) = repeated(&entries) {
            let (line, message) =
                (twice.line, format!("the key `{}` comes twice in one map", Short(&twice.key)));
            self.defect(line, message, "each key once");
        }
        let Some((named, before)) = merge else { return entries };
        let line = named.line;
        let sources = match named.content {
            Content::Map(_) => vec![named],
            Content::Seq(items) => items,
            _ => Vec::new(),
        };
        let mut known: HashSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
        let early: HashSet<String> = entries.iter().take(before).map(|entry| entry.key.clone()).collect();
        let mut fit = !sources.is_empty();
        for source in sources {
            let Content::Map(merged) = source.content else {
                fit = false;
                continue;
            };
            for entry in merged {
                if early.contains(&entry.key) {
                    // The YAML type says that the key wins, go-yaml v2 lets the merged one win.
                    let message =
                        format!("`<<` brings the key `{}`, which is set before it", Short(&entry.key));
                    self.defect(
                        line,
                        message,
                        "`<<` as the first key: tools disagree about who wins otherwise",
                    );
                }
                if known.insert(entry.key.clone()) {
                    entries.push(entry);
                }
            }
        }
        if !fit {
            self.defect(line, "`<<` names something else than maps".to_owned(), "a map or a list of maps");
        }
        entries
    }
}

impl MapFrame {
    /// Takes a key or a value, whichever comes next; says what is wrong with it, and what would be right.
    fn put(&mut self, mut node: Node, merge: bool) -> Option<(String, &'static str)> {
        match self.key.take() {
            None => {
                let (key, fault) = if merge { (Key::Merge, None) } else { key(&node) };
                self.key = Some((key, node.line));
                fault
            }
            Some((Key::Name(key), line)) => {
                if node.content == Content::Null {
                    // An empty value has no line of its own; the parser names that of the next token.
                    node.line = line;
                }
                self.entries.push(Entry { key, line, value: node });
                None
            }
            Some((Key::Merge, _)) => {
                let first = self.merge.is_none();
                let before = self.entries.len();
                self.merge.get_or_insert((node, before));
                (!first).then(|| {
                    ("the key `<<` comes twice in one map".to_owned(), "one `<<` with a list of maps")
                })
            }
        }
    }
}

/// A key as text: JSON has no other keys, and sigs.k8s.io/yaml writes numbers and booleans as such.
fn key(node: &Node) -> (Key, Option<(String, &'static str)>) {
    let name = match &node.content {
        Content::String(text) => text.clone(),
        Content::Bool(value, _) => value.to_string(),
        Content::Number(number, _) => number.to_string(),
        other => return (Key::Name(String::new()), Some((format!("found {other} as a key"), "a string"))),
    };
    (Key::Name(name), None)
}

/// The first entry whose key an earlier one has.
fn repeated(entries: &[Entry]) -> Option<&Entry> {
    let mut seen = HashSet::with_capacity(entries.len());
    entries.iter().find(|entry| !seen.insert(entry.key.as_str()))
}

fn too_deep(line: u32) -> Defect {
    Defect::new(line, "lists and maps nest too deep", format!("at most {DEPTH} levels"))
}

fn too_many_copies(line: u32) -> Defect {
    Defect::new(line, "aliases copy too much", format!("copies of at most {} MiB in one file", COPIED >> 20))
}

#[cfg(test)]
mod tests;
