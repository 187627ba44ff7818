//! What nftables and iptables do: whose chains there are, and which bits of the packet mark are read and written.
//!
//! ```text
//! nf_tables (iptables-nft too) --netlink--> chains, rules --expressions--> uses of marks
//! iptables (legacy) --iptables-legacy-save--> the same, from its text
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::process::Command;

use super::netlink::{self, NETFILTER, attribute, attributes, be32, text, u32_at};

/// A rule's use of bits of the packet mark.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MarkUse {
    /// `table chain`.
    pub(super) place: String,
    pub(super) bits: u32,
    pub(super) writes: bool,
}

/// What was found in the node's packet filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    /// Chains, by name.
    pub(super) chains: BTreeSet<String>,
    pub(super) marks: BTreeSet<MarkUse>,
    /// What could not be looked at, a line each.
    pub(super) blind: Vec<String>,
}

const NFTABLES: u16 = 10 << 8;
const GET_CHAIN: u16 = NFTABLES | 4;
const GET_RULE: u16 = NFTABLES | 7;

/// Everything in this network namespace.
pub(super) fn rules() -> Rules {
    let mut rules = Rules::default();
    match nftables() {
        Ok(found) => rules = found,
        // A kernel without nf_tables has no rules in it.
        Err(error) if error.raw_os_error() == Some(93) => {}
        Err(error) => rules.blind.push(format!("nftables: {error}")),
    }
    for (names, program) in [
        ("/proc/net/ip_tables_names", "iptables-legacy-save"),
        ("/proc/net/ip6_tables_names", "ip6tables-legacy-save"),
    ] {
        let tables = std::fs::read_to_string(names).unwrap_or_default();
        if tables.trim().is_empty() {
            continue;
        }
        match Command::new(program).output() {
            Ok(output) if output.status.success() => {
                legacy(&String::from_utf8_lossy(&output.stdout), &mut rules);
            }
            Ok(output) => rules.blind.push(format!("{program}: {}", output.status)),
            Err(error) => rules.blind.push(format!("{program}: {error}")),
        }
    }
    rules
}

fn nftables() -> io::Result<Rules> {
    let mut rules = Rules::default();
    for (_, body) in netlink::ask(NETFILTER, GET_CHAIN, netlink::DUMP, &[0; 4])? {
        let attributes = body.get(4..).unwrap_or_default();
        rules.chains.extend(attribute(attributes, 3).map(text));
    }
    for (_, body) in netlink::ask(NETFILTER, GET_RULE, netlink::DUMP, &[0; 4])? {
        let attributes = body.get(4..).unwrap_or_default();
        let word = |kind| attribute(attributes, kind).map(text).unwrap_or_default();
        let place = format!("{} {}", word(1), word(2));
        let uses = attribute(attributes, 4).map(mark_uses).unwrap_or_default();
        let uses = uses.into_iter().map(|(bits, writes)| MarkUse { place: place.clone(), bits, writes });
        rules.marks.extend(uses);
    }
    Ok(rules)
}

/// What a register holds of the mark: these bits of it, those changed.
#[derive(Clone, Copy)]
struct OfMark {
    kept: u32,
    changed: u32,
}

/// The bits that a rule's expressions read (false) and write (true).
fn mark_uses(expressions: &[u8]) -> Vec<(u32, bool)> {
    let mut uses = Vec::new();
    let mut registers: BTreeMap<u32, OfMark> = BTreeMap::new();
    for (_, expression) in attributes(expressions) {
        let name = attribute(expression, 1).map(text).unwrap_or_default();
        let data = attribute(expression, 2).unwrap_or_default();
        let number = |kind| attribute(data, kind).and_then(be32);
        let value = |kind| attribute(data, kind).and_then(|value| u32_at(attribute(value, 1)?, 0));
        let info = || attribute(data, 3).unwrap_or_default();
        match name.as_str() {
            "meta" if number(2) == Some(3) => match (number(1), number(3)) {
                (Some(to), _) => {
                    registers.insert(to, OfMark { kept: u32::MAX, changed: 0 });
                }
                (None, Some(from)) => {
                    // Not made from the mark: all of it is overwritten.
                    uses.push((registers.get(&from).map_or(u32::MAX, |of| !of.kept | of.changed), true));
                }
                (None, None) => {}
            },
            "bitwise" => {
                let (Some(from), Some(to)) = (number(1), number(2)) else { continue };
                let of = registers.get(&from).copied();
                registers.remove(&to);
                if let (Some(of), Some(mask)) = (of, value(4)) {
                    let changed = of.changed | value(5).unwrap_or_default();
                    registers.insert(to, OfMark { kept: of.kept & mask, changed });
                }
            }
            "cmp" | "lookup" | "range" => {
                // The register is the second attribute of a look-up, else the first.
                let from = number(if name == "lookup" { 2 } else { 1 });
                uses.extend(from.and_then(|from| registers.get(&from)).map(|of| (of.kept, false)));
            }
            "immediate" => {
                number(1).map(|to| registers.remove(&to));
            }
            "match" if attribute(data, 1).map(text).as_deref() == Some("mark") => {
                uses.extend(u32_at(info(), 4).map(|mask| (mask, false)));
            }
            "target" => match attribute(data, 1).map(text).as_deref() {
                Some("MARK") => uses.extend(u32_at(info(), 4).map(|mask| (mask, true))),
                // Restored from the connection: mode 2.
                Some("CONNMARK") if info().get(12) == Some(&2) => {
                    uses.extend(u32_at(info(), 8).map(|mask| (mask, true)));
                }
                _ => {}
            },
            _ => {}
        }
    }
    uses
}

/// Takes in the text of `iptables-save`.
fn legacy(text: &str, rules: &mut Rules) {
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            name.clone_into(&mut table);
        } else if let Some(chain) = line.strip_prefix(':') {
            rules.chains.extend(chain.split_whitespace().next().map(str::to_owned));
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let words: Vec<&str> = rule.split_whitespace().collect();
            let place = format!("{table} {}", words.first().copied().unwrap_or_default());
            for (option, value) in words.iter().copied().zip(words.iter().copied().skip(1)) {
                let of_mark = words.contains(&"CONNMARK") || words.contains(&"connmark");
                let writes = match option {
                    "--set-xmark" | "--set-mark" if !of_mark => true,
                    "--nfmask" if words.contains(&"--restore-mark") => true,
                    "--mark" if !of_mark => false,
                    _ => continue,
                };
                let bits = value.split_once('/').map_or(value, |(_, mask)| mask);
                let is_mask = value.contains('/') || option == "--nfmask";
                let bits = if is_mask { number(bits) } else { Some(u32::MAX) };
                rules.marks.extend(bits.map(|bits| MarkUse { place: place.clone(), bits, writes }));
            }
        }
    }
}

fn number(word: &str) -> Option<u32> {
    match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

/// Policy routing by mark: mask of each rule.
pub(super) fn routing_masks() -> io::Result<Vec<u32>> {
    const GET_RULE: u16 = 34;
    let answer = netlink::ask(netlink::ROUTE, GET_RULE, netlink::DUMP, &[0; 12])?;
    let mask = |body: &[u8]| {
        let attributes = body.get(12..)?;
        let mark = attribute(attributes, 10).and_then(|value| u32_at(value, 0));
        let mask = attribute(attributes, 16).and_then(|value| u32_at(value, 0));
        // Without a mark, the mask of all bits that the kernel tells means nothing.
        mark.filter(|mark| *mark != 0).map(|_| mask.unwrap_or(u32::MAX))
    };
    Ok(answer.iter().filter_map(|(_, body)| mask(body)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_iptables_says_which_bits_are_read_and_written() {
        let mut rules = Rules::default();
        let text = "*nat\n:KUBE-MARK-MASQ - [0:0]\n:POSTROUTING ACCEPT [0:0]\n\
                    -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n\
                    -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
                    *mangle\n-A OUTPUT -j MARK --set-mark 0x1\n\
                    -A PREROUTING -j CONNMARK --restore-mark --nfmask 0xff0000 --ctmask 0xff0000\n\
                    -A PREROUTING -j CONNMARK --set-xmark 0x1/0x1\n";
        legacy(text, &mut rules);
        let found: Vec<_> = rules.marks.iter().map(|of| (of.place.as_str(), of.bits, of.writes)).collect();
        assert_eq!(
            found,
            [
                ("mangle OUTPUT", u32::MAX, true),
                ("mangle PREROUTING", 0x00ff_0000, true),
                ("nat KUBE-MARK-MASQ", 0x4000, true),
                ("nat KUBE-POSTROUTING", 0x4000, false),
            ]
        );
        assert!(rules.chains.contains("KUBE-MARK-MASQ"));
    }
}
