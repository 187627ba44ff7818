//! The L7 proxy's core: messages are read strictly, judged in one canonical form, and forwarded in that form.
//!
//! ```text
//! client ──> connection  what is spoken? ──> http1::scan     where does the head end?
//!                                            http1::head     what does it say?  ──Head──> Policy ──> Verdict
//!                                                               │ its text                             │
//!            http1::serve  one request after the other  <───────┴──────────────────────────────────────┘
//!                 └── http1::exchange  request ──> upstream      bodies by http1::framing and http1::chunked,
//!                        client <── http1::response              moved by relay and splice, timed by timer
//!            http2  each stream: http2::head ──Head──> Policy ──> Verdict ──> http2::stream, or a refusal of its own
//!            tls  which name?  ──name──> Policy ──> Verdict ──> tunnel
//! ```
//!
//! Parsers are functions from octets to values. Streams, the clock and policy come from outside: this crate opens no
//! connection, and knows no rule. What is not understood is refused: a request with 400, a response with 502, and the
//! connection ends.
#![forbid(unsafe_code)]

pub mod connection;
pub mod fault;
pub mod http1;
pub mod http2;
pub mod leg;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod policy;
pub mod quota;
mod relay;
mod splice;
mod timer;
pub mod tls;
mod tunnel;
