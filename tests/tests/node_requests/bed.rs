//! Two nodes with agents and proxies: `a`, a client, and the servers `v` beside it and `w` on the other node.

use std::fmt::Write as _;
use std::fs;
use std::iter;
use std::net::{IpAddr, SocketAddr};

use netlab::{Cni, Family, Host as _, Lab, Node, Pod, Underlay};
use tests::node::manifest::{self, WEB};
use tests::node::{Nginx, Polder, Proxy};

/// The service addresses of both servers, in both families.
const SERVICES: [[&str; 2]; 2] = [["10.96.0.10", "fd96::10"], ["10.96.0.11", "fd96::11"]];

/// See the module.
pub(crate) struct Bed {
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) agents: [Polder; 2],
    pub(crate) servers: [Nginx; 2],
    pub(crate) client: Pod,
    pub(crate) pods: [Pod; 2],
    /// More clients beside the first.
    pub(crate) crowd: Vec<Pod>,
    _lab: Lab,
}

/// What is not always the same.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) cni: Cni,
    /// The size of packets on every link.
    pub(crate) mtu: u32,
    /// How many clients there are beside the first.
    pub(crate) crowd: usize,
}

impl From<Cni> for Shape {
    fn from(cni: Cni) -> Self {
        Self { cni, mtu: 1500, crowd: 0 }
    }
}

impl Bed {
    pub(crate) fn new(name: &str, shape: impl Into<Shape>) -> Self {
        let Shape { cni, mtu, crowd } = shape.into();
        let lab = Lab::new(name).unwrap();
        let nodes = [lab.node(cni, 1).unwrap(), lab.node(cni, 2).unwrap()];
        if mtu != 1500 {
            lab.widen(&nodes[0], mtu, &nodes[1]).unwrap();
            lab.widen(&nodes[1], mtu, &nodes[0]).unwrap();
        }
        lab.join(&[&nodes[0], &nodes[1]], Underlay::Routed).unwrap();
        let client = nodes[0].pod("a").unwrap();
        let pods = [nodes[0].pod("v").unwrap(), nodes[1].pod("w").unwrap()];
        let crowd: Vec<_> = (0..crowd).map(|one| nodes[0].pod(&format!("c{one}")).unwrap()).collect();
        let mut facts = manifest::namespace("shop") + &manifest::node(&nodes[0]) + &manifest::node(&nodes[1]);
        for client in iter::once(&client).chain(&crowd) {
            facts += &manifest::pod("shop", client, "app: a");
        }
        for (pod, addresses) in pods.iter().zip(SERVICES) {
            facts += &manifest::pod("shop", pod, "app: server");
            facts += &service(pod, addresses);
        }
        for node in &nodes {
            proxy_services(node, &pods);
        }
        let agents =
            nodes.each_ref().map(|node| Polder::start(node, &[("facts.yaml", facts.clone())]).unwrap());
        agents[0].enforces(&["shop/a", "shop/v"]).unwrap();
        let names: Vec<_> = crowd.iter().map(|pod| format!("shop/{}", pod.name())).collect();
        agents[0].enforces(&names.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        agents[1].enforces(&["shop/w"]).unwrap();
        let proxies = agents.iter().map(|agent| Proxy::start(agent).unwrap()).collect();
        let servers = pods.each_ref().map(|pod| Nginx::start(pod, WEB).unwrap());
        Self { proxies, agents, servers, client, pods, crowd, _lab: lab }
    }

    /// Puts policies into force on both nodes.
    pub(crate) fn policies(&self, text: &str) {
        for agent in &self.agents {
            agent.apply("policies.yaml", text).unwrap();
        }
    }

    /// Where a server is reached, itself or by its service.
    pub(crate) fn at(&self, server: usize, family: Family, by_service: bool) -> SocketAddr {
        let service = SERVICES[server][usize::from(family == Family::V6)].parse::<IpAddr>().unwrap();
        if by_service { (service, 80).into() } else { (self.pods[server].address(family), WEB).into() }
    }
}

/// A rule that lets what is below `/public` be read.
pub(crate) const READ_PUBLIC: &str = "protocols: [{tcp: {destinationPort: {number: 8080}}}], http: [{methods: [GET], path: {prefix: /public}}]";

/// A policy about a direction of the pods with a label.
pub(crate) fn policy(name: &str, app: &str, direction: &str, rules: &str) -> String {
    format!(
        "apiVersion: polder.dev/v1alpha1\nkind: PolderPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{subject: {{podSelector: {{matchLabels: {{app: {app}}}}}}}, {direction}: [{rules}]}}\n---\n"
    )
}

fn service(pod: &Pod, addresses: [&str; 2]) -> String {
    let name = pod.name();
    let slice = |family: &str, address: IpAddr| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: {family}\n\
             metadata: {{name: {name}-{}, namespace: shop, labels: {{kubernetes.io/service-name: {name}}}}}\n\
             endpoints: [{{addresses: ['{address}'], conditions: {{ready: true}}}}]\n\
             ports: [{{name: '', port: {WEB}, protocol: TCP}}]\n---\n",
            family.to_lowercase()
        )
    };
    let [four, six] = addresses;
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{clusterIP: '{four}', clusterIPs: ['{four}', '{six}'], ports: [{{port: 80, targetPort: {WEB}}}]}}\n---\n"
    ) + &slice("IPv4", pod.ipv4().into())
        + &slice("IPv6", pod.ipv6().into())
}

/// What kube-proxy does on a node.
fn proxy_services(node: &Node, pods: &[Pod; 2]) {
    let mut text = String::new();
    for (table, index) in [("ip", 0), ("ip6", 1)] {
        write!(text, "table {table} proxy {{\n chain before {{\n  type nat hook prerouting priority -100;\n")
            .unwrap();
        for (pod, addresses) in pods.iter().zip(SERVICES) {
            let to = SocketAddr::new(pod.address([Family::V4, Family::V6][index]), WEB);
            writeln!(text, "  {table} daddr {} tcp dport 80 dnat to {to}", addresses[index]).unwrap();
        }
        text += " }\n}\n";
    }
    node.nft(&text).unwrap();
}

/// Whether bridged packets pass iptables in this node's namespace can be said only where the module is loaded.
pub(crate) fn has_br_netfilter() -> bool {
    fs::exists("/proc/sys/net/bridge").unwrap_or(false)
}
