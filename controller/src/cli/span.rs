//! Spans of time.

use std::time::Duration;

use jiff::SignedDuration;

/// The longest that anybody waits.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A span as `30s`, `5m` or `1h30m`.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let span = text.parse::<SignedDuration>().ok();
    let span = span.and_then(|span| Duration::try_from(span).ok());
    span.filter(|span| *span <= LONGEST)
        .ok_or_else(|| "write a span of at most a day, as 30s, 5m or 1h30m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_as_people_and_go_write_them() {
        for (text, seconds) in [
            ("30s", 30),
            ("5m", 300),
            ("5m0s", 300),
            ("1h30m", 5400),
            ("0s", 0),
        ] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "5", "-5m", "25h", "m", "5 miles", "9999999999999h"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
}
