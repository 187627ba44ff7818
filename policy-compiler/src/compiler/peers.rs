//! Which terms hold of each pod, node, prefix and address, and the identities that follow.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use datapath::abi::{Identity, Transport};
use ipnet::IpNet;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::Compiler;
use super::intake::Dirty;
use crate::delta::Delta;
use crate::facts::{Cluster, Node, Pod};
use crate::index::SelectorIndex;
use crate::object::PodKey;
use crate::policy::{Network, PeerTerm, Pods};
use crate::terms::{NamedPort, Term, TermId};

/// The terms that hold of somebody, sorted; few, so that a cluster's worth of them needs no memory of their own.
type Held = SmallVec<[TermId; 4]>;

/// Peers, and the terms that hold of them.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// Terms about pods in use, by the pods they are about.
    pod_terms: SelectorIndex<TermId>,
    node_terms: BTreeSet<TermId>,
    /// By the prefix of the network.
    network_terms: BTreeMap<IpNet, BTreeSet<TermId>>,
    /// What holds of pods with addresses; sorted.
    pods: FxHashMap<PodKey, Held>,
    nodes: FxHashMap<Arc<str>, Held>,
    prefixes: BTreeMap<IpNet, Prefix>,
    addresses: BTreeMap<IpAddr, Claims>,
    /// How many pods there are for which a named port stands for a number.
    named: FxHashMap<NamedPort, BTreeMap<(Transport, u16), usize>>,
}

/// A prefix that some network term names, as its own or as an exception.
#[derive(Debug, Default)]
struct Prefix {
    mentions: usize,
    terms: Vec<TermId>,
    identity: Identity,
}

/// Who claims an address.
#[derive(Debug, Default)]
struct Claims {
    /// Sorted. It is one, but for moments and mistakes.
    claimants: SmallVec<[Claimant; 1]>,
    /// Of the exact entry; [`Identity::NONE`] if it needs none.
    identity: Identity,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claimant {
    Pod(PodKey),
    Node(Arc<str>),
}

impl Peers {
    pub(super) fn claim(&mut self, pod: &Pod, dirty: &mut Dirty) {
        if !pod.owns_addresses() {
            return;
        }
        for &address in &pod.addresses {
            self.set_claim(address, &Claimant::Pod(pod.key.clone()), true);
            dirty.addresses.insert(address);
        }
        for (name, number) in resolved(pod) {
            let numbers = self.named.entry(name.clone()).or_default();
            let count = numbers.entry(number).or_default();
            *count += 1;
            if *count == 1 {
                dirty.named.insert(name);
            }
        }
    }

    pub(super) fn disclaim(&mut self, pod: &Pod, dirty: &mut Dirty) {
        if !pod.owns_addresses() {
            return;
        }
        for address in &pod.addresses {
            self.set_claim(*address, &Claimant::Pod(pod.key.clone()), false);
            dirty.addresses.insert(*address);
        }
        for (name, number) in resolved(pod) {
            let Some(numbers) = self.named.get_mut(&name) else { continue };
            let Some(count) = numbers.get_mut(&number) else { continue };
            *count -= 1;
            if *count == 0 {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.named.remove(&name);
                }
                dirty.named.insert(name);
            }
        }
    }

    pub(super) fn claim_node(&mut self, node: &Node, dirty: &mut Dirty) {
        for &address in &node.addresses {
            self.set_claim(address, &Claimant::Node(Arc::clone(&node.name)), true);
            dirty.addresses.insert(address);
        }
    }

    pub(super) fn disclaim_node(&mut self, node: &Node, dirty: &mut Dirty) {
        for address in &node.addresses {
            self.set_claim(*address, &Claimant::Node(Arc::clone(&node.name)), false);
            dirty.addresses.insert(*address);
        }
    }

    /// An address that nobody claims any more is let go when it is settled.
    fn set_claim(&mut self, address: IpAddr, claimant: &Claimant, add: bool) {
        if add {
            set(&mut self.addresses.entry(address).or_default().claimants, claimant, true);
        } else if let Some(claims) = self.addresses.get_mut(&address) {
            set(&mut claims.claimants, claimant, false);
        }
    }

    /// The numbers that a named port stands for on some pod.
    pub(super) fn numbers(&self, named: &NamedPort) -> BTreeSet<(Transport, u16)> {
        self.named.get(named).into_iter().flat_map(BTreeMap::keys).copied().collect()
    }

    pub(super) fn owner<'a>(&'a self, address: IpAddr, cluster: &Cluster) -> Option<&'a PodKey> {
        self.addresses.get(&address).and_then(|claims| claims.owner(cluster))
    }

    pub(super) fn contested(&self, cluster: &Cluster) -> BTreeMap<IpAddr, Vec<PodKey>> {
        let losers = |claims: &Claims| {
            let owner = claims.owner(cluster).cloned();
            claims.pods().filter(|key| Some(*key) != owner.as_ref()).cloned().collect()
        };
        let contested = self.addresses.iter().filter(|(_, claims)| claims.pods().count() > 1);
        contested.map(|(address, claims)| (*address, losers(claims))).collect()
    }

    /// The addresses and prefixes that a prefix covers.
    fn addresses_in(&self, prefix: &IpNet) -> impl Iterator<Item = IpAddr> {
        self.addresses.range(prefix.network()..=prefix.broadcast()).map(|(address, _)| *address)
    }

    fn prefixes_in(&self, prefix: &IpNet) -> Vec<IpNet> {
        let outer = *prefix;
        let within = self.prefixes.range(outer..).map(|(prefix, _)| *prefix);
        within
            .take_while(|prefix| prefix.network() <= outer.broadcast())
            .filter(|of| outer.contains(of))
            .collect()
    }

    fn mention(&mut self, network: &Network) {
        for prefix in std::iter::once(&network.cidr).chain(&network.except) {
            self.prefixes.entry(*prefix).or_default().mentions += 1;
        }
    }

    /// The network terms that hold of addresses in a prefix (and in no longer one that is known).
    fn network_terms_of(&self, prefix: &IpNet, holds: impl Fn(TermId) -> bool) -> Vec<TermId> {
        let covering = (0..=prefix.prefix_len()).filter_map(|length| {
            let outer = IpNet::new(prefix.network(), length).ok()?.trunc();
            self.network_terms.get(&outer)
        });
        let mut terms: Vec<TermId> = covering.flatten().copied().filter(|&term| holds(term)).collect();
        terms.sort_unstable();
        terms
    }
}

impl Claims {
    fn pods(&self) -> impl Iterator<Item = &PodKey> {
        self.claimants.iter().filter_map(|claimant| match claimant {
            Claimant::Pod(key) => Some(key),
            Claimant::Node(_) => None,
        })
    }

    fn nodes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.claimants.iter().filter_map(|claimant| match claimant {
            Claimant::Node(name) => Some(name),
            Claimant::Pod(_) => None,
        })
    }

    fn owner(&self, cluster: &Cluster) -> Option<&PodKey> {
        if self.claimants.len() < 2 {
            return self.pods().next();
        }
        let pod = |key: &PodKey| cluster.pods.get(key);
        self.pods().max_by(|a, b| match (pod(a), pod(b)) {
            (Some(a), Some(b)) => a.claim().cmp(&b.claim()),
            (a, b) => a.is_some().cmp(&b.is_some()),
        })
    }
}

/// What each named port a rule could write stands for on a pod.
fn resolved(pod: &Pod) -> BTreeMap<NamedPort, (Transport, u16)> {
    let mut all = BTreeMap::new();
    for port in &pod.ports {
        for transport in [None, Some(port.transport)] {
            let name = NamedPort { name: Arc::clone(&port.name), transport };
            all.entry(name).or_insert((port.transport, port.port));
        }
    }
    all
}

/// Whether a network leaves out a prefix. Exceptions are sorted, and there can be very many.
fn excepts(network: &Network, prefix: &IpNet) -> bool {
    (network.cidr.prefix_len()..=prefix.prefix_len()).any(|length| {
        let outer = IpNet::new(prefix.network(), length).map(|outer| outer.trunc());
        outer.is_ok_and(|outer| network.except.binary_search(&outer).is_ok())
    })
}

/// Adds to or removes from a sorted list; whether it was not there, or was.
fn set<A: smallvec::Array<Item: Ord + Clone>>(list: &mut SmallVec<A>, item: &A::Item, add: bool) -> bool {
    match (list.binary_search(item), add) {
        (Err(index), true) => {
            list.insert(index, item.clone());
            true
        }
        (Ok(index), false) => {
            list.remove(index);
            true
        }
        _ => false,
    }
}

impl Compiler {
    /// Brings terms and identities of all peers up to date.
    pub(super) fn settle_peers(&mut self, dirty: &Dirty, delta: &mut Delta) {
        let mut addresses = dirty.addresses.clone();
        let mut networks = BTreeSet::new();
        let (came, went) = self.terms.changes();
        for term in went {
            self.toggle_term(term, false, dirty, &mut addresses, &mut networks);
        }
        for term in came {
            self.toggle_term(term, true, dirty, &mut addresses, &mut networks);
        }
        let mut prefixes = BTreeSet::new();
        for network in &networks {
            prefixes.extend(self.peers.prefixes_in(network));
            addresses.extend(self.peers.addresses_in(network));
        }
        for key in &dirty.pods {
            if self.settle_pod(key) {
                addresses.extend(
                    self.cluster.pods.get(key).into_iter().flat_map(|pod| pod.addresses.iter().copied()),
                );
            }
        }
        for name in &dirty.nodes {
            self.settle_node(name);
        }
        for prefix in prefixes {
            self.settle_prefix(prefix, delta);
        }
        for address in addresses {
            self.settle_address(address, delta);
        }
    }

    /// A term came into use or went out of it.
    fn toggle_term(
        &mut self,
        id: TermId,
        add: bool,
        dirty: &Dirty,
        addresses: &mut BTreeSet<IpAddr>,
        networks: &mut BTreeSet<IpNet>,
    ) {
        match self.terms.get(id).clone() {
            Term::Peer(PeerTerm::Pods(pods)) => self.toggle_pods(id, &pods, |_| true, add, dirty, addresses),
            Term::NamedPort(pods, named, transport, port) => {
                let has = |pod: &Pod| pod.named_port(&named.name, named.transport) == Some((transport, port));
                self.toggle_pods(id, &pods, has, add, dirty, addresses);
            }
            Term::Peer(PeerTerm::Nodes(selector)) => {
                if add {
                    self.peers.node_terms.insert(id);
                } else {
                    self.peers.node_terms.remove(&id);
                }
                for node in self.cluster.nodes.values().filter(|node| selector.matches(&node.labels)) {
                    if set(self.peers.nodes.entry(Arc::clone(&node.name)).or_default(), &id, add) {
                        addresses.extend(&node.addresses);
                    }
                }
            }
            Term::Peer(PeerTerm::Network(network)) => {
                self.toggle_network(id, &network, add);
                networks.insert(network.cidr);
            }
            // Matches nobody until names can be followed.
            Term::Peer(PeerTerm::Domain(_)) => {}
        }
    }

    fn toggle_pods(
        &mut self,
        id: TermId,
        pods: &Pods,
        holds: impl Fn(&Pod) -> bool,
        add: bool,
        dirty: &Dirty,
        addresses: &mut BTreeSet<IpAddr>,
    ) {
        if add {
            self.peers.pod_terms.insert(pods, &id);
        } else {
            self.peers.pod_terms.remove(pods, &id);
        }
        for pod in self.pods_in_namespaces(&pods.namespaces) {
            // A dirty pod is matched against all terms later.
            if pod.owns_addresses()
                && pods.pods.matches(&pod.labels)
                && holds(&pod)
                && !dirty.pods.contains(&pod.key)
                && set(self.peers.pods.entry(pod.key.clone()).or_default(), &id, add)
            {
                addresses.extend(&pod.addresses);
            }
        }
    }

    fn toggle_network(&mut self, id: TermId, network: &Network, add: bool) {
        if add {
            self.peers.network_terms.entry(network.cidr).or_default().insert(id);
            self.peers.mention(network);
        } else {
            if let Some(terms) = self.peers.network_terms.get_mut(&network.cidr) {
                terms.remove(&id);
                if terms.is_empty() {
                    self.peers.network_terms.remove(&network.cidr);
                }
            }
            for prefix in std::iter::once(&network.cidr).chain(&network.except) {
                if let Some(known) = self.peers.prefixes.get_mut(prefix) {
                    known.mentions -= 1;
                }
            }
        }
    }

    /// Matches a pod against all terms; whether what holds of it changed.
    fn settle_pod(&mut self, key: &PodKey) -> bool {
        let mut terms = Held::new();
        if let Some(pod) = self.cluster.pods.get(key).filter(|pod| pod.owns_addresses()) {
            let namespace = self.cluster.namespace_labels(&key.namespace);
            self.peers.pod_terms.matching(&key.namespace, &namespace, &pod.labels, |&term| {
                let holds = match self.terms.get(term) {
                    Term::NamedPort(_, named, transport, port) => {
                        pod.named_port(&named.name, named.transport) == Some((*transport, *port))
                    }
                    Term::Peer(_) => true,
                };
                if holds {
                    terms.push(term);
                }
            });
            terms.sort_unstable();
        }
        let before = if terms.is_empty() {
            self.peers.pods.remove(key)
        } else {
            self.peers.pods.insert(key.clone(), terms.clone())
        };
        before.unwrap_or_default() != terms
    }

    fn settle_node(&mut self, name: &Arc<str>) {
        let Some(node) = self.cluster.nodes.get(name) else {
            self.peers.nodes.remove(name);
            return;
        };
        let holds = |id: &&TermId| match self.terms.get(**id) {
            Term::Peer(PeerTerm::Nodes(selector)) => selector.matches(&node.labels),
            _ => false,
        };
        let terms = self.peers.node_terms.iter().filter(holds).copied().collect();
        self.peers.nodes.insert(Arc::clone(name), terms);
    }

    fn settle_prefix(&mut self, prefix: IpNet, delta: &mut Delta) {
        let Some(known) = self.peers.prefixes.get(&prefix) else { return };
        let before = known.identity;
        let gone = known.mentions == 0;
        let after = if gone {
            self.peers.prefixes.remove(&prefix);
            None
        } else {
            let terms = self.peers.network_terms_of(&prefix, |term| match self.terms.get(term) {
                Term::Peer(PeerTerm::Network(network)) => !excepts(network, &prefix),
                _ => false,
            });
            let identity = self.identities.acquire(&terms, &mut self.terms);
            if let Some(known) = self.peers.prefixes.get_mut(&prefix) {
                known.terms = terms;
                known.identity = identity;
            }
            Some(identity)
        };
        self.identities.release(before);
        let stood = self.tables.prefixes.set(prefix, after);
        if stood != after {
            delta.prefixes.entry(prefix).or_insert(stood);
        }
    }

    fn settle_address(&mut self, address: IpAddr, delta: &mut Delta) {
        let Some(claims) = self.peers.addresses.get(&address) else { return };
        let before = claims.identity;
        let mut terms: Vec<TermId> = Vec::new();
        if let Some(owner) = claims.owner(&self.cluster) {
            terms.extend(self.peers.pods.get(owner).into_iter().flatten());
        }
        for node in claims.nodes() {
            terms.extend(self.peers.nodes.get(node).into_iter().flatten());
        }
        // What only networks say stands in the prefixes.
        if !terms.is_empty()
            && let Some((prefix, _)) = self.tables.prefixes.longest(address, u8::MAX)
            && let Some(prefix) = self.peers.prefixes.get(&prefix)
        {
            terms.extend(&prefix.terms);
        }
        terms.sort_unstable();
        terms.dedup();
        let unclaimed = claims.claimants.is_empty();
        let after = self.identities.acquire(&terms, &mut self.terms);
        self.identities.release(before);
        if unclaimed {
            self.peers.addresses.remove(&address);
        } else if let Some(claims) = self.peers.addresses.get_mut(&address) {
            claims.identity = after;
        }
        if before == after {
            return;
        }
        let stood = match after {
            Identity::NONE => self.tables.addresses.remove(&address),
            _ => self.tables.addresses.insert(address, after),
        };
        delta.addresses.entry(address).or_insert(stood);
    }
}
