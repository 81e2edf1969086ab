//! Durations in the form of configuration files, options and reports.

use std::time::Duration;

use thiserror::Error;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpanError {
    #[error("a duration is missing; write seconds or for example 90s, 15m, 1h30m, 2w")]
    Empty,
    #[error("'{0}' is not a duration; write seconds or for example 90s, 15m, 1h30m, 2w")]
    Malformed(String),
    #[error("'{0}' is too long a duration")]
    TooLong(String),
}

/// Parses seconds (`3600`) or a sum of units from large to small (`1h30m`, `2w`).
///
/// # Errors
/// Names the text and the accepted forms. Units may not repeat; fractions are refused.
pub fn parse_span(text: &str) -> Result<Duration, SpanError> {
    let malformed = || SpanError::Malformed(text.to_string());
    if text.is_empty() {
        return Err(SpanError::Empty);
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        let secs = text
            .parse()
            .map_err(|_| SpanError::TooLong(text.to_string()))?;
        return Ok(Duration::from_secs(secs));
    }
    let mut total: u64 = 0;
    let mut last_unit = u64::MAX;
    let mut digits = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return Err(malformed()),
        };
        if digits.is_empty() || unit >= last_unit {
            return Err(malformed());
        }
        last_unit = unit;
        let n: u64 = digits
            .parse()
            .map_err(|_| SpanError::TooLong(text.to_string()))?;
        digits.clear();
        total = n
            .checked_mul(unit)
            .and_then(|v| total.checked_add(v))
            .ok_or_else(|| SpanError::TooLong(text.to_string()))?;
    }
    if !digits.is_empty() {
        return Err(malformed());
    }
    Ok(Duration::from_secs(total))
}

/// The non-zero units of `d h m s` separated by blanks, `0s` when there are none.
pub fn format_span(span: Duration) -> String {
    let secs = span.as_secs();
    let units = [
        (secs / 86_400, 'd'),
        (secs / 3600 % 24, 'h'),
        (secs / 60 % 60, 'm'),
        (secs % 60, 's'),
    ];
    let parts: Vec<String> = units
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, u)| format!("{n}{u}"))
        .collect();
    if parts.is_empty() {
        "0s".to_string()
    } else {
        parts.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepted() {
        for (text, secs) in [
            ("0", 0),
            ("3600", 3600),
            ("90s", 90),
            ("15m", 900),
            ("1h30m", 5400),
            ("2w", 1_209_600),
            ("1w2d3h4m5s", 604_800 + 2 * 86_400 + 3 * 3600 + 245),
        ] {
            assert_eq!(parse_span(text), Ok(Duration::from_secs(secs)), "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "h",
            "1",
            "1h1h",
            "1m1h",
            "1.5h",
            "-1",
            "1 h",
            "1H",
            "1h30",
            "99999999999999999999",
        ] {
            let r = parse_span(text);
            if text == "1" {
                assert!(r.is_ok());
            } else {
                assert!(r.is_err(), "{text} gave {r:?}");
            }
        }
        assert!(matches!(
            parse_span("9999999999999999999w"),
            Err(SpanError::TooLong(_))
        ));
    }

    #[test]
    fn shown() {
        assert_eq!(format_span(Duration::from_secs(4296)), "1h 11m 36s");
        assert_eq!(format_span(Duration::from_millis(900)), "0s");
        assert_eq!(
            format_span(Duration::from_secs(86_400 * 12 + 4 * 3600)),
            "12d 4h"
        );
    }

    proptest! {
        #[test]
        fn shown_then_parsed(secs in 0u64..10_000_000_000) {
            let text = format_span(Duration::from_secs(secs)).replace(' ', "");
            prop_assert_eq!(parse_span(&text), Ok(Duration::from_secs(secs)));
        }
    }
}
