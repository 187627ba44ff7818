//! Which programs the kernel takes, and which are at the pods' interfaces already.

use std::io;

use aya::maps::MapType;
use aya::programs::tc::TcAttachType;
use aya::programs::{ProgramError, ProgramType, SchedClassifier};
use aya::sys::{SyscallError, is_map_supported, is_program_supported};

use super::finding::{Finding, fail, ok, warn};
use super::links::{self, Link};
use super::system::list;

const PROGRAMS: [(ProgramType, &str); 2] =
    [(ProgramType::SchedClassifier, "classifiers (TC)"), (ProgramType::Xdp, "XDP")];
const MAPS: [(MapType, &str); 7] = [
    (MapType::Array, "arrays"),
    (MapType::Hash, "hashes"),
    (MapType::LruHash, "LRU hashes"),
    (MapType::PerCpuArray, "arrays by CPU"),
    (MapType::PerCpuHash, "hashes by CPU"),
    (MapType::LpmTrie, "prefix trees"),
    (MapType::RingBuf, "ring buffers"),
];

/// What the kernel is asked, not what its version promises.
pub(super) fn kernel() -> Vec<Finding> {
    let mut missing = Vec::new();
    let mut unknown = Vec::new();
    for (kind, name) in PROGRAMS {
        match is_program_supported(kind) {
            Ok(true) => {}
            Ok(false) => missing.push(name),
            Err(error) => unknown.push(format!("{name}: {error}")),
        }
    }
    for (kind, name) in MAPS {
        match is_map_supported(kind) {
            Ok(true) => {}
            Ok(false) => missing.push(name),
            Err(error) => unknown.push(format!("{name}: {error}")),
        }
    }
    let programs = if !missing.is_empty() {
        fail(
            "bpf",
            format!("the kernel has no {}", missing.join(", ")),
            "a kernel with CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_BPF and these",
        )
    } else if let Some(first) = unknown.first() {
        fail("bpf", first.clone(), "run it as root; some containers' seccomp profiles refuse bpf(2)")
    } else {
        ok("bpf", "programs and maps of all kinds that Polder uses")
    };
    vec![programs, tcx()]
}

fn tcx() -> Finding {
    match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
        Ok(_) => ok("tcx", "the kernel keeps classifiers in an order (6.6 and later): Polder's are first"),
        Err(error) if errno(&error) == Some(EPERM) => ok(
            "tcx",
            "the kernel keeps classifiers in an order; who is at lo cannot be read without CAP_SYS_ADMIN",
        ),
        Err(_) => ok("tcx", "not there: a clsact qdisc is used, and who is first is looked at every second"),
    }
}

const EPERM: i32 = 1;

fn errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(SyscallError { io_error, .. }) => io_error.raw_os_error(),
        _ => None,
    }
}

/// Programs of others at pods' interfaces.
pub(super) fn in_front(links: &[Link], installed: bool) -> Finding {
    const CHECK: &str = "programs in front";
    if installed {
        return ok(CHECK, "Polder is installed and looks after its place itself: `polctl status -o wide`");
    }
    let mut occupied = Vec::new();
    for link in links.iter().filter(|link| link.is_pods()) {
        match occupants(link) {
            Ok(names) if names.is_empty() => {}
            Ok(names) => occupied.push(format!("{} ({})", link.name, names.join(", "))),
            // It can be gone meanwhile.
            Err(error) if error.raw_os_error() == Some(19) => {}
            Err(error) => return warn(CHECK, format!("{}: {error}", link.name), "run it as root"),
        }
    }
    let names: Vec<&str> = occupied.iter().map(String::as_str).collect();
    if occupied.is_empty() {
        let pods = links.iter().filter(|link| link.is_pods()).count();
        return ok(CHECK, format!("none at {pods} interfaces of pods"));
    }
    warn(
        CHECK,
        list(&names),
        "Polder stands before them; what it allows they still decide about. Without tcx, one that takes the first place \
         again and lets packets pass is a way around policy",
    )
}

fn occupants(link: &Link) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for site in [TcAttachType::Ingress, TcAttachType::Egress] {
        match SchedClassifier::query_tcx(&link.name, site) {
            Ok((_, programs)) => {
                names.extend(programs.iter().map(|program| program.name_as_str().unwrap_or("?").to_owned()));
            }
            Err(error) if errno(&error) == Some(EPERM) => names.push("tcx".to_owned()),
            // No tcx here, so nobody uses it.
            Err(_) => {}
        }
    }
    match links::clsact_filters(link.index) {
        Ok(0) => {}
        Ok(filters) => names.push(format!("{filters} clsact filters")),
        // No clsact qdisc, so no filter in it.
        Err(error) if error.raw_os_error() == Some(22) => {}
        Err(error) => return Err(error),
    }
    Ok(names)
}
