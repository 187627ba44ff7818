//! Interfaces that lead out of the node.

use super::finding::{Finding, ok, warn};
use super::links::{Link, native_xdp};

/// Which there are, and how XDP would run at them.
pub(super) fn uplinks(links: &[Link], patterns: &[String], installed: bool) -> Vec<Finding> {
    const CHECK: &str = "uplink";
    let named =
        |link: &&Link| patterns.iter().any(|pattern| matches(pattern.as_bytes(), link.name.as_bytes()));
    let found: Vec<&Link> = links.iter().filter(|link| link.default_route || named(link)).collect();
    if found.is_empty() {
        return vec![warn(
            CHECK,
            "no interface has a default route",
            "devices with a node's address are found, too; name others: agent.uplinks, --uplink",
        )];
    }
    let describe = |link: &&Link| {
        let name = &link.name;
        if link.xdp && !installed {
            return warn(
                CHECK,
                format!("{name}: an XDP program is attached"),
                "Polder does without XDP there (what it drops early is dropped at TC instead); or take that program off",
            );
        }
        ok(
            CHECK,
            match native_xdp(link.index) {
                Some(true) => format!("{name}: XDP in the driver"),
                Some(false) => format!("{name}: XDP behind the driver (generic)"),
                None => format!("{name}: whether the driver has XDP is not said by this kernel"),
            },
        )
    };
    found.iter().map(describe).collect()
}

/// `*` is any text, `?` any character.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => matches(rest, name) || (!name.is_empty() && matches(pattern, &name[1..])),
        ([b'?', rest @ ..], [_, name @ ..]) => matches(rest, name),
        ([wanted, rest @ ..], [found, name @ ..]) => wanted == found && matches(rest, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::Level;

    fn link(name: &str, default_route: bool, xdp: bool) -> Link {
        Link { name: name.to_owned(), default_route, xdp, ..Link::default() }
    }

    #[test]
    fn uplinks_are_those_with_a_default_route_and_those_named() {
        let links = [link("ens5", true, false), link("bond0", false, false), link("cni0", false, false)];
        let found = uplinks(&links, &["bond?".to_owned()], false);
        let names: Vec<&str> = found.iter().filter_map(|one| one.found.split(':').next()).collect();
        assert_eq!(names, ["ens5", "bond0"]);
        assert_eq!(uplinks(&links[2..], &[], false)[0].level, Level::Warn);
    }

    #[test]
    fn an_xdp_program_of_others_is_a_warning_and_our_own_is_none() {
        let links = [link("ens5", true, true)];
        assert_eq!(uplinks(&links, &[], false)[0].level, Level::Warn);
        assert_eq!(uplinks(&links, &[], true)[0].level, Level::Ok);
    }

    #[test]
    fn patterns_mean_what_shells_mean() {
        for (pattern, name, expected) in [
            ("e*", "eth0", true),
            ("*0", "eth0", true),
            ("eth?", "eth10", false),
            ("eth0", "eth0", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
