//! Which policies select each local endpoint, and the rule sets that follow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datapath::abi::{Direction, Endpoint, RuleSetId};
use rustc_hash::FxHashMap;

use super::intake::{Dirty, Selecting};
use super::{Compiler, Scope};
use crate::delta::Delta;
use crate::digest::{Digest, number};
use crate::facts::Pod;
use crate::object::PodKey;
use crate::policy::{Namespaces, Pods};
use crate::rule_set::{Recipe, RuleSet};
use crate::terms::{NamedPort, Terms};

/// The rule sets in use.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    rule_sets: FxHashMap<RuleSetId, InUse>,
    ids: FxHashMap<Digest, RuleSetId>,
    /// Egress rule sets by the named ports in them: what these stand for is part of the rule set.
    by_named: FxHashMap<NamedPort, BTreeSet<RuleSetId>>,
}

#[derive(Debug)]
struct InUse {
    set: RuleSet,
    recipe: Recipe,
    users: BTreeSet<PodKey>,
}

/// Rule sets that came into use and that went out of it.
#[derive(Debug, Default)]
pub(super) struct RuleSetChanges {
    pub(super) came: BTreeSet<RuleSetId>,
    pub(super) went: Vec<RuleSet>,
}

impl Endpoints {
    pub(super) fn rule_set(&self, id: RuleSetId) -> Option<&RuleSet> {
        self.rule_sets.get(&id).map(|in_use| &in_use.set)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = RuleSetId> {
        self.rule_sets.keys().copied()
    }

    fn acquire(
        &mut self,
        recipe: Recipe,
        user: &PodKey,
        terms: &mut Terms,
        came: &mut BTreeSet<RuleSetId>,
    ) -> RuleSetId {
        let content = recipe.digest();
        let known = self.ids.get(&content).copied();
        let id = known.unwrap_or_else(|| {
            let free =
                |id: &RuleSetId| !id.is_none() && *id != RuleSetId::HOLD && !self.rule_sets.contains_key(id);
            let numbers =
                (0..=u32::MAX).map(|attempt| RuleSetId::new(number(content, attempt, RuleSetId::BITS)));
            let id = numbers.into_iter().find(free).unwrap_or(RuleSetId::HOLD);
            self.ids.insert(content, id);
            came.insert(id);
            if recipe.direction == Direction::Egress {
                for named in recipe.named.keys() {
                    self.by_named.entry(named.clone()).or_default().insert(id);
                }
            }
            let set = RuleSet::new(id, &recipe, terms);
            self.rule_sets.insert(id, InUse { set, recipe, users: BTreeSet::new() });
            id
        });
        if let Some(in_use) = self.rule_sets.get_mut(&id) {
            in_use.users.insert(user.clone());
        }
        id
    }

    /// Gives up a rule set if it has no user.
    fn drop_unused(&mut self, id: RuleSetId, terms: &mut Terms, changes: &mut RuleSetChanges) {
        if self.rule_sets.get(&id).is_none_or(|in_use| !in_use.users.is_empty()) {
            return;
        }
        let Some(in_use) = self.rule_sets.remove(&id) else { return };
        self.ids.remove(&in_use.recipe.digest());
        for named in in_use.recipe.named.keys() {
            if let Some(ids) = self.by_named.get_mut(named) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_named.remove(named);
                }
            }
        }
        for &term in in_use.set.acquired() {
            terms.release(id, term);
        }
        if !changes.came.remove(&id) {
            changes.went.push(in_use.set);
        }
    }
}

impl Compiler {
    /// Brings endpoints and rule sets up to date.
    pub(super) fn settle_endpoints(&mut self, dirty: &mut Dirty, delta: &mut Delta) -> RuleSetChanges {
        let mut again = dirty.pods.clone();
        for subject in std::mem::take(&mut dirty.subjects) {
            again.extend(self.endpoints_of(&subject));
        }
        for named in &dirty.named {
            for id in self.endpoints.by_named.get(named).into_iter().flatten() {
                if let Some(in_use) = self.endpoints.rule_sets.get(id) {
                    again.extend(in_use.users.iter().cloned());
                }
            }
        }
        let mut changes = RuleSetChanges::default();
        let mut released = BTreeSet::new();
        for key in again {
            self.settle_endpoint(&key, &mut changes, &mut released, delta);
        }
        for id in released {
            self.endpoints.drop_unused(id, &mut self.terms, &mut changes);
        }
        changes
    }

    fn settle_endpoint(
        &mut self,
        key: &PodKey,
        changes: &mut RuleSetChanges,
        released: &mut BTreeSet<RuleSetId>,
        delta: &mut Delta,
    ) {
        let before = self.tables.endpoints.get(key).copied();
        let pod = self.cluster.pods.get(key).filter(|pod| self.is_local(pod)).map(Arc::clone);
        let after = pod.map(|pod| {
            let recipes = self.recipes(&pod);
            let [ingress, egress] = recipes.map(|recipe| match recipe {
                Some(recipe) => self.endpoints.acquire(recipe, key, &mut self.terms, &mut changes.came),
                None => RuleSetId::NONE,
            });
            Endpoint::new(ingress, egress)
        });
        if before == after {
            return;
        }
        let id = |endpoint: Option<Endpoint>, direction| {
            endpoint.map_or(RuleSetId::NONE, |of| of.rule_set(direction))
        };
        for direction in Direction::ALL {
            let old = id(before, direction);
            if old != id(after, direction)
                && let Some(in_use) = self.endpoints.rule_sets.get_mut(&old)
            {
                in_use.users.remove(key);
                released.insert(old);
            }
        }
        match after {
            Some(endpoint) => self.tables.endpoints.insert(key.clone(), endpoint),
            None => self.tables.endpoints.remove(key),
        };
        delta.endpoints.entry(key.clone()).or_insert(before);
    }

    /// Whether tables are made for a pod.
    fn is_local(&self, pod: &Pod) -> bool {
        let here = match &self.scope {
            Scope::All => true,
            Scope::Node(name) => pod.node.as_ref() == Some(name),
        };
        here && pod.owns_addresses()
    }

    /// The endpoints that these labels select now. (Those whose labels changed are looked at anyway.)
    fn endpoints_of(&self, subject: &Pods) -> Vec<PodKey> {
        let matches = |key: &&PodKey| {
            self.cluster.pods.get(*key).is_some_and(|pod| {
                subject.pods.matches(&pod.labels) && subject.namespaces.matches(&key.namespace, &self.cluster)
            })
        };
        match &subject.namespaces {
            Namespaces::Named(name) => {
                let keys = self.tables.endpoints.range(PodKey::new(name, "")..).map(|(key, _)| key);
                keys.take_while(|key| key.namespace == *name).filter(matches).cloned().collect()
            }
            Namespaces::Matching(_) => self.tables.endpoints.keys().filter(matches).cloned().collect(),
        }
    }

    /// By direction, what the rule set of a pod is made of; `None` if no policy speaks about it.
    fn recipes(&self, pod: &Pod) -> [Option<Recipe>; 2] {
        let selecting = self.policies.selecting(pod, &self.cluster.namespace_labels(&pod.key.namespace));
        Direction::ALL.map(|direction| self.recipe(pod, direction, &selecting))
    }

    fn recipe(&self, pod: &Pod, direction: Direction, selecting: &[Selecting<'_>]) -> Option<Recipe> {
        let index = direction as usize;
        let mut recipe = Recipe { direction, policies: Vec::new(), named: BTreeMap::new() };
        for of in selecting {
            let Some(digest) = of.says[index] else { continue };
            recipe.policies.push((Arc::clone(of.policy), digest));
            for named in &of.named[index] {
                let numbers = match direction {
                    Direction::Ingress => pod.named_port(&named.name, named.transport).into_iter().collect(),
                    Direction::Egress => self.peers.numbers(named),
                };
                recipe.named.insert(named.clone(), numbers);
            }
        }
        (!recipe.policies.is_empty()).then_some(recipe)
    }
}
