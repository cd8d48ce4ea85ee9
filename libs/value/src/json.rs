//! JSON in the dialect that Python writes: bare NaN and Infinity, integers of any size, lone
//! surrogates. The last of equal keys wins. No strict parser reads it.
//!
//! Everything is built on one scanner, which borrows from the text and checks the grammar in one
//! pass. Metric frames use only the scanner; other callers build a `Value` or CBOR from it. The
//! writer has a style for each reader.

mod scan;
mod text;

mod read;
mod transcode;
mod write;

use crate::{MAX_DEPTH, MAX_DIGITS};
pub use read::parse;
pub use scan::{JsonKind, JsonScanner, JsonToken};
pub use text::without_lone_surrogates;
pub use transcode::{cbor_text, rewrite, to_cbor, token_to_cbor, write_cbor, write_strict};
pub use write::{JsonStyle, is_lossy, map_text, value_text, write_float, write_text, write_value};

/// The first byte that does not fit the grammar, as the scanner reports it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not valid JSON at byte {at}: expected {expected}")]
pub struct JsonSyntaxError {
    /// Position in bytes.
    pub at: usize,
    /// Tokens that the grammar allows there.
    pub expected: &'static str,
}

/// The reason why a text is not a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It does not fit the grammar.
    #[error(transparent)]
    Syntax(#[from] JsonSyntaxError),
    /// Too many arrays and objects inside each other.
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// An integer that Python itself would not read.
    #[error("an integer of more than {MAX_DIGITS} digits")]
    TooManyDigits,
}

#[cfg(test)]
mod tests;
