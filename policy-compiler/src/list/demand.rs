//! From rules to conjuncts: what each demands of the answer to each question.

use std::collections::BTreeMap;
use std::sync::Arc;

use datapath::abi::Slot;
use datapath::l7::Kind;

use super::Conditional;
use super::matcher::{self, Matcher, Pattern};
use crate::asks::{Asks, HttpMatch, NamePattern, PathPattern, ValuePattern, opens};

/// A question, and the automaton that puts the answers to it into classes.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) kind: Kind,
    /// The header's name; empty for other kinds.
    pub(super) name: Arc<str>,
    pub(super) matcher: Matcher,
}

/// One alternative of a rule: it matches if each of its demands is met.
#[derive(Debug)]
pub(super) struct Conjunct {
    pub(super) tier: usize,
    pub(super) slot: Slot,
    /// Whether the rule lets through; see [`crate::asks::opens`].
    pub(super) opens: bool,
    /// Whether requests in TLS are meant, or such in HTTP.
    pub(super) tls: bool,
    /// By question, the patterns of which one must match; sorted.
    pub(super) demands: BTreeMap<u32, Vec<u32>>,
}

/// All that a list demands.
#[derive(Debug)]
pub(super) struct Demands {
    pub(super) questions: Vec<Question>,
    /// By rank.
    pub(super) conjuncts: Vec<Conjunct>,
    /// Whether some rule is about HTTP, and whether some is about TLS.
    pub(super) protocols: (bool, bool),
}

/// A conjunct before its questions have numbers.
struct Draft {
    conjunct: Conjunct,
    asks: Vec<(Kind, Arc<str>, Vec<Pattern>)>,
}

/// Where each pattern of a question went: the number of the question, and its own in the question's matcher.
type Places = BTreeMap<(Kind, Arc<str>, Pattern), (u32, u32)>;

impl Draft {
    /// With numbers for questions and patterns; `None` if it can match nothing.
    ///
    /// Lowering refuses expressions that cannot be compiled. Should one come another way, it has no place here: then a rule that
    /// lets through matches nothing for it, and one that does not matches whatever it is.
    fn placed(self, places: &Places) -> Option<Conjunct> {
        let Self { mut conjunct, asks } = self;
        for (kind, name, patterns) in asks {
            let of = patterns.len();
            let found = patterns
                .into_iter()
                .filter_map(|pattern| places.get(&(kind, Arc::clone(&name), pattern)).copied());
            let found: Vec<(u32, u32)> = found.collect();
            if found.is_empty() && conjunct.opens {
                return None;
            }
            if found.len() < of && !conjunct.opens {
                continue;
            }
            for (question, index) in found {
                conjunct.demands.entry(question).or_default().push(index);
            }
        }
        conjunct.demands.values_mut().for_each(|patterns| {
            patterns.sort_unstable();
            patterns.dedup();
        });
        Some(conjunct)
    }
}

impl Demands {
    pub(super) fn of(rules: &[Conditional]) -> Self {
        let drafts: Vec<Draft> = rules.iter().flat_map(drafts).collect();
        let mut asked: BTreeMap<(Kind, Arc<str>), Vec<Pattern>> = BTreeMap::new();
        for (kind, name, patterns) in drafts.iter().flat_map(|draft| &draft.asks) {
            asked.entry((*kind, Arc::clone(name))).or_default().extend(patterns.iter().cloned());
        }
        let mut questions = Vec::new();
        // By question as it is asked, where each pattern went.
        let mut places = Places::new();
        for ((kind, name), patterns) in asked {
            for (matcher, of) in matcher::matchers(patterns) {
                #[expect(clippy::cast_possible_truncation, reason = "2^32 questions do not fit into memory")]
                let number = questions.len() as u32;
                for (index, pattern) in (0..).zip(of) {
                    places.insert((kind, Arc::clone(&name), pattern), (number, index));
                }
                questions.push(Question { kind, name: Arc::clone(&name), matcher });
            }
        }
        let conjuncts = drafts.into_iter().filter_map(|draft| draft.placed(&places));
        let mut conjuncts: Vec<Conjunct> = conjuncts.collect();
        conjuncts.sort_by_key(|conjunct| conjunct.slot);
        let about = |tls: bool| {
            rules.iter().any(|rule| match *rule.asks {
                Asks::Http(_) => !tls,
                Asks::Tls(_) => tls,
            })
        };
        Self { questions, conjuncts, protocols: (about(false), about(true)) }
    }

    /// The numbers of all conjuncts.
    pub(super) fn all(&self) -> Vec<u32> {
        (0..).zip(&self.conjuncts).map(|(number, _)| number).collect()
    }
}

fn drafts(rule: &Conditional) -> Vec<Draft> {
    let opens = opens(rule.action);
    let conjunct = |tls| Conjunct {
        tier: rule.tier as usize,
        slot: crate::rule_set::slot(rule.rank, rule.action),
        opens,
        tls,
        demands: BTreeMap::new(),
    };
    match &*rule.asks {
        Asks::Http(any) => {
            let mut drafts: Vec<Draft> =
                any.iter().map(|http| Draft { conjunct: conjunct(false), asks: asks(http, opens) }).collect();
            if !opens && !any.is_empty() {
                // What is asked inside of TLS cannot be seen. A rule that closes takes it for what it closes.
                drafts.push(Draft { conjunct: conjunct(true), asks: Vec::new() });
            }
            drafts
        }
        Asks::Tls(names) if names.is_empty() => Vec::new(),
        Asks::Tls(names) => {
            let names = names.iter().map(reversed).collect();
            vec![Draft { conjunct: conjunct(true), asks: vec![(Kind::ServerName, "".into(), names)] }]
        }
    }
}

/// What a kind of request asks.
fn asks(http: &HttpMatch, opens: bool) -> Vec<(Kind, Arc<str>, Vec<Pattern>)> {
    let bytes = |text: &str| text.as_bytes().to_vec();
    let mut asks = Vec::new();
    if http.http2 {
        asks.push((Kind::Version, "".into(), vec![Pattern::Exact(b"HTTP/2".to_vec())]));
    }
    if !http.methods.is_empty() {
        let methods = http.methods.iter().map(|method| Pattern::Exact(bytes(method)));
        asks.push((Kind::Method, "".into(), methods.collect()));
    } else if opens {
        asks.push((Kind::Method, "".into(), vec![Pattern::AnyBut(b"CONNECT".to_vec())]));
    }
    if !http.hosts.is_empty() {
        asks.push((Kind::Host, "".into(), http.hosts.iter().map(reversed).collect()));
    }
    if let Some(path) = &http.path {
        let pattern = match path {
            PathPattern::Exact(path) => Pattern::Exact(bytes(path)),
            PathPattern::Prefix(path) => Pattern::Beneath(bytes(path.trim_end_matches('/'))),
            PathPattern::Regex(regex) => Pattern::Regex(Arc::clone(regex)),
        };
        asks.push((Kind::Path, "".into(), vec![pattern]));
    }
    for header in &http.headers {
        let pattern = match &header.value {
            ValuePattern::Present => Pattern::Any,
            ValuePattern::Equal(value) => Pattern::Exact(bytes(value)),
            ValuePattern::Regex(regex) => Pattern::Regex(Arc::clone(regex)),
        };
        asks.push((Kind::Header, Arc::clone(&header.name), vec![pattern]));
    }
    asks
}

/// A name as it is read from its end.
fn reversed(name: &NamePattern) -> Pattern {
    match name {
        NamePattern::Exact(name) => Pattern::Exact(name.bytes().rev().collect()),
        NamePattern::Under(name) => Pattern::Longer(name.bytes().rev().chain([b'.']).collect()),
    }
}
