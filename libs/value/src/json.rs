//! JSON in the dialect of Python: bare NaN and Infinity, integers of any size, and lone surrogates,
//! which strict parsers reject. If a key occurs several times, the last value counts.
//!
//! Everything is built on one scanner, which borrows from the text and checks the grammar in a
//! single pass. Metric frames use only the scanner; other callers build a `Value` or CBOR from its
//! tokens. The writer has a style for each reader.

mod scan;
mod text;

mod read;
mod transcode;
mod weight;
mod write;

use crate::{MAX_DEPTH, MAX_DIGITS};
pub use read::parse;
pub use scan::{JsonKind, JsonScanner, JsonToken};
pub use text::without_lone_surrogates;
pub use transcode::{cbor_text, rewrite, to_cbor, token_to_cbor, write_cbor, write_strict};
pub use weight::tree_weight;
pub use write::{
    JsonStyle, is_lossy, map_text, value_text, write_bytes, write_float, write_text, write_value,
};

/// The first violation of the grammar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not valid JSON at byte {at}: expected {expected}")]
pub struct JsonSyntaxError {
    /// Position in bytes.
    pub at: usize,
    /// Tokens that the grammar allows there.
    pub expected: &'static str,
}

/// Reason why a text is not a valid value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text is not JSON.
    #[error(transparent)]
    Syntax(#[from] JsonSyntaxError),
    /// Arrays and objects are nested too deep.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// An integer has more digits than Python reads.
    #[error("an integer of more than {MAX_DIGITS} digits")]
    TooManyDigits,
}

#[cfg(test)]
mod tests;
