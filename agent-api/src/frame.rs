//! Lines: one JSON object each, of bounded length.

use std::fmt;
use std::io::{self, BufRead, Read};

use serde::{Deserialize, Serialize};

use crate::reply::Reply;

/// The longest request, in bytes, without its line break.
pub const REQUEST_LENGTH: usize = 1 << 20;

/// The longest line that the agent sends, in bytes, without its line break.
pub const REPLY_LENGTH: usize = 16 << 20;

/// A line from the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", content = "content", rename_all = "snake_case")]
pub enum Frame {
    /// The first line of every connection.
    Hello(Hello),
    /// A part of an answer.
    Reply(Box<Reply>),
    /// The request failed, or (instead of a hello) the connection is refused. The last line of the answer.
    Error {
        /// What is wrong and what would be right.
        message: String,
    },
    /// The last line of an answer.
    Done,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::VERSION`] of the agent.
    pub protocol: u32,
    /// The agent's own version.
    pub agent: String,
}

/// Why there is no line.
#[derive(Debug)]
pub enum LineError {
    /// The connection failed.
    Io(io::Error),
    /// The line is longer than the bound.
    TooLong {
        /// The bound in bytes.
        bound: usize,
    },
    /// It ended in the middle of a line.
    Cut,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::TooLong { bound } => write!(f, "a line is longer than {bound} bytes"),
            Self::Cut => f.write_str("the connection ended in the middle of a line"),
        }
    }
}

impl std::error::Error for LineError {}

/// Reads a line; `None` at the end of the stream. The buffer is overwritten; the break is not in it.
pub fn read_line(
    from: &mut impl BufRead,
    buffer: &mut Vec<u8>,
    bound: usize,
) -> Result<Option<()>, LineError> {
    buffer.clear();
    let most = u64::try_from(bound).unwrap_or(u64::MAX).saturating_add(1);
    from.take(most).read_until(b'\n', buffer).map_err(LineError::Io)?;
    match buffer.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(())),
        Some(_) if buffer.len() >= bound => Err(LineError::TooLong { bound }),
        Some(_) => Err(LineError::Cut),
    }
}

/// A value as a line, its break included.
pub fn line(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Flows, Request};

    #[test]
    fn frames_and_requests_are_objects_of_one_line_in_this_form() {
        let hello = Frame::Hello(Hello { protocol: 1, agent: "0.1.0".to_owned() });
        let lost = Frame::Reply(Box::new(Reply::Lost { lines: 3 }));
        for (frame, text) in [
            (hello, r#"{"frame":"hello","content":{"protocol":1,"agent":"0.1.0"}}"#),
            (lost, r#"{"frame":"reply","content":{"lost":{"lines":3}}}"#),
            (
                Frame::Error { message: "a\nb".to_owned() },
                r#"{"frame":"error","content":{"message":"a\nb"}}"#,
            ),
            (Frame::Done, r#"{"frame":"done"}"#),
        ] {
            assert_eq!(serde_json::to_string(&frame).unwrap(), text);
            assert_eq!(serde_json::from_str::<Frame>(text).unwrap(), frame);
        }
        for (request, text) in [
            (Request::Status, r#"{"request":"status"}"#),
            (Request::Judge(Vec::new()), r#"{"request":"judge","of":[]}"#),
            (
                Request::Flows(Flows { follow: true, ..Flows::default() }),
                r#"{"request":"flows","of":{"follow":true,"since":null,"pod":null,"verdict":null}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
            assert_eq!(serde_json::from_str::<Request>(text).unwrap(), request);
        }
    }

    #[test]
    fn a_filter_that_is_not_known_is_an_error_rather_than_ignored() {
        let error = serde_json::from_str::<Request>(r#"{"request":"flows","of":{"port":80}}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `port`"), "{error}");
    }

    #[test]
    fn lines_are_bounded_and_whole() {
        let read = |bytes: &[u8]| {
            let mut buffer = Vec::new();
            let result = read_line(&mut &*bytes, &mut buffer, 4);
            (result.map_err(|error| error.to_string()), buffer)
        };
        assert_eq!(read(b""), (Ok(None), vec![]));
        assert_eq!(read(b"\n"), (Ok(Some(())), vec![]));
        assert_eq!(read(b"abcd\nef\n"), (Ok(Some(())), b"abcd".to_vec()));
        assert_eq!(read(b"abcde\n").0, Err("a line is longer than 4 bytes".to_owned()));
        assert_eq!(read(b"abc").0, Err("the connection ended in the middle of a line".to_owned()));
    }
}
