//! A list as [`datapath::l7`] reads it.

use datapath::l7::{HEADER, HTTP, LEAF, MAGIC, QUESTION, TLS};

use super::demand::Demands;
use super::matcher::State;
use super::tree::{Node, Segment};

/// The bytes of a list.
pub(super) fn written(demands: &Demands, segments: &[Segment]) -> Box<[u8]> {
    let mut words = Words(vec![0; HEADER]);
    let questions = words.room(demands.questions.len() * QUESTION);
    let roots = words.room(segments.len() * 2);
    for (index, question) in demands.questions.iter().enumerate() {
        let at = questions + index * QUESTION;
        let name = words.text(question.name.as_bytes());
        let matcher = words.states(&question.matcher.states);
        let entry = [question.kind as usize, name, question.name.len(), matcher];
        (at..).zip(entry).for_each(|(at, word)| words.set(at, word));
    }
    for (index, segment) in segments.iter().enumerate() {
        let places = words.nodes(&segment.nodes);
        for (root, number) in segment.roots.iter().enumerate() {
            words.set(roots + index * 2 + root, places[*number]);
        }
    }
    let (http, tls) = demands.protocols;
    words.0[0] = MAGIC;
    words.0[1] = if http { HTTP } else { 0 } | if tls { TLS } else { 0 };
    for (at, word) in [demands.questions.len(), questions, segments.len(), roots].into_iter().enumerate() {
        words.set(2 + at, word);
    }
    words.0.iter().flat_map(|word| word.to_le_bytes()).collect()
}

struct Words(Vec<u32>);

impl Words {
    /// Room for words that are set later; where it begins.
    fn room(&mut self, words: usize) -> usize {
        let at = self.0.len();
        self.0.resize(at + words, 0);
        at
    }

    #[expect(clippy::cast_possible_truncation, reason = "a list of 2^32 words does not fit into memory")]
    fn set(&mut self, at: usize, word: usize) {
        self.0[at] = word as u32;
    }

    /// Text, filled up to whole words.
    fn text(&mut self, text: &[u8]) -> usize {
        let at = self.0.len();
        self.0.extend(text.chunks(4).map(|chunk| {
            let mut word = [0; 4];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            u32::from_le_bytes(word)
        }));
        at
    }

    /// States; where the first one is.
    fn states(&mut self, states: &[State]) -> usize {
        let places: Vec<usize> = states.iter().map(|state| self.room(3 + state.edges.len() * 2)).collect();
        for (state, at) in states.iter().zip(&places) {
            self.0[*at] = state.end;
            self.0[*at + 1] = state.fall;
            self.set(at + 2, state.edges.len());
            for (index, (first, last, next)) in state.edges.iter().enumerate() {
                self.0[at + 3 + index * 2] = u32::from(*first) | u32::from(*last) << 8;
                self.set(at + 4 + index * 2, places[*next]);
            }
        }
        places.first().copied().unwrap_or(0)
    }

    /// Nodes; where each is.
    fn nodes(&mut self, nodes: &[Node]) -> Vec<usize> {
        let size = |node: &Node| match node {
            Node::Leaf(slots) => 1 + slots.len(),
            Node::Ask { edges, .. } => 4 + edges.len() * 2,
        };
        let places: Vec<usize> = nodes.iter().map(|node| self.room(size(node))).collect();
        for (node, &at) in nodes.iter().zip(&places) {
            match node {
                Node::Leaf(slots) => {
                    self.0[at] = LEAF;
                    (at + 1..).zip(slots).for_each(|(at, slot)| self.0[at] = slot.word());
                }
                Node::Ask { question, edges, otherwise, then } => {
                    self.0[at] = *question;
                    self.set(at + 1, places[*otherwise]);
                    self.set(at + 2, places[*then]);
                    self.set(at + 3, edges.len());
                    for (index, (answer, next)) in edges.iter().enumerate() {
                        self.0[at + 4 + index * 2] = *answer;
                        self.set(at + 5 + index * 2, places[*next]);
                    }
                }
            }
        }
        places
    }
}
