//! What clients ask.

use agent_api::judgement::{Answer as Judged, Direction, Protocol, Question, Verdict};
use agent_api::reply::Reply;
use agent_api::request::Request;
use agent_api::status::{
    Counter, Endpoint, EndpointState, Hook, HookKind, MapUse, OutsideDevice, Share, Status,
};
use agent_api::verification::{Compared, Difference, Disagreement, Verification};
use datapath::abi::Direction::Ingress as Incoming;
use datapath::abi::{ABI_VERSION, RuleSetId, Transport};
use datapath::fault::Fault;
use datapath::lookup::{Decision, Maps, Origin, Query, judge};
use policy_compiler::object::PodKey;
use policy_compiler::tables::address;

use super::Control;
use crate::api::{Answer, Call};
use crate::dataplane::Means;
use crate::endpoint::role::Role;

/// How many differences and disagreements are listed; the others are counted.
const LISTED: usize = 1000;

impl Control {
    /// Answers a request.
    pub(super) fn answer(&mut self, call: Call) {
        let Some(call) = self.take_waiting(call) else { return };
        let answer = match &call.request {
            Request::Status => self.status().map(|status| reply(Reply::Status(Box::new(status)))),
            Request::World => {
                self.documents().map(Answer::World).ok_or_else(|| self.world.reasons().join("; "))
            }
            Request::Judge(questions) => self.judge(questions).map(|answers| reply(Reply::Answers(answers))),
            Request::Verify => self.verify().map(|verification| reply(Reply::Verification(verification))),
            Request::Resync => self.resync().map(|status| reply(Reply::Status(Box::new(status)))),
            Request::Flows(_) | Request::Wait(_) | Request::Release(_) => {
                Err("this is answered elsewhere".to_owned())
            }
        };
        // The client may have gone meanwhile.
        let _gone = call.answer.send(answer);
    }

    fn resync(&mut self) -> Result<Status, String> {
        self.parts.reread.notify_one();
        self.parts.monitor.resync().map_err(|error| format!("asking for all interfaces anew: {error}"))?;
        self.look_at_hooks();
        self.compare();
        self.status()
    }

    fn status(&self) -> Result<Status, String> {
        let dataplane = &self.parts.dataplane;
        let said = |error: crate::dataplane::Error| error.to_string();
        let reasons = self.reasons();
        let mut problems: Vec<String> = self.remarks.iter().map(ToString::to_string).collect();
        problems.extend(self.world.notes());
        problems.extend(self.behind.clone());
        problems.extend(self.unread());
        problems.extend(self.only_audit());
        let counters = self.counted().map_err(said)?;
        let mut sums = std::collections::BTreeMap::<String, u64>::new();
        let mut refused = std::collections::BTreeMap::<u32, u64>::new();
        for (key, count) in counters {
            if key.cause == Fault::FlowShare.into() {
                *refused.entry(key.interface).or_default() += count.packets;
            }
            let direction = if key.direction == 0 { "ingress" } else { "egress" };
            *sums.entry(format!("{direction} {}", key.cause.name().unwrap_or("unknown"))).or_default() +=
                count.packets;
        }
        let limit = u64::from(dataplane.settings().map_err(said)?.flow_share);
        let endpoints = self.endpoints();
        let shares = endpoints
            .iter()
            .map(|endpoint| Share {
                endpoint: endpoint.pod.clone().unwrap_or_else(|| endpoint.interface.clone()),
                used: dataplane.flows_of(endpoint.interface_index),
                limit,
                refused: refused.get(&endpoint.interface_index).copied().unwrap_or(0),
            })
            .collect();
        let maps = dataplane.uses().map_err(said)?.into_iter().map(|(name, used, size)| MapUse {
            name: name.to_owned(),
            used: used as u64,
            size: size as u64,
        });
        Ok(Status {
            node: self.parts.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi: ABI_VERSION,
            started: self.started,
            ready: reasons.is_empty(),
            reasons,
            generation: u64::from(dataplane.generation()),
            policies: self.compiler.policies().count() as u64,
            problems,
            endpoints,
            outside: self.outside(),
            proxies: self.proxy_names(),
            hooks: self.hooks(),
            maps: maps.collect(),
            counters: sums.into_iter().map(|(name, count)| Counter { name, count }).collect(),
            reconcile: self.reconciled.clone(),
            shares,
        })
    }

    /// Every pod's interface, by the pod's name.
    pub(super) fn endpoints(&self) -> Vec<Endpoint> {
        let pods =
            self.snapshot.veths.values().filter(|veth| self.roles.get(&veth.interface) == Some(&Role::Pod));
        let mut endpoints: Vec<Endpoint> = pods
            .map(|veth| {
                let pod = self.parts.dataplane.pod_at(veth.interface);
                let tables = pod.and_then(|pod| self.compiler.tables().endpoints.get(pod));
                let set = |direction| {
                    tables
                        .map(|endpoint| endpoint.rule_set(direction))
                        .filter(|id| !id.is_none())
                        .map(RuleSetId::get)
                };
                let failure = self.failed.get(&veth.interface).or(self.behind.as_ref());
                let (state, why) = match (failure, self.held.get(&veth.interface), pod) {
                    (Some(why), _, _) => (EndpointState::Failed, Some(why.clone())),
                    (None, Some(why), _) => (EndpointState::Unknown, Some(why.clone())),
                    (None, None, None) => (EndpointState::Held, Some("its pod is not known yet".to_owned())),
                    (None, None, Some(_)) if !self.armed => {
                        let why = "the agent has just started, and attaches its programs when it has read the policies";
                        (EndpointState::Held, Some(why.to_owned()))
                    }
                    (None, None, Some(_)) => (EndpointState::Enforced, None),
                };
                Endpoint {
                    pod: pod.map(ToString::to_string),
                    interface: veth.name.clone(),
                    interface_index: veth.interface,
                    addresses: veth.addresses.clone(),
                    state,
                    ingress: set(datapath::abi::Direction::Ingress),
                    egress: set(datapath::abi::Direction::Egress),
                    why,
                }
            })
            .collect();
        endpoints.sort_by(|a, b| (&a.pod, a.interface_index).cmp(&(&b.pod, b.interface_index)));
        endpoints
    }

    fn outside(&self) -> Vec<OutsideDevice> {
        let outside = self.roles.iter().filter(|(_, role)| **role == Role::Outside);
        outside
            .filter_map(|(interface, _)| self.snapshot.devices.get(interface))
            .map(|device| OutsideDevice {
                interface: device.name.clone(),
                interface_index: device.interface,
                kind: if device.kind.is_empty() { "uplink".to_owned() } else { device.kind.clone() },
            })
            .collect()
    }

    fn hooks(&self) -> Vec<Hook> {
        let hooks = self.parts.dataplane.hooks().into_iter();
        hooks
            .filter_map(|hook| {
                let kind = match &hook.means {
                    Means::Tcx => HookKind::Tcx,
                    Means::Clsact => HookKind::Clsact,
                    Means::Xdp => HookKind::Xdp,
                    // Frames are not looked at early: that costs time, and closes or opens nothing.
                    Means::Off(_) => return None,
                };
                let device = self.snapshot.devices.get(&hook.place.interface);
                Some(Hook {
                    interface: device
                        .map_or_else(|| hook.place.interface.to_string(), |device| device.name.clone()),
                    hook: hook.place.hook.name().to_owned(),
                    kind,
                    position: hook.position,
                    ok: hook.position == Some(0),
                })
            })
            .collect()
    }

    fn judge(&self, questions: &[Question]) -> Result<Vec<Judged>, String> {
        let live = self.parts.dataplane.live();
        let answers: Result<Vec<Judged>, String> = questions
            .iter()
            .map(|question| {
                let pod = pod(question)?;
                let interface = self
                    .parts
                    .dataplane
                    .interface_of(&pod)
                    .ok_or_else(|| format!("{pod} has no interface on this node"))?;
                let decision = judge(&live, &interface, &self.query(question, &pod));
                Ok(judged(&decision, u64::from(live.generation())))
            })
            .collect();
        live.finish().map_err(|error| error.to_string())?;
        answers
    }

    fn query(&self, question: &Question, pod: &PodKey) -> Query {
        let direction = direction(question.direction);
        let own =
            self.compiler.cluster().pods.get(pod).is_some_and(|pod| pod.addresses.contains(&question.peer));
        let origin = if own {
            Origin::OwnAddress
        } else if direction == Incoming && self.is_own_node(question.peer) {
            Origin::OwnNode
        } else {
            Origin::Elsewhere
        };
        let port = question.port.map(|(protocol, port)| (transport(protocol), port));
        Query { direction, peer: address(question.peer), port, origin }
    }

    /// Whether packets from an address come from this node itself: the cluster says it is the node's, or the node has it.
    fn is_own_node(&self, address: std::net::IpAddr) -> bool {
        self.snapshot.own_addresses.contains(&address) || self.own_node_addresses().contains(&address)
    }

    /// Compares all maps, then asks both about every local pair and every port that a rule tells apart.
    fn verify(&self) -> Result<Verification, String> {
        let dataplane = &self.parts.dataplane;
        let image = dataplane.image().map_err(|error| error.to_string())?;
        let differences = image.differences(self.compiler.tables());
        let live = dataplane.live();
        let generation = u64::from(live.generation());
        let mut verification = Verification { generation, ..Verification::default() };
        verification.compared = vec![
            compared("endpoints", image.endpoints().count()),
            compared("addresses", image.addresses().count()),
            compared("prefixes", image.prefixes().count()),
            compared("ports", image.ports().count()),
            compared("rules", image.rules().count()),
        ];
        for difference in &differences {
            if verification.differences.len() < LISTED {
                verification.differences.push(Difference {
                    map: difference.map().name().to_owned(),
                    key: difference.key(),
                    wanted: Some(difference.wanted()),
                    found: Some(difference.found()),
                });
            } else {
                verification.more_differences += 1;
            }
        }
        let local: Vec<(PodKey, u32)> = self
            .compiler
            .tables()
            .endpoints
            .keys()
            .filter_map(|pod| Some((pod.clone(), dataplane.interface_of(pod)?)))
            .collect();
        let ports = self.ports();
        for (pod, interface) in &local {
            for (peer, _) in &local {
                let addresses = self.compiler.cluster().pods.get(peer).map(|peer| peer.addresses.clone());
                for peer in addresses.unwrap_or_default() {
                    self.verify_pair((pod, *interface), peer, &ports, &live, &mut verification);
                }
            }
        }
        live.finish().map_err(|error| error.to_string())?;
        Ok(verification)
    }

    fn verify_pair(
        &self,
        of: (&PodKey, u32),
        peer: std::net::IpAddr,
        ports: &[Option<(Protocol, u16)>],
        live: &crate::dataplane::LiveMaps<'_>,
        verification: &mut Verification,
    ) {
        let (pod, interface) = of;
        for direction in [Direction::Ingress, Direction::Egress] {
            for port in ports {
                let question = Question { pod: pod.to_string(), direction, peer, port: *port };
                let query = self.query(&question, pod);
                let wanted = judged(&self.compiler.judge(pod, &query), verification.generation);
                let found = judged(&judge(live, &interface, &query), verification.generation);
                verification.pairs += 1;
                if wanted == found {
                    continue;
                }
                if verification.disagreements.len() < LISTED {
                    verification.disagreements.push(Disagreement { question, wanted, found });
                } else {
                    verification.more_disagreements += 1;
                }
            }
        }
    }

    /// One port of each range that rules tell apart, one that none names, and none at all.
    fn ports(&self) -> Vec<Option<(Protocol, u16)>> {
        let mut ports = vec![None];
        for transport in Transport::ALL {
            let protocol = match transport {
                Transport::Tcp => Protocol::Tcp,
                Transport::Udp => Protocol::Udp,
                Transport::Sctp => Protocol::Sctp,
            };
            let atoms = &self.compiler.tables().ports[transport as usize];
            ports.extend(atoms.keys().map(|first| Some((protocol, *first))));
            let rest = (1..=u16::MAX).find(|port| self.compiler.tables().atom(transport, *port) == 0);
            ports.extend(rest.map(|port| Some((protocol, port))));
        }
        ports
    }
}

fn reply(reply: Reply) -> Answer {
    Answer::Reply(Box::new(reply))
}

fn compared(map: &str, entries: usize) -> Compared {
    Compared { map: map.to_owned(), entries: entries as u64 }
}

fn pod(question: &Question) -> Result<PodKey, String> {
    let (namespace, name) = question
        .pod
        .split_once('/')
        .ok_or_else(|| format!("pod: found {:?}, expected namespace/name", question.pod))?;
    Ok(PodKey::new(namespace, name))
}

fn direction(direction: Direction) -> datapath::abi::Direction {
    match direction {
        Direction::Ingress => datapath::abi::Direction::Ingress,
        Direction::Egress => datapath::abi::Direction::Egress,
    }
}

fn transport(protocol: Protocol) -> Transport {
    match protocol {
        Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
        Protocol::Sctp => Transport::Sctp,
    }
}

fn judged(decision: &Decision, generation: u64) -> Judged {
    Judged {
        verdict: match decision.verdict {
            datapath::verdict::Verdict::Allow => Verdict::Allow,
            datapath::verdict::Verdict::Deny => Verdict::Deny,
            datapath::verdict::Verdict::Reject => Verdict::Reject,
            datapath::verdict::Verdict::Redirect => Verdict::Redirect,
        },
        reason: decision.reason.name().to_owned(),
        rule_set: decision.rule.map_or(0, |rule| rule.rule_set.get()),
        rank: decision.rule.map(|rule| rule.rank),
        generation,
    }
}
