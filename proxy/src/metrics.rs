//! What is counted, for Prometheus.

use std::collections::HashMap;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::fault::Fault;
use crate::log::{Outcome, Record};

type Labels = [(&'static str, &'static str); 1];

/// Seconds: from a tenth of a millisecond to several minutes.
const BUCKETS: [f64; 14] =
    [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 300.0];

/// The counters of one proxy. Each was made beforehand: a request only adds to them.
#[derive(Debug)]
pub struct Metrics {
    allowed: Counter,
    denied: Counter,
    refused: Counter,
    failed: Counter,
    withdrawn: Counter,
    faults: HashMap<&'static str, Counter>,
    duration: Histogram,
    /// Connections that are open.
    pub connections: Gauge,
}

impl Metrics {
    /// Makes them known to a registry.
    pub fn new(registry: &mut Registry) -> Self {
        let verdicts = Family::<Labels, Counter>::default();
        registry.register("l7_requests", "Requests and TLS connections by verdict", verdicts.clone());
        let faults = Family::<Labels, Counter>::default();
        registry.register(
            "l7_faults",
            "Requests and responses that were refused or failed, by reason",
            faults.clone(),
        );
        let duration = Histogram::new(BUCKETS);
        registry.register(
            "l7_request_seconds",
            "From a request's head to the end of its response",
            duration.clone(),
        );
        let connections = Gauge::default();
        registry.register("l7_connections", "Connections of clients that are open", connections.clone());
        let verdict = |name| verdicts.get_or_create_owned(&[("verdict", name)]);
        let by_name = |fault: &Fault| (fault.name, faults.get_or_create_owned(&[("reason", fault.name)]));
        Metrics {
            allowed: verdict("allowed"),
            denied: verdict("denied"),
            refused: verdict("refused"),
            failed: verdict("failed"),
            withdrawn: verdict("withdrawn"),
            faults: Fault::ALL.iter().map(by_name).collect(),
            duration,
            connections,
        }
    }

    /// Counts one request.
    pub fn count(&self, record: &Record<'_>) {
        let counter = match record.outcome {
            Outcome::Allowed(_) => &self.allowed,
            Outcome::Denied(_) => &self.denied,
            Outcome::Refused(_) => &self.refused,
            Outcome::Failed(..) => &self.failed,
            Outcome::Withdrawn(_) => &self.withdrawn,
        };
        counter.inc();
        if let Outcome::Refused(fault) | Outcome::Failed(_, fault) = record.outcome
            && let Some(counter) = self.faults.get(fault.name)
        {
            counter.inc();
        }
        self.duration.observe(record.duration.as_secs_f64());
    }
}
