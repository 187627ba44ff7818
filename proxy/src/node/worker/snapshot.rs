//! Everything that one connection is judged by, as it was under one generation.
//!
//! Maps are read one after the other while the agent writes them. It never changes what the generation in force reads before the
//! next one is in force: so what was read holds if the generation is the same before and afterwards. What a request asks decides
//! nothing about which rows and lists are read, so all of them are read once, and a request costs no more than a look at whether
//! the generation is still the same.

use std::cell::RefCell;
use std::io;

use datapath::abi::{
    Address, Endpoint, Generation, Halves, Identity, ListId, PortAtom, RuleKey, RuleRow, RuleSetId,
};
use datapath::http::Request;
use datapath::l7::{self, List};
use datapath::lookup::{self, Decision, Lists, Maps};
use datapath::verdict::{Reason, Verdict};
use proxy::log::Ends;
use proxy::policy::Protocols;

use super::ends::{Ask, asks};
use super::lists::{Bytes, Key};
use crate::kernel::tables::Source;

/// How often a reading is begun anew because the generation changed under it.
const TRIES: usize = 8;

/// What a connection may speak if none of its ends has rules about requests any more.
const EVERYTHING: Protocols = Protocols { http1: true, http2: true, tls: true };
const NOTHING: Protocols = Protocols { http1: false, http2: false, tls: false };

/// Why nothing passes a connection, whatever it asks.
#[derive(Debug)]
pub(crate) enum Closed {
    /// The kernel knows no flow between these ends.
    NoFlow,
    /// No end of it is a pod of this node, or the server began it.
    NoEnd,
    /// The generation changed again and again.
    Unsettled,
    /// A map cannot be read.
    Failed(io::Error),
}

/// What a connection is judged by.
#[derive(Debug)]
pub(crate) struct Snapshot {
    generation: Generation,
    asks: Vec<Ask>,
    rows: Rows,
    /// Every list that a row named. `None`: it is missing or corrupt.
    lists: Vec<(Key, Option<Bytes>)>,
    protocols: Protocols,
}

/// What was read of the maps.
#[derive(Debug, Default)]
struct Rows {
    endpoints: Vec<(u32, Option<Halves<Endpoint>>)>,
    addresses: Vec<(Address, Option<Halves<Identity>>)>,
    prefixes: Vec<(Address, Option<Halves<Identity>>)>,
    ports: Vec<(u32, Option<Halves<PortAtom>>)>,
    rules: Vec<(RuleKey, Option<RuleRow>)>,
}

impl Snapshot {
    /// Reads all of it. `load` gives lists, and tells whom it concerns if it cannot.
    pub(crate) fn take<S: Source>(
        source: &S,
        load: impl Fn(Key) -> Option<Bytes>,
        ends: Ends,
    ) -> Result<Self, Closed> {
        for _ in 0..TRIES {
            let generation = source.generation().map_err(Closed::Failed)?;
            let taken = Self::read(source, &load, ends, generation);
            if source.generation().map_err(Closed::Failed)? == generation {
                return taken;
            }
        }
        Err(Closed::Unsettled)
    }

    fn read<S: Source>(
        source: &S,
        load: impl Fn(Key) -> Option<Bytes>,
        ends: Ends,
        generation: Generation,
    ) -> Result<Self, Closed> {
        let asks = asked(source, ends)?;
        let reading = Reading {
            source,
            generation,
            rows: RefCell::default(),
            lists: RefCell::default(),
            failed: RefCell::default(),
        };
        let mut protocols = None;
        for ask in &asks {
            let before = reading.lists.borrow().len();
            // What is answered does not matter: this is how all rows and lists become known.
            let _ = lookup::judge_request(&reading, &reading, &ask.interface, &ask.query, &Request::Opaque);
            let decision = lookup::judge(&reading, &ask.interface, &ask.query);
            for (key, bytes) in reading.lists.borrow_mut().iter_mut().skip(before) {
                *bytes = load(*key);
            }
            if decision.verdict == Verdict::Redirect {
                let spoken = protocols.unwrap_or(NOTHING);
                protocols = Some(reading.lists.borrow()[before..].iter().fold(spoken, spoken_in));
            }
        }
        if let Some(error) = reading.failed.into_inner() {
            return Err(Closed::Failed(error));
        }
        let protocols = protocols.unwrap_or(EVERYTHING);
        let (rows, lists) = (reading.rows.into_inner(), reading.lists.into_inner());
        Ok(Self { generation, asks, rows, lists, protocols })
    }

    /// Whether it is what would be read now: the same ends are asked, and its generation is in force still.
    pub(crate) fn still_holds<S: Source>(&self, source: &S, ends: Ends) -> bool {
        // In this order: who is asked was read under the generation that is looked at afterwards.
        let same = asked(source, ends).is_ok_and(|asks| asks == self.asks);
        same && self.is_complete() && source.generation().is_ok_and(|now| now == self.generation)
    }

    /// The generation that it is of.
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// Who is asked.
    pub(crate) fn asks(&self) -> &[Ask] {
        &self.asks
    }

    /// Whether all lists could be read.
    pub(crate) fn is_complete(&self) -> bool {
        self.lists.iter().all(|(_, bytes)| bytes.is_some())
    }

    /// What may be spoken.
    pub(crate) fn protocols(&self) -> Protocols {
        self.protocols
    }

    /// Whether a rule is about the header of this name.
    pub(crate) fn names_header(&self, name: &[u8]) -> bool {
        let lists = self.lists.iter().filter_map(|(_, bytes)| bytes.as_ref()?.list());
        // A list that cannot say lets no request pass anyway.
        lists.into_iter().any(|list| list.asks_header(name).unwrap_or(true))
    }

    /// Judges a request: the first end that forbids it decides. If all allow it, the last one's rule is told: the server's, which
    /// nobody but its owner gave.
    pub(crate) fn judge(&self, request: &Request<'_>) -> Decision {
        let mut allowed = None;
        for ask in &self.asks {
            let decision = lookup::judge_request(self, self, &ask.interface, &ask.query, request);
            if !decision.verdict.is_allow() {
                return decision;
            }
            allowed = Some(decision);
        }
        allowed.unwrap_or(Decision { verdict: Verdict::Deny, reason: Reason::UnknownEndpoint, rule: None })
    }
}

impl Maps for Snapshot {
    type EndpointKey = u32;

    fn generation(&self) -> Generation {
        self.generation
    }

    fn endpoint(&self, key: &u32) -> Option<Halves<Endpoint>> {
        found(&self.rows.endpoints, key)
    }

    fn address(&self, address: Address) -> Option<Halves<Identity>> {
        found(&self.rows.addresses, &address)
    }

    fn prefix(&self, address: Address) -> Option<Halves<Identity>> {
        found(&self.rows.prefixes, &address)
    }

    fn port(&self, index: u32) -> Option<Halves<PortAtom>> {
        found(&self.rows.ports, &index)
    }

    fn rule(&self, key: &RuleKey) -> Option<RuleRow> {
        found(&self.rows.rules, key)
    }
}

impl Lists for Snapshot {
    fn list(&self, rule_set: RuleSetId, id: ListId) -> Option<List<'_>> {
        let (_, bytes) = self.lists.iter().find(|(key, _)| *key == (rule_set, id))?;
        bytes.as_ref()?.list()
    }
}

/// A snapshot in the making: what is asked for is read, and kept.
struct Reading<'a, S> {
    source: &'a S,
    generation: Generation,
    rows: RefCell<Rows>,
    lists: RefCell<Vec<(Key, Option<Bytes>)>>,
    /// The first failure. The look-up knows none.
    failed: RefCell<Option<io::Error>>,
}

impl<S: Source> Reading<'_, S> {
    fn kept<K: PartialEq, V: Copy>(
        &self,
        place: impl Fn(&mut Rows) -> &mut Vec<(K, Option<V>)>,
        key: K,
        read: impl FnOnce(&S, &K) -> io::Result<Option<V>>,
    ) -> Option<V> {
        let mut rows = self.rows.borrow_mut();
        let kept = place(&mut rows);
        if let Some((_, value)) = kept.iter().find(|(known, _)| *known == key) {
            return *value;
        }
        let value = read(self.source, &key).unwrap_or_else(|error| {
            self.failed.borrow_mut().get_or_insert(error);
            None
        });
        kept.push((key, value));
        value
    }
}

impl<S: Source> Maps for Reading<'_, S> {
    type EndpointKey = u32;

    fn generation(&self) -> Generation {
        self.generation
    }

    fn endpoint(&self, key: &u32) -> Option<Halves<Endpoint>> {
        let read = |source: &S, key: &u32| Ok(source.interface(*key)?.map(|row| row.endpoint));
        self.kept(|rows| &mut rows.endpoints, *key, read)
    }

    fn address(&self, address: Address) -> Option<Halves<Identity>> {
        self.kept(|rows| &mut rows.addresses, address, |source, key| source.address(*key))
    }

    fn prefix(&self, address: Address) -> Option<Halves<Identity>> {
        self.kept(|rows| &mut rows.prefixes, address, |source, key| source.prefix(*key))
    }

    fn port(&self, index: u32) -> Option<Halves<PortAtom>> {
        self.kept(|rows| &mut rows.ports, index, |source, key| source.port(*key))
    }

    fn rule(&self, key: &RuleKey) -> Option<RuleRow> {
        self.kept(|rows| &mut rows.rules, *key, Source::rule)
    }
}

/// Lists are only written down while rows are read.
impl<S> Lists for Reading<'_, S> {
    fn list(&self, rule_set: RuleSetId, id: ListId) -> Option<List<'_>> {
        let mut lists = self.lists.borrow_mut();
        lists.push(((rule_set, id), None));
        None
    }
}

/// Who is asked about a connection, as the kernel's flow of it has it.
fn asked<S: Source>(source: &S, Ends { client, server }: Ends) -> Result<Vec<Ask>, Closed> {
    let flow = source.flow(client, server).map_err(Closed::Failed)?;
    let (flow, side) = flow.ok_or(Closed::NoFlow)?;
    let asks = asks(source, &flow, side, client, server).map_err(Closed::Failed)?;
    if asks.is_empty() { Err(Closed::NoEnd) } else { Ok(asks) }
}

fn found<K: PartialEq, V: Copy>(kept: &[(K, Option<V>)], key: &K) -> Option<V> {
    kept.iter().find(|(known, _)| known == key)?.1
}

fn spoken_in(spoken: Protocols, (_, bytes): &(Key, Option<Bytes>)) -> Protocols {
    // A connection of which some rules are not known may still say something, and is told that it is denied.
    let Some(list) = bytes.as_ref().and_then(Bytes::list) else { return EVERYTHING };
    let word = list.protocols().unwrap_or(l7::HTTP | l7::TLS);
    let (http, tls) = (word & l7::HTTP != 0, word & l7::TLS != 0);
    Protocols { http1: spoken.http1 || http, http2: spoken.http2 || http, tls: spoken.tls || tls }
}

#[cfg(test)]
pub(crate) mod tests;
