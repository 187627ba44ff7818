//! Commands run in the namespace they are meant for, and `br_netfilter` is set as asked.

use netlab::{
    Cni, Family, Host, Lab, Outcome, PATIENCE, br_netfilter_present, ping, root_or_skip, tool_or_skip,
};

/// A ruleset that drops whatever is forwarded and passes netfilter's IP hooks.
const DROP: &str =
    "table inet test {\n chain forward {\n type filter hook forward priority 0; policy drop;\n }\n}\n";

#[test]
fn bridged_packets_pass_netfilter_only_with_br_netfilter() {
    let name = "bridged_packets_pass_netfilter_only_with_br_netfilter";
    if !root_or_skip(name) || !tool_or_skip("nft", name) || !br_netfilter_present() {
        return;
    }
    let lab = Lab::new("nft").unwrap();
    for (subnet, br_netfilter, expected) in [(1, false, Outcome::Connected), (2, true, Outcome::TimedOut)] {
        let node = lab.node(Cni::Bridge { br_netfilter }, subnet).unwrap();
        let [a, b] = ["a", "b"].map(|name| node.pod(name).unwrap());
        node.nft(DROP).unwrap();
        for family in Family::BOTH {
            assert_eq!(ping(&a, b.address(family), PATIENCE).unwrap(), expected, "{br_netfilter} {family:?}");
        }
        let error = format!("{:#}", node.nft("nonsense\n").unwrap_err());
        assert!(
            error.contains("node") && error.contains("`nft -f -`") && error.contains("1 | nonsense"),
            "{error}"
        );
    }
}

#[test]
fn iptables_judges_what_is_routed() {
    let name = "iptables_judges_what_is_routed";
    if !root_or_skip(name) || !tool_or_skip("iptables", name) {
        return;
    }
    let lab = Lab::new("iptables").unwrap();
    let node = lab.node(Cni::Routed, 1).unwrap();
    let [a, b] = ["a", "b"].map(|name| node.pod(name).unwrap());
    for family in Family::BOTH {
        assert_eq!(ping(&a, b.address(family), PATIENCE).unwrap(), Outcome::Connected);
        node.iptables(family, "-P FORWARD DROP").unwrap();
        assert_eq!(ping(&a, b.address(family), PATIENCE).unwrap(), Outcome::TimedOut);
    }
}

#[test]
fn an_error_of_ip_names_the_place_and_the_line() {
    if !root_or_skip("an_error_of_ip_names_the_place_and_the_line") {
        return;
    }
    let lab = Lab::new("ip-error").unwrap();
    let node = lab.node(Cni::Routed, 1).unwrap();
    let error = format!("{:#}", node.ip("link show lo\nlink set nowhere up\n").unwrap_err());
    for part in [".node1", "`ip -batch -`", "Cannot find device", "2 | link set nowhere up"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(node.tc("qdisc show dev eth0\n").unwrap().contains("qdisc"));
    assert!(node.bridge("fdb show\n").is_ok());
}
