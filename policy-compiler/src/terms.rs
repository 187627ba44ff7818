//! Peer terms in use: each is known once, however many rules name it.

use std::collections::BTreeSet;
use std::sync::Arc;

use datapath::abi::{Identity, RuleSetId, Transport};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::digest::{Digest, digest};
use crate::policy::{PeerTerm, Pods};

/// The slot of a live term. Slots are reused; only digests outlive a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TermId(u32);

/// Something that may hold of a peer and that a rule depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Term {
    /// A peer of a rule matches it.
    Peer(PeerTerm),
    /// It is one of these pods, and there the name of a port stands for this number.
    NamedPort(Pods, NamedPort, Transport, u16),
}

/// A named port as a rule writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NamedPort {
    pub(crate) name: Arc<str>,
    /// The protocol, where the rule fixes it.
    pub(crate) transport: Option<Transport>,
}

#[derive(Debug)]
struct State {
    term: Term,
    digest: Digest,
    rule_sets: BTreeSet<RuleSetId>,
    identities: FxHashSet<Identity>,
}

/// All live terms.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    /// By [`TermId`]. The slot of a term that went out of use keeps its last state until it is reused.
    slots: Vec<State>,
    free: Vec<TermId>,
    ids: FxHashMap<Term, TermId>,
    /// Acquired for the first time since [`Terms::changes`] was asked.
    fresh: BTreeSet<TermId>,
    /// Without users; kept until [`Terms::sweep`], because identities still speak of them.
    unused: BTreeSet<TermId>,
}

impl Terms {
    /// The term's id; the rule set becomes one of its users.
    pub(crate) fn acquire(&mut self, user: RuleSetId, term: Term) -> TermId {
        let id = match self.ids.get(&term) {
            Some(&id) => id,
            None => self.insert(term),
        };
        self.unused.remove(&id);
        self.state_mut(id).rule_sets.insert(user);
        id
    }

    fn insert(&mut self, term: Term) -> TermId {
        let state = State {
            digest: digest(&term),
            term: term.clone(),
            rule_sets: BTreeSet::new(),
            identities: FxHashSet::default(),
        };
        let id = if let Some(id) = self.free.pop() {
            *self.state_mut(id) = state;
            id
        } else {
            self.slots.push(state);
            #[expect(clippy::cast_possible_truncation, reason = "2^32 live terms do not fit into memory")]
            TermId((self.slots.len() - 1) as u32)
        };
        self.ids.insert(term, id);
        self.fresh.insert(id);
        id
    }

    /// The rule set is gone.
    pub(crate) fn release(&mut self, user: RuleSetId, id: TermId) {
        let state = self.state_mut(id);
        state.rule_sets.remove(&user);
        if state.rule_sets.is_empty() {
            self.unused.insert(id);
        }
    }

    /// Terms that came into use, and terms that went out of it, since the last call; not those that did both.
    pub(crate) fn changes(&mut self) -> (Vec<TermId>, Vec<TermId>) {
        let fresh = std::mem::take(&mut self.fresh);
        let came = fresh.difference(&self.unused).copied().collect();
        let went = self.unused.difference(&fresh).copied().collect();
        (came, went)
    }

    /// Forgets terms without users. Nothing may speak of them any more.
    pub(crate) fn sweep(&mut self) {
        for id in std::mem::take(&mut self.unused) {
            self.ids.remove(&self.slots[id.0 as usize].term);
            self.free.push(id);
        }
    }

    pub(crate) fn get(&self, id: TermId) -> &Term {
        &self.state(id).term
    }

    pub(crate) fn find(&self, term: &Term) -> Option<TermId> {
        self.ids.get(term).copied()
    }

    pub(crate) fn digest(&self, id: TermId) -> Digest {
        self.state(id).digest
    }

    pub(crate) fn rule_sets(&self, id: TermId) -> &BTreeSet<RuleSetId> {
        &self.state(id).rule_sets
    }

    pub(crate) fn identities(&self, id: TermId) -> &FxHashSet<Identity> {
        &self.state(id).identities
    }

    pub(crate) fn add_identity(&mut self, id: TermId, identity: Identity) {
        self.state_mut(id).identities.insert(identity);
    }

    pub(crate) fn remove_identity(&mut self, id: TermId, identity: Identity) {
        self.state_mut(id).identities.remove(&identity);
    }

    // Only this file makes ids, each for a slot that is there from then on.
    fn state(&self, id: TermId) -> &State {
        &self.slots[id.0 as usize]
    }

    fn state_mut(&mut self, id: TermId) -> &mut State {
        &mut self.slots[id.0 as usize]
    }
}
