//! What a test needs of its machine.

use std::env;
use std::path::Path;

use nix::unistd::Uid;

/// True if this test can make namespaces. Without root it says loudly that nothing was proved, and gives false; with
/// `POLDER_STRICT=1` in the environment that is a failure.
///
/// # Panics
///
/// Without root, if `POLDER_STRICT` is 1.
pub fn root_or_skip(test: &str) -> bool {
    there_or_skip(Uid::effective().is_root(), test, "root for network namespaces")
}

/// True if this test can run a program, such as `nft`; else like [`root_or_skip`].
///
/// # Panics
///
/// Without the program, if `POLDER_STRICT` is 1.
pub fn tool_or_skip(program: &str, test: &str) -> bool {
    there_or_skip(tool_present(program), test, &format!("the program `{program}`"))
}

fn there_or_skip(there: bool, test: &str, what: &str) -> bool {
    if !there {
        let strict = env::var_os("POLDER_STRICT").is_some_and(|value| value == "1");
        assert!(!strict, "{test}: needs {what}, and POLDER_STRICT=1 forbids to skip it");
        eprintln!("**** SKIPPED, NOTHING PROVED: {test} needs {what} ****");
    }
    there
}

/// True if the kernel has `br_netfilter`, that is, if bridged packets can be made to pass iptables.
pub fn br_netfilter_present() -> bool {
    Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists()
}

/// True if a program of this name is in one of the directories of `PATH`.
pub fn tool_present(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}
