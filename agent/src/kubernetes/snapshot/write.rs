//! Everything in a new file, and what changes after it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use manifests::write;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Contents, FORMAT, GoneLine, GoneObject, Header, Lines, NAME, PolicyLine, Store};

/// After how many facts it is asked what changed meanwhile.
const AT_ONCE: usize = 500;

/// The file that is there, to append to.
#[derive(Debug)]
pub struct Writer {
    file: File,
    lines: Lines,
    whole: u64,
    appended: u64,
}

impl Store {
    /// Replaces what is there, whole or not at all. `meanwhile` is asked now and then for what changed since `contents`.
    pub fn write(
        &self,
        node: &str,
        contents: &Contents,
        meanwhile: impl FnMut() -> Vec<Contents>,
    ) -> Result<Writer> {
        let path = self.path();
        let beside = self.directory.join(format!(".{NAME}.new"));
        let written = whole(&beside, node, contents, meanwhile)
            .and_then(|writer| fs::rename(&beside, &path).map(|()| writer));
        written.with_context(|| format!("writing {}", path.display()))
    }
}

impl Writer {
    /// Writes what changed, by one call: an agent that is killed has written it or has not.
    ///
    /// It is not waited until it is on the medium: it outlives the agent; a machine that loses power loses the last seconds.
    ///
    /// # Errors
    ///
    /// After one nothing may be appended any more.
    pub fn append(&mut self, changes: &Contents) -> io::Result<()> {
        let mut block = Vec::new();
        put(changes, &mut self.lines, &mut block, || Ok(()))?;
        trailer(&mut self.lines, &mut block)?;
        self.file.write_all(&block)?;
        self.appended += block.len() as u64;
        Ok(())
    }

    /// Whether what was appended is more than what it was appended to, and more than this.
    pub fn is_long(&self, at_least: u64) -> bool {
        self.appended > self.whole.max(at_least)
    }
}

fn whole(
    path: &Path,
    node: &str,
    contents: &Contents,
    mut meanwhile: impl FnMut() -> Vec<Contents>,
) -> io::Result<Writer> {
    // A file that is left over may have other rights.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let (mut out, mut lines, mut changed) = (BufWriter::new(file), Lines::default(), Vec::new());
    line(&Header { format: FORMAT, node: node.to_owned() }, &mut lines, &mut out)?;
    put(contents, &mut lines, &mut out, || {
        changed.extend(meanwhile());
        Ok(())
    })?;
    trailer(&mut lines, &mut out)?;
    let file = out.into_inner()?;
    file.sync_all()?;
    changed.extend(meanwhile());
    let whole = file.metadata()?.len();
    let mut writer = Writer { file, lines, whole, appended: 0 };
    changed.iter().try_for_each(|changes| writer.append(changes))?;
    Ok(writer)
}

fn put(
    contents: &Contents,
    lines: &mut Lines,
    out: &mut impl Write,
    mut between: impl FnMut() -> io::Result<()>,
) -> io::Result<()> {
    for (number, fact) in write::cluster(&contents.cluster).enumerate() {
        line(&serde_json::json!({ "fact": fact }), lines, out)?;
        if number % AT_ONCE == AT_ONCE - 1 {
            between()?;
        }
    }
    for saved in &contents.policies {
        let policy = PolicyLine {
            policy: RawValue::from_string(saved.json.to_string())?,
            namespace_uid: saved.namespace_uid.as_deref().map(str::to_owned),
            standing: saved.standing,
        };
        line(&policy, lines, out)?;
    }
    for object in &contents.gone {
        let gone = GoneObject {
            kind: object.kind.to_string(),
            namespace: object.namespace.as_deref().map(str::to_owned),
            name: object.name.to_string(),
        };
        line(&GoneLine { gone }, lines, out)?;
    }
    Ok(())
}

fn trailer(lines: &mut Lines, out: &mut impl Write) -> io::Result<()> {
    let trailer = lines.trailer(Timestamp::now());
    line(&trailer, lines, out)
}

fn line(value: &impl Serialize, lines: &mut Lines, out: &mut impl Write) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    lines.note(&line);
    out.write_all(&line)
}
