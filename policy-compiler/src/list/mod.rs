//! The conditional rules of a row, compiled into one automaton.
//!
//! ```text
//! rules --demand--> conjuncts: what each asks of each question (method, host, path, a header, a server's name)
//!       --matcher--> for each question, an automaton from the bytes of a value to the set of patterns that match
//!       --tree-----> (conjuncts still possible, answer) -> next question, hash-consed; only what can be reached
//!       --bytes----> datapath::l7
//! ```
//!
//! A list can always be built: a matcher or a tree that would be too large is cut in two, which costs each request one more
//! walk and nothing else. What bounds a single expression is [`regex_states`], asked when a policy is lowered.

mod bytes;
mod demand;
mod matcher;
#[cfg(test)]
mod tests;
mod tree;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use datapath::abi::{ListId, Slot};
use datapath::verdict::{Action, TIERS, Tier};

pub use self::matcher::{MOST_STATES, RegexProblem, regex_states};
use crate::asks::Asks;
use crate::digest::{digest, number};

/// A conditional rule as a list has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditional {
    /// Its tier.
    pub tier: Tier,
    /// Its rank in its rule set.
    pub rank: u32,
    /// What it says.
    pub action: Action,
    /// Of what.
    pub asks: Arc<Asks>,
}

/// A list: rules, by rank, and the automaton over them, which is made when somebody asks.
#[derive(Clone, Debug, Default)]
pub struct List {
    rules: Vec<Conditional>,
    bytes: OnceLock<Box<[u8]>>,
}

impl PartialEq for List {
    fn eq(&self, other: &Self) -> bool {
        // The bytes are a function of the rules.
        self.rules == other.rules
    }
}

impl Eq for List {}

impl List {
    /// Of these rules.
    pub fn new(mut rules: Vec<Conditional>) -> Self {
        rules.sort_by_key(|rule| rule.rank);
        Self { rules, bytes: OnceLock::new() }
    }

    /// Its rules, by rank.
    pub fn rules(&self) -> &[Conditional] {
        &self.rules
    }

    /// The automaton, as [`datapath::l7::List`] reads it.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get_or_init(|| build(&self.rules))
    }

    /// The same, for who needs it once: it is made and given away, unless it is there already.
    pub fn to_bytes(&self) -> Cow<'_, [u8]> {
        let known = self.bytes.get().map(|bytes| Cow::Borrowed(&**bytes));
        known.unwrap_or_else(|| Cow::Owned(build(&self.rules).into_vec()))
    }

    /// The best rule of each tier, as packets meet it: what it says is not known.
    pub(crate) fn best(&self) -> [Slot; TIERS] {
        let mut best = [Slot::EMPTY; TIERS];
        for rule in &self.rules {
            // What does not fit is the last rank, as for any rule.
            let slot = Slot::asking(rule.rank.min(Slot::MAX_RANK)).unwrap_or(Slot::EMPTY);
            best[rule.tier as usize] = best[rule.tier as usize].better(slot);
        }
        best
    }
}

fn build(rules: &[Conditional]) -> Box<[u8]> {
    let demands = demand::Demands::of(rules);
    let mut segments = Vec::new();
    tree::grow(&demands, &demands.all(), &mut segments);
    bytes::written(&demands, &segments)
}

/// The lists of one rule set, each known once, with the number of rows that name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    known: BTreeMap<ListId, Listed>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    rows: usize,
    list: Arc<List>,
}

impl Lists {
    /// The name of a list of these ranks, which one more row has. It follows from the ranks alone, but where two lists of one
    /// rule set would get the same (see `docs/decisions/0003-ids-from-content.md`).
    pub(crate) fn acquire(
        &mut self,
        ranks: &[u32],
        make: impl FnOnce() -> Vec<Conditional>,
    ) -> (ListId, [Slot; TIERS]) {
        let content = digest(ranks);
        let is_same = |list: &List| list.rules.iter().map(|rule| rule.rank).eq(ranks.iter().copied());
        let mut ids = (0..=u32::MAX).filter_map(|attempt| {
            ListId::try_from(number(content, attempt, ListId::BITS)).ok().filter(|id| *id != 0)
        });
        let free = |id: &ListId| self.known.get(id).is_none_or(|listed| is_same(&listed.list));
        // There are as many names as attempts: all of them taken would be 2^32 lists in memory.
        let id = ids.find(free).unwrap_or(ListId::MAX);
        let listed =
            self.known.entry(id).or_insert_with(|| Listed { rows: 0, list: Arc::new(List::new(make())) });
        listed.rows += 1;
        (id, listed.list.best())
    }

    /// A row that names this list is gone. 0 is no list.
    pub(crate) fn release(&mut self, id: ListId) {
        if let Some(listed) = self.known.get_mut(&id) {
            listed.rows -= 1;
            if listed.rows == 0 {
                self.known.remove(&id);
            }
        }
    }

    /// A list by its name.
    pub fn get(&self, id: ListId) -> Option<&Arc<List>> {
        self.known.get(&id).map(|listed| &listed.list)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (ListId, &Arc<List>)> {
        self.known.iter().map(|(id, listed)| (*id, &listed.list))
    }
}
