//! TLS without its keys: the name that a client asks for in its first message is judged, a second hello has to name the same
//! (`again`), and the rest is a tunnel.
//!
//! What is read is passed on as it came, so it is read as a server reads it (RFC 8446, section 4; RFC 6066, section 3), and
//! what a server might read in two ways is refused: a second name, a second list of names, lengths that do not add up.

mod again;

use std::future::{Future, poll_fn};
use std::io;
use std::task::{Poll, ready};

use tokio::time::Instant;

use crate::connection::Connection;
use crate::fault::Fault;
use crate::http1::host::append_name;
use crate::leg::{Leg, Stream};
use crate::limits::Limits;
use crate::log::{Outcome, Protocol, Record};
use crate::policy::{RuleId, Verdict};
use crate::tunnel::tunnel;

use again::Opening;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE_RECORD: u8 = 22;
const DATA: u8 = 23;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// The most that a record can carry in plain text.
const MOST_IN_RECORD: usize = 1 << 14;

/// What a client's first message says of the server it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// In lower case; `None` if the client names none.
    pub name: Option<Vec<u8>>,
    /// How many octets of what was received it took.
    pub octets: usize,
}

/// Reads a `ClientHello` at the beginning of a connection; `None` if more is needed.
pub fn hello(received: &[u8], limits: &Limits) -> Result<Option<Hello>, Fault> {
    let Some((message, octets)) = handshake(received, limits)? else { return Ok(None) };
    let mut message = Octets(&message);
    let (kind, length) = (message.octet()?, message.number(3)?);
    if kind != CLIENT_HELLO || length != message.0.len() {
        return Err(Fault::TLS);
    }
    // Version, random, session, cipher suites, compression methods.
    message.take(2 + 32)?;
    for size in [1, 2, 1] {
        message.vector(size)?;
    }
    // A ClientHello may end here (RFC 5246, section 7.4.1.2).
    if message.0.is_empty() {
        return Ok(Some(Hello { name: None, octets }));
    }
    let mut extensions = Octets(message.vector(2)?);
    message.end()?;
    let mut name = None;
    let mut named = false;
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let extension = extensions.vector(2)?;
        if kind == usize::from(SERVER_NAME) {
            if std::mem::replace(&mut named, true) {
                return Err(Fault::TLS);
            }
            name = Some(server_name(extension)?);
        }
    }
    Ok(Some(Hello { name, octets }))
}

/// The first handshake message, put together from its records, and how long these are; `None` if more is needed.
fn handshake(received: &[u8], limits: &Limits) -> Result<Option<(Vec<u8>, usize)>, Fault> {
    let mut message = Vec::new();
    let mut records = received;
    loop {
        // Refused as soon as it is seen, and not once the rest has come.
        if records.first().is_some_and(|&kind| kind != HANDSHAKE_RECORD)
            || records.get(1).is_some_and(|&major| major != 3)
        {
            return Err(Fault::TLS);
        }
        let room = limits.client_hello;
        let mut record = Octets(records);
        let header = record.take(3).and_then(|_| record.number(2));
        let Ok(length) = header else { return more(received, room) };
        if length == 0 || length > MOST_IN_RECORD {
            return Err(Fault::TLS);
        }
        let part = &record.0[..length.min(record.0.len())];
        message.extend_from_slice(part);
        if let [kind, a, b, c, ..] = message[..] {
            let whole = 4 + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c));
            if kind != CLIENT_HELLO || whole > room {
                return Err(Fault::TLS);
            }
            if message.len() > whole {
                // Behind a ClientHello a client waits for its answer, at least within a record.
                return Err(Fault::TLS);
            }
            if message.len() == whole && part.len() == length {
                return Ok(Some((message, received.len() - record.0.len() + length)));
            }
        }
        if part.len() < length {
            return more(received, room);
        }
        records = &record.0[length..];
    }
}

fn more<T>(received: &[u8], room: usize) -> Result<Option<T>, Fault> {
    if received.len() >= room { Err(Fault::TLS) } else { Ok(None) }
}

/// The one host name of a list of server names, in lower case.
fn server_name(extension: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut extension = Octets(extension);
    let mut list = Octets(extension.vector(2)?);
    extension.end()?;
    let (kind, name) = (list.octet()?, list.vector(2)?);
    list.end()?;
    let mut canonical = Vec::with_capacity(name.len());
    // RFC 6066 has no dot at the end, and one in the list would make two names of one.
    if kind != HOST_NAME || name.ends_with(b".") {
        return Err(Fault::TLS);
    }
    append_name(name, &mut canonical).map_err(|_| Fault::TLS)?;
    Ok(canonical)
}

/// Octets that are read from the front.
struct Octets<'a>(&'a [u8]);

impl<'a> Octets<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Fault::TLS)?;
        self.0 = rest;
        Ok(taken)
    }

    fn octet(&mut self) -> Result<u8, Fault> {
        self.take(1).map(|taken| taken[0])
    }

    /// A number of at most three octets.
    fn number(&mut self, size: usize) -> Result<usize, Fault> {
        Ok(self.take(size)?.iter().fold(0, |number, &octet| number << 8 | usize::from(octet)))
    }

    /// What a length of so many octets stands before.
    fn vector(&mut self, size: usize) -> Result<&'a [u8], Fault> {
        let length = self.number(size)?;
        self.take(length)
    }

    fn end(&self) -> Result<(), Fault> {
        if self.0.is_empty() { Ok(()) } else { Err(Fault::TLS) }
    }
}

impl<C, U, F> Connection<'_, C, F>
where
    C: Stream,
    U: Stream,
    F: Future<Output = io::Result<U>> + Send,
{
    /// Serves a client that speaks TLS: there is no way to tell it why, so a refusal is the connection's end.
    pub(crate) async fn serve_tls(mut self) {
        let hello = match self.hello().await {
            Ok(Some(hello)) => hello,
            Ok(None) => return,
            Err(fault) => return self.proxy.refuse(self.ends, Protocol::Tls, self.policy, fault, None),
        };
        let name = hello.name.as_deref();
        let begin = Instant::now();
        let generation = self.policy.generation();
        let outcome = match self.policy.judge_name(name) {
            Verdict::Deny { rule, .. } => Outcome::Denied(rule),
            Verdict::Allow { rule } => self.pass_tls(&hello, rule, generation).await,
        };
        self.proxy.tell(&Record {
            ends: self.ends,
            protocol: Protocol::Tls,
            method: b"",
            host: name.unwrap_or_default(),
            path: b"",
            status: None,
            outcome,
            generation,
            duration: begin.elapsed(),
        });
        if !matches!(outcome, Outcome::Allowed(_)) {
            self.client.reset();
        }
    }

    async fn hello(&mut self) -> Result<Option<Hello>, Fault> {
        let Connection { client, timer, proxy, .. } = self;
        poll_fn(|context| {
            loop {
                if let Some(hello) = hello(&client.input, &proxy.limits)? {
                    return Poll::Ready(Ok(Some(hello)));
                }
                match client.poll_fill(context) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Fault::TRUNCATED)),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => return timer.poll(context).map(|()| Err(Fault::HEAD_SLOW)),
                }
            }
        })
        .await
    }

    async fn pass_tls(&mut self, hello: &Hello, rule: RuleId, mut judged: u64) -> Outcome {
        let mut upstream: Leg<U> = match self.open().await {
            Ok(upstream) => upstream,
            Err(fault) => return Outcome::Failed(rule, fault),
        };
        let policy = self.policy;
        let mut allowed = || {
            let generation = policy.generation();
            let same = std::mem::replace(&mut judged, generation) == generation;
            same || matches!(policy.judge_name(hello.name.as_deref()), Verdict::Allow { .. })
        };
        if let Err(outcome) = self.pass_opening((hello, rule), &mut upstream, &mut allowed).await {
            return outcome;
        }
        tunnel(&mut self.client, &mut upstream, &self.proxy.limits, &mut self.timer, allowed)
            .await
            .outcome(rule)
    }

    /// Passes the handshake on as far as names may come in it. An error is how the connection came out, if it goes no further.
    async fn pass_opening(
        &mut self,
        (hello, rule): (&Hello, RuleId),
        upstream: &mut Leg<U>,
        allowed: &mut (impl FnMut() -> bool + Send),
    ) -> Result<(), Outcome> {
        let Connection { client, timer, proxy, .. } = self;
        let limits = &proxy.limits;
        let mut opening = Opening::new(hello.octets);
        let begin = Instant::now();
        timer.set(begin, limits.review_time);
        poll_fn(|context| {
            loop {
                if !allowed() {
                    return Poll::Ready(Err(Outcome::Withdrawn(rule)));
                }
                if let Poll::Ready(done) = opening.poll(hello, (client, upstream), limits, context) {
                    return Poll::Ready(done.map_err(|fault| match fault {
                        Fault::TLS => Outcome::Refused(fault),
                        _ => Outcome::Failed(rule, fault),
                    }));
                }
                ready!(timer.poll(context));
                let now = Instant::now();
                if now - begin >= limits.stall_time {
                    return Poll::Ready(Err(Outcome::Failed(rule, Fault::STALLED)));
                }
                timer.set(now, limits.review_time);
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(size: usize, octets: &[u8]) -> Vec<u8> {
        let length = octets.len().to_be_bytes();
        [&length[length.len() - size..], octets].concat()
    }

    fn extension(kind: u16, octets: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector(2, octets)].concat()
    }

    fn names(names: &[&str]) -> Vec<u8> {
        let list: Vec<u8> =
            names.iter().flat_map(|name| [vec![HOST_NAME], vector(2, name.as_bytes())].concat()).collect();
        extension(SERVER_NAME, &vector(2, &list))
    }

    fn message(extensions: &[u8]) -> Vec<u8> {
        let body = [
            &[3, 3][..],
            &[7; 32],
            &vector(1, &[8; 32]),
            &vector(2, &[0x13, 1]),
            &vector(1, &[0]),
            extensions,
        ];
        [&[CLIENT_HELLO][..], &vector(3, &body.concat())].concat()
    }

    /// In records of at most so many octets.
    fn records(message: &[u8], most: usize) -> Vec<u8> {
        message
            .chunks(most)
            .flat_map(|part| [&[HANDSHAKE_RECORD, 3, 1][..], &vector(2, part)].concat())
            .collect()
    }

    fn read(extensions: &[u8]) -> Result<Option<Hello>, Fault> {
        hello(&records(&message(&vector(2, extensions)), MOST_IN_RECORD), &Limits::default())
    }

    fn name(read: Result<Option<Hello>, Fault>) -> Option<Vec<u8>> {
        read.unwrap().expect("all of it is there").name
    }

    #[test]
    fn the_name_is_found_among_extensions() {
        let other = extension(16, &vector(2, b"\x02h2"));
        let all = [other.clone(), names(&["Good.Example"]), other.clone()].concat();
        assert_eq!(name(read(&all)).as_deref(), Some(&b"good.example"[..]));
        assert_eq!(name(read(&other)), None);
        assert_eq!(name(hello(&records(&message(&[]), 9999), &Limits::default())), None);
    }

    #[test]
    fn what_could_be_two_names_is_refused() {
        for extensions in [
            names(&["good.example", "evil.example"]),
            [names(&["good.example"]), names(&["evil.example"])].concat(),
            names(&["good.example."]),
            names(&["good.example\0.evil"]),
            names(&[""]),
            names(&[]),
            extension(SERVER_NAME, &[]),
            extension(SERVER_NAME, &vector(2, &[&[1][..], &vector(2, b"good.example")].concat())),
            extension(SERVER_NAME, &[vector(2, &[&[0][..], &vector(2, b"a")].concat()), vec![0]].concat()),
        ] {
            assert_eq!(read(&extensions), Err(Fault::TLS), "{}", extensions.escape_ascii());
        }
    }

    #[test]
    fn records_and_segments_make_no_difference() {
        let message = message(&vector(2, &names(&["good.example"])));
        for most in 1..=message.len() {
            let records = records(&message, most);
            let found = Hello { name: Some(b"good.example".to_vec()), octets: records.len() };
            assert_eq!(hello(&records, &Limits::default()), Ok(Some(found.clone())), "records of {most}");
            // What comes behind it is not of it, whatever it is.
            let more = [&records[..], &[20, 3, 3, 0, 1, 1]].concat();
            assert_eq!(hello(&more, &Limits::default()), Ok(Some(found)), "records of {most}");
            for end in 0..records.len() {
                assert_eq!(
                    hello(&records[..end], &Limits::default()),
                    Ok(None),
                    "records of {most}, {end} octets"
                );
            }
        }
    }

    #[test]
    fn what_is_no_hello_is_refused_at_once() {
        let good = records(&message(&vector(2, &names(&["good.example"]))), MOST_IN_RECORD);
        let refused = |received: &[u8]| hello(received, &Limits::default()) == Err(Fault::TLS);
        assert!(refused(&[23]));
        assert!(refused(&[22, 2]));
        assert!(refused(&[22, 3, 1, 0, 0]), "an empty record");
        assert!(refused(&[22, 3, 1, 0x40, 1]), "a record too long");
        assert!(refused(&[22, 3, 1, 0, 4, 2, 0, 0, 1]), "a ServerHello");
        assert!(refused(&[22, 3, 1, 0, 4, 1, 1, 0, 0]), "a message too long");
        // A length that is one too small or too large, wherever it is: no name comes of it but the true one.
        for at in 0..good.len() {
            for value in [good[at].wrapping_add(1), good[at].wrapping_sub(1)] {
                let mut bent = good.clone();
                bent[at] = value;
                if let Ok(Some(hello)) = hello(&bent, &Limits::default()) {
                    let name = hello.name.unwrap_or_default();
                    assert!(name.is_empty() || name.len() == "good.example".len(), "at {at}: {name:?}");
                }
            }
        }
    }

    #[test]
    fn a_hello_without_end_is_refused() {
        let limits = Limits::default();
        let message = message(&vector(2, &vec![0; limits.client_hello]));
        assert_eq!(hello(&records(&message, 1), &limits), Err(Fault::TLS));
        let mut tiny = Vec::new();
        for octet in [1, 0, 0x3f, 0xff].into_iter().chain(std::iter::repeat(0)) {
            tiny.extend_from_slice(&[22, 3, 1, 0, 1, octet]);
            match hello(&tiny, &limits) {
                Ok(None) => assert!(tiny.len() < limits.client_hello),
                other => return assert_eq!(other, Err(Fault::TLS)),
            }
        }
    }
}
