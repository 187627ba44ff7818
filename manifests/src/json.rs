//! JSON to trees. Most JSON is YAML, but not all (tabs, long keys), and this way it is also read faster.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::io::{self, Read};
use std::rc::Rc;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use crate::node::{Content, Defect, Entry, Node, Short};
use crate::yaml::NODES;

/// All values of a file, one after another.
pub(crate) fn read(text: &str) -> Result<Vec<Node>, Defect> {
    let state = State { line: Rc::new(Cell::new(1)), nodes: Rc::new(Cell::new(0)) };
    let bytes = Counted { rest: text.as_bytes(), line: Rc::clone(&state.line), after_break: false };
    let mut reader = serde_json::Deserializer::from_reader(bytes);
    let mut documents = Vec::new();
    while reader.end().is_err() {
        let node = state.clone().deserialize(&mut reader).map_err(|error| defect(&error))?;
        documents.push(node);
    }
    Ok(documents)
}

fn defect(error: &serde_json::Error) -> Defect {
    let message = error.to_string();
    // The line is told apart from the message here.
    let message = message.rfind(" at line ").and_then(|cut| message.get(..cut)).unwrap_or(&message);
    let line = u32::try_from(error.line()).unwrap_or(u32::MAX).max(1);
    Defect::new(line, format!("not JSON: {message}"), "valid JSON")
}

/// Bytes, counting the lines of those handed out. A line break belongs to the line it ends: the parser may have looked
/// at it to find the end of a number.
struct Counted<'a> {
    rest: &'a [u8],
    line: Rc<Cell<u32>>,
    after_break: bool,
}

impl Read for Counted<'_> {
    /// One byte at a time: the parser asks for no more.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (Some((&byte, rest)), Some(slot)) = (self.rest.split_first(), buffer.first_mut()) else {
            return Ok(0);
        };
        if self.after_break {
            self.line.set(self.line.get().saturating_add(1));
        }
        self.after_break = byte == b'\n';
        *slot = byte;
        self.rest = rest;
        Ok(1)
    }
}

#[derive(Clone)]
struct State {
    line: Rc<Cell<u32>>,
    nodes: Rc<Cell<usize>>,
}

impl State {
    fn node<E: Error>(&self, line: u32, content: Content) -> Result<Node, E> {
        self.nodes.set(self.nodes.get() + 1);
        if self.nodes.get() > NODES {
            return Err(E::custom(format!("too many values in one file, at most {NODES}")));
        }
        Ok(Node { line, content })
    }

    fn number<E: Error>(&self, number: Number) -> Result<Node, E> {
        let written = number.to_string().into();
        self.node(self.line.get(), Content::Number(number, written))
    }
}

impl<'de> DeserializeSeed<'de> for State {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for State {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        self.node(self.line.get(), Content::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        self.node(self.line.get(), Content::Bool(value, value.to_string().into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        self.number(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        self.number(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        self.number(Number::from_f64(value).ok_or_else(|| E::custom("number out of range"))?)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        self.node(self.line.get(), Content::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let line = self.line.get();
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self.clone())? {
            items.push(item);
        }
        self.node(line, Content::Seq(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let line = self.line.get();
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        while let Some(key) = access.next_key::<String>()? {
            let line = self.line.get();
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format!("the key `{}` comes twice in one map", Short(&key))));
            }
            let value = access.next_value_seed(self.clone())?;
            entries.push(Entry { key, line, value });
        }
        self.node(line, Content::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: u32, text: &str) -> Node {
        Node { line, content: Content::String(text.to_owned()) }
    }

    fn number(line: u32, value: u64) -> Node {
        Node { line, content: Content::Number(value.into(), value.to_string().into()) }
    }

    fn entry(key: &str, line: u32, value: Node) -> Entry {
        Entry { key: key.to_owned(), line, value }
    }

    #[test]
    fn every_value_knows_its_line_also_behind_tabs_and_before_line_breaks() {
        let read = read("{\n\t\"a\": 1,\n\t\"b\": [\n\t\t2\n,\n\t\t\"x\"\n\t]\n}\n\n[3]\n").unwrap();
        let list = Node { line: 3, content: Content::Seq(vec![number(4, 2), text(6, "x")]) };
        let map = Content::Map(vec![entry("a", 2, number(2, 1)), entry("b", 3, list)]);
        let second = Node { line: 10, content: Content::Seq(vec![number(10, 3)]) };
        assert_eq!(read, [Node { line: 1, content: map }, second]);
    }

    #[test]
    fn defects_are_located() {
        for (text, line, message) in [
            ("{\n\"a\": 1,\n\"a\": 2}", 3, "not JSON: the key `a` comes twice in one map"),
            ("{\n\"a\": }", 2, "not JSON: expected value"),
            ("{\"a\": 1e999}", 1, "not JSON: number out of range"),
        ] {
            assert_eq!(read(text), Err(Defect::new(line, message, "valid JSON")), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(read(&deep), Err(Defect::new(1, "not JSON: recursion limit exceeded", "valid JSON")));
    }
}
