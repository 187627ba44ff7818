//! What pods, nodes and machines outside have in common.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use crate::address::Family;
use crate::command;
use crate::namespace::{Namespace, Task};

/// How a node checks that the way back to a packet's source leads through the interface it came by (RFC 3704).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RpFilter {
    /// Not at all.
    Off,
    /// Through this very interface.
    Strict,
    /// Through any interface.
    Loose,
}

impl RpFilter {
    pub(crate) fn value(self) -> &'static str {
        match self {
            Self::Off => "0",
            Self::Strict => "1",
            Self::Loose => "2",
        }
    }
}

/// Something with a network namespace and an address in each family.
pub trait Host: Sync {
    /// Its network namespace.
    fn namespace(&self) -> &Arc<Namespace>;
    /// Its name in the laboratory.
    fn name(&self) -> &str;
    /// Its IPv4 address.
    fn ipv4(&self) -> Ipv4Addr;
    /// Its IPv6 address.
    fn ipv6(&self) -> Ipv6Addr;

    /// Its address of a family.
    fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.ipv4().into(),
            Family::V6 => self.ipv6().into(),
        }
    }

    /// Runs a function in a thread inside the namespace: see [`Namespace::run`].
    fn run<T: Send>(&self, function: impl FnOnce() -> Result<T> + Send) -> Result<T>
    where
        Self: Sized,
    {
        self.namespace().run(function)
    }

    /// Starts a function in a thread inside the namespace: see [`Namespace::spawn`].
    fn spawn<T, F>(&self, function: F) -> Result<Task<T>>
    where
        Self: Sized,
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        self.namespace().spawn(function)
    }

    /// Waits until an interface carries packets. That is a little later than when it was set up, because the kernel
    /// notices the carrier of a new link in a work queue of its own; until then packets are dropped.
    fn wait_until_running(&self, interface: &str) -> Result<()> {
        wait_until_running(self.namespace(), interface)
    }

    /// Runs a program inside the namespace and gives what it printed.
    fn command(&self, program: &str, arguments: &[&str], input: &str) -> Result<String> {
        in_namespace(self.namespace(), program, arguments, input)
    }

    /// Runs `ip` inside the namespace: one command a line, without the word `ip`, all in one process.
    fn ip(&self, batch: &str) -> Result<String> {
        self.command("ip", &["-batch", "-"], batch)
    }

    /// Runs `bridge` inside the namespace: one command a line, without the word `bridge`.
    fn bridge(&self, batch: &str) -> Result<String> {
        self.command("bridge", &["-batch", "-"], batch)
    }

    /// Runs `tc` inside the namespace: one command a line, without the word `tc`.
    fn tc(&self, batch: &str) -> Result<String> {
        self.command("tc", &["-batch", "-"], batch)
    }

    /// Loads a ruleset with `nft` inside the namespace, as one transaction.
    fn nft(&self, ruleset: &str) -> Result<String> {
        self.command("nft", &["-f", "-"], ruleset)
    }

    /// Runs `iptables` or `ip6tables` inside the namespace, with arguments that hold no blanks.
    fn iptables(&self, family: Family, arguments: &str) -> Result<String> {
        let program = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        let arguments: Vec<&str> = ["-w"].into_iter().chain(arguments.split_whitespace()).collect();
        self.command(program, &arguments, "")
    }
}

pub(crate) fn wait_until_running(namespace: &Namespace, interface: &str) -> Result<()> {
    // The kernel says so from a work queue, under a lock that all namespaces of the machine share: on a busy one that takes a while,
    // and each look takes that lock, too.
    let deadline = Instant::now() + Duration::from_mins(1);
    namespace.run(|| {
        while !(is_running(interface)? && has_settled_addresses(interface)?) {
            ensure!(
                Instant::now() < deadline,
                "{interface} in {}: does not run; a link runs when both of its ends are up",
                namespace.name()
            );
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    })
}

/// `IFF_RUNNING` is the operational state (RFC 2863); `IFF_UP` is only what was asked for.
fn is_running(interface: &str) -> Result<bool> {
    let mut interfaces = getifaddrs().context("cannot list interfaces")?;
    Ok(interfaces
        .any(|one| one.interface_name == interface && one.flags.contains(InterfaceFlags::IFF_RUNNING)))
}

/// True if no IPv6 address of the interface is tentative: every one begins so, and stays so until a work queue of the
/// kernel has come to it, even without duplicate address detection. Until then nothing is accepted for it.
fn has_settled_addresses(interface: &str) -> Result<bool> {
    const TENTATIVE: u8 = 0x40;
    let path = "/proc/thread-self/net/if_inet6";
    let table = fs::read_to_string(path).with_context(|| format!("{path}: cannot read it"))?;
    // Address, index, prefix length, scope, flags, name.
    let tentative = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|fields| {
        let flags = fields.get(4).and_then(|flags| u8::from_str_radix(flags, 16).ok()).unwrap_or(TENTATIVE);
        fields.get(5) == Some(&interface) && flags & TENTATIVE != 0
    });
    Ok(!tentative)
}

pub(crate) fn in_namespace(
    namespace: &Namespace,
    program: &str,
    arguments: &[&str],
    input: &str,
) -> Result<String> {
    namespace
        .run(|| command::run(program, arguments, input))
        .with_context(|| format!("in the namespace {}", namespace.name()))
}

pub(crate) fn ip(namespace: &Namespace, batch: &str) -> Result<String> {
    in_namespace(namespace, "ip", &["-batch", "-"], batch)
}
