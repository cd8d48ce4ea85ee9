//! Times as Matyan 0.3 writes and accepts them, in microseconds since the Unix epoch. A time without a zone is UTC.

use matyan_model::value::Value;
use time::{Date, OffsetDateTime, PrimitiveDateTime, format_description::well_known::Iso8601};

/// Numbers above this are milliseconds.
const MILLISECONDS_FROM: f64 = 2e10;

/// ISO 8601 with or without a zone, a date alone, or Unix seconds as a number or a text of one.
pub(super) fn microseconds(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(seconds) => from_number(*seconds as f64),
        Value::Float(seconds) => from_number(*seconds),
        Value::Text(text) => from_text(text),
        _ => None,
    }
}

fn from_number(number: f64) -> Option<i64> {
    let seconds = if number.abs() > MILLISECONDS_FROM { number / 1e3 } else { number };
    let microseconds = (seconds * 1e6).round();
    (microseconds.abs() < 9e18).then_some(microseconds as i64)
}

fn from_text(text: &str) -> Option<i64> {
    let text = text.trim();
    let iso = text.replacen(' ', "T", 1);
    let time = OffsetDateTime::parse(&iso, &Iso8601::PARSING)
        .or_else(|_| PrimitiveDateTime::parse(&iso, &Iso8601::PARSING).map(PrimitiveDateTime::assume_utc))
        .or_else(|_| Date::parse(&iso, &Iso8601::PARSING).map(|date| date.midnight().assume_utc()));
    match time {
        Ok(time) => i64::try_from(time.unix_timestamp_nanos() / 1_000).ok(),
        Err(_) => from_number(text.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_form_is_read() {
        for (text, expected) in [
            ("2024-01-02T03:04:05+00:00", Some(1_704_164_645_000_000)),
            ("2024-01-02T03:04:05Z", Some(1_704_164_645_000_000)),
            ("2024-01-02T03:04:05.678901Z", Some(1_704_164_645_678_901)),
            ("2024-01-02T05:04:05+02:00", Some(1_704_164_645_000_000)),
            ("2024-01-02T03:04:05", Some(1_704_164_645_000_000)),
            ("2024-01-02 03:04:05", Some(1_704_164_645_000_000)),
            ("2024-01-02", Some(1_704_153_600_000_000)),
            ("1704164645", Some(1_704_164_645_000_000)),
            ("1704164645000", Some(1_704_164_645_000_000)),
            ("yesterday", None),
            ("", None),
            ("NaN", None),
        ] {
            assert_eq!(microseconds(&Value::Text(text.to_owned())), expected, "{text}");
        }
        assert_eq!(microseconds(&Value::Float(1.5)), Some(1_500_000));
        assert_eq!(microseconds(&Value::Float(f64::INFINITY)), None);
        assert_eq!(microseconds(&Value::Null), None);
    }
}
