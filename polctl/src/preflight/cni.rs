//! The node's CNI, and whether pods' interfaces are of a kind that Polder knows.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::finding::{Finding, fail, ok, warn};

const CHECK: &str = "cni";

/// Plugins whose pods have no end of a veth in the node's namespace.
const WITHOUT_VETH: [&str; 8] =
    ["ipvlan", "macvlan", "host-device", "sriov", "ib-sriov", "vlan", "ovs-dpdk", "userspace"];
/// Plugins that make veths.
const WITH_VETH: [&str; 13] = [
    "bridge",
    "ptp",
    "flannel",
    "calico",
    "cilium-cni",
    "aws-cni",
    "azure-vnet",
    "antrea",
    "kindnet",
    "loopback",
    "weave-net",
    "ovn-k8s-cni-overlay",
    "gke",
];

/// The configuration that a container runtime would take: the first by name.
pub(super) fn cni(folder: &Path) -> Finding {
    let waits = "pods cannot start before a CNI is installed; Polder can be installed before it";
    let Ok(entries) = fs::read_dir(folder) else {
        return warn(
            CHECK,
            format!("{} cannot be read", folder.display()),
            "name the runtime's folder: --cni-conf-dir, cni.confDir",
        );
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_configuration = |name: &String| {
        let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("conflist" | "conf" | "json"))
    };
    let Some(first) = names.filter(is_configuration).min() else {
        return warn(CHECK, format!("no configuration in {}", folder.display()), waits);
    };
    match fs::read_to_string(folder.join(&first)) {
        Ok(text) => of_text(&first, &text),
        Err(error) => warn(CHECK, format!("{first}: {error}"), "run it as root"),
    }
}

fn of_text(file: &str, text: &str) -> Finding {
    let configuration: Value = match serde_json::from_str(text) {
        Ok(configuration) => configuration,
        Err(error) => return warn(CHECK, format!("{file}: {error}"), "expected a CNI configuration"),
    };
    let kind = |plugin: &Value| plugin["type"].as_str().map(str::to_owned);
    let plugins: Vec<String> = match configuration["plugins"].as_array() {
        Some(plugins) => plugins.iter().filter_map(kind).collect(),
        None => kind(&configuration).into_iter().collect(),
    };
    let Some(first) = plugins.first() else {
        return warn(CHECK, format!("{file}: no plugin"), "expected a CNI configuration");
    };
    let found = format!("{file}: {}", plugins.join(", "));
    if WITHOUT_VETH.contains(&first.as_str()) {
        return fail(
            CHECK,
            found,
            format!(
                "pods by {first} have no interface in the node's namespace; expected a CNI that makes veths, such as bridge or ptp"
            ),
        );
    }
    if WITH_VETH.contains(&first.as_str()) {
        return ok(CHECK, found);
    }
    warn(CHECK, found, format!("{first} is not known here; any CNI whose pods have veths will do"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::Level;

    #[test]
    fn the_first_plugin_of_the_first_file_decides() {
        let folder = std::env::temp_dir().join(format!("polctl-preflight-cni-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let empty = cni(&folder);
        fs::write(folder.join("20-macvlan.conf"), r#"{"type": "macvlan"}"#).unwrap();
        let without = cni(&folder);
        fs::write(
            folder.join("10-flannel.conflist"),
            r#"{"plugins": [{"type": "flannel"}, {"type": "portmap"}]}"#,
        )
        .unwrap();
        let with = cni(&folder);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(empty.level, Level::Warn);
        assert_eq!((without.level, without.found.as_str()), (Level::Fail, "20-macvlan.conf: macvlan"));
        assert_eq!((with.level, with.found.as_str()), (Level::Ok, "10-flannel.conflist: flannel, portmap"));
        assert_eq!(cni(&folder).level, Level::Warn, "a folder that is not there");
    }

    #[test]
    fn what_is_not_known_is_a_warning() {
        assert_eq!(of_text("a.conf", r#"{"type": "mine"}"#).level, Level::Warn);
        assert_eq!(of_text("a.conf", "{").level, Level::Warn);
        assert_eq!(of_text("a.conf", "{}").level, Level::Warn);
    }
}
