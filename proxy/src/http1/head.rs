//! A request's head: from what was received to the one text that is judged and forwarded.
//!
//! The text is written anew from what was parsed, and what policy sees are slices of that text: no octet is forwarded that
//! was not decided on, and none decided on that is not forwarded.

use std::mem::MaybeUninit;

use httparse::Header;

use super::framing::{Framing, Lengths};
use super::host::{append_host, without_port};
use super::octets::{append_number, is_token, is_value, members};
use super::target::{Target, append_path};
use crate::fault::Fault;
use crate::limits::Limits;
use crate::policy::{Head, Version};

/// Places for headers, as they are shown to policy.
const FEW: usize = 16;
/// `host` and `upgrade` are written by the proxy, whatever else is there.
const MANY: usize = Limits::MOST_HEADERS + 2;

/// Two places in the text.
type Span = (u32, u32);

/// The head of a request in canonical form.
#[derive(Debug, Default)]
pub struct RequestHead {
    text: Vec<u8>,
    method: Span,
    target: Span,
    path: Span,
    host: Span,
    headers: Vec<(Span, Span)>,
    /// How the body is told from what follows.
    pub framing: Framing,
    /// Whether the client may send another request on the same connection.
    pub persistent: bool,
    /// Whether it is HTTP/1.0, which knows neither chunks nor interim responses.
    pub old: bool,
    /// Whether the client waits for a response before it sends its body.
    pub expects: bool,
    /// Which protocol is asked for instead of HTTP.
    upgrade: Option<&'static str>,
}

impl RequestHead {
    /// Reads a whole head, as [`super::scan::Scanner`] found it. The space of an earlier one is used again.
    pub fn parse(received: &[u8], limits: &Limits, recycled: RequestHead) -> Result<Self, Fault> {
        let mut space = [const { MaybeUninit::uninit() }; Limits::MOST_HEADERS];
        let most = limits.headers.min(Limits::MOST_HEADERS);
        let mut request = httparse::Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(received, &mut space[..most]);
        match parsed.map_err(|error| fault_of(error, received))? {
            httparse::Status::Complete(length) if length == received.len() => {}
            _ => return Err(Fault::REQUEST_LINE),
        }
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version)
        else {
            return Err(Fault::REQUEST_LINE);
        };
        // Whatever the parser made of the first line: it is these three, one space between each.
        let line = method.len() + 1 + target.len() + " HTTP/1.1".len();
        if received.get(line..line + 2) != Some(b"\r\n") {
            return Err(Fault::REQUEST_LINE);
        }
        check_method(method.as_bytes(), limits)?;
        if target.len() > limits.target {
            return Err(Fault::TARGET_LONG);
        }
        let gathered = Gathered::from_headers(received, request.headers, version == 0, limits)?;
        let target = Target::parse(method.as_bytes(), target.as_bytes())?;
        let mut head = recycled.cleared();
        head.write_first_line(method.as_bytes(), target, &gathered)?;
        head.write_headers(request.headers, &gathered)?;
        head.framing = gathered.framing;
        head.persistent = !gathered.old && !gathered.close;
        head.old = gathered.old;
        head.expects = gathered.expects;
        head.upgrade = gathered.upgrade;
        Ok(head)
    }

    /// What is sent to the upstream: the whole head, with the empty line at its end.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The method, in upper case.
    pub fn method(&self) -> &[u8] {
        self.at(self.method)
    }

    /// The host, as forwarded: rules see it without its port.
    pub fn host(&self) -> &[u8] {
        self.at(self.host)
    }

    /// The path, as judged.
    pub fn path(&self) -> &[u8] {
        self.at(self.path)
    }

    /// The path and the query, as forwarded.
    pub fn target(&self) -> &[u8] {
        self.at(self.target)
    }

    /// The protocol that the upstream is asked to switch to.
    pub fn upgrade(&self) -> Option<&'static str> {
        self.upgrade
    }

    /// Shows the head as rules see it.
    pub fn show<R>(&self, to: impl FnOnce(&Head<'_>) -> R) -> R {
        // Few heads have many headers, and this is done for each.
        if self.headers.len() <= FEW { self.show_in::<FEW, R>(to) } else { self.show_in::<MANY, R>(to) }
    }

    fn show_in<const N: usize, R>(&self, to: impl FnOnce(&Head<'_>) -> R) -> R {
        let mut pairs = [(&b""[..], &b""[..]); N];
        for (pair, &(name, value)) in pairs.iter_mut().zip(&self.headers) {
            *pair = (self.at(name), self.at(value));
        }
        let headers = &pairs[..self.headers.len()];
        to(&Head {
            version: Version::Http1,
            method: self.method(),
            host: without_port(self.host()),
            path: self.path(),
            headers,
        })
    }

    /// The names of headers with `_` in them, spelled with `-`.
    pub fn underscored(&self) -> impl Iterator<Item = Vec<u8>> {
        let names = self.headers.iter().map(|&(name, _)| self.at(name)).filter(|name| name.contains(&b'_'));
        names.map(|name| name.iter().map(|&octet| if octet == b'_' { b'-' } else { octet }).collect())
    }

    fn cleared(mut self) -> Self {
        self.text.clear();
        self.headers.clear();
        self
    }

    fn at(&self, (start, end): Span) -> &[u8] {
        &self.text[start as usize..end as usize]
    }

    /// Heads are limited to far less than 4 GiB.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a head is shorter than Limits::head, which is some KiB"
    )]
    fn here(&self) -> u32 {
        self.text.len() as u32
    }

    fn append(&mut self, octets: &[u8]) -> Span {
        let start = self.here();
        self.text.extend_from_slice(octets);
        (start, self.here())
    }

    fn write_first_line(
        &mut self,
        method: &[u8],
        target: Target<'_>,
        gathered: &Gathered<'_>,
    ) -> Result<(), Fault> {
        self.method = self.append(method);
        self.text.push(b' ');
        let start = self.here();
        append_path(target.path, &mut self.text)?;
        self.path = (start, self.here());
        if let Some(query) = target.query {
            self.text.push(b'?');
            self.text.extend_from_slice(query);
        }
        self.target = (start, self.here());
        self.text.extend_from_slice(if gathered.old { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
        let name = self.append(b"host");
        self.text.extend_from_slice(b": ");
        let start = self.here();
        append_host(gathered.host, &mut self.text)?;
        self.host = (start, self.here());
        self.text.extend_from_slice(b"\r\n");
        self.headers.push((name, self.host));
        let Some(authority) = target.authority else { return Ok(()) };
        // RFC 9112, section 3.2.2: the target's authority overrides `Host`; servers that do not know are not tested.
        let mut overriding = Vec::with_capacity(authority.len());
        append_host(authority, &mut overriding)?;
        if overriding == self.host() { Ok(()) } else { Err(Fault::AUTHORITY) }
    }

    fn write_headers(&mut self, headers: &[Header<'_>], gathered: &Gathered<'_>) -> Result<(), Fault> {
        for header in headers {
            let name = header.name.as_bytes();
            match Field::of(name) {
                Field::Length => self.write_length(gathered.framing),
                Field::Transfer => self.write_header(b"transfer-encoding", b"chunked"),
                Field::Expect if gathered.old => {}
                Field::Expect => self.write_header(b"expect", b"100-continue"),
                Field::Other => {
                    if !is_token(name) || !is_value(header.value) {
                        return Err(Fault::HEADER_LINE);
                    }
                    self.write_header(name, super::octets::trim(header.value));
                }
                // Written already, or about this connection alone.
                Field::Host | Field::Connection | Field::Upgrade | Field::Hop => {}
            }
        }
        if let Some(protocol) = gathered.upgrade {
            self.write_header(b"upgrade", protocol.as_bytes());
            self.text.extend_from_slice(b"connection: upgrade\r\n");
        } else if gathered.close && !gathered.old {
            self.text.extend_from_slice(b"connection: close\r\n");
        }
        self.text.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn write_length(&mut self, framing: Framing) {
        let Framing::Length(length) = framing else { return };
        let name = self.append(b"content-length");
        self.text.extend_from_slice(b": ");
        let start = self.here();
        append_number(&mut self.text, length);
        self.headers.push((name, (start, self.here())));
        self.text.extend_from_slice(b"\r\n");
    }

    fn write_header(&mut self, name: &[u8], value: &[u8]) {
        let start = self.here();
        self.text.extend(name.iter().map(u8::to_ascii_lowercase));
        let name = (start, self.here());
        self.text.extend_from_slice(b": ");
        let value = self.append(value);
        self.text.extend_from_slice(b"\r\n");
        self.headers.push((name, value));
    }
}

fn fault_of(error: httparse::Error, received: &[u8]) -> Fault {
    match error {
        httparse::Error::TooManyHeaders => Fault::HEADERS_MANY,
        httparse::Error::Version if names_version(received) => Fault::VERSION,
        httparse::Error::Version
        | httparse::Error::Token
        | httparse::Error::NewLine
        | httparse::Error::Status => Fault::REQUEST_LINE,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => Fault::HEADER_LINE,
    }
}

/// Whether the first line has three words, and the last is a version, if none that is known.
fn names_version(received: &[u8]) -> bool {
    let line = received.split(|&octet| octet == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&octet| octet == b' ').skip(2);
    let version = words.next().and_then(|word| word.strip_prefix(b"HTTP/"));
    let numbered =
        matches!(version, Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit());
    numbered && words.next().is_none()
}

pub(crate) fn check_method(method: &[u8], limits: &Limits) -> Result<(), Fault> {
    if method == b"CONNECT" {
        return Err(Fault::CONNECT);
    }
    // RFC 9110 has methods be case-sensitive, and servers that fold them exist: there are none in lower case to lose.
    let is_method =
        |octet: &u8| octet.is_ascii_uppercase() || octet.is_ascii_digit() || matches!(octet, b'-' | b'_');
    let begins = method.first().is_some_and(u8::is_ascii_uppercase);
    if begins && method.len() <= limits.method && method.iter().all(is_method) {
        Ok(())
    } else {
        Err(Fault::METHOD)
    }
}

/// The headers that say something to this proxy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Host,
    Connection,
    Upgrade,
    Length,
    Transfer,
    Expect,
    /// Others that are about one connection. `te` and `trailer` are among them because trailers of requests are not passed on.
    Hop,
    Other,
}

impl Field {
    fn of(name: &[u8]) -> Field {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("te") => Field::Hop,
            4 if is("host") => Field::Host,
            6 if is("expect") => Field::Expect,
            7 if is("upgrade") => Field::Upgrade,
            7 if is("trailer") => Field::Hop,
            10 if is("connection") => Field::Connection,
            10 if is("keep-alive") => Field::Hop,
            14 if is("content-length") => Field::Length,
            14 if is("http2-settings") => Field::Hop,
            16 if is("proxy-connection") => Field::Hop,
            17 if is("transfer-encoding") => Field::Transfer,
            _ => Field::Other,
        }
    }
}

/// What the headers say to this proxy.
struct Gathered<'a> {
    old: bool,
    host: &'a [u8],
    framing: Framing,
    close: bool,
    expects: bool,
    upgrade: Option<&'static str>,
}

impl<'a> Gathered<'a> {
    fn from_headers(
        received: &[u8],
        headers: &[Header<'a>],
        old: bool,
        limits: &Limits,
    ) -> Result<Self, Fault> {
        let mut host = None;
        let mut lengths = Lengths::default();
        let mut options = Options::default();
        let mut upgrade = None;
        let mut upgrades = 0;
        let mut expects = false;
        for header in headers {
            match Field::of(header.name.as_bytes()) {
                Field::Host if host.is_some() => return Err(Fault::HOST_COUNT),
                Field::Host => host = Some(header.value),
                Field::Length => lengths.length(received, header)?,
                Field::Transfer => lengths.transfer(header)?,
                Field::Connection => options.add(header.value, headers)?,
                Field::Upgrade => {
                    upgrades += 1;
                    let known = limits
                        .upgrades
                        .iter()
                        .find(|known| header.value.eq_ignore_ascii_case(known.as_bytes()));
                    upgrade = known.copied();
                }
                Field::Expect if !header.value.eq_ignore_ascii_case(b"100-continue") && !old => {
                    return Err(Fault::EXPECT);
                }
                Field::Expect => expects = !old,
                Field::Hop | Field::Other => {}
            }
        }
        let framing = lengths.of_request(old)?;
        // Of several protocols the upstream would choose, and an old client cannot be told which.
        let upgrade = upgrade.filter(|_| options.upgrade && upgrades == 1 && !old);
        if upgrade.is_some() && !matches!(framing, Framing::None | Framing::Length(0)) {
            return Err(Fault::UPGRADE_BODY);
        }
        let host = host.ok_or(Fault::HOST_COUNT)?;
        Ok(Gathered { old, host, framing, close: options.close, expects, upgrade })
    }
}

/// What `Connection` says.
#[derive(Default)]
struct Options {
    close: bool,
    upgrade: bool,
}

impl Options {
    /// A header that `Connection` names is to be removed by whoever passes it on (RFC 9110, section 7.6.1): so it could be
    /// judged here and be gone behind the next proxy. Those that are never passed on may be named.
    fn add(&mut self, list: &[u8], headers: &[Header<'_>]) -> Result<(), Fault> {
        for option in members(list) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else if !is_token(option) {
                return Err(Fault::HEADER_LINE);
            } else if Field::of(option) != Field::Hop
                && headers.iter().any(|header| header.name.as_bytes().eq_ignore_ascii_case(option))
            {
                return Err(Fault::CONNECTION);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(received: &str) -> Result<RequestHead, Fault> {
        RequestHead::parse(received.as_bytes(), &Limits::default(), RequestHead::default())
    }

    fn fault(received: &str) -> Fault {
        parse(received).expect_err(received)
    }

    #[test]
    fn what_is_judged_is_what_is_forwarded() {
        let received = "POST HTTP://Shop.Example:80/a%c3%a9?b=%2e HTTP/1.1\r\nX-Rule: \t yes \r\nHOST: shop.example.\r\n\
                        Content-Length: 3\r\nConnection: keep-alive, TE\r\nTE: trailers\r\nx-rule:\r\n\r\n";
        let head = parse(received).unwrap();
        let text = "POST /a%C3%A9?b=%2e HTTP/1.1\r\nhost: shop.example\r\nx-rule: yes\r\ncontent-length: 3\r\nx-rule: \r\n\r\n";
        assert_eq!(head.text().escape_ascii().to_string(), text.as_bytes().escape_ascii().to_string());
        let headers: [(&[u8], &[u8]); 4] =
            [(b"host", b"shop.example"), (b"x-rule", b"yes"), (b"content-length", b"3"), (b"x-rule", b"")];
        head.show(|shown| {
            let expected = Head {
                version: Version::Http1,
                method: b"POST",
                host: b"shop.example",
                path: b"/a%C3%A9",
                headers: &headers,
            };
            assert_eq!(*shown, expected);
            let forwarded = head.text().as_ptr_range();
            assert!(shown.headers.iter().all(|(name, value)| {
                forwarded.contains(&name.as_ptr()) && forwarded.contains(&value.as_ptr())
            }));
        });
        assert_eq!(head.framing, Framing::Length(3));
        assert!(head.persistent);
    }

    #[test]
    fn space_is_used_again_and_nothing_of_it_stays() {
        let first =
            parse("GET /first HTTP/1.1\r\nHost: a\r\nX: secret\r\nConnection: close\r\n\r\n").unwrap();
        let received = b"GET / HTTP/1.1\r\nHost: b\r\n\r\n";
        let second = RequestHead::parse(received, &Limits::default(), first).unwrap();
        assert_eq!(second.text(), b"GET / HTTP/1.1\r\nhost: b\r\n\r\n");
        second.show(|head| assert_eq!(head.headers, [(&b"host"[..], &b"b"[..])]));
        assert!(second.persistent);
    }

    #[test]
    fn an_upgrade_is_passed_on_if_it_is_known_and_nothing_else_is_asked() {
        let upgrade = |headers: &str| {
            parse(&format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n")).map(|head| {
                let text = String::from_utf8(head.text().to_vec()).unwrap();
                (head.upgrade(), text.split_once("host: a\r\n").unwrap().1.to_owned())
            })
        };
        let known = "upgrade: websocket\r\nconnection: upgrade\r\n\r\n".to_owned();
        let none = Ok((None, "\r\n".to_owned()));
        assert_eq!(upgrade("Connection: Upgrade\r\nUpgrade: WebSocket\r\n"), Ok((Some("websocket"), known)));
        assert_eq!(upgrade("Upgrade: websocket\r\n"), none);
        for other in ["h2c", "websocket, h2c", "websocket/13", "foo"] {
            assert_eq!(upgrade(&format!("Connection: Upgrade\r\nUpgrade: {other}\r\n")), none, "{other}");
        }
        assert_eq!(upgrade("Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n"), none);
        let body = "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n";
        assert_eq!(upgrade(body), Err(Fault::UPGRADE_BODY));
    }

    #[test]
    fn connection_names_no_header_that_is_forwarded() {
        let named = |option: &str| {
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nX-Rule: b\r\nContent-Length: 0\r\nConnection: {option}\r\n\r\n"
            )
        };
        for option in ["x-rule", "Host", "content-length", "close, X-RULE"] {
            assert_eq!(fault(&named(option)), Fault::CONNECTION, "{option}");
        }
        assert_eq!(fault(&named("a b")), Fault::HEADER_LINE);
        assert!(parse(&named("x-other, keep-alive, ,")).is_ok());
    }

    #[test]
    fn old_requests_end_their_connection_and_have_no_chunks() {
        let head =
            parse("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n")
                .unwrap();
        assert_eq!(head.text(), b"GET / HTTP/1.0\r\nhost: a\r\n\r\n");
        assert!(!head.persistent && head.old);
        assert_eq!(
            fault("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Fault::TRANSFER_OLD
        );
    }

    #[test]
    fn limits_have_statuses_of_their_own() {
        let limits = Limits::default();
        let many = "a: b\r\n".repeat(limits.headers);
        assert_eq!(fault(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")), Fault::HEADERS_MANY);
        let long = "a".repeat(limits.target);
        assert_eq!(fault(&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")), Fault::TARGET_LONG);
        assert!(parse(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", &long[1..])).is_ok());
    }
}
