//! Flows as users see them: one line each.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::judgement::Direction;

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Its address.
    pub address: IpAddr,
    /// Its port; absent for a protocol without ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The pod that has the address, `namespace/name`, if one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
}

/// What became of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowVerdict {
    /// It goes on.
    Allowed,
    /// It is dropped.
    Denied,
    /// It is dropped and its sender is told.
    Rejected,
}

/// The rule that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The object: `NetworkPolicy prod/api`.
    pub policy: String,
    /// The rule in it: `spec.ingress[0]`; empty for what is denied because no rule allows it.
    pub path: String,
    /// Where that is written: `policies/api.yaml:12`, if the object came from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

/// A request, or a TLS connection, of which rules decided. Never a query or a header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// `http1`, `http2`, `tls`, or `unknown`.
    pub protocol: String,
    /// The method; empty if it is not known, or there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// The host, or the name that TLS asked for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// The path, without its query.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// What the client was answered, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What was wrong with it, or with its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// How long it took, to the end of the answer.
    pub seconds: f64,
}

/// A new flow, or packets of one that were dropped, at one pod; or a request on one, after its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowLine {
    /// When it was first seen, or when the request was over; to the millisecond. Print with `{:.3}`.
    pub time: Timestamp,
    /// To the pod whose policy was asked, or from it.
    pub direction: Direction,
    /// Who sent the packet.
    pub source: End,
    /// To whom.
    pub destination: End,
    /// `tcp`, `udp`, `sctp`, `icmp`, `icmpv6`, or a number.
    pub protocol: String,
    /// What became of it.
    pub verdict: FlowVerdict,
    /// Why: `rule_denies`, `unknown_endpoint`, ..., as in metrics.
    pub reason: String,
    /// The rule that decided, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// How many packets like it this line stands for, at least 1.
    pub repeats: u64,
    /// What was asked, if this is about a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Box<Asked>>,
}

impl crate::request::Flows {
    /// Whether a flow is among those that are meant.
    pub fn mean(&self, flow: &FlowLine) -> bool {
        let at = |end: &End, pod: &str| end.pod.as_deref() == Some(pod);
        self.since.is_none_or(|since| flow.time >= since)
            && self.verdict.is_none_or(|verdict| flow.verdict == verdict)
            && self.pod.as_deref().is_none_or(|pod| at(&flow.source, pod) || at(&flow.destination, pod))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Flows;

    #[test]
    fn filters_are_by_either_end_by_verdict_and_by_time() {
        let end = |pod: Option<&str>| End {
            address: [10, 0, 0, 1].into(),
            port: Some(80),
            pod: pod.map(str::to_owned),
        };
        let flow = FlowLine {
            time: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            direction: Direction::Ingress,
            source: end(None),
            destination: end(Some("prod/api")),
            protocol: "tcp".to_owned(),
            verdict: FlowVerdict::Denied,
            reason: "rule_denies".to_owned(),
            rule: None,
            repeats: 1,
            request: None,
        };
        let pod = |pod: &str| Flows { pod: Some(pod.to_owned()), ..Flows::default() };
        let since = |time: &str| Flows { since: Some(time.parse().unwrap()), ..Flows::default() };
        let verdict = |verdict| Flows { verdict: Some(verdict), ..Flows::default() };
        assert!(Flows::default().mean(&flow));
        assert!(pod("prod/api").mean(&flow) && !pod("prod/db").mean(&flow));
        assert!(verdict(FlowVerdict::Denied).mean(&flow) && !verdict(FlowVerdict::Allowed).mean(&flow));
        assert!(
            since("2026-01-02T03:04:05.678Z").mean(&flow) && !since("2026-01-02T03:04:05.679Z").mean(&flow)
        );
        let json = serde_json::to_string(&flow).unwrap();
        assert!(json.starts_with(r#"{"time":"2026-01-02T03:04:05.678Z","direction":"ingress""#), "{json}");
        assert_eq!(serde_json::from_str::<FlowLine>(&json).unwrap(), flow);
    }
}
