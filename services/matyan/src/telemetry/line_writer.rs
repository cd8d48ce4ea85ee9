//! Log lines as text, one line per event: a newline in a client's value could otherwise forge a log line.

use std::io::{self, Write};

use crate::plain_text::{Colors, escape};

/// Writes log lines, and escapes the control characters in them. The formatter writes a line at once.
pub(super) struct LineWriter<W> {
    out: W,
    /// Whether the formatter writes colors. If so, values may contain colors too, which do no harm.
    has_colors: bool,
}

impl<W> LineWriter<W> {
    pub(super) fn new(out: W, has_colors: bool) -> Self {
        Self { out, has_colors }
    }
}

impl<W: Write> Write for LineWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let (text, end) = match text.strip_suffix('\n') {
            Some(text) => (text, "\n"),
            None => (&*text, ""),
        };
        let colors = if self.has_colors { Colors::Kept } else { Colors::Escaped };
        // The direction of a text does no harm in a log.
        let mut escaped = escape(text, colors, |character| !character.is_control());
        escaped.push_str(end);
        self.out.write_all(escaped.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::{fmt, prelude::*};

    use super::*;

    #[derive(Clone, Default)]
    struct SharedBytes(Arc<Mutex<Vec<u8>>>);

    impl Write for SharedBytes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn rule_75_a_value_does_not_begin_a_log_line() {
        for has_colors in [false, true] {
            let out = SharedBytes::default();
            let shared = out.clone();
            let writer = move || LineWriter::new(shared.clone(), has_colors);
            let layer = fmt::layer().with_writer(writer).with_ansi(has_colors);
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
                let error = "no\n2026-01-01T00:00:00Z  INFO matyan: all is well\r\u{1b}[2J\u{9b}1A\u{7}";
                tracing::warn!(%error, name = "a\nb", "failed\nto read");
            });
            let written = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
            assert_eq!(written.matches('\n').count(), 1, "{written:?}");
            assert!(written.ends_with('\n') && written.contains("no\\n2026"), "{written:?}");
            let is_control = |it: char| it.is_control() && it != '\n' && it != '\u{1b}';
            assert!(!written.contains(is_control), "{written:?}");
            assert!(!written.contains("\u{1b}[2J"), "{written:?}");
            assert_eq!(written.contains('\u{1b}'), has_colors, "{written:?}");
        }
    }
}
