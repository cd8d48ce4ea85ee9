//! Decoder of the binary tree streams that searches, logs, and blob batches answer with.
//!
//! A body is a sequence of entries: a path and a value, each with its length as 32 bits before it.
//! A path is the keys from the root, each closed by `fe`; text keys are UTF-8, integer keys are `fe`
//! and eight bytes. The decoder takes pieces of any size, holds at most one incomplete entry, and
//! stops at the first byte that does not fit. Integers and floats of two and four bytes, which older
//! decoders also accept, are read.

use bytes::{Buf, BytesMut};
use matyan_value::MAX_DEPTH;

const KEY_END: u8 = 0xfe;

/// Length of the numbers before paths and values.
const LENGTH_BYTES: usize = 4;

/// Longest path. Keys are names, run ids, and parameters, which are shorter.
const PATH_BYTES: usize = 16 << 20;

/// Most keys of a path. Trees are read and dropped by functions that call themselves, so more of them would need more
/// stack than a thread has. Room for a value at the deepest path of params, and for the keys before it.
const MOST_KEYS: usize = 2 * MAX_DEPTH + 8;

/// Longest value: 128 million doubles. A length above it is rather the sign of a broken stream.
const VALUE_BYTES: usize = 1 << 30;

/// One key of a path. Text `"0"` and index `0` are different keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A member of a map.
    Text(String),
    /// An element of a list, or a step.
    Index(i64),
}

impl Key {
    /// Returns the text, if this is a text key.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Index(_) => None,
        }
    }
}

/// The value of one entry. `ListStart` precedes the elements of a list, and `EmptyMap` is a map
/// without members; other maps have no entry of their own.
#[derive(Clone, Debug, PartialEq)]
pub enum Leaf {
    /// No value.
    Null,
    /// A boolean.
    Bool(bool),
    /// A signed integer.
    Integer(i64),
    /// A float, finite or not.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes, such as a column of doubles or the content of an image.
    Bytes(Vec<u8>),
    /// The node is a list.
    ListStart,
    /// The node is an empty map.
    EmptyMap,
}

/// One entry of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeEntry {
    /// Keys from the root.
    pub path: Vec<Key>,
    /// Value of the node.
    pub leaf: Leaf,
}

/// The reason why a stream cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The body ends before the end of an entry.
    #[error("the stream ends inside an entry")]
    Truncated,
    /// A length is beyond every valid one.
    #[error("an entry of {0} bytes is too long")]
    TooLong(usize),
    /// A path does not fit the format.
    #[error("an entry has a malformed path")]
    Path,
    /// A path has more keys than any valid one.
    #[error("an entry is nested deeper than {MOST_KEYS} levels")]
    TooDeep,
    /// Text is not UTF-8.
    #[error("an entry has text that is not UTF-8")]
    Utf8,
    /// A value does not fit the format.
    #[error("no value has tag {tag} and {length} bytes")]
    Value {
        /// First byte of the value.
        tag: u8,
        /// Number of the bytes after it.
        length: usize,
    },
}

/// An incremental decoder: `push` pieces, take entries with `next_entry`, and call `finish` at the
/// end of the body.
///
/// ```
/// use matyan_sdk::reading::{Key, Leaf, TreeDecoder, TreeEntry};
///
/// let body = b"\x02\0\0\0a\xfe\x09\0\0\0\x02\x01\0\0\0\0\0\0\0";
/// let mut decoder = TreeDecoder::default();
/// decoder.push(&body[..7]);
/// assert_eq!(decoder.next_entry()?, None);
/// decoder.push(&body[7..]);
/// let entry = TreeEntry { path: vec![Key::Text("a".into())], leaf: Leaf::Integer(1) };
/// assert_eq!(decoder.next_entry()?, Some(entry));
/// decoder.finish()?;
/// # Ok::<(), matyan_sdk::reading::TreeError>(())
/// ```
#[derive(Debug, Default)]
pub struct TreeDecoder {
    received: BytesMut,
}

impl TreeDecoder {
    /// Adds a piece of the body.
    pub fn push(&mut self, piece: &[u8]) {
        self.received.extend_from_slice(piece);
    }

    /// Returns the next entry, or `None` if more of the body is needed.
    pub fn next_entry(&mut self) -> Result<Option<TreeEntry>, TreeError> {
        let Some(path) = part(&self.received, 0, PATH_BYTES)? else { return Ok(None) };
        let path_end = LENGTH_BYTES + path.len();
        let Some(value) = part(&self.received, path_end, VALUE_BYTES)? else { return Ok(None) };
        let entry = TreeEntry { path: decode_path(path)?, leaf: decode_value(value)? };
        let end = path_end + LENGTH_BYTES + value.len();
        self.received.advance(end);
        Ok(Some(entry))
    }

    /// Checks that the body did not end inside an entry.
    pub fn finish(&self) -> Result<(), TreeError> {
        if self.received.is_empty() { Ok(()) } else { Err(TreeError::Truncated) }
    }
}

/// The bytes of a path or a value whose length is at `start`; `None` if some are missing.
fn part(received: &[u8], start: usize, longest: usize) -> Result<Option<&[u8]>, TreeError> {
    let Some((length, rest)) =
        received.get(start..).and_then(|rest| rest.split_first_chunk::<LENGTH_BYTES>())
    else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length > longest {
        return Err(TreeError::TooLong(length));
    }
    Ok(rest.get(..length))
}

fn decode_path(mut path: &[u8]) -> Result<Vec<Key>, TreeError> {
    let mut keys = Vec::new();
    while let Some(&first) = path.first() {
        if keys.len() == MOST_KEYS {
            return Err(TreeError::TooDeep);
        }
        // No text key starts with this byte, so it starts an integer key.
        if first == KEY_END {
            let (index, rest) = path[1..].split_first_chunk::<8>().ok_or(TreeError::Path)?;
            path = rest.strip_prefix(&[KEY_END]).ok_or(TreeError::Path)?;
            keys.push(Key::Index(i64::from_be_bytes(*index)));
        } else {
            let end = path.iter().position(|byte| *byte == KEY_END).ok_or(TreeError::Path)?;
            keys.push(Key::Text(text(&path[..end])?));
            path = &path[end + 1..];
        }
    }
    Ok(keys)
}

fn decode_value(value: &[u8]) -> Result<Leaf, TreeError> {
    let (&tag, payload) = value.split_first().ok_or(TreeError::Truncated)?;
    let length = payload.len();
    Ok(match (tag, payload) {
        (0, []) => Leaf::Null,
        (1, [0]) => Leaf::Bool(false),
        (1, [1]) => Leaf::Bool(true),
        (2, _) => Leaf::Integer(integer(payload).ok_or(TreeError::Value { tag, length })?),
        (3, _) => Leaf::Float(float(payload).ok_or(TreeError::Value { tag, length })?),
        (4, _) => Leaf::Text(text(payload)?),
        (5, _) => Leaf::Bytes(payload.to_vec()),
        (6, []) => Leaf::ListStart,
        (7, []) => Leaf::EmptyMap,
        _ => return Err(TreeError::Value { tag, length }),
    })
}

fn integer(payload: &[u8]) -> Option<i64> {
    match payload.len() {
        2 => Some(i16::from_le_bytes(payload.try_into().ok()?).into()),
        4 => Some(i32::from_le_bytes(payload.try_into().ok()?).into()),
        _ => Some(i64::from_le_bytes(payload.try_into().ok()?)),
    }
}

fn float(payload: &[u8]) -> Option<f64> {
    match payload.len() {
        4 => Some(f32::from_le_bytes(payload.try_into().ok()?).into()),
        _ => Some(f64::from_le_bytes(payload.try_into().ok()?)),
    }
}

fn text(bytes: &[u8]) -> Result<String, TreeError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| TreeError::Utf8)
}

#[cfg(test)]
mod tests;
