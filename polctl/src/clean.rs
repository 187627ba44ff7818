//! Text from manifests, made safe for a terminal.

use std::borrow::Cow;

/// The text with everything escaped that moves a cursor, sets a colour or turns the writing around.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if is_unsafe(c) { c.escape_unicode().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

/// Control characters, and the invisible ones that change direction (CVE-2021-42574) or join what looks apart.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// JSON with the C1 control characters escaped too, which some terminals obey. Outside strings JSON has none.
pub(crate) fn clean_json(text: &str) -> Cow<'_, str> {
    let is_c1 = |c: char| c != '\n' && is_unsafe(c);
    if !text.chars().any(is_c1) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if is_c1(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        assert_eq!(clean("a\u{1b}[31mb\u{9b}\n\u{202e}c"), "a\\u{1b}[31mb\\u{9b}\\u{a}\\u{202e}c");
        assert!(matches!(clean("prod/wéb"), Cow::Borrowed(_)));
        let json = serde_json::to_string(&"a\u{9b}\u{202e}\u{1b}").unwrap();
        let safe = clean_json(&json);
        assert_eq!(safe, "\"a\\u009b\\u202e\\u001b\"");
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), "a\u{9b}\u{202e}\u{1b}");
    }
}
