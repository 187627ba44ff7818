//! A stream's request in the canonical form: the same as a request of HTTP/1 has.
//!
//! `h2` has refused what RFC 9113, section 8 calls malformed. What is left is what servers might read differently.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderMap, TE, TRAILER};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, Method, Request, Uri};

use crate::fault::Fault;
use crate::http1::head::check_method;
use crate::http1::host::{append_host, without_port};
use crate::http1::octets::{is_query, is_value};
use crate::http1::target::append_path;
use crate::limits::Limits;
use crate::policy::{Head, Version};

/// The head of a request in canonical form.
#[derive(Debug)]
pub struct StreamHead {
    method: Method,
    host: String,
    path: String,
    query: Option<String>,
    /// Without `host`, which is the authority.
    headers: HeaderMap,
    /// Whether the client waits for a response before it sends its body.
    pub expects: bool,
}

impl StreamHead {
    /// Reads a request as `h2` gives it.
    pub fn parse(mut parts: Parts, limits: &Limits) -> Result<Self, Fault> {
        check_method(parts.method.as_str().as_bytes(), limits)?;
        if parts.headers.len() > limits.headers.min(Limits::MOST_HEADERS) {
            return Err(Fault::HEADERS_MANY);
        }
        if parts.uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP) {
            return Err(Fault::TARGET_FORM);
        }
        let target = parts.uri.path_and_query().ok_or(Fault::TARGET_FORM)?;
        if target.as_str().len() > limits.target {
            return Err(Fault::TARGET_LONG);
        }
        let path = canonical_path(&parts.method, target.path())?;
        let query = target.query().map(str::to_owned);
        if !query.as_ref().is_none_or(|query| is_query(query.as_bytes())) {
            return Err(Fault::TARGET_OCTET);
        }
        let host = canonical_host(&parts)?;
        let headers = &mut parts.headers;
        headers.remove(HOST);
        check_headers(headers)?;
        let expects = headers.remove(EXPECT).is_some();
        headers.remove(TRAILER);
        Ok(StreamHead { method: parts.method, host, path, query, headers: parts.headers, expects })
    }

    /// Shows the head as rules see it.
    pub fn show<R>(&self, to: impl FnOnce(&Head<'_>) -> R) -> R {
        let mut pairs = [(&b""[..], &b""[..]); Limits::MOST_HEADERS + 1];
        let host = std::iter::once((&b"host"[..], self.host()));
        let others = self.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        for (pair, header) in pairs.iter_mut().zip(host.chain(others)) {
            *pair = header;
        }
        let headers = &pairs[..=self.headers.len()];
        to(&Head {
            version: Version::Http2,
            method: self.method(),
            host: without_port(self.host()),
            path: self.path(),
            headers,
        })
    }

    /// The names of headers with `_` in them, spelled with `-`.
    pub fn underscored(&self) -> impl Iterator<Item = Vec<u8>> {
        let names = self.headers.keys().map(HeaderName::as_str).filter(|name| name.contains('_'));
        names.map(|name| name.replace('_', "-").into_bytes())
    }

    /// The method, in upper case.
    pub fn method(&self) -> &[u8] {
        self.method.as_str().as_bytes()
    }

    /// The host, as forwarded: rules see it without its port.
    pub fn host(&self) -> &[u8] {
        self.host.as_bytes()
    }

    /// The path, as judged.
    pub fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    /// Whether the answer has to be one that a client of gRPC understands.
    pub fn is_grpc(&self) -> bool {
        self.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
    }

    /// The request that is sent to the upstream.
    pub fn request(&self) -> Result<Request<()>, Fault> {
        let target = match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        };
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(Authority::try_from(self.host.as_str()).map_err(|_| Fault::HOST)?);
        parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(|_| Fault::TARGET_OCTET)?);
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Fault::TARGET_FORM)?;
        request.headers_mut().clone_from(&self.headers);
        Ok(request)
    }
}

fn canonical_path(method: &Method, path: &str) -> Result<String, Fault> {
    let asterisk = path == "*" && *method == Method::OPTIONS;
    if !asterisk && !path.starts_with('/') {
        return Err(Fault::TARGET_FORM);
    }
    let mut canonical = Vec::with_capacity(path.len());
    append_path(path.as_bytes(), &mut canonical)?;
    String::from_utf8(canonical).map_err(|_| Fault::ENCODING)
}

/// The authority, which a `host` has to agree with (RFC 9113, section 8.3.1).
fn canonical_host(parts: &Parts) -> Result<String, Fault> {
    let canonical = |received: &[u8]| {
        let mut host = Vec::with_capacity(received.len());
        append_host(received, &mut host)?;
        String::from_utf8(host).map_err(|_| Fault::HOST)
    };
    let mut hosts = parts.headers.get_all(HOST).iter();
    let named = hosts.next().map(|host| canonical(host.as_bytes())).transpose()?;
    if hosts.next().is_some() {
        return Err(Fault::HOST_COUNT);
    }
    let authority =
        parts.uri.authority().map(|authority| canonical(authority.as_str().as_bytes())).transpose()?;
    match (authority, named) {
        (Some(authority), Some(named)) if authority != named => Err(Fault::AUTHORITY),
        (Some(host), _) | (None, Some(host)) => Ok(host),
        (None, None) => Err(Fault::HOST_COUNT),
    }
}

fn check_headers(headers: &HeaderMap) -> Result<(), Fault> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next().map(http::HeaderValue::as_bytes);
    let shortest = |length: &[u8]| length == b"0" || length.first().is_some_and(|digit| *digit != b'0');
    let number =
        |length: &[u8]| length.len() <= 18 && length.iter().all(u8::is_ascii_digit) && shortest(length);
    if lengths.next().is_some() || !length.is_none_or(number) {
        return Err(Fault::LENGTH);
    }
    if headers.get_all(TE).iter().any(|te| te.as_bytes() != b"trailers") {
        return Err(Fault::TRANSFER);
    }
    if headers.get_all(EXPECT).iter().any(|expect| !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Fault::EXPECT);
    }
    let hop =
        ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings"];
    if hop.iter().any(|name| headers.contains_key(*name)) {
        return Err(Fault::CONNECTION);
    }
    let bare = |value: &[u8]| is_value(value) && crate::http1::octets::trim(value).len() == value.len();
    if headers.values().all(|value| bare(value.as_bytes())) { Ok(()) } else { Err(Fault::HEADER_LINE) }
}
