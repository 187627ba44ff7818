//! What is counted, and whether the agent is well: for Prometheus and for probes.
//!
//! Names begin with `polder_`. Counters that the kernel keeps are set to its sums, and everything else is counted where it
//! happens. No label has the name of a pod or of a policy: their number is not bounded.

mod health;
mod http;

use std::sync::atomic::{AtomicU64, Ordering};

use agent_api::status::EndpointState;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

pub use health::Health;
pub use http::{ADDRESS, Told, bind};

/// By how an endpoint stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

/// By what a difference is of: a map, a hook, a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
}

/// By address family.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByFamily {
    family: &'static str,
}

/// By what became of packets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByVerdict {
    direction: &'static str,
    verdict: &'static str,
    reason: &'static str,
}

/// All metrics. Cheap to use from anywhere: they are atomics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    endpoints: Family<ByState, Gauge>,
    /// Policies in force.
    pub policies: Gauge,
    /// Those of them that only audit.
    pub policies_audited: Gauge,
    /// The generation in force.
    pub generation: Gauge,
    /// Seconds from a batch of events to its tables.
    pub compile_seconds: Histogram,
    /// Seconds from tables to a kernel that has them.
    pub apply_seconds: Histogram,
    /// Writes to the kernel's maps.
    pub map_writes: Counter,
    /// Writes that the kernel refused.
    pub map_write_failures: Counter,
    /// Readings of manifests that were refused.
    pub refused_readings: Counter,
    /// Policies of an API server that were refused, each version once.
    pub refused_policies: Counter,
    /// Objects of an API server of which nothing could be made out.
    pub unreadable_objects: Counter,
    /// How often following a kind of objects failed and was begun again.
    pub watch_failures: Counter,
    /// How often what is known of the cluster could not be saved or read back.
    pub snapshot_failures: Counter,
    api_bytes: Counter,
    reconcile_found: Family<ByKind, Counter>,
    reconcile_repaired: Family<ByKind, Counter>,
    /// Programs that had to be attached again, or put first again.
    pub hooks_repaired: Counter,
    flows: Family<ByFamily, Gauge>,
    flow_share_refusals: Counter,
    events_lost: Counter,
    verdicts: Family<ByVerdict, Counter>,
    netlink_lost: Counter,
    packets_before_policy: Counter,
    /// Whether a proxy told its own metrics when it was last asked.
    pub proxy_up: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        // 0.1 ms to 26 s: from one pod to a compile of everything.
        let histogram = || Histogram::new(exponential_buckets(0.0001, 4.0, 10));
        let metrics = Self {
            registry: Registry::default(),
            endpoints: Family::default(),
            policies: Gauge::default(),
            policies_audited: Gauge::default(),
            generation: Gauge::default(),
            compile_seconds: histogram(),
            apply_seconds: histogram(),
            map_writes: Counter::default(),
            map_write_failures: Counter::default(),
            refused_readings: Counter::default(),
            refused_policies: Counter::default(),
            unreadable_objects: Counter::default(),
            watch_failures: Counter::default(),
            snapshot_failures: Counter::default(),
            api_bytes: Counter::default(),
            reconcile_found: Family::default(),
            reconcile_repaired: Family::default(),
            hooks_repaired: Counter::default(),
            flows: Family::default(),
            flow_share_refusals: Counter::default(),
            events_lost: Counter::default(),
            verdicts: Family::default(),
            netlink_lost: Counter::default(),
            packets_before_policy: Counter::default(),
            proxy_up: Gauge::default(),
        };
        metrics.registered()
    }
}

impl Metrics {
    fn registered(mut self) -> Self {
        let mut registry = Registry::with_prefix("polder");
        self.register_own(&mut registry);
        self.register_source(&mut registry);
        self.register_sums(&mut registry);
        self.registry = registry;
        self
    }

    /// What is counted where it happens.
    fn register_own(&self, registry: &mut Registry) {
        registry.register("endpoints", "Interfaces of pods on this node, by state", self.endpoints.clone());
        registry.register("policies", "Policies in force, and those that only audit", self.policies.clone());
        registry.register(
            "policies_audited",
            "Policies that only audit, of those: no verdict is theirs",
            self.policies_audited.clone(),
        );
        registry.register("generation", "The generation in force", self.generation.clone());
        registry.register(
            "compile_seconds",
            "Time from a batch of events to its tables",
            self.compile_seconds.clone(),
        );
        registry.register(
            "apply_seconds",
            "Time from tables to a kernel that has them",
            self.apply_seconds.clone(),
        );
        registry.register("map_writes", "Writes to the kernel's maps", self.map_writes.clone());
        registry.register(
            "map_write_failures",
            "Writes to the kernel's maps that were refused",
            self.map_write_failures.clone(),
        );
        registry.register(
            "refused_readings",
            "Readings of manifests that were refused",
            self.refused_readings.clone(),
        );
        registry.register(
            "reconcile_found",
            "Differences of the kernel from intent, by kind",
            self.reconcile_found.clone(),
        );
        registry.register(
            "reconcile_repaired",
            "Differences of the kernel from intent that were put right",
            self.reconcile_repaired.clone(),
        );
        registry.register(
            "hooks_repaired",
            "Programs attached or put first again",
            self.hooks_repaired.clone(),
        );
    }

    /// What is counted where an API server is followed.
    fn register_source(&self, registry: &mut Registry) {
        registry.register(
            "refused_policies",
            "Policies that were refused, each version once",
            self.refused_policies.clone(),
        );
        registry.register(
            "unreadable_objects",
            "Objects of which nothing could be made out",
            self.unreadable_objects.clone(),
        );
        registry.register(
            "watch_failures",
            "How often following the API server failed and was begun again",
            self.watch_failures.clone(),
        );
        registry.register(
            "snapshot_failures",
            "How often what is known could not be saved or read back",
            self.snapshot_failures.clone(),
        );
        registry.register("api_received_bytes", "Bytes that the API server sent", self.api_bytes.clone());
    }

    /// What the kernel and others keep.
    fn register_sums(&self, registry: &mut Registry) {
        registry.register("flows", "Flows that are tracked, by address family", self.flows.clone());
        registry.register(
            "flow_share_refusals",
            "Flows not tracked because an endpoint has its share",
            self.flow_share_refusals.clone(),
        );
        registry.register(
            "events_lost",
            "Events of the kernel programs that were lost",
            self.events_lost.clone(),
        );
        registry.register(
            "packets",
            "Packets judged, by direction, verdict and reason",
            self.verdicts.clone(),
        );
        registry.register(
            "netlink_lost_messages",
            "Messages of the kernel about interfaces that were lost",
            self.netlink_lost.clone(),
        );
        registry.register(
            "packets_before_policy",
            "Packets dropped at interfaces whose rules were not in yet",
            self.packets_before_policy.clone(),
        );
        registry.register(
            "proxy_up",
            "Whether a proxy tells of requests, here and in polctl flows",
            self.proxy_up.clone(),
        );
    }

    /// How many endpoints stand so.
    pub fn set_endpoints(&self, state: EndpointState, count: u64) {
        self.endpoints.get_or_create(&ByState { state: state.name() }).set(signed(count));
    }

    /// Differences of a kind (a map's name, `hook`, ...) that a comparison found, and how many it put right.
    pub fn add_reconciled(&self, kind: &'static str, found: u64, repaired: u64) {
        let kind = ByKind { kind };
        self.reconcile_found.get_or_create(&kind).inc_by(found);
        self.reconcile_repaired.get_or_create(&kind).inc_by(repaired);
    }

    /// How many flows of a family (`ipv4`, `ipv6`) are tracked.
    pub fn set_flows(&self, family: &'static str, count: u64) {
        self.flows.get_or_create(&ByFamily { family }).set(signed(count));
    }

    /// The kernel's sum of packets.
    pub fn set_packets(
        &self,
        direction: &'static str,
        verdict: &'static str,
        reason: &'static str,
        packets: u64,
    ) {
        raise(&self.verdicts.get_or_create(&ByVerdict { direction, verdict, reason }), packets);
    }

    /// The sum of bytes that the API server sent.
    pub fn set_api_bytes(&self, sum: u64) {
        raise(&self.api_bytes, sum);
    }

    /// The kernel's sum of flows that were refused for want of share.
    pub fn set_flow_share_refusals(&self, sum: u64) {
        raise(&self.flow_share_refusals, sum);
    }

    /// The kernel's sum of events that did not fit the ring buffer.
    pub fn set_events_lost(&self, sum: u64) {
        raise(&self.events_lost, sum);
    }

    /// The sum of netlink messages that were lost.
    pub fn set_netlink_lost(&self, sum: u64) {
        raise(&self.netlink_lost, sum);
    }

    /// The kernel's sum of packets dropped before rules were in.
    pub fn set_packets_before_policy(&self, sum: u64) {
        raise(&self.packets_before_policy, sum);
    }

    /// All of them in the text form of `OpenMetrics`.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut all = String::new();
        text::encode(&mut all, &self.registry)?;
        Ok(all)
    }
}

/// A counter never falls, even if a sum does because an endpoint and its counters are gone.
fn raise(counter: &Counter, sum: u64) {
    let inner: &AtomicU64 = counter.inner();
    inner.fetch_max(sum, Ordering::Relaxed);
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_in_the_text_and_sums_of_the_kernel_never_fall() {
        let metrics = Metrics::default();
        metrics.set_endpoints(EndpointState::Held, 2);
        metrics.add_reconciled("rules", 3, 1);
        metrics.set_packets("ingress", "deny", "rule_denies", 7);
        metrics.set_packets("ingress", "deny", "rule_denies", 5);
        metrics.compile_seconds.observe(0.003);
        let text = metrics.text().unwrap();
        for line in [
            r#"polder_endpoints{state="held"} 2"#,
            r#"polder_reconcile_found_total{kind="rules"} 3"#,
            r#"polder_reconcile_repaired_total{kind="rules"} 1"#,
            r#"polder_packets_total{direction="ingress",verdict="deny",reason="rule_denies"} 7"#,
            "polder_compile_seconds_count 1",
            "polder_packets_before_policy_total 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
