//! Protocols and port numbers.

use datapath::abi::Transport;

use super::findings::{Findings, Refused};
use crate::policy::PortTerm;

/// A protocol by its name in the API; TCP if there is none.
pub(super) fn transport(
    name: Option<&str>,
    path: &str,
    findings: &mut Findings<'_>,
) -> Result<Transport, Refused> {
    match name {
        None | Some("TCP") => Ok(Transport::Tcp),
        Some("UDP") => Ok(Transport::Udp),
        Some("SCTP") => Ok(Transport::Sctp),
        Some(other) => Err(findings.error(path, format!("{other:?} is not a protocol"), "TCP, UDP or SCTP")),
    }
}

/// A port number.
pub(super) fn number(port: i32, path: &str, findings: &mut Findings<'_>) -> Result<u16, Refused> {
    match u16::try_from(port) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(findings.error(path, format!("port {port} is out of range"), "a port from 1 to 65535")),
    }
}

/// A port number in a field that must be there.
pub(super) fn required(port: Option<i32>, path: &str, findings: &mut Findings<'_>) -> Result<u16, Refused> {
    match port {
        Some(port) => number(port, path, findings),
        None => Err(findings.error(path, "the port is missing", "a port from 1 to 65535")),
    }
}

/// One port.
pub(super) const fn single(transport: Transport, port: u16) -> PortTerm {
    PortTerm::Range { transport, first: port, last: port }
}
