//! The maps of the kernel, which the agent writes and this process only reads.

pub(crate) mod map;
pub(crate) mod pins;
mod sys;
pub(crate) mod tables;
