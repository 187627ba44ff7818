//! How the end of a body is found.

use bytes::BytesMut;
use httparse::Header;

use super::chunked::Chunks;
use super::octets::trim;
use crate::fault::Fault;
use crate::limits::Limits;

/// How a body is told from what follows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// A number of octets.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Everything until the connection ends: responses only.
    UntilClose,
}

/// What a head says of the length of its body.
#[derive(Debug, Default)]
pub(crate) struct Lengths {
    length: Option<u64>,
    chunked: bool,
}

impl Lengths {
    /// Takes a `Content-Length`: one number in its shortest form, between a colon (and a space) and the line's end.
    pub(crate) fn length(&mut self, received: &[u8], header: &Header<'_>) -> Result<(), Fault> {
        if self.length.is_some() {
            return Err(Fault::LENGTH);
        }
        let value = header.value;
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let shortest = value.len() == 1 || value.first() != Some(&b'0');
        if !digits || !shortest || !stands_bare(received, header) {
            return Err(Fault::LENGTH);
        }
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
        // Servers keep lengths in signed numbers.
        self.length = Some(number.filter(|&length| i64::try_from(length).is_ok()).ok_or(Fault::LENGTH)?);
        Ok(())
    }

    /// Takes a `Transfer-Encoding`: `chunked` and nothing else.
    pub(crate) fn transfer(&mut self, header: &Header<'_>) -> Result<(), Fault> {
        if self.chunked || !trim(header.value).eq_ignore_ascii_case(b"chunked") {
            return Err(Fault::TRANSFER);
        }
        self.chunked = true;
        Ok(())
    }

    /// A request without either has no body (RFC 9112, section 6.3).
    pub(crate) fn of_request(&self, old: bool) -> Result<Framing, Fault> {
        Ok(self.checked(old)?.unwrap_or(Framing::None))
    }

    /// A response without either is as long as its connection, unless its status or its request leaves no room for a body.
    pub(crate) fn of_response(&self, old: bool, status: u16, to_head: bool) -> Result<Framing, Fault> {
        let framing = self.checked(old)?;
        match status {
            // RFC 9110, section 8.6 forbids a length here; servers send a zero all the same, which harms nobody.
            100..=199 | 204 => match framing {
                None | Some(Framing::Length(0)) => Ok(Framing::None),
                _ => Err(Fault::RESPONSE_BODY),
            },
            _ if to_head || status == 304 => Ok(Framing::None),
            _ => Ok(framing.unwrap_or(Framing::UntilClose)),
        }
    }

    /// The length that a response without a body speaks of, as one to HEAD does.
    pub(crate) fn spoken_of(&self) -> Option<u64> {
        self.length
    }

    /// Whether the response would have been sent in chunks.
    pub(crate) fn is_chunked(&self) -> bool {
        self.chunked
    }

    fn checked(&self, old: bool) -> Result<Option<Framing>, Fault> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Fault::LENGTH_AND_TRANSFER),
            (None, true) if old => Err(Fault::TRANSFER_OLD),
            (None, true) => Ok(Some(Framing::Chunked)),
            (Some(length), false) => Ok(Some(Framing::Length(length))),
            (None, false) => Ok(None),
        }
    }
}

/// Whether nothing but one space at most stands around the value: some servers trim what others do not.
fn stands_bare(received: &[u8], header: &Header<'_>) -> bool {
    let start = header.value.as_ptr().addr().wrapping_sub(received.as_ptr().addr());
    let Some((before, after)) = received.split_at_checked(start) else { return false };
    let colon = before.strip_suffix(b" ").unwrap_or(before).ends_with(b":");
    colon && after.get(header.value.len()) == Some(&b'\r')
}

/// A body that is being passed on.
#[derive(Debug)]
pub enum Body {
    /// Nothing is left of it.
    Done,
    /// So many octets are left.
    Length(u64),
    /// Chunks are left.
    Chunked(Box<Chunks>),
    /// It lasts until the connection ends.
    UntilClose,
}

/// What becomes of a body's trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailers {
    /// They are checked and thrown away: those of requests, which no rule has seen.
    Drop,
    /// They are passed on, but for those that mean something in a head.
    Forward,
}

impl Body {
    /// The beginning of a body.
    pub fn new(framing: Framing, trailers: Trailers) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Body::Done,
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked(Box::new(Chunks::new(trailers))),
            Framing::UntilClose => Body::UntilClose,
        }
    }

    /// Whether all of it has been passed on.
    pub fn is_done(&self) -> bool {
        matches!(self, Body::Done)
    }

    /// Whether so many octets that came are all of it, or more.
    pub fn is_within(&self, octets: usize) -> bool {
        match self {
            Body::Done => true,
            Body::Length(left) => *left <= octets as u64,
            Body::Chunked(_) | Body::UntilClose => false,
        }
    }

    /// How many octets of what comes next are passed on as they are, whatever they are.
    pub fn plain(&self) -> u64 {
        match self {
            Body::Done | Body::Chunked(_) => 0,
            Body::Length(left) => *left,
            Body::UntilClose => u64::MAX,
        }
    }

    /// Notes that so many of the [`plain`](Self::plain) octets have been passed on.
    pub fn passed(&mut self, octets: u64) {
        if let Body::Length(left) = self {
            *left = left.saturating_sub(octets);
            if *left == 0 {
                *self = Body::Done;
            }
        }
    }

    /// Passes on what it can of `input`, until `output` holds `room` octets, and says how much of the input that was.
    pub fn advance(
        &mut self,
        input: &[u8],
        output: &mut BytesMut,
        room: usize,
        limits: &Limits,
    ) -> Result<usize, Fault> {
        if let Body::Chunked(chunks) = self {
            let taken = chunks.advance(input, output, room, limits)?;
            if chunks.is_done() {
                *self = Body::Done;
            }
            return Ok(taken);
        }
        let left = usize::try_from(self.plain()).unwrap_or(usize::MAX);
        let taken = left.min(input.len()).min(room.saturating_sub(output.len()));
        output.extend_from_slice(&input[..taken]);
        self.passed(taken as u64);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(headers: &str) -> Result<Lengths, Fault> {
        let text = format!("{headers}\r\n");
        let mut space = [httparse::EMPTY_HEADER; 4];
        let Ok(httparse::Status::Complete((_, parsed))) =
            httparse::parse_headers(text.as_bytes(), &mut space)
        else {
            panic!("{headers:?} are no headers");
        };
        let mut lengths = Lengths::default();
        for header in parsed {
            if header.name == "cl" {
                lengths.length(text.as_bytes(), header)?;
            } else {
                lengths.transfer(header)?;
            }
        }
        Ok(lengths)
    }

    #[test]
    fn a_length_is_one_number_in_its_shortest_form() {
        let length = |value: &str| lengths(&format!("cl:{value}\r\n")).map(|lengths| lengths.length);
        for (value, number) in [("0", 0), (" 5", 5), (" 9223372036854775807", i64::MAX as u64)] {
            assert_eq!(length(value), Ok(Some(number)));
        }
        for value in [
            "",
            " ",
            "+5",
            "-1",
            "0x10",
            "1_0",
            "  5",
            " 5 ",
            "\t5",
            "05",
            "00",
            "9223372036854775808",
            "18446744073709551616",
            "5,5",
            "5 5",
            "5.0",
        ] {
            assert_eq!(length(value), Err(Fault::LENGTH), "{value:?}");
        }
        assert_eq!(lengths("cl: 5\r\ncl: 5\r\n").err(), Some(Fault::LENGTH));
    }

    #[test]
    fn a_request_is_framed_in_one_way_only() {
        let of_request =
            |headers: &str, old: bool| lengths(headers).and_then(|lengths| lengths.of_request(old));
        assert_eq!(of_request("", false), Ok(Framing::None));
        assert_eq!(of_request("te: Chunked\r\n", false), Ok(Framing::Chunked));
        assert_eq!(of_request("te: chunked\r\n", true), Err(Fault::TRANSFER_OLD));
        assert_eq!(of_request("cl: 5\r\nte: chunked\r\n", false), Err(Fault::LENGTH_AND_TRANSFER));
        for other in
            [",chunked", "xchunked", "chunked, identity", "chunked,", "\u{a0}chunked", "identity", ""]
        {
            assert_eq!(of_request(&format!("te: {other}\r\n"), false), Err(Fault::TRANSFER), "{other:?}");
        }
        assert_eq!(of_request("te: chunked\r\nte: chunked\r\n", false), Err(Fault::TRANSFER));
    }

    #[test]
    fn a_response_has_a_body_by_status_and_request() {
        let of =
            |headers: &str, status, to_head| lengths(headers).unwrap().of_response(false, status, to_head);
        assert_eq!(of("", 200, false), Ok(Framing::UntilClose));
        assert_eq!(of("cl: 5\r\n", 200, false), Ok(Framing::Length(5)));
        assert_eq!(of("cl: 5\r\n", 200, true), Ok(Framing::None));
        assert_eq!(of("cl: 5\r\n", 304, false), Ok(Framing::None));
        assert_eq!(of("cl: 0\r\n", 204, false), Ok(Framing::None));
        for status in [100, 101, 204] {
            assert_eq!(of("cl: 5\r\n", status, false), Err(Fault::RESPONSE_BODY));
            assert_eq!(of("te: chunked\r\n", status, true), Err(Fault::RESPONSE_BODY));
        }
    }
}
