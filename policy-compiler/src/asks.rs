//! What a rule demands of what is asked over a connection: the conditional part of the one vocabulary.
//!
//! All text is canonical, as [`datapath::http`] has it.

use std::fmt;
use std::sync::Arc;

use datapath::verdict::Action;

/// What a rule demands of what is asked. A rule that demands something is *conditional*: it says nothing about a connection
/// of which it is not known what is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Asks {
    /// HTTP, and one of these; nothing if the list is empty.
    Http(Vec<HttpMatch>),
    /// TLS, to one of these names; nothing if the list is empty.
    Tls(Vec<NamePattern>),
}

/// One kind of request: all that it says must hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpMatch {
    /// `spec.ingress[2].http[0]`
    pub at: Arc<str>,
    /// Whether it must be HTTP/2, as gRPC is.
    pub http2: bool,
    /// One of these; if empty, any. CONNECT, which makes the connection something else, is let through by name only.
    pub methods: Vec<Arc<str>>,
    /// One of these; if empty, any.
    pub hosts: Vec<NamePattern>,
    /// The path, if it matters.
    pub path: Option<PathPattern>,
    /// All of these; each name once.
    pub headers: Vec<HeaderMatch>,
}

/// A DNS name, or all names under one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamePattern {
    /// Just this one.
    Exact(Arc<str>),
    /// Names with one label more, or several; written `*.` and the name.
    Under(Arc<str>),
}

/// Which paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathPattern {
    /// Just this one.
    Exact(Arc<str>),
    /// This one and all beneath it, segment by segment; without a slash at its end, but for `/` itself.
    Prefix(Arc<str>),
    /// Those that this regular expression matches from the first byte to the last.
    Regex(Arc<str>),
}

/// What a header must be.
///
/// If it stands several times, a rule that lets through wants all its values to match, and one that does not is content with
/// any: whichever of them the server takes, the rule meant it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderMatch {
    /// Its name: lower case, without `_`.
    pub name: Arc<str>,
    /// Its value.
    pub value: ValuePattern,
}

/// Which values of a header.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ValuePattern {
    /// Any: the header must be there.
    Present,
    /// Just this one.
    Equal(Arc<str>),
    /// Those that this regular expression matches from the first byte to the last.
    Regex(Arc<str>),
}

/// Whether a rule with this action lets something through. Where a request can be read in two ways, such a rule demands that
/// both match, and any other rule is content with one.
pub const fn opens(action: Action) -> bool {
    match action {
        Action::Allow | Action::Pass => true,
        Action::Deny | Action::Reject => false,
    }
}

impl fmt::Display for NamePattern {
    /// `shop.example`, `*.shop.example`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Under(name) => write!(f, "*.{name}"),
        }
    }
}

impl fmt::Display for PathPattern {
    /// `/cart`, `/cart/...`, `~ /cart/[0-9]+`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(path) => write!(f, "{}/...", path.trim_end_matches('/')),
            Self::Regex(regex) => write!(f, "~ {regex}"),
        }
    }
}

impl fmt::Display for HeaderMatch {
    /// `x-user`, `x-user: admin`, `x-user ~ a.*`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            ValuePattern::Present => f.write_str(&self.name),
            ValuePattern::Equal(value) => write!(f, "{}: {value}", self.name),
            ValuePattern::Regex(regex) => write!(f, "{} ~ {regex}", self.name),
        }
    }
}

impl fmt::Display for HttpMatch {
    /// `GET or HEAD /cart/... of shop.example with x-user: admin`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |items: Vec<String>, last: &str| items.join(last);
        let mut parts = Vec::new();
        if self.http2 {
            parts.push("HTTP/2".to_owned());
        }
        parts.push(match &self.methods[..] {
            [] => "any method".to_owned(),
            methods => list(methods.iter().map(ToString::to_string).collect(), " or "),
        });
        parts.extend(self.path.as_ref().map(ToString::to_string));
        if !self.hosts.is_empty() {
            parts.push(format!("of {}", list(self.hosts.iter().map(ToString::to_string).collect(), " or ")));
        }
        if !self.headers.is_empty() {
            let headers = self.headers.iter().map(ToString::to_string).collect();
            parts.push(format!("with {}", list(headers, " and ")));
        }
        f.write_str(&parts.join(" "))
    }
}

impl fmt::Display for Asks {
    /// `HTTP GET /cart; POST /cart`, `TLS to shop.example or *.shop.example`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(any) => {
                let any: Vec<String> = any.iter().map(ToString::to_string).collect();
                write!(f, "HTTP {}", any.join("; "))
            }
            Self::Tls(names) => {
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                write!(f, "TLS to {}", names.join(" or "))
            }
        }
    }
}

/// Whether this is a token (RFC 9110 section 5.6.2).
pub fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

/// Whether this is a host as requests have it when policy is asked: a DNS name in lower case, an IPv4 address, or an IPv6 one
/// in brackets.
pub fn is_host(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok_and(|address| address.to_string() == inner);
    }
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        (1..=63).contains(&label.len()) && label.bytes().all(inner)
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Whether a path is as requests have it when policy is asked; if not, what is wrong with it. A request for any other is refused
/// by the proxy: servers are known to disagree about it.
pub fn canonical_path(text: &str) -> Result<(), &'static str> {
    let Some(rest) = text.strip_prefix('/') else { return Err("it does not begin with a slash") };
    let segments = || rest.split('/');
    if segments().any(is_dots) {
        return Err("it has a dot segment");
    }
    // The last one is empty if the path ends with a slash.
    if segments().rev().skip(1).any(str::is_empty) {
        return Err("it has an empty segment");
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'?' | b'#' => return Err("it has a query or a fragment"),
            b'%' => canonical_escape(&mut bytes)?,
            _ if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@/".contains(&byte) => byte,
            _ => return Err("it has a character that a path cannot have"),
        });
    }
    std::str::from_utf8(&decoded).map(|_| ()).map_err(|_| "what it escapes is no UTF-8")
}

/// Dots, and blanks among them: some servers ignore those at the end of a name.
fn is_dots(segment: &str) -> bool {
    segment.starts_with('.') && segment.replace("%20", "").bytes().all(|byte| byte == b'.')
}

/// What the two digits behind a `%` stand for (RFC 3986 sections 2.1 and 6.2.2).
fn canonical_escape(behind: &mut std::str::Bytes<'_>) -> Result<u8, &'static str> {
    let mut digit = || match behind.next() {
        Some(digit @ b'0'..=b'9') => Ok(digit - b'0'),
        Some(digit @ b'A'..=b'F') => Ok(digit - b'A' + 10),
        _ => Err("a % stands without two digits in upper case"),
    };
    let byte = digit()? << 4 | digit()?;
    let mut next = behind.clone();
    let is_digit = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
    match byte {
        _ if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
            Err("a character is escaped that need not be")
        }
        b'/' | b'\\' | b';' | 0..0x20 | 0x7f => {
            Err("an escaped slash, backslash, semicolon or control is refused in any request")
        }
        b'%' if is_digit(next.next()) && is_digit(next.next()) => Err("it is escaped twice"),
        _ => Ok(byte),
    }
}
