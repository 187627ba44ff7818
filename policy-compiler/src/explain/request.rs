//! What is asked over a connection, as users say it; and whether it is what a rule asks for.
//!
//! Whether a rule matches is asked of a list of this one rule, which is the engine. Of a rule that does not match, each part is
//! asked by itself, to say which it is.

use std::sync::Arc;

use datapath::http::{self, ClientHello, Head, Version};
use datapath::verdict::{Action, Tier};
use serde::Serialize;

use super::answer::{Mismatch, Part};
use crate::asks::{Asks, HttpMatch};
use crate::list::{Conditional, List};
use crate::policy::Rule;

/// What is asked over a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// HTTP.
    Http(HttpRequest),
    /// TLS, to this name; empty if none is sent.
    Tls(String),
    /// Something else.
    Opaque,
}

/// An HTTP request. Its parts are canonical, as [`datapath::http::Head`] has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpRequest {
    /// `GET`
    pub method: String,
    /// `/path`
    pub path: String,
    /// The host, if it matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Names in lower case, and values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Whether it is HTTP/2, as gRPC is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub http2: bool,
}

impl Request {
    /// The HTTP request, if it is one.
    pub fn http(&self) -> Option<&HttpRequest> {
        match self {
            Self::Http(http) => Some(http),
            Self::Tls(_) | Self::Opaque => None,
        }
    }

    /// The name that TLS asks for, if it is TLS.
    pub fn tls(&self) -> Option<&str> {
        match self {
            Self::Tls(name) => Some(name),
            Self::Http(_) | Self::Opaque => None,
        }
    }

    /// As the datapath is asked.
    pub fn with<T>(&self, ask: impl FnOnce(&http::Request<'_>) -> T) -> T {
        match self {
            Self::Http(request) => {
                let pair = |(name, value): &(String, String)| (name.clone(), value.clone());
                let headers: Vec<(String, String)> = request.headers.iter().map(pair).collect();
                let headers: Vec<(&[u8], &[u8])> =
                    headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
                ask(&http::Request::Http(Head {
                    protocol: if request.http2 { Version::Http2 } else { Version::Http1 },
                    method: request.method.as_bytes(),
                    host: request.host.as_deref().unwrap_or_default().as_bytes(),
                    path: request.path.as_bytes(),
                    headers: &headers,
                }))
            }
            Self::Tls(name) => ask(&http::Request::Tls(ClientHello { server_name: name.as_bytes() })),
            Self::Opaque => ask(&http::Request::Opaque),
        }
    }
}

/// Whether a rule with this action that asks this matches a request.
pub(super) fn matches(request: &Request, action: Action, asks: &Arc<Asks>) -> bool {
    let tier = Tier::Admin;
    let list = List::new(vec![Conditional { tier, rank: 0, action, asks: Arc::clone(asks) }]);
    let found = datapath::l7::List::new(list.bytes());
    let slots = found.and_then(|list| request.with(|request| list.slots(request)));
    slots.is_ok_and(|slots| !slots[tier as usize].is_empty())
}

/// Why a rule does not match a request: of its alternatives, the one of which the fewest parts are wrong.
pub(super) fn mismatch(request: &Request, rule: &Rule, asks: &Asks) -> Option<Mismatch> {
    let said = |path: &str, text: String| Some(Mismatch { part: Part::Request, path: path.to_owned(), text });
    match (asks, request) {
        (Asks::Http(any), Request::Http(asked)) => {
            let wrong = any.iter().map(|http| (http, wrong(request, asked, http, rule.action)));
            let (http, parts) = wrong.min_by_key(|(_, parts)| parts.len())?;
            said(&http.at, parts.join("; "))
        }
        (Asks::Http(_), _) => said(&rule.path, "it is not HTTP".to_owned()),
        (Asks::Tls(_), Request::Tls(name)) if name.is_empty() => {
            said(&format!("{}.tls", rule.path), "it names no server".to_owned())
        }
        (Asks::Tls(_), Request::Tls(name)) => {
            said(&format!("{}.tls.serverNames", rule.path), format!("{name} is none of the names"))
        }
        (Asks::Tls(_), _) => said(&format!("{}.tls", rule.path), "it is not TLS".to_owned()),
    }
}

/// The parts of an alternative that a request does not meet, in words.
fn wrong(request: &Request, asked: &HttpRequest, http: &HttpMatch, action: Action) -> Vec<String> {
    let nothing = HttpMatch {
        at: Arc::clone(&http.at),
        http2: false,
        methods: Vec::new(),
        hosts: Vec::new(),
        path: None,
        headers: Vec::new(),
    };
    let is_met = |only: HttpMatch| matches(request, action, &Arc::new(Asks::Http(vec![only])));
    let mut parts = Vec::new();
    if !is_met(HttpMatch { methods: http.methods.clone(), ..nothing.clone() }) {
        parts.push(match &http.methods[..] {
            [] => format!("the method {} has to be named", asked.method),
            methods => format!("the method is {}, not {}", asked.method, methods.join(" or ")),
        });
    }
    // From here on the method is one that needs no name.
    let request = &Request::Http(HttpRequest { method: "GET".to_owned(), ..asked.clone() });
    let is_met = |only: HttpMatch| matches(request, action, &Arc::new(Asks::Http(vec![only])));
    if !is_met(HttpMatch { http2: http.http2, ..nothing.clone() }) {
        parts.push("it is not HTTP/2".to_owned());
    }
    if !is_met(HttpMatch { hosts: http.hosts.clone(), ..nothing.clone() }) {
        let hosts: Vec<String> = http.hosts.iter().map(ToString::to_string).collect();
        let host = asked.host.as_deref().unwrap_or("unknown");
        parts.push(format!("the host is {host}, not {}", hosts.join(" or ")));
    }
    if let Some(path) = &http.path
        && !is_met(HttpMatch { path: Some(path.clone()), ..nothing.clone() })
    {
        parts.push(format!("the path is {}, not {path}", asked.path));
    }
    for header in &http.headers {
        if !is_met(HttpMatch { headers: vec![header.clone()], ..nothing.clone() }) {
            parts.push(format!("the header {header} is not there"));
        }
    }
    parts
}
