//! Manifests of what a laboratory has, as text.

use std::fmt::Write;
use std::net::IpAddr;

use netlab::{Host, Node, Pod};

/// The TCP port that every pod names `web`.
pub const WEB: u16 = 8080;
/// The UDP port that every pod names `dns`.
pub const DNS: u16 = 5353;

/// A namespace, with the label that Kubernetes gives it.
pub fn namespace(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels: {{kubernetes.io/metadata.name: {name}}}\n---\n"
    )
}

/// A node, with its addresses in the fabric.
pub fn node(node: &Node) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: {}}}\nstatus:\n  addresses:\n  \
         - {{type: InternalIP, address: '{}'}}\n  - {{type: InternalIP, address: '{}'}}\n---\n",
        node.name(),
        node.ipv4(),
        node.ipv6()
    )
}

/// A running pod of a laboratory, with labels as `app: a, tier: web`.
pub fn pod(namespace: &str, pod: &Pod, labels: &str) -> String {
    pod_at(namespace, pod.name(), pod.node().name(), &[pod.ipv4().into(), pod.ipv6().into()], labels)
}

/// A running pod with these addresses.
pub fn pod_at(namespace: &str, name: &str, node: &str, addresses: &[IpAddr], labels: &str) -> String {
    running(namespace, name, node, addresses, labels, "")
}

/// A running pod that has its node's network, and so its node's addresses.
pub fn host_pod(namespace: &str, name: &str, node: &Node, labels: &str) -> String {
    let addresses = [node.ipv4().into(), node.ipv6().into()];
    running(namespace, name, node.name(), &addresses, labels, "  hostNetwork: true\n")
}

fn running(
    namespace: &str,
    name: &str,
    node: &str,
    addresses: &[IpAddr],
    labels: &str,
    spec: &str,
) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}\n\
         spec:\n  nodeName: {node}\n{spec}  containers:\n  - name: main\n    image: none\n    ports:\n    \
         - {{name: web, containerPort: {WEB}, protocol: TCP}}\n    - {{name: dns, containerPort: {DNS}, protocol: UDP}}\n\
         status:\n  phase: Running\n"
    );
    if let Some(first) = addresses.first() {
        let _written = write!(text, "  podIP: '{first}'\n  podIPs:\n");
    }
    for address in addresses {
        let _written = writeln!(text, "  - ip: '{address}'");
    }
    text + "---\n"
}

/// A policy of the namespace `shop` for the pods with the label `app: NAME`; `spec` is the rest of its `spec`, in the
/// flow style of YAML: `policyTypes: [Ingress], ingress: []`.
pub fn policy(name: &str, app: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{podSelector: {{matchLabels: {{app: {app}}}}}, {spec}}}\n---\n"
    )
}
