//! What the programs of a node read.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{PodNetwork, ProxyMode, STATE, images};
use crate::control_plane::POD_NETWORK;

/// Rights of those who are neither nodes nor controllers.
pub(super) const CLUSTER_OBJECTS: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kubelab-kube-proxy}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:node-proxier"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:kube-proxy"}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: kubelab-flannel}
rules:
- {apiGroups: [""], resources: [pods], verbs: [get]}
- {apiGroups: [""], resources: [nodes], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [nodes/status], verbs: [patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kubelab-flannel}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: kubelab-flannel}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: flannel}]
"#;

/// Where a node has containerd's socket.
pub(super) const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// Writes the files of containerd, kubelet, kube-proxy and flannel into the node's folder.
pub(super) fn write_node(
    folder: &Path,
    name: &str,
    address: Ipv4Addr,
    network: PodNetwork,
    proxy: ProxyMode,
) -> Result<()> {
    write(&folder.join("containerd.toml"), &containerd(folder))?;
    write(&folder.join("resolv.conf"), "")?;
    write(&folder.join("kubelet.yaml"), &kubelet(folder, name, address).to_string())?;
    write(&folder.join("kube-proxy.yaml"), &kube_proxy(name, proxy).to_string())?;
    let backend = if network == PodNetwork::FlannelHostGw { "host-gw" } else { "vxlan" };
    let flannel = json!({"Network": POD_NETWORK, "EnableNFTables": false, "Backend": {"Type": backend}});
    write(&folder.join("flannel.json"), &flannel.to_string())
}

/// Writes the list of CNI plugins, by whose presence the node becomes ready.
pub(super) fn write_pod_network(folder: &Path, network: PodNetwork, pods: &str) -> Result<()> {
    let ipam = json!({"type": "host-local", "subnet": pods, "routes": [{"dst": "0.0.0.0/0"}]});
    let first = match network {
        PodNetwork::Bridge => json!({
            "type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "hairpinMode": true, "ipMasq": false,
            "ipam": {"type": "host-local", "subnet": pods},
        }),
        PodNetwork::Ptp => json!({"type": "ptp", "ipMasq": false, "ipam": ipam}),
        PodNetwork::FlannelVxlan | PodNetwork::FlannelHostGw => {
            json!({"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}})
        }
    };
    let list = json!({
        "name": "kubelab",
        // flannel's plugin is from before 1.0.0.
        "cniVersion": "0.3.1",
        "plugins": [first, {"type": "portmap", "capabilities": {"portMappings": true}}],
    });
    let place = folder.join("etc-cni/net.d");
    fs::create_dir_all(&place).with_context(|| format!("{} cannot be made", place.display()))?;
    write(&place.join("10-kubelab.conflist"), &format!("{list:#}\n"))
}

fn containerd(folder: &Path) -> String {
    let root = folder.join("containerd");
    format!(
        r#"version = 2
root = "{}"
state = "/run/containerd"
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#,
        root.display(),
        images::PAUSE,
    )
}

fn kubelet(folder: &Path, name: &str, address: Ipv4Addr) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": format!("{STATE}/pki/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", super::node_mounts::control_group(name)),
        "clusterDNS": ["10.96.0.10"],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        "enforceNodeAllocatable": ["pods"],
        // The machine's disk is shared with whatever else is on it.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "failCgroupV1": false,
        "failSwapOn": false,
        "healthzBindAddress": "127.0.0.1",
        // Nobody could fetch an image again.
        "imageGCHighThresholdPercent": 100,
        "maxPods": 200,
        "nodeStatusUpdateFrequency": "5s",
        "resolvConf": folder.join("resolv.conf"),
        "shutdownGracePeriod": "0s",
        "syncFrequency": "10s",
    })
}

fn kube_proxy(name: &str, proxy: ProxyMode) -> Value {
    let mode = match proxy {
        ProxyMode::Iptables => "iptables",
        ProxyMode::Nftables => "nftables",
    };
    let sync = json!({"syncPeriod": "5s", "minSyncPeriod": "200ms"});
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode,
        "clusterCIDR": POD_NETWORK,
        "hostnameOverride": name,
        "clientConnection": {"kubeconfig": format!("{STATE}/pki/kube-proxy.kubeconfig")},
        // These limits are the machine's.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": sync,
        "nftables": sync,
    })
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}
