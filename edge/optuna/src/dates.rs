//! Times in the form of Python's `%Y-%m-%d %H:%M:%S.%f`, without a zone. Times that this server sets are in UTC; others
//! are kept as their client wrote them.

use time::{
    OffsetDateTime, PrimitiveDateTime, format_description::BorrowedFormatItem, macros::format_description,
};
use tonic::Status;

const FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:6]");

/// The text of a time in microseconds; empty for none.
pub(crate) fn text(us: Option<i64>) -> String {
    let date = us.and_then(|us| OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000).ok());
    // Every time in this range can be formatted.
    date.and_then(|date| date.format(FORMAT).ok()).unwrap_or_default()
}

/// The time of a text in microseconds; `None` if it is empty.
pub(crate) fn parse(field: &str, text: &str) -> Result<Option<i64>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let date = PrimitiveDateTime::parse(text, FORMAT).map_err(|_| {
        Status::invalid_argument(format!("`{field}` must be a time such as 2026-01-31 12:00:00.000000"))
    })?;
    let us = date.assume_utc().unix_timestamp_nanos() / 1_000;
    Ok(i64::try_from(us).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_kept_to_the_microsecond() {
        for (us, expected) in [
            (0, "1970-01-01 00:00:00.000000"),
            (1, "1970-01-01 00:00:00.000001"),
            (-1, "1969-12-31 23:59:59.999999"),
            (1_790_000_000_123_456, "2026-09-21 14:13:20.123456"),
        ] {
            assert_eq!(text(Some(us)), expected);
            assert_eq!(parse("datetime_start", expected).unwrap(), Some(us));
        }
        assert_eq!(text(None), "");
        assert_eq!(parse("datetime_start", "").unwrap(), None);
        for wrong in ["2026", "2026-13-01 00:00:00.000000", "2026-01-01T00:00:00.000000", "now"] {
            let status = parse("datetime_start", wrong).unwrap_err();
            assert!(status.message().contains("datetime_start"), "{status}");
        }
    }
}
