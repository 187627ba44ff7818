//! Where a head ends, before anything else reads it.
//!
//! `httparse` takes a bare line feed for a line's end and skips empty lines before a request. Servers do not agree on
//! either, so neither is let through to it: here a line ends with CRLF, and no octet of a line is one of the two.

use memchr::memchr2;

use crate::fault::Fault;
use crate::limits::Limits;

/// What has been read of a head so far. It resumes where it stopped, so that a head in many segments costs no more than
/// one in a single segment.
#[derive(Debug, Default)]
pub struct Scanner {
    /// Up to here every line is known to be whole and well formed.
    at: usize,
    /// Where the line that is being read begins.
    line: usize,
    /// Where the head begins: behind an empty line, if one was sent first.
    start: usize,
}

/// Which head it is: they may begin with different octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One empty line may come before it (RFC 9112, section 2.2).
    Request,
    /// Nothing may come before it.
    Response,
}

impl Scanner {
    /// The range of the whole head with the empty line at its end, or `None` if more is needed. `received` begins with the
    /// same octets at each call.
    pub fn scan(
        &mut self,
        received: &[u8],
        kind: Kind,
        limits: &Limits,
    ) -> Result<Option<std::ops::Range<usize>>, Fault> {
        let within = &received[..received.len().min(self.start + limits.head)];
        self.check_first(within, kind)?;
        while let Some(found) = memchr2(b'\r', b'\n', &within[self.at..]) {
            let end = self.at + found;
            self.at = end;
            if within[end] == b'\n' {
                return Err(Fault::BARE_LF);
            }
            match within.get(end + 1) {
                None => return self.more(received, limits),
                Some(b'\n') => {}
                Some(_) => return Err(Fault::BARE_CR),
            }
            let empty = end == self.line;
            self.at = end + 2;
            self.line = self.at;
            if empty && end > self.start {
                return Ok(Some(self.start..self.at));
            }
            if empty {
                if kind == Kind::Response || self.start > 0 {
                    return Err(Fault::LEADING_LINES);
                }
                self.start = self.at;
                self.check_first(within, kind)?;
            }
        }
        self.at = within.len();
        self.more(received, limits)
    }

    /// More is needed, if there may be more.
    fn more(&self, received: &[u8], limits: &Limits) -> Result<Option<std::ops::Range<usize>>, Fault> {
        // A target without an end is told as such, and not as a large head.
        if self.line == self.start && received.len() > self.start + limits.target + limits.method {
            return Err(Fault::TARGET_LONG);
        }
        if received.len() >= self.start + limits.head {
            return Err(Fault::HEAD_LARGE);
        }
        Ok(None)
    }

    /// What cannot become a head is refused at its first octet: whoever speaks another protocol waits for no time-out.
    fn check_first(&self, received: &[u8], kind: Kind) -> Result<(), Fault> {
        match (kind, received.get(self.start)) {
            (_, None | Some(b'\r' | b'\n')) => Ok(()),
            (Kind::Request, Some(first)) if !first.is_ascii_alphabetic() => Err(Fault::NOT_HTTP),
            (Kind::Response, Some(first)) if *first != b'H' => Err(Fault::STATUS_LINE),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(received: &[u8]) -> Result<Option<std::ops::Range<usize>>, Fault> {
        Scanner::default().scan(received, Kind::Request, &Limits::default())
    }

    #[test]
    fn a_head_ends_at_its_empty_line() {
        assert_eq!(scan(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest"), Ok(Some(0..27)));
        assert_eq!(scan(b"\r\nGET / HTTP/1.1\r\n\r\n"), Ok(Some(2..20)));
        assert_eq!(scan(b"GET / HTTP/1.1\r\nHost: a\r\n\r"), Ok(None));
        assert_eq!(scan(b""), Ok(None));
        assert_eq!(scan(b"\r"), Ok(None));
    }

    #[test]
    fn only_crlf_ends_a_line() {
        assert_eq!(scan(b"GET / HTTP/1.1\nHost: a\n\n"), Err(Fault::BARE_LF));
        assert_eq!(scan(b"GET / HTTP/1.1\r\nHost: a\n"), Err(Fault::BARE_LF));
        assert_eq!(scan(b"GET / HTTP/1.1\r\nHost: a\rb"), Err(Fault::BARE_CR));
        assert_eq!(scan(b"GET / HTTP/1.1\r\r\n"), Err(Fault::BARE_CR));
        assert_eq!(scan(b"\n"), Err(Fault::BARE_LF));
    }

    #[test]
    fn at_most_one_empty_line_comes_before_a_request_and_none_before_a_response() {
        assert_eq!(scan(b"\r\n\r\n"), Err(Fault::LEADING_LINES));
        let response = Scanner::default().scan(b"\r\nHTTP/1.1", Kind::Response, &Limits::default());
        assert_eq!(response, Err(Fault::LEADING_LINES));
    }

    #[test]
    fn another_protocol_is_refused_at_its_first_octet() {
        assert_eq!(scan(b"\x16"), Err(Fault::NOT_HTTP));
        assert_eq!(scan(b"\r\n\x00"), Err(Fault::NOT_HTTP));
        assert_eq!(scan(b" GET"), Err(Fault::NOT_HTTP));
    }

    #[test]
    fn what_is_found_does_not_depend_on_segments() {
        let limits = Limits::default();
        let inputs: [&[u8]; 6] = [
            b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nrest",
            b"GET / HTTP/1.1\r\nHost: a\nb\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
            b"\r\n\r\nGET /",
            b"\r\n\0GET",
            b"GET / HTTP/1.1\r\n\r\n",
        ];
        for input in inputs {
            let whole = Scanner::default().scan(input, Kind::Request, &limits);
            let mut scanner = Scanner::default();
            let by_octet = (1..=input.len())
                .map(|end| scanner.scan(&input[..end], Kind::Request, &limits))
                .find(|found| *found != Ok(None));
            assert_eq!(by_octet, Some(whole), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn limits_hold_before_the_head_is_whole() {
        let limits = Limits::default();
        let mut head = b"GET /".to_vec();
        head.resize(limits.target + limits.method + 1, b'a');
        assert_eq!(scan(&head), Err(Fault::TARGET_LONG));
        let mut head = b"GET / HTTP/1.1\r\na: ".to_vec();
        head.resize(limits.head - 1, b'a');
        assert_eq!(scan(&head), Ok(None));
        head.push(b'a');
        assert_eq!(scan(&head), Err(Fault::HEAD_LARGE));
    }
}
