//! Which files are read: the only part of this crate that touches the outside.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use policy_compiler::object::{Location, ObjectRef};
use policy_compiler::problem::{Problem, Severity};

use crate::document::{FILE_SIZE, too_large};
use crate::gather::Loaded;
use crate::parse::{Parsed, file_problem, parse};

/// The id of the error about a path that cannot be read.
pub const UNREADABLE_FILE: &str = "unreadable-file";

/// The path that means standard input.
pub const STDIN: &str = "-";

/// Reads files, directories with all below them, and standard input (`-`), in this order. A file that is reached twice
/// is read once. In directories only `*.yaml`, `*.yml` and `*.json` are read, sorted by name; names that begin with a
/// dot are not.
pub fn load(paths: &[PathBuf], stdin: &mut dyn Read) -> Loaded {
    let mut walk = Walk::default();
    for path in paths {
        if path == Path::new(STDIN) {
            walk.read(STDIN, stdin);
        } else {
            walk.path(path);
        }
    }
    Loaded::gather(walk.parsed)
}

#[derive(Default)]
struct Walk {
    parsed: Vec<Parsed>,
    /// Resolved paths: of directories against loops, of files against reading them twice.
    seen: HashSet<PathBuf>,
}

impl Walk {
    /// A path that was asked for: read whatever its name, and even if it is no regular file.
    fn path(&mut self, path: &Path) {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                let before = (self.parsed.len(), self.seen.len());
                self.directory(path);
                // Asked for and read nothing: rather a slip of the path than a cluster without anything.
                if self.parsed.len() == before.0 && self.seen.len() > before.1 {
                    let message = "there is no manifest in it".to_owned();
                    self.refused(path, message, "a directory with *.yaml, *.yml or *.json files");
                }
            }
            Ok(_) => self.file(path),
            Err(error) => self.unreadable(path, &error),
        }
    }

    fn directory(&mut self, path: &Path) {
        if !self.is_new(path) {
            return;
        }
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
                Ok(metadata) if metadata.is_dir() => self.directory(&path),
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
        match File::open(path) {
            Ok(mut file) => self.read(&path.to_string_lossy(), &mut file),
            Err(error) => self.unreadable(path, &error),
        }
    }

    fn read(&mut self, name: &str, source: &mut dyn Read) {
        let mut bytes = Vec::new();
        let bound = u64::try_from(FILE_SIZE).unwrap_or(u64::MAX);
        match source.take(bound + 1).read_to_end(&mut bytes) {
            Ok(_) if bytes.len() > FILE_SIZE => self.problem(file_problem(&name.into(), too_large())),
            Ok(_) => self.parsed.push(parse(name, &bytes)),
            Err(error) => self.unreadable(Path::new(name), &error),
        }
    }

    /// Whether a path has not been here before, by whatever name. One that cannot be resolved fails when it is read.
    fn is_new(&mut self, path: &Path) -> bool {
        fs::canonicalize(path).map_or(true, |resolved| self.seen.insert(resolved))
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        self.refused(path, format!("cannot be read: {error}"), "a readable file or directory");
    }

    fn refused(&mut self, path: &Path, message: String, expected: &str) {
        let file: Arc<str> = path.to_string_lossy().into();
        self.problem(Problem {
            severity: Severity::Error,
            id: UNREADABLE_FILE,
            object: ObjectRef::cluster("File", &file),
            path: String::new(),
            message,
            expected: expected.to_owned(),
            location: Some(Location { file, line: 1 }),
        });
    }

    /// Keeps problems in the order of the files.
    fn problem(&mut self, problem: Problem) {
        self.parsed.push(Parsed { problems: vec![problem], ..Parsed::default() });
    }
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().map(std::ffi::OsStr::as_encoded_bytes);
    matches!(extension, Some(b"yaml" | b"yml" | b"json"))
}
