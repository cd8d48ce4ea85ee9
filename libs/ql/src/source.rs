//! Conversion of the typed text to the parsed text, and of positions back. The statement is
//! wrapped in parentheses, so it may contain newlines anywhere, and users can write a tuple
//! as a bare `a, b`.

use ruff_text_size::TextSize;

use crate::error::{ErrorKind, Fault, QueryError};
use crate::limits::MAX_QUERY_BYTES;

/// A query text after stripping and without its `SELECT … IF` prefix.
pub(crate) struct Source<'q> {
    typed: &'q str,
    statement: &'q str,
    wrapped: String,
}

impl<'q> Source<'q> {
    pub(crate) fn new(typed: &'q str) -> Result<Self, QueryError> {
        let statement = strip(without_select(strip(typed)));
        // A comment would swallow the closing parenthesis on the same line.
        let close = if statement.contains('#') { "\n)" } else { ")" };
        let source = Self { typed, statement, wrapped: format!("({statement}{close}") };
        if typed.len() > MAX_QUERY_BYTES {
            let message = format!("the query is longer than {MAX_QUERY_BYTES} bytes; shorten it");
            return Err(source.error(Fault::at_start(ErrorKind::Limit, message)));
        }
        Ok(source)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.statement.is_empty()
    }

    pub(crate) fn statement(&self) -> &'q str {
        self.statement
    }

    pub(crate) fn wrapped(&self) -> &str {
        &self.wrapped
    }

    /// Converts a fault in the wrapped text to positions in the statement and in the typed
    /// text.
    pub(crate) fn error(&self, fault: Fault) -> QueryError {
        let start = self.unwrap_offset(fault.range.start());
        let end = self.unwrap_offset(fault.range.end()).max(start);
        let (line, column) = position(self.statement, start);
        let (end_line, end_column) = position(self.statement, end);
        let prefix = self.statement.as_ptr() as usize - self.typed.as_ptr() as usize;
        QueryError {
            kind: fault.kind,
            message: fault.message,
            expected: fault.expected,
            statement: self.statement.to_owned(),
            line,
            column,
            end_line,
            end_column,
            typed: prefix + start..prefix + end,
        }
    }

    fn unwrap_offset(&self, offset: TextSize) -> usize {
        // The opening parenthesis is not part of the statement.
        let offset = offset.to_usize().saturating_sub(1).min(self.statement.len());
        self.statement.floor_char_boundary(offset)
    }
}

/// Returns the 1-based line and column (in characters) of a byte offset.
fn position(text: &str, offset: usize) -> (u32, u32) {
    let mut line = 1;
    let mut column = 1;
    let mut characters = text[..offset].chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            // `\r\n` is a single line break.
            '\r' if characters.peek() == Some(&'\n') => {}
            '\n' | '\r' => (line, column) = (line + 1, 1),
            _ => column += 1,
        }
    }
    (line, column)
}

fn strip(text: &str) -> &str {
    // Like Python, also strips the four information separators.
    text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
}

/// Removes a `SELECT … IF` prefix (whole words, any case). Without an `IF`, nothing remains.
fn without_select(text: &str) -> &str {
    if !word_at(text, 0, "select") {
        return text;
    }
    let condition = text.char_indices().map(|(at, _)| at).find(|&at| word_at(text, at, "if"));
    condition.map_or(&text[text.len()..], |at| &text[at + "if".len()..])
}

fn word_at(text: &str, at: usize, word: &str) -> bool {
    let Some(found) = text.get(at..at + word.len()) else { return false };
    found.eq_ignore_ascii_case(word)
        && !text[..at].chars().next_back().is_some_and(is_word_character)
        && !text[at + word.len()..].chars().next().is_some_and(is_word_character)
}

fn is_word_character(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use ruff_text_size::TextRange;

    use super::*;

    #[test]
    fn the_select_prefix_is_cut_at_whole_words() {
        for (typed, statement) in [
            ("", ""),
            ("  \n\t ", ""),
            ("SELECT runs IF", ""),
            ("select", ""),
            ("  select run if run.active", "run.active"),
            ("SELECT modified IF run.active", "run.active"),
            ("SELECT x IF 1 if y else z", "1 if y else z"),
            ("selected == 1", "selected == 1"),
            ("run.active", "run.active"),
            ("select(x)if(y)", "(y)"),
            ("selectif 1", "selectif 1"),
        ] {
            assert_eq!(Source::new(typed).expect(typed).statement(), statement, "{typed}");
        }
    }

    #[test]
    fn positions_count_characters_lines_and_typed_bytes() {
        let typed = "  SELECT ü IF é\n+ x.y\r\n- z";
        let source = Source::new(typed).expect("within limits");
        for (needle, line, column) in [("é", 1, 1), ("x", 2, 3), ("y", 2, 5), ("z", 3, 3)] {
            let at = u32::try_from(source.wrapped().find(needle).expect(needle)).expect("short");
            let range = TextRange::at(TextSize::new(at), TextSize::of(needle));
            let error = source.error(Fault::syntax(range, "x"));
            assert_eq!((error.line, error.column), (line, column), "{needle}");
            assert_eq!(&typed[error.typed.clone()], needle);
            assert_eq!(error.wrapped_offset(), column + u32::from(line == 1));
        }
    }

    #[test]
    fn a_fault_after_the_end_is_moved_to_the_end() {
        let source = Source::new("run. # nothing").expect("within limits");
        let end = TextSize::of(source.wrapped());
        let error = source.error(Fault::syntax(TextRange::new(end, end), "x"));
        assert_eq!((error.line, error.column, error.typed), (1, 15, 14..14));
    }

    #[test]
    fn a_long_query_is_refused() {
        let error = Source::new(&"1".repeat(MAX_QUERY_BYTES + 1)).err().expect("refused");
        assert_eq!((error.kind, error.line, error.column), (ErrorKind::Limit, 1, 1));
    }
}
