//! Test files, read with the lines of everything in them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use manifests::document;
use manifests::node::{Content, Entry, Node};
use policy_compiler::explain::Request;
use policy_compiler::object::{Location, ObjectRef};
use policy_compiler::problem::{Problem, Severity};

use super::by::{self, By};
use crate::explain::ask::{self, Port};
use crate::explain::request;

/// The id of what is wrong with a test file.
const INVALID_TEST: &str = "invalid-test";

const API_VERSION: &str = "polder.dev/v1alpha1";
const KIND: &str = "PolicyTest";

/// A test file.
#[derive(Debug, PartialEq)]
pub(super) struct Suite {
    pub(super) file: Arc<str>,
    /// The manifests, from where the command runs; the folder of the file if it names none.
    pub(super) manifests: Vec<PathBuf>,
    pub(super) tests: Vec<Test>,
}

/// One test: every combination of what it names must get the same answer.
#[derive(Debug, PartialEq)]
pub(super) struct Test {
    pub(super) location: Location,
    pub(super) name: Option<String>,
    pub(super) from: Vec<String>,
    pub(super) to: Vec<String>,
    pub(super) asked: Vec<Asked>,
    pub(super) request: Option<Request>,
    pub(super) allow: bool,
    pub(super) by: Option<By>,
}

/// What is asked of each pair.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Asked {
    Port(Port),
    Protocol(u8),
    /// Every protocol and port.
    All,
}

/// Reads a test file. The outer error is a file that cannot be read, the inner one what is wrong with it.
pub(super) fn read(path: &Path) -> anyhow::Result<Result<Suite, Vec<Problem>>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(parse(path, &bytes))
}

pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Suite, Vec<Problem>> {
    let file: Arc<str> = path.to_string_lossy().into();
    let mut reader = Reader { file: Arc::clone(&file), problems: Vec::new() };
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut suite = Suite { file: Arc::clone(&file), manifests: Vec::new(), tests: Vec::new() };
    let mut documents = 0;
    for document in document::read(&file, bytes) {
        match document {
            Ok(node) if node.content == Content::Null => {}
            Ok(node) => {
                documents += 1;
                reader.document(&node, folder, &mut suite);
            }
            Err(defect) => reader.problem(defect.line, "", defect.message, &defect.expected),
        }
    }
    if documents == 0 && reader.problems.is_empty() {
        reader.problem(1, "", "the file is empty", "a map with `tests`");
    }
    // Nothing asked would pass whatever the policies say.
    if suite.tests.is_empty() && reader.problems.is_empty() {
        reader.problem(1, "tests", "there is no test in it", "at least one test");
    }
    if suite.manifests.is_empty() {
        suite.manifests.push(if folder.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            folder.to_owned()
        });
    }
    if reader.problems.is_empty() { Ok(suite) } else { Err(reader.problems) }
}

struct Reader {
    file: Arc<str>,
    problems: Vec<Problem>,
}

impl Reader {
    fn location(&self, line: u32) -> Location {
        Location { file: Arc::clone(&self.file), line }
    }

    fn problem(&mut self, line: u32, path: &str, message: impl Into<String>, expected: &str) {
        let location = Some(self.location(line));
        let object = ObjectRef::cluster(KIND, &self.file);
        let (path, message, expected) = (path.to_owned(), message.into(), expected.to_owned());
        self.problems.push(Problem {
            severity: Severity::Error,
            id: INVALID_TEST,
            object,
            path,
            message,
            expected,
            location,
        });
    }

    fn document(&mut self, node: &Node, folder: &Path, suite: &mut Suite) {
        let known = ["apiVersion", "kind", "manifests", "tests"];
        for entry in self.entries(node, "", &known) {
            let (value, line) = (&entry.value, entry.line);
            match &*entry.key {
                "apiVersion" if value.text() != Some(API_VERSION) => {
                    self.problem(line, "apiVersion", format!("found {}", value.content), API_VERSION);
                }
                "kind" if value.text() != Some(KIND) => {
                    self.problem(line, "kind", format!("found {}", value.content), KIND);
                }
                "manifests" => {
                    let paths = self.texts(value, "manifests");
                    // Without the `.` of `manifests: [.]`, which would show in every place.
                    let paths = paths.into_iter().map(|(path, _)| folder.join(path).components().collect());
                    suite.manifests.extend::<Vec<PathBuf>>(paths.collect());
                }
                "tests" => {
                    let Content::Seq(items) = &value.content else {
                        self.problem(line, "tests", format!("found {}", value.content), "a list of tests");
                        continue;
                    };
                    for (index, item) in items.iter().enumerate() {
                        let test = self.test(item, &format!("tests[{index}]"));
                        suite.tests.extend(test);
                    }
                }
                _ => {}
            }
        }
        if matches!(node.content, Content::Map(_)) && node.get("tests").is_none() {
            self.problem(node.line, "", "`tests` is missing", "a list of tests");
        }
    }

    fn test(&mut self, node: &Node, path: &str) -> Option<Test> {
        let before = self.problems.len();
        let known = [
            "name", "from", "to", "port", "protocol", "http", "host", "headers", "grpc", "tls", "expect",
            "by",
        ];
        let mut test = Test {
            location: self.location(node.line),
            name: None,
            from: Vec::new(),
            to: Vec::new(),
            asked: Vec::new(),
            request: None,
            allow: false,
            by: None,
        };
        let mut request = request::Words::default();
        for entry in self.entries(node, path, &known) {
            let path = format!("{path}.{}", entry.key);
            self.field(entry, &path, &mut test, &mut request);
        }
        match request.request() {
            Ok(request) => test.request = request,
            Err(error) => {
                self.problem(node.line, path, error, "http: GET /path, grpc: service/method or tls: name");
            }
        }
        if test.request.is_some() && !test.asked.iter().any(|asked| matches!(asked, Asked::Port(_))) {
            self.problem(node.line, path, "a request is named without a port", "the port that it is sent to");
        }
        if matches!(node.content, Content::Map(_)) {
            for (field, what) in
                [("from", "who opens the connection"), ("to", "who is called"), ("expect", "allow or deny")]
            {
                if node.get(field).is_none() {
                    self.problem(node.line, path, format!("`{field}` is missing"), what);
                }
            }
        }
        if test.asked.is_empty() {
            test.asked.push(Asked::All);
        }
        (self.problems.len() == before).then_some(test)
    }

    fn field(&mut self, entry: &Entry, path: &str, test: &mut Test, request: &mut request::Words) {
        let texts = self.texts(&entry.value, path);
        let single = match &texts[..] {
            [(text, line)] => Some((text.clone(), *line)),
            _ => None,
        };
        match (&*entry.key, single) {
            ("from", _) => test.from = texts.into_iter().map(|(text, _)| text).collect(),
            ("to", _) => test.to = texts.into_iter().map(|(text, _)| text).collect(),
            ("port", _) => {
                for (text, line) in texts {
                    match ask::port(&text) {
                        Ok(port) => test.asked.push(Asked::Port(port)),
                        Err(error) => self.problem(line, path, error, "80, http, 53/udp or dns/udp"),
                    }
                }
            }
            ("protocol", _) => {
                for (text, line) in texts {
                    match ask::protocol(&text) {
                        Ok(number) => test.asked.push(Asked::Protocol(number)),
                        Err(error) => self.problem(line, path, error, "icmp; for TCP, UDP and SCTP a port"),
                    }
                }
            }
            ("name", Some((text, _))) => test.name = Some(text),
            ("http", Some((text, _))) => request.http = Some(text),
            ("host", Some((text, _))) => request.host = Some(text),
            ("grpc", Some((text, _))) => request.grpc = Some(text),
            ("tls", Some((text, _))) => request.tls = Some(text),
            ("headers", _) => request.header = texts.into_iter().map(|(text, _)| text).collect(),
            ("expect", Some((text, line))) => match &*text {
                "allow" => test.allow = true,
                "deny" => test.allow = false,
                other => self.problem(line, path, format!("{other:?} is no verdict"), "allow or deny"),
            },
            ("by", Some((text, line))) => match by::parse(&text) {
                Some(by) => test.by = Some(by),
                None => self.problem(line, path, format!("{text:?} is no rule"), by::FORM),
            },
            (_, None) if !texts.is_empty() => self.problem(entry.line, path, "found a list", "one value"),
            _ => {}
        }
    }

    /// The entries of a map. One with a key that is not known is named: it may be the one that matters.
    fn entries<'a>(&mut self, node: &'a Node, path: &str, known: &[&str]) -> Vec<&'a Entry> {
        let Content::Map(entries) = &node.content else {
            self.problem(node.line, path, format!("found {}", node.content), "a map");
            return Vec::new();
        };
        let is_known = |entry: &&Entry| known.contains(&&*entry.key);
        for entry in entries.iter().filter(|entry| !is_known(entry)) {
            let expected = format!("one of {}", known.join(", "));
            self.problem(entry.line, path, format!("unknown field `{}`", entry.key), &expected);
        }
        entries.iter().filter(is_known).collect()
    }

    /// One text or a list of them, with their lines; numbers as they are written.
    fn texts(&mut self, node: &Node, path: &str) -> Vec<(String, u32)> {
        let items = match &node.content {
            Content::Seq(items) if items.is_empty() => {
                self.problem(node.line, path, "found an empty list", "at least one value");
                return Vec::new();
            }
            Content::Seq(items) => items.iter().collect(),
            _ => vec![node],
        };
        let mut texts = Vec::new();
        for item in items {
            match &item.content {
                Content::String(text) => texts.push((text.clone(), item.line)),
                Content::Number(_, written) => texts.push((written.to_string(), item.line)),
                other => self.problem(item.line, path, format!("found {other}"), "text"),
            }
        }
        texts
    }
}
