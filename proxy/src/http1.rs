//! HTTP/1: parsers that refuse what servers read differently, and the one form in which a message is passed on.

pub mod chunked;
mod exchange;
pub mod framing;
pub mod head;
pub mod host;
pub(crate) mod octets;
pub mod response;
pub mod scan;
pub(crate) mod serve;
pub mod target;
