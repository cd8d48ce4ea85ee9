//! Positions in the text of a query, as its author counts them.

use std::ops::Range;

/// A position in a text, counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TextPosition {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) end_column: u32,
}

impl TextPosition {
    pub(crate) fn locate(text: &str, bytes: &Range<usize>) -> Self {
        let (line, column) = position(text, bytes.start);
        let (end_line, end_column) = position(text, bytes.end);
        // Editors underline within a line, so a range over several lines ends with its
        // first line.
        let end_column = if end_line == line { end_column } else { column + rest_of_line(text, bytes.start) };
        Self { line, column, end_column }
    }
}

fn position(text: &str, offset: usize) -> (u32, u32) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (count(line), count(column))
}

fn rest_of_line(text: &str, offset: usize) -> u32 {
    let rest = &text[text.floor_char_boundary(offset)..];
    count(rest.lines().next().unwrap_or_default().chars().count())
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_refer_to_the_text_as_sent() {
        let text = "SELECT x IF\r\n é + run.lr <\nz";
        for (needle, line, column, end_column) in
            [("é", 2, 2, 3), ("run", 2, 6, 9), ("<\nz", 2, 13, 14), ("z", 3, 1, 2)]
        {
            let start = text.find(needle).unwrap();
            assert_eq!(
                TextPosition::locate(text, &(start..start + needle.len())),
                TextPosition { line, column, end_column },
                "{needle}"
            );
        }
        assert_eq!(TextPosition::locate("", &(0..0)), TextPosition { line: 1, column: 1, end_column: 1 });
    }
}
