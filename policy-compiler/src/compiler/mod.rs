//! The engine: facts and policies in, tables out, kept in step event by event.
//!
//! ```text
//! Event -> intake: facts, policies, what became dirty
//!       -> endpoints: recipe of each dirty endpoint -> rule set     (acquires terms)
//!       -> peers: terms of each dirty pod, node, prefix, address    (acquires identities)
//!       -> emit: rows of new rule sets and new identities, port atoms
//!       -> Tables, and a Delta of what changed
//! ```
//!
//! Every part of the tables is a function of the present facts and policies, never of the order in which they came:
//! ids are digests of content, and what is kept between events are only indexes and counts of users. A compile from
//! nothing is one batch of events. One thing is remembered beyond that: policies that were deleted while their namespace
//! was being deleted ([`Compiler::retained`]); whoever restarts the engine hands them in again.

mod emit;
mod endpoints;
mod identities;
mod intake;
mod namespaces;
mod peers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use datapath::abi::{Direction, Identity, RuleSetId, Transport};
use datapath::http::Request;
use datapath::lookup::{Decision, Query, RuleId, judge, judge_request};

use crate::delta::Delta;
use crate::facts::{Cluster, EndpointSlice, Namespace, Node, Pod, Service};
use crate::object::{ObjectRef, PodKey};
use crate::policy::{Mode, PeerTerm, Policy};
use crate::rule_set::{RankedRule, RuleMatch, RuleSet};
use crate::tables::{Tables, address};
use crate::terms::{Term, Terms};

use endpoints::Endpoints;
use identities::Identities;
use intake::{Dirty, Policies};
use namespaces::Populated;
use peers::Peers;

/// For which endpoints tables are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of one node.
    Node(Arc<str>),
    /// All.
    All,
}

/// Something that became known of the cluster.
#[derive(Clone, Debug)]
pub enum Event {
    /// A namespace is there, or changed.
    Namespace(Namespace),
    /// A namespace is gone. While it still has pods it counts as being deleted.
    NamespaceGone(Arc<str>),
    /// A pod is there, or changed.
    Pod(Box<Pod>),
    /// A pod is gone. With a UID, only if it is the pod of that UID: a late event never removes a successor.
    PodGone {
        /// Its name.
        key: PodKey,
        /// Its UID, if known.
        uid: Option<Arc<str>>,
    },
    /// A node is there, or changed.
    Node(Node),
    /// A node is gone.
    NodeGone(Arc<str>),
    /// A service is there, or changed.
    Service(Service),
    /// A service is gone.
    ServiceGone(Arc<str>, Arc<str>),
    /// An endpoint slice is there, or changed.
    EndpointSlice(EndpointSlice),
    /// An endpoint slice is gone.
    EndpointSliceGone(Arc<str>, Arc<str>),
    /// A policy is there, or changed.
    Policy(Box<Policy>),
    /// A policy is gone. In a namespace that is being deleted it stays in force until the last pod is gone.
    PolicyGone(ObjectRef),
}

/// The engine.
#[derive(Debug)]
pub struct Compiler {
    scope: Scope,
    cluster: Cluster,
    /// Deleted, but still with pods; kept in `cluster` until these are gone.
    gone_namespaces: BTreeSet<Arc<str>>,
    populated: Populated,
    policies: Policies,
    endpoints: Endpoints,
    peers: Peers,
    terms: Terms,
    identities: Identities,
    ranges: emit::Ranges,
    tables: Tables,
}

impl Compiler {
    /// An engine that knows nothing yet.
    pub fn new(scope: Scope) -> Self {
        Self {
            scope,
            cluster: Cluster::default(),
            gone_namespaces: BTreeSet::new(),
            populated: Populated::default(),
            policies: Policies::default(),
            endpoints: Endpoints::default(),
            peers: Peers::default(),
            terms: Terms::default(),
            identities: Identities::default(),
            ranges: emit::Ranges::new(),
            tables: Tables::default(),
        }
    }

    /// A compile from nothing.
    pub fn compile(scope: Scope, cluster: &Cluster, policies: impl IntoIterator<Item = Arc<Policy>>) -> Self {
        let mut compiler = Self::new(scope);
        compiler.cluster.clone_from(cluster);
        let mut dirty = compiler.take_in_everything();
        for policy in policies {
            compiler.policies.insert(policy, &mut dirty);
        }
        let mut delta = Delta::default();
        compiler.settle(dirty, &mut delta);
        compiler
    }

    /// Takes in a batch of events, and brings the tables up to date once. What changed is what comes back.
    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) -> Delta {
        let mut dirty = Dirty::default();
        for event in events {
            self.take_in(event, &mut dirty);
        }
        let mut delta = Delta::default();
        self.settle(dirty, &mut delta);
        delta
    }

    fn settle(&mut self, mut dirty: Dirty, delta: &mut Delta) {
        let rule_sets = self.settle_endpoints(&mut dirty, delta);
        self.settle_peers(&dirty, delta);
        self.emit(&rule_sets, delta);
        self.terms.sweep();
    }

    /// The tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The facts, as far as they still count.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The policies in force, those of namespaces being deleted included.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.iter()
    }

    /// One policy in force.
    pub fn policy(&self, object: &ObjectRef) -> Option<&Arc<Policy>> {
        self.policies.get(object)
    }

    /// Policies that were deleted and stay in force, because their namespace is being deleted and still has pods.
    pub fn retained(&self) -> &BTreeSet<ObjectRef> {
        self.policies.retained()
    }

    /// Judges a packet, through the tables and the datapath's own look-up.
    pub fn judge(&self, endpoint: &PodKey, query: &Query) -> Decision {
        judge(&self.tables, endpoint, query)
    }

    /// Judges what is asked over a connection, of whose first packet the query is.
    pub fn judge_request(&self, endpoint: &PodKey, query: &Query, request: &Request<'_>) -> Decision {
        judge_request(&self.tables, &self.tables, endpoint, query, request)
    }

    /// The same facts and policies, with the policies in force that are only audited; `None` if there are none.
    pub fn audited(&self) -> Option<Self> {
        let audited = self.policies().any(|policy| policy.mode == Mode::Audit);
        let enforced = self.policies().map(|policy| Arc::new(policy.enforced()));
        audited.then(|| Self::compile(self.scope.clone(), &self.cluster, enforced))
    }

    /// The rule set of an endpoint's direction; `None` if no policy speaks about it or the endpoint is not known.
    pub fn rule_set(&self, endpoint: &PodKey, direction: Direction) -> Option<&RuleSet> {
        self.rule_set_by_id(self.tables.endpoints.get(endpoint)?.rule_set(direction))
    }

    /// A rule set by its id.
    pub fn rule_set_by_id(&self, id: RuleSetId) -> Option<&RuleSet> {
        self.endpoints.rule_set(id)
    }

    /// Provenance: the rule behind an id.
    pub fn rule(&self, id: RuleId) -> Option<&RankedRule> {
        self.rule_set_by_id(id.rule_set)?.rules().get(id.rank as usize)
    }

    /// The identity of an address.
    pub fn identity(&self, of: IpAddr) -> Identity {
        datapath::lookup::identity(&self.tables, 0, address(of))
    }

    /// Whether an identity is one of those that a peer term of a rule in force means.
    pub fn identity_matches(&self, identity: Identity, term: &PeerTerm) -> bool {
        self.terms
            .find(&Term::Peer(term.clone()))
            .is_some_and(|term| self.identities.terms(identity).binary_search(&term).is_ok())
    }

    /// Whether a rule matches a peer on a port (`None`: a protocol without ports); `None` if there is no such rule.
    pub fn rule_matches(
        &self,
        rule: RuleId,
        peer: Identity,
        port: Option<(Transport, u16)>,
    ) -> Option<RuleMatch> {
        self.rule_set_by_id(rule.rule_set)?.matches(rule.rank, self.identities.terms(peer), port, &self.terms)
    }

    /// The pod that owns an address, if any.
    pub fn owner(&self, of: IpAddr) -> Option<&Arc<Pod>> {
        self.peers.owner(of, &self.cluster).and_then(|key| self.cluster.pods.get(key))
    }

    /// Pods that claim an address which another pod owns.
    pub fn contested(&self) -> BTreeMap<IpAddr, Vec<PodKey>> {
        self.peers.contested(&self.cluster)
    }

    /// How many identities and how many rule sets are in use.
    pub fn in_use(&self) -> (usize, usize) {
        (self.identities.len(), self.tables.rules.len())
    }
}
