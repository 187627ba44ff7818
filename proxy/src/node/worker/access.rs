//! The access log: a line of JSON for each request, on standard output.
//!
//! A request never waits for whoever reads the log: lines that do not fit are counted and lost.

use std::io::{self, Write as _};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use proxy::log::{Observer, Outcome, Protocol, Record};
use proxy::policy::RuleId;
use serde_json::{Map, Value, json};

use super::ruling::Ruling;

/// How many lines may wait.
const WAITING: usize = 4096;

/// Tells of requests, or does not.
#[derive(Debug)]
pub(crate) struct Access {
    lines: Option<SyncSender<Vec<u8>>>,
    lost: Counter,
}

impl Access {
    /// A log that is written by a thread of its own, if it is wanted.
    pub(crate) fn new(is_wanted: bool, lost: Counter) -> io::Result<Self> {
        if !is_wanted {
            return Ok(Self { lines: None, lost });
        }
        let (lines, written) = sync_channel(WAITING);
        thread::Builder::new().name("access-log".to_owned()).spawn(move || write(&written))?;
        Ok(Self { lines: Some(lines), lost })
    }
}

impl Observer for Access {
    fn record(&self, record: &Record<'_>) {
        let Some(lines) = &self.lines else { return };
        let mut line = line(record, SystemTime::now()).to_string().into_bytes();
        line.push(b'\n');
        if lines.try_send(line).is_err() {
            self.lost.inc();
        }
    }
}

fn write(lines: &Receiver<Vec<u8>>) {
    let mut output = io::stdout().lock();
    for line in lines {
        if let Err(error) = output.write_all(&line).and_then(|()| output.flush()) {
            tracing::error!(%error, "the access log ends here");
            return;
        }
    }
}

/// Neither headers nor query: they hold passwords and tokens.
fn line(record: &Record<'_>, now: SystemTime) -> Value {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let mut line = Map::new();
    let mut put = |name: &str, value: Value| line.insert(name.to_owned(), value);
    put("time", json!(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()));
    put("client", json!(record.ends.client));
    put("server", json!(record.ends.server));
    put("protocol", json!(protocol(record.protocol)));
    for (name, value) in [("method", record.method), ("host", record.host), ("path", record.path)] {
        if !value.is_empty() {
            put(name, json!(text(value)));
        }
    }
    if let Some(status) = record.status {
        put("status", json!(status));
    }
    let (outcome, rule, fault) = match record.outcome {
        Outcome::Allowed(rule) => ("allowed", Some(rule), None),
        Outcome::Denied(rule) => ("denied", Some(rule), None),
        Outcome::Refused(fault) => ("refused", None, Some(fault)),
        Outcome::Failed(rule, fault) => ("failed", Some(rule), Some(fault)),
        Outcome::Withdrawn(rule) => ("withdrawn", Some(rule), None),
    };
    put("outcome", json!(outcome));
    if let Some(fault) = fault {
        put("fault", json!(fault.name));
    }
    if let Some(ruling) = rule.and_then(|rule: RuleId| Ruling::unpack(rule)) {
        put("reason", json!(ruling.reason.name()));
        if let Some(rule) = ruling.rule {
            put("rule_set", json!(format!("{:012x}", rule.rule_set.get())));
            put("rank", json!(rule.rank));
        }
    }
    put("generation", json!(record.generation));
    put("seconds", json!(record.duration.as_secs_f64()));
    Value::Object(line)
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "http1",
        Protocol::Http2 => "http2",
        Protocol::Tls => "tls",
        Protocol::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datapath::abi::RuleSetId;
    use datapath::lookup;
    use datapath::verdict::Reason;
    use proxy::log::Ends;

    use super::*;

    #[test]
    fn a_line_has_what_was_asked_and_who_decided() {
        let rule = Some(lookup::RuleId { rule_set: RuleSetId::new(0x1a2b), rank: 3 });
        let record = Record {
            ends: Ends { client: ([10, 0, 0, 1], 4000).into(), server: ([10, 0, 0, 2], 80).into() },
            protocol: Protocol::Http1,
            method: b"GET",
            host: b"shop",
            path: b"/a",
            status: Some(403),
            outcome: Outcome::Denied(Ruling { reason: Reason::RuleDenies, rule }.pack()),
            generation: 7,
            duration: Duration::from_millis(5),
        };
        let expected = json!({
            "time": 1.5, "client": "10.0.0.1:4000", "server": "10.0.0.2:80", "protocol": "http1", "method": "GET",
            "host": "shop", "path": "/a", "status": 403, "outcome": "denied", "reason": "rule_denies",
            "rule_set": "000000001a2b", "rank": 3, "generation": 7, "seconds": 0.005,
        });
        assert_eq!(line(&record, UNIX_EPOCH + Duration::from_millis(1500)), expected);
    }
}
