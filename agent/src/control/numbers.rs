//! Metrics: what the kernel counted, and how endpoints stand.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use agent_api::status::EndpointState;
use datapath::event::{Count, CounterKey, Tally};
use datapath::fault::{Cause, Fault};

use super::Control;
use crate::endpoint::role::Role;

impl Control {
    /// Removes flows that are over, and copies what was counted into the metrics.
    pub(super) fn expire(&mut self) {
        match self.parts.dataplane.expire_flows() {
            Ok(walk) => {
                self.parts.metrics.set_flows("ipv4", (walk.flows4 - walk.removed4) as u64);
                self.parts.metrics.set_flows("ipv6", (walk.flows6 - walk.removed6) as u64);
            }
            Err(error) => tracing::warn!(%error, "flows that are over were not removed"),
        }
        if let Err(error) = self.count() {
            tracing::warn!(%error, "counters were not read");
        }
        let mut states: BTreeMap<EndpointState, u64> =
            EndpointState::ALL.into_iter().map(|state| (state, 0)).collect();
        for endpoint in self.endpoints() {
            *states.entry(endpoint.state).or_default() += 1;
        }
        for (state, count) in states {
            self.parts.metrics.set_endpoints(state, count);
        }
    }

    fn count(&self) -> Result<(), crate::dataplane::Error> {
        let mut sums: BTreeMap<(u8, Cause), u64> = BTreeMap::new();
        for (key, count) in self.counted()? {
            *sums.entry((key.direction, key.cause)).or_default() += count.packets;
        }
        let metrics = &self.parts.metrics;
        let (mut before, mut refused) = (0, 0);
        for ((direction, cause), packets) in sums {
            let direction = if direction == 0 { "ingress" } else { "egress" };
            let verdict = if cause.is_drop() { "denied" } else { "allowed" };
            metrics.set_packets(direction, verdict, cause.name().unwrap_or("unknown"), packets);
            if cause == Fault::Held.into() || cause == datapath::verdict::Reason::UnknownEndpoint.into() {
                before += packets;
            }
            if cause == Fault::FlowShare.into() {
                refused += packets;
            }
        }
        metrics.set_packets_before_policy(before);
        metrics.set_flow_share_refusals(refused);
        let tallies = self.parts.dataplane.tallies()?;
        metrics.set_events_lost(tallies.get(Tally::EventsLost));
        metrics.set_netlink_lost(self.parts.monitor.counters().lost_messages.load(Ordering::Relaxed));
        Ok(())
    }

    /// The kernel's counters, but for those of the programs' trial runs, which are at no interface that is followed.
    pub(super) fn counted(&self) -> Result<Vec<(CounterKey, Count)>, crate::dataplane::Error> {
        let mut counters = self.parts.dataplane.counters()?;
        counters
            .retain(|(key, _)| self.roles.get(&key.interface).is_some_and(|role| *role != Role::Internal));
        Ok(counters)
    }
}
