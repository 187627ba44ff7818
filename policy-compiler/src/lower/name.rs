//! The forms of names: which strings Kubernetes and the CRDs take for which kind of name.

/// What [`is_dns_subdomain`] asks for.
pub(super) const DNS_SUBDOMAIN: &str = "a DNS name: at most 253 characters, parts of lower-case letters, digits \
     and '-' joined by '.', each part beginning and ending with a letter or digit";
/// What [`is_dns_label`] asks for.
pub(super) const DNS_LABEL: &str =
    "at most 63 lower-case letters, digits and '-', beginning and ending with a letter or digit";
/// What [`is_qualified_name`] asks for.
pub(super) const QUALIFIED_NAME: &str = "a key: at most 63 letters, digits, '-', '_' and '.', beginning and ending \
     with a letter or digit, and before it, if anything, a DNS name and '/'";
/// What [`is_label_value`] asks for.
pub(super) const LABEL_VALUE: &str = "a label value: empty, or at most 63 letters, digits, '-', '_' and '.', beginning \
     and ending with a letter or digit";
/// What [`is_port_name`] asks for.
pub(super) const PORT_NAME: &str = "a port name: at most 15 lower-case letters, digits and '-', with a letter among \
     them, no '-' at either end, and no two in a row";
/// What [`is_domain`] asks for.
pub(super) const DOMAIN: &str =
    "a name of two parts or more, such as example.com or example.com., or *. and such a name";

/// RFC 1123 subdomain, as `validation.IsDNS1123Subdomain` of apimachinery has it: a part may be longer than 63.
pub(super) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|part| framed(part, is_lower, |b| is_lower(b) || b == b'-', is_lower))
}

/// RFC 1123 label: the name of a namespace.
pub(super) fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && !text.contains('.') && is_dns_subdomain(text)
}

/// The key of a label or an annotation.
pub(super) fn is_qualified_name(text: &str) -> bool {
    let name = match text.split_once('/') {
        Some((prefix, _)) if !is_dns_subdomain(prefix) => return false,
        Some((_, name)) => name,
        None => text,
    };
    !name.is_empty() && is_label_value(name)
}

/// The value of a label.
pub(super) fn is_label_value(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    text.is_empty()
        || text.len() <= 63
            && framed(text, |b| b.is_ascii_alphanumeric(), inner, |b| b.is_ascii_alphanumeric())
}

/// An `IANA_SVC_NAME`: RFC 6335, section 5.1, in lower case.
pub(super) fn is_port_name(text: &str) -> bool {
    text.len() <= 15
        && framed(text, is_lower, |b| is_lower(b) || b == b'-', is_lower)
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && !text.contains("--")
}

/// The pattern of `domainNames` in the CRD of v1alpha2.
pub(super) fn is_domain(text: &str) -> bool {
    is_domain_beginning(text, |b| b.is_ascii_alphanumeric())
}

/// The pattern of `domainNames` in the CRD of v1alpha1, whose `A-z` lets parts begin with `_` and a few signs more.
pub(super) fn is_domain_v1alpha1(text: &str) -> bool {
    is_domain_beginning(text, |b| matches!(b, b'A'..=b'z' | b'0'..=b'9'))
}

fn is_domain_beginning(text: &str, first: fn(u8) -> bool) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let name = name.strip_suffix('.').unwrap_or(name);
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    name.contains('.')
        && name.split('.').all(|part| framed(part, first, inner, |b| b.is_ascii_alphanumeric()))
}

fn is_lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Not empty, and the first, the last and the bytes between are as asked; a single byte is a first one.
fn framed(
    text: &str,
    first: impl Fn(u8) -> bool,
    inner: impl Fn(u8) -> bool,
    last: impl Fn(u8) -> bool,
) -> bool {
    match text.as_bytes() {
        [] => false,
        [only] => first(*only),
        [start, middle @ .., end] => first(*start) && middle.iter().all(|b| inner(*b)) && last(*end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(form: fn(&str) -> bool, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(form(text), "{text:?} must be taken");
        }
        for text in bad {
            assert!(!form(text), "{text:?} must be refused");
        }
    }

    #[test]
    fn dns_names_are_lower_case_parts_of_at_most_253_characters_together() {
        let (longest, too_long) = ("a".repeat(253), "a".repeat(254));
        check(
            is_dns_subdomain,
            &["a", "1", "a-b", "a.b", "0.9", &longest],
            &["", "A", "a_b", "-a", "a-", "a..b", ".a", "a.", "a.-b", "ä", "a b", "a\n", &too_long],
        );
        let (longest, too_long) = ("a".repeat(63), "a".repeat(64));
        check(is_dns_label, &["a", "kube-system", &longest], &["", "a.b", "A", "-a", &too_long]);
    }

    #[test]
    fn label_keys_have_a_name_and_at_most_one_dns_prefix() {
        let (longest, too_long) = ("a".repeat(63), "a".repeat(64));
        check(
            is_qualified_name,
            &["app", "App_1.x-y", "example.com/app", "kubernetes.io/metadata.name", &longest],
            &["", "/", "/app", "a/", "a/b/c", "A.com/app", "-app", "app-", "a b", "a:b", &too_long],
        );
    }

    #[test]
    fn label_values_may_be_empty() {
        let (longest, too_long) = ("a".repeat(63), "a".repeat(64));
        check(is_label_value, &["", "a", "A.b_c-D", &longest], &["-a", "a-", "a/b", "a b", "ü", &too_long]);
    }

    #[test]
    fn port_names_follow_rfc_6335() {
        check(
            is_port_name,
            &["http", "a", "1a", "a1", "http-2", "123456789abcdef"],
            &["", "80", "1-2", "HTTP", "-a", "a-", "a--b", "a_b", "a.b", "123456789abcdefg"],
        );
    }

    #[test]
    fn domain_names_have_two_parts_and_a_wildcard_only_in_front() {
        let good = ["a.b", "a.b.", "*.a.b", "*.a.b.", "A-1_x.example.COM"];
        let bad = [
            "", "a", "a.", "*", "*.", "*.a", "*a.b", "a.*.b", "a..b", ".a.b", "a.b..", "a-.b", "a.b-",
            "a b.c", "a.b\n",
        ];
        check(is_domain, &good, &bad);
        check(is_domain, &[], &["_a.b", "a._b"]);
        check(is_domain_v1alpha1, &good, &bad);
        check(is_domain_v1alpha1, &["_a.b", "a._b"], &["a_.b", "{a.b", "@a.b"]);
    }
}
