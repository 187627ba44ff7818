//! For programs: nothing is folded, renamed or left out.

use datapath::abi::Transport;
use policy_compiler::connectivity::{Connectivity, Line, PortSet, ranges_text, transport_name};
use serde::Serialize;

use super::cause::{Cause, causes};
use super::names::Names;
use crate::print;

/// How much text is gathered before it is written.
const CHUNK: usize = 1 << 20;

#[derive(Serialize)]
struct Entry {
    src: String,
    dst: String,
    allow: Vec<Allow>,
    /// Ports on which what is asked decides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    by_request: Vec<Allow>,
    /// Whether protocols without ports (ICMP) are allowed. The line format has no word for it but `ANY`.
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<Vec<Cause>>,
}

/// A protocol and its ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Allow {
    protocol: &'static str,
    ports: String,
}

/// Protocols and ports, as the contract has them; empty if only protocols without ports are allowed.
pub(crate) fn allow(ports: &PortSet) -> Vec<Allow> {
    if ports.is_all() {
        return vec![Allow { protocol: "ANY", ports: "1-65535".to_owned() }];
    }
    let entry = |transport: Transport| {
        let ranges = ports.ranges(transport);
        let entry = || Allow { protocol: transport_name(transport), ports: ranges_text(ranges) };
        (!ranges.is_empty()).then(entry)
    };
    Transport::ALL.into_iter().filter_map(entry).collect()
}

/// The ports on which what is asked decides.
pub(crate) fn by_request(ports: &PortSet) -> Vec<Allow> {
    let ranges = ports.by_request();
    let entry = || Allow { protocol: transport_name(Transport::Tcp), ports: ranges_text(ranges) };
    (!ranges.is_empty()).then(entry).into_iter().collect()
}

fn entry(line: &Line<'_>, connectivity: &Connectivity<'_>, names: &Names, explain: bool) -> Entry {
    Entry {
        src: names.peer(&line.src),
        dst: names.peer(&line.dst),
        allow: allow(line.allow),
        by_request: by_request(line.allow),
        other: None,
        because: explain
            .then(|| causes(connectivity, (&line.src, &line.dst), line.allow, |_, allows| allows)),
    }
}

/// One object a line, written as they come: there may be a million.
pub(super) fn lines<'a>(
    lines: impl Iterator<Item = Line<'a>>,
    connectivity: &Connectivity<'_>,
    names: &Names,
    explain: bool,
) -> anyhow::Result<()> {
    let mut text = String::new();
    for line in lines.filter(|line| line.allow.has_ports()) {
        text += &serde_json::to_string(&entry(&line, connectivity, names, explain))?;
        text.push('\n');
        if text.len() > CHUNK {
            print::stdout(&text)?;
            text.clear();
        }
    }
    print::stdout(&text)
}

/// One list.
pub(super) fn list<'a>(
    lines: impl Iterator<Item = Line<'a>>,
    connectivity: &Connectivity<'_>,
    names: &Names,
    explain: bool,
) -> anyhow::Result<String> {
    let full = |line: Line<'_>| {
        let other = Some(line.allow.other());
        Entry { other, ..entry(&line, connectivity, names, explain) }
    };
    let entries: Vec<Entry> = lines.map(full).collect();
    Ok(serde_json::to_string_pretty(&entries)? + "\n")
}
