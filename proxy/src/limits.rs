//! How much of everything one client may use.

use std::time::Duration;

/// Bounds on what a client, or an upstream, can make the proxy hold, wait for or do. The defaults are meant for production.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Octets of a head, with its first line: 431 beyond. Two heads are the most that a connection holds at a time.
    pub head: usize,
    /// Header lines of a head, at most [`Limits::MOST_HEADERS`]: 431 beyond.
    pub headers: usize,
    /// Octets of a request's target: 414 beyond.
    pub target: usize,
    /// Octets of a method.
    pub method: usize,
    /// What a connection may be upgraded to, in lower case. Any other upgrade that is asked for is not passed on, so that
    /// the upstream answers as if it had not been.
    pub upgrades: &'static [&'static str],
    /// Octets of one chunk's extensions.
    pub chunk_extension: usize,
    /// Octets of all the chunk extensions of a body together.
    pub chunk_extensions: usize,
    /// Octets of a trailer section.
    pub trailer: usize,
    /// Octets that wait in one direction of a connection. The peer is not read from while there are more.
    pub buffer: usize,
    /// Octets of a TLS `ClientHello`, with its record headers.
    pub client_hello: usize,
    /// From a request's first octet (for the first request: from the connection) to the end of its head: 408 after that.
    pub head_time: Duration,
    /// Between a response and the next request.
    pub idle_time: Duration,
    /// How long the upstream may take to accept a connection: 504 after that.
    pub connect_time: Duration,
    /// How often it is looked whether a client sends, or reads, what it is expected to.
    pub pace_time: Duration,
    /// How many octets a client that is waited for has to move in each `pace_time`.
    pub pace: u64,
    /// How long a request may go without an octet in either direction, as when an upstream thinks.
    pub stall_time: Duration,
    /// The same for tunnels: upgraded connections and TLS.
    pub tunnel_time: Duration,
    /// How often a tunnel that rests looks whether policy has changed.
    pub review_time: Duration,
    /// After a refusal: how long what the client still sends is read and thrown away, so that it can read the refusal.
    pub linger_time: Duration,
    /// The same in octets.
    pub linger: usize,
    /// Connections at a time of one client address.
    pub connections: u32,
    /// Concurrent streams of an HTTP/2 connection.
    pub streams: u32,
    /// Frames of an HTTP/2 client that carry no data, in each `pace_time`: what floods are made of.
    pub control_frames: u32,
}

impl Limits {
    /// The most header lines that a head can have, whatever the limits say: their places are reserved on the stack.
    pub const MOST_HEADERS: usize = 100;
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head: 24 * 1024,
            headers: Self::MOST_HEADERS,
            target: 8 * 1024,
            method: 32,
            upgrades: &["websocket"],
            chunk_extension: 256,
            chunk_extensions: 4096,
            trailer: 8 * 1024,
            buffer: 16 * 1024,
            client_hello: 16 * 1024,
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_mins(1),
            connect_time: Duration::from_secs(10),
            pace_time: Duration::from_secs(10),
            pace: 2400,
            stall_time: Duration::from_mins(5),
            tunnel_time: Duration::from_hours(1),
            review_time: Duration::from_secs(1),
            linger_time: Duration::from_secs(1),
            linger: 64 * 1024,
            connections: 1024,
            streams: 100,
            control_frames: 1000,
        }
    }
}
