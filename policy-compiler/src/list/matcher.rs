//! From patterns to automata over the bytes of one value.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_automata::{Anchored, Input, MatchKind};
use regex_syntax::hir::Hir;

/// The most states that one expression may need.
pub const MOST_STATES: usize = 4096;
/// The most bytes in which several expressions are made into one automaton, while it is made.
const MOST_BYTES: usize = 4 << 20;
/// The most bytes of an expression's first form, which repetitions multiply.
const MOST_NFA: usize = 1 << 20;

/// Which values match.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Pattern {
    /// All.
    Any,
    /// All but this one.
    AnyBut(Vec<u8>),
    /// Just this one.
    Exact(Vec<u8>),
    /// This path, without a slash at its end, and those beneath it.
    Beneath(Vec<u8>),
    /// Those that begin so and are longer.
    Longer(Vec<u8>),
    /// Those that this expression matches from the first byte to the last.
    Regex(Arc<str>),
}

/// An automaton whose ends are classes.
#[derive(Debug)]
pub(super) struct Matcher {
    /// The first one is where a value begins.
    pub(super) states: Vec<State>,
    /// By class, the patterns that match: indexes into the patterns it was made of, sorted. The first class is of no pattern.
    pub(super) classes: Vec<Vec<u32>>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// The class of a value that ends here.
    pub(super) end: u32,
    /// The class of a value that goes on as no edge does.
    pub(super) fall: u32,
    /// First byte, last byte, state; sorted, disjoint.
    pub(super) edges: Vec<(u8, u8, usize)>,
}

/// Why an expression is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegexProblem {
    /// It is no regular expression.
    Syntax(String),
    /// It needs too many states.
    TooLarge,
}

impl fmt::Display for RegexProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(message) => f.write_str(message),
            Self::TooLarge => write!(f, "it needs an automaton of more than {MOST_STATES} states"),
        }
    }
}

/// How many states an expression needs.
pub fn regex_states(text: &str) -> Result<usize, RegexProblem> {
    let hir = parse(text)?;
    let states = determinized(&[hir]).ok_or(RegexProblem::TooLarge)?.states.len();
    if states > MOST_STATES { Err(RegexProblem::TooLarge) } else { Ok(states) }
}

fn parse(text: &str) -> Result<Hir, RegexProblem> {
    let mut parser = regex_syntax::ParserBuilder::new();
    // Values are bytes; a class of Unicode letters would make thousands of states for what hardly anybody sends.
    let parser = parser.unicode(false).utf8(false).nest_limit(64);
    parser.build().parse(text).map_err(|error| {
        let message = match &error {
            regex_syntax::Error::Parse(error) => error.kind().to_string(),
            regex_syntax::Error::Translate(error) => error.kind().to_string(),
            other => other.to_string(),
        };
        RegexProblem::Syntax(message)
    })
}

/// Automata for these patterns, each with its own: one for all plain ones, and as few as will do for the expressions.
pub(super) fn matchers(patterns: impl IntoIterator<Item = Pattern>) -> Vec<(Matcher, Vec<Pattern>)> {
    let patterns: BTreeSet<Pattern> = patterns.into_iter().collect();
    let (regexes, plain): (Vec<Pattern>, Vec<Pattern>) =
        patterns.into_iter().partition(|pattern| matches!(pattern, Pattern::Regex(_)));
    let mut all = Vec::new();
    if !plain.is_empty() {
        all.push((Trie::of(&plain).matcher(), plain));
    }
    let parsed = regexes.into_iter().filter_map(|pattern| match &pattern {
        Pattern::Regex(text) => parse(text).ok().map(|hir| (pattern, hir)),
        _ => None,
    });
    together(parsed.collect(), &mut all);
    all
}

/// One automaton for all of these, or for each half.
fn together(mut regexes: Vec<(Pattern, Hir)>, all: &mut Vec<(Matcher, Vec<Pattern>)>) {
    if regexes.is_empty() {
        return;
    }
    let hirs: Vec<Hir> = regexes.iter().map(|(_, hir)| hir.clone()).collect();
    if let Some(matcher) = determinized(&hirs) {
        all.push((matcher, regexes.into_iter().map(|(pattern, _)| pattern).collect()));
    } else if regexes.len() > 1 {
        let rest = regexes.split_off(regexes.len() / 2);
        together(regexes, all);
        together(rest, all);
    }
    // A single one that is too large was refused before it came here.
}

/// Numbers sets of patterns.
#[derive(Debug)]
struct Classes {
    known: Vec<Vec<u32>>,
    numbers: HashMap<Vec<u32>, u32>,
}

impl Classes {
    fn new() -> Self {
        Self { known: vec![Vec::new()], numbers: HashMap::from([(Vec::new(), 0)]) }
    }

    fn number(&mut self, set: Vec<u32>) -> u32 {
        if let Some(&number) = self.numbers.get(&set) {
            return number;
        }
        #[expect(clippy::cast_possible_truncation, reason = "2^32 sets do not fit into memory")]
        let number = self.known.len() as u32;
        self.known.push(set.clone());
        self.numbers.insert(set, number);
        number
    }
}

/// The automaton of expressions; `None` if it would be too large.
fn determinized(regexes: &[Hir]) -> Option<Matcher> {
    let nfa = thompson::Compiler::new()
        .configure(
            thompson::Config::new()
                .utf8(false)
                .which_captures(WhichCaptures::None)
                .nfa_size_limit(Some(MOST_NFA)),
        )
        .build_many_from_hir(regexes)
        .ok()?;
    let dfa = dense::Builder::new()
        .configure(
            dense::Config::new()
                .match_kind(MatchKind::All)
                .start_kind(StartKind::Anchored)
                .accelerate(false)
                .dfa_size_limit(Some(MOST_BYTES))
                .determinize_size_limit(Some(MOST_BYTES)),
        )
        .build_from_nfa(&nfa)
        .ok()?;
    let start = dfa.start_state_forward(&Input::new(b"").anchored(Anchored::Yes)).ok()?;
    let mut numbers = HashMap::from([(start, 0)]);
    let mut waiting = vec![start];
    let mut states = vec![State::default()];
    let mut classes = Classes::new();
    while let Some(id) = waiting.pop() {
        let end = dfa.next_eoi_state(id);
        let mut set: Vec<u32> = Vec::new();
        if dfa.is_match_state(end) {
            set.extend((0..dfa.match_len(end)).map(|index| dfa.match_pattern(end, index).as_u32()));
            set.sort_unstable();
        }
        let mut edges: Vec<(u8, u8, usize)> = Vec::new();
        for byte in 0..=u8::MAX {
            let next: StateID = dfa.next_state(id, byte);
            if dfa.is_dead_state(next) || dfa.is_quit_state(next) {
                continue;
            }
            let next = *numbers.entry(next).or_insert_with(|| {
                waiting.push(next);
                states.push(State::default());
                states.len() - 1
            });
            match edges.last_mut() {
                Some((_, last, to)) if *to == next && *last == byte - 1 => *last = byte,
                _ => edges.push((byte, byte, next)),
            }
        }
        if let Some(state) = numbers.get(&id).and_then(|number| states.get_mut(*number)) {
            *state = State { end: classes.number(set), fall: 0, edges };
        }
    }
    Some(Matcher { states, classes: classes.known })
}

/// Plain patterns, byte by byte.
#[derive(Debug, Default)]
struct Trie {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    children: BTreeMap<u8, usize>,
    /// Match values that end here.
    end: Vec<u32>,
    /// Do not, although values that go on from before it do.
    not: Vec<u32>,
    /// Match all values that go on from here.
    on: Vec<u32>,
}

impl Trie {
    fn of(patterns: &[Pattern]) -> Self {
        let mut trie = Self { nodes: vec![Node::default()] };
        for (index, pattern) in (0_u32..).zip(patterns) {
            match pattern {
                Pattern::Any => {
                    trie.at(&[]).end.push(index);
                    trie.at(&[]).on.push(index);
                }
                Pattern::AnyBut(value) => {
                    trie.at(&[]).end.push(index);
                    trie.at(&[]).on.push(index);
                    trie.at(value).not.push(index);
                }
                Pattern::Exact(value) => trie.at(value).end.push(index),
                Pattern::Beneath(path) => {
                    let slash: Vec<u8> = path.iter().copied().chain([b'/']).collect();
                    if !path.is_empty() {
                        trie.at(path).end.push(index);
                    }
                    let beneath = trie.at(&slash);
                    beneath.end.push(index);
                    beneath.on.push(index);
                }
                Pattern::Longer(start) => trie.at(start).on.push(index),
                // Expressions have automata of their own.
                Pattern::Regex(_) => {}
            }
        }
        trie
    }

    fn at(&mut self, value: &[u8]) -> &mut Node {
        let mut here = 0;
        for byte in value {
            let fresh = self.nodes.len();
            let next = *self.nodes[here].children.entry(*byte).or_insert(fresh);
            if next == fresh {
                self.nodes.push(Node::default());
            }
            here = next;
        }
        &mut self.nodes[here]
    }

    fn matcher(&self) -> Matcher {
        let mut classes = Classes::new();
        let mut states = vec![State::default(); self.nodes.len()];
        // Nodes, and what matches all values that go on to them.
        let mut waiting = vec![(0, Arc::new(Vec::new()), 0)];
        while let Some((index, before, class)) = waiting.pop() {
            let node = &self.nodes[index];
            let end = if node.end.is_empty() && node.not.is_empty() {
                class
            } else {
                let all: BTreeSet<u32> = before.iter().chain(&node.end).copied().collect();
                classes.number(all.into_iter().filter(|pattern| !node.not.contains(pattern)).collect())
            };
            let (on, fall) = if node.on.is_empty() {
                (before, class)
            } else {
                let all: BTreeSet<u32> = before.iter().chain(&node.on).copied().collect();
                let all: Vec<u32> = all.into_iter().collect();
                let fall = classes.number(all.clone());
                (Arc::new(all), fall)
            };
            waiting.extend(node.children.values().map(|child| (*child, Arc::clone(&on), fall)));
            let edges = node.children.iter().map(|(byte, child)| (*byte, *byte, *child)).collect();
            states[index] = State { end, fall, edges };
        }
        Matcher { states, classes: classes.known }
    }
}
