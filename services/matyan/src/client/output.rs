//! Output formats: aligned tables for users, one JSON object per line for programs.

use std::io::{self, Stdout, Write};

use serde_json::Value;
use time::OffsetDateTime;

use super::Error;

/// Standard output, in the requested format.
pub(super) struct Output {
    pub(super) json: bool,
    out: Stdout,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json, out: io::stdout() }
    }

    pub(super) fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.out, "{}", text.as_ref())
    }

    pub(super) fn object(&mut self, value: &Value) -> io::Result<()> {
        writeln!(self.out, "{value}")
    }

    /// Prints rows below their headings. Columns are as wide as their widest cell; the last
    /// one is not padded.
    pub(super) fn table<const N: usize>(
        &mut self,
        headings: [&str; N],
        rows: &[[String; N]],
    ) -> io::Result<()> {
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([headings[column].len()]).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..N).map(width).collect();
        for row in [headings.map(str::to_owned)].iter().chain(rows) {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            self.line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }

    /// Prints the beginning of a question without a newline, and flushes it.
    pub(super) fn prompt(&mut self, text: &str) -> io::Result<()> {
        write!(self.out, "{text}")?;
        self.out.flush()
    }
}

/// Parses JSON text in a response; `what` names it in the error.
pub(super) fn readable(json: Option<String>, what: &str) -> Result<Value, Error> {
    let unreadable =
        || Error::Message(format!("cannot read {what}: the server may be newer than this command"));
    serde_json::from_str(&json.ok_or_else(unreadable)?).map_err(|_| unreadable())
}

/// Escapes control characters, which would move the cursor or break a row.
pub(super) fn cell(text: &str) -> String {
    text.chars()
        .flat_map(|it| if it.is_control() { it.escape_default().collect() } else { vec![it] })
        .collect()
}

/// A time as `2026-01-02 03:04:05`, in UTC.
pub(super) fn moment(time_us: i64) -> String {
    match OffsetDateTime::from_unix_timestamp(time_us.div_euclid(1_000_000)) {
        Ok(time) => format!("{} {:02}:{:02}:{:02}", time.date(), time.hour(), time.minute(), time.second()),
        Err(_) => "?".to_owned(),
    }
}

/// A duration in its two largest units: `2d 3h`, `3h 4m`, `4m 5s`, `5s`; `470ms` below a
/// second.
pub(super) fn duration(us: i64) -> String {
    if us < 1_000_000 {
        return format!("{}ms", us.max(0) / 1_000);
    }
    let seconds = us / 1_000_000;
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let first = units.iter().position(|(size, _)| seconds >= *size).unwrap_or(units.len() - 1);
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, unit) in units.iter().skip(first).take(2) {
        parts.push(format!("{}{unit}", rest / size));
        rest %= size;
    }
    parts.join(" ")
}

/// At most six significant digits, without trailing zeros.
pub(super) fn number(value: f64) -> String {
    let plain = value == 0.0 || (1e-4..1e7).contains(&value.abs());
    if !value.is_finite() {
        return value.to_string();
    }
    if !plain {
        // Very large and very small numbers would need too many digits.
        return format!("{value:.4e}");
    }
    let places = (5 - value.abs().log10().max(0.0).floor() as i32).max(0) as usize;
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        let check = |seconds: i64, expected: &str| assert_eq!(duration(seconds * 1_000_000), expected);
        check(-1, "0ms");
        assert_eq!(duration(470_999), "470ms");
        check(5, "5s");
        check(59, "59s");
        check(61, "1m 1s");
        check(7_260, "2h 1m");
        check(90_000, "1d 1h");
    }

    #[test]
    fn numbers_are_short() {
        let check = |value: f64, expected: &str| assert_eq!(number(value), expected);
        check(0.0, "0");
        check(1.5, "1.5");
        check(-0.006_771_721, "-0.00677");
        check(123_456.789, "123457");
        check(1e-9, "1.0000e-9");
        check(f64::NAN, "NaN");
        check(3.0, "3");
    }

    #[test]
    fn moments_and_cells_fit_a_row() {
        assert_eq!(moment(1_767_323_045_678_999), "2026-01-02 03:04:05");
        assert_eq!(cell("a\tb\u{1b}[2J"), "a\\tb\\u{1b}[2J");
    }
}
