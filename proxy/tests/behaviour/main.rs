//! The proxy as a whole: octets in at the client's side, octets out at the server's, records at the observer's.

mod corpus;
mod exchange;
mod limits;
mod rig;
