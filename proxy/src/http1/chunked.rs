//! Bodies in chunks (RFC 9112, section 7.1): read strictly, written anew.
//!
//! `httparse::parse_chunk_size` takes an empty size for the last chunk, and a bare line feed for the end of an extension.
//! This parser takes a size, at most some visible extension which it does not pass on, and CRLF. Sizes are kept, so that
//! what is written does not depend on how what was received fell into segments.

use bytes::BytesMut;

use super::octets::{hex, is_token, is_value, trim};
use crate::fault::Fault;
use crate::http1::framing::Trailers;
use crate::limits::Limits;

/// The digits of the largest size that fits.
const MOST_DIGITS: u8 = 16;

/// The most trailers a body can have.
const MOST_TRAILERS: usize = 32;

/// A body in chunks, somewhere in it.
#[derive(Debug)]
pub struct Chunks {
    state: State,
    trailers: Trailers,
    /// Octets of extensions: of this chunk, of all chunks.
    extension: usize,
    extensions: usize,
    /// The trailer section, as far as it has come.
    trailer: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { size: u64, digits: u8 },
    Extension { size: u64 },
    SizeEnd { size: u64 },
    Data { left: u64 },
    DataEnd,
    DataEndFeed,
    Trailer,
    Done,
}

const HEX: [u8; 16] = *b"0123456789abcdef";

const FIRST: State = State::Size { size: 0, digits: 0 };

impl Chunks {
    /// Before the first chunk.
    pub fn new(trailers: Trailers) -> Self {
        Chunks { state: FIRST, trailers, extension: 0, extensions: 0, trailer: Vec::new() }
    }

    /// Whether the last chunk and the trailers behind it have been passed on.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Passes on chunks of `input` until `output` holds about `room` octets; says how much of the input that was.
    pub fn advance(
        &mut self,
        input: &[u8],
        output: &mut BytesMut,
        room: usize,
        limits: &Limits,
    ) -> Result<usize, Fault> {
        let mut at = 0;
        while at < input.len() && output.len() < room && self.state != State::Done {
            if let State::Data { left } = self.state {
                let most = input.len().min(at.saturating_add(room - output.len()));
                let end = usize::try_from(left).map_or(most, |left| most.min(at.saturating_add(left)));
                output.extend_from_slice(&input[at..end]);
                let left = left - (end - at) as u64;
                self.state = if left == 0 { State::DataEnd } else { State::Data { left } };
                at = end;
            } else {
                self.state = self.step(input[at], output, limits)?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// What comes after one octet of framing.
    fn step(&mut self, octet: u8, output: &mut BytesMut, limits: &Limits) -> Result<State, Fault> {
        match self.state {
            State::Size { size, digits } => match (hex(octet), octet) {
                (Some(_), _) if digits == MOST_DIGITS => Err(Fault::CHUNK_SIZE),
                (Some(digit), _) => {
                    Ok(State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
                }
                (None, b'\r') if digits > 0 => Ok(State::SizeEnd { size }),
                (None, b';') if digits > 0 => {
                    self.extension = 0;
                    Ok(State::Extension { size })
                }
                _ => Err(Fault::CHUNK_SIZE),
            },
            State::Extension { size } if octet == b'\r' => Ok(State::SizeEnd { size }),
            State::Extension { size } => {
                self.extension += 1;
                self.extensions += 1;
                let fits =
                    self.extension <= limits.chunk_extension && self.extensions <= limits.chunk_extensions;
                let visible = (b' '..0x7f).contains(&octet);
                if fits && visible { Ok(State::Extension { size }) } else { Err(Fault::CHUNK_EXTENSION) }
            }
            // Signed numbers are what servers keep sizes in.
            State::SizeEnd { size } if octet != b'\n' || i64::try_from(size).is_err() => {
                Err(Fault::CHUNK_SIZE)
            }
            State::SizeEnd { size: 0 } => Ok(State::Trailer),
            State::SizeEnd { size } => {
                // In hexadecimal digits, at most sixteen.
                let digits = 16 - (size.leading_zeros() / 4).min(15);
                output.extend((0..digits).rev().map(|digit| HEX[(size >> (4 * digit) & 15) as usize]));
                output.extend_from_slice(b"\r\n");
                Ok(State::Data { left: size })
            }
            State::DataEnd if octet == b'\r' => Ok(State::DataEndFeed),
            State::DataEndFeed if octet == b'\n' => {
                output.extend_from_slice(b"\r\n");
                Ok(FIRST)
            }
            State::Trailer => self.trailer_octet(octet, output, limits),
            // `advance` does not ask about the latter two: data is not looked at, and behind the end is the next message.
            State::DataEnd | State::DataEndFeed | State::Data { .. } | State::Done => Err(Fault::CHUNK_END),
        }
    }

    fn trailer_octet(&mut self, octet: u8, output: &mut BytesMut, limits: &Limits) -> Result<State, Fault> {
        let after_return = self.trailer.last() == Some(&b'\r');
        if after_return != (octet == b'\n') || self.trailer.len() >= limits.trailer {
            return Err(Fault::TRAILER);
        }
        self.trailer.push(octet);
        if self.trailer != b"\r\n" && !self.trailer.ends_with(b"\r\n\r\n") {
            return Ok(State::Trailer);
        }
        output.extend_from_slice(b"0\r\n");
        self.write_trailers(output)?;
        output.extend_from_slice(b"\r\n");
        Ok(State::Done)
    }

    fn write_trailers(&self, output: &mut BytesMut) -> Result<(), Fault> {
        let mut space = [httparse::EMPTY_HEADER; MOST_TRAILERS];
        let Ok(httparse::Status::Complete((_, trailers))) =
            httparse::parse_headers(&self.trailer, &mut space)
        else {
            return Err(Fault::TRAILER);
        };
        for trailer in trailers {
            let name = trailer.name.as_bytes();
            if !is_token(name) || !is_value(trailer.value) {
                return Err(Fault::TRAILER);
            }
            if self.trailers == Trailers::Forward && may_trail(name) {
                output.extend_from_slice(name);
                output.extend_from_slice(b": ");
                output.extend_from_slice(trim(trailer.value));
                output.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }
}

/// Not what frames, routes, authenticates, or says how to read the body (RFC 9110, section 6.5.1): a client that merges
/// trailers into the head would obey it.
pub(crate) fn may_trail(name: &[u8]) -> bool {
    const NEVER: [&str; 22] = [
        "age",
        "authorization",
        "cache-control",
        "connection",
        "cookie",
        "date",
        "expires",
        "host",
        "keep-alive",
        "location",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "set-cookie",
        "strict-transport-security",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
        "warning",
        "www-authenticate",
    ];
    let name = name.to_ascii_lowercase();
    !name.starts_with(b"content-") && NEVER.iter().all(|never| never.as_bytes() != name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is passed on, and how much of the input was taken.
    fn pass(body: &str, trailers: Trailers) -> Result<(String, usize), Fault> {
        let mut chunks = Chunks::new(trailers);
        let mut output = BytesMut::new();
        let taken = chunks.advance(body.as_bytes(), &mut output, usize::MAX, &Limits::default())?;
        assert!(chunks.is_done(), "{body:?} is not whole");
        Ok((String::from_utf8(output.to_vec()).unwrap(), taken))
    }

    fn fault(body: &str) -> Fault {
        let mut chunks = Chunks::new(Trailers::Drop);
        chunks.advance(body.as_bytes(), &mut BytesMut::new(), usize::MAX, &Limits::default()).expect_err(body)
    }

    #[test]
    fn chunks_are_passed_on_without_extensions() {
        let body = "5;a=\"b c\"\r\nhello\r\n00A\r\n0123456789\r\n0\r\n\r\nGET";
        let passed = "5\r\nhello\r\na\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(pass(body, Trailers::Drop), Ok((passed.to_owned(), body.len() - 3)));
    }

    #[test]
    fn trailers_are_dropped_or_passed_on_but_for_those_of_heads() {
        let body = "0\r\nX-Sum:  1 \r\nContent-Length: 5\r\nHost: a\r\nSet-Cookie: a\r\n\r\n";
        assert_eq!(pass(body, Trailers::Drop), Ok(("0\r\n\r\n".to_owned(), body.len())));
        assert_eq!(pass(body, Trailers::Forward), Ok(("0\r\nX-Sum: 1\r\n\r\n".to_owned(), body.len())));
    }

    #[test]
    fn a_size_is_hexadecimal_and_fits() {
        let sizes = [
            "\r\n",
            ";x\r\n",
            " \r\n",
            "0x5\r\n",
            "+5\r\n",
            "-5\r\n",
            "1abc!\r\n",
            "5 \r\n",
            " 5\r\n",
            "5\n",
            "5\rX",
            "g\r\n",
        ];
        for size in sizes {
            assert_eq!(fault(size), Fault::CHUNK_SIZE, "{size:?}");
        }
        assert_eq!(fault("8000000000000000\r\n"), Fault::CHUNK_SIZE);
        assert_eq!(fault("00000000000000005\r\n"), Fault::CHUNK_SIZE);
    }

    #[test]
    fn extensions_are_visible_and_short() {
        for extension in ["5;\nX\r\n", "5;a\0\r\n", "5;\t\r\n", "5;\u{e9}\r\n"] {
            assert_eq!(fault(extension), Fault::CHUNK_EXTENSION, "{extension:?}");
        }
        assert_eq!(fault("5;a\rX"), Fault::CHUNK_SIZE);
        let limits = Limits::default();
        assert_eq!(fault(&format!("5;{}", "a".repeat(limits.chunk_extension + 1))), Fault::CHUNK_EXTENSION);
        let chunk = format!("1;{}\r\na\r\n", "a".repeat(100));
        assert_eq!(fault(&chunk.repeat(limits.chunk_extensions / 100 + 1)), Fault::CHUNK_EXTENSION);
    }

    #[test]
    fn data_is_as_long_as_was_said() {
        for body in ["5\r\nhelloX", "5\r\nhello\n", "5\r\nhello\rX", "5\r\nhello0\r\n\r\n"] {
            assert_eq!(fault(body), Fault::CHUNK_END, "{body:?}");
        }
        assert_eq!(fault("5\r\nhello\r\n\r\n0\r\n\r\n"), Fault::CHUNK_SIZE);
    }

    #[test]
    fn a_trailer_section_is_a_list_of_fields() {
        for trailer in [
            "a\r\n\r\n",
            "a: b\n\r\n",
            "a: b\rc\r\n\r\n",
            "a : b\r\n\r\n",
            "a: b\r\n c\r\n\r\n",
            ": a\r\n\r\n",
            "a: \0\r\n\r\n",
            "\n",
        ] {
            assert_eq!(fault(&format!("0\r\n{trailer}")), Fault::TRAILER, "{trailer:?}");
        }
        let large = format!("0\r\na: {}", "a".repeat(Limits::default().trailer));
        assert_eq!(fault(&large), Fault::TRAILER);
    }

    #[test]
    fn what_is_passed_on_does_not_depend_on_segments_or_room() {
        let body = b"5;x\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\na: b\r\n\r\n";
        let limits = Limits::default();
        let mut whole = BytesMut::new();
        Chunks::new(Trailers::Forward).advance(body, &mut whole, usize::MAX, &limits).unwrap();
        for segment in 1..body.len() {
            for room in [1, 3, 64] {
                let mut chunks = Chunks::new(Trailers::Forward);
                let mut passed = Vec::new();
                let mut at = 0;
                while !chunks.is_done() {
                    let mut output = BytesMut::new();
                    let end = body.len().min(at + segment);
                    at += chunks.advance(&body[at..end], &mut output, room, &limits).unwrap();
                    passed.extend_from_slice(&output);
                }
                assert_eq!(passed, whole, "segments of {segment}, room for {room}");
            }
        }
    }
}
