//! From whatever the kernel holds to the tables it is to hold: what an older agent, a plan that was broken off, or
//! somebody's hand left.
//!
//! The steps are those of any plan; three things are different.
//! - The half that is not in force can say anything, and a generation may have been raised a moment ago. So the plan
//!   waits, before it touches that half, until no packet is left that reads it.
//! - A row of the rule map that differs from what its key means, that is missing, or that is there although its key
//!   means none, is damage if a pointer leads to it. It is repaired in place and first: what packets met there was no
//!   policy, old or new. The generation is raised then in any case, so that flows that were judged by such a row are
//!   judged again.
//! - A pointer by which no packet is moved costs no raising of the generation.

use datapath::abi::{Direction, Identity, PortKey, RuleKey, RuleSetId};
use rustc_hash::FxHashSet;

use super::Step;
use super::pointers::Pointers;
use crate::image::difference::{Difference, Found};
use crate::image::{Image, is_asked_for};
use crate::tables::Tables;

/// How to come from what the kernel holds to what it is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Adoption {
    /// The writes; none if the kernel holds just what it is to hold.
    pub steps: Vec<Step>,
    /// What was not as it is to be.
    pub found: Found,
}

/// Plans the change from what the kernel holds.
///
/// Until the generation is raised each packet is judged by the half that was in force, from then on by `new`, as with
/// [`plan`](super::plan); and if it is not raised, nothing changes for any packet. Only a damaged rule map is mended
/// before that, row by row (see the [module](self)). In the end the kernel holds exactly `new`, at rest.
pub fn plan_from(image: &Image, new: &Tables) -> Adoption {
    let differences = image.differences(new);
    let found = Found::of(&differences);
    let mut pointers = Pointers::new(image.generation());
    for difference in &differences {
        match difference {
            Difference::Endpoint(pointer) => pointers.endpoint(pointer),
            Difference::Address(pointer) => pointers.address(pointer),
            Difference::Prefix(pointer) => {
                let inherited = [image.inherited(&pointer.key), new.prefixes.inherited(&pointer.key)];
                pointers.prefix(pointer, inherited);
            }
            Difference::Ports(pointer) => pointers.ports(pointer),
            Difference::Rule { .. } => {}
        }
    }
    let Rows { repaired, mut unreachable } = rows(&differences, new);
    let mut rest = pointers.steps(!repaired.is_empty());
    rest.append(&mut unreachable);
    let mut steps = repaired;
    if !rest.is_empty() {
        steps.push(Step::Quiesce);
    }
    steps.append(&mut rest);
    Adoption { steps, found }
}

/// The writes to the rule map.
struct Rows {
    /// Those without which packets would be judged by something else than `new`.
    repaired: Vec<Step>,
    /// Removals of rows that `new` does not lead to.
    unreachable: Vec<Step>,
}

fn rows(differences: &[Difference], new: &Tables) -> Rows {
    let mut rows = Rows { repaired: Vec::new(), unreachable: Vec::new() };
    let reach = Reach::of(new);
    for difference in differences {
        match difference {
            Difference::Rule { key, wanted: Some(row), .. } => rows.repaired.push(Step::AddRule(*key, *row)),
            Difference::Rule { key, wanted: None, .. } if reach.contains(key, new) => {
                rows.repaired.push(Step::RemoveRule(*key));
            }
            Difference::Rule { key, wanted: None, .. } => rows.unreachable.push(Step::RemoveRule(*key)),
            _ => {}
        }
    }
    rows
}

/// What the pointers of some tables lead to.
///
/// A row is a function of its key, so tables have every row that is reachable in them: one that they lack and that is
/// reachable nevertheless says what no policy ever said.
struct Reach {
    rule_sets: FxHashSet<RuleSetId>,
    identities: FxHashSet<Identity>,
}

impl Reach {
    fn of(tables: &Tables) -> Self {
        let endpoints = tables.endpoints.values();
        let prefixes = tables.prefixes.iter().map(|(_, identity)| *identity);
        Self {
            rule_sets: endpoints
                .flat_map(|endpoint| Direction::ALL.map(|of| endpoint.rule_set(of)))
                .collect(),
            identities: tables.addresses.values().copied().chain(prefixes).collect(),
        }
    }

    fn contains(&self, key: &RuleKey, tables: &Tables) -> bool {
        let peer = key.identity();
        let ports = match key.ports() {
            // The ports of a row for an identity are the rule set's own classes, which are the same in all tables.
            PortKey::Port(transport, atom) if peer.is_none() => {
                atom == 0 || tables.ports[transport as usize].contains_key(&atom)
            }
            _ => true,
        };
        ports
            && self.rule_sets.contains(&key.rule_set())
            && (peer.is_none() || self.identities.contains(&peer))
            && is_asked_for(key)
    }
}
