//! The binary streaming codec: the body format of every `application/octet-stream` response.
//! Entries are written one by one from a path that the caller walks: no tree is ever built, so
//! a row costs no allocation.
//!
//! An entry is a path and a value, each preceded by its length (unsigned 32-bit,
//! little-endian). The path contains the keys from the root, each followed by `fe`; an integer key
//! is `fe`, eight bytes (big-endian), `fe`. The value is a tag byte and a payload (little-endian).
//! A map has no entry for itself unless it is empty; a list always has one. Text needs no
//! escaping, because `fe` never occurs in UTF-8. An empty key cannot be encoded, so such members
//! are omitted.

mod decode;
mod encode;

#[cfg(test)]
mod tests;

pub use decode::{DecodeError, Entry, Key, Value, decode};
pub use encode::Encoder;

/// Ends every key of a path.
const KEY_END: u8 = 0xfe;

const NULL: u8 = 0;
const BOOL: u8 = 1;
const INT: u8 = 2;
const FLOAT: u8 = 3;
const TEXT: u8 = 4;
const BYTES: u8 = 5;
const ARRAY: u8 = 6;
const OBJECT: u8 = 7;
