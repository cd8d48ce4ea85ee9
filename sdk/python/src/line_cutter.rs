//! Division of terminal output into numbered lines. Of a line that contains carriage returns, only the
//! part after the last one is kept, so that a progress bar is a single line with its last state.

use std::{mem, time::Duration};

use pyo3::{prelude::*, types::PyString};

/// An unfinished line is usually a progress bar, which is rewritten many times per second.
const PARTIAL_LINE_INTERVAL: Duration = Duration::from_secs(1);

/// A program that never ends its line must not fill the memory.
const MOST_PARTIAL_BYTES: usize = 1 << 20;

/// A line and its number. A line that has grown is repeated with the same number.
pub(crate) type NumberedLine = (String, i64);

/// Cuts the text that is written to streams into numbered lines.
#[pyclass(module = "matyan_client._core")]
#[derive(Debug, Default)]
pub(crate) struct LineCutter {
    /// Number of the next line of any stream.
    next: i64,
    /// Each stream has its own line: two threads may pass on text in another order than it was written.
    unfinished: [UnfinishedLine; STREAMS],
}

/// Number of streams: standard output and standard error.
const STREAMS: usize = 2;

/// The last line of a stream, until it ends.
#[derive(Debug, Default)]
struct UnfinishedLine {
    bytes: Vec<u8>,
    /// Its number, once it was returned.
    number: Option<i64>,
    reported: String,
    /// Time after which it is stored.
    due: Option<Duration>,
}

#[pymethods]
impl LineCutter {
    #[new]
    fn py_new(first_line: i64) -> Self {
        Self { next: first_line, ..Self::default() }
    }

    /// Adds written text, and returns the lines that it finishes. `now` is the time in seconds of a
    /// clock that is never set.
    #[pyo3(name = "write")]
    fn py_write(&mut self, data: &Bound<'_, PyString>, now: f64) -> Vec<NumberedLine> {
        let now = Duration::try_from_secs_f64(now).unwrap_or_default();
        self.write(0, data.to_string_lossy().as_bytes(), now)
    }

    /// Returns the unfinished line if it changed since it was last returned.
    #[pyo3(name = "partial")]
    fn py_partial(&mut self) -> Option<NumberedLine> {
        self.unfinished[0].report(&mut self.next)
    }
}

impl LineCutter {
    /// Adds bytes that were written to a stream, and returns the lines that they finish. `now` is the time
    /// of a clock that is never set.
    pub(crate) fn write(&mut self, stream: usize, data: &[u8], now: Duration) -> Vec<NumberedLine> {
        let mut lines = Vec::new();
        let line = &mut self.unfinished[stream];
        let mut rest = data;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            line.extend(&rest[..end]);
            let finished = mem::take(line);
            lines.push((visible(&finished.bytes), finished.number.unwrap_or_else(|| take(&mut self.next))));
            rest = &rest[end + 1..];
        }
        line.extend(rest);
        if !line.bytes.is_empty() {
            let due = *line.due.get_or_insert(now + PARTIAL_LINE_INTERVAL);
            if now >= due {
                line.due = Some(now + PARTIAL_LINE_INTERVAL);
                lines.extend(line.report(&mut self.next));
            }
        }
        lines
    }

    /// Returns the unfinished lines of all streams that changed since they were last returned.
    pub(crate) fn partial(&mut self) -> Vec<NumberedLine> {
        self.unfinished.iter_mut().filter_map(|line| line.report(&mut self.next)).collect()
    }
}

impl UnfinishedLine {
    /// Returns the line if it changed since it was last returned.
    fn report(&mut self, next: &mut i64) -> Option<NumberedLine> {
        let line = visible(&self.bytes);
        if line.is_empty() || line == self.reported {
            return None;
        }
        self.reported.clone_from(&line);
        Some((line, *self.number.get_or_insert_with(|| take(next))))
    }

    /// Appends to the line. Only the end of it is shown, so only that is kept.
    fn extend(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
        // Two parts are kept, because the last one is empty if a carriage return ends the text.
        let returns = self.bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\r');
        let start = returns.map(|(at, _)| at + 1).nth(1).unwrap_or(0);
        let start = start.max(self.bytes.len().saturating_sub(MOST_PARTIAL_BYTES));
        self.bytes.drain(..start);
    }
}

/// Takes the number of the next line.
fn take(next: &mut i64) -> i64 {
    let number = *next;
    *next += 1;
    number
}

/// Returns the text that a terminal finally shows of a line, without cursor movements.
fn visible(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.strip_suffix('\r').unwrap_or(&text);
    let text = text.rsplit('\r').next().unwrap_or_default();
    // Half of a character, or bytes that are not text, have become longer.
    let start = text.ceil_char_boundary(text.len().saturating_sub(MOST_PARTIAL_BYTES));
    without_movements(&text[start..])
}

/// Removes the sequences that move the cursor: `A` to `D` and `a` to `d`. Colors are kept. The bytes
/// 1 and 2 enclose invisible parts of readline prompts.
fn without_movements(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("\x1b[") {
        let parameters = &rest[start + 2..];
        let end = parameters.find(|char: char| !char.is_ascii_digit() && char != ';');
        let is_movement =
            end.is_some_and(|end| matches!(parameters.as_bytes()[end], b'a'..=b'd' | b'A'..=b'D'));
        let (before, after) = match end {
            Some(end) if is_movement => {
                let before = rest[..start].strip_suffix('\x01').unwrap_or(&rest[..start]);
                let after = &parameters[end + 1..];
                (before, after.strip_prefix('\x02').unwrap_or(after))
            }
            _ => (&rest[..start + 2], parameters),
        };
        kept.push_str(before);
        rest = after;
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_two_streams_are_not_mixed() {
        let mut cutter = LineCutter::default();
        let mut write = |stream, text: &str, seconds| {
            let lines = cutter.write(stream, text.as_bytes(), Duration::from_secs(seconds));
            lines.into_iter().map(|(line, number)| format!("{number} {line}")).collect::<Vec<_>>()
        };
        assert!(write(1, "an error", 0).is_empty());
        assert_eq!(write(0, "a program\n10%", 0), ["0 a program"]);
        assert_eq!(write(0, "\r20%", 2), ["1 20%"]);
        assert_eq!(write(1, "\n", 2), ["2 an error"]);
        assert_eq!(write(0, "\r100%\nend", 2), ["1 100%"]);
        assert_eq!(cutter.partial(), [("end".to_owned(), 3)]);
        assert!(cutter.partial().is_empty());
    }
}
