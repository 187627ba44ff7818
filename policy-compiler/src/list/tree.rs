//! Which question comes next, and what an answer leaves: the tree of a list, its equal parts made one.

use std::collections::{BTreeMap, HashMap};

use datapath::abi::Slot;
use datapath::l7::{Kind, answer};
use datapath::verdict::TIERS;

use super::demand::{Conjunct, Demands, Question};

/// The most nodes of a tree, and the most edges.
const MOST: (usize, usize) = (1 << 16, 1 << 20);

/// A tree, by the numbers of its nodes.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) nodes: Vec<Node>,
    /// For HTTP, and for TLS.
    pub(super) roots: [usize; 2],
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    Leaf([Slot; TIERS]),
    Ask {
        question: u32,
        /// By [`answer`]; sorted.
        edges: Vec<(u32, usize)>,
        otherwise: usize,
        /// Behind the last value of a header.
        then: usize,
    },
}

/// What is left of the conjuncts at some question. Each number is that of a conjunct, doubled, and one more if a value that
/// was seen already meets its demand: one value is enough for a rule that closes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Left {
    question: u32,
    /// Whether a value of the header was seen.
    seen: bool,
    set: Vec<u32>,
}

/// A tree of these conjuncts; of each half, if it would be too large.
pub(super) fn grow(demands: &Demands, conjuncts: &[u32], segments: &mut Vec<Segment>) {
    let mut tree =
        Tree { demands, classes: classes(demands), nodes: Vec::new(), known: HashMap::new(), edges: 0 };
    if let Some(roots) = tree.roots(conjuncts) {
        segments.push(Segment { nodes: tree.nodes, roots });
    } else if let Some((first, second)) = conjuncts.split_at_checked(conjuncts.len().div_ceil(2))
        && !second.is_empty()
    {
        grow(demands, first, segments);
        grow(demands, second, segments);
    }
    // A tree of one conjunct is a line, which no list is too small for.
}

/// By question and pattern, the classes that the pattern is in.
fn classes(demands: &Demands) -> Vec<Vec<Vec<u32>>> {
    let of = |question: &Question| {
        let mut by_pattern: Vec<Vec<u32>> = Vec::new();
        for (class, patterns) in (0_u32..).zip(&question.matcher.classes) {
            for &pattern in patterns {
                let pattern = pattern as usize;
                if by_pattern.len() <= pattern {
                    by_pattern.resize(pattern + 1, Vec::new());
                }
                by_pattern[pattern].push(class);
            }
        }
        by_pattern
    };
    demands.questions.iter().map(of).collect()
}

struct Tree<'a> {
    demands: &'a Demands,
    classes: Vec<Vec<Vec<u32>>>,
    nodes: Vec<Node>,
    known: HashMap<Left, usize>,
    edges: usize,
}

impl Tree<'_> {
    /// The roots for HTTP and for TLS; `None` if the tree is too large.
    fn roots(&mut self, conjuncts: &[u32]) -> Option<[usize; 2]> {
        let [http, tls] = [false, true].map(|tls| {
            let of = conjuncts.iter().filter(|number| self.conjunct(**number << 1).tls == tls);
            of.map(|number| number << 1).collect::<Vec<u32>>()
        });
        let mut waiting = Vec::new();
        let roots = [self.node(&http, 0, &mut waiting), self.node(&tls, 0, &mut waiting)];
        while let Some((number, left)) = waiting.pop() {
            let node = self.expanded(&left, &mut waiting);
            self.nodes[number] = node;
            if self.nodes.len() > MOST.0 || self.edges > MOST.1 {
                return None;
            }
        }
        Some(roots)
    }

    fn conjunct(&self, member: u32) -> &Conjunct {
        &self.demands.conjuncts[(member >> 1) as usize]
    }

    /// The node of what is left, from a question on.
    fn node(&mut self, set: &[u32], from: u32, waiting: &mut Vec<(usize, Left)>) -> usize {
        let set = self.pruned(set, from);
        let next = set.iter().filter_map(|&member| {
            self.conjunct(member).demands.range(from..).next().map(|(question, _)| *question)
        });
        // All that ask nothing more lead to the same leaf.
        let question = next.min().unwrap_or(u32::MAX);
        self.known_as(Left { question, seen: false, set }, waiting)
    }

    fn known_as(&mut self, left: Left, waiting: &mut Vec<(usize, Left)>) -> usize {
        if let Some(&number) = self.known.get(&left) {
            return number;
        }
        let number = self.nodes.len();
        self.nodes.push(Node::Leaf([Slot::EMPTY; TIERS]));
        self.known.insert(left.clone(), number);
        waiting.push((number, left));
        number
    }

    /// Without those that one before them in their tier makes idle: it demands nothing more.
    fn pruned(&self, set: &[u32], from: u32) -> Vec<u32> {
        let mut sure = [false; TIERS];
        let mut kept = Vec::with_capacity(set.len());
        for &member in set {
            let conjunct = self.conjunct(member);
            if sure[conjunct.tier] {
                continue;
            }
            kept.push(member & !1);
            sure[conjunct.tier] = conjunct.demands.range(from..).next().is_none();
        }
        kept
    }

    fn expanded(&mut self, left: &Left, waiting: &mut Vec<(usize, Left)>) -> Node {
        let Some(asked) = self.demands.questions.get(left.question as usize) else {
            let mut best = [Slot::EMPTY; TIERS];
            for &member in &left.set {
                let conjunct = self.conjunct(member);
                best[conjunct.tier] = best[conjunct.tier].better(conjunct.slot);
            }
            return Node::Leaf(best);
        };
        if asked.kind == Kind::Header { self.header(left, waiting) } else { self.plain(left, waiting) }
    }

    /// By class, the members of the set whose demand it meets.
    fn met(&self, left: &Left) -> BTreeMap<u32, Vec<u32>> {
        let by_pattern = &self.classes[left.question as usize];
        let mut met: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for &member in &left.set {
            for pattern in self.conjunct(member).demands.get(&left.question).into_iter().flatten() {
                for &class in by_pattern.get(*pattern as usize).into_iter().flatten() {
                    met.entry(class).or_default().push(member);
                }
            }
        }
        for members in met.values_mut() {
            members.sort_unstable();
            members.dedup();
        }
        met
    }

    fn demands(&self, member: u32, question: u32) -> bool {
        self.conjunct(member).demands.contains_key(&question)
    }

    fn plain(&mut self, left: &Left, waiting: &mut Vec<(usize, Left)>) -> Node {
        let from = left.question + 1;
        let is_free = |member: &u32| !self.demands(*member, left.question);
        let free: Vec<u32> = left.set.iter().copied().filter(is_free).collect();
        let met = self.met(left);
        let otherwise = self.node(&free, from, waiting);
        let mut edges = Vec::with_capacity(met.len());
        for (class, members) in met {
            let mut set = members;
            set.extend(&free);
            set.sort_unstable();
            edges.push((answer(class, false), self.node(&set, from, waiting)));
        }
        self.edges += edges.len();
        Node::Ask { question: left.question, edges, otherwise, then: otherwise }
    }

    fn header(&mut self, left: &Left, waiting: &mut Vec<(usize, Left)>) -> Node {
        let question = left.question;
        let asked = |tree: &Self, member: u32| (tree.demands(member, question), tree.conjunct(member).opens);
        // What a value leaves, by the members whose demand it meets.
        let after = |tree: &Self, met: &[u32], odd: bool| -> Vec<u32> {
            let keep = |&member: &u32| match (asked(tree, member), met.binary_search(&member).is_ok()) {
                ((false, _), _) | ((true, false), false) => Some(member),
                // With `_` for `-` it may be another header to the server: not enough for a rule that lets through.
                ((true, true), met) => (met && !odd).then_some(member),
                ((true, false), true) => Some(member | 1),
            };
            left.set.iter().filter_map(keep).collect()
        };
        let met = self.met(left);
        let mut next = |tree: &mut Self, set| tree.known_as(Left { question, seen: true, set }, waiting);
        let set = after(self, &[], false);
        let otherwise = next(self, set);
        let mut edges = Vec::with_capacity(met.len() * 2);
        for (class, members) in &met {
            for odd in [false, true] {
                let set = after(self, members, odd);
                edges.push((answer(*class, odd), next(self, set)));
            }
        }
        self.edges += edges.len();
        let meets = |member: &u32| match asked(self, *member) {
            (false, _) => true,
            (true, true) => left.seen,
            (true, false) => member & 1 == 1,
        };
        let set: Vec<u32> = left.set.iter().copied().filter(meets).collect();
        let then = self.node(&set, question + 1, waiting);
        Node::Ask { question, edges, otherwise, then }
    }
}
