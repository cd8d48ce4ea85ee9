//! Values as CBOR (RFC 8949), on the wire and in the store. The writer produces a single form:
//! definite lengths, keys in byte order, integers as short as possible, floats always with 64 bits.
//! The reader accepts any CBOR that a `Value` can represent.
//!
//! `CborReader` pulls one item at a time and borrows from the bytes; everything that needs no tree
//! is built on it. `find`, `find_each`, `pick`, and `without` extract parts of maps in the writer's form, and
//! cost a scan of the bytes.

mod head;
mod path;
mod read;
mod write;

use matyan_proto::limits::INTEGER_BYTES;

use crate::MAX_DEPTH;
pub use head::StringHead;
pub(crate) use head::{LIST, MAP, write as write_head};
pub use path::{CborLeaf, FoundValues, count_values, find, find_each, leaf, pick, without};
pub use read::{
    CborItem, CborMembers, CborReader, check, decode, decode_map, is_list, is_list_of_maps, is_map, map_text,
    map_texts, tree_weight,
};
pub use write::{encode, encode_map};
pub(crate) use write::{write_big, write_bool, write_float, write_integer, write_null, write_text};

/// Reason why bytes are not a valid value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// Not CBOR, or CBOR that `Value` cannot represent.
    #[error("not valid CBOR at byte {at}: {reason}")]
    Syntax {
        /// Position in the bytes.
        at: usize,
        /// The violated rule.
        reason: &'static str,
    },
    /// Maps and lists are nested too deep.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A map key is not text.
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
    /// The value is not a map, and a map is required.
    #[error("a map was expected")]
    NotAMap,
    /// An integer exceeds the limit; reported only by `check`.
    #[error("an integer has more than {INTEGER_BYTES} bytes")]
    LongInteger,
}

#[cfg(test)]
mod tests;
