//! The fabric: a bridge in the root namespace, and a link to each node.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::run::output;

const BRIDGE: &str = "plk0";

/// The name of a node's network namespace, and of the root namespace's end of its link.
pub(super) fn namespace(node: &str) -> String {
    format!("plk-{node}")
}

/// Makes the bridge, unless it is there.
pub(super) fn bridge(address: IpAddr) -> Result<()> {
    if !is_link(BRIDGE) {
        ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        ip(&["address", "add", &format!("{address}/24"), "dev", BRIDGE])?;
    }
    ip(&["link", "set", BRIDGE, "up"])
}

/// Makes a node's namespace with its link, unless they are there.
pub(super) fn node(name: &str, address: Ipv4Addr, gateway: IpAddr) -> Result<()> {
    let space = namespace(name);
    if !Path::new("/run/netns").join(&space).exists() {
        ip(&["netns", "add", &space])?;
    }
    if is_link(&space) {
        return Ok(());
    }
    ip(&["link", "add", &space, "type", "veth", "peer", "name", "eth0", "netns", &space])?;
    ip(&["link", "set", &space, "master", BRIDGE, "up"])?;
    ip(&["-n", &space, "address", "add", &format!("{address}/24"), "dev", "eth0"])?;
    ip(&["-n", &space, "link", "set", "lo", "up"])?;
    ip(&["-n", &space, "link", "set", "eth0", "up"])?;
    ip(&["-n", &space, "route", "replace", "default", "via", &gateway.to_string()])
}

/// Has the root namespace and the other nodes find a node's pods.
pub(super) fn route(pods: &str, node: Ipv4Addr, others: impl Iterator<Item = String>) -> Result<()> {
    let route = ["route", "replace", pods, "via", &node.to_string()];
    ip(&route)?;
    for other in others {
        ip(&[&["-n", &namespace(&other)][..], &route].concat())?;
    }
    Ok(())
}

/// Removes what is there of all of it.
pub(super) fn remove(nodes: &[String]) -> Result<()> {
    for node in nodes {
        let space = namespace(node);
        if is_link(&space) {
            ip(&["link", "delete", &space])?;
        }
        if Path::new("/run/netns").join(&space).exists() {
            ip(&["netns", "delete", &space])?;
        }
    }
    if is_link(BRIDGE) { ip(&["link", "delete", BRIDGE]) } else { Ok(()) }
}

fn is_link(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

fn ip(arguments: &[&str]) -> Result<()> {
    output(Command::new("ip").args(arguments), "").map(drop)
}
