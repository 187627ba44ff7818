//! The hooks on a node in memory: what each kind of packet is answered, by name.
//!
//! ```text
//! frames: bytes -> world: a node with pods -> the hooks of `datapath` -> passed, marked, dropped for a reason
//! ```
//!
//! Of every packet in every test, [`world::World::at`] checks that a drop is told with a reason and leaves no state.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod frames;
mod world;

mod addresses;
mod detours;
mod errors;
mod flows;
mod fragments;
mod headers;
mod marks;
mod neighbours;
mod outside;
mod protocols;
mod rejects;
mod services;
