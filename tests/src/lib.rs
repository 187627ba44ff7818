//! Random clusters for the property tests, which are the files beside `src`.
//!
//! ```text
//! facts, cidrs, policies, cluster_policies, polder_policies
//!                                          -> world()      -> World -> packets(&World) -> Vec<Packet>, requests()
//!                                             history(most) -> (World, Vec<Change>), apply(&Change, &mut World)
//! ```
//!
//! Beside them, [`node`]: agents on the nodes of a laboratory; [`deploy`]: what users install.
//!
//! Small but nasty: alphabets so tiny that names, labels, addresses and ports collide all the time. Nothing here
//! filters or depends on an earlier draw, so that every failing case shrinks piece by piece.
#![forbid(unsafe_code)]

pub mod changes;
pub mod cidrs;
pub mod cluster_policies;
pub mod deploy;
pub mod facts;
pub mod node;
pub mod packets;
pub mod polder_policies;
pub mod policies;
pub mod requests;
pub mod world;

#[cfg(test)]
mod tests;
