//! Durations as people write them: `300s`, `5m`, `1h30m`, `500ms`.

use std::time::Duration;

/// Reads a sum of whole numbers, each with one of the units `h`, `m`, `s` and `ms`.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || "not a duration: write it as 300s, 5m or 1h30m".to_owned();
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit());
        let (unit, after) = split(after, |c| c.is_ascii_alphabetic());
        let millis_per_unit: u64 = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        total = number
            .checked_mul(millis_per_unit)
            .and_then(|millis| total.checked_add(Duration::from_millis(millis)))
            .ok_or_else(wrong)?;
        rest = after;
    }
    if text.is_empty() {
        return Err(wrong());
    }
    Ok(total)
}

/// The longest start of `text` whose characters all fit, and what follows it.
fn split(text: &str, fits: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !fits(c)).unwrap_or(text.len()))
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
            "5 m",
            "-5s",
            "1.5h",
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
