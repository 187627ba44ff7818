//! What is asked over a connection, in the one form that policy is asked about.
//!
//! Whoever reads requests brings them into this form first, and sends on what it brought into it: policy and the server must
//! see the same bytes. What cannot be brought into it is never asked about, but refused.

/// What is asked over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// The head of an HTTP request.
    Http(Head<'a>),
    /// The first message of TLS. What is asked inside of it cannot be seen.
    Tls(ClientHello<'a>),
    /// Neither: bytes that are no protocol that rules speak of.
    Opaque,
}

/// The canonical head of an HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Its version.
    pub protocol: Version,
    /// As sent: methods are case-sensitive (RFC 9110 section 9.1).
    pub method: &'a [u8],
    /// Lower case, without its port, by which few servers choose, and without a trailing dot; brackets around an IPv6 address stay.
    pub host: &'a [u8],
    /// Without query, dot segments, empty segments and needless percent-encoding (RFC 3986 section 6.2.2); `*` of OPTIONS;
    /// empty for CONNECT.
    pub path: &'a [u8],
    /// Names in lower case, values without surrounding white space; one entry a field line, in order.
    pub headers: &'a [(&'a [u8], &'a [u8])],
}

/// The version of HTTP that a request is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Version {
    /// `HTTP/2`
    #[inline]
    pub const fn name(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"HTTP/1",
            Self::Http2 => b"HTTP/2",
        }
    }
}

/// What a `ClientHello` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello<'a> {
    /// The name in its `server_name` extension (RFC 6066 section 3): lower case, without a trailing dot; empty if there is none.
    pub server_name: &'a [u8],
}
