//! What to read: the files below the directory, and the directories to watch for them.
//!
//! The same files in the same order as [`manifests::load::load`] reads of a directory, which does not give their text.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_api::world::Document;
use manifests::document::FILE_SIZE;
use manifests::load::UNREADABLE_FILE;
use manifests::parse::parse;
use nix::sys::inotify::Inotify;
use policy_compiler::object::{Location, ObjectRef};
use policy_compiler::problem::{Problem, Severity};

use super::watch::Watched;

/// How many bytes are read of all files together.
const TOTAL_SIZE: usize = 256 << 20;

/// How deep directories are followed.
const DEPTH: usize = 64;

/// A directory as it was.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) documents: Vec<Document>,
    /// What could not be read.
    pub(super) failures: Vec<Problem>,
    pub(super) watched: Watched,
}

/// Reads all manifests below a directory.
pub(super) fn read(directory: &Path, inotify: Option<&Inotify>) -> Reading {
    let mut walk = Walk {
        root: directory,
        inotify,
        reading: Reading::default(),
        seen: HashSet::new(),
        room: TOTAL_SIZE,
    };
    walk.watch_the_way();
    walk.directory(directory, 0);
    let Walk { mut reading, .. } = walk;
    if reading.documents.is_empty() && reading.failures.is_empty() {
        let message = "there is no manifest in it".to_owned();
        let expected = "a directory with *.yaml, *.yml or *.json files";
        reading.failures.push(refused(&directory.to_string_lossy(), message, expected));
    }
    reading
}

struct Walk<'a> {
    root: &'a Path,
    inotify: Option<&'a Inotify>,
    reading: Reading,
    /// Resolved paths: of directories against loops, of files against reading them twice.
    seen: HashSet<PathBuf>,
    /// How many bytes may still be read.
    room: usize,
}

impl Walk<'_> {
    /// Watches for the directory itself: made, replaced, renamed, a link on the way that is turned elsewhere.
    fn watch_the_way(&mut self) {
        let written = std::path::absolute(self.root).ok();
        let resolved = fs::canonicalize(self.root).ok();
        for path in written.iter().chain(resolved.as_ref().filter(|_| written != resolved)) {
            for step in path.ancestors() {
                if let (Some(parent), Some(name)) = (step.parent(), step.file_name()) {
                    self.reading.watched.name(self.inotify, parent, name, false);
                }
            }
        }
    }

    fn directory(&mut self, path: &Path, depth: usize) {
        if !self.is_new(path) {
            return;
        }
        if depth > DEPTH {
            let message = format!("directories nest deeper than {DEPTH}");
            return self.refuse(path, message, "a flatter directory");
        }
        // Before it is listed: what comes later is noticed.
        self.reading.watched.directory(self.inotify, path);
        let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut names: Vec<_> = match entries {
            Ok(entries) => entries.into_iter().map(|entry| entry.file_name()).collect(),
            Err(error) => return self.unreadable(path, &error),
        };
        names.sort_unstable();
        for name in names {
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = path.join(&name);
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => self.directory(&path, depth + 1),
                Ok(metadata) if metadata.is_file() && is_manifest(&path) => self.file(&path),
                Err(error) if is_manifest(&path) => self.unreadable(&path, &error),
                // Of another name, or no regular file: reading a pipe might never end.
                _ => {}
            }
        }
    }

    fn file(&mut self, path: &Path) {
        if !self.is_new(path) {
            return;
        }
        if path.is_symlink()
            && let Ok(target) = fs::canonicalize(path)
            && let (Some(parent), Some(name)) = (target.parent(), target.file_name())
        {
            self.reading.watched.name(self.inotify, parent, name, true);
        }
        let bound = self.room.min(FILE_SIZE);
        let mut bytes = Vec::new();
        let most = u64::try_from(bound).unwrap_or(u64::MAX).saturating_add(1);
        match File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)) {
            Ok(_) if bytes.len() > FILE_SIZE => {
                let expected = format!("at most {} MiB", FILE_SIZE >> 20);
                self.refuse(path, "the file is too large".to_owned(), &expected);
            }
            Ok(_) if bytes.len() > bound => {
                let message = "the files up to this one are too large together".to_owned();
                self.refuse(path, message, &format!("at most {} MiB", TOTAL_SIZE >> 20));
            }
            Ok(_) => {
                self.room -= bytes.len();
                self.document(path, bytes);
            }
            Err(error) => self.unreadable(path, &error),
        }
    }

    fn document(&mut self, path: &Path, bytes: Vec<u8>) {
        let name = self.name(path);
        match text(bytes) {
            Ok(text) => self.reading.documents.push(Document { name, text }),
            // Said by who knows what text is.
            Err(bytes) => self.reading.failures.extend(parse(&name, &bytes).problems),
        }
    }

    /// The path below the root; the root as it was given.
    fn name(&self, path: &Path) -> String {
        match path.strip_prefix(self.root) {
            Ok(below) if below != Path::new("") => below.to_string_lossy().into_owned(),
            _ => path.to_string_lossy().into_owned(),
        }
    }

    /// Whether a path has not been here before, by whatever name. One that cannot be resolved fails when it is read.
    fn is_new(&mut self, path: &Path) -> bool {
        fs::canonicalize(path).map_or(true, |resolved| self.seen.insert(resolved))
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        self.refuse(path, format!("cannot be read: {error}"), "a readable file or directory");
    }

    fn refuse(&mut self, path: &Path, message: String, expected: &str) {
        let problem = refused(&self.name(path), message, expected);
        self.reading.failures.push(problem);
    }
}

fn refused(name: &str, message: String, expected: &str) -> Problem {
    let file: Arc<str> = name.into();
    Problem {
        severity: Severity::Error,
        id: UNREADABLE_FILE,
        object: ObjectRef::cluster("File", &file),
        path: String::new(),
        message,
        expected: expected.to_owned(),
        location: Some(Location { file, line: 1 }),
    }
}

/// Whether a file of this name is read.
pub(super) fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().map(std::ffi::OsStr::as_encoded_bytes);
    matches!(extension, Some(b"yaml" | b"yml" | b"json"))
}

/// UTF-8, or UTF-16 if it begins with its byte order mark; else the bytes.
fn text(bytes: Vec<u8>) -> Result<String, Vec<u8>> {
    let unit = match bytes.as_slice() {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return String::from_utf8(bytes).map_err(std::string::FromUtf8Error::into_bytes),
    };
    let (pairs, rest) = bytes.as_chunks::<2>();
    let decoded = char::decode_utf16(pairs.iter().skip(1).map(|&pair| unit(pair)));
    match decoded.collect::<Result<String, _>>() {
        Ok(text) if rest.is_empty() => Ok(text),
        _ => Err(bytes),
    }
}
