//! What is told of each request: one value, complete, for access logs and flow events alike.
//!
//! Header values and queries hold passwords and tokens, so no record has them.

use std::net::SocketAddr;
use std::time::Duration;

use crate::fault::Fault;
use crate::policy::RuleId;

/// Who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Where the connection came from.
    pub client: SocketAddr,
    /// Where the client wanted it to go.
    pub server: SocketAddr,
}

/// What was spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2, and gRPC over it.
    Http2,
    /// TLS, of which the server's name is known and no more.
    Tls,
    /// None of them, or nothing yet.
    Unknown,
}

/// How it came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A rule allowed it.
    Allowed(RuleId),
    /// A rule denied it.
    Denied(RuleId),
    /// It was not even judged: it is not certain what it is.
    Refused(Fault),
    /// A rule allowed it, and it failed for another reason.
    Failed(RuleId, Fault),
    /// A rule allowed it once, and rules that came later end it.
    Withdrawn(RuleId),
}

/// One request, or one TLS connection, after its end.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Who talked to whom.
    pub ends: Ends,
    /// What was spoken.
    pub protocol: Protocol,
    /// The method; empty if the request was refused before it was read, or for TLS.
    pub method: &'a [u8],
    /// The host, or the name that TLS asked for.
    pub host: &'a [u8],
    /// The path, without its query.
    pub path: &'a [u8],
    /// What the client was answered; `None` if nothing was.
    pub status: Option<u16>,
    /// How it came out.
    pub outcome: Outcome,
    /// The generation of the rules that judged.
    pub generation: u64,
    /// From the end of its head to the end of the response.
    pub duration: Duration,
}

/// Whoever wants to know.
pub trait Observer: Send + Sync {
    /// Is told of each request once. It must not wait: the request's connection waits for it.
    fn record(&self, record: &Record<'_>);
}
