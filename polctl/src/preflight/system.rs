//! The kernel, what this process may do, the bpffs, and settings of the network.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::finding::{Finding, fail, ok, warn};
use super::links::Link;

/// The oldest kernel on which Polder runs.
const FLOOR: (u32, u32) = (5, 10);

/// Version, type information, compiler, lockdown.
pub(super) fn kernel() -> Vec<Finding> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut findings = vec![version(read("/proc/sys/kernel/osrelease").trim())];
    findings.push(if Path::new("/sys/kernel/btf/vmlinux").exists() {
        ok("btf", "the kernel tells its types")
    } else {
        warn(
            "btf",
            "no /sys/kernel/btf/vmlinux",
            "Polder needs no kernel types; tools that look at it do: CONFIG_DEBUG_INFO_BTF=y",
        )
    });
    match read("/proc/sys/net/core/bpf_jit_enable").trim() {
        "0" => findings.push(warn(
            "jit",
            "net.core.bpf_jit_enable is 0: programs are interpreted, several times slower",
            "sysctl -w net.core.bpf_jit_enable=1",
        )),
        "" => {}
        _ => findings.push(ok("jit", "programs are compiled")),
    }
    if read("/sys/kernel/security/lockdown").contains("[confidentiality]") {
        findings.push(warn(
            "lockdown",
            "the kernel is locked down for confidentiality",
            "boot with lockdown=integrity if programs are refused",
        ));
    }
    findings
}

fn version(release: &str) -> Finding {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return warn("kernel", format!("version {release:?} cannot be read"), "expected 5.10 or later");
    };
    if (major, minor) < FLOOR {
        let wanted = format!("a kernel from {}.{} on", FLOOR.0, FLOOR.1);
        return fail("kernel", format!("version {release}"), wanted);
    }
    ok("kernel", format!("version {release}"))
}

const NET_ADMIN: (u32, &str) = (12, "CAP_NET_ADMIN");
const SYS_ADMIN: u32 = 21;
const PERFMON: (u32, &str) = (38, "CAP_PERFMON");
const BPF: (u32, &str) = (39, "CAP_BPF");

/// Which capabilities are at hand.
pub(super) fn privileges() -> Finding {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    match effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()) {
        Some(capabilities) => of_capabilities(capabilities),
        None => warn("privileges", "no CapEff in /proc/self/status", "expected a mounted /proc"),
    }
}

fn of_capabilities(capabilities: u64) -> Finding {
    let has = |number: u32| capabilities >> number & 1 != 0;
    // CAP_SYS_ADMIN was CAP_BPF and CAP_PERFMON until 5.8, and still includes them.
    let missing: Vec<&str> = [BPF, PERFMON]
        .into_iter()
        .filter(|(number, _)| !has(*number) && !has(SYS_ADMIN))
        .chain([NET_ADMIN].into_iter().filter(|(number, _)| !has(*number)))
        .map(|(_, name)| name)
        .collect();
    if missing.is_empty() {
        return ok("privileges", "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON");
    }
    fail(
        "privileges",
        format!("without {}", missing.join(", ")),
        "run it as root, or with these capabilities",
    )
}

/// Whether pins can be made.
pub(super) fn bpffs(path: &Path) -> Finding {
    let advice = format!("mount -t bpf bpf {}; with the chart: --set bpffs.mount=true", path.display());
    match statfs(path) {
        Ok(found) if found.filesystem_type() == BPF_FS_MAGIC => {
            ok("bpffs", format!("mounted at {}", path.display()))
        }
        Ok(_) => fail("bpffs", format!("{} is not on a bpffs", path.display()), advice),
        Err(error) => fail("bpffs", format!("{}: {error}", path.display()), advice),
    }
}

/// Mounts a bpffs; says what it did.
pub(super) fn mount_bpffs(path: &Path) -> anyhow::Result<String> {
    let place = path.display();
    let found = statfs(path).with_context(|| format!("looking at {place}"))?;
    if found.filesystem_type() == BPF_FS_MAGIC {
        return Ok(format!("{place}: a bpffs is mounted already"));
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RELATIME;
    mount(Some("bpf"), path, Some("bpf"), flags, Some("mode=0700"))
        .with_context(|| format!("mounting a bpffs at {place}; that needs CAP_SYS_ADMIN"))?;
    if statfs(path)?.filesystem_type() != BPF_FS_MAGIC {
        bail!("{place}: mounted, and still no bpffs is found there");
    }
    Ok(format!("{place}: bpffs mounted"))
}

/// Settings of the network that decide what becomes of packets beside policy.
pub(super) fn settings(links: &[Link]) -> Vec<Finding> {
    let net = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?;
        text.trim().parse::<u32>().ok()
    };
    let mut findings = Vec::new();
    // The kernel takes the stricter of the two.
    let all = net("ipv4/conf/all/rp_filter").unwrap_or(0);
    let strict: Vec<&str> = links
        .iter()
        .filter(|link| link.default_route || link.is_pods())
        .filter(|link| all.max(net(&format!("ipv4/conf/{}/rp_filter", link.name)).unwrap_or(0)) == 1)
        .map(|link| link.name.as_str())
        .collect();
    findings.push(if strict.is_empty() {
        ok("rp_filter", "loose or off")
    } else {
        // L3/L4 policy does not depend on it; answers that take another way do.
        ok(
            "rp_filter",
            format!("strict at {}: answers have to come back the way requests went", list(&strict)),
        )
    });
    findings.push(match net("bridge/bridge-nf-call-iptables") {
        None => ok("br_netfilter", "not there: bridged packets do not pass iptables"),
        Some(0) => ok("br_netfilter", "off: bridged packets do not pass iptables"),
        Some(_) => ok("br_netfilter", "on: bridged packets pass iptables, too"),
    });
    if net("ipv4/ip_forward") == Some(0) {
        findings.push(warn(
            "ip_forward",
            "net.ipv4.ip_forward is 0: nothing reaches pods from elsewhere",
            "the node's CNI usually sets it: sysctl -w net.ipv4.ip_forward=1",
        ));
    }
    findings
}

/// A few names; how many more there are.
pub(super) fn list(names: &[&str]) -> String {
    const SHOWN: usize = 4;
    let shown = names.get(..SHOWN.min(names.len())).unwrap_or_default().join(", ");
    match names.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        Some(more) => format!("{shown} and {more} more"),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::Level;

    #[test]
    fn a_kernel_from_5_10_on_will_do() {
        for (release, level) in [
            ("5.9.16", Level::Fail),
            ("5.10.0-34-amd64", Level::Ok),
            ("6.18", Level::Ok),
            ("4.19.0", Level::Fail),
            ("10.0-rc1", Level::Ok),
            ("unknown", Level::Warn),
        ] {
            assert_eq!(version(release).level, level, "{release}");
        }
    }

    #[test]
    fn missing_capabilities_are_named_and_cap_sys_admin_stands_for_two() {
        let bits = |numbers: &[u32]| numbers.iter().fold(0, |bits, number| bits | 1_u64 << number);
        assert_eq!(of_capabilities(bits(&[12, 38, 39])).level, Level::Ok);
        assert_eq!(of_capabilities(bits(&[12, 21])).level, Level::Ok);
        assert_eq!(of_capabilities(bits(&[38])).found, "without CAP_BPF, CAP_NET_ADMIN");
        assert_eq!(of_capabilities(0).level, Level::Fail);
    }

    #[test]
    fn a_folder_on_another_file_system_is_no_bpffs() {
        let found = bpffs(Path::new("/proc"));
        assert_eq!((found.level, found.found.as_str()), (Level::Fail, "/proc is not on a bpffs"));
        assert!(found.advice.contains("mount -t bpf bpf /proc"));
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(list(&["a", "b"]), "a, b");
        assert_eq!(list(&["a", "b", "c", "d", "e", "f"]), "a, b, c, d and 2 more");
    }
}
