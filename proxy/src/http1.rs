//! HTTP/1: parsers that refuse what servers read differently, and the one form in which a message is passed on.

pub mod chunked;
pub mod framing;
pub mod head;
pub mod host;
mod octets;
pub mod response;
pub mod scan;
pub mod target;
