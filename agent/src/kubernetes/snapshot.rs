//! What is known of the cluster, on disk: for an agent that starts while the API server cannot be reached.
//!
//! ```text
//! header: version, node
//! {"fact": manifest}                                          one a line
//! {"policy": manifest, "namespaceUid": .., "standing": ..}    one a line: every policy in force
//! {"lines": .., "written": time, "digest": ..}                              of all before
//!
//! {"fact": ..}, {"policy": ..}, {"gone": ..}                  what changed since, as it happens: the last word counts
//! {"lines": .., "written": time, "digest": ..}                              of all before
//! ...
//! ```
//!
//! Written beside and renamed, for root only, and never read unless length and digest are right: half a cluster would open
//! or close what the whole does not. A change that is cut off at the end is as if it had not happened. Policies that are in
//! force although they were deleted (their namespace is on its way out) are among them: the API server does not have them
//! any more.

mod read;
mod write;

use std::fs::{self, File};
use std::hash::Hasher as _;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use manifests::kind::Kind;
use manifests::live;
use policy_compiler::facts::Cluster;
use policy_compiler::object::ObjectRef;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::server::FOLLOWED;
use crate::source::{Followed, PolicyText};

pub use write::Writer;

/// What these lines mean. Another number is not read.
const FORMAT: u32 = 2;

/// The file's name in the state directory.
const NAME: &str = "cluster.jsonl";

/// What is written: everything, or what changed.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Facts.
    pub cluster: Cluster,
    /// Policies in force.
    pub policies: Vec<SavedPolicy>,
    /// What is not there any more.
    pub gone: Vec<ObjectRef>,
}

/// A policy that was in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedPolicy {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub object: ObjectRef,
    /// Which object of that name.
    pub uid: String,
    /// Its text.
    pub json: Arc<str>,
    /// The UID of its namespace.
    pub namespace_uid: Option<Arc<str>>,
    /// How it was in force.
    pub standing: PolicyStanding,
}

/// How a policy was in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyStanding {
    /// As its author wrote it.
    Written,
    /// Deleted, in a namespace that is being deleted and has pods.
    Retained,
    /// Closed, in the stead of one that cannot be understood.
    StandIn,
}

impl SavedPolicy {
    /// One that is in force; `None` if its text is no policy.
    pub fn new(object: &ObjectRef, text: &PolicyText, standing: PolicyStanding) -> Option<Self> {
        let kind = FOLLOWED.iter().map(|one| one.kind).find(|kind| kind.name() == &*object.kind)?;
        let uid = live::version(&text.json).ok()?.uid;
        let (json, namespace_uid) = (Arc::clone(&text.json), text.namespace_uid.clone());
        Some(Self { kind, object: object.clone(), uid, json, namespace_uid, standing })
    }

    /// Whether it is what its author wrote last.
    pub(super) fn is_good(&self) -> bool {
        self.standing == PolicyStanding::Written
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    node: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PolicyLine {
    policy: Box<RawValue>,
    #[serde(default)]
    namespace_uid: Option<String>,
    standing: PolicyStanding,
}

#[derive(Serialize, Deserialize)]
struct GoneLine {
    gone: GoneObject,
}

#[derive(Serialize, Deserialize)]
struct GoneObject {
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    name: String,
}

#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
struct Trailer {
    lines: u64,
    written: Timestamp,
    digest: String,
}

/// What was read.
#[derive(Debug)]
pub struct Saved {
    /// When it was written.
    pub written: Timestamp,
    /// Everything, as it is told to the task with the state.
    pub followed: Followed,
    /// The policies.
    pub policies: Vec<SavedPolicy>,
    /// How many bytes at its end are damaged or cut off, and not among it.
    pub lost: u64,
}

/// Where it is.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// In this directory, which is made for root only if it is not there.
    pub fn open(directory: &Path) -> Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("making {}", directory.display()))?;
        Ok(Self { directory: directory.to_owned() })
    }

    fn path(&self) -> PathBuf {
        self.directory.join(NAME)
    }

    /// Removes what is there, half-written files too.
    pub fn remove(&self) -> Result<()> {
        for path in [self.path(), self.directory.join(format!(".{NAME}.new"))] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("removing {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads what is there; `None` if there is nothing.
    ///
    /// # Errors
    ///
    /// It is damaged (what was appended to it may be), of another format or of another node, or cannot be read.
    pub fn read(&self, node: &str) -> Result<Option<Saved>> {
        let path = self.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("opening {}", path.display())),
        };
        read::read(file, node).map(Some).with_context(|| format!("reading {}", path.display()))
    }
}

/// Lines so far: what a trailer says of them.
#[derive(Clone, Debug, Default)]
struct Lines {
    digest: SipHasher13,
    count: u64,
}

impl Lines {
    fn note(&mut self, line: &[u8]) {
        self.digest.write(line);
        self.count += 1;
    }

    fn trailer(&self, written: Timestamp) -> Trailer {
        let mut digest = self.digest;
        digest.write(written.to_string().as_bytes());
        Trailer { lines: self.count, written, digest: format!("{:032x}", digest.finish128().as_u128()) }
    }
}

#[cfg(test)]
mod tests;
