//! What is told of a request, to whoever wants to know: the access log, and readers of the streams.

use std::sync::Arc;

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use proxy::log::{self, Observer, Record};
use proxy::policy::RuleId;
use proxy_api::request::{Outcome, Protocol, Request, RuleSet};

use super::access::Access;
use super::ruling::Ruling;
use super::streams::Streams;

/// Tells, or does not.
#[derive(Debug)]
pub(crate) struct Teller {
    /// The access log, if one is wanted.
    pub(crate) access: Option<Access>,
    /// Whoever reads now.
    pub(crate) streams: Arc<Streams>,
}

impl Observer for Teller {
    fn record(&self, record: &Record<'_>) {
        let is_wanted = self.streams.want(outcome(&record.outcome).0);
        if self.access.is_none() && !is_wanted {
            return;
        }
        let request = request(record, Timestamp::now());
        if let Some(access) = &self.access {
            access.write(&request);
        }
        if is_wanted {
            self.streams.tell(request);
        }
    }
}

/// Neither headers nor query: they hold passwords and tokens, and records have none.
fn request<'a>(record: &Record<'a>, now: Timestamp) -> Request<'a> {
    let (outcome, rule, fault) = outcome(&record.outcome);
    let ruling = rule.and_then(Ruling::unpack);
    let rule = ruling.and_then(|ruling| ruling.rule);
    let milliseconds = TimestampRound::new().smallest(Unit::Millisecond).mode(RoundMode::Trunc);
    Request {
        time: now.round(milliseconds).unwrap_or(now),
        client: record.ends.client,
        server: record.ends.server,
        protocol: protocol(record.protocol),
        method: String::from_utf8_lossy(record.method),
        host: String::from_utf8_lossy(record.host),
        path: String::from_utf8_lossy(record.path),
        status: record.status,
        outcome,
        fault: fault.map(Into::into),
        reason: ruling.map(|ruling| ruling.reason.name().into()),
        rule_set: rule.map(|rule| RuleSet(rule.rule_set.get())),
        rank: rule.map(|rule| rule.rank),
        generation: record.generation,
        seconds: record.duration.as_secs_f64(),
    }
}

fn outcome(outcome: &log::Outcome) -> (Outcome, Option<RuleId>, Option<&'static str>) {
    match outcome {
        log::Outcome::Allowed(rule) => (Outcome::Allowed, Some(*rule), None),
        log::Outcome::Denied(rule) => (Outcome::Denied, Some(*rule), None),
        log::Outcome::Refused(fault) => (Outcome::Refused, None, Some(fault.name)),
        log::Outcome::Failed(rule, fault) => (Outcome::Failed, Some(*rule), Some(fault.name)),
        log::Outcome::Withdrawn(rule) => (Outcome::Withdrawn, Some(*rule), None),
    }
}

fn protocol(protocol: log::Protocol) -> Protocol {
    match protocol {
        log::Protocol::Http1 => Protocol::Http1,
        log::Protocol::Http2 => Protocol::Http2,
        log::Protocol::Tls => Protocol::Tls,
        log::Protocol::Unknown => Protocol::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datapath::abi::RuleSetId;
    use datapath::lookup;
    use datapath::verdict::Reason;
    use proxy::log::Ends;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_has_what_was_asked_and_who_decided() {
        let rule = Some(lookup::RuleId { rule_set: RuleSetId::new(0x1a2b), rank: 3 });
        let record = Record {
            ends: Ends { client: ([10, 0, 0, 1], 4000).into(), server: ([10, 0, 0, 2], 80).into() },
            protocol: log::Protocol::Http1,
            method: b"GET",
            host: b"shop",
            path: b"/a",
            status: Some(403),
            outcome: log::Outcome::Denied(Ruling { reason: Reason::RuleDenies, rule }.pack()),
            generation: 7,
            duration: Duration::from_millis(5),
        };
        let expected = json!({
            "time": "2026-01-02T03:04:05.678Z", "client": "10.0.0.1:4000", "server": "10.0.0.2:80",
            "protocol": "http1", "method": "GET", "host": "shop", "path": "/a", "status": 403, "outcome": "denied",
            "reason": "rule_denies", "rule_set": "000000001a2b", "rank": 3, "generation": 7, "seconds": 0.005,
        });
        let told = request(&record, "2026-01-02T03:04:05.678987Z".parse().unwrap());
        assert_eq!(serde_json::to_value(told).unwrap(), expected);
    }
}
