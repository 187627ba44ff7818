//! HTTP/2 without TLS, and gRPC over it: one connection of the client's to one of the upstream's, each stream judged.
//!
//! `h2` frames, compresses and keeps its bounds; [`guard`] counts what it lets through by the dozen.

pub mod guard;
pub mod head;
pub(crate) mod serve;
mod stream;
