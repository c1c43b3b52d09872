//! Durations as people write them: `300s`, `5m`, `1h30m`, `500ms`.

use std::time::Duration;

use jiff::fmt::friendly::SpanParser;

/// Reads a sum of numbers with units up to hours.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    SpanParser::new()
        .parse_unsigned_duration(text)
        .map_err(|_| "not a duration: write it as 300s, 5m or 1h30m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_units_are_read() {
        for (text, millis) in [
            ("300s", 300_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("0s", 0),
            ("1.5h", 5_400_000),
            ("5 m", 300_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn all_else_is_refused_with_an_example() {
        for text in [
            "",
            "300",
            "s",
            "-5s",
            "5M",
            "5d",
            "5m3",
            "٣s",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(
                parse(text).is_err_and(|message| message.contains("300s")),
                "{text}"
            );
        }
    }
}
