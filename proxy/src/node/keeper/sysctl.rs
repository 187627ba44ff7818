//! Settings of the proxy's network namespace. All are wishes: nothing needs them, and a container may not have its `/proc/sys`
//! writable.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// What is wished, and why it is not needed.
const WISHES: [(&str, &str); 18] = [
    // The route back to any address is the one by eth0, so strict filtering finds nothing wrong either.
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/conf/eth0/rp_filter", "0"),
    // Sources are looked up by the rule of what is sent, in which no address is local.
    ("net/ipv4/conf/all/accept_local", "1"),
    ("net/ipv4/conf/eth0/accept_local", "1"),
    // A client that uses a port again within a minute: without it that connection fails.
    ("net/ipv4/tcp_tw_reuse", "1"),
    // A client whose port is one of the first 1024: without it that connection fails.
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    // Sockets say the same of themselves (`IP_FREEBIND`).
    ("net/ipv4/ip_nonlocal_bind", "1"),
    ("net/ipv6/ip_nonlocal_bind", "1"),
    // Which packets are too large for the way to a server is told to its client where the node meets the outside. Whoever has no
    // answer finds out by sending smaller ones (RFC 4821). Without it, large requests to such servers fail.
    ("net/ipv4/tcp_mtu_probing", "1"),
    // What a burst of connections needs.
    ("net/core/somaxconn", "4096"),
    ("net/ipv4/tcp_max_syn_backlog", "4096"),
    // The defaults of kernels, if not of every distribution.
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv6/conf/all/forwarding", "0"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/eth0/accept_dad", "0"),
    ("net/ipv6/conf/eth0/accept_ra", "0"),
    ("net/ipv6/conf/eth0/router_solicitations", "0"),
];

/// Writes all of them, for the calling thread's network namespace.
pub(super) fn write_all() {
    // A thread of its own may have mounts of its own, which nobody else sees. It is in the same network namespace.
    let thread = thread::Builder::new().name("sysctl".to_owned()).spawn(|| {
        if write(Path::new("/proc/sys")).is_empty() {
            return Vec::new();
        }
        match fresh_proc() {
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, "no other /proc could be mounted"),
        }
        write(Path::new("/proc/sys"))
    });
    let left = match thread.map(thread::JoinHandle::join) {
        Ok(Ok(left)) => left,
        Ok(Err(_)) => return tracing::warn!("writing settings of the network failed"),
        Err(error) => return tracing::warn!(%error, "writing settings of the network"),
    };
    for (name, error) in left {
        tracing::warn!(name, %error, "a setting of the proxy's network stays as it is");
    }
}

/// Gives those that could not be written. Those of IPv6 are not there if IPv6 is not.
fn write(root: &Path) -> Vec<(&'static str, io::Error)> {
    let mut left = Vec::new();
    for (name, value) in WISHES {
        match fs::write(root.join(name), value) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => left.push((name, error)),
            _ => {}
        }
    }
    left
}

/// Mounts a `/proc` for this thread alone.
fn fresh_proc() -> nix::Result<()> {
    const NOTHING: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, NOTHING)
}
