//! A second hello: a server may ask the client for another one (RFC 8446, section 4.1.4), and that comes in the clear, too. Its name
//! has to be the one that was judged: there are servers that take the last one they hear.
//!
//! ```text
//! client ──hello──────────────> server
//!        <────"another one"────        or anything else: no server of our days hears another one then
//!        ──the same name──────>
//! ```

use std::io;
use std::task::{Context, Poll, ready};

use super::{ALERT, CHANGE_CIPHER_SPEC, DATA, HANDSHAKE_RECORD, Hello, MOST_IN_RECORD, hello};
use crate::fault::Fault;
use crate::http1::framing::Body;
use crate::leg::{Leg, Stream};
use crate::limits::Limits;
use crate::relay::poll_pass;

const SERVER_HELLO: u8 = 2;

/// What stands for the random of a `ServerHello` that asks for another hello: the SHA-256 of `HelloRetryRequest`.
const ANOTHER: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// What a record can have beyond its content once that is encrypted (RFC 5246, section 6.2.3).
const EXPANSION: usize = 2048;

/// The part of a handshake in which a name may come in the clear.
#[derive(Debug)]
pub(super) enum Opening {
    /// The hello that was judged is passed on.
    Hello(Body),
    /// What the server says to it is waited for.
    Answer,
    /// It asked for another one. Of what the client sends before it, this is passed on.
    Again(Body),
}

impl Opening {
    /// Of a hello of so many octets.
    pub(super) fn new(octets: usize) -> Self {
        Self::Hello(Body::Length(octets as u64))
    }

    /// Ready when no name can come in the clear any more, or none did that is not `judged`. What fails on the way fails again in
    /// the tunnel that follows.
    pub(super) fn poll<C: Stream, U: Stream>(
        &mut self,
        judged: &Hello,
        (client, upstream): (&mut Leg<C>, &mut Leg<U>),
        limits: &Limits,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        loop {
            match self {
                Self::Hello(body) => {
                    if ready!(poll_pass(body, client, upstream, limits, context)).is_err() {
                        return Poll::Ready(Ok(()));
                    }
                    *self = Self::Answer;
                }
                Self::Answer => match asks_again(&upstream.input) {
                    Some(true) => *self = Self::Again(Body::Done),
                    Some(false) => return Poll::Ready(Ok(())),
                    None => {
                        if let Poll::Ready(read) = upstream.poll_fill(context) {
                            if ended(&read) {
                                return Poll::Ready(Ok(()));
                            }
                            continue;
                        }
                        // What comes of the client meanwhile is kept, as far as there is room: so its end is noticed.
                        if client.ended || client.input.len() >= limits.buffer {
                            return Poll::Pending;
                        }
                        match ready!(client.poll_fill(context)) {
                            Err(_) => return Poll::Ready(Err(Fault::CLIENT_GONE)),
                            // If it said more before its end, that may be another hello: it had only not been asked yet.
                            Ok(0) if client.input.is_empty() => return Poll::Ready(Ok(())),
                            Ok(_) => {}
                        }
                    }
                },
                Self::Again(body) => {
                    if poll_pass(&mut Body::UntilClose, upstream, client, limits, context).is_ready() {
                        return Poll::Ready(Err(Fault::UPSTREAM_ENDED));
                    }
                    if ready!(poll_pass(body, client, upstream, limits, context)).is_err() {
                        return Poll::Ready(Err(Fault::UPSTREAM_ENDED));
                    }
                    match next(&client.input, judged, limits)? {
                        Next::Judged => return Poll::Ready(Ok(())),
                        Next::Other(octets) => *body = Body::Length(octets),
                        Next::More => {
                            if ended(&ready!(client.poll_fill(context))) {
                                return Poll::Ready(Err(Fault::TRUNCATED));
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What a client sends after it was asked for another hello.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Another hello, with the name that was judged.
    Judged,
    /// A record of so many octets that servers skip, or that ends the handshake.
    Other(u64),
    /// It is not all there.
    More,
}

fn next(received: &[u8], judged: &Hello, limits: &Limits) -> Result<Next, Fault> {
    match *received {
        [HANDSHAKE_RECORD, ..] => match hello(received, limits)? {
            Some(again) if again.name == judged.name => Ok(Next::Judged),
            Some(_) => Err(Fault::TLS),
            None => Ok(Next::More),
        },
        // Early data was sent before the server could say that it does not want any.
        [CHANGE_CIPHER_SPEC | ALERT | DATA, _, _, high, low, ..] => {
            let length = usize::from(u16::from_be_bytes([high, low]));
            if length > MOST_IN_RECORD + EXPANSION {
                Err(Fault::TLS)
            } else {
                Ok(Next::Other(5 + length as u64))
            }
        }
        [] | [CHANGE_CIPHER_SPEC | ALERT | DATA, ..] => Ok(Next::More),
        _ => Err(Fault::TLS),
    }
}

/// Whether what a server says first asks for another hello; `None` if more of it is needed to tell.
fn asks_again(said: &[u8]) -> Option<bool> {
    // Between them: the version of the record and its length, and the message's. The version is that of TLS 1.2, as in all since.
    const RANDOM: usize = 11;
    let fixed: [(usize, &[u8]); 4] =
        [(0, &[HANDSHAKE_RECORD, 3]), (5, &[SERVER_HELLO]), (9, &[3, 3]), (RANDOM, &ANOTHER)];
    let differs = |&(at, octets): &(usize, &[u8])| said.iter().skip(at).zip(octets).any(|(a, b)| a != b);
    if fixed.iter().any(differs) {
        return Some(false);
    }
    (said.len() >= RANDOM + ANOTHER.len()).then_some(true)
}

fn ended(read: &io::Result<usize>) -> bool {
    matches!(read, Ok(0) | Err(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What OpenSSL 3.0 says to a client whose key it cannot use, up to the random.
    fn retry() -> Vec<u8> {
        [&[22, 3, 3, 0, 88, 2, 0, 0, 84, 3, 3][..], &ANOTHER, &[32]].concat()
    }

    #[test]
    fn only_a_server_that_asks_for_another_hello_is_taken_for_one() {
        let retry = retry();
        for end in 0..43 {
            assert_eq!(asks_again(&retry[..end]), None, "{end} octets");
        }
        assert_eq!(asks_again(&retry[..43]), Some(true));
        assert_eq!(asks_again(&retry), Some(true));
        for at in [0, 1, 5, 9, 10, 11, 42] {
            let mut other = retry.clone();
            other[at] ^= 1;
            assert_eq!(asks_again(&other), Some(false), "another octet {at}");
        }
        assert_eq!(asks_again(b"220 mail.example"), Some(false));
    }

    #[test]
    fn records_before_the_second_hello_are_told_from_it() {
        let judged = Hello { name: None, octets: 0 };
        let limits = Limits::default();
        let next = |received: &[u8]| next(received, &judged, &limits);
        assert_eq!(next(&[]), Ok(Next::More));
        assert_eq!(next(&[20, 3, 3, 0]), Ok(Next::More));
        assert_eq!(next(&[20, 3, 3, 0, 1, 1]), Ok(Next::Other(6)));
        assert_eq!(next(&[23, 3, 3, 0x40, 0]), Ok(Next::Other(5 + 0x4000)));
        assert_eq!(next(&[23, 3, 3, 0xff, 0xff]), Err(Fault::TLS));
        assert_eq!(next(&[24, 3, 3, 0, 1, 1]), Err(Fault::TLS));
        assert_eq!(next(&[22, 3, 3]), Ok(Next::More));
        assert_eq!(next(&[22, 3, 3, 0, 4, 2, 0, 0, 0]), Err(Fault::TLS), "no hello");
    }
}
