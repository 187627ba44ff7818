//! Whether one request matches what one rule asks, field by field.

use datapath::http::{Head, Request, Version};
use regex::bytes::RegexBuilder;

use crate::api::polder_policy::{Grpc, Header, Http, Path, Tls};

/// What a rule asks. All `None`: the rule is about the whole connection.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) http: Option<&'a [Http]>,
    pub(super) grpc: Option<&'a [Grpc]>,
    pub(super) tls: Option<&'a Tls>,
}

impl Asked<'_> {
    /// Whether the rule is about requests at all.
    pub(super) fn is_conditional(&self) -> bool {
        self.http.is_some() || self.grpc.is_some() || self.tls.is_some()
    }

    /// Whether the rule is about the protocol that a request is in.
    pub(super) fn is_about(&self, request: &Request<'_>) -> bool {
        match request {
            Request::Http(_) => self.http.is_some() || self.grpc.is_some(),
            Request::Tls(_) => self.tls.is_some(),
            Request::Opaque => false,
        }
    }

    /// Whether a rule that lets through (`opens`), or one that does not, matches a request.
    pub(super) fn matches(&self, request: &Request<'_>, opens: bool) -> bool {
        match request {
            Request::Http(head) => {
                self.http.into_iter().flatten().any(|http| matches_http(http, head, opens))
                    || self.grpc.into_iter().flatten().any(|grpc| matches_grpc(grpc, head, opens))
            }
            // Nobody can see what is asked inside: a rule that closes HTTP closes it.
            Request::Tls(_) if self.http.is_some() || self.grpc.is_some() => !opens,
            Request::Tls(hello) => self
                .tls
                .is_some_and(|tls| tls.server_names.iter().any(|name| matches_name(name, hello.server_name))),
            Request::Opaque => false,
        }
    }
}

fn matches_http(http: &Http, head: &Head<'_>, opens: bool) -> bool {
    let method = match &http.methods {
        Some(methods) => methods.iter().any(|method| method.as_bytes() == head.method),
        None => !opens || head.method != b"CONNECT",
    };
    method
        && http.hosts.as_ref().is_none_or(|hosts| hosts.iter().any(|name| matches_name(name, head.host)))
        && http.path.as_ref().is_none_or(|path| matches_path(path, head.path))
        && http.headers.iter().flatten().all(|header| matches_header(header, head, opens))
}

fn matches_grpc(grpc: &Grpc, head: &Head<'_>, opens: bool) -> bool {
    let prefix = format!("/{}/", grpc.service);
    let Some(method) = head.path.strip_prefix(prefix.as_bytes()) else { return false };
    let method = match &grpc.methods {
        Some(methods) => methods.iter().any(|known| known.as_bytes() == method),
        None => !method.is_empty() && !method.contains(&b'/'),
    };
    let content_type = |value: &[u8]| {
        let rest = value.strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+") || rest.starts_with(b";"))
    };
    method
        && head.protocol == Version::Http2
        && head.method == b"POST"
        && values_match("content-type", head, opens, content_type)
}

/// A name, or `*.` and one.
fn matches_name(pattern: &str, name: &[u8]) -> bool {
    let pattern = pattern.to_lowercase();
    let pattern = pattern.trim_end_matches('.');
    match pattern.strip_prefix('*') {
        Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix.as_bytes()),
        None => name == pattern.as_bytes(),
    }
}

fn matches_path(pattern: &Path, path: &[u8]) -> bool {
    if let Some(exact) = &pattern.exact {
        return path == exact.as_bytes();
    }
    if let Some(prefix) = &pattern.prefix {
        let bare = prefix.trim_end_matches('/');
        let beneath = format!("{bare}/");
        return !bare.is_empty() && path == bare.as_bytes() || path.starts_with(beneath.as_bytes());
    }
    pattern.regex.as_ref().is_some_and(|regex| matches_regex(regex, path))
}

fn matches_header(header: &Header, head: &Head<'_>, opens: bool) -> bool {
    let matches = |value: &[u8]| {
        header.present == Some(true)
            || header.equal.as_ref().is_some_and(|equal| value == equal.as_bytes())
            || header.regex.as_ref().is_some_and(|regex| matches_regex(regex, value))
    };
    values_match(&header.name.to_lowercase(), head, opens, matches)
}

/// Of a rule that lets through, all values must match, and none may stand under the name with an underscore; of one that does
/// not, one value is enough, however the name is spelled.
fn values_match(name: &str, head: &Head<'_>, opens: bool, matches: impl Fn(&[u8]) -> bool) -> bool {
    let spelled = |found: &[u8]| found == name.as_bytes();
    let with_dashes =
        |found: &[u8]| found.iter().map(|b| if *b == b'_' { b'-' } else { *b }).collect::<Vec<u8>>();
    let mut values =
        head.headers.iter().filter(|(found, _)| with_dashes(found) == name.as_bytes()).peekable();
    if opens {
        values.peek().is_some() && values.all(|(found, value)| spelled(found) && matches(value))
    } else {
        values.any(|(_, value)| matches(value))
    }
}

/// From the first byte to the last.
fn matches_regex(regex: &str, value: &[u8]) -> bool {
    let anchored = RegexBuilder::new(&format!("^(?:{regex})$")).unicode(false).build();
    anchored.is_ok_and(|regex| regex.is_match(value))
}
