//! What is wrong with an object, said so that it can be put right.

use std::fmt;
use std::sync::Arc;

use crate::object::{Location, ObjectRef};

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The object is refused: none of it is in force.
    Error,
    /// The object is in force, and probably does not do what its author thinks.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// Lower case, as messages and JSON have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One thing about one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// A stable id, for example `invalid-object`; listed in `docs/reference/check.md`.
    pub id: &'static str,
    /// The object.
    pub object: ObjectRef,
    /// The field (`spec.ingress[0].ports[1].port`); empty for the object as a whole.
    pub path: String,
    /// What is wrong, with what was found: `port 70000 is out of range`.
    pub message: String,
    /// What would be right: `a port from 1 to 65535`.
    pub expected: String,
    /// The place in a file, if the object came from one.
    pub location: Option<Location>,
}

/// The id of every problem for which the API server would refuse an object.
pub const INVALID_OBJECT: &str = "invalid-object";

impl Problem {
    /// An error for which the API server would refuse the object.
    pub fn invalid(
        object: &ObjectRef,
        path: impl Into<String>,
        message: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Error,
            id: INVALID_OBJECT,
            object: object.clone(),
            path: path.into(),
            message: message.into(),
            expected: expected.into(),
            location: None,
        }
    }

    /// The same, with its place taken from the object's source.
    #[must_use]
    pub fn located(mut self, source: Option<&Arc<crate::object::Source>>) -> Self {
        self.location = source.map(|source| source.locate(&self.path));
        self
    }
}

impl fmt::Display for Problem {
    /// `a.yaml:7: NetworkPolicy prod/api: spec.ingress[0].ports[1].port: port 70000 is out of range; expected a port from 1 to 65535`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        write!(f, "{}: ", self.object)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.message)?;
        if !self.expected.is_empty() {
            write!(f, "; expected {}", self.expected)?;
        }
        Ok(())
    }
}
