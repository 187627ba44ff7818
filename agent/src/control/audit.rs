//! Policies that only audit: nobody is to take them for being in force.

use policy_compiler::policy::Mode;

use super::Control;

/// How many are named.
const NAMED: usize = 5;

impl Control {
    /// Counts policies.
    pub(super) fn count_policies(&self) {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.parts.metrics.policies.set(count(self.compiler.policies().count()));
        self.parts.metrics.policies_audited.set(count(self.audited().count()));
    }

    /// Says that some do nothing.
    pub(super) fn only_audit(&self) -> Option<String> {
        said(self.audited())
    }

    fn audited(&self) -> impl Iterator<Item = String> {
        let audited = self.compiler.policies().filter(|policy| policy.mode == Mode::Audit);
        audited.map(|policy| policy.object.to_string())
    }
}

fn said(names: impl Iterator<Item = String>) -> Option<String> {
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    let more = names.split_off(NAMED.min(names.len()));
    if !more.is_empty() {
        names.push(format!("{} more", more.len()));
    }
    let names = names.join(", ");
    (!names.is_empty()).then(|| {
        format!("in mode Audit, so no verdict is theirs: {names} (polctl explain says what they would do)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_policies_are_named_and_the_others_counted() {
        let names = |number: usize| said((0..number).map(|name| format!("PolderPolicy a/{name}")));
        assert_eq!(names(0), None);
        let one = "in mode Audit, so no verdict is theirs: PolderPolicy a/0 (polctl explain says what they would do)";
        assert_eq!(names(1).as_deref(), Some(one));
        let seven = names(7).unwrap();
        assert!(seven.contains("a/4, 2 more (") && !seven.contains("a/5"), "{seven}");
    }
}
