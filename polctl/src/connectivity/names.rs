//! How peers are written, and found again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{anyhow, bail};
use policy_compiler::connectivity::{Connectivity, Peer, WorkloadRef};

/// The workloads of one or more clusters, by the name that users see.
pub(crate) struct Names {
    by_name: BTreeMap<String, BTreeSet<Arc<WorkloadRef>>>,
}

impl Names {
    pub(crate) fn of<'a, 'b: 'a>(clusters: impl IntoIterator<Item = &'a Connectivity<'b>>) -> Self {
        let mut by_name = BTreeMap::<String, BTreeSet<_>>::new();
        for workload in clusters.into_iter().flat_map(Connectivity::workloads) {
            by_name.entry(workload.to_string()).or_default().insert(Arc::clone(workload));
        }
        Self { by_name }
    }

    /// `NS/NAME`, with the kind behind it where another workload has that name too: `NS/NAME[Deployment]`.
    pub(crate) fn workload(&self, workload: &WorkloadRef) -> String {
        let name = workload.to_string();
        match self.by_name.get(&name) {
            Some(all) if all.len() > 1 => format!("{name}[{}]", workload.kind),
            _ => name,
        }
    }

    /// The name for programs: nothing is folded and nothing escaped.
    pub(crate) fn peer(&self, peer: &Peer) -> String {
        match peer {
            Peer::Workload(workload) => self.workload(workload),
            Peer::External(range) => range.to_string(),
        }
    }

    /// The workload that a user means.
    pub(crate) fn find(&self, text: &str) -> anyhow::Result<Arc<WorkloadRef>> {
        let (name, kind) = match text.strip_suffix(']').and_then(|text| text.split_once('[')) {
            Some((name, kind)) => (name, Some(kind)),
            None => (text, None),
        };
        let of_name = self.by_name.get(name).into_iter().flatten();
        let mut found = of_name.filter(|workload| kind.is_none_or(|kind| kind == &*workload.kind));
        let Some(first) = found.next() else {
            let known: Vec<String> = self.by_name.keys().take(5).map(|name| escape(name)).collect();
            let more = if self.by_name.len() > known.len() { ", ..." } else { "" };
            bail!(
                "no workload is named `{}`; expected NS/NAME, for example {}{more}",
                escape(text),
                known.join(", ")
            );
        };
        match found.next() {
            None => Ok(Arc::clone(first)),
            Some(_) => Err(anyhow!(
                "several workloads are named `{0}`; say which: {0}[{1}]",
                escape(name),
                first.kind
            )),
        }
    }
}

/// Makes names from manifests harmless for terminals: control characters, and those that turn the direction of writing,
/// are shown as what they are.
pub(crate) fn escape(text: &str) -> String {
    let is_harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    escaped
}
