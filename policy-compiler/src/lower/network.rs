//! Prefixes of addresses: parsed as strictly as new API servers do, and made canonical.

use std::net::IpAddr;

use ipnet::IpNet;

use super::findings::{Findings, Refused};
use crate::problem::Severity;

/// The id of the note that a prefix has bits below its length.
pub(super) const NOT_CANONICAL: &str = "not-canonical";
const FORM: &str = "an IPv4 or IPv6 prefix such as 10.0.0.0/8 or fd00::/8";

/// A prefix. Bits below its length are cleared, with a note that says so.
pub(super) fn cidr(text: &str, path: &str, findings: &mut Findings<'_>) -> Result<IpNet, Refused> {
    match parse(text) {
        Ok(written) => {
            let canonical = written.trunc();
            if canonical.addr() != written.addr() {
                let single = IpNet::from(written.addr());
                findings.remark(
                    Severity::Note,
                    NOT_CANONICAL,
                    path,
                    format!("{text:?} has bits set below its length, and is read as {canonical}"),
                    format!("{canonical}, or {single} for the one address"),
                );
            }
            Ok(canonical)
        }
        Err(Wrong { what, expected }) => Err(findings.error(path, format!("{text:?} {what}"), expected)),
    }
}

/// What is wrong with a prefix, and what would be right.
#[derive(Debug, PartialEq)]
struct Wrong {
    what: &'static str,
    expected: String,
}

/// Leading zeros are refused because programs differ on whether `010` is ten or eight (Go CVE-2021-29923); IPv4-mapped
/// IPv6 because it would be an IPv6 prefix to some and an IPv4 prefix to others. API servers of old take both.
fn parse(text: &str) -> Result<IpNet, Wrong> {
    let wrong = |what| Wrong { what, expected: FORM.to_owned() };
    let (address, length) = text.split_once('/').ok_or_else(|| wrong("has no prefix length"))?;
    let address: IpAddr = address.parse().map_err(|_| wrong(why_no_address(address)))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = match length.as_bytes() {
        [b'0', _, ..] => return Err(wrong("has a prefix length with a leading zero")),
        // `parse` alone would take a `+`.
        digits if digits.iter().all(u8::is_ascii_digit) => {
            length.parse().ok().filter(|length| *length <= most)
        }
        _ => None,
    };
    let length: u8 = length.ok_or_else(|| Wrong {
        what: "has a wrong prefix length",
        expected: format!("a length from 0 to {most}"),
    })?;
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        let expected = match length.checked_sub(96) {
            Some(length) => {
                format!("it written as IPv4, {v4}/{length}, or an IPv6 prefix outside ::ffff:0:0/96")
            }
            None => "an IPv4 prefix, or an IPv6 prefix outside ::ffff:0:0/96".to_owned(),
        };
        return Err(Wrong { what: "has an IPv4-mapped IPv6 address", expected });
    }
    IpNet::new(address, length).map_err(|_| wrong("has a wrong prefix length"))
}

fn why_no_address(address: &str) -> &'static str {
    let dotted = address.rsplit(':').next().unwrap_or_default();
    let padded =
        |octet: &str| octet.len() > 1 && octet.starts_with('0') && octet.bytes().all(|b| b.is_ascii_digit());
    if address.contains('%') {
        "has an address with a zone"
    } else if dotted.contains('.') && dotted.split('.').any(padded) {
        "has an octet with a leading zero, which some read as octal"
    } else {
        "does not begin with an IP address"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::ObjectRef;

    #[test]
    fn prefixes_are_read_as_they_are_meant() {
        for (text, canonical) in [
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3/32", "10.1.2.3/32"),
            ("255.255.255.255/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("FD00:0db8::/32", "fd00:db8::/32"),
            ("2001:db8::1/64", "2001:db8::/64"),
            ("::1.2.3.4/128", "::102:304/128"),
            ("64:ff9b::1.2.3.4/128", "64:ff9b::102:304/128"),
        ] {
            assert_eq!(parse(text).unwrap().trunc().to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_plain_prefix_is_refused_with_its_reason() {
        let no_address = "does not begin with an IP address";
        let octal = "has an octet with a leading zero, which some read as octal";
        let length = "has a wrong prefix length";
        for (text, what) in [
            ("", "has no prefix length"),
            ("10.0.0.0", "has no prefix length"),
            ("/8", no_address),
            ("10.0.0/8", no_address),
            ("10.0.0.256/32", no_address),
            (" 10.0.0.0/8", no_address),
            ("example.com/8", no_address),
            ("fe80::1%eth0/64", "has an address with a zone"),
            ("010.0.0.0/8", octal),
            ("10.00.0.0/8", octal),
            ("64:ff9b::01.2.3.4/128", octal),
            ("10.0.0.0/08", "has a prefix length with a leading zero"),
            ("10.0.0.0/", length),
            ("10.0.0.0/+8", length),
            ("10.0.0.0/-1", length),
            ("10.0.0.0/33", length),
            ("10.0.0.0/8/8", length),
            ("10.0.0.0/255.0.0.0", length),
            ("::/129", length),
            ("::/999999999999", length),
            ("::ffff:1.2.3.4/128", "has an IPv4-mapped IPv6 address"),
            ("::ffff:0:0/96", "has an IPv4-mapped IPv6 address"),
            ("::ffff:0:0/90", "has an IPv4-mapped IPv6 address"),
        ] {
            assert_eq!(parse(text).unwrap_err().what, what, "{text:?}");
        }
        assert_eq!(parse("10.0.0.0/33").unwrap_err().expected, "a length from 0 to 32");
        let expected = "it written as IPv4, 1.2.3.4/24, or an IPv6 prefix outside ::ffff:0:0/96";
        assert_eq!(parse("::ffff:1.2.3.4/120").unwrap_err().expected, expected);
    }

    #[test]
    fn two_ways_of_writing_a_prefix_are_one_prefix() {
        let mut findings = Findings::new(ObjectRef::cluster("K", "n"), None);
        let one = cidr("10.161.0.0/8", "p", &mut findings).unwrap();
        let two = cidr("10.0.0.0/8", "p", &mut findings).unwrap();
        assert_eq!((one, one.to_string().as_str()), (two, "10.0.0.0/8"));
    }
}
