//! The bytes that the kernel and user space share, and the pure packet logic over them.
//!
//! ```text
//! frame -> packet: headers, or why not -> hook: flow? -> established: pass
//!                                           |
//!                                           +-- new: lookup::judge(Maps, Query) -> Decision { verdict, reason, rule }
//!                                                      |
//!                      generation -> endpoint -> peer identity -> port atom -> at most four rule rows
//!
//! request -> http::Request -> lookup::judge_request: the same rows, and l7::List for each that has conditional rules
//! ```
//!
//! This crate is a leaf: `no_std`, no allocation, no dependency. The BPF programs compile it for the kernel and the
//! policy compiler compiles it for the host, so a verdict that `polctl` prints is computed by the very code that
//! decides about packets. What differs is only the implementation of [`lookup::Maps`] and [`hook::Kernel`].
#![no_std]
#![forbid(unsafe_code)]
#![expect(
    clippy::inline_always,
    reason = "a function of a program that is not inlined costs a packet nanoseconds, and has its arguments in five registers"
)]

pub mod abi;
pub mod detour;
pub mod event;
pub mod family;
pub mod fault;
pub mod flow;
pub mod hook;
pub mod http;
pub mod interface;
pub mod l7;
pub mod lookup;
pub mod mark;
pub mod packet;
pub mod reject;
pub mod settings;
pub mod verdict;
