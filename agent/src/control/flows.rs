//! Events of the kernel as users read them.

use std::net::IpAddr;

use agent_api::flow::{End, FlowLine, FlowVerdict, Rule};
use agent_api::judgement::Direction;
use datapath::event::Event;
use datapath::lookup::RuleId;
use jiff::{SignedDuration, Timestamp};
use policy_compiler::rule_set::Origin;

use super::Control;

impl Control {
    /// Tells whoever follows of what the kernel reported.
    pub(super) fn report(&mut self, events: &[Event], unknown: usize) {
        if unknown > 0 {
            tracing::warn!(unknown, "events of another size than this version knows");
        }
        if self.parts.flows.receiver_count() == 0 || events.is_empty() {
            return;
        }
        let ticks = match self.parts.dataplane.now() {
            Ok(ticks) => ticks,
            Err(error) => {
                return tracing::warn!(%error, "events are not told: the kernel's clock cannot be read");
            }
        };
        let now = Timestamp::now();
        for event in events {
            // Without a receiver nobody wants it.
            let _followers = self.parts.flows.send(self.line(event, ticks, now));
        }
    }

    fn line(&self, event: &Event, ticks: u32, now: Timestamp) -> FlowLine {
        let rate = self.parts.dataplane.rate().max(1);
        #[expect(clippy::cast_possible_truncation, reason = "both clocks are cut to 32 bits")]
        let age = ticks.wrapping_sub(event.time as u32);
        let age = SignedDuration::from_millis(i64::from(age) * 1000 / i64::from(rate));
        let verdict = match (event.cause.is_drop(), event.rejected) {
            (false, _) => FlowVerdict::Allowed,
            (true, 0) => FlowVerdict::Denied,
            (true, _) => FlowVerdict::Rejected,
        };
        let reason =
            event.cause.name().map_or_else(|| format!("unknown ({})", event.cause.number()), str::to_owned);
        FlowLine {
            time: now.checked_sub(age).unwrap_or(now),
            direction: if event.direction == 0 { Direction::Ingress } else { Direction::Egress },
            source: self.end(event, event.source, event.source_port, event.direction == 1),
            destination: self.end(event, event.destination, event.destination_port, event.direction == 0),
            protocol: protocol(event),
            verdict,
            reason,
            rule: event.rule().and_then(|rule| self.rule(rule)),
            repeats: u64::from(event.packets),
            request: None,
        }
    }

    fn end(&self, event: &Event, address: [u8; 16], port: u16, is_own: bool) -> End {
        let [a, b, c, d, ..] = address;
        let address = if event.family == 6 { IpAddr::from(address) } else { IpAddr::from([a, b, c, d]) };
        let has_ports = matches!(event.protocol, 6 | 17 | 132);
        // At its own end the interface says who it is, whatever the address claims.
        let pod = if is_own {
            self.parts.dataplane.pod_at(event.interface).map(ToString::to_string)
        } else {
            self.compiler.owner(address).map(|pod| pod.key.to_string())
        };
        End { address, port: has_ports.then_some(port), pod }
    }

    /// The rule behind an id: object, path and place.
    pub(super) fn rule(&self, id: RuleId) -> Option<Rule> {
        let ranked = self.compiler.rule(id)?;
        let direction = self.compiler.rule_set_by_id(id.rule_set)?.direction();
        match &ranked.origin {
            Origin::Rule { object, index } | Origin::Claim { object, index } => {
                let policy = self.compiler.policy(object)?;
                let block = match direction {
                    datapath::abi::Direction::Ingress => &policy.ingress,
                    datapath::abi::Direction::Egress => &policy.egress,
                };
                let path = block.rules.get(*index).map_or_else(String::new, |rule| rule.path.to_string());
                let place = policy.source.as_ref().map(|source| source.locate(&path).to_string());
                Some(Rule { policy: object.to_string(), path, place })
            }
            Origin::Isolation { policies } => {
                let names: Vec<String> = policies.iter().map(ToString::to_string).collect();
                Some(Rule { policy: names.join(", "), path: String::new(), place: None })
            }
        }
    }
}

fn protocol(event: &Event) -> String {
    match (event.family, event.protocol) {
        (0, _) => format!("ethernet {:#06x}", event.ether_type),
        (_, 1) => "icmp".to_owned(),
        (_, 6) => "tcp".to_owned(),
        (_, 17) => "udp".to_owned(),
        (_, 58) => "icmpv6".to_owned(),
        (_, 132) => "sctp".to_owned(),
        (_, number) => number.to_string(),
    }
}
