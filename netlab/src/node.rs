//! Nodes: a namespace that forwards, with the pods' side of its network made as a CNI plugin makes it.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::address::{self, Mac, Subnet};
use crate::host::{Host, RpFilter};
use crate::lab::Shared;
use crate::namespace::Namespace;
use crate::pod::{Pod, Sandbox};
use crate::requirements::br_netfilter_present;

/// How the pods of a node are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cni {
    /// As flannel and the reference plugin `bridge` do: every pod is a port of `cni0`.
    Bridge {
        /// Whether bridged packets pass iptables, as kubeadm sets it up (`net.bridge.bridge-nf-call-ip*tables`).
        br_netfilter: bool,
    },
    /// As Calico does: a route to each pod's /32 and /128, and pods that send everything to a link-local gateway.
    Routed,
}

/// The gateway that pods of [`Cni::Routed`] see, Calico's choice.
pub(crate) const ROUTED_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The link-layer address of every host interface of [`Cni::Routed`], Calico's choice.
pub(crate) const ROUTED_MAC: Mac = Mac([0xee; 6]);
/// The IPv6 gateway that pods of [`Cni::Routed`] see: the link-local address that [`ROUTED_MAC`] makes (RFC 4291).
pub(crate) const ROUTED_GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

/// A node. Clones are the same node.
#[derive(Debug, Clone)]
pub struct Node(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    subnet: Subnet,
    cni: Cni,
    lab: Arc<Shared>,
    namespace: Arc<Namespace>,
    pod_mtu: AtomicU32,
    interfaces: AtomicU32,
    addresses: Mutex<Addresses>,
}

/// Which pods' numbers are taken. The next one is tried first, so that an address is not given again at once.
#[derive(Debug)]
struct Addresses {
    taken: BTreeSet<u8>,
    next: u8,
}

const FIRST_POD: u8 = 2;
const LAST_POD: u8 = 254;

impl Node {
    pub(crate) fn create(lab: &Arc<Shared>, cni: Cni, subnet: Subnet) -> Result<Self> {
        let name = format!("node{}", subnet.0);
        let mut settings = vec![
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv6/conf/all/disable_ipv6", "0"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv6/conf/all/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
        ];
        if let Cni::Bridge { br_netfilter } = cni {
            let present = br_netfilter_present();
            ensure!(present || !br_netfilter, "{name}: br_netfilter is wanted, and this kernel has none");
            if present {
                let value = if br_netfilter { "1" } else { "0" };
                settings.push(("net/bridge/bridge-nf-call-iptables", value));
                settings.push(("net/bridge/bridge-nf-call-ip6tables", value));
            }
        }
        let namespace = lab.namespace(&name, &settings)?;
        let node = Self(Arc::new(Inner {
            name,
            subnet,
            cni,
            lab: Arc::clone(lab),
            namespace,
            pod_mtu: AtomicU32::new(1500),
            interfaces: AtomicU32::new(0),
            addresses: Mutex::new(Addresses { taken: BTreeSet::new(), next: FIRST_POD }),
        }));
        let (ipv4, ipv6) = address::fabric(subnet.0);
        lab.plug(&node.0.namespace, &node.0.name, "eth0", &[ipv4.into(), ipv6.into()], 1500)?;
        node.make_pod_network()?;
        Ok(node)
    }

    fn make_pod_network(&self) -> Result<()> {
        let (ipv4, ipv6, mac) = (self.gateway(), self.gateway6(), self.0.subnet.mac(1));
        let batch = match self.0.cni {
            Cni::Bridge { .. } => format!(
                "link add cni0 address {mac} type bridge\naddr add {ipv4}/24 dev cni0\n\
                 addr add {ipv6}/64 dev cni0 nodad\nlink set cni0 up\n"
            ),
            // With the gateway's address on the node itself, whatever interface is asked for it answers; what the
            // node sends to its pods comes from the subnet's first address.
            Cni::Routed => format!(
                "addr add {ROUTED_GATEWAY}/32 dev lo scope link\naddr add {ipv4}/32 dev lo\n\
                 addr add {ipv6}/128 dev lo nodad\n"
            ),
        };
        self.ip(&batch).map(drop)
    }

    /// A pod, made as a CNI plugin does.
    pub fn pod(&self, name: &str) -> Result<Pod> {
        self.sandbox(name)?.attach()
    }

    /// A pod with an address of this node's subnet, such as one that was just given back.
    pub fn pod_at(&self, name: &str, ipv4: Ipv4Addr) -> Result<Pod> {
        self.sandbox_at(name, ipv4)?.attach()
    }

    /// A pod's namespace before the CNI plugin has run: with an address in mind, and no interface yet. What a process
    /// in it sends from now on is what a policy may come too late for.
    pub fn sandbox(&self, name: &str) -> Result<Sandbox> {
        let number = {
            let mut addresses = self.addresses();
            let pods = (addresses.next..=LAST_POD).chain(FIRST_POD..addresses.next);
            let number = pods.into_iter().find(|number| !addresses.taken.contains(number));
            let number =
                number.with_context(|| format!("{}: no address is left for the pod {name}", self.0.name))?;
            addresses.taken.insert(number);
            addresses.next = if number == LAST_POD { FIRST_POD } else { number + 1 };
            number
        };
        self.sandbox_with(name, number)
    }

    /// Like [`Self::sandbox`], with an address of this node's subnet.
    pub fn sandbox_at(&self, name: &str, ipv4: Ipv4Addr) -> Result<Sandbox> {
        let [.., number] = ipv4.octets();
        ensure!(
            self.0.subnet.ipv4(number) == ipv4 && (FIRST_POD..=LAST_POD).contains(&number),
            "the pod {name} wants the address {ipv4}; {} has those of {}",
            self.0.name,
            self.0.subnet.networks()[0]
        );
        let free = self.addresses().taken.insert(number);
        ensure!(free, "the pod {name} wants the address {ipv4}, which another pod has");
        self.sandbox_with(name, number)
    }

    fn sandbox_with(&self, name: &str, number: u8) -> Result<Sandbox> {
        Sandbox::create(self, name, number).inspect_err(|_| self.release(number))
    }

    /// How its pods are connected.
    pub fn cni(&self) -> Cni {
        self.0.cni
    }

    /// The first address of its pods' network: that of `cni0`, or of the node itself where there is no bridge.
    pub fn gateway(&self) -> Ipv4Addr {
        self.0.subnet.ipv4(1)
    }

    /// As [`Self::gateway`], in IPv6.
    pub fn gateway6(&self) -> Ipv6Addr {
        self.0.subnet.ipv6(1)
    }

    /// What its pods see as the link-layer address of the node.
    pub fn gateway_mac(&self) -> Mac {
        match self.0.cni {
            Cni::Bridge { .. } => self.0.subnet.mac(1),
            Cni::Routed => ROUTED_MAC,
        }
    }

    /// The link-layer address of its `flannel.1`, if it is joined by VXLAN.
    pub fn tunnel_mac(&self) -> Mac {
        self.0.subnet.tunnel_mac()
    }

    /// Checks sources from now on, on all interfaces that are there and those that will be.
    pub fn set_rp_filter(&self, mode: RpFilter) -> Result<()> {
        self.namespace().run(|| {
            let folder = "/proc/sys/net/ipv4/conf";
            for interface in fs::read_dir(folder).with_context(|| format!("{folder}: cannot list it"))? {
                let path =
                    interface.with_context(|| format!("{folder}: cannot list it"))?.path().join("rp_filter");
                fs::write(&path, mode.value())
                    .with_context(|| format!("{}: cannot set it", path.display()))?;
            }
            Ok(())
        })
    }

    pub(crate) fn subnet(&self) -> Subnet {
        self.0.subnet
    }

    pub(crate) fn lab(&self) -> &Arc<Shared> {
        &self.0.lab
    }

    pub(crate) fn pod_mtu(&self) -> u32 {
        self.0.pod_mtu.load(Ordering::Relaxed)
    }

    pub(crate) fn set_pod_mtu(&self, mtu: u32) -> Result<()> {
        let pods = self.addresses().taken.len();
        ensure!(
            pods == 0,
            "{}: its pods are to have the MTU {mtu}, and there are {pods} already; this comes first",
            self.0.name
        );
        self.0.pod_mtu.store(mtu, Ordering::Relaxed);
        Ok(())
    }

    /// A name for a pod's host interface that no other pod of this node ever had.
    pub(crate) fn next_interface(&self) -> String {
        let number = self.0.interfaces.fetch_add(1, Ordering::Relaxed);
        match self.0.cni {
            Cni::Bridge { .. } => format!("veth{number:08x}"),
            Cni::Routed => format!("cali{number:011x}"),
        }
    }

    pub(crate) fn release(&self, number: u8) {
        self.addresses().taken.remove(&number);
    }

    fn addresses(&self) -> MutexGuard<'_, Addresses> {
        self.0.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for Node {
    fn namespace(&self) -> &Arc<Namespace> {
        &self.0.namespace
    }

    fn name(&self) -> &str {
        &self.0.name
    }

    fn ipv4(&self) -> Ipv4Addr {
        address::fabric(self.0.subnet.0).0
    }

    fn ipv6(&self) -> Ipv6Addr {
        address::fabric(self.0.subnet.0).1
    }
}
