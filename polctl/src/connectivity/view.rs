//! Lines as people read them: names instead of references, and the whole address space under one word.

use std::collections::BTreeSet;
use std::sync::Arc;

use policy_compiler::connectivity::{AddressRange, Connectivity, Line, Peer, PortSet, WorkloadRef};

use super::cause::{causes, texts};
use super::names::{Names, escape};

/// All IPv4 and all IPv6 addresses that are no pod's.
const ANYWHERE: &str = "anywhere";

/// What is shown.
pub(crate) struct View {
    pub(crate) rows: Vec<Row>,
    explained: bool,
}

/// One connection.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) src: End,
    pub(crate) dst: End,
    pub(crate) allow: PortSet,
    because: Vec<String>,
}

/// One end of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct End {
    pub(crate) name: String,
    /// `None` if it is outside.
    pub(crate) workload: Option<Arc<WorkloadRef>>,
}

impl View {
    pub(crate) fn of(
        lines: &[Line<'_>],
        connectivity: &Connectivity<'_>,
        names: &Names,
        explain: bool,
    ) -> Self {
        let end = |peer: &Peer, folded: bool| End {
            name: if folded { ANYWHERE.to_owned() } else { escape(&names.peer(peer)) },
            workload: match peer {
                Peer::Workload(workload) => Some(Arc::clone(workload)),
                Peer::External(_) => None,
            },
        };
        let folds = folds(lines);
        let mut rows = Vec::with_capacity(lines.len());
        for line in lines {
            let folded = whole(line)
                .is_some_and(|(_, inwards)| folds.contains(&(inwards, workload(line), line.allow)));
            if folded && whole(line).is_some_and(|(range, _)| range.first().is_ipv6()) {
                continue;
            }
            let mut because = Vec::new();
            if explain {
                let causes = causes(connectivity, (&line.src, &line.dst), line.allow, |_, allows| allows);
                because = texts(&causes);
            }
            rows.push(Row {
                src: end(&line.src, folded && matches!(line.src, Peer::External(_))),
                dst: end(&line.dst, folded && matches!(line.dst, Peer::External(_))),
                allow: line.allow.clone(),
                because,
            });
        }
        Self { rows, explained: explain }
    }

    pub(crate) fn header(&self) -> Vec<&'static str> {
        let mut header = vec!["SOURCE", "DESTINATION", "PORTS"];
        if self.explained {
            header.push("BECAUSE");
        }
        header
    }

    pub(crate) fn cells(&self) -> Vec<Vec<String>> {
        let cells = |row: &Row| {
            let mut cells = vec![row.src.name.clone(), row.dst.name.clone(), row.allow.to_string()];
            if self.explained {
                cells.push(row.because.join("\n"));
            }
            cells
        };
        self.rows.iter().map(cells).collect()
    }
}

/// The workload of a line with the outside.
fn workload<'a>(line: &'a Line<'_>) -> Option<&'a WorkloadRef> {
    [&line.src, &line.dst].into_iter().find_map(|peer| match peer {
        Peer::Workload(workload) => Some(&**workload),
        Peer::External(_) => None,
    })
}

/// The address family that is an end of a line as a whole, and whether it is the source.
fn whole<'a>(line: &'a Line<'_>) -> Option<(&'a AddressRange, bool)> {
    match (&line.src, &line.dst) {
        (Peer::External(range), _) if range.is_whole_family() => Some((range, true)),
        (_, Peer::External(range)) if range.is_whole_family() => Some((range, false)),
        _ => None,
    }
}

/// Direction, workload and ports that are the same for all of IPv4 and all of IPv6.
fn folds<'a>(lines: &'a [Line<'a>]) -> BTreeSet<(bool, Option<&'a WorkloadRef>, &'a PortSet)> {
    let mut found = [BTreeSet::new(), BTreeSet::new()];
    for line in lines {
        if let Some((range, inwards)) = whole(line) {
            found[usize::from(range.first().is_ipv6())].insert((inwards, workload(line), line.allow));
        }
    }
    let [v4, v6] = found;
    v4.intersection(&v6).copied().collect()
}
