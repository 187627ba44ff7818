//! JSON values as YAML: the same, easier to read.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

use crate::clean::clean_json;

/// A value as a YAML document.
pub(crate) fn document(value: &impl Serialize) -> anyhow::Result<String> {
    let mut out = String::new();
    block(&mut out, 0, &serde_json::to_value(value)?);
    Ok(clean_json(&out).into_owned())
}

/// What takes lines of its own. Values come from our own types, so they are as deep as these.
fn block(out: &mut String, indent: usize, value: &Value) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (index, (name, value)) in fields.iter().enumerate() {
                pad(out, if index == 0 { 0 } else { indent });
                out.push_str(&word(name));
                out.push(':');
                inside(out, indent + 2, value);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                pad(out, if index == 0 { 0 } else { indent });
                out.push_str("- ");
                block(out, indent + 2, item);
            }
        }
        Value::String(text) => line(out, &word(text)),
        other => line(out, &other.to_string()),
    }
}

/// Behind a name: a short value on its line, a long one below.
fn inside(out: &mut String, indent: usize, value: &Value) {
    let is_long = match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if is_long {
        out.push('\n');
        pad(out, indent);
    } else {
        out.push(' ');
    }
    block(out, indent, value);
}

fn pad(out: &mut String, indent: usize) {
    // Writing into a string cannot fail.
    let _ = write!(out, "{:indent$}", "");
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// Bare if no reader of YAML takes it for anything but this text, else as JSON, which YAML reads alike.
fn word(text: &str) -> String {
    let bare = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&&*text.to_ascii_lowercase());
    if bare { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_yaml_that_means_the_same() {
        let value = serde_json::json!({
            "pod": "shop/a", "no": "yes", "none": null, "address": "fd00::1", "empty": [], "object": {},
            "list": [{"a": 1, "b": ["x", -2.5]}, "c\nd\u{1b}\u{9b}", [true, [false]]],
            "nested": {"deep": {"er": 1}},
        });
        let text = document(&value).unwrap();
        let expected = r#"pod: shop/a
"no": "yes"
none: null
address: "fd00::1"
empty: []
object: {}
list:
  - a: 1
    b:
      - x
      - -2.5
  - "c\nd\u001b\u009b"
  - - true
    - - false
nested:
  deep:
    er: 1
"#;
        assert_eq!(text, expected);
    }
}
