//! Compilation of a request's query. It is checked completely before anything is streamed;
//! errors give their position in the text as sent, because that is the text its author sees.

use std::{ops::Range, sync::Arc};

use matyan_proto::search::v1::{self as pb};
use matyan_ql::{Endpoint, Query, QueryError, QueryOptions, compile};

use crate::{
    Deps,
    error::{Error, Result},
};

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

/// A compiled query.
pub(crate) struct CompiledQuery {
    pub(crate) query: Arc<Query>,
    pub(crate) warnings: Vec<pb::Warning>,
    pub(crate) report_progress: bool,
}

pub(crate) fn compile_query(
    deps: &Deps,
    query: Option<pb::Query>,
    endpoint: Endpoint,
) -> Result<CompiledQuery> {
    let pb::Query { text, timezone_offset_min, report_progress } = query.unwrap_or_default();
    let now = (deps.clock)() as f64 / 1e6;
    let options = QueryOptions { endpoint, offset_minutes: timezone_offset_min, now };
    let query = compile(&text, options).map_err(|error| invalid_query(&text, error))?;
    let warnings = query.warnings().iter().map(|warning| {
        let TextPosition { line, column, end_column } = TextPosition::locate(&text, &warning.typed);
        pb::Warning { message: warning.message.clone(), line, column, end_column }
    });
    Ok(CompiledQuery { warnings: warnings.collect(), query: Arc::new(query), report_progress })
}

fn invalid_query(text: &str, error: QueryError) -> Error {
    Error::InvalidQuery { position: TextPosition::locate(text, &error.typed), error: Box::new(error) }
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
