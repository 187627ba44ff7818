//! One request, or one TLS connection, after its end.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What was asked, and how it came out. What is not known is absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request<'a> {
    /// When it was over.
    pub time: Timestamp,
    /// Where the connection came from.
    pub client: SocketAddr,
    /// Where it went.
    pub server: SocketAddr,
    /// What was spoken.
    pub protocol: Protocol,
    /// The method.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub method: Cow<'a, str>,
    /// The host, or the name that TLS asked for.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub host: Cow<'a, str>,
    /// The path, without its query.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub path: Cow<'a, str>,
    /// What the client was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How it came out.
    pub outcome: Outcome,
    /// What was wrong with it, or with its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Cow<'a, str>>,
    /// Why policy said so: `rule_denies`, ..., as with packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
    /// The rule set of the rule that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_set: Option<RuleSet>,
    /// The rule's rank in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// The generation of the rules that judged.
    pub generation: u64,
    /// From the end of its head to the end of the response.
    pub seconds: f64,
}

/// What was spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2, and gRPC over it.
    Http2,
    /// TLS, of which the server's name is known and no more.
    Tls,
    /// None of them, or nothing yet.
    Unknown,
}

/// How a request came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A rule allowed it.
    Allowed,
    /// A rule denied it.
    Denied,
    /// It was not even judged: it is not certain what it is.
    Refused,
    /// A rule allowed it, and it failed for another reason.
    Failed,
    /// A rule allowed it once, and rules that came later ended it.
    Withdrawn,
}

/// A rule set's id: 12 hexadecimal digits, as in the names of lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleSet(pub u64);

impl Protocol {
    /// Its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Tls => "tls",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0)
    }
}

impl FromStr for RuleSet {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

impl Serialize for RuleSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RuleSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_line_that_can_be_read_back() {
        let request = Request {
            time: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            client: ([10, 0, 0, 1], 4000).into(),
            server: ([10, 0, 0, 2], 80).into(),
            protocol: Protocol::Http1,
            method: "GET".into(),
            host: "shop".into(),
            path: "/a\"b".into(),
            status: Some(403),
            outcome: Outcome::Denied,
            fault: None,
            reason: Some("rule_denies".into()),
            rule_set: Some(RuleSet(0x1a2b)),
            rank: Some(3),
            generation: 7,
            seconds: 0.005,
        };
        let text = serde_json::to_string(&request).unwrap();
        let expected = concat!(
            r#"{"time":"2026-01-02T03:04:05.678Z","client":"10.0.0.1:4000","server":"10.0.0.2:80","protocol":"http1","#,
            r#""method":"GET","host":"shop","path":"/a\"b","status":403,"outcome":"denied","reason":"rule_denies","#,
            r#""rule_set":"000000001a2b","rank":3,"generation":7,"seconds":0.005}"#
        );
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Request<'_>>(&text).unwrap(), request);
    }

    #[test]
    fn what_is_not_known_is_absent() {
        let text = concat!(
            r#"{"time":"2026-01-02T03:04:05Z","client":"10.0.0.1:4000","server":"[fd00::1]:80","protocol":"unknown","#,
            r#""outcome":"refused","fault":"not http","generation":7,"seconds":0.0}"#
        );
        let request: Request<'_> = serde_json::from_str(text).unwrap();
        assert_eq!((request.method.as_ref(), request.status, request.rule_set), ("", None, None));
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
    }
}
