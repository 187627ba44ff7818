//! What a container runtime is told on standard output.

use serde::Serialize;
use serde_json::Value;

/// The versions of the specification in which results can be passed on.
pub(crate) const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The newest of them.
pub(crate) const NEWEST: &str = "1.1.0";

/// An error as the specification numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The configuration has a version that is not known here.
    Version = 1,
    /// Something in the environment is missing or wrong.
    Environment = 4,
    /// Standard input cannot be read.
    Input = 5,
    /// It is no JSON of the form that is expected.
    Decode = 6,
    /// The configuration is wrong.
    Configuration = 7,
    /// Later it may be otherwise.
    TryAgain = 11,
    /// The plugin cannot do anything for now (`STATUS`).
    NotAvailable = 50,
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// Short: what was wanted.
    pub(crate) message: String,
    /// What was found, and what would be right.
    pub(crate) details: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: details.into() }
    }

    /// As the runtime reads it.
    pub(crate) fn json(&self, version: &str) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Written<'a> {
            cni_version: &'a str,
            code: u32,
            msg: &'a str,
            details: &'a str,
        }
        let written = Written {
            cni_version: version,
            code: self.code as u32,
            msg: &self.message,
            details: &self.details,
        };
        // Strings and a number: that cannot fail; and without this text the runtime still sees the exit code.
        serde_json::to_string(&written).unwrap_or_default()
    }
}

/// To `VERSION`.
pub(crate) fn versions() -> Value {
    serde_json::json!({ "cniVersion": NEWEST, "supportedVersions": VERSIONS })
}
