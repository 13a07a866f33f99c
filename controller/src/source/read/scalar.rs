//! The type of a YAML scalar, as go-yaml v2 (and so kubectl and the API server) sees it.
//!
//! It is neither YAML 1.1 nor 1.2: `yes`, `on` and `y` are booleans, `0o17` and `017` are 15, `080` is 80.

use serde_json::Value;

use super::number;
use crate::source::error::Cause;

/// A plain scalar without a tag, or one with the tag `!!NAME`.
pub(super) fn resolve(text: &str, tag: Option<&str>) -> Result<Value, Cause> {
    let mismatch = |tag: &str| Err(Cause::BadTag(text.to_owned(), format!("!!{tag}")));
    match tag {
        Some("str" | "timestamp") => return Ok(text.into()),
        Some("int") => return integer(&text.replace('_', "")).map_or_else(|| mismatch("int"), Ok),
        Some(tag @ ("bool" | "float" | "null")) => {
            let value = plain(text)?;
            return match (tag, &value) {
                ("bool", Value::Bool(_)) | ("null", Value::Null) | ("float", Value::Number(_)) => {
                    Ok(value)
                }
                _ => mismatch(tag),
            };
        }
        // `!!binary` would have to be decoded, and no field that picket reads holds bytes.
        Some(tag) => return mismatch(tag),
        None => {}
    }
    plain(text)
}

fn plain(text: &str) -> Result<Value, Cause> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            true.into()
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            false.into()
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF"
        | "-.inf" | "-.Inf" | "-.INF" => return Err(Cause::NotFinite(text.to_owned())),
        _ => match text.as_bytes()[0] {
            b'.' => float(&text.replace('_', "")),
            b'+' | b'-' | b'0'..=b'9' => {
                let digits = text.replace('_', "");
                integer(&digits).or_else(|| float(&digits))
            }
            _ => None,
        }
        .unwrap_or_else(|| text.into()),
    })
}

/// Go's `strconv.ParseInt` and `ParseUint` with base 0.
fn integer(text: &str) -> Option<Value> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' | b'-' => text.split_at(1),
        _ => ("", text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // Rust would take a second sign here.
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    match sign {
        "-" => 0_i64.checked_sub_unsigned(magnitude).map(Value::from),
        "+" => i64::try_from(magnitude).ok().map(Value::from),
        _ => Some(magnitude.into()),
    }
}

/// A decimal float. Rust also parses `+inf` and `-nan`, and what is beyond the range as infinite; JSON has neither,
/// so that they stay strings, as in Go.
fn float(text: &str) -> Option<Value> {
    text.parse().ok().and_then(number)
}
