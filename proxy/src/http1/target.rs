//! A request's target: which form it has, and its path in the one spelling that every server reads alike.
//!
//! A path whose normal form (RFC 3986, section 6.2.2) is not what was received is refused, not mended: the server might
//! have read it the other way. The one exception is the case of the digits in `%c3`, which nobody reads in two ways.
//! Beyond the normal form, what is known to be read differently is refused as well: `;` and encoded `/`, `\`, `;`, controls
//! and `%` that would decode twice. (Spring's `StrictHttpFirewall` refuses the same.)

use super::octets::{hex, is_path, is_query, is_unreserved};
use crate::fault::Fault;

/// A target in its parts, as received (RFC 9112, section 3.2). The authority form is not among them: CONNECT is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Of the absolute form: what the `Host` has to agree with.
    pub authority: Option<&'a [u8]>,
    /// The path, which is `*` in the asterisk form.
    pub path: &'a [u8],
    /// Behind the first `?`, if there is one.
    pub query: Option<&'a [u8]>,
}

impl<'a> Target<'a> {
    /// Takes a target apart. The path is not checked yet: see [`append_path`].
    pub fn parse(method: &[u8], target: &'a [u8]) -> Result<Self, Fault> {
        if target == b"*" {
            let asterisk = Target { authority: None, path: target, query: None };
            return if method == b"OPTIONS" { Ok(asterisk) } else { Err(Fault::TARGET_FORM) };
        }
        let (authority, rest) = match split_scheme(target) {
            None => (None, target),
            Some(rest) => {
                let end = rest.iter().position(|octet| matches!(octet, b'/' | b'?')).unwrap_or(rest.len());
                (Some(&rest[..end]), &rest[end..])
            }
        };
        let (path, query) = match rest.iter().position(|&octet| octet == b'?') {
            None => (rest, None),
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        };
        let path = match (path, authority) {
            // RFC 9112, section 3.2.1: an empty path is sent as `/`.
            (b"", Some(_)) => b"/",
            ([b'/', ..], _) => path,
            _ => return Err(Fault::TARGET_FORM),
        };
        if !query.is_none_or(is_query) {
            return Err(Fault::TARGET_OCTET);
        }
        Ok(Target { authority, path, query })
    }
}

/// Only plain HTTP reaches this proxy, so no other scheme can be meant.
fn split_scheme(target: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = target.split_at_checked(b"http://".len())?;
    scheme.eq_ignore_ascii_case(b"http://").then_some(rest)
}

/// Appends the normal form of a path, or says why servers might disagree about it.
pub fn append_path(path: &[u8], to: &mut Vec<u8>) -> Result<(), Fault> {
    if path == b"*" {
        to.push(b'*');
        return Ok(());
    }
    let start = to.len();
    let mut segment = start;
    let mut at = 0;
    let mut foreign = false;
    while let Some(&octet) = path.get(at) {
        match octet {
            b'/' => {
                if at > 0 {
                    check_segment(&to[segment..], false)?;
                }
                to.push(b'/');
                segment = to.len();
                at += 1;
            }
            b'%' => {
                let value = decode(&path[at..])?;
                foreign |= value >= 0x80;
                let digits = [path[at + 1].to_ascii_uppercase(), path[at + 2].to_ascii_uppercase()];
                to.extend_from_slice(&[b'%', digits[0], digits[1]]);
                at += 3;
            }
            _ if is_path(octet) => {
                to.push(octet);
                at += 1;
            }
            _ => return Err(Fault::TARGET_OCTET),
        }
    }
    check_segment(&to[segment..], true)?;
    if foreign {
        check_utf8(&to[start..])?;
    }
    Ok(())
}

/// What an encoding stands for, if it is one that has to be encoded and that no server decodes into structure.
fn decode(encoded: &[u8]) -> Result<u8, Fault> {
    let value = octet_of(encoded).ok_or(Fault::ENCODING)?;
    let structure = matches!(value, b'/' | b'\\' | b';') || value.is_ascii_control();
    // `%252e` is `%2e` for a server that decodes once, and `.` for one that does it twice.
    let twice = value == b'%' && encoded.get(3..5).is_some_and(|next| next.iter().all(u8::is_ascii_hexdigit));
    if is_unreserved(value) || structure || twice { Err(Fault::ENCODING) } else { Ok(value) }
}

fn octet_of(encoded: &[u8]) -> Option<u8> {
    Some(hex(*encoded.get(1)?)? << 4 | hex(*encoded.get(2)?)?)
}

/// `last`: a path may end in `/`.
fn check_segment(segment: &[u8], last: bool) -> Result<(), Fault> {
    if segment.is_empty() {
        return if last { Ok(()) } else { Err(Fault::EMPTY_SEGMENT) };
    }
    // Servers on Windows ignore dots and blanks at a name's end, so `.. ` and `...` are no better than `..`.
    if segment[0] == b'.' {
        let mut rest = segment;
        while let [b'.', more @ ..] | [b'%', b'2', b'0', more @ ..] = rest {
            rest = more;
        }
        if rest.is_empty() {
            return Err(Fault::DOT_SEGMENT);
        }
    }
    Ok(())
}

/// Overlong encodings are an old way to write `/` and `.`.
fn check_utf8(path: &[u8]) -> Result<(), Fault> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(&octet) = path.get(at) {
        let encoded = if octet == b'%' { octet_of(&path[at..]) } else { None };
        decoded.push(encoded.unwrap_or(octet));
        at += if encoded.is_some() { 3 } else { 1 };
    }
    std::str::from_utf8(&decoded).map(|_| ()).map_err(|_| Fault::ENCODING)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> Result<String, Fault> {
        let mut canonical = Vec::new();
        append_path(path.as_bytes(), &mut canonical).map(|()| String::from_utf8(canonical).unwrap())
    }

    #[test]
    fn a_path_in_normal_form_is_kept() {
        for same in ["/", "/a", "/a/", "/a.b/..c/...d", "/a%20b", "/%C3%A9", "/a:b@c,d=e", "/100%25", "*"] {
            assert_eq!(path(same).as_deref(), Ok(same));
        }
        assert_eq!(path("/%c3%a9").as_deref(), Ok("/%C3%A9"));
    }

    /// What a rule may say, `explain` judges and the proxy passes on is one form.
    #[test]
    fn policy_and_proxy_agree_about_which_paths_are_canonical() {
        const PIECES: [&str; 18] = [
            "", "/", "a", ".", "~", "@", ";", "?", "|", "\\", "%20", "%25", "41", "%41", "%3B", "%2F", "%C3",
            "%A9",
        ];
        let mut canonical = 0;
        for number in 0..PIECES.len().pow(4) {
            let piece = |place: u32| PIECES[number / PIECES.len().pow(place) % PIECES.len()];
            let text = ["/", piece(0), piece(1), piece(2), piece(3)].concat();
            let kept = path(&text).is_ok_and(|kept| kept == text);
            assert_eq!(kept, policy_compiler::asks::canonical_path(&text).is_ok(), "{text}");
            canonical += usize::from(kept);
        }
        assert!(canonical > 1000);
    }

    #[test]
    fn dot_segments_are_refused_in_every_disguise() {
        for dots in ["/.", "/..", "/a/../b", "/a/./b", "/a/..", "/...", "/..%20", "/a/.%20./b"] {
            assert_eq!(path(dots), Err(Fault::DOT_SEGMENT), "{dots}");
        }
        for encoded in ["/%2e%2e/a", "/.%2e/a", "/%2E./a"] {
            assert_eq!(path(encoded), Err(Fault::ENCODING), "{encoded}");
        }
        assert_eq!(path("/..;/a"), Err(Fault::TARGET_OCTET));
    }

    #[test]
    fn what_servers_decode_into_structure_is_refused() {
        let encodings =
            ["%2f", "%2F", "%5c", "%00", "%0a", "%7f", "%3b", "%252e", "%61", "%u002e", "%", "%4", "%zz"];
        for encoding in encodings {
            assert_eq!(path(&format!("/a{encoding}")), Err(Fault::ENCODING), "{encoding}");
        }
        for overlong in ["%c0%ae", "%e0%80%af", "%ff"] {
            assert_eq!(path(&format!("/{overlong}")), Err(Fault::ENCODING), "{overlong}");
        }
    }

    #[test]
    fn octets_that_no_path_has_are_refused() {
        for octet in ["\\", "#", ";", "<", ">", "\"", "{", "}", "|", "^", "`", "[", "]", " ", "\u{e9}", "\0"]
        {
            assert_eq!(path(&format!("/a{octet}")), Err(Fault::TARGET_OCTET), "{octet:?}");
        }
        assert_eq!(path("/a//b"), Err(Fault::EMPTY_SEGMENT));
        assert_eq!(path("//"), Err(Fault::EMPTY_SEGMENT));
    }

    #[test]
    fn targets_come_apart_by_form() {
        let parse = |target: &'static str| Target::parse(b"GET", target.as_bytes());
        let origin = Target { authority: None, path: b"/a", query: Some(b"b?c") };
        assert_eq!(parse("/a?b?c"), Ok(origin));
        let absolute = Target { authority: Some(b"h:1"), path: b"/", query: Some(b"x") };
        assert_eq!(parse("HTTP://h:1?x"), Ok(absolute));
        for other in ["*", "h:80", "a", "https://h/", "", "?x"] {
            assert_eq!(parse(other), Err(Fault::TARGET_FORM), "{other}");
        }
        assert_eq!(parse("/?a#b"), Err(Fault::TARGET_OCTET));
        let asterisk = Target { authority: None, path: b"*", query: None };
        assert_eq!(Target::parse(b"OPTIONS", b"*"), Ok(asterisk));
    }
}
