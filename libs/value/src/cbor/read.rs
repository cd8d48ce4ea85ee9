//! The reader of CBOR: a pull reader that borrows from the bytes, and a decoder and a check that
//! are built on it.
//!
//! It accepts well-formed CBOR whose map keys are text, nested at most `MAX_DEPTH` levels deep.
//! Tags are dropped, except the tags of big integers, but count as a level of nesting. Memory is
//! never allocated by an announced length.

use std::borrow::Cow;

use matyan_proto::limits::INTEGER_BYTES;

use super::{
    CborError,
    head::{self, BYTES, LIST, MAP, NEGATIVE, NEGATIVE_BIGNUM, POSITIVE_BIGNUM, TAG, TEXT, UNSIGNED},
    path::{CborLeaf, stored_leaf},
};
use crate::{
    MAX_DEPTH,
    value::{MAP_WEIGHT, Map, Value},
};

/// A scalar, or the start of a list or map, whose members are read next.
#[derive(Debug)]
pub enum CborItem<'b> {
    /// `null` or `undefined`.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer in the range of `i64`.
    Integer(i64),
    /// A tagged integer: `magnitude`, or `-1 - magnitude`. It may be small enough for `Integer`.
    Big {
        /// Whether the number is negative.
        negative: bool,
        /// Big-endian, possibly with leading zeros.
        magnitude: Cow<'b, [u8]>,
    },
    /// A float of any width.
    Float(f64),
    /// Text, of definite or indefinite length.
    Text(Cow<'b, str>),
    /// Bytes, of definite or indefinite length.
    Bytes(Cow<'b, [u8]>),
    /// A list.
    List(CborMembers),
    /// A map, each of whose members is a key and an item.
    Map(CborMembers),
}

/// Progress through the members of a list or map.
#[derive(Debug)]
pub struct CborMembers {
    /// Number of members left; `None` if an end mark follows the last one.
    left: Option<u64>,
    taken: u64,
    /// Nesting level around the container.
    depth: usize,
}

impl CborMembers {
    /// Returns whether no member was read yet: text formats write no separator before the first.
    pub fn is_first(&self) -> bool {
        self.taken == 1
    }
}

/// A pull reader of encoded bytes.
///
/// ```
/// use matyan_value::cbor::{CborError, CborItem, CborReader};
///
/// // {"a": [1, 2]}
/// let mut reader = CborReader::new(&[0xa1, 0x61, b'a', 0x82, 0x01, 0x02]);
/// let CborItem::Map(mut members) = reader.item()? else { panic!() };
/// assert!(reader.more(&mut members)?);
/// assert_eq!(reader.key()?, "a");
/// let CborItem::List(mut list) = reader.item()? else { panic!() };
/// let mut sum = 0;
/// while reader.more(&mut list)? {
///     let CborItem::Integer(integer) = reader.item()? else { panic!() };
///     sum += integer;
/// }
/// assert_eq!(sum, 3);
/// assert!(!reader.more(&mut members)?);
/// # Ok::<(), CborError>(())
/// ```
#[derive(Debug)]
pub struct CborReader<'b> {
    bytes: &'b [u8],
    at: usize,
    depth: usize,
}

const INDEFINITE: u8 = 0x1f;
const BREAK: u8 = 0xff;

impl<'b> CborReader<'b> {
    /// Creates a reader at the first byte.
    pub fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0, depth: 0 }
    }

    /// Returns the position in bytes.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Reads the next item.
    pub fn item(&mut self) -> Result<CborItem<'b>, CborError> {
        let mut depth = self.depth;
        loop {
            let start = self.at;
            let first = *self.bytes.get(start).ok_or(self.fault("it is cut off"))?;
            if first & INDEFINITE == INDEFINITE {
                return self.indefinite(first >> 5, depth);
            }
            let (major, argument, size) = self.head()?;
            return Ok(match major {
                UNSIGNED => i64::try_from(argument).map_or_else(|_| self.big(false, size), CborItem::Integer),
                NEGATIVE => match i64::try_from(argument) {
                    Ok(integer) => CborItem::Integer(-1 - integer),
                    Err(_) => self.big(true, size),
                },
                BYTES => CborItem::Bytes(self.take(argument)?.into()),
                TEXT => CborItem::Text(self.text(argument)?.into()),
                LIST => CborItem::List(self.open(Some(argument), depth)?),
                MAP => CborItem::Map(self.open(Some(argument), depth)?),
                TAG if matches!(argument, POSITIVE_BIGNUM | NEGATIVE_BIGNUM) => {
                    CborItem::Big { negative: argument == NEGATIVE_BIGNUM, magnitude: self.byte_string()? }
                }
                TAG if depth == MAX_DEPTH => return Err(CborError::TooDeep),
                TAG => {
                    depth += 1;
                    continue;
                }
                _ => self.simple(start, argument)?,
            });
        }
    }

    /// A big integer in the head before the position, which has `size` bytes.
    fn big(&self, negative: bool, size: usize) -> CborItem<'b> {
        let start = self.at - size_of::<u64>().min(size);
        CborItem::Big { negative, magnitude: self.bytes[start..self.at].into() }
    }

    /// Reads the next item if it is a scalar in a very common form; several times faster
    /// than `item`. Reads nothing and returns `None` otherwise, also for invalid text: `item` reads
    /// everything, and reports errors.
    #[inline]
    pub fn stored_leaf(&mut self) -> Option<CborLeaf<'b, [u8]>> {
        let (leaf, length) = stored_leaf(self.bytes.get(self.at..)?)?;
        // Nearly all text is ASCII, which is faster to check than UTF-8.
        if let CborLeaf::Text(text) = leaf
            && !text.is_ascii()
            && std::str::from_utf8(text).is_err()
        {
            return None;
        }
        self.at += length;
        Some(leaf)
    }

    /// Advances to the next member of a container. Returns false at its end, to which every
    /// container must be read.
    pub fn more(&mut self, members: &mut CborMembers) -> Result<bool, CborError> {
        let more = match members.left {
            Some(left) => {
                members.left = Some(left.saturating_sub(1));
                left > 0
            }
            None => match self.bytes.get(self.at) {
                Some(&BREAK) => {
                    self.at += 1;
                    false
                }
                _ => true,
            },
        };
        if more {
            members.taken += 1;
        } else {
            self.depth = members.depth;
        }
        Ok(more)
    }

    /// Reads the key of a map's member.
    pub fn key(&mut self) -> Result<Cow<'b, str>, CborError> {
        match self.bytes.get(self.at).map(|first| (first >> 5, first & INDEFINITE)) {
            Some((TEXT, INDEFINITE)) => self.text_pieces(),
            Some((TEXT, _)) => {
                let (_, length, _) = self.head()?;
                Ok(self.text(length)?.into())
            }
            Some(_) => Err(CborError::Key { at: self.at }),
            None => Err(self.fault("it is cut off")),
        }
    }

    /// Skips an item, with all its members.
    pub fn skip(&mut self, item: CborItem<'b>) -> Result<(), CborError> {
        match item {
            CborItem::List(mut members) => {
                while self.more(&mut members)? {
                    self.check()?;
                }
            }
            CborItem::Map(mut members) => {
                while self.more(&mut members)? {
                    self.key()?;
                    self.check()?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), CborError> {
        match self.item()? {
            CborItem::Big { magnitude, .. } if magnitude.len() > INTEGER_BYTES => Err(CborError::LongInteger),
            item => self.skip(item),
        }
    }

    /// Reads the next item, and returns its weight.
    fn weight(&mut self) -> Result<usize, CborError> {
        match self.item()? {
            CborItem::List(mut members) => {
                let mut weight = 1;
                while self.more(&mut members)? {
                    weight += self.weight()?;
                }
                Ok(weight)
            }
            CborItem::Map(mut members) => {
                let mut weight = MAP_WEIGHT;
                while self.more(&mut members)? {
                    self.key()?;
                    weight += self.weight()?;
                }
                Ok(weight)
            }
            _ => Ok(1),
        }
    }

    fn value(&mut self) -> Result<Value, CborError> {
        Ok(match self.item()? {
            CborItem::Null => Value::Null,
            CborItem::Bool(bool) => Value::Bool(bool),
            CborItem::Integer(integer) => Value::Integer(integer),
            CborItem::Big { negative, magnitude } => Value::integer(negative, &magnitude),
            CborItem::Float(float) => Value::Float(float),
            CborItem::Text(text) => Value::Text(text.into_owned()),
            CborItem::Bytes(bytes) => Value::Bytes(bytes.into_owned()),
            CborItem::List(mut members) => {
                let mut list = Vec::new();
                while self.more(&mut members)? {
                    list.push(self.value()?);
                }
                Value::List(list)
            }
            CborItem::Map(mut members) => {
                let mut map = Map::new();
                while self.more(&mut members)? {
                    let key = self.key()?.into_owned();
                    map.insert(key, self.value()?);
                }
                Value::Map(map)
            }
        })
    }

    fn end(&self) -> Result<(), CborError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(CborError::Trailing { at: self.at }) }
    }

    fn head(&mut self) -> Result<(u8, u64, usize), CborError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let head = head::read(rest).ok_or(self.fault("a head is cut off or has no meaning"))?;
        self.at += head.2;
        Ok(head)
    }

    fn take(&mut self, length: u64) -> Result<&'b [u8], CborError> {
        let rest = &self.bytes[self.at..];
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let taken = taken.ok_or(self.fault("it is cut off"))?;
        self.at += taken.len();
        Ok(taken)
    }

    fn text(&mut self, length: u64) -> Result<&'b str, CborError> {
        let fault = self.fault("text is not UTF-8");
        std::str::from_utf8(self.take(length)?).map_err(|_| fault)
    }

    fn open(&mut self, left: Option<u64>, depth: usize) -> Result<CborMembers, CborError> {
        if depth == MAX_DEPTH {
            return Err(CborError::TooDeep);
        }
        let members = CborMembers { left, taken: 0, depth: self.depth };
        self.depth = depth + 1;
        Ok(members)
    }

    fn simple(&self, start: usize, argument: u64) -> Result<CborItem<'b>, CborError> {
        Ok(match self.bytes[start] & 0x1f {
            20 => CborItem::Bool(false),
            21 => CborItem::Bool(true),
            22 | 23 => CborItem::Null,
            25 => CborItem::Float(half_float(argument as u16)),
            26 => CborItem::Float(f64::from(f32::from_bits(argument as u32))),
            27 => CborItem::Float(f64::from_bits(argument)),
            _ => return Err(CborError::Syntax { at: start, reason: "a simple value has no meaning here" }),
        })
    }

    fn indefinite(&mut self, major: u8, depth: usize) -> Result<CborItem<'b>, CborError> {
        Ok(match major {
            BYTES => CborItem::Bytes(self.byte_string()?),
            TEXT => CborItem::Text(self.text_pieces()?),
            LIST | MAP => {
                let members = self.open(None, depth)?;
                self.at += 1;
                if major == LIST { CborItem::List(members) } else { CborItem::Map(members) }
            }
            _ => return Err(self.fault("it has no meaning here")),
        })
    }

    fn byte_string(&mut self) -> Result<Cow<'b, [u8]>, CborError> {
        match self.bytes.get(self.at).map(|first| (first >> 5, first & INDEFINITE)) {
            Some((BYTES, INDEFINITE)) => {
                self.at += 1;
                let mut bytes = Vec::new();
                while let Some(length) = self.piece(BYTES)? {
                    bytes.extend_from_slice(self.take(length)?);
                }
                Ok(bytes.into())
            }
            Some((BYTES, _)) => {
                let (_, length, _) = self.head()?;
                Ok(self.take(length)?.into())
            }
            _ => Err(self.fault("bytes were expected")),
        }
    }

    /// Reads text of indefinite length, starting with its head.
    fn text_pieces(&mut self) -> Result<Cow<'b, str>, CborError> {
        self.at += 1;
        let mut text = String::new();
        while let Some(length) = self.piece(TEXT)? {
            text.push_str(self.text(length)?);
        }
        Ok(text.into())
    }

    /// Length of the next piece of a string; `None` at the end mark.
    fn piece(&mut self, major: u8) -> Result<Option<u64>, CborError> {
        if self.bytes.get(self.at) == Some(&BREAK) {
            self.at += 1;
            return Ok(None);
        }
        match self.head()? {
            (found, length, _) if found == major => Ok(Some(length)),
            _ => Err(self.fault("a piece of a string has another type")),
        }
    }

    fn fault(&self, reason: &'static str) -> CborError {
        CborError::Syntax { at: self.at, reason }
    }
}

/// Converts a 16-bit float. The exponents 0 and 31 are special, as in wider floats.
fn half_float(bits: u16) -> f64 {
    let sign = bits >> 15;
    let exponent = bits >> 10 & 0x1f;
    let fraction = bits & 0x3ff;
    let size = match exponent {
        0 => f64::from(fraction) * 2_f64.powi(-24),
        31 if fraction == 0 => f64::INFINITY,
        31 => f64::NAN,
        _ => f64::from(0x400 | fraction) * 2_f64.powi(i32::from(exponent) - 25),
    };
    if sign == 1 { -size } else { size }
}

/// Decodes exactly one value.
pub fn decode(bytes: &[u8]) -> Result<Value, CborError> {
    let mut reader = CborReader::new(bytes);
    let value = reader.value()?;
    reader.end()?;
    Ok(value)
}

/// Decodes exactly one map.
pub fn decode_map(bytes: &[u8]) -> Result<Map, CborError> {
    match decode(bytes)? {
        Value::Map(map) => Ok(map),
        _ => Err(CborError::NotAMap),
    }
}

/// Checks that the bytes are exactly one value within all limits, without decoding it.
///
/// ```
/// # use matyan_value::cbor;
/// assert_eq!(cbor::check(&[0x82, 0x01, 0x02]), Ok(()));
/// assert!(cbor::check(&[0x82, 0x01]).is_err());
/// ```
pub fn check(bytes: &[u8]) -> Result<(), CborError> {
    let mut reader = CborReader::new(bytes);
    reader.check()?;
    reader.end()
}

/// Returns the number of values that `decode` would make, where a map counts as ten. Each value takes about a hundred
/// bytes as a part of a tree, in addition to the bytes of its text. Fails if `decode` would fail.
///
/// ```
/// # use matyan_value::cbor::tree_weight;
/// // {"a": [1, {}]}
/// assert_eq!(tree_weight(&[0xa1, 0x61, b'a', 0x82, 0x01, 0xa0]), Ok(22));
/// ```
pub fn tree_weight(bytes: &[u8]) -> Result<usize, CborError> {
    let mut reader = CborReader::new(bytes);
    let weight = reader.weight()?;
    reader.end()?;
    Ok(weight)
}

/// Returns whether the bytes start with the head of a map, without a tag.
pub fn is_map(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| first >> 5 == MAP)
}

/// Returns whether the bytes start with the head of a list, without a tag.
pub fn is_list(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| first >> 5 == LIST)
}

/// Returns whether the bytes, which must be valid, are a list of maps.
pub fn is_list_of_maps(bytes: &[u8]) -> bool {
    let mut reader = CborReader::new(bytes);
    let Ok(CborItem::List(mut members)) = reader.item() else { return false };
    while reader.more(&mut members).unwrap_or(false) {
        let Ok(item @ CborItem::Map(_)) = reader.item() else { return false };
        if reader.skip(item).is_err() {
            return false;
        }
    }
    true
}

/// Returns the text at a key of an encoded map, in any form of CBOR. If the key occurs several
/// times, the last value counts.
pub fn map_text<'b>(bytes: &'b [u8], key: &str) -> Option<Cow<'b, str>> {
    let mut reader = CborReader::new(bytes);
    let CborItem::Map(members) = reader.item().ok()? else { return None };
    text_of_map(&mut reader, members, key).ok()?
}

/// Returns the text at a key of an encoded map, or of each map in an encoded list.
pub fn map_texts<'b>(bytes: &'b [u8], key: &str) -> Vec<Cow<'b, str>> {
    let mut reader = CborReader::new(bytes);
    let mut found = Vec::new();
    let Ok(CborItem::List(mut members)) = reader.item() else {
        found.extend(map_text(bytes, key));
        return found;
    };
    while reader.more(&mut members).unwrap_or(false) {
        let Ok(CborItem::Map(map)) = reader.item() else { break };
        let Ok(text) = text_of_map(&mut reader, map, key) else { break };
        found.extend(text);
    }
    found
}

fn text_of_map<'b>(
    reader: &mut CborReader<'b>,
    mut members: CborMembers,
    key: &str,
) -> Result<Option<Cow<'b, str>>, CborError> {
    let mut found = None;
    while reader.more(&mut members)? {
        let is_wanted = reader.key()? == key;
        match reader.item()? {
            CborItem::Text(text) if is_wanted => found = Some(text),
            item => {
                reader.skip(item)?;
                found = found.filter(|_| !is_wanted);
            }
        }
    }
    Ok(found)
}
