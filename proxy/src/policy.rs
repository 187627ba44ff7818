//! What the proxy asks of the policy engine: it brings heads in canonical form, and obeys.

use std::sync::Arc;

/// A request's head as rules see it. Every slice is part of what is forwarded if the answer is yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// What it is written in.
    pub version: Version,
    /// In upper case.
    pub method: &'a [u8],
    /// In lower case, without its port.
    pub host: &'a [u8],
    /// In normal form, without query.
    pub path: &'a [u8],
    /// Names in lower case, values without the blanks around them. A name that was sent twice is there twice.
    pub headers: &'a [(&'a [u8], &'a [u8])],
}

/// The version of HTTP that a head is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What a verdict leads back to: the policy's own name of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleId(pub u128);

/// What policy says of a request or of a server's name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It may pass.
    Allow {
        /// The rule that allows it.
        rule: RuleId,
    },
    /// It may not.
    Deny {
        /// The rule that denies it: a default deny has one, too.
        rule: RuleId,
        /// What the client is told.
        text: Arc<str>,
    },
}

/// What rules can be about on a port. A connection that speaks anything else is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    /// HTTP/1.0 and 1.1.
    pub http1: bool,
    /// HTTP/2 without TLS, begun by its preface; gRPC is spoken over it.
    pub http2: bool,
    /// TLS, judged by the name that the client asks for.
    pub tls: bool,
}

/// The rules in force for one connection. Each question is answered by the rules of that moment, so that the next request
/// on a connection obeys a change made while it was open.
pub trait Policy: Send + Sync {
    /// Changes whenever an answer might.
    fn generation(&self) -> u64;

    /// What may be spoken.
    fn protocols(&self) -> Protocols;

    /// Whether this request may pass.
    fn judge(&self, head: &Head<'_>) -> Verdict;

    /// Whether a TLS connection to this name may pass: in lower case; `None` if the client names none.
    fn judge_name(&self, name: Option<&[u8]>) -> Verdict;

    /// Whether a rule is about the header of this name, in lower case. Servers that hand headers to programs as variables
    /// cannot tell `a_b` from `a-b`.
    fn names_header(&self, name: &[u8]) -> bool;
}
