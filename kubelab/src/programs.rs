//! Which programs a cluster is made of, and where they are kept.
//!
//! What Debian has (etcd, containerd, runc) is installed by `cargo xtask setup`; the rest is built from Go modules once
//! and kept outside of any repository, a folder for each version: `$XDG_CACHE_HOME/polder/SUITE/VERSION/bin`.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Modules that are built together, in one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suite {
    /// Kubernetes itself, and the program that its own tests run in pods.
    Kubernetes,
    /// The CNI project's plugins.
    Cni,
    /// Helm, which installs charts.
    Helm,
    /// flannel's daemon: a network between nodes, without policy.
    Flannel,
    /// The plugin through which containerd calls flannel. The plugins' last 0.9 release is the last that has it.
    FlannelPlugin,
    /// Asks a server of HTTP/2 what RFC 9113 and RFC 7541 say of it. Of later versions there is no module.
    H2spec,
}

impl Suite {
    /// Its folder in the cache.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Cni => "cni-plugins",
            Self::Helm => "helm",
            Self::Flannel => "flannel",
            Self::FlannelPlugin => "flannel-plugin",
            Self::H2spec => "h2spec",
        }
    }

    /// The Go module.
    pub(crate) const fn module(self) -> &'static str {
        match self {
            Self::Kubernetes => "k8s.io/kubernetes",
            Self::Cni | Self::FlannelPlugin => "github.com/containernetworking/plugins",
            Self::Helm => "helm.sh/helm/v3",
            Self::Flannel => "github.com/flannel-io/flannel",
            Self::H2spec => "github.com/summerwind/h2spec",
        }
    }

    /// Its version, as Go writes it.
    ///
    /// Kubernetes: the kubelet of 1.35 no longer starts on control groups of version 1 without being told to.
    pub const fn version(self) -> &'static str {
        match self {
            Self::Kubernetes => "v1.34.4",
            Self::Cni => "v1.9.1",
            Self::Helm => "v3.22.0",
            Self::Flannel => "v0.28.10",
            Self::FlannelPlugin => "v0.9.1",
            Self::H2spec => "v2.2.1+incompatible",
        }
    }

    /// Where this version is kept.
    pub(crate) fn folder(self) -> Result<PathBuf> {
        Ok(cache()?.join(self.name()).join(self.version()))
    }
}

/// A program that is built from a Go module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Program {
    /// What it is built with.
    pub(crate) suite: Suite,
    /// Its package below the module.
    pub(crate) package: &'static str,
}

/// The API server.
pub const KUBE_APISERVER: Program = kubernetes("cmd/kube-apiserver");
/// Makes accounts, node networks, endpoint slices; deletes what namespaces held.
pub const KUBE_CONTROLLER_MANAGER: Program = kubernetes("cmd/kube-controller-manager");
/// Gives pods to nodes.
pub const KUBE_SCHEDULER: Program = kubernetes("cmd/kube-scheduler");
/// Runs pods on a node.
pub const KUBELET: Program = kubernetes("cmd/kubelet");
/// Makes service addresses work on a node.
pub const KUBE_PROXY: Program = kubernetes("cmd/kube-proxy");
/// The command line.
pub const KUBECTL: Program = kubernetes("cmd/kubectl");
/// Servers and clients of every kind, which Kubernetes' own tests run in pods.
pub const AGNHOST: Program = kubernetes("test/images/agnhost");
/// Installs charts.
pub const HELM: Program = Program { suite: Suite::Helm, package: "cmd/helm" };
/// flannel's daemon.
pub const FLANNELD: Program = Program { suite: Suite::Flannel, package: "" };
/// flannel's CNI plugin.
pub const FLANNEL_PLUGIN: Program = Program { suite: Suite::FlannelPlugin, package: "plugins/meta/flannel" };
/// Asks servers of HTTP/2.
pub const H2SPEC: Program = Program { suite: Suite::H2spec, package: "cmd/h2spec" };

/// What an API server alone needs.
pub const FOR_API_SERVER: [Program; 1] = [KUBE_APISERVER];
/// The plugins that containerd calls for pods' networks.
pub const CNI_PLUGINS: [Program; 5] = [
    cni("plugins/main/bridge"),
    cni("plugins/main/loopback"),
    cni("plugins/main/ptp"),
    cni("plugins/ipam/host-local"),
    cni("plugins/meta/portmap"),
];
/// What a cluster with nodes needs besides.
pub const FOR_CLUSTER: [Program; 7] =
    [KUBECTL, KUBE_CONTROLLER_MANAGER, KUBE_SCHEDULER, KUBELET, KUBE_PROXY, AGNHOST, HELM];
/// What flannel needs besides.
pub const FOR_FLANNEL: [Program; 2] = [FLANNELD, FLANNEL_PLUGIN];

const fn kubernetes(package: &'static str) -> Program {
    Program { suite: Suite::Kubernetes, package }
}

const fn cni(package: &'static str) -> Program {
    Program { suite: Suite::Cni, package }
}

impl Program {
    /// Its file name.
    pub fn name(self) -> &'static str {
        let path = if self.package.is_empty() { self.suite.module() } else { self.package };
        match path.rsplit('/').next() {
            // The daemon and the plugin would else have one name.
            _ if self == FLANNELD => "flanneld",
            Some(name) => name,
            None => path,
        }
    }

    /// Where it is kept, whether it is there or not.
    pub fn place(self) -> Result<PathBuf> {
        Ok(self.suite.folder()?.join("bin").join(self.name()))
    }

    /// Whether it has been built.
    pub fn is_there(self) -> bool {
        self.place().is_ok_and(|place| place.is_file())
    }

    /// Its file, if it has been built.
    pub fn find(self) -> Result<PathBuf> {
        let place = self.place()?;
        if !place.is_file() {
            bail!("{} is missing: `cargo xtask cluster build` makes it", place.display());
        }
        Ok(place)
    }

    /// The package as Go names it.
    pub(crate) fn import_path(self) -> String {
        let module = self.suite.module();
        if self.package.is_empty() { module.to_owned() } else { format!("{module}/{}", self.package) }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.name(), self.suite.version())
    }
}

/// A program of the distribution, looked for in `PATH` and where root's programs are.
pub(crate) fn installed(program: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let root = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(root)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .with_context(|| format!("`{program}` is not installed: `cargo xtask setup` installs it on Debian"))
}

/// Whether a program of the distribution is installed.
pub fn is_installed(program: &str) -> bool {
    installed(program).is_ok()
}

/// The folder in which every version of every suite is kept.
pub(crate) fn cache() -> Result<PathBuf> {
    let folder = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|folder| folder.is_absolute())
        .or_else(|| env::home_dir().map(|home| Path::new(&home).join(".cache")))
        .context("neither XDG_CACHE_HOME nor a home folder says where programs may be kept")?;
    Ok(folder.join("polder"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_programs_share_a_file() {
        let all = FOR_API_SERVER.iter().chain(&CNI_PLUGINS).chain(&FOR_CLUSTER).chain(&FOR_FLANNEL);
        let places: Vec<PathBuf> = all.map(|program| program.place().unwrap()).collect();
        let different: std::collections::BTreeSet<&PathBuf> = places.iter().collect();
        assert_eq!(different.len(), places.len());
        assert!(places.iter().any(|place| place.ends_with("kubernetes/v1.34.4/bin/kube-apiserver")));
        assert!(places.iter().any(|place| place.ends_with("flannel/v0.28.10/bin/flanneld")));
    }

    #[test]
    fn the_import_path_of_a_module_that_is_a_program_is_the_module() {
        assert_eq!(FLANNELD.import_path(), "github.com/flannel-io/flannel");
        assert_eq!(HELM.import_path(), "helm.sh/helm/v3/cmd/helm");
    }

    #[test]
    fn a_program_that_is_not_installed_is_named_with_its_remedy() {
        let error = installed("no-such-program").unwrap_err().to_string();
        assert_eq!(error, "`no-such-program` is not installed: `cargo xtask setup` installs it on Debian");
    }
}
