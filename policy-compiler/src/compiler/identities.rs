//! Identities in use: sets of terms that hold of some address or prefix, each with a number derived from the terms.

use std::sync::Arc;

use datapath::abi::Identity;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::digest::{digest, number};
use crate::terms::{TermId, Terms};

#[derive(Debug)]
struct State {
    terms: Arc<[TermId]>,
    users: usize,
}

/// All identities that an address or a prefix has.
#[derive(Debug, Default)]
pub(super) struct Identities {
    states: FxHashMap<Identity, State>,
    by_terms: FxHashMap<Arc<[TermId]>, Identity>,
    /// Came into use since [`Identities::changes`] was asked.
    fresh: FxHashSet<Identity>,
    /// Without users; kept until [`Identities::sweep`].
    unused: FxHashSet<Identity>,
}

impl Identities {
    /// The identity of exactly these terms (sorted); one more user has it. No terms: [`Identity::NONE`].
    pub(super) fn acquire(&mut self, of: &[TermId], terms: &mut Terms) -> Identity {
        if of.is_empty() {
            return Identity::NONE;
        }
        if let Some(&identity) = self.by_terms.get(of) {
            if let Some(state) = self.states.get_mut(&identity) {
                state.users += 1;
            }
            self.unused.remove(&identity);
            return identity;
        }
        // Slots are numbered by history; the number must not depend on that.
        let mut digests: Vec<_> = of.iter().map(|&term| terms.digest(term)).collect();
        digests.sort_unstable();
        let content = digest(&digests);
        let free = |identity: &Identity| !identity.is_none() && !self.states.contains_key(identity);
        let identity = (0..=u32::MAX).map(|attempt| Identity::new(number(content, attempt, 64))).find(free);
        let identity = identity.unwrap_or_default();
        let shared: Arc<[TermId]> = of.into();
        for &term in of {
            terms.add_identity(term, identity);
        }
        self.by_terms.insert(Arc::clone(&shared), identity);
        self.states.insert(identity, State { terms: shared, users: 1 });
        self.fresh.insert(identity);
        identity
    }

    /// One user less.
    pub(super) fn release(&mut self, identity: Identity) {
        if let Some(state) = self.states.get_mut(&identity) {
            state.users = state.users.saturating_sub(1);
            if state.users == 0 {
                self.unused.insert(identity);
            }
        }
    }

    /// Identities that came into use, and those that went out of it, since the last call; not those that did both.
    pub(super) fn changes(&mut self) -> (Vec<Identity>, Vec<Identity>) {
        let fresh = std::mem::take(&mut self.fresh);
        let came = fresh.difference(&self.unused).copied().collect();
        let went = self.unused.difference(&fresh).copied().collect();
        (came, went)
    }

    /// Forgets identities without users.
    pub(super) fn sweep(&mut self, terms: &mut Terms) {
        for identity in std::mem::take(&mut self.unused) {
            if let Some(state) = self.states.remove(&identity) {
                self.by_terms.remove(&state.terms);
                for &term in &*state.terms {
                    terms.remove_identity(term, identity);
                }
            }
        }
    }

    /// The terms that hold of an identity; none for [`Identity::NONE`].
    pub(super) fn terms(&self, identity: Identity) -> &[TermId] {
        self.states.get(&identity).map_or(&[], |state| &state.terms)
    }

    /// How many are in use.
    pub(super) fn len(&self) -> usize {
        self.states.len()
    }
}
