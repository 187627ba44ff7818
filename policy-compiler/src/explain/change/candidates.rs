//! Edits that may help, made on the lowered policy and written as the object's kind writes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use datapath::abi::Direction;
use datapath::verdict::{Action, Tier};
use serde_json::{Value, json};

use super::dialect::{Dialect, Written, equal, selector_value, stable_labels};
use super::{Candidate, Edit};
use crate::compiler::Compiler;
use crate::explain::answer::{Place, RuleWalk, Side};
use crate::explain::direction_name;
use crate::explain::ends::Judged;
use crate::explain::why::PeerMiss;
use crate::facts::Pod;
use crate::labels::{Condition, Labels, Requirement, Selector, Space};
use crate::object::{ObjectRef, PodKey};
use crate::policy::{
    Block, Mode, NETWORK_POLICY_LEVEL, Namespaces, Peer, PeerTerm, Peers, Pods, Policy, Port, PortTerm,
    Ports, Rule,
};
use crate::rule_set::Origin;

/// What all candidates of one side need.
struct Workshop<'a> {
    compiler: &'a Compiler,
    judged: &'a Judged<'a>,
}

/// Labels to be given.
type NewLabels = BTreeMap<Arc<str>, Arc<str>>;

/// All candidates, in no order that matters.
pub(super) fn all(compiler: &Compiler, judged: &Judged<'_>, side: &Side) -> Vec<Candidate> {
    let shop = Workshop { compiler, judged };
    let mut found = Vec::new();
    for rule in side.reached().filter(|rule| rule.does == Action::Allow && !rule.matched) {
        match (rule.peer, rule.port) {
            (true, false) => found.extend(shop.add_port(rule)),
            (false, true) => {
                found.extend(shop.add_peer(rule));
                found.extend(rule.misses.iter().filter_map(|miss| shop.add_labels(rule, miss)));
            }
            _ => {}
        }
    }
    let decided = side.decision.rule.and_then(|rule| compiler.rule(rule));
    match decided.map(|rule| (&rule.origin, rule.tier)) {
        Some((Origin::Isolation { policies }, _)) => {
            // In any of them the rule would allow this; in the one that selects the fewest pods it opens the least.
            let narrowest = policies.iter().min_by_key(|object| shop.selected(object));
            found.extend(narrowest.and_then(|object| shop.add_rule(object, None)));
        }
        Some((Origin::Rule { object, index }, tier)) => {
            found.extend(shop.add_rule(object, Some(*index)));
            if tier == Tier::Baseline {
                found.extend(shop.new_policy());
            }
        }
        // What would allow it is the rule about requests, of which there is no one smallest edit.
        Some((Origin::Claim { .. }, _)) | None => {}
    }
    // Two rules can lack the same label.
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in found {
        if !kept.iter().any(|known| (&known.place, &known.add) == (&candidate.place, &candidate.add)) {
            kept.push(candidate);
        }
    }
    kept
}

impl Workshop<'_> {
    /// The rule, for the port as well.
    fn add_port(&self, rule: &RuleWalk) -> Option<Candidate> {
        let (mut policy, dialect) = self.policy(&rule.object)?;
        let Written { term, value } = self.port(dialect)?;
        let edited = self.block(&mut policy).rules.get_mut(rule.index)?;
        let Ports::AnyOf(ports) = &mut edited.ports else { return None };
        if ports.len() >= dialect.most().1 {
            return None;
        }
        let path = format!("{}.{}", edited.path, dialect.ports());
        ports.push(Port { path: format!("{path}[{}]", ports.len()).into(), term });
        let title = format!("allow port {} in {}", self.judged.protocol, rule.place);
        let place = Place::policy(&policy, &path);
        Some(append(title, place, json!([value]), Edit::Policy(policy.into())))
    }

    /// The rule, for the peer as well.
    fn add_peer(&self, rule: &RuleWalk) -> Option<Candidate> {
        let (mut policy, dialect) = self.policy(&rule.object)?;
        let Written { term, value } = self.peer(dialect, policy.object.namespace.as_ref())?;
        let direction = self.judged.direction;
        let edited = self.block(&mut policy).rules.get_mut(rule.index)?;
        let has_names = matches!(&edited.ports, Ports::AnyOf(ports)
            if ports.iter().any(|port| matches!(port.term, PortTerm::Named { .. })));
        if dialect != Dialect::Network && has_names && matches!(term, PeerTerm::Network(_)) {
            // Refused by the API: an address has no named ports.
            return None;
        }
        let Peers::AnyOf(peers) = &mut edited.peers else { return None };
        if peers.len() >= dialect.most().1 {
            return None;
        }
        let path = format!("{}.{}", edited.path, peers_field(direction));
        peers.push(Peer { path: format!("{path}[{}]", peers.len()).into(), term });
        let title = format!("allow {} in {}", self.judged.peer.name(), rule.place);
        let place = Place::policy(&policy, &path);
        Some(append(title, place, json!([value]), Edit::Policy(policy.into())))
    }

    /// The labels that the peer lacks. Only labels that are not there at all: to change one can take the pod away from
    /// its controller or service.
    fn add_labels(&self, rule: &RuleWalk, miss: &PeerMiss) -> Option<Candidate> {
        if miss.hopeless {
            return None;
        }
        let cluster = self.compiler.cluster();
        let peer = self.compiler.owner(self.judged.peer.address)?;
        let text = |labels: &NewLabels| {
            let all: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            all.join(",")
        };
        let value = |labels: &NewLabels| {
            let pairs = labels.iter().map(|(key, value)| (key.to_string(), Value::from(&**value)));
            Value::Object(pairs.collect())
        };
        if miss.namespace.is_empty() {
            let labels = absent(&miss.pod, &peer.labels)?;
            let (object, path, pods) = self.template(peer);
            let title = format!("give {object} the label {}, for {}", text(&labels), rule.place);
            let (add, place) = (value(&labels), Place::object(&object, path));
            return Some(Candidate {
                title,
                place,
                position: "set".to_owned(),
                add,
                edit: Edit::Pods(pods, labels),
            });
        }
        if !miss.pod.is_empty() {
            return None;
        }
        let name = &peer.key.namespace;
        let labels = absent(&miss.namespace, &cluster.namespace_labels(name))?;
        let object = ObjectRef::cluster("Namespace", name);
        let title = format!("give {object} the label {}, for {}", text(&labels), rule.place);
        let (add, place) = (value(&labels), Place::object(&object, "metadata.labels"));
        let edit = Edit::Namespace(Arc::clone(name), labels);
        Some(Candidate { title, place, position: "set".to_owned(), add, edit })
    }

    /// Where the labels of a pod are written, and all pods that are made from there.
    fn template(&self, pod: &Pod) -> (ObjectRef, &'static str, Vec<PodKey>) {
        let workload = &pod.workload;
        let object = ObjectRef::namespaced(&workload.kind, &pod.key.namespace, &workload.name);
        let path = match &*workload.kind {
            "Pod" => {
                return (
                    ObjectRef::namespaced("Pod", &pod.key.namespace, &pod.key.name),
                    "metadata.labels",
                    vec![pod.key.clone()],
                );
            }
            "CronJob" => "spec.jobTemplate.spec.template.metadata.labels",
            _ => "spec.template.metadata.labels",
        };
        let alike = self
            .compiler
            .cluster()
            .pods
            .values()
            .filter(|other| other.key.namespace == pod.key.namespace && other.workload == *workload);
        (object, path, alike.map(|other| other.key.clone()).collect())
    }

    /// A rule of its own: behind the others of a policy that isolates, before the rule that denies.
    fn add_rule(&self, object: &ObjectRef, before: Option<usize>) -> Option<Candidate> {
        let (mut policy, dialect) = self.policy(object)?;
        let peer = self.peer(dialect, object.namespace.as_ref())?;
        let port = self.port(dialect);
        let direction = self.judged.direction;
        let value = dialect.rule(direction, &peer.value, port.as_ref().map(|port| &port.value));
        let path = format!("spec.{}", direction_name(direction));
        let block = self.block(&mut policy);
        if block.rules.len() >= dialect.most().0 {
            return None;
        }
        let index = before.unwrap_or(block.rules.len());
        block.rules.insert(index.min(block.rules.len()), rule(&path, index, direction, peer.term, port));
        let place = Place::policy(&policy, &before.map_or(path.clone(), |index| format!("{path}[{index}]")));
        let position = before.map_or_else(|| "append".to_owned(), |index| format!("before [{index}]"));
        let what = format!("{} on {}", self.judged.peer.name(), self.port_text());
        let title = match before {
            None => format!("add a rule for {what} to {object}"),
            Some(_) => format!("put a rule for {what} before {place}"),
        };
        Some(Candidate { title, place, position, add: json!([value]), edit: Edit::Policy(policy.into()) })
    }

    /// A `NetworkPolicy` of its own: it is asked before the Baseline tier. It isolates the pods that it selects, so it
    /// is offered last.
    fn new_policy(&self) -> Option<Candidate> {
        let (pod, direction) = (self.judged.pod, self.judged.direction);
        let dialect = Dialect::Network;
        let peer = self.peer(dialect, Some(&pod.key.namespace))?;
        let port = self.port(dialect);
        let labels = stable_labels(pod);
        let name = self.free_name(pod);
        let object = ObjectRef::namespaced("NetworkPolicy", &pod.key.namespace, &name);
        let spoken = direction_name(direction);
        let written = dialect.rule(direction, &peer.value, port.as_ref().map(|port| &port.value));
        let mut spec = json!({
            "podSelector": selector_value(&labels),
            "policyTypes": [if direction == Direction::Ingress { "Ingress" } else { "Egress" }],
        });
        if let Some(fields) = spec.as_object_mut() {
            fields.insert(spoken.to_owned(), json!([written]));
        }
        let add = json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": &*pod.key.namespace},
            "spec": spec,
        });
        let rules = vec![rule(&format!("spec.{spoken}"), 0, direction, peer.term, port)];
        let block = Block { isolates: true, rules };
        let (ingress, egress) = match direction {
            Direction::Ingress => (block, Block::default()),
            Direction::Egress => (Block::default(), block),
        };
        let pods = Selector::new(labels.iter().map(|(key, value)| equal(key, value)));
        let subject = Pods { namespaces: Namespaces::Named(Arc::clone(&pod.key.namespace)), pods };
        let policy = Policy {
            object: object.clone(),
            source: None,
            tier: Tier::Namespace,
            mode: Mode::Enforce,
            log: false,
            priority: NETWORK_POLICY_LEVEL,
            subject,
            ingress,
            egress,
        };
        let title = format!(
            "create {object}, which isolates the pods that it selects: what else they need, it must allow too"
        );
        let place = Place::object(&object, "");
        Some(Candidate {
            title,
            place,
            position: "create".to_owned(),
            add,
            edit: Edit::Policy(policy.into()),
        })
    }

    /// A name that no policy has.
    fn free_name(&self, pod: &Pod) -> String {
        let base = format!("allow-{}-{}", direction_name(self.judged.direction), pod.workload.name);
        let taken = |name: &str| {
            self.compiler.policy(&ObjectRef::namespaced("NetworkPolicy", &pod.key.namespace, name)).is_some()
        };
        let names = (2..).map(|number| format!("{base}-{number}"));
        std::iter::once(base.clone()).chain(names).find(|name| !taken(name)).unwrap_or(base)
    }

    /// How many pods a policy selects.
    fn selected(&self, object: &ObjectRef) -> usize {
        let Some(policy) = self.compiler.policy(object) else { return usize::MAX };
        let cluster = self.compiler.cluster();
        let pods = cluster.pods.values().filter(|pod| policy.subject.pods.matches(&pod.labels));
        pods.filter(|pod| policy.subject.namespaces.matches(&pod.key.namespace, cluster)).count()
    }

    fn policy(&self, object: &ObjectRef) -> Option<(Policy, Dialect)> {
        let policy = self.compiler.policy(object)?;
        Some((Policy::clone(policy), Dialect::of(policy)?))
    }

    fn block<'p>(&self, policy: &'p mut Policy) -> &'p mut Block {
        match self.judged.direction {
            Direction::Ingress => &mut policy.ingress,
            Direction::Egress => &mut policy.egress,
        }
    }

    /// The other end as a peer: a pod by namespace and labels, anything else by its address, if that is known.
    fn peer(&self, dialect: Dialect, own: Option<&Arc<str>>) -> Option<Written<PeerTerm>> {
        let peer = &self.judged.peer;
        match self.compiler.owner(peer.address) {
            Some(pod) => Some(dialect.pods(pod, own)),
            None if peer.is_made_up() => None,
            None => dialect.address(peer.address, self.judged.direction),
        }
    }

    /// `None` for what no rule can name: protocols without ports, and port 0.
    fn port(&self, dialect: Dialect) -> Option<Written<PortTerm>> {
        let (transport, port) = self.judged.protocol.port().filter(|(_, port)| *port != 0)?;
        Some(dialect.port(transport, port))
    }

    fn port_text(&self) -> String {
        match self.judged.protocol.port() {
            Some((_, port)) if port != 0 => format!("port {}", self.judged.protocol),
            _ => format!("every protocol (no rule can name {} alone)", self.judged.protocol),
        }
    }
}

fn append(title: String, place: Place, add: Value, edit: Edit) -> Candidate {
    Candidate { title, place, position: "append".to_owned(), add, edit }
}

const fn peers_field(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    }
}

/// A rule that allows one peer on one port.
fn rule(
    list: &str,
    index: usize,
    direction: Direction,
    peer: PeerTerm,
    port: Option<Written<PortTerm>>,
) -> Rule {
    let path = format!("{list}[{index}]");
    let ports = port.map_or(Ports::Any, |port| {
        Ports::AnyOf(vec![Port { path: format!("{path}.ports[0]").into(), term: port.term }])
    });
    let peer = Peer { path: format!("{path}.{}[0]", peers_field(direction)).into(), term: peer };
    let peers = Peers::AnyOf(vec![peer]);
    Rule { name: None, path: path.into(), action: Action::Allow, peers, ports, asks: None }
}

/// Labels that meet requirements, if all that is wrong is that they are not there.
fn absent<S: Space>(requirements: &[Requirement], labels: &Labels<S>) -> Option<NewLabels> {
    let mut found = NewLabels::new();
    for requirement in requirements {
        if labels.get(&requirement.key).is_some() {
            return None;
        }
        let value = match &requirement.condition {
            Condition::In(values) => Arc::clone(values.first()?),
            Condition::Exists => "".into(),
            Condition::NotIn(_) | Condition::DoesNotExist => return None,
        };
        // Two requirements on one key: the edit is tried, so a wrong guess does no harm.
        found.entry(Arc::clone(&requirement.key)).or_insert(value);
    }
    (!found.is_empty()).then_some(found)
}
