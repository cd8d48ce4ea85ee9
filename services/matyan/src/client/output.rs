//! Output formats: aligned tables for users, one JSON object per line for programs. All text of a
//! command passes through here, because a server may send anything: no control character of it
//! reaches the terminal.

use std::fmt::Write as _;
use std::io::{self, Stdout, Write};

use serde_json::Value;
use time::OffsetDateTime;

use super::Error;
use crate::plain_text::{Colors, escape, plain_text};

/// Standard output, in the requested format.
pub(crate) struct Output {
    pub(crate) json: bool,
    out: Stdout,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, out: io::stdout() }
    }

    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.out, "{}", plain_text(text.as_ref()))
    }

    /// Prints a line as it appeared in a terminal, with its colors.
    pub(super) fn terminal_line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", terminal_text(text))
    }

    pub(crate) fn object(&mut self, value: &Value) -> io::Result<()> {
        writeln!(self.out, "{}", plain_json(value))
    }

    /// Prints the result of a command: the object for programs, the line for users.
    pub(super) fn result(&mut self, object: &Value, line: impl AsRef<str>) -> io::Result<()> {
        if self.json { self.object(object) } else { self.line(line) }
    }

    /// Prints rows below their headings. Columns are as wide as their widest cell; the last
    /// column is not padded.
    pub(super) fn table<const N: usize>(
        &mut self,
        headings: [&str; N],
        rows: &[[String; N]],
    ) -> io::Result<()> {
        self.cells(headings, rows, &[headings.map(str::to_owned)])
    }

    /// Prints more rows of a table. Their columns are as wide as their own widest cell.
    pub(super) fn table_rows<const N: usize>(
        &mut self,
        headings: [&str; N],
        rows: &[[String; N]],
    ) -> io::Result<()> {
        self.cells(headings, rows, &[])
    }

    fn cells<const N: usize>(
        &mut self,
        headings: [&str; N],
        rows: &[[String; N]],
        first: &[[String; N]],
    ) -> io::Result<()> {
        let mut widths = headings.map(|heading| heading.chars().count());
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in first.iter().chain(rows) {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            self.line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }

    /// Prints a question without a newline, and flushes it.
    pub(super) fn prompt(&mut self, text: &str) -> io::Result<()> {
        write!(self.out, "{}", plain_text(text))?;
        self.out.flush()
    }
}

/// Parses JSON text in a response; `what` names it in the error.
pub(super) fn readable(json: Option<String>, what: &str) -> Result<Value, Error> {
    let unreadable =
        || Error::Message(format!("cannot read {what}: the server may be newer than this command"));
    serde_json::from_str(&json.ok_or_else(unreadable)?).map_err(|_| unreadable())
}

/// Prints a message to standard error, where it is not part of the result.
pub(super) fn notice(text: impl AsRef<str>) {
    eprintln!("{}", plain_text(text.as_ref()));
}

/// Escapes control and direction characters: they would move the cursor or break a row.
pub(super) fn cell(text: &str) -> String {
    escape(text, Colors::Escaped, |_| false)
}

/// JSON without the control characters that JSON allows: terminals take some of them for escapes.
fn plain_json(value: &Value) -> String {
    let json = value.to_string();
    if !json.contains(char::is_control) {
        return json;
    }
    let mut plain = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_control() {
            // Strings alone contain them, and none is above U+009F. Writing to a string cannot fail.
            let _ = write!(plain, "\\u{:04x}", u32::from(character));
        } else {
            plain.push(character);
        }
    }
    plain
}

/// A line of a terminal with its colors, but without any other command: other commands could
/// write the clipboard, set titles, or hide text.
fn terminal_text(text: &str) -> String {
    // Progress bars return to the start of their line.
    escape(text, Colors::Kept, |character| matches!(character, '\t' | '\r'))
}

/// The current time in microseconds since the Unix epoch.
pub(super) fn now_us() -> i64 {
    let now = OffsetDateTime::from(std::time::SystemTime::now());
    i64::try_from(now.unix_timestamp_nanos() / 1_000).unwrap_or_default()
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
    fn lines_keep_only_their_colors() {
        let check = |text: &str, expected: &str| assert_eq!(terminal_text(text), expected);
        check(
            "\u{1b}[1;31mred\u{1b}[0m\u{1b}[m \u{1b}[38:5:9mx",
            "\u{1b}[1;31mred\u{1b}[0m\u{1b}[m \u{1b}[38:5:9mx",
        );
        check("10%\r20%\tä", "10%\r20%\tä");
        // Clipboard, title, screen, cursor, and the same by control characters of one byte.
        check("\u{1b}]52;c;eA==\u{7}", "\\u{1b}]52;c;eA==\\u{7}");
        check("\u{1b}]0;title\u{1b}\\", "\\u{1b}]0;title\\u{1b}\\");
        check("\u{1b}[2J\u{1b}[1A\u{9b}2J", "\\u{1b}[2J\\u{1b}[1A\\u{9b}2J");
        check("\u{1b}[1;", "\\u{1b}[1;");
        check("a\u{202e}b", "a\\u{202e}b");
        check("\u{1b}[\u{1b}[1m", "\\u{1b}[\u{1b}[1m");
    }

    #[test]
    fn times_and_cells_fit_a_row() {
        assert_eq!(moment(1_767_323_045_678_999), "2026-01-02 03:04:05");
        assert_eq!(cell("a\tb\u{1b}[2J"), "a\\tb\\u{1b}[2J");
    }

    #[test]
    fn rule_75_text_of_a_server_has_no_control_characters() {
        let text = "no run\r\u{1b}[2J\u{1b}[31m\u{9b}1A\u{202e}x\nSee `--help`";
        let plain = "no run\\r\\u{1b}[2J\\u{1b}[31m\\u{9b}1A\\u{202e}x\nSee `--help`";
        assert_eq!(plain_text(text), plain);
        assert_eq!(plain_text(plain), plain);
        let value = serde_json::json!({"a\u{9b}": "\u{1b}\n\u{7f}\u{85}ä"});
        let json = plain_json(&value);
        assert!(!json.contains(char::is_control), "{json:?}");
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), value);
    }
}
