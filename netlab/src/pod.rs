//! Pods: a namespace, one veth pair, addresses and routes.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::address::Mac;
use crate::host::{self, Host};
use crate::namespace::Namespace;
use crate::node::{Cni, Node, ROUTED_GATEWAY, ROUTED_GATEWAY6, ROUTED_MAC};

/// A pod's namespace before it has an interface.
#[derive(Debug)]
pub struct Sandbox {
    parts: Arc<Parts>,
    attached: bool,
}

/// A pod. Clones are the same pod; it stays until it is deleted or its laboratory is dropped.
#[derive(Debug, Clone)]
pub struct Pod(Arc<Inner>);

#[derive(Debug)]
struct Parts {
    name: String,
    number: u8,
    node: Node,
    namespace: Arc<Namespace>,
    removed: AtomicBool,
}

#[derive(Debug)]
struct Inner {
    parts: Arc<Parts>,
    host_interface: String,
}

impl Sandbox {
    pub(crate) fn create(node: &Node, name: &str, number: u8) -> Result<Self> {
        let settings = [
            ("net/ipv6/conf/all/disable_ipv6", "0"),
            ("net/ipv6/conf/all/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
        ];
        let namespace = node.lab().namespace(&format!("{}.{name}", node.name()), &settings)?;
        let removed = AtomicBool::new(false);
        let parts = Parts { name: name.to_owned(), number, node: node.clone(), namespace, removed };
        Ok(Self { parts: Arc::new(parts), attached: false })
    }

    /// Does what the CNI plugin does: the pod gets an interface, then addresses and routes. On return it can be reached.
    pub fn attach(mut self) -> Result<Pod> {
        let parts = &self.parts;
        let host_interface = parts.node.next_interface();
        parts.node.ip(&parts.node_side(&host_interface)?)?;
        host::ip(&parts.namespace, &parts.pod_side())?;
        parts.wait_until_running("eth0")?;
        parts.node.wait_until_running(&host_interface)?;
        if let Cni::Bridge { .. } = parts.node.cni() {
            // A bridge has a carrier from its first port on.
            parts.node.wait_until_running("cni0")?;
        }
        self.attached = true;
        Ok(Pod(Arc::new(Inner { parts: Arc::clone(&self.parts), host_interface })))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if !self.attached
            && self.parts.take_away()
            && let Err(error) = self.parts.remove()
        {
            eprintln!("netlab: {error:#}");
        }
    }
}

impl Parts {
    fn mac(&self) -> Mac {
        self.node.subnet().mac(self.number)
    }

    fn node_side(&self, interface: &str) -> Result<String> {
        let mtu = self.node.pod_mtu();
        let (ipv4, ipv6, mac, namespace) = (self.ipv4(), self.ipv6(), self.mac(), self.namespace.name());
        let mut batch = String::new();
        match self.node.cni() {
            Cni::Bridge { .. } => write!(
                batch,
                "link add {interface} mtu {mtu} type veth peer name eth0 netns {namespace} address {mac} mtu {mtu}\n\
                 link set {interface} master cni0 up\n\
                 link set {interface} type bridge_slave hairpin on\n"
            )?,
            Cni::Routed => write!(
                batch,
                "link add {interface} address {ROUTED_MAC} mtu {mtu} type veth \
                 peer name eth0 netns {namespace} address {mac} mtu {mtu}\n\
                 link set {interface} up\n\
                 route add {ipv4}/32 dev {interface} src {gateway}\n\
                 route add {ipv6}/128 dev {interface} src {gateway6}\n",
                gateway = self.node.gateway(),
                gateway6 = self.node.gateway6(),
            )?,
        }
        Ok(batch)
    }

    fn pod_side(&self) -> String {
        let (ipv4, ipv6) = (self.ipv4(), self.ipv6());
        let (gateway, gateway6) = (self.node.gateway(), self.node.gateway6());
        match self.node.cni() {
            Cni::Bridge { .. } => format!(
                "link set lo up\naddr add {ipv4}/24 dev eth0\naddr add {ipv6}/64 dev eth0 nodad\nlink set eth0 up\n\
                 route add 0.0.0.0/0 via {gateway}\nroute add ::/0 via {gateway6}\n"
            ),
            Cni::Routed => format!(
                "link set lo up\naddr add {ipv4}/32 dev eth0\naddr add {ipv6}/128 dev eth0 nodad\nlink set eth0 up\n\
                 route add {ROUTED_GATEWAY}/32 dev eth0 scope link\nroute add 0.0.0.0/0 via {ROUTED_GATEWAY}\n\
                 route add ::/0 via {ROUTED_GATEWAY6} dev eth0\n"
            ),
        }
    }

    /// True for the first caller: it is the one to remove the pod.
    fn take_away(&self) -> bool {
        !self.removed.swap(true, Ordering::AcqRel)
    }

    fn remove(&self) -> Result<()> {
        self.node.release(self.number);
        self.node.lab().forget(&self.namespace)
    }
}

impl Pod {
    /// Its link-layer address.
    pub fn mac(&self) -> Mac {
        self.0.parts.mac()
    }

    /// The name of the host's end of its veth pair, in the node's namespace.
    pub fn host_interface(&self) -> &str {
        &self.0.host_interface
    }

    /// Its node.
    pub fn node(&self) -> &Node {
        &self.0.parts.node
    }

    /// The link-layer address that a frame to this address has to carry: the other pod's own, if both are ports of
    /// one bridge, else the gateway's.
    pub fn next_hop(&self, to: &Pod) -> Mac {
        let bridged = matches!(self.node().cni(), Cni::Bridge { .. });
        if bridged && self.node().subnet() == to.node().subnet() {
            to.mac()
        } else {
            self.node().gateway_mac()
        }
    }

    /// The index of the host's end of its veth pair.
    pub fn host_interface_index(&self) -> Result<u32> {
        let name = self.host_interface();
        self.node()
            .run(|| nix::net::if_::if_nametoindex(name).with_context(|| format!("{name}: has no index")))
    }

    /// Deletes the pod as a CNI plugin does: first its interface, then its namespace, and its address is free.
    /// Deleting it again does nothing.
    pub fn delete(&self) -> Result<()> {
        if !self.0.parts.take_away() {
            return Ok(());
        }
        self.node().ip(&format!("link del {}\n", self.host_interface()))?;
        self.0.parts.remove()
    }
}

impl Host for Parts {
    fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn ipv4(&self) -> Ipv4Addr {
        self.node.subnet().ipv4(self.number)
    }

    fn ipv6(&self) -> Ipv6Addr {
        self.node.subnet().ipv6(self.number)
    }
}

impl Host for Pod {
    fn namespace(&self) -> &Arc<Namespace> {
        self.0.parts.namespace()
    }

    fn name(&self) -> &str {
        self.0.parts.name()
    }

    fn ipv4(&self) -> Ipv4Addr {
        self.0.parts.ipv4()
    }

    fn ipv6(&self) -> Ipv6Addr {
        self.0.parts.ipv6()
    }
}

impl Host for Sandbox {
    fn namespace(&self) -> &Arc<Namespace> {
        self.parts.namespace()
    }

    fn name(&self) -> &str {
        self.parts.name()
    }

    fn ipv4(&self) -> Ipv4Addr {
        self.parts.ipv4()
    }

    fn ipv6(&self) -> Ipv6Addr {
        self.parts.ipv6()
    }
}
