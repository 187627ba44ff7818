//! Which ends can be drawn as one: those that connect to everyone else in the same way.
//!
//! A picture of thirty workloads that all may talk to each other has 435 lines and tells nothing; the same picture with
//! one box for all of them tells it at a glance.

use std::collections::BTreeMap;

use policy_compiler::connectivity::PortSet;

use super::view::{End, View};

/// Ends of one namespace that are drawn as one, and the connections between such.
pub(super) struct Picture<'a> {
    pub(super) groups: Vec<Group<'a>>,
    pub(super) edges: Vec<Edge<'a>>,
}

pub(super) struct Group<'a> {
    /// `None` if they are outside.
    pub(super) namespace: Option<&'a str>,
    pub(super) members: Vec<&'a End>,
    /// What they may do at each other; of a single one, at itself.
    pub(super) within: Option<&'a PortSet>,
}

pub(super) struct Edge<'a> {
    pub(super) src: usize,
    pub(super) dst: usize,
    /// The other way round just the same is allowed.
    pub(super) both: bool,
    pub(super) ports: &'a PortSet,
}

/// By the other end: what goes there, and what comes from there.
type Ties<'a> = BTreeMap<&'a End, [Option<&'a PortSet>; 2]>;

impl<'a> Picture<'a> {
    pub(super) fn of(view: &'a View) -> Self {
        let mut ties: BTreeMap<&End, Ties<'_>> = BTreeMap::new();
        for row in &view.rows {
            ties.entry(&row.src).or_default().entry(&row.dst).or_default()[0] = Some(&row.allow);
            ties.entry(&row.dst).or_default().entry(&row.src).or_default()[1] = Some(&row.allow);
        }
        let mut groups: Vec<Group<'_>> = Vec::new();
        for (end, own) in &ties {
            let namespace = end.workload.as_ref().map(|workload| &*workload.namespace);
            let mut of_namespace = groups.iter_mut().filter(|group| group.namespace == namespace);
            let twins = of_namespace.find(|group| {
                ties.get(group.members[0]).is_some_and(|of| alike(group.members[0], of, end, own))
            });
            match twins {
                Some(group) => group.members.push(end),
                None => groups.push(Group { namespace, members: vec![end], within: None }),
            }
        }
        for group in &mut groups {
            let other = group.members.get(1).unwrap_or(&group.members[0]);
            group.within = ties.get(group.members[0]).and_then(|ties| ties.get(other)).and_then(|tie| tie[0]);
        }
        let edges = edges(&groups, &ties);
        Self { groups, edges }
    }
}

/// Whether two ends are tied alike to all others, and to each other both ways.
fn alike(a: &End, of_a: &Ties<'_>, b: &End, of_b: &Ties<'_>) -> bool {
    let others = |ties: &Ties<'_>| ties.iter().filter(|(end, _)| **end != a && **end != b).count();
    let between = of_a.get(b).copied().unwrap_or_default();
    between[0] == between[1]
        && others(of_a) == others(of_b)
        && of_a
            .iter()
            .filter(|(end, _)| **end != a && **end != b)
            .all(|(end, tie)| of_b.get(end) == Some(tie))
}

fn edges<'a>(groups: &[Group<'a>], ties: &BTreeMap<&'a End, Ties<'a>>) -> Vec<Edge<'a>> {
    let mut edges = Vec::new();
    for (src, from) in groups.iter().enumerate() {
        let Some(ties) = ties.get(from.members[0]) else { continue };
        for (dst, to) in groups.iter().enumerate().filter(|(dst, _)| *dst != src) {
            let Some([Some(ports), back]) = ties.get(to.members[0]).copied() else { continue };
            let both = back == Some(ports);
            if !both || src < dst {
                edges.push(Edge { src, dst, both, ports });
            }
        }
    }
    edges
}
