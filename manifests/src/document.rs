//! The bytes of a file to its documents.

use std::path::Path;

use crate::node::{Defect, Node};
use crate::{json, yaml};

/// The largest file that is read.
pub const FILE_SIZE: usize = 64 << 20;

/// All documents of a file. An error of the syntax ends it and comes last; what was read before it stays.
pub fn read(file: &str, bytes: &[u8]) -> Vec<Result<Node, Defect>> {
    if bytes.len() > FILE_SIZE {
        return vec![Err(too_large())];
    }
    let text = match decode(bytes) {
        Ok(text) => text,
        Err(defect) => return vec![Err(defect)],
    };
    let named_json =
        Path::new(file).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    if !named_json && !text.trim_ascii_start().starts_with(['{', '[']) {
        return yaml_documents(&text);
    }
    let defect = match json::read(&text) {
        Ok(documents) => return documents.into_iter().map(Ok).collect(),
        Err(defect) => defect,
    };
    let documents = yaml_documents(&text);
    if named_json && documents.iter().any(Result::is_err) { vec![Err(defect)] } else { documents }
}

/// What is wrong with a file above the bound.
pub(crate) fn too_large() -> Defect {
    Defect::new(1, "the file is too large", format!("at most {} MiB", FILE_SIZE >> 20))
}

fn yaml_documents(text: &str) -> Vec<Result<Node, Defect>> {
    // YAML has none of these characters, and the parser takes some of them for the end of the file.
    let control = |byte: u8| (byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r')) || byte == 0x7f;
    match text.bytes().position(control) {
        None => yaml::read(text),
        Some(position) => {
            let message = format!(
                "not YAML: a control character ({:#04x})",
                text.as_bytes().get(position).unwrap_or(&0)
            );
            vec![Err(Defect::new(line_at(text.as_bytes(), position), message, "text"))]
        }
    }
}

/// UTF-8, or what a byte order mark says: redirections of `PowerShell` write UTF-16.
fn decode(bytes: &[u8]) -> Result<std::borrow::Cow<'_, str>, Defect> {
    let little = |unit: [u8; 2]| u16::from_le_bytes(unit);
    let big = |unit: [u8; 2]| u16::from_be_bytes(unit);
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest).map(Into::into),
        [0xff, 0xfe, rest @ ..] => utf16(rest, little).map(Into::into),
        [0xfe, 0xff, rest @ ..] => utf16(rest, big).map(Into::into),
        _ => utf8(bytes).map(Into::into),
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, Defect> {
    std::str::from_utf8(bytes)
        .map_err(|error| Defect::new(line_at(bytes, error.valid_up_to()), "the text is not UTF-8", "UTF-8"))
}

fn utf16(bytes: &[u8], unit: impl Fn([u8; 2]) -> u16) -> Result<String, Defect> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let text: Result<String, _> = char::decode_utf16(pairs.iter().map(|&pair| unit(pair))).collect();
    match text {
        Ok(text) if rest.is_empty() => Ok(text),
        _ => Err(Defect::new(1, "the text is not UTF-16, as its byte order mark says", "UTF-8")),
    }
}

fn line_at(bytes: &[u8], position: usize) -> u32 {
    let breaks = bytes.iter().take(position).filter(|&&byte| byte == b'\n').count();
    u32::try_from(breaks).unwrap_or(u32::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defect(file: &str, bytes: &[u8]) -> Option<Defect> {
        read(file, bytes).into_iter().find_map(Result::err)
    }

    #[test]
    fn all_encodings_with_a_byte_order_mark_read_alike() {
        let text = "a: ü\r\nb: 1\r\n";
        let plain = read("a.yaml", text.as_bytes());
        let mut marked = vec![0xef, 0xbb, 0xbf];
        marked.extend(text.bytes());
        let mut little = vec![0xff, 0xfe];
        little.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
        let mut big = vec![0xfe, 0xff];
        big.extend(text.encode_utf16().flat_map(u16::to_be_bytes));
        assert_eq!(plain.len(), 1);
        assert_eq!(plain[0].as_ref().unwrap().entry("b").unwrap().line, 2);
        for other in [marked, little, big] {
            assert_eq!(read("a.yaml", &other), plain);
        }
    }

    #[test]
    fn what_is_not_text_is_located() {
        assert_eq!(
            defect("a.yaml", b"a: 1\nb: \xff"),
            Some(Defect::new(2, "the text is not UTF-8", "UTF-8"))
        );
        // A NUL ends the input for some parsers: what follows must not go unread in silence.
        let expected = Defect::new(3, "not YAML: a control character (0x00)", "text");
        assert_eq!(defect("a.yaml", b"a: 1\n---\n\0\n---\nkind: NetworkPolicy"), Some(expected));
    }

    #[test]
    fn json_with_tabs_is_read_and_yaml_that_begins_like_json_too() {
        assert_eq!(defect("a.json", b"{\n\t\"a\":\t1\n}"), None);
        assert_eq!(defect("a.yaml", b"{\n\t\"a\":\t1\n}"), None);
        assert_eq!(defect("a.yaml", b"{a: b}\n---\nc: d\n"), None);
        assert_eq!(
            defect("a.json", b"{\n\"a\": 1,,}"),
            Some(Defect::new(2, "not JSON: key must be a string", "valid JSON"))
        );
    }

    #[test]
    fn a_template_is_told_to_be_one() {
        let found = defect("a.yaml", b"a: 1\n{{- if .Values.x }}\nb: 2\n{{- end }}\n").unwrap();
        assert_eq!(found.expected, "plain YAML; this looks like a template, which has to be rendered first");
    }
}
