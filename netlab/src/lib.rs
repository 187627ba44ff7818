//! Nodes and pods in network namespaces, probes, sniffers and attackers: for tests, the demo and benchmarks.
//!
//! ```text
//!  Lab ── node(Cni) ──> Node ── pod(name) ──> Pod        namespaces, links, addresses: lab, node, pod, underlay
//!   │                                          │
//!   ├── outside(name) ──> Outside              ├── Server, tcp_connect, udp_exchange, ping   what is allowed
//!   └── Drop: nothing stays                    ├── reachability -> Matrix
//!                                              ├── raw::Wire, raw::IpSocket                  what is attempted
//!                                              └── Sniffer, Metronome, KeptStreams           what arrives
//! ```
//!
//! Everything that has a network namespace is a [`Host`]. A measurement of a leak is always a packet seen by a
//! [`Sniffer`] in the victim's namespace, never a client that failed: a datagram that nobody answers has leaked too.
//! The sniffer's parser and the frame builder of [`raw`] share no code with the datapath that they judge.
//!
//! Nothing here knows of Polder. Without an agent every pod reaches every other one, and every attack arrives: the
//! tests of this crate say so, and thereby what a later test proves when nothing arrives.
//!
//! Requirements: root, `ip` (iproute2), and for [`Host::nft`] and [`Host::iptables`] their tools.

mod address;
mod client;
mod command;
mod host;
mod kept;
mod lab;
mod metronome;
mod names;
mod namespace;
mod node;
mod outside;
mod packet;
mod packet_socket;
mod pod;
pub mod raw;
mod reachability;
mod requirements;
mod server;
mod sniffer;
mod stop;
mod underlay;

pub use address::{Family, Mac};
pub use client::{
    Answer, Outcome, PATIENCE, answer_to, ping, ping_as, tcp_connect, tcp_connect_from, udp_exchange,
    udp_exchange_from,
};
pub use host::{Host, RpFilter};
pub use kept::{Interruption, KeptReport, KeptStreams};
pub use lab::Lab;
pub use metronome::{Gap, Metronome, MetronomeReport};
pub use namespace::{Namespace, Task};
pub use node::{Cni, Node};
pub use outside::Outside;
pub use packet::{Arrival, Packet};
pub use pod::{Pod, Sandbox};
pub use reachability::{Matrix, Probe, reachability};
pub use requirements::{br_netfilter_present, root_or_skip, tool_or_skip, tool_present};
pub use server::{Greeting, Received, Server};
pub use sniffer::Sniffer;
pub use underlay::{Underlay, VXLAN_ID, VXLAN_PORT};
