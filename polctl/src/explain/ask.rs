//! What is asked about: `--port`, `--protocol`.

use datapath::abi::Transport;
use policy_compiler::explain::Protocol;
use policy_compiler::facts::Pod;

/// A port as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) number: Number,
    /// The protocol; TCP unless the port's name says otherwise.
    pub(crate) transport: Option<Transport>,
}

/// A port by number or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    Is(u16),
    Named(String),
}

/// `80`, `53/udp`, `web`, `dns/udp`.
pub(crate) fn port(text: &str) -> Result<Port, String> {
    let (number, transport) = match text.split_once('/') {
        Some((number, word)) => {
            let transport = transport(word).ok_or_else(|| format!("{word:?} is not tcp, udp or sctp"))?;
            (number, Some(transport))
        }
        None => (text, None),
    };
    let number = match number.parse::<u16>() {
        Ok(0) => return Err("port 0 is out of range; expected 1 to 65535".to_owned()),
        Ok(number) => Number::Is(number),
        Err(_) if number.is_empty() || number.bytes().all(|c| c.is_ascii_digit()) => {
            return Err(format!("port {number:?} is out of range; expected 1 to 65535, or a name"));
        }
        Err(_) => Number::Named(number.to_owned()),
    };
    Ok(Port { number, transport })
}

fn transport(word: &str) -> Option<Transport> {
    match &*word.to_ascii_lowercase() {
        "tcp" => Some(Transport::Tcp),
        "udp" => Some(Transport::Udp),
        "sctp" => Some(Transport::Sctp),
        _ => None,
    }
}

/// A protocol without ports: `icmp`, `icmpv6`, `esp`, `gre`, or its number.
pub(crate) fn protocol(text: &str) -> Result<u8, String> {
    let number = match &*text.to_ascii_lowercase() {
        "icmp" => 1,
        "icmpv6" | "icmp6" => 58,
        "igmp" => 2,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        word if transport(word).is_some() => {
            return Err(format!("{word} has ports; write --port NUMBER/{word}"));
        }
        word => word.parse().map_err(|_| {
            format!("{word:?} is not a protocol; expected icmp, icmpv6, esp, gre or a number to 255")
        })?,
    };
    match Transport::from_ip_protocol(number) {
        Some(_) => Err(format!("protocol {number} has ports; write --port")),
        None => Ok(number),
    }
}

impl Port {
    /// Protocol and number at a destination; `None` if it has no port of that name.
    pub(crate) fn at(&self, destination: Option<&Pod>) -> Option<Protocol> {
        let (transport, number) = match &self.number {
            Number::Is(number) => (self.transport.unwrap_or(Transport::Tcp), *number),
            Number::Named(name) => destination?.named_port(name, self.transport)?,
        };
        Some(Protocol::Transport(transport, number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_protocols_are_read_as_people_write_them() {
        let number = |number, transport| Ok(Port { number: Number::Is(number), transport });
        assert_eq!(port("80"), number(80, None));
        assert_eq!(port("53/UDP"), number(53, Some(Transport::Udp)));
        assert_eq!(port("web/tcp").unwrap().number, Number::Named("web".to_owned()));
        for wrong in ["0", "70000", "80/icmp", "", "/tcp"] {
            assert!(port(wrong).is_err(), "{wrong}");
        }
        assert_eq!((protocol("ICMP"), protocol("icmpv6"), protocol("50")), (Ok(1), Ok(58), Ok(50)));
        assert!(protocol("tcp").is_err() && protocol("6").is_err() && protocol("x").is_err());
    }
}
