//! JSON values as YAML: the few shapes that snippets have.

use std::fmt::Write;

use serde_json::Value;

/// Block style, two spaces a level, no newline at the end.
pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value, 0);
    out.truncate(out.trim_end().len());
    out
}

/// A value whose first line begins where the cursor is, and the others `indent` spaces in; ends with a newline.
fn write_value(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 {
                    pad(out, indent);
                }
                out.push_str(&scalar(key));
                out.push(':');
                if is_block(value) {
                    out.push('\n');
                    pad(out, indent + 2);
                    write_value(out, value, indent + 2);
                } else {
                    out.push(' ');
                    write_value(out, value, indent);
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    pad(out, indent);
                }
                out.push_str("- ");
                write_value(out, item, indent + 2);
            }
        }
        Value::Object(_) => out.push_str("{}\n"),
        Value::String(text) => {
            out.push_str(&scalar(text));
            out.push('\n');
        }
        other => {
            // Writing into a string cannot fail.
            let _ = writeln!(out, "{other}");
        }
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// Plain if every YAML reader takes it for this very text, else in double quotes, where JSON is YAML.
fn scalar(text: &str) -> String {
    let first = text.chars().next().is_some_and(|first| first.is_ascii_alphabetic());
    let rest = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'));
    // Words that YAML 1.1 takes for a boolean or nothing.
    let word = matches!(
        &*text.to_ascii_lowercase(),
        "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" | "null"
    );
    if first && rest && !word { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_snippet_reads_as_people_write_it() {
        let value = json!([{
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "test", "on": "true", "v": "1.0"}},
            "podSelector": {},
            "ports": [{"port": 80, "protocol": "TCP"}, {"port": 81}],
        }]);
        let expected = "\
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: test
      \"on\": \"true\"
      v: \"1.0\"
  podSelector: {}
  ports:
    - port: 80
      protocol: TCP
    - port: 81";
        assert_eq!(text(&value), expected);
        assert_eq!(text(&json!({"team": "", "cidr": "fd00::1/128"})), "team: \"\"\ncidr: \"fd00::1/128\"");
    }
}
