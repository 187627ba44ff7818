//! What the process may: asked before anything is made, so that no start is broken off halfway for want of it.

use std::fs;

use super::error::Error;

/// Name and number (`linux/capability.h`).
const NEEDED: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];
/// Before it was split up (Linux 5.8) this one stood for all of BPF, and it still does.
const SYS_ADMIN: u32 = 21;
const STATUS: &str = "/proc/self/status";

/// Refuses to go on if something is missing.
pub(super) fn check() -> Result<(), Error> {
    let failed = |error| Error::Pin { path: STATUS.into(), operation: "read the capabilities", error };
    let status = fs::read_to_string(STATUS).map_err(failed)?;
    let Some(effective) = effective(&status) else {
        return Err(failed(std::io::Error::other("no line `CapEff`")));
    };
    let missing = missing(effective);
    if missing.is_empty() { Ok(()) } else { Err(Error::Privileges { missing }) }
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn missing(effective: u64) -> Vec<&'static str> {
    let has = |number: u32| effective >> number & 1 == 1;
    let stands_for = |number: u32| number > SYS_ADMIN && has(SYS_ADMIN);
    NEEDED.iter().filter(|(_, number)| !has(*number) && !stands_for(*number)).map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_capability_that_is_missing_is_named_and_the_old_great_one_stands_for_those_of_bpf() {
        let set = |numbers: &[u32]| numbers.iter().fold(0, |set, number| set | 1_u64 << number);
        let three = set(&[12, 38, 39]);
        assert_eq!(effective(&format!("Name:\tx\nCapEff:\t{three:016x}\n")), Some(three));
        assert!(missing(three).is_empty());
        assert_eq!(missing(0), ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]);
        assert_eq!(missing(set(&[12, 38])), ["CAP_BPF"]);
        assert!(missing(set(&[12, 21])).is_empty());
        assert_eq!(missing(set(&[21])), ["CAP_NET_ADMIN"]);
    }
}
