//! `polctl diff`: what a change of manifests changes about who may talk to whom.
//!
//! ```text
//! Input, Input -> Connectivity, Connectivity -> Changes --causes, before and after--> Entry --report--> text, tables, JSON
//! ```

mod report;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use policy_compiler::connectivity::{Change, Changes, Connectivity, Peer, PortSet};

use crate::connectivity::cause::{Cause, against, causes};
use crate::connectivity::names::Names;
use crate::input::{self, Input};
use crate::print;

/// Say what a change of manifests changes about who may talk to whom
///
/// Compares the connectivity of two sets of manifests, and names the rules behind each difference: what allowed a
/// connection before, what is against it now. Objects that differ without changing any connection are no difference.
///
/// Exit code: 0 if nothing changes, 1 if something does, 2 if it cannot be said (standard error says why).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  polctl diff -f main/deploy -f branch/deploy             what a branch changes
  polctl diff -f before.yaml -f after.yaml -o md          for a comment on a pull request
  kubectl get all,networkpolicies,namespaces -A -o yaml | polctl diff -f - -f deploy/
                                                          what `kubectl apply -f deploy/` would change, deletions included

The formats are described in docs/reference/connectivity.md.")]
pub(crate) struct Args {
    /// Two directories (read recursively), files, or `-` for standard input: first before, then after
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    filename: Vec<PathBuf>,

    /// How to say it
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people
    Text,
    /// An object
    Json,
    /// A Markdown table
    Md,
    /// Comma-separated values
    Csv,
}

pub(crate) fn run(args: &Args) -> crate::Answer {
    let [old, new] = &args.filename[..] else {
        bail!("{} of -f; expected two: first before, then after", args.filename.len());
    };
    if old.as_os_str() == "-" && new.as_os_str() == "-" {
        bail!("both -f are standard input; expected at most one");
    }
    let [before, after] = [old, new].map(|path| Input::load(&input::Args { filename: vec![path.clone()] }));
    // Both are asked, so that all errors are seen at once.
    if ![before.accepted(), after.accepted()].into_iter().all(|accepted| accepted) {
        return Ok(ExitCode::from(2));
    }
    let before = Connectivity::of(&before.compiler, &before.replicas);
    let after = Connectivity::of(&after.compiler, &after.replicas);
    let difference = Difference::between(&before, &after);
    print::stdout(&match args.output {
        Output::Text => report::text(&difference),
        Output::Json => report::json(&difference)?,
        Output::Md => report::markdown(&difference),
        Output::Csv => report::csv(&difference),
    })?;
    Ok(if difference.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What changes, in names and with causes.
pub(crate) struct Difference {
    pub(crate) appeared: Vec<String>,
    pub(crate) vanished: Vec<String>,
    pub(crate) entries: Vec<Entry>,
}

/// A pair that changes.
pub(crate) struct Entry {
    pub(crate) src: String,
    pub(crate) dst: String,
    pub(crate) before: PortSet,
    pub(crate) after: PortSet,
    pub(crate) gained: PortSet,
    pub(crate) lost: PortSet,
    /// What decided about the ports that change.
    pub(crate) was: Vec<Cause>,
    /// What decides about them now.
    pub(crate) is: Vec<Cause>,
    /// An end that is only on one side.
    pub(crate) only: Option<String>,
}

impl Difference {
    pub(crate) fn between(before: &Connectivity<'_>, after: &Connectivity<'_>) -> Self {
        let names = Names::of([before, after]);
        let changes = Changes::between(before, after);
        let entries =
            changes.pairs.iter().map(|change| entry(change, before, after, &changes, &names)).collect();
        Self {
            appeared: changes.appeared.iter().map(|workload| names.workload(workload)).collect(),
            vanished: changes.vanished.iter().map(|workload| names.workload(workload)).collect(),
            entries,
        }
    }

    fn is_empty(&self) -> bool {
        self.appeared.is_empty() && self.vanished.is_empty() && self.entries.is_empty()
    }
}

fn entry(
    change: &Change,
    before: &Connectivity<'_>,
    after: &Connectivity<'_>,
    all: &Changes,
    names: &Names,
) -> Entry {
    let gained = change.after.difference(&change.before);
    let lost = change.before.difference(&change.after);
    let pair = (&change.src, &change.dst);
    // A direction in which nothing is against the ports on either side did not make the change.
    let (opened, closed) = (against(before, pair, &gained), against(after, pair, &lost));
    let mut was = causes(before, pair, &gained, |_, allows| !allows);
    was.extend(causes(before, pair, &lost, |direction, allows| allows && closed.contains(&direction)));
    let mut is = causes(after, pair, &gained, |direction, allows| allows && opened.contains(&direction));
    is.extend(causes(after, pair, &lost, |_, allows| !allows));
    let only = one_sided(change, all, names);
    if only.is_some() {
        // Nothing stood against it on the side where an end is missing; what allows it on the other is worth knowing.
        was = causes(before, pair, &lost, |_, allows| allows);
        is = causes(after, pair, &gained, |_, allows| allows);
        was.retain(Cause::has_object);
        is.retain(Cause::has_object);
    }
    Entry {
        src: names.peer(&change.src),
        dst: names.peer(&change.dst),
        before: change.before.clone(),
        after: change.after.clone(),
        gained,
        lost,
        was,
        is,
        only,
    }
}

/// What is said of a pair of which an end is there on one side only.
fn one_sided(change: &Change, all: &Changes, names: &Names) -> Option<String> {
    [&change.src, &change.dst].into_iter().find_map(|peer| {
        let Peer::Workload(workload) = peer else { return None };
        let name = names.workload(workload);
        if all.appeared.contains(workload) {
            return Some(format!("{name} is new"));
        }
        all.vanished.contains(workload).then(|| format!("{name} is gone"))
    })
}
