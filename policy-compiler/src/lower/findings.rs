//! What is found wrong, and what there is to remark, while one object is lowered.

use std::sync::Arc;

use super::Lowered;
use crate::object::{ObjectRef, Source};
use crate::policy::Policy;
use crate::problem::{Problem, Severity};

/// The problems of one object so far.
pub(super) struct Findings<'a> {
    object: ObjectRef,
    source: Option<&'a Arc<Source>>,
    errors: Vec<Problem>,
    remarks: Vec<Problem>,
}

/// Stands where a value would, had it not been refused. Only [`Findings::error`] makes one, so that nothing can be
/// left out of a policy without an error that says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused(());

impl<'a> Findings<'a> {
    pub(super) fn new(object: ObjectRef, source: Option<&'a Arc<Source>>) -> Self {
        Self { object, source, errors: Vec::new(), remarks: Vec::new() }
    }

    pub(super) fn object(&self) -> &ObjectRef {
        &self.object
    }

    pub(super) fn source(&self) -> Option<&Arc<Source>> {
        self.source
    }

    /// Records an error; the object is refused.
    pub(super) fn error(
        &mut self,
        path: impl Into<String>,
        message: impl Into<String>,
        expected: impl Into<String>,
    ) -> Refused {
        self.errors.push(Problem::invalid(&self.object, path, message, expected).located(self.source));
        Refused(())
    }

    /// Records something that does not keep the object from being in force.
    pub(super) fn remark(
        &mut self,
        severity: Severity,
        id: &'static str,
        path: impl Into<String>,
        message: impl Into<String>,
        expected: impl Into<String>,
    ) {
        let invalid = Problem::invalid(&self.object, path, message, expected);
        self.remarks.push(Problem { severity, id, ..invalid }.located(self.source));
    }

    /// The policy, if no error was found; else all errors.
    pub(super) fn finish(self, policy: Result<Policy, Refused>) -> Result<Lowered, Vec<Problem>> {
        match policy {
            Ok(policy) if self.errors.is_empty() => Ok(Lowered { policy, remarks: self.remarks }),
            Ok(_) | Err(Refused(())) => Err(self.errors),
        }
    }
}

/// All values, if none was refused. Unlike `collect` it does not stop at the first: the others have errors to find.
pub(super) fn every<T>(results: impl Iterator<Item = Result<T, Refused>>) -> Result<Vec<T>, Refused> {
    let mut kept = Vec::new();
    let mut refused = None;
    for result in results {
        match result {
            Ok(value) => kept.push(value),
            Err(refusal) => refused = Some(refusal),
        }
    }
    refused.map_or(Ok(kept), Err)
}

/// Exactly one of these fields must be set (the API's unions).
pub(super) fn exactly_one(
    fields: &[(&str, bool)],
    path: &str,
    findings: &mut Findings<'_>,
) -> Result<(), Refused> {
    let set: Vec<&str> = fields.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
    if set.len() == 1 {
        return Ok(());
    }
    let found =
        if set.is_empty() { "no field is set".to_owned() } else { format!("{} are set", list(&set, "and")) };
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let expected = match &names[..] {
        [only] => format!("the field {only}"),
        names => format!("exactly one of {}", list(names, "and")),
    };
    Err(findings.error(path, found, expected))
}

/// A list must have from `least` to `most` items.
pub(super) fn length(
    found: usize,
    (least, most): (usize, usize),
    path: &str,
    findings: &mut Findings<'_>,
) -> Result<(), Refused> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    let message = match found {
        0 => "the list is missing or empty".to_owned(),
        found => format!("the list has {found} items"),
    };
    let expected =
        if least == 0 { format!("at most {most} items") } else { format!("{least} to {most} items") };
    Err(findings.error(path, message, expected))
}

/// No item may stand twice in a list (`listType: set`). The second one is named.
pub(super) fn no_doubles(items: &[String], path: &str, findings: &mut Findings<'_>) -> Result<(), Refused> {
    let mut first = std::collections::BTreeMap::new();
    let mut refused = Ok(());
    for (index, item) in items.iter().enumerate() {
        if let Some(earlier) = first.get(item) {
            let message = format!("{item:?} stands here and at [{earlier}]");
            refused = Err(findings.error(format!("{path}[{index}]"), message, "every item once"));
        } else {
            first.insert(item, index);
        }
    }
    refused
}

/// `a`, `a or b`, `a, b or c`
pub(super) fn list(names: &[&str], last: &str) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [most @ .., end] => format!("{} {last} {end}", most.join(", ")),
    }
}
