//! What is known of the cluster, on disk: for an agent that starts while the API server cannot be reached.
//!
//! ```text
//! header: version, node, time
//! {"fact": manifest}                                          one a line
//! {"policy": manifest, "namespaceUid": .., "standing": ..}    one a line: every policy in force
//! {"lines": .., "digest": ..}                                 of all before
//! ```
//!
//! Written beside and renamed, for root only, and never read unless length and digest are right: half a cluster would open
//! or close what the whole does not. Policies that are in force although they were deleted (their namespace is on its way
//! out) are among them: the API server does not have them any more.

use std::fs::{self, File, OpenOptions};
use std::hash::Hasher as _;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use manifests::kind::Kind;
use manifests::live;
use manifests::write;
use policy_compiler::compiler::Event;
use policy_compiler::facts::Cluster;
use policy_compiler::object::ObjectRef;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::intern::Interner;
use super::policies::lowered;
use super::server::FOLLOWED;
use crate::source::{Followed, PolicyText};

/// What these lines mean. Another number is not read.
const FORMAT: u32 = 1;

/// How long a line may be: the API server takes no objects above 1.5 MiB, and escaping makes six of one at most.
const LINE: u64 = 16 << 20;

/// The file's name in the state directory.
const NAME: &str = "cluster.jsonl";

/// What is written.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The node.
    pub node: String,
    /// All facts.
    pub cluster: Cluster,
    /// All policies in force.
    pub policies: Vec<SavedPolicy>,
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
    written: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PolicyLine {
    policy: Box<RawValue>,
    #[serde(default)]
    namespace_uid: Option<String>,
    standing: PolicyStanding,
}

#[derive(Deserialize)]
struct FactLine {
    fact: Box<RawValue>,
}

#[derive(Deserialize)]
struct OnlyKind {
    kind: String,
}

#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
struct Trailer {
    lines: u64,
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

    /// Replaces what is there, whole or not at all.
    pub fn write(&self, contents: &Contents) -> Result<()> {
        let path = self.path();
        let beside = self.directory.join(format!(".{NAME}.new"));
        let written = write_to(&beside, contents).and_then(|()| fs::rename(&beside, &path));
        written.with_context(|| format!("writing {}", path.display()))
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
    /// It is damaged, of another format or of another node, or cannot be read.
    pub fn read(&self, node: &str) -> Result<Option<Saved>> {
        let path = self.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("opening {}", path.display())),
        };
        check(file).with_context(|| format!("{} is damaged", path.display()))?;
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        parse(file, node).map(Some).with_context(|| format!("reading {}", path.display()))
    }
}

fn write_to(path: &Path, contents: &Contents) -> io::Result<()> {
    // A file that is left over may have other rights.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut lines = Lines { out: BufWriter::new(file), digest: SipHasher13::new(), count: 0 };
    lines.put(&Header { format: FORMAT, node: contents.node.clone(), written: Timestamp::now() })?;
    for fact in write::cluster(&contents.cluster) {
        lines.put(&serde_json::json!({ "fact": fact }))?;
    }
    for saved in &contents.policies {
        lines.put(&PolicyLine {
            policy: RawValue::from_string(saved.json.to_string())?,
            namespace_uid: saved.namespace_uid.as_deref().map(str::to_owned),
            standing: saved.standing,
        })?;
    }
    let trailer = lines.trailer();
    let mut out = lines.out;
    serde_json::to_writer(&mut out, &trailer)?;
    out.write_all(b"\n")?;
    let file = out.into_inner()?;
    file.sync_all()
}

struct Lines<W> {
    out: W,
    digest: SipHasher13,
    count: u64,
}

impl<W: Write> Lines<W> {
    fn put(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.note(&line);
        self.out.write_all(&line)
    }
}

impl<W> Lines<W> {
    fn note(&mut self, line: &[u8]) {
        self.digest.write(line);
        self.count += 1;
    }

    fn trailer(&self) -> Trailer {
        Trailer { lines: self.count, digest: format!("{:032x}", self.digest.finish128().as_u128()) }
    }
}

/// The next line with its end; nothing at the end of the file.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool> {
    line.clear();
    io::Read::take(&mut *reader, LINE).read_until(b'\n', line)?;
    ensure!(
        line.is_empty() || line.last() == Some(&b'\n'),
        "a line does not end; expected lines of at most {LINE} bytes"
    );
    Ok(!line.is_empty())
}

/// Whether all of it is as it was written.
fn check(file: File) -> Result<()> {
    let mut reader = BufReader::new(file);
    let mut lines = Lines { out: (), digest: SipHasher13::new(), count: 0 };
    let (mut line, mut before) = (Vec::new(), Vec::new());
    while next_line(&mut reader, &mut line)? {
        if !before.is_empty() {
            lines.note(&before);
        }
        std::mem::swap(&mut line, &mut before);
    }
    let found: Trailer = serde_json::from_slice(&before).context("its last line is no trailer")?;
    let expected = lines.trailer();
    ensure!(found == expected, "found {found:?} at its end; expected {expected:?}");
    Ok(())
}

fn parse(file: File, node: &str) -> Result<Saved> {
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    ensure!(next_line(&mut reader, &mut line)?, "it is empty");
    let header: Header = serde_json::from_slice(&line).context("its first line is no header")?;
    ensure!(header.format == FORMAT, "it has format {}; expected {FORMAT}", header.format);
    ensure!(header.node == node, "it is of node {}; expected {node}", header.node);
    let mut saved = Saved { written: header.written, followed: Followed::default(), policies: Vec::new() };
    let mut interner = Interner::default();
    while next_line(&mut reader, &mut line)? {
        if let Ok(FactLine { fact }) = serde_json::from_slice(&line) {
            saved.followed.events.push(fact_event(fact.get(), &mut interner)?);
        } else if let Ok(policy) = serde_json::from_slice::<PolicyLine>(&line) {
            saved.policies.push(saved_policy(&policy)?);
        } else {
            // Nothing but the trailer is left.
            serde_json::from_slice::<Trailer>(&line).context("a line is neither a fact nor a policy")?;
        }
    }
    saved.followed.whole = true;
    for policy in &saved.policies {
        let (lowered, json) = lowered(policy.kind, &policy.json).map_err(|problems| {
            anyhow::anyhow!("{}", problems.first().map_or("no policy".to_owned(), ToString::to_string))
        })?;
        let text = PolicyText { json, namespace_uid: policy.namespace_uid.clone() };
        saved.followed.texts.push((policy.object.clone(), text));
        saved.followed.events.push(Event::Policy(lowered));
        if policy.standing == PolicyStanding::Retained {
            saved.followed.events.push(Event::PolicyGone(policy.object.clone()));
        }
    }
    Ok(saved)
}

fn kind_of(json: &str) -> Result<Kind> {
    let OnlyKind { kind } = serde_json::from_str(json).context("a manifest has no kind")?;
    let known = FOLLOWED.iter().map(|one| one.kind).find(|known| known.name() == kind);
    known.with_context(|| format!("a manifest is a {kind}; expected a kind that is followed"))
}

fn saved_policy(line: &PolicyLine) -> Result<SavedPolicy> {
    let kind = kind_of(line.policy.get())?;
    let object = live::reference(kind, &live::version(line.policy.get())?);
    let namespace_uid = line.namespace_uid.as_deref().map(Arc::from);
    let text = PolicyText { json: line.policy.get().into(), namespace_uid };
    SavedPolicy::new(&object, &text, line.standing).with_context(|| format!("{object} is no policy"))
}

fn fact_event(json: &str, interner: &mut Interner) -> Result<Event> {
    let live = live::read(kind_of(json)?, json).map_err(|problems| {
        anyhow::anyhow!("{}", problems.first().map_or("no fact".to_owned(), ToString::to_string))
    })?;
    let object = live.object;
    interner.event(live.content).with_context(|| format!("{object} is no fact"))
}

#[cfg(test)]
mod tests;
