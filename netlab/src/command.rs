//! Running the tools of iproute2 and netfilter in the calling thread's network namespace.

use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

/// Which Debian package has a tool, for the message that it is missing.
const PACKAGES: [(&str, &str); 8] = [
    ("ip", "iproute2"),
    ("bridge", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("ip6tables", "iptables"),
    ("ethtool", "ethtool"),
    ("bpftool", "bpftool"),
];

/// Runs a program and gives what it printed. The error holds the whole command, its input and what it complained of.
///
/// A child has the namespaces of the thread that started it, so this belongs inside `Host::run`.
pub(crate) fn run(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => missing(program),
            _ => anyhow!("`{program} {}` did not start: {error}", arguments.join(" ")),
        })?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().with_context(|| format!("`{program}`: cannot wait for it"))?;
    if !output.status.success() {
        let numbered: Vec<String> =
            (1..).zip(input.lines()).map(|(n, line)| format!("\n  {n:>3} | {line}")).collect();
        bail!(
            "`{program} {}` ended with {}: {}{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim(),
            numbered.concat(),
        );
    }
    written.with_context(|| format!("`{program}` did not read its input"))?;
    String::from_utf8(output.stdout).with_context(|| format!("`{program}` printed what is not UTF-8"))
}

fn missing(program: &str) -> anyhow::Error {
    let package = PACKAGES.iter().find(|(tool, _)| *tool == program).map_or(program, |(_, package)| package);
    anyhow!(
        "`{program}` is not in PATH; on Debian `apt-get install --no-install-recommends {package}` brings it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_names_its_package() {
        assert_eq!(
            missing("nft").to_string(),
            "`nft` is not in PATH; on Debian `apt-get install --no-install-recommends nftables` brings it"
        );
        let error = run("no-such-tool", &["-x"], "").unwrap_err().to_string();
        assert!(error.starts_with("`no-such-tool` is not in PATH"), "{error}");
    }

    #[test]
    fn a_failure_shows_command_complaint_and_numbered_input() {
        let error =
            run("sh", &["-c", "cat >/dev/null; echo oh >&2; exit 3"], "one\ntwo\n").unwrap_err().to_string();
        assert!(error.contains("`sh -c cat"), "{error}");
        assert!(error.contains("exit status: 3: oh\n    1 | one\n    2 | two"), "{error}");
    }
}
