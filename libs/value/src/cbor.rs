//! Values as CBOR (RFC 8949), on the wire and in the store. Our writer has one form: definite
//! lengths, keys in byte order, shortest integers, floats always as 64 bits. The reader takes any
//! CBOR that a `Value` can hold.
//!
//! `CborReader` pulls item after item and borrows from the bytes; everything that has no need of a
//! tree works on it. `find`, `pick`, and `without` take parts out of maps that our writer made, at
//! the cost of a scan.

mod head;
mod path;
mod read;
mod write;

use matyan_proto::limits::INTEGER_BYTES;

use crate::MAX_DEPTH;
pub(crate) use head::{LIST, MAP, write as write_head};
pub use path::{CborLeaf, find, leaf, pick, without};
pub use read::{CborItem, CborMembers, CborReader, check, decode, decode_map, is_list, is_map, map_text};
pub use write::{encode, encode_map};
pub(crate) use write::{write_big, write_bool, write_float, write_integer, write_null, write_text};

/// The reason why bytes are not a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// Not CBOR, or CBOR that no value holds.
    #[error("not valid CBOR at byte {at}: {reason}")]
    Syntax {
        /// Position in the bytes.
        at: usize,
        /// The fault.
        reason: &'static str,
    },
    /// Too many maps and lists inside each other.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A map key of another type.
    #[error("a map key at byte {at} is not text")]
    Key {
        /// Position in the bytes.
        at: usize,
    },
    /// More than one value.
    #[error("bytes follow the value at byte {at}")]
    Trailing {
        /// Position in the bytes.
        at: usize,
    },
    /// A value of another type, where a map is required.
    #[error("a map was expected")]
    NotAMap,
    /// An integer above the limit; only `check` refuses it.
    #[error("an integer has more than {INTEGER_BYTES} bytes")]
    LongInteger,
}

#[cfg(test)]
mod tests;
