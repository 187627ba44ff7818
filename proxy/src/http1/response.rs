//! A response's head: read as strictly as a request's, because where it ends decides what the next one is.

use std::mem::MaybeUninit;

use bytes::BytesMut;
use httparse::Header;

use super::framing::{Framing, Lengths};
use super::octets::{append_number, is_token, is_value, members, trim};
use crate::fault::Fault;
use crate::limits::Limits;

/// What a response answers: its head alone does not say whether a body follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whether the request was HEAD.
    pub head: bool,
    /// Whether the client speaks HTTP/1.0.
    pub old: bool,
    /// Whether the client may send another request.
    pub persistent: bool,
    /// The protocol that was asked for.
    pub upgrade: Option<&'static str>,
}

/// What a response's head says to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status, 100 to 999.
    pub status: u16,
    /// How the body is told from what follows.
    pub framing: Framing,
    /// Whether another request may follow on this connection, and the client has been told so.
    pub persistent: bool,
    /// Whether what follows is no longer HTTP.
    pub switched: bool,
}

impl Answer {
    /// Whether another response to the same request follows.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && !self.switched
    }

    /// Reads a whole head and appends the one that is passed on.
    pub fn parse(
        received: &[u8],
        question: Question,
        limits: &Limits,
        to: &mut BytesMut,
    ) -> Result<Self, Fault> {
        let mut space = [const { MaybeUninit::uninit() }; Limits::MOST_HEADERS];
        let most = limits.headers.min(Limits::MOST_HEADERS);
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            received,
            &mut space[..most],
        );
        match parsed {
            Ok(httparse::Status::Complete(length)) if length == received.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(Fault::HEADERS_MANY),
            Err(httparse::Error::HeaderName | httparse::Error::HeaderValue) => {
                return Err(Fault::HEADER_LINE);
            }
            _ => return Err(Fault::STATUS_LINE),
        }
        let (Some(status), Some(version)) = (response.code, response.version) else {
            return Err(Fault::STATUS_LINE);
        };
        let reason = reason_of(received)?;
        if status < 100 {
            return Err(Fault::STATUS_LINE);
        }
        let gathered = Gathered::from_headers(received, response.headers)?;
        let answer = gathered.answer(status, version == 0, question)?;
        // Not what follows from HTTP/1.0: an interim response is nothing that such a client expects.
        if answer.is_interim() && question.old {
            return Ok(answer);
        }
        to.extend_from_slice(b"HTTP/1.1 ");
        append_number(to, status.into());
        to.extend_from_slice(b" ");
        to.extend_from_slice(reason);
        to.extend_from_slice(b"\r\n");
        gathered.write_headers(response.headers, &answer, question, to)?;
        Ok(answer)
    }
}

/// The reason phrase, which httparse does not give if it is not ASCII.
fn reason_of(received: &[u8]) -> Result<&[u8], Fault> {
    let end = received.iter().position(|&octet| octet == b'\r').ok_or(Fault::STATUS_LINE)?;
    let reason = match received.get("HTTP/1.1 200".len()..end) {
        Some([b' ', reason @ ..]) => reason,
        // The space is required, and forgotten often enough.
        Some([]) => b"",
        _ => return Err(Fault::STATUS_LINE),
    };
    if is_value(reason) { Ok(reason) } else { Err(Fault::STATUS_LINE) }
}

/// The headers that say something to this proxy.
#[derive(Default)]
struct Gathered<'a> {
    lengths: Lengths,
    close: bool,
    keep_alive: bool,
    switches: bool,
    protocol: Option<&'a [u8]>,
    /// Values of `Connection`: they name what is not to be passed on.
    named: Vec<&'a [u8]>,
}

impl<'a> Gathered<'a> {
    fn from_headers(received: &[u8], headers: &[Header<'a>]) -> Result<Self, Fault> {
        let mut gathered = Gathered::default();
        for header in headers {
            let is = |known: &str| header.name.eq_ignore_ascii_case(known);
            match header.name.len() {
                7 if is("upgrade") => gathered.protocol = Some(header.value),
                10 if is("connection") => gathered.connection(header.value),
                14 if is("content-length") => gathered.lengths.length(received, header)?,
                17 if is("transfer-encoding") => gathered.lengths.transfer(header)?,
                _ => {}
            }
        }
        Ok(gathered)
    }

    fn connection(&mut self, list: &'a [u8]) {
        for option in members(list) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.switches = true;
            } else {
                self.named.push(option);
            }
        }
    }

    fn answer(&self, status: u16, old: bool, question: Question) -> Result<Answer, Fault> {
        let framing = self.lengths.of_response(old, status, question.head)?;
        let switched = status == 101;
        if switched {
            let asked = question.upgrade.ok_or(Fault::SWITCHED)?;
            let same = self.protocol.is_some_and(|given| given.eq_ignore_ascii_case(asked.as_bytes()));
            if !same || !self.switches {
                return Err(Fault::SWITCHED);
            }
        }
        // There is no way to send it to a client that knows no chunks, but for reading all of it first.
        if question.old && framing == Framing::Chunked {
            return Err(Fault::TRANSFER_OLD);
        }
        let persistent = question.persistent && !old && !self.close && framing != Framing::UntilClose;
        Ok(Answer { status, framing, persistent, switched })
    }

    fn write_headers(
        &self,
        headers: &[Header<'_>],
        answer: &Answer,
        question: Question,
        to: &mut BytesMut,
    ) -> Result<(), Fault> {
        for header in headers {
            let name = header.name.as_bytes();
            if !is_token(name) || !is_value(header.value) {
                return Err(Fault::HEADER_LINE);
            }
            if is_hop(header.name) || self.named.iter().any(|named| named.eq_ignore_ascii_case(name)) {
                continue;
            }
            write_header(to, name, trim(header.value));
        }
        if answer.switched {
            write_header(to, b"Upgrade", question.upgrade.unwrap_or_default().as_bytes());
            write_header(to, b"Connection", b"upgrade");
        } else {
            self.write_framing(answer, to);
        }
        to.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn write_framing(&self, answer: &Answer, to: &mut BytesMut) {
        let bodiless = answer.framing == Framing::None && (answer.status < 200 || answer.status == 204);
        if let Some(length) = self.lengths.spoken_of().filter(|_| !bodiless) {
            to.extend_from_slice(b"Content-Length: ");
            append_number(to, length);
            to.extend_from_slice(b"\r\n");
        }
        if self.lengths.is_chunked() {
            write_header(to, b"Transfer-Encoding", b"chunked");
        }
        if answer.status >= 200 && !answer.persistent {
            write_header(to, b"Connection", b"close");
        }
    }
}

fn write_header(to: &mut BytesMut, name: &[u8], value: &[u8]) {
    to.extend_from_slice(name);
    to.extend_from_slice(b": ");
    to.extend_from_slice(value);
    to.extend_from_slice(b"\r\n");
}

/// What is about one connection, or written by [`Gathered::write_framing`].
fn is_hop(name: &str) -> bool {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    match name.len() {
        7 => is("upgrade"),
        10 => is("connection") || is("keep-alive"),
        14 => is("content-length"),
        16 => is("proxy-connection"),
        17 => is("transfer-encoding"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Question = Question { head: false, old: false, persistent: true, upgrade: None };

    fn pass(received: &str, question: Question) -> Result<(Answer, String), Fault> {
        let mut passed = BytesMut::new();
        let answer = Answer::parse(received.as_bytes(), question, &Limits::default(), &mut passed)?;
        Ok((answer, String::from_utf8(passed.to_vec()).unwrap()))
    }

    #[test]
    fn a_response_is_written_anew() {
        let received = "HTTP/1.1 200 Fine thanks\r\nX-A:  b \r\nContent-Length: 5\r\nConnection: X-Hop\r\nX-Hop: c\r\n\r\n";
        let (answer, passed) = pass(received, ASKED).unwrap();
        assert_eq!(passed, "HTTP/1.1 200 Fine thanks\r\nX-A: b\r\nContent-Length: 5\r\n\r\n");
        let expected = Answer { status: 200, framing: Framing::Length(5), persistent: true, switched: false };
        assert_eq!(answer, expected);
    }

    #[test]
    fn a_response_of_unknown_length_ends_the_connection_and_says_so() {
        let (answer, passed) = pass("HTTP/1.1 200 OK\r\n\r\n", ASKED).unwrap();
        assert_eq!(passed, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        assert_eq!((answer.framing, answer.persistent), (Framing::UntilClose, false));
        let (answer, passed) = pass("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", ASKED).unwrap();
        assert_eq!(passed, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n");
        assert!(!answer.persistent);
    }

    #[test]
    fn ambiguous_responses_are_refused() {
        let headers = [
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Fault::LENGTH_AND_TRANSFER),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Fault::LENGTH),
            ("Content-Length: +5\r\n", Fault::LENGTH),
            ("Transfer-Encoding: gzip, chunked\r\n", Fault::TRANSFER),
            ("a : b\r\n", Fault::HEADER_LINE),
            ("a: \0\r\n", Fault::HEADER_LINE),
        ];
        for (header, fault) in headers {
            assert_eq!(pass(&format!("HTTP/1.1 200 OK\r\n{header}\r\n"), ASKED), Err(fault), "{header}");
        }
        for line in [
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/2.0 200 OK",
            "HTTP/1.1  200 OK",
            "HTTP/1.1 099 OK",
            "http/1.1 200 OK",
        ] {
            assert_eq!(pass(&format!("{line}\r\n\r\n"), ASKED), Err(Fault::STATUS_LINE), "{line}");
        }
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(pass(chunked, Question { old: true, ..ASKED }), Err(Fault::TRANSFER_OLD));
    }

    #[test]
    fn protocols_are_switched_to_what_was_asked_for_only() {
        let asked = Question { upgrade: Some("websocket"), ..ASKED };
        let switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n";
        let (answer, passed) = pass(switched, asked).unwrap();
        assert!(answer.switched && !answer.is_interim());
        let expected = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
        assert_eq!(passed, expected);
        assert_eq!(pass(switched, ASKED), Err(Fault::SWITCHED));
        assert_eq!(pass(&switched.replace("WebSocket\r", "h2c\r"), asked), Err(Fault::SWITCHED));
        assert_eq!(pass(&switched.replace("Connection: Upgrade\r\n", ""), asked), Err(Fault::SWITCHED));
    }

    #[test]
    fn interim_and_bodiless_responses_carry_no_length_of_a_body() {
        let (answer, passed) = pass("HTTP/1.1 100 Continue\r\n\r\n", ASKED).unwrap();
        assert!(answer.is_interim());
        assert_eq!(passed, "HTTP/1.1 100 Continue\r\n\r\n");
        let (_, passed) = pass("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", ASKED).unwrap();
        assert_eq!(passed, "HTTP/1.1 204 No Content\r\n\r\n");
        let (answer, passed) = pass("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", ASKED).unwrap();
        assert_eq!(answer.framing, Framing::None);
        assert_eq!(passed, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n");
        let (_, passed) = pass("HTTP/1.1 100 Continue\r\n\r\n", Question { old: true, ..ASKED }).unwrap();
        assert_eq!(passed, "");
    }
}
