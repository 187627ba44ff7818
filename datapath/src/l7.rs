//! The list of a row's conditional rules, as one automaton over what is asked.
//!
//! ```text
//! list      := magic, protocols, questions (number, place), segments (number, place), parts
//! questions := (kind, place of the header's name, its length, place of the matcher's first state) ...
//! segments  := (root for HTTP, root for TLS) ...
//! state     := class at the end, class if no edge fits, number of edges, (first byte | last byte << 8, next state) ...
//! node      := question, next otherwise, next after the last value, number of edges, (answer, next node) ...
//! leaf      := LEAF, a slot for each tier
//! ```
//!
//! A *matcher* is an automaton over the bytes of one value; where it ends it names the *class* of the value: the set of
//! patterns that match it. A *segment* is a tree of nodes that asks question after question; an edge is a class, and a leaf
//! holds the best rule of each tier. So an answer costs the bytes of the head, however many rules there are; there is more than
//! one segment only if one would be too large.
//!
//! All are words of 32 bits, little-endian, so that a list can go from process to process. Whatever the bytes are, an answer
//! comes in bounded time and without a panic: a place outside of the list, or a question that does not come after the one
//! before, makes the list [`Fault::Corrupt`], and its rules closed.

use crate::abi::Slot;
use crate::http::{ClientHello, Head, Request};
use crate::verdict::TIERS;

/// The first word: the format's name and its number.
pub const MAGIC: u32 = u32::from_le_bytes(*b"PL7\x01");
/// In the place of a question: a leaf.
pub const LEAF: u32 = u32::MAX;
/// The class of a value that no pattern matches.
pub const NO_CLASS: u32 = 0;
/// How many words stand before the questions.
pub const HEADER: usize = 6;
/// How many words a question has.
pub const QUESTION: usize = 4;
/// In the word of protocols: some rule is about HTTP.
pub const HTTP: u32 = 1;
/// In the word of protocols: some rule is about TLS.
pub const TLS: u32 = 2;

/// What a question asks for. The numbers are part of the format, and nothing is asked before what has a lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Kind {
    /// [`crate::http::Version::name`].
    Version = 0,
    /// The method.
    Method = 1,
    /// The host, from its last byte to its first.
    Host = 2,
    /// The path.
    Path = 3,
    /// Every value of a header; see [`answer`].
    Header = 4,
    /// The server's name in a `ClientHello`, from its last byte to its first.
    ServerName = 5,
}

impl Kind {
    const fn of(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Version),
            1 => Some(Self::Method),
            2 => Some(Self::Host),
            3 => Some(Self::Path),
            4 => Some(Self::Header),
            5 => Some(Self::ServerName),
            _ => None,
        }
    }
}

/// How an edge of a node names the class of a value. `odd`: the value stands under the header's name with `_` for `-`, which
/// some servers take for the same name.
#[inline]
pub const fn answer(class: u32, odd: bool) -> u32 {
    class << 1 | odd as u32
}

/// A list that says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not in the form of the [module](self).
    Corrupt,
}

/// A list.
#[derive(Clone, Copy, Debug)]
pub struct List<'a>(&'a [u8]);

impl<'a> List<'a> {
    /// Over these bytes, if they begin as a list does.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        let list = Self(bytes);
        let [questions, at, segments, roots] = [list.word(2)?, list.word(3)?, list.word(4)?, list.word(5)?];
        let fits = |number: u32, width: usize, place: u32| {
            let end =
                (number as usize).checked_mul(width).and_then(|words| words.checked_add(place as usize));
            end.is_some_and(|end| end <= bytes.len() / 4)
        };
        if list.word(0)? != MAGIC || !fits(questions, QUESTION, at) || !fits(segments, 2, roots) {
            return Err(Fault::Corrupt);
        }
        Ok(list)
    }

    /// Its bytes.
    pub const fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Which protocols its rules are about: [`HTTP`], [`TLS`] or both.
    pub fn protocols(&self) -> Result<u32, Fault> {
        self.word(1)
    }

    /// Whether a rule in it is about the header of this name, in lower case.
    pub fn asks_header(&self, name: &[u8]) -> Result<bool, Fault> {
        for number in 0..self.word(2)? {
            let question = self.question(number)?;
            if question.kind == Kind::Header && question.name == name {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a rule in it is about the protocol that a request is in.
    pub fn speaks_of(&self, request: &Request<'_>) -> Result<bool, Fault> {
        let protocol = match request {
            Request::Http(_) => HTTP,
            Request::Tls(_) => TLS,
            Request::Opaque => 0,
        };
        Ok(self.word(1)? & protocol != 0)
    }

    /// The best rule of each tier that matches a request.
    pub fn slots(&self, request: &Request<'_>) -> Result<[Slot; TIERS], Fault> {
        let mut best = [Slot::EMPTY; TIERS];
        let root = match request {
            Request::Http(_) => 0,
            Request::Tls(_) => 1,
            Request::Opaque => return Ok(best),
        };
        let (segments, roots) = (self.word(4)?, self.word(5)? as usize);
        for segment in 0..segments as usize {
            let node = self.word(roots + segment * 2 + root)? as usize;
            let leaf = self.leaf(node, request)?;
            for (best, found) in best.iter_mut().zip(leaf) {
                *best = best.better(found);
            }
        }
        Ok(best)
    }

    /// Asks question after question, from a root on.
    fn leaf(&self, mut node: usize, request: &Request<'_>) -> Result<[Slot; TIERS], Fault> {
        // The question that may come next: each is asked once, so that the way ends.
        let mut from = 0;
        loop {
            let question = self.word(node)?;
            if question == LEAF {
                return Ok([self.slot(node + 1)?, self.slot(node + 2)?, self.slot(node + 3)?]);
            }
            if question < from || question >= self.word(2)? {
                return Err(Fault::Corrupt);
            }
            from = question + 1;
            let asks = self.question(question)?;
            node = match (asks.kind, request) {
                (Kind::Header, Request::Http(head)) => self.header(node, question, &asks, head)?,
                (kind, request) => {
                    let class = self.class(asks.matcher, value(kind, request)?, kind)?;
                    self.next(node, answer(class, false))?
                }
            };
        }
    }

    /// Each value of a header leads to a node of the same question; behind the last one stands the next question.
    fn header(
        &self,
        mut node: usize,
        question: u32,
        asks: &Question<'_>,
        head: &Head<'_>,
    ) -> Result<usize, Fault> {
        for (name, value) in head.headers {
            let Some(odd) = names(asks.name, name) else { continue };
            let class = self.class(asks.matcher, value, Kind::Header)?;
            node = self.next(node, answer(class, odd))?;
            if self.word(node)? != question {
                return Err(Fault::Corrupt);
            }
        }
        Ok(self.word(node + 2)? as usize)
    }

    /// Where an answer leads to.
    fn next(&self, node: usize, answer: u32) -> Result<usize, Fault> {
        let edges = node + 4;
        let (mut low, mut high) = (0, self.word(node + 3)? as usize);
        while low < high {
            let middle = low + (high - low) / 2;
            let found = self.word(edges + middle * 2)?;
            if found == answer {
                return Ok(self.word(edges + middle * 2 + 1)? as usize);
            }
            if found < answer {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(self.word(node + 1)? as usize)
    }

    /// The class of a value.
    fn class(&self, matcher: usize, value: &[u8], kind: Kind) -> Result<u32, Fault> {
        let mut state = matcher;
        for index in 0..value.len() {
            // A suffix of a name is a prefix of what is read backwards.
            let index = match kind {
                Kind::Host | Kind::ServerName => value.len() - 1 - index,
                Kind::Version | Kind::Method | Kind::Path | Kind::Header => index,
            };
            let byte = u32::from(*value.get(index).ok_or(Fault::Corrupt)?);
            match self.edge(state, byte)? {
                Some(next) => state = next,
                None => return self.word(state + 1),
            }
        }
        self.word(state)
    }

    /// The edge of a state that a byte fits. Edges are sorted and disjoint.
    fn edge(&self, state: usize, byte: u32) -> Result<Option<usize>, Fault> {
        let edges = state + 3;
        let (mut low, mut high) = (0, self.word(state + 2)? as usize);
        while low < high {
            let middle = low + (high - low) / 2;
            let bounds = self.word(edges + middle * 2)?;
            if byte < bounds & 0xff {
                high = middle;
            } else if byte > bounds >> 8 & 0xff {
                low = middle + 1;
            } else {
                return Ok(Some(self.word(edges + middle * 2 + 1)? as usize));
            }
        }
        Ok(None)
    }

    fn question(&self, number: u32) -> Result<Question<'a>, Fault> {
        let at = self.word(3)? as usize + number as usize * QUESTION;
        let kind = Kind::of(self.word(at)?).ok_or(Fault::Corrupt)?;
        let start = (self.word(at + 1)? as usize).checked_mul(4).ok_or(Fault::Corrupt)?;
        let end = start.checked_add(self.word(at + 2)? as usize).ok_or(Fault::Corrupt)?;
        let name = self.0.get(start..end).ok_or(Fault::Corrupt)?;
        Ok(Question { kind, name, matcher: self.word(at + 3)? as usize })
    }

    fn slot(&self, index: usize) -> Result<Slot, Fault> {
        self.word(index).map(Slot::from_word)
    }

    #[inline]
    fn word(&self, index: usize) -> Result<u32, Fault> {
        let start = index.checked_mul(4).ok_or(Fault::Corrupt)?;
        let end = start.checked_add(4).ok_or(Fault::Corrupt)?;
        match self.0.get(start..end) {
            Some(&[a, b, c, d]) => Ok(u32::from_le_bytes([a, b, c, d])),
            _ => Err(Fault::Corrupt),
        }
    }
}

struct Question<'a> {
    kind: Kind,
    name: &'a [u8],
    matcher: usize,
}

/// The value that a question asks for. A question about HTTP is never asked of TLS, nor the other way round.
fn value<'a>(kind: Kind, request: &Request<'a>) -> Result<&'a [u8], Fault> {
    match (kind, request) {
        (Kind::Version, Request::Http(head)) => Ok(head.protocol.name()),
        (Kind::Method, Request::Http(head)) => Ok(head.method),
        (Kind::Host, Request::Http(head)) => Ok(head.host),
        (Kind::Path, Request::Http(head)) => Ok(head.path),
        (Kind::ServerName, Request::Tls(ClientHello { server_name })) => Ok(server_name),
        _ => Err(Fault::Corrupt),
    }
}

/// Whether a header of a request has the name of a rule (which has no `_`); if so, whether it is spelled with `_` for `-`.
fn names(wanted: &[u8], found: &[u8]) -> Option<bool> {
    if wanted.len() != found.len() {
        return None;
    }
    let mut odd = false;
    for (wanted, found) in wanted.iter().zip(found) {
        match (wanted, found) {
            (b'-', b'_') => odd = true,
            (wanted, found) if wanted == found => {}
            _ => return None,
        }
    }
    Some(odd)
}
