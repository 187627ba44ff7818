//! Finds the node's endpoints: which interfaces lead into pods, which to the outside.
//!
//! ```text
//! kernel --events--> session (wire -> table) --asks what events leave open--> kernel
//!                       |
//!                       +--> Snapshot --> Classifier --> Role of each interface
//! ```
//!
//! All by netlink from the agent's own network namespace, without entering another and without `/proc`: a veth says in
//! which namespace its peer is (`IFLA_LINK_NETNSID`), and the kernel answers questions about that namespace
//! (`IFA_TARGET_NETNSID`, Linux 4.20). So an agent sees the pods whose veth ends in its own namespace and no others,
//! and several agents on one machine, each in its own, never touch each other's.
//!
//! # Roles
//!
//! The first line that fits decides ([`role::Classifier`]).
//!
//! | Device | Role |
//! |---|---|
//! | its name matches an `--uplink` pattern | outside |
//! | loopback; `dummy`, `ifb`, `nlmon`, `vcan`, `vrf` | internal: nothing comes in by it |
//! | bridge | internal, since its ports are seen; outside if it has a default route or carries a node address *and* none of its ports is a pod's or outside |
//! | port of a `bond` or `team` | internal: seen once, at the master |
//! | anything that is no veth: hardware, `vxlan`, `geneve`, `ipip`, `tun`, `wireguard`, `vlan`, `bond`, unknown kinds | outside |
//! | veth with a default route, or alone in carrying an address of the node | outside: the uplink of a node that is itself a container |
//! | veth with its peer in another namespace | pod |
//! | veth with its peer in this namespace | internal |
//!
//! An address of another kind makes no uplink: the `ptp` CNI puts the gateway's on every pod's veth. Nor does a node
//! address that several interfaces carry: some CNIs lend it to every pod's veth. A pod that carries the node's default
//! route (a gateway in a pod) is taken for outside.
//!
//! # What is behind
//!
//! What a pod's namespace says of itself is the word of whoever is root there ([`snapshot::Veth`]). Pods without a veth
//! (ipvlan, macvlan, SR-IOV, netkit) are not found.

mod kernel;
pub mod monitor;
mod polls;
pub mod role;
mod session;
pub mod snapshot;
mod socket;
mod table;
mod wire;
