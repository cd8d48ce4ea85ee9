//! Times in the form of Python's `%Y-%m-%d %H:%M:%S.%f`: local times without a zone. Clients compare them with their
//! own clock, so they are in the time zone of this server. On one machine, client and server have the same zone. On
//! several machines, a server and its clients agree if all run in UTC.

use std::fmt::Display;

use chrono::{DateTime, Local, NaiveDateTime, TimeZone};
use tonic::Status;

/// The text of a time in microseconds; empty if there is no time.
pub(crate) fn text(us: Option<i64>) -> String {
    text_in(&Local, us)
}

/// The time of a text in microseconds; `None` if it is empty.
pub(crate) fn parse(field: &str, text: &str) -> Result<Option<i64>, Status> {
    parse_in(&Local, field, text)
}

fn text_in<Z: TimeZone>(zone: &Z, us: Option<i64>) -> String
where
    Z::Offset: Display,
{
    let date = us.and_then(DateTime::from_timestamp_micros);
    let text = date.map(|date| date.with_timezone(zone).format("%Y-%m-%d %H:%M:%S%.6f").to_string());
    text.unwrap_or_default()
}

fn parse_in<Z: TimeZone>(zone: &Z, field: &str, text: &str) -> Result<Option<i64>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let date = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").map_err(|_| {
        Status::invalid_argument(format!("`{field}` must be a time such as 2026-01-31 12:00:00.000000"))
    })?;
    // A local time that a change of the clock skips comes from a client in another zone, so it is read as UTC.
    let in_zone = zone.from_local_datetime(&date).earliest().map(|date| date.timestamp_micros());
    Ok(Some(in_zone.unwrap_or_else(|| date.and_utc().timestamp_micros())))
}

#[cfg(test)]
mod tests {
    use chrono::{FixedOffset, Utc};

    use super::*;

    #[test]
    fn a_time_is_kept_to_the_microsecond() {
        for (us, expected) in [
            (0, "1970-01-01 00:00:00.000000"),
            (1, "1970-01-01 00:00:00.000001"),
            (-1, "1969-12-31 23:59:59.999999"),
            (1_790_000_000_123_456, "2026-09-21 14:13:20.123456"),
        ] {
            assert_eq!(text_in(&Utc, Some(us)), expected);
            assert_eq!(parse_in(&Utc, "datetime_start", expected).unwrap(), Some(us));
        }
        assert_eq!(text(None), "");
        assert_eq!(parse("datetime_start", "").unwrap(), None);
        for wrong in ["2026", "2026-13-01 00:00:00.000000", "2026-01-01T00:00:00.000000", "now"] {
            let status = parse("datetime_start", wrong).unwrap_err();
            assert!(status.message().contains("datetime_start"), "{status}");
        }
    }

    #[test]
    fn a_time_belongs_to_the_zone() {
        let zone = FixedOffset::east_opt(2 * 3_600).unwrap();
        assert_eq!(text_in(&zone, Some(0)), "1970-01-01 02:00:00.000000");
        assert_eq!(parse_in(&zone, "datetime_start", "1970-01-01 02:00:00.000000").unwrap(), Some(0));
        let now = 1_790_000_000_123_456;
        assert_eq!(parse("datetime_start", &text(Some(now))).unwrap(), Some(now));
    }
}
