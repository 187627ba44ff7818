//! The proxy as a whole: octets in at the client's side, octets out at the server's, records at the observer's.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at what it did not expect")]

mod corpus;
mod differential;
mod exchange;
mod http2;
mod limits;
mod rig;
mod sockets;
mod tls;
