//! Other policy engines on this node: two that both decide are one too many.

use std::path::Path;

use super::finding::{Finding, ok, warn};
use super::links::Link;
use super::rules::Rules;

/// How an engine shows.
struct Engine {
    name: &'static str,
    /// Beginnings of interfaces' names.
    links: &'static [&'static str],
    /// Beginnings of chains' names.
    chains: &'static [&'static str],
    /// Pins below the bpffs.
    pins: &'static [&'static str],
}

const ENGINES: [Engine; 6] = [
    Engine {
        name: "Cilium",
        links: &["cilium_"],
        chains: &["CILIUM_"],
        pins: &["cilium", "tc/globals/cilium_policy", "tc/globals/cilium_ipcache"],
    },
    Engine {
        name: "Calico (Felix)",
        links: &["vxlan.calico"],
        chains: &["cali-"],
        pins: &["calico", "tc/globals/cali_v4_ct"],
    },
    // KUBE-ROUTER-INPUT is there for its services, too.
    Engine {
        name: "kube-router",
        links: &[],
        chains: &["KUBE-NWPLCY", "KUBE-POD-FW-", "KUBE-ROUTER-"],
        pins: &[],
    },
    Engine { name: "AWS network policy agent", links: &[], chains: &[], pins: &["globals/aws"] },
    Engine { name: "Antrea", links: &["antrea-gw", "antrea-tun"], chains: &["ANTREA-"], pins: &[] },
    Engine { name: "Weave Net", links: &["vethwe-"], chains: &["WEAVE-NPC"], pins: &[] },
];

/// Which are here, and by what they show.
pub(super) fn engines(links: &[Link], rules: &Rules, bpffs: &Path) -> Finding {
    const CHECK: &str = "other engines";
    let mut found = Vec::new();
    for engine in &ENGINES {
        let mut signs = Vec::new();
        let begins = |name: &str, beginnings: &[&str]| beginnings.iter().any(|begin| name.starts_with(begin));
        signs.extend(
            links
                .iter()
                .map(|link| &link.name)
                .filter(|name| begins(name, engine.links))
                .min()
                .map(|name| format!("interface {name}")),
        );
        signs.extend(
            rules
                .chains
                .iter()
                .find(|chain| begins(chain, engine.chains))
                .map(|chain| format!("chain {chain}")),
        );
        signs
            .extend(engine.pins.iter().find(|pin| bpffs.join(pin).exists()).map(|pin| format!("pins {pin}")));
        if !signs.is_empty() {
            found.push(format!("{} ({})", engine.name, signs.join(", ")));
        }
    }
    if found.is_empty() {
        return ok(CHECK, "none");
    }
    warn(
        CHECK,
        found.join("; "),
        "both decide, and a packet passes only what both allow; switch the other one's policy off (Calico: as in Canal, \
         without Felix; Cilium and kube-router: enable policy in one of the two), or take away what it left behind",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::Level;

    #[test]
    fn engines_are_told_by_interfaces_chains_and_pins() {
        let folder = std::env::temp_dir().join(format!("polctl-preflight-pins-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("globals/aws")).unwrap();
        let links = [Link { name: "cilium_host".to_owned(), ..Link::default() }];
        let rules = Rules { chains: ["cali-FORWARD".to_owned()].into(), ..Rules::default() };
        let found = engines(&links, &rules, &folder);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found.level, Level::Warn);
        assert_eq!(
            found.found,
            "Cilium (interface cilium_host); Calico (Felix) (chain cali-FORWARD); AWS network policy agent (pins globals/aws)"
        );
        assert_eq!(engines(&[], &Rules::default(), &folder).level, Level::Ok);
    }
}
