//! A stream of requests, line by line.

use serde::{Deserialize, Serialize};

use crate::request::Request;

/// The longest line, in bytes: a head is a tenth of it, and JSON writes an octet in six at most.
pub const LINE_LENGTH: usize = 256 << 10;

/// A line of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and nearly all are requests")]
pub enum News<'a> {
    /// A request is over.
    Request(Request<'a>),
    /// Whoever reads is too slow, and so many requests at this place are lost to it.
    Lost(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_beside_requests_is_of_this_form() {
        let (news, text) = (News::Lost(3), r#"{"lost":3}"#);
        assert_eq!(serde_json::to_string(&news).unwrap(), text);
        assert_eq!(serde_json::from_str::<News<'_>>(text).unwrap(), news);
    }
}
