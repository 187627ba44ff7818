//! What octets may stand where: the tables behind every other parser of HTTP/1.

use bytes::BufMut;

/// An octet's class, as bits: it may be several things at once.
const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const PATH: u8 = 4;
const QUERY: u8 = 8;
const UNRESERVED: u8 = 16;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut octet = 0_u8;
    loop {
        let alphanumeric = octet.is_ascii_alphanumeric();
        let mut class = 0;
        // RFC 9110, section 5.6.2.
        if alphanumeric
            || matches!(
                octet,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            )
        {
            class |= TOKEN;
        }
        // RFC 9110, section 5.5: visible, blank, or of another character set; no control.
        if octet == b'\t' || (octet >= b' ' && octet != 0x7f) {
            class |= VALUE;
        }
        // RFC 3986, section 2.3.
        if alphanumeric || matches!(octet, b'-' | b'.' | b'_' | b'~') {
            class |= UNRESERVED;
        }
        // RFC 3986, section 3.3, but for `;`: servlets cut a segment there, others do not. `/` and `%` have their own rules.
        if class & UNRESERVED != 0
            || matches!(
                octet,
                b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@'
            )
        {
            class |= PATH;
        }
        // No rule reads a query, and every server agrees where it begins; so whatever browsers leave unencoded is passed on.
        if octet > b' ' && octet < 0x7f && !matches!(octet, b'"' | b'#' | b'<' | b'>') {
            class |= QUERY;
        }
        table[octet as usize] = class;
        if octet == 255 {
            return table;
        }
        octet += 1;
    }
}

fn all(octets: &[u8], class: u8) -> bool {
    octets.iter().all(|&octet| CLASSES[usize::from(octet)] & class != 0)
}

/// Whether these octets are a token: a method, a header's name.
pub(crate) fn is_token(octets: &[u8]) -> bool {
    !octets.is_empty() && all(octets, TOKEN)
}

/// Whether these octets may be a header's value.
pub(crate) fn is_value(octets: &[u8]) -> bool {
    all(octets, VALUE)
}

/// Whether these octets may be a query.
pub(crate) fn is_query(octets: &[u8]) -> bool {
    all(octets, QUERY)
}

/// Whether this octet may stand in a path's segment as it is.
pub(crate) fn is_path(octet: u8) -> bool {
    CLASSES[usize::from(octet)] & PATH != 0
}

/// Whether encoding this octet changes nothing (RFC 3986, section 6.2.2.2).
pub(crate) fn is_unreserved(octet: u8) -> bool {
    CLASSES[usize::from(octet)] & UNRESERVED != 0
}

/// The value of a hexadecimal digit.
pub(crate) fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Without the blanks around it (RFC 9110, section 5.6.3).
pub(crate) fn trim(mut octets: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = octets {
        octets = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = octets {
        octets = rest;
    }
    octets
}

/// The members of a comma-separated list, without the empty ones (RFC 9110, section 5.6.1.2).
pub(crate) fn members(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&octet| octet == b',').map(trim).filter(|member| !member.is_empty())
}

/// Appends a number in decimal.
pub(crate) fn append_number(to: &mut impl BufMut, mut number: u64) {
    // The most that a u64 has.
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b"0123456789"[(number % 10) as usize];
        number /= 10;
        if number == 0 {
            return to.put_slice(&digits[start..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_of_the_specification() {
        let tokens: Vec<u8> = (0..=255).filter(|&octet| is_token(&[octet])).collect();
        assert_eq!(tokens, b"!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~");
        assert!(!is_token(b""));
    }

    #[test]
    fn values_have_no_controls_but_tabs() {
        let refused: Vec<u8> = (0..=255).filter(|&octet| !is_value(&[octet])).collect();
        let controls: Vec<u8> = (0..=8).chain(10..=31).chain([127]).collect();
        assert_eq!(refused, controls);
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 9, 10, 200, 1_000_000, u64::MAX] {
            let mut written = Vec::new();
            append_number(&mut written, number);
            assert_eq!(written, number.to_string().into_bytes());
        }
    }

    #[test]
    fn lists_lose_blanks_and_empty_members() {
        let members: Vec<&[u8]> = members(b" a ,, b\t,").collect();
        assert_eq!(members, [b"a", b"b"]);
    }
}
