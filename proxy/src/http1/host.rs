//! The host that a request is for, in the one spelling that rules and servers see.

use std::net::Ipv6Addr;

use crate::fault::Fault;

/// The most that DNS allows of a name (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 253;

/// Appends the canonical form of `host [":" port]`: in lower case, without the dot of the root, without HTTP's own port.
/// No percent-encoding, no user: a name, an IPv4 address (which looks like a name), or an IPv6 address in brackets.
pub fn append_host(received: &[u8], to: &mut Vec<u8>) -> Result<(), Fault> {
    let (host, port) = split_port(received)?;
    if let [b'[', address @ .., b']'] = host {
        let text = std::str::from_utf8(address).map_err(|_| Fault::HOST)?;
        let address: Ipv6Addr = text.parse().map_err(|_| Fault::HOST)?;
        to.extend_from_slice(format!("[{address}]").as_bytes());
    } else {
        append_name(host, to)?;
    }
    if let Some(port) = port
        && port != 80
    {
        to.extend_from_slice(format!(":{port}").as_bytes());
    }
    Ok(())
}

/// What rules are asked about: the canonical form without its port. Most servers choose by the name alone, and what the port says
/// is the client's to choose.
pub fn without_port(canonical: &[u8]) -> &[u8] {
    match canonical.iter().rposition(|&octet| octet == b':') {
        // The colons of an address are in brackets.
        Some(colon) if !canonical.ends_with(b"]") => &canonical[..colon],
        _ => canonical,
    }
}

/// Appends a name of labels, in lower case and without the dot of the root.
pub fn append_name(received: &[u8], to: &mut Vec<u8>) -> Result<(), Fault> {
    let name = received.strip_suffix(b".").unwrap_or(received);
    let is_label = |label: &[u8]| {
        let fits = (1..=63).contains(&label.len());
        // `_` is in no host name, but in names of services that people have.
        fits && label.iter().all(|&octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
    };
    if name.len() > LONGEST_NAME || !name.split(|&octet| octet == b'.').all(is_label) {
        return Err(Fault::HOST);
    }
    to.extend(name.iter().map(u8::to_ascii_lowercase));
    Ok(())
}

fn split_port(received: &[u8]) -> Result<(&[u8], Option<u16>), Fault> {
    let Some(colon) = received.iter().rposition(|&octet| octet == b':') else {
        return Ok((received, None));
    };
    if received.last() == Some(&b']') {
        return Ok((received, None));
    }
    let (host, port) = (&received[..colon], &received[colon + 1..]);
    // An empty port is the default one to the specification, and an error to some servers.
    let digits = (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit) && port[0] != b'0';
    let number =
        if digits { std::str::from_utf8(port).ok().and_then(|text| text.parse().ok()) } else { None };
    number.map(|number| (host, Some(number))).ok_or(Fault::HOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(received: &str) -> Result<String, Fault> {
        let mut canonical = Vec::new();
        append_host(received.as_bytes(), &mut canonical).map(|()| String::from_utf8(canonical).unwrap())
    }

    #[test]
    fn one_host_has_one_spelling() {
        for (received, canonical) in [
            ("a", "a"),
            ("Shop.Example.", "shop.example"),
            ("shop.example:80", "shop.example"),
            ("shop_1.example:8080", "shop_1.example:8080"),
            ("10.0.0.1:8080", "10.0.0.1:8080"),
            ("[::1]", "[::1]"),
            ("[0:0::1]:80", "[::1]"),
            ("[FE80::1]:443", "[fe80::1]:443"),
        ] {
            assert_eq!(host(received).as_deref(), Ok(canonical));
        }
    }

    #[test]
    fn the_port_is_no_part_of_what_rules_are_asked_about() {
        for (canonical, asked) in [
            ("shop.example", "shop.example"),
            ("shop.example:8080", "shop.example"),
            ("10.0.0.1:1", "10.0.0.1"),
            ("[::1]", "[::1]"),
            ("[fe80::1]:443", "[fe80::1]"),
        ] {
            assert_eq!(without_port(canonical.as_bytes()), asked.as_bytes());
        }
    }

    #[test]
    fn what_names_no_host_is_refused() {
        let long = "a.".repeat(127) + "aa";
        for received in [
            "",
            ".",
            "a..b",
            ".a",
            "a b",
            "a,b",
            "a@b",
            "u:80@b",
            "a:80@b",
            "a:",
            "a:0",
            "a:080",
            "a:65536",
            "a:x",
            "a:80:80",
            "%61",
            "a/b",
            "[::1",
            "::1",
            "[::1]x",
            "[1.2.3.4]",
            "[fe80::1%25eth0]",
            "a\0",
            "\u{e9}",
            &long,
        ] {
            assert_eq!(host(received), Err(Fault::HOST), "{received}");
        }
    }
}
