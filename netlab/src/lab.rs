//! A laboratory: it owns every namespace in it, and none outlives it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};

use crate::address::{self, Subnet};
use crate::host::{self, Host};
use crate::names;
use crate::namespace::{self, Namespace};
use crate::node::{Cni, Node};
use crate::outside::Outside;
use crate::requirements::br_netfilter_present;
use crate::underlay::{self, Underlay};

/// Numbers in the fabric: nodes have those of their subnets, machines outside the ones above.
const FIRST_OUTSIDE: u8 = 200;

/// Nodes, pods and machines outside, joined by a fabric. Dropping it removes all of them.
#[derive(Debug)]
pub struct Lab {
    shared: Arc<Shared>,
}

/// What nodes need of their laboratory to make more namespaces.
#[derive(Debug)]
pub(crate) struct Shared {
    prefix: String,
    fabric: Arc<Namespace>,
    contents: Mutex<Contents>,
}

#[derive(Debug, Default)]
struct Contents {
    /// Every namespace there is a name for, so that the name is taken away whoever still holds a handle.
    namespaces: Vec<Arc<Namespace>>,
    subnets: BTreeSet<u8>,
    outside: u8,
    closed: bool,
}

impl Lab {
    /// Makes an empty laboratory. Its namespaces are named after it and this process, so any number of them can exist
    /// at the same time; what processes left behind that did not live to remove it is removed first.
    pub fn new(name: &str) -> Result<Self> {
        let prefix = names::prefix(name)?;
        namespace::prepare_folder()?;
        for leftover in namespace::remove_leftovers()? {
            eprintln!("netlab: removed {leftover}, left behind by a process that is gone");
        }
        let mut settings = vec![("net/ipv6/conf/all/disable_ipv6", "1")];
        if br_netfilter_present() {
            // The fabric is a switch: it has no say in what passes.
            settings.extend([
                ("net/bridge/bridge-nf-call-iptables", "0"),
                ("net/bridge/bridge-nf-call-ip6tables", "0"),
            ]);
        }
        let fabric = Namespace::create(&format!("{prefix}.fabric"), &settings)?;
        let contents = Contents { namespaces: vec![Arc::clone(&fabric)], ..Contents::default() };
        let lab = Self { shared: Arc::new(Shared { prefix, fabric, contents: Mutex::new(contents) }) };
        host::ip(
            &lab.shared.fabric,
            "link add fabric type bridge stp_state 0 mcast_snooping 0\nlink set fabric mtu 9000 up\n",
        )?;
        Ok(lab)
    }

    /// What the names of this laboratory's namespaces begin with.
    pub fn prefix(&self) -> &str {
        &self.shared.prefix
    }

    /// A node whose pods live in 10.244.`subnet`.0/24; its own address in the fabric is 192.168.50.`subnet`.
    pub fn node(&self, cni: Cni, subnet: u8) -> Result<Node> {
        ensure!(
            (1..FIRST_OUTSIDE).contains(&subnet),
            "the subnet of a node is {subnet}; it has to be 1 to {}",
            FIRST_OUTSIDE - 1
        );
        ensure!(
            self.shared.contents().subnets.insert(subnet),
            "there is a node with the subnet {subnet} already"
        );
        Node::create(&self.shared, cni, Subnet(subnet))
    }

    /// Makes the pods of all these nodes reach each other. With VXLAN this has to come before the first pod, because
    /// pods get the tunnel's smaller MTU when they are made.
    pub fn join(&self, nodes: &[&Node], by: Underlay) -> Result<()> {
        underlay::join(nodes, by)
    }

    /// Has a node's link, and those of the pods that it will have, carry packets of up to this size, at most 9000 bytes. What
    /// it has no other route for it sends to `towards`. It has to come before the first pod.
    pub fn widen(&self, node: &Node, mtu: u32, towards: &Node) -> Result<()> {
        node.set_pod_mtu(mtu)?;
        let port = format!("port{}", node.subnet().0);
        host::ip(&self.shared.fabric, &format!("link set {port} mtu {mtu}\n"))?;
        let (via, via6) = (towards.ipv4(), towards.ipv6());
        node.ip(&format!(
            "link set eth0 mtu {mtu}\nroute add 0.0.0.0/0 via {via}\nroute add ::/0 via {via6}\n"
        ))
        .map(drop)
    }

    /// A machine in the fabric that is no node. It knows the way to the pods of all nodes made so far.
    pub fn outside(&self, name: &str) -> Result<Outside> {
        let number = self.next_outside()?;
        let (ipv4, ipv6) = address::fabric(number);
        let outside = Outside::create(&self.shared, name, ipv4, ipv6)?;
        self.shared.plug(outside.namespace(), name, "eth0", &[ipv4.into(), ipv6.into()], 1500)?;
        self.route_to_pods(outside.namespace())?;
        Ok(outside)
    }

    /// A machine behind a router, on a link with its own MTU: returns the router and the machine. These nodes and
    /// the machine know the way to each other.
    pub fn behind_router(&self, name: &str, mtu: u32, nodes: &[&Node]) -> Result<(Outside, Outside)> {
        let router = self.outside(&format!("{name}-router"))?;
        router.namespace().set(&[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")])?;
        // The link's network is numbered after its router: two routers never have the same.
        let [.., network] = router.ipv4().octets();
        let (near, near6) = address::leg(network, 1);
        let (far, far6) = address::leg(network, 2);
        let machine = Outside::create(&self.shared, name, far, far6)?;
        host::ip(
            router.namespace(),
            &format!(
                "link add far mtu {mtu} type veth peer name eth0 netns {} mtu {mtu}\n\
                 addr add {near}/24 dev far\naddr add {near6}/64 dev far nodad\nlink set far up\n",
                machine.namespace().name()
            ),
        )?;
        host::ip(
            machine.namespace(),
            &format!(
                "link set lo up\naddr add {far}/24 dev eth0\naddr add {far6}/64 dev eth0 nodad\nlink set eth0 up\n\
                 route add 0.0.0.0/0 via {near}\nroute add ::/0 via {near6}\n"
            ),
        )?;
        router.wait_until_running("far")?;
        machine.wait_until_running("eth0")?;
        for node in nodes {
            let (subnet, subnet6) = address::leg(network, 0);
            let (via, via6) = (router.ipv4(), router.ipv6());
            node.ip(&format!("route add {subnet}/24 via {via}\nroute add {subnet6}/64 via {via6}\n"))?;
        }
        Ok((router, machine))
    }

    /// A second link between two nodes, `eth1` at both: 192.168.51.N and `fd00:192:168:51::N`. Nothing is routed over
    /// it until a test says so, such as one way only.
    pub fn second_path(&self, one: &Node, other: &Node) -> Result<()> {
        one.ip(&format!("link add eth1 type veth peer name eth1 netns {}\n", other.namespace().name()))?;
        for node in [one, other] {
            let (ipv4, ipv6) = address::leg(51, node.subnet().0);
            node.ip(&format!(
                "addr add {ipv4}/24 dev eth1\naddr add {ipv6}/64 dev eth1 nodad\nlink set eth1 up\n"
            ))?;
        }
        one.wait_until_running("eth1")?;
        other.wait_until_running("eth1")
    }

    fn next_outside(&self) -> Result<u8> {
        let mut contents = self.shared.contents();
        let Some(number) = FIRST_OUTSIDE.checked_add(contents.outside).filter(|number| *number < 255) else {
            bail!("the laboratory has {} machines outside; there is room for no more", contents.outside);
        };
        contents.outside += 1;
        Ok(number)
    }

    fn route_to_pods(&self, namespace: &Namespace) -> Result<()> {
        let mut batch = String::new();
        for subnet in &self.shared.contents().subnets {
            let (via, via6) = address::fabric(*subnet);
            let [network, network6] = Subnet(*subnet).networks();
            writeln!(batch, "route add {network} via {via}\nroute add {network6} via {via6}")?;
        }
        host::ip(namespace, &batch).map(drop)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let mut contents = self.shared.contents();
        contents.closed = true;
        for namespace in contents.namespaces.drain(..) {
            if let Err(error) = namespace.remove() {
                eprintln!("netlab: {error:#}");
            }
        }
    }
}

impl Shared {
    /// A namespace that the laboratory owns.
    pub(crate) fn namespace(&self, name: &str, settings: &[(&str, &str)]) -> Result<Arc<Namespace>> {
        let made = Namespace::create(&format!("{}.{name}", self.prefix), settings)?;
        let mut contents = self.contents();
        // Not bailing out here would let a thread that still makes pods leave one behind.
        ensure!(!contents.closed, "the laboratory {} is closed: nothing can be added to it", self.prefix);
        contents.namespaces.push(Arc::clone(&made));
        Ok(made)
    }

    /// Removes a namespace before the laboratory ends.
    pub(crate) fn forget(&self, namespace: &Arc<Namespace>) -> Result<()> {
        self.contents().namespaces.retain(|kept| !Arc::ptr_eq(kept, namespace));
        namespace.remove()
    }

    /// Plugs an interface of a namespace into the fabric.
    pub(crate) fn plug(
        &self,
        namespace: &Namespace,
        label: &str,
        interface: &str,
        addresses: &[std::net::IpAddr],
        mtu: u32,
    ) -> Result<()> {
        // Names of interfaces hold 15 bytes; the fabric's ends are told apart by their number, and by alias for people.
        let port = format!("port{}", addresses.first().map_or_else(String::new, |a| last_group(*a)));
        host::ip(
            &self.fabric,
            &format!(
                "link add {port} mtu {mtu} type veth peer name {interface} netns {} mtu {mtu}\n\
                 link set {port} alias {label} master fabric up\n",
                namespace.name()
            ),
        )?;
        let mut batch = "link set lo up\n".to_owned();
        for address in addresses {
            let length = if address.is_ipv4() { "24" } else { "64 nodad" };
            let (bits, flags) = length.split_once(' ').unwrap_or((length, ""));
            writeln!(batch, "addr add {address}/{bits} dev {interface} {flags}")?;
        }
        writeln!(batch, "link set {interface} up")?;
        host::ip(namespace, &batch).with_context(|| format!("{label}: cannot plug it into the fabric"))?;
        host::wait_until_running(&self.fabric, &port)?;
        host::wait_until_running(namespace, interface)
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn last_group(address: std::net::IpAddr) -> String {
    let text = address.to_string();
    text.rsplit(['.', ':']).next().unwrap_or_default().to_owned()
}
