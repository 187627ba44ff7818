//! What was written, if all of it is there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek as _};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use manifests::kind::Kind;
use manifests::live;
use policy_compiler::compiler::Event;
use policy_compiler::object::ObjectRef;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::intake::rank;
use super::super::intern::Interner;
use super::super::policies::lowered;
use super::super::server::FOLLOWED;
use super::{FORMAT, GoneLine, Header, Lines, PolicyLine, PolicyStanding, Saved, SavedPolicy, Trailer};
use crate::source::{Followed, PolicyText};

/// How long a line may be: the API server takes no objects above 1.5 MiB, and escaping makes six of one at most.
const LINE: u64 = 16 << 20;

/// How a trailer begins, and nothing else.
const TRAILER: &[u8] = b"{\"lines\":";

#[derive(Deserialize)]
struct FactLine {
    fact: Box<RawValue>,
}

#[derive(Deserialize)]
struct OnlyKind {
    kind: String,
}

/// Reads what is complete.
pub(super) fn read(mut file: File, node: &str) -> Result<Saved> {
    let length = file.metadata()?.len();
    let (complete, written) = complete(&file).context("it is damaged")?;
    file.rewind()?;
    let (followed, policies) = parse(file.take(complete), node)?;
    Ok(Saved { written, followed, policies, lost: length.saturating_sub(complete) })
}

/// The next line with its end; nothing at the end of the file.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool> {
    line.clear();
    reader.take(LINE).read_until(b'\n', line)?;
    ensure!(
        line.is_empty() || line.last() == Some(&b'\n'),
        "a line does not end; expected lines of at most {LINE} bytes"
    );
    Ok(!line.is_empty())
}

/// Up to where all is as it was written, and when that was.
fn complete(file: &File) -> Result<(u64, Timestamp)> {
    let mut reader = BufReader::new(file);
    let (mut lines, mut line) = (Lines::default(), Vec::new());
    let (mut place, mut complete) = (0, None);
    loop {
        match next_line(&mut reader, &mut line) {
            Ok(true) => {}
            Err(error) if complete.is_none() => return Err(error),
            Ok(false) | Err(_) => break,
        }
        place += line.len() as u64;
        if line.starts_with(TRAILER)
            && let Ok(found) = serde_json::from_slice::<Trailer>(&line)
        {
            let expected = lines.trailer(found.written);
            if found != expected {
                ensure!(complete.is_some(), "found {found:?} at its end; expected {expected:?}");
                break;
            }
            complete = Some((place, found.written));
        }
        lines.note(&line);
    }
    complete.context("it has no trailer")
}

/// What lines say: the last word about each object.
#[derive(Default)]
struct Reading {
    interner: Interner,
    facts: BTreeMap<ObjectRef, Event>,
    policies: BTreeMap<ObjectRef, SavedPolicy>,
}

fn parse(file: impl Read, node: &str) -> Result<(Followed, Vec<SavedPolicy>)> {
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    ensure!(next_line(&mut reader, &mut line)?, "it is empty");
    let header: Header = serde_json::from_slice(&line).context("its first line is no header")?;
    ensure!(header.format == FORMAT, "it has format {}; expected {FORMAT}", header.format);
    ensure!(header.node == node, "it is of node {}; expected {node}", header.node);
    let mut reading = Reading::default();
    while next_line(&mut reader, &mut line)? {
        reading.line(&line)?;
    }
    let mut followed = Followed { whole: true, ..Followed::default() };
    followed.events = reading.facts.into_values().collect();
    followed.events.sort_by_key(rank);
    let policies: Vec<SavedPolicy> = reading.policies.into_values().collect();
    for policy in &policies {
        let (lowered, json) = lowered(policy.kind, &policy.json).map_err(|problems| {
            anyhow::anyhow!("{}", problems.first().map_or("no policy".to_owned(), ToString::to_string))
        })?;
        let text = PolicyText { json, namespace_uid: policy.namespace_uid.clone() };
        followed.texts.push((policy.object.clone(), text));
        followed.events.push(Event::Policy(lowered));
        if policy.standing == PolicyStanding::Retained {
            followed.events.push(Event::PolicyGone(policy.object.clone()));
        }
    }
    Ok((followed, policies))
}

impl Reading {
    fn line(&mut self, line: &[u8]) -> Result<()> {
        if let Ok(FactLine { fact }) = serde_json::from_slice(line) {
            let (object, event) = fact_event(fact.get(), &mut self.interner)?;
            self.facts.insert(object, event);
            return Ok(());
        }
        if let Ok(policy) = serde_json::from_slice::<PolicyLine>(line) {
            let policy = saved_policy(&policy)?;
            self.policies.insert(policy.object.clone(), policy);
            return Ok(());
        }
        if let Ok(GoneLine { gone }) = serde_json::from_slice(line) {
            let object = match &gone.namespace {
                Some(namespace) => ObjectRef::namespaced(&gone.kind, namespace, &gone.name),
                None => ObjectRef::cluster(&gone.kind, &gone.name),
            };
            self.facts.remove(&object);
            self.policies.remove(&object);
            return Ok(());
        }
        serde_json::from_slice::<Trailer>(line).context("a line says nothing that is known")?;
        Ok(())
    }
}

/// What a manifest says, and of which object.
pub(super) fn fact_event(json: &str, interner: &mut Interner) -> Result<(ObjectRef, Event)> {
    let live = live::read(kind_of(json)?, json).map_err(|problems| {
        anyhow::anyhow!("{}", problems.first().map_or("no fact".to_owned(), ToString::to_string))
    })?;
    let object = live.object;
    let event = interner.event(live.content).with_context(|| format!("{object} is no fact"))?;
    Ok((object, event))
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
