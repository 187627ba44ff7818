//! Names of namespaces: whose they are can be read off them, so that what a dead process left behind is found.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

const PREFIX: &str = "netlab";

/// What the names of one laboratory begin with: `netlab.PID.START.NUMBER.NAME`.
///
/// START is the time at which the process began, in ticks since boot: a process id is given again, together with that
/// time it is not.
pub(crate) fn prefix(lab: &str) -> Result<String> {
    static LABS: AtomicU32 = AtomicU32::new(0);
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    ensure!(
        !lab.is_empty() && lab.len() <= 40 && lab.chars().all(allowed),
        "the name of the laboratory is {lab:?}; it has to be 1 to 40 characters of a-z, 0-9 and -"
    );
    let pid = std::process::id();
    let start = start_of(pid).with_context(|| format!("/proc/{pid}/stat: no start time of this process"))?;
    Ok(format!("{PREFIX}.{pid}.{start}.{}.{lab}", LABS.fetch_add(1, Ordering::Relaxed)))
}

/// True for the name of a namespace whose laboratory's process is gone.
pub(crate) fn is_leftover(name: &str) -> bool {
    let mut parts = name.split('.');
    if parts.next() != Some(PREFIX) {
        return false;
    }
    let pid = parts.next().and_then(|part| part.parse::<u32>().ok());
    let start = parts.next().and_then(|part| part.parse::<u64>().ok());
    match (pid, start) {
        (Some(pid), Some(start)) => start_of(pid) != Some(start),
        _ => false,
    }
}

/// When a process began (field 22 of `proc_pid_stat(5)`), if it is there and not merely waited for.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a file name in parentheses, which may hold blanks and parentheses itself.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_of_dead_processes_are_leftovers() {
        let own = prefix("test").unwrap();
        assert!(!is_leftover(&own));
        let mut parts: Vec<&str> = own.split('.').collect();
        parts[2] = "1";
        assert!(is_leftover(&parts.join(".")), "the process id was given to another process");
        for foreign in ["cni-1234", "netlab", "netlab.x.1.0.a", "netlab.4294967295", "test-node"] {
            assert!(!is_leftover(foreign), "{foreign}");
        }
        assert!(is_leftover("netlab.4294967295.17.0.a.node"));
    }

    #[test]
    fn two_laboratories_never_share_a_prefix() {
        assert_ne!(prefix("a").unwrap(), prefix("a").unwrap());
        assert!(prefix("a.b").is_err());
    }
}
