//! What a YAML scalar means: the rules of go-yaml v2, which kubectl and the API server read YAML with.
//!
//! That is YAML 1.1 as far as booleans go (`y`, `no`, `off`), without its base 60, plus Go's integer literals.

use serde_json::Number;

use crate::node::Content;

/// A tag as far as it decides about a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// None: a plain scalar is what it looks like, any other is a string.
    Absent,
    /// `!!str`, and every tag that go-yaml does not know: it then takes the text as it is.
    Text,
    /// `!!bool`
    Bool,
    /// `!!int`
    Int,
    /// `!!float`
    Float,
    /// `!!null`
    Null,
}

impl Tag {
    /// The tag of the YAML core schema with this name.
    pub(crate) fn of_core_schema(name: &str) -> Self {
        match name {
            "bool" => Self::Bool,
            "int" => Self::Int,
            "float" => Self::Float,
            "null" => Self::Null,
            _ => Self::Text,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Absent | Self::Text => "!!str",
            Self::Bool => "!!bool",
            Self::Int => "!!int",
            Self::Float => "!!float",
            Self::Null => "!!null",
        }
    }
}

/// The value of a scalar, or what it should have been.
pub(crate) fn resolve(text: &str, plain: bool, tag: Tag) -> Result<Content, String> {
    match tag {
        Tag::Text => return Ok(Content::String(text.to_owned())),
        Tag::Absent if !plain => return Ok(Content::String(text.to_owned())),
        _ => {}
    }
    let Some(content) = by_looks(text) else {
        return Err("a number that JSON has: neither infinite nor `.nan`".to_owned());
    };
    let fits = match (&content, tag) {
        (_, Tag::Absent)
        | (Content::Bool(..), Tag::Bool)
        | (Content::Null, Tag::Null)
        | (Content::Number(..), Tag::Float) => true,
        (Content::Number(number, written), Tag::Int) => {
            !number.is_f64() && integer(&without_underscores(written)).is_some()
        }
        _ => false,
    };
    if fits { Ok(content) } else { Err(format!("a value that fits its tag {}", tag.name())) }
}

/// What a plain scalar looks like; `None` for the numbers that JSON lacks.
fn by_looks(text: &str) -> Option<Content> {
    let content = match text {
        "" | "~" | "null" | "Null" | "NULL" => Content::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Content::Bool(true, text.into())
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Content::Bool(false, text.into())
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf"
        | "-.Inf" | "-.INF" => {
            return None;
        }
        _ if text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '.')) => {
            number(text).map_or_else(
                || Content::String(text.to_owned()),
                |number| Content::Number(number, text.into()),
            )
        }
        _ => Content::String(text.to_owned()),
    };
    Some(content)
}

fn without_underscores(text: &str) -> String {
    text.chars().filter(|&c| c != '_').collect()
}

fn number(text: &str) -> Option<Number> {
    // go-yaml takes underscores out of everything that starts with a digit or a sign, but not with a point.
    let plain = if text.starts_with('.') { text.to_owned() } else { without_underscores(text) };
    integer(&plain).or_else(|| if is_decimal(&plain) { float(&plain) } else { None })
}

/// Go's `strconv.ParseInt(text, 0, 64)`, then `ParseUint`: the prefix tells the base, and a lone zero is octal's.
fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let prefix = digits.get(..2).map(str::to_ascii_lowercase);
    let (base, digits) = match prefix.as_deref() {
        Some("0x") => (16, digits.get(2..)?),
        Some("0o") => (8, digits.get(2..)?),
        Some("0b") => (2, digits.get(2..)?),
        Some(_) if digits.starts_with('0') => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    // `from_str_radix` would take a second sign.
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, base).ok()?;
    if negative {
        0_i64.checked_sub_unsigned(magnitude).map(Number::from)
    } else {
        Some(Number::from(magnitude))
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_fits = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && exponent_fits
}

/// A float becomes JSON on its way to the API server, and JSON of Go has no point in a whole number: `80.0` is 80.
fn float(text: &str) -> Option<Number> {
    let value: f64 = text.parse().ok()?;
    // Above 2^53 the conversion would have to round.
    if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
        return format!("{value:.0}")
            .parse::<i64>()
            .ok()
            .map(|whole| u64::try_from(whole).map_or_else(|_| Number::from(whole), Number::from));
    }
    Number::from_f64(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        match resolve(text, true, Tag::Absent).unwrap() {
            Content::Null => "null".to_owned(),
            Content::Bool(value, _) => value.to_string(),
            Content::Number(number, _) => number.to_string(),
            Content::String(text) => format!("{text:?}"),
            other => other.to_string(),
        }
    }

    #[test]
    fn plain_scalars_are_what_go_yaml_v2_takes_them_for() {
        for (text, expected) in [
            ("", "null"),
            ("~", "null"),
            ("Null", "null"),
            ("nUll", "\"nUll\""),
            ("y", "true"),
            ("On", "true"),
            ("yEs", "\"yEs\""),
            ("NO", "false"),
            ("off", "false"),
            ("0", "0"),
            ("-0", "0"),
            ("+12", "12"),
            ("80", "80"),
            ("0x1F", "31"),
            ("0o17", "15"),
            ("017", "15"),
            ("-017", "-15"),
            ("0b101", "5"),
            ("-0b101", "-5"),
            ("08", "8"),
            ("1_000", "1000"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("99999999999999999999", "1e+20"),
            ("1.5", "1.5"),
            ("80.0", "80"),
            ("1e3", "1000"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1e", "\"1e\""),
            ("0x", "\"0x\""),
            ("0xg", "\"0xg\""),
            ("+-1", "\"+-1\""),
            ("-", "\"-\""),
            (".", "\".\""),
            ("...", "\"...\""),
            ("10.0.0.0", "\"10.0.0.0\""),
            ("10.0.0.0/8", "\"10.0.0.0/8\""),
            ("12:30", "\"12:30\""),
            ("2020-01-01", "\"2020-01-01\""),
            ("inf", "\"inf\""),
            ("<<", "\"<<\""),
        ] {
            assert_eq!(json(text), expected, "{text}");
        }
    }

    #[test]
    fn quoted_scalars_are_strings_unless_a_tag_says_otherwise() {
        let text = |text: &str| Ok(Content::String(text.to_owned()));
        assert_eq!(resolve("y", false, Tag::Absent), text("y"));
        assert_eq!(resolve("y", true, Tag::Text), text("y"));
        assert_eq!(resolve("5", false, Tag::Int), Ok(Content::Number(5.into(), "5".into())));
        assert_eq!(resolve("5", true, Tag::Float), Ok(Content::Number(5.into(), "5".into())));
        assert_eq!(resolve("5.5", true, Tag::Int), Err("a value that fits its tag !!int".to_owned()));
        assert_eq!(resolve("x", true, Tag::Bool), Err("a value that fits its tag !!bool".to_owned()));
        assert!(resolve(".nan", true, Tag::Absent).is_err());
    }
}
