//! The syntax of names, labels and ports (apimachinery's util/validation). Each check returns what is wrong.

const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED_NAME: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const DNS_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

fn at_most(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// Starts and ends with an ASCII letter or digit, and has only those and `inner` between.
fn is_word(text: &str, letters: fn(&u8) -> bool, inner: &[u8]) -> bool {
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(first), Some(last)) if letters(first) && letters(last))
        && bytes.iter().all(|b| letters(b) || inner.contains(b))
}

fn is_lower(b: &u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// IsDNS1123Label.
pub(super) fn dns_label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 63 {
        wrong.push(at_most(63));
    }
    if !is_word(text, is_lower, b"-") {
        wrong.push(DNS_LABEL.into());
    }
    wrong
}

/// IsDNS1123Subdomain.
pub(super) fn dns_subdomain(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 253 {
        wrong.push(at_most(253));
    }
    if !text.split('.').all(|part| is_word(part, is_lower, b"-")) {
        wrong.push(DNS_SUBDOMAIN.into());
    }
    wrong
}

/// IsQualifiedName, for label keys.
pub(super) fn qualified_name(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = match text.split('/').collect::<Vec<_>>().as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".into());
            } else {
                wrong.extend(
                    dns_subdomain(prefix)
                        .into_iter()
                        .map(|w| format!("prefix part {w}")),
                );
            }
            *name
        }
        _ => {
            return vec![format!(
                "a qualified name {QUALIFIED_NAME} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".into());
    } else if name.len() > 63 {
        wrong.push(format!("name part {}", at_most(63)));
    }
    if !is_word(name, u8::is_ascii_alphanumeric, b"-_.") {
        wrong.push(format!("name part {QUALIFIED_NAME}"));
    }
    wrong
}

/// IsValidLabelValue.
pub(super) fn label_value(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 63 {
        wrong.push(at_most(63));
    }
    if !text.is_empty() && !is_word(text, u8::is_ascii_alphanumeric, b"-_.") {
        wrong.push(LABEL_VALUE.into());
    }
    wrong
}

/// IsValidPortName (IANA_SVC_NAME).
pub(super) fn port_name(text: &str) -> Vec<&'static str> {
    let mut wrong = Vec::new();
    if text.len() > 15 {
        wrong.push("must be no more than 15 characters");
    }
    if !text.bytes().all(|b| is_lower(&b) || b == b'-') {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)");
    }
    if text.contains("--") {
        wrong.push("must not contain consecutive hyphens");
    }
    if text.starts_with('-') || text.ends_with('-') {
        wrong.push("must not begin or end with a hyphen");
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_have_the_api_servers_syntax() {
        let long = |length: usize| "a".repeat(length);
        type Check = fn(&str) -> Vec<String>;
        let cases: [(Check, &[&str], &[&str]); 4] = [
            (
                dns_label,
                &["a", "0", "a-b"],
                &["", "-a", "a-", "A", "a.b", "a_b", "ä"],
            ),
            (
                dns_subdomain,
                &["a", "a.b", "1.2"],
                &["", ".a", "a.", "a..b", "A", "a/b"],
            ),
            (
                qualified_name,
                &["a", "A.b_c-d", "example.com/A"],
                &["", "/a", "a/", "a/b/c", "-a", "a ", "UP/a", "\"a\""],
            ),
            (
                label_value,
                &["", "a", "A.b_c-d", "1"],
                &["-a", "a-", "a b", "a/b", "a\n"],
            ),
        ];
        for (check, good, bad) in cases {
            for text in good {
                assert!(
                    check(text).is_empty(),
                    "{text:?} should be valid: {:?}",
                    check(text)
                );
            }
            for text in bad {
                assert!(!check(text).is_empty(), "{text:?} should be refused");
            }
        }
        assert!(label_value(&long(63)).is_empty() && !label_value(&long(64)).is_empty());
        assert!(dns_label(&long(63)).is_empty() && !dns_label(&long(64)).is_empty());
        assert!(dns_subdomain(&long(253)).is_empty() && !dns_subdomain(&long(254)).is_empty());
        assert!(qualified_name(&long(63)).is_empty() && !qualified_name(&long(64)).is_empty());
    }

    #[test]
    fn a_port_name_is_an_iana_service_name() {
        for good in ["http", "a", "8a", "a-1", "abcdefghijklmno"] {
            assert!(port_name(good).is_empty(), "{good}");
        }
        for bad in ["", "80", "a--b", "-a", "a-", "A", "a_b", "abcdefghijklmnop"] {
            assert!(!port_name(bad).is_empty(), "{bad}");
        }
    }
}
