//! Parts of encoded maps by their paths, borrowed or copied without decoding. The maps must be in
//! the writer's form. A search reads few params of many thousands of runs, so all other values are
//! skipped by their lengths.

use std::{borrow::Cow, cmp::Ordering};

use super::{
    CborError,
    head::{self, BYTES, LIST, MAP, NEGATIVE, TAG, TEXT, UNSIGNED},
};

/// A scalar in encoded bytes. `T` is the type of its text: `str`, or its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CborLeaf<'b, T: ?Sized = str> {
    /// `null`.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer in the range of `i64`.
    Integer(i64),
    /// A float.
    Float(f64),
    /// Text.
    Text(&'b T),
}

/// Returns the encoded value at a path of keys, without decoding anything else.
///
/// ```
/// # use matyan_value::{cbor, json};
/// let params = cbor::encode(&json::parse(r#"{"model": {"depth": 5}}"#)?);
/// assert_eq!(cbor::find(&params, &["model", "depth"]), Ok(Some(&[5][..])));
/// assert_eq!(cbor::find(&params, &["optimizer"]), Ok(None));
/// # Ok::<(), json::JsonError>(())
/// ```
pub fn find<'b>(mut bytes: &'b [u8], path: &[impl AsRef<str>]) -> Result<Option<&'b [u8]>, CborError> {
    for key in path {
        match find_key(bytes, key.as_ref().as_bytes()).ok_or(MALFORMED)? {
            Some(inner) => bytes = inner,
            None => return Ok(None),
        }
    }
    let end = length(bytes).ok_or(MALFORMED)?;
    Ok(Some(&bytes[..end]))
}

/// The values of [`find_each`].
#[derive(Debug, PartialEq)]
pub struct FoundValues<'b> {
    /// One for each path; `None` if nothing is there.
    pub values: Vec<Option<&'b [u8]>>,
    /// Number of bytes that were passed over.
    pub passed: usize,
}

/// Returns the encoded values at several paths, found in one pass over the bytes. The paths must be
/// sorted, different, and not empty.
pub fn find_each<'b, P: AsRef<[K]>, K: AsRef<str>>(
    bytes: &'b [u8],
    paths: &[P],
) -> Result<FoundValues<'b>, CborError> {
    let mut values = vec![None; paths.len()];
    let passed = find_below(bytes, paths, 0, &mut values).ok_or(MALFORMED)?;
    Ok(FoundValues { values, passed })
}

/// Finds the values at paths that have the first `depth` keys in common. Returns the number of bytes that
/// were passed over.
fn find_below<'b, P: AsRef<[K]>, K: AsRef<str>>(
    bytes: &'b [u8],
    mut paths: &[P],
    depth: usize,
    mut values: &mut [Option<&'b [u8]>],
) -> Option<usize> {
    let mut entries = MapEntries::new(bytes)?;
    let mut passed_below = 0;
    while let Some(entry) = entries.next()? {
        let before = paths.iter().take_while(|path| key_at(*path, depth) < entry.key).count();
        paths = &paths[before..];
        values = &mut values[before..];
        let here = paths.iter().take_while(|path| key_at(*path, depth) == entry.key).count();
        let (found, rest) = values.split_at_mut(here);
        let (here, after) = paths.split_at(here);
        values = rest;
        paths = after;
        match (here.first(), found.first_mut()) {
            (Some(path), Some(value)) if path.as_ref().len() == depth + 1 => {
                entries.skip_value()?;
                let inner = &bytes[entry.value..entries.at];
                *value = Some(inner);
                if here.len() > 1 {
                    passed_below += find_below(inner, &here[1..], depth + 1, &mut found[1..])?;
                }
            }
            (Some(_), _) => {
                passed_below += find_below(bytes.get(entry.value..)?, here, depth + 1, found)?;
                if !paths.is_empty() {
                    entries.skip_value()?;
                }
            }
            (None, _) if paths.is_empty() => break,
            (None, _) => entries.skip_value()?,
        }
        if paths.is_empty() {
            break;
        }
    }
    Some(entries.at + passed_below)
}

fn key_at<'p, K: AsRef<str> + 'p>(path: &'p impl AsRef<[K]>, depth: usize) -> &'p [u8] {
    path.as_ref()[depth].as_ref().as_bytes()
}

/// Returns the number of values in the value at the start of `bytes`: itself, its members and keys, and
/// theirs.
pub fn count_values(bytes: &[u8]) -> Result<u64, CborError> {
    Ok(measure(bytes).ok_or(MALFORMED)?.values)
}

const MALFORMED: CborError =
    CborError::Syntax { at: 0, reason: "it is cut off, or not in the form that is stored" };

/// Decodes a scalar. Returns `None` for any other value: `decode` reads these.
pub fn leaf(bytes: &[u8]) -> Result<Option<CborLeaf<'_>>, CborError> {
    Ok(match stored_leaf(bytes) {
        Some((CborLeaf::Null, _)) => Some(CborLeaf::Null),
        Some((CborLeaf::Bool(bool), _)) => Some(CborLeaf::Bool(bool)),
        Some((CborLeaf::Integer(integer), _)) => Some(CborLeaf::Integer(integer)),
        Some((CborLeaf::Float(float), _)) => Some(CborLeaf::Float(float)),
        Some((CborLeaf::Text(text), _)) => {
            Some(CborLeaf::Text(std::str::from_utf8(text).map_err(|_| MALFORMED)?))
        }
        None => None,
    })
}

/// Reads a scalar in the most common forms, and its length. Text is not checked to be UTF-8.
#[inline]
pub(super) fn stored_leaf(bytes: &[u8]) -> Option<(CborLeaf<'_, [u8]>, usize)> {
    Some(match *bytes {
        [byte @ ..=0x17, ..] => (CborLeaf::Integer(byte.into()), 1),
        [0x18, byte, ..] => (CborLeaf::Integer(byte.into()), 2),
        [byte @ 0x20..=0x37, ..] => (CborLeaf::Integer(0x1f - i64::from(byte)), 1),
        [byte @ 0x60..=0x77, ref rest @ ..] => {
            let length = usize::from(byte - 0x60);
            (CborLeaf::Text(rest.get(..length)?), 1 + length)
        }
        [byte @ 0xf4..=0xf5, ..] => (CborLeaf::Bool(byte == 0xf5), 1),
        [0xf6, ..] => (CborLeaf::Null, 1),
        [0xfb, a, b, c, d, e, f, g, h, ..] => {
            (CborLeaf::Float(f64::from_be_bytes([a, b, c, d, e, f, g, h])), 9)
        }
        _ => {
            let (major, argument, size) = head::read(bytes)?;
            match major {
                UNSIGNED => (CborLeaf::Integer(argument.try_into().ok()?), size),
                NEGATIVE => (CborLeaf::Integer(-1 - i64::try_from(argument).ok()?), size),
                TEXT => {
                    let end = size.checked_add(argument.try_into().ok()?)?;
                    (CborLeaf::Text(bytes.get(size..end)?), end)
                }
                _ => return None,
            }
        }
    })
}

/// Returns the bytes from a key's value to the end. An outer `None` means malformed bytes.
fn find_key<'b>(bytes: &'b [u8], wanted: &[u8]) -> Option<Option<&'b [u8]>> {
    let mut entries = MapEntries::new(bytes)?;
    while let Some(entry) = entries.next()? {
        match entry.key.cmp(wanted) {
            Ordering::Less => entries.skip_value()?,
            Ordering::Equal => return Some(bytes.get(entry.value..)),
            // Keys are sorted.
            Ordering::Greater => break,
        }
    }
    Some(None)
}

/// Length of a value in bytes, by its first byte. 0 if more of it has to be read; nearly all values
/// are numbers and short texts, for which the first byte is enough.
const SCALAR_BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut first = 0;
    while first < bytes.len() {
        bytes[first] = match (first as u8 >> 5, first as u8 & 0x1f) {
            (BYTES | TEXT, size @ 0..24) => 1 + size,
            (BYTES..=TAG, _) => 0,
            (_, 0..24) => 1,
            (_, 24) => 2,
            (_, 25) => 3,
            (_, 26) => 5,
            (_, 27) => 9,
            _ => 0,
        };
        first += 1;
    }
    bytes
};

/// Length in bytes of the value at the start of `bytes`.
fn length(bytes: &[u8]) -> Option<usize> {
    Some(measure(bytes)?.length)
}

/// The size of an encoded value.
struct ValueSize {
    length: usize,
    /// Number of values in it, with itself.
    values: u64,
}

/// Measures the value at the start of `bytes`.
#[inline]
fn measure(bytes: &[u8]) -> Option<ValueSize> {
    let mut at = 0_usize;
    let mut values = 1_u64;
    let mut measured = 0_u64;
    while values > 0 {
        let first = *bytes.get(at)?;
        values -= 1;
        measured += 1;
        let scalar = SCALAR_BYTES[usize::from(first)];
        if scalar > 0 {
            at += usize::from(scalar);
            continue;
        }
        let (major, argument, size) = head::read(&bytes[at..])?;
        at += size;
        match major {
            BYTES | TEXT => at = at.checked_add(usize::try_from(argument).ok()?)?,
            LIST => values = values.checked_add(argument)?,
            MAP => values = values.checked_add(argument.checked_mul(2)?)?,
            TAG => values += 1,
            _ => {}
        }
    }
    (at <= bytes.len()).then_some(ValueSize { length: at, values: measured })
}

/// Returns the map without the entry of a key.
pub fn without<'b>(bytes: &'b [u8], key: &str) -> Result<Cow<'b, [u8]>, CborError> {
    without_key(bytes, key.as_bytes()).ok_or(MALFORMED)
}

fn without_key<'b>(bytes: &'b [u8], key: &[u8]) -> Option<Cow<'b, [u8]>> {
    let mut entries = MapEntries::new(bytes)?;
    let count = entries.left;
    let first = entries.at;
    while let Some(entry) = entries.next()? {
        entries.skip_value()?;
        match entry.key.cmp(key) {
            Ordering::Less => {}
            Ordering::Equal => {
                let mut out = Vec::with_capacity(bytes.len());
                head::write(&mut out, MAP, count - 1);
                out.extend_from_slice(&bytes[first..entry.at]);
                out.extend_from_slice(&bytes[entries.at..]);
                return Some(out.into());
            }
            Ordering::Greater => break,
        }
    }
    Some(bytes.into())
}

/// Returns a map of only the values at the given paths. Paths without a value are left out. The
/// paths must be sorted, and not empty.
pub fn pick(bytes: &[u8], paths: &[&[String]]) -> Result<Vec<u8>, CborError> {
    let mut out = Vec::new();
    pick_into(bytes, paths, 0, &mut out).ok_or(MALFORMED)?;
    Ok(out)
}

/// Writes the entries at paths that have the first `depth` keys in common. Returns the number of
/// entries written.
fn pick_into(bytes: &[u8], mut paths: &[&[String]], depth: usize, out: &mut Vec<u8>) -> Option<u64> {
    let mut entries = MapEntries::new(bytes)?;
    let start = out.len();
    let mut count = 0;
    while let Some(entry) = entries.next()? {
        let before = paths.iter().take_while(|path| path[depth].as_bytes() < entry.key).count();
        paths = &paths[before..];
        let here = paths.iter().take_while(|path| path[depth].as_bytes() == entry.key).count();
        let (here, after) = paths.split_at(here);
        paths = after;
        match here.first() {
            None if paths.is_empty() => break,
            None => entries.skip_value()?,
            Some(path) if path.len() == depth + 1 => {
                entries.skip_value()?;
                out.extend_from_slice(&bytes[entry.at..entries.at]);
                count += 1;
            }
            Some(_) => {
                let before = out.len();
                out.extend_from_slice(&bytes[entry.at..entry.value]);
                match pick_into(&bytes[entry.value..], here, depth + 1, out)? {
                    0 => out.truncate(before),
                    _ => count += 1,
                }
                if paths.is_empty() {
                    break;
                }
                entries.skip_value()?;
            }
        }
    }
    let mut head = Vec::with_capacity(9);
    head::write(&mut head, MAP, count);
    out.splice(start..start, head);
    Some(count)
}

/// Iterator over the entries of an encoded map; empty for any other value. A value is skipped only
/// when the next key is read.
struct MapEntries<'b> {
    bytes: &'b [u8],
    left: u64,
    at: usize,
}

/// An entry's key, and its positions in the bytes.
struct MapEntry<'b> {
    key: &'b [u8],
    at: usize,
    value: usize,
}

impl<'b> MapEntries<'b> {
    /// Returns `None` for malformed bytes.
    fn new(bytes: &'b [u8]) -> Option<Self> {
        let (major, entries, at) = head::read(bytes)?;
        Some(Self { bytes, left: if major == MAP { entries } else { 0 }, at })
    }

    fn next(&mut self) -> Option<Option<MapEntry<'b>>> {
        if self.left == 0 {
            return Some(None);
        }
        let at = self.at;
        let (major, size, header) = head::read(self.bytes.get(at..)?)?;
        let value = (at + header).checked_add(usize::try_from(size).ok()?)?;
        let key = self.bytes.get(at + header..value).filter(|_| major == TEXT)?;
        self.at = value;
        self.left -= 1;
        Some(Some(MapEntry { key, at, value }))
    }

    fn skip_value(&mut self) -> Option<()> {
        self.at += length(self.bytes.get(self.at..)?)?;
        Some(())
    }
}
