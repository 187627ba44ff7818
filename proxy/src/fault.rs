//! Everything that makes the proxy refuse a message, apart from policy.

/// Why a message was refused. Each has a name that metrics and logs carry, and the status that its sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// What the sender of a request is told; a faulty response is always told as 502.
    pub status: u16,
    /// A name of one or a few words: a label in metrics.
    pub name: &'static str,
}

/// Declares faults as constants of [`Fault`], and the list of all of them.
macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $constant:ident = $status:literal, $name:literal;)+) => {
        impl Fault {
            $($(#[doc = $doc])+ pub const $constant: Fault = Fault { status: $status, name: $name };)+

            /// All of them, in order: what metrics can count.
            pub const ALL: &[Fault] = &[$(Fault::$constant),+];
        }
    };
}

faults! {
    /// The first octet cannot begin a request.
    NOT_HTTP = 400, "not http";
    /// The connection speaks a protocol that no rule of its port is about.
    PROTOCOL = 400, "protocol without rules";
    /// A line that ends without a carriage return.
    BARE_LF = 400, "bare line feed";
    /// A carriage return that ends no line.
    BARE_CR = 400, "bare carriage return";
    /// More than one empty line before a request.
    LEADING_LINES = 400, "empty lines before request";
    /// The first line of a request is not `method SP target SP version`.
    REQUEST_LINE = 400, "request line";
    /// A method that is not in upper case, or too long.
    METHOD = 400, "method";
    /// A version other than 1.0 and 1.1.
    VERSION = 505, "version";
    /// `CONNECT`: the proxy has no destinations but the one a client chose by connecting.
    CONNECT = 403, "connect";
    /// The target's form does not go with the method.
    TARGET_FORM = 400, "target form";
    /// The target is too long.
    TARGET_LONG = 414, "target too long";
    /// An octet that may not stand in a path or query.
    TARGET_OCTET = 400, "octet in target";
    /// `.` or `..` as a segment of the path, in any disguise.
    DOT_SEGMENT = 400, "dot segment";
    /// `//` in the path: some servers merge them.
    EMPTY_SEGMENT = 400, "empty segment";
    /// A percent-encoding that servers read differently.
    ENCODING = 400, "percent-encoding";
    /// The head is too large.
    HEAD_LARGE = 431, "head too large";
    /// Too many header lines.
    HEADERS_MANY = 431, "too many headers";
    /// A header line that is not `name ":" value`.
    HEADER_LINE = 400, "header line";
    /// No `Host`, or more than one.
    HOST_COUNT = 400, "number of hosts";
    /// A `Host` that names no host.
    HOST = 400, "host";
    /// The target's authority is not the `Host`.
    AUTHORITY = 400, "authority is not host";
    /// A `Content-Length` that is not one number in its shortest form.
    LENGTH = 400, "content-length";
    /// A `Transfer-Encoding` other than `chunked`, or more than one.
    TRANSFER = 400, "transfer-encoding";
    /// Both of them.
    LENGTH_AND_TRANSFER = 400, "content-length and transfer-encoding";
    /// A transfer encoding in HTTP/1.0, which has none.
    TRANSFER_OLD = 400, "transfer-encoding in 1.0";
    /// `Connection` names a header that is to be forwarded.
    CONNECTION = 400, "connection names a header";
    /// A header with `_` that servers may take for one that a rule names.
    UNDERSCORE = 400, "underscore in header";
    /// An upgrade with a body: which of the two comes next?
    UPGRADE_BODY = 400, "upgrade with body";
    /// An `Expect` other than `100-continue`.
    EXPECT = 417, "expect";
    /// A chunk whose size is no number, or none that fits.
    CHUNK_SIZE = 400, "chunk size";
    /// A chunk extension that is too long or has controls in it.
    CHUNK_EXTENSION = 400, "chunk extension";
    /// Chunk data that is longer than was said.
    CHUNK_END = 400, "chunk end";
    /// A trailer section that is no list of fields, or too large.
    TRAILER = 400, "trailer";
    /// The head did not come in time.
    HEAD_SLOW = 408, "head too slow";
    /// The body does not come fast enough.
    BODY_SLOW = 408, "body too slow";
    /// The client ended in the middle of a request.
    TRUNCATED = 400, "request cut off";
    /// The client reset its connection before it had the response.
    CLIENT_GONE = 400, "client gone";
    /// The client does not read the response fast enough.
    READ_SLOW = 408, "response read too slowly";
    /// A client address with too many connections.
    QUOTA = 503, "too many connections";
    /// The upstream does not take the connection.
    CONNECT_REFUSED = 502, "upstream refuses";
    /// The upstream does not answer the connection in time.
    CONNECT_SLOW = 504, "upstream connects too slowly";
    /// The upstream ended before its response.
    UPSTREAM_ENDED = 502, "upstream ended";
    /// Nothing moved for too long.
    STALLED = 504, "stalled";
    /// A response's first line.
    STATUS_LINE = 502, "status line";
    /// A body where none may be.
    RESPONSE_BODY = 502, "response body";
    /// 101 where nothing was asked for, or something else.
    SWITCHED = 502, "switched protocols unasked";
    /// More than a response was sent for a request.
    RESPONSE_UNASKED = 502, "response without request";
    /// A TLS record or handshake message that is no `ClientHello`.
    TLS = 400, "client hello";
    /// A violation of HTTP/2, or one of its floods.
    HTTP2 = 400, "http/2";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = Fault::ALL.iter().map(|fault| fault.name).collect();
        assert_eq!(names.len(), Fault::ALL.len());
    }
}
