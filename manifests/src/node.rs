//! The tree of one document, in which everything knows its line.

use std::fmt::{self, Write};

use serde_json::{Map, Number, Value};

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// 1 is the first line of the file.
    pub line: u32,
    /// The value.
    pub content: Content,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Nothing, `~` or `null`.
    Null,
    /// With the word as written, which may be `y` or `off`.
    Bool(bool, Box<str>),
    /// With the digits as written, which may be `0x1F` or `1_000`.
    Number(Number, Box<str>),
    /// Text.
    String(String),
    /// A list.
    Seq(Vec<Node>),
    /// A map, in the order of the file; no key comes twice.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key, as text.
    pub key: String,
    /// The line of the key.
    pub line: u32,
    /// The value.
    pub value: Node,
}

/// One step from a value into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into a map.
    Key(String),
    /// Into a list.
    Index(usize),
}

/// Why a document or a file could not be read, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    /// 1 is the first line of the file.
    pub line: u32,
    /// What is wrong, with what was found.
    pub message: String,
    /// What would be right.
    pub expected: String,
}

impl Defect {
    /// What is wrong, and what would be right.
    pub fn new(line: u32, message: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { line, message: message.into(), expected: expected.into() }
    }
}

impl Node {
    /// The value of a key, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The entry of a key, if this is a map that has it.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The text, if this is one.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value at a path, or as far along it as there is one.
    pub fn nearest(&self, path: &[Step]) -> &Self {
        let mut node = self;
        for step in path {
            let next = match (step, &node.content) {
                (Step::Key(key), _) => node.get(key),
                (Step::Index(index), Content::Seq(items)) => items.get(*index),
                (Step::Index(_), _) => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }

    /// Roughly the bytes it takes in memory: what a copy of it costs.
    pub fn size(&self) -> usize {
        let inner = match &self.content {
            Content::Null => 0,
            Content::Bool(_, text) | Content::Number(_, text) => text.len(),
            Content::String(text) => text.len(),
            Content::Seq(items) => items.iter().map(Self::size).sum(),
            Content::Map(entries) => {
                entries.iter().map(|entry| size_of::<Entry>() + entry.key.len() + entry.value.size()).sum()
            }
        };
        size_of::<Self>() + inner
    }

    /// How many levels of lists and maps it has: 0 for a scalar.
    pub fn height(&self) -> usize {
        match &self.content {
            Content::Seq(items) => 1 + items.iter().map(Self::height).max().unwrap_or_default(),
            Content::Map(entries) => {
                1 + entries.iter().map(|entry| entry.value.height()).max().unwrap_or_default()
            }
            _ => 0,
        }
    }

    /// The same without lines.
    pub fn to_value(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(value, _) => Value::Bool(*value),
            Content::Number(value, _) => Value::Number(value.clone()),
            Content::String(value) => Value::String(value.clone()),
            Content::Seq(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Content::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.value.to_value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }
}

impl fmt::Display for Content {
    /// As messages name what was found: `a boolean (y)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing (null)"),
            Self::Bool(_, written) => write!(f, "a boolean ({})", Short(written)),
            Self::Number(_, written) => write!(f, "a number ({})", Short(written)),
            Self::String(text) => write!(f, "a string ({})", Short(text)),
            Self::Seq(_) => f.write_str("a list"),
            Self::Map(_) => f.write_str("a map"),
        }
    }
}

/// Text of the input as a message may carry it: one line, not too long, nothing a terminal would act upon.
pub(crate) struct Short<'a>(pub(crate) &'a str);

/// The most characters of the input that a message repeats.
const SHORT: usize = 60;

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, character) in self.0.chars().enumerate() {
            if count == SHORT {
                return f.write_str("...");
            }
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// Appends a step to a path in the form of [`policy_compiler::object::Source`]: `spec.ingress[0].from`.
pub(crate) fn push_step(path: &mut String, step: &Step) {
    match step {
        Step::Key(key) => push_key(path, key),
        Step::Index(index) => push_index(path, *index),
    }
}

/// Appends the step into a map.
pub(crate) fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

/// Appends the step into a list.
pub(crate) fn push_index(path: &mut String, index: usize) {
    // Writing to a string cannot fail.
    let _ = write!(path, "[{index}]");
}
