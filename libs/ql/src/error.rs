//! What a refused query tells its author: kind, message, what was expected, and where.
//! Positions are kept twice, in the prepared statement and as bytes of the typed text, because user interfaces draw either.

use std::ops::Range;

use ruff_text_size::{TextRange, TextSize};

/// Why a query was refused; every kind is the caller's fault and is answered before anything is streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The text is no Python expression.
    Syntax,
    /// It is one, but uses what a query may not use.
    Forbidden,
    /// It is longer, deeper or dearer than a query may be.
    Limit,
}

/// A query that cannot be run: fix the text at the position and send it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid query syntax: {message} (<query>, line {line})")]
pub struct QueryError {
    pub kind: ErrorKind,
    pub message: String,
    /// What would have been right at this position, when the parser knows.
    pub expected: Option<String>,
    /// The text that was parsed: stripped, without a `SELECT … IF` prefix.
    pub statement: String,
    /// 1-based, in `statement`; columns count characters.
    pub line: u32,
    pub column: u32,
    /// The first position behind the error; never before `line` and `column`.
    pub end_line: u32,
    pub end_column: u32,
    /// Byte range in the text as it was typed.
    pub typed: Range<usize>,
}

impl QueryError {
    /// Column in the statement wrapped in one pair of parentheses, which is what both browser interfaces expect.
    pub fn wrapped_offset(&self) -> u32 {
        self.column + u32::from(self.line == 1)
    }

    /// Column behind the error in the wrapped statement.
    pub fn wrapped_end_offset(&self) -> u32 {
        self.end_column + u32::from(self.end_line == 1)
    }
}

/// An error of one of the passes, placed in the wrapped text; [`crate::source::Source`] translates it.
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
