//! The node agent: all effects around the compiler and the datapath.

pub mod api;
pub mod dataplane;
pub mod endpoint;
pub mod standalone;
