//! The L7 proxy's core: messages are read strictly, judged in one canonical form, and forwarded in that form.
#![forbid(unsafe_code)]

pub mod fault;
pub mod http1;
pub mod limits;
pub mod policy;
