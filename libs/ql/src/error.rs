//! Errors of refused queries: kind, message, expectation, and the position. The position is kept
//! both in the prepared statement and in bytes of the typed text, because user interfaces use
//! either.

use std::ops::Range;

use ruff_text_size::{TextRange, TextSize};

/// Why a query was refused. Every kind is the caller's fault and is reported before any result
/// is streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The text is not a Python expression.
    Syntax,
    /// The expression uses a feature that queries must not use.
    Forbidden,
    /// The query is longer, deeper or more expensive than allowed.
    Limit,
}

/// A query that cannot be run. The caller should fix the text at the position and retry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid query syntax: {message} (<query>, line {line})")]
pub struct QueryError {
    pub kind: ErrorKind,
    pub message: String,
    /// A description of valid input at this position, if the parser knows.
    pub expected: Option<String>,
    /// The text that was parsed: stripped, without the `SELECT … IF` prefix.
    pub statement: String,
    /// 1-based position in `statement`; columns count characters.
    pub line: u32,
    pub column: u32,
    /// First position after the error; never before `line` and `column`.
    pub end_line: u32,
    pub end_column: u32,
    /// Byte range in the text as it was typed.
    pub typed: Range<usize>,
}

impl QueryError {
    /// Returns the column in the statement wrapped in one pair of parentheses, which both
    /// browser interfaces expect.
    pub fn wrapped_offset(&self) -> u32 {
        // Only the first line is shifted by the opening parenthesis.
        self.column + u32::from(self.line == 1)
    }

    /// Returns the column after the error in the wrapped statement.
    pub fn wrapped_end_offset(&self) -> u32 {
        self.end_column + u32::from(self.end_line == 1)
    }
}

/// An error of a pass, positioned in the wrapped text; [`crate::source::Source`]
/// translates it.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    pub(crate) expected: Option<String>,
    pub(crate) range: TextRange,
}

impl Fault {
    pub(crate) fn new(kind: ErrorKind, range: TextRange, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), expected: None, range }
    }

    pub(crate) fn syntax(range: TextRange, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Syntax, range, message)
    }

    pub(crate) fn at_start(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::new(kind, TextRange::empty(TextSize::new(0)), message)
    }
}
