//! Network namespaces, and threads in them.

use std::fs::File;
use std::panic::resume_unwind;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

/// A network namespace, which vanishes with this.
pub(crate) struct Place {
    name: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pxt-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        run("ip", &["netns", "add", &name]);
        let place = Place { name };
        place.ip("link set lo up");
        place
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// `ip` with these arguments, here.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        let arguments: Vec<&str> = ["-n", &self.name].into_iter().chain(arguments.split(' ')).collect();
        run("ip", &arguments)
    }

    pub(crate) fn sysctl(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/{name}");
        self.run(|| std::fs::write(&path, value).unwrap());
    }

    /// Runs something in a thread that is here.
    pub(crate) fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let file = self.file();
        let entered = || {
            setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
            what()
        };
        thread::scope(|scope| scope.spawn(entered).join().unwrap_or_else(|panic| resume_unwind(panic)))
    }

    pub(crate) fn file(&self) -> File {
        File::open(format!("/run/netns/{}", self.name)).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        run("ip", &["netns", "del", &self.name]);
    }
}

/// Connects two places: device and addresses (IPv4, IPv6) of the first, then of the second.
pub(crate) fn connect(one: (&Place, &str, [&str; 2]), other: (&Place, &str, [&str; 2])) {
    one.0.ip(&format!("link add {} type veth peer name {} netns {}", one.1, other.1, other.0.name()));
    for (place, device, [four, six]) in [one, other] {
        place.ip(&format!("addr add {four} dev {device}"));
        place.ip(&format!("addr add {six} dev {device} nodad"));
        place.ip(&format!("link set {device} up"));
    }
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
