//! Equality, order, identity, membership and hashes with Python's semantics: `1 == 1.0 ==
//! True`, a string never equals a number, and ordering unlike types raises. Numbers compare
//! exactly, even integers beyond 2^53 with floats.

use std::cmp::Ordering;
use std::hash::Hasher;

use super::integer::{Number, compare_big_float, compare_int_float};
use super::{Arena, Exception, Result};
use crate::limits::MAX_VALUE_DEPTH;
use crate::value::table::TableEntry;
use crate::value::{Dict, Set, Value};
use crate::view::RunView;

/// FNV-1a with a final mix. It suits short keys and has no seed, so results do not depend on
/// the process.
#[derive(Clone, Copy)]
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

fn hash_bytes(kind: u8, bytes: &[u8]) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    hasher.write_u8(kind);
    hasher.write(bytes);
    hasher.finish()
}

pub(super) fn hash_text(text: &str) -> u64 {
    hash_bytes(b't', text.as_bytes())
}

/// Hashes a number. Equal numbers of different types have equal hashes.
fn hash_float(value: f64) -> u64 {
    match value as i64 {
        // The cast saturates, so i64::MAX could also represent a larger float.
        int if int as f64 == value && int != i64::MAX => hash_bytes(b'i', &int.to_le_bytes()),
        _ => hash_bytes(b'f', &value.to_bits().to_le_bytes()),
    }
}

#[inline]
pub(super) fn equal<'a>(arena: &Arena<'a>, left: Value<'a>, right: Value<'a>) -> Result<bool> {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => equal_bytes(arena, left.as_bytes(), right.as_bytes()),
        (Value::Int(left), Value::Int(right)) => Ok(left == right),
        (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
        (Value::None, Value::None) => Ok(true),
        _ => equal_within(arena, left, right, 0),
    }
}

fn equal_within<'a>(arena: &Arena<'a>, left: Value<'a>, right: Value<'a>, depth: u32) -> Result<bool> {
    if depth > MAX_VALUE_DEPTH {
        return Err(Exception::RecursionError.into());
    }
    arena.spend(1)?;
    let depth = depth + 1;
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => equal_bytes(arena, left.as_bytes(), right.as_bytes()),
        (Value::Bytes(left), Value::Bytes(right)) => equal_bytes(arena, left, right),
        (Value::List(left), Value::List(right)) | (Value::Tuple(left), Value::Tuple(right)) => {
            equal_items(arena, left, right, depth)
        }
        (Value::Dict(left) | Value::Object(left), Value::Dict(right) | Value::Object(right)) => {
            equal_dicts(arena, left, right, depth)
        }
        (Value::Set(left), Value::Set(right)) => {
            Ok(left.items().len() == right.items().len() && is_subset(arena, left, right)?)
        }
        (Value::Range(left), Value::Range(right)) => Ok(equal_ranges(left, right)),
        (Value::Slice(left), Value::Slice(right)) => equal_items(arena, left, right, depth),
        (Value::Tags(run), Value::List(items) | Value::Tuple(items))
        | (Value::List(items) | Value::Tuple(items), Value::Tags(run)) => equal_tags(arena, run, items),
        (Value::Complex(real, imaginary), other) | (other, Value::Complex(real, imaginary)) => {
            Ok(match other {
                Value::Complex(other_real, other_imaginary) => {
                    real == other_real && imaginary == other_imaginary
                }
                other => imaginary == 0.0 && numeric(other, Value::Float(real)) == Some(Ordering::Equal),
            })
        }
        _ => Ok(numeric(left, right) == Some(Ordering::Equal) || identical(left, right)),
    }
}

/// Compares two byte strings. Costs steps only if their lengths are equal.
fn equal_bytes(arena: &Arena<'_>, left: &[u8], right: &[u8]) -> Result<bool> {
    if left.len() != right.len() {
        return Ok(false);
    }
    arena.spend_bytes(left.len())?;
    Ok(left == right)
}

fn equal_items<'a>(arena: &Arena<'a>, left: &[Value<'a>], right: &[Value<'a>], depth: u32) -> Result<bool> {
    if left.len() != right.len() {
        return Ok(false);
    }
    for (left, right) in left.iter().zip(right) {
        if !equal_within(arena, *left, *right, depth)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn equal_dicts<'a>(arena: &Arena<'a>, left: &'a Dict<'a>, right: &'a Dict<'a>, depth: u32) -> Result<bool> {
    if left.entries().len() != right.entries().len() {
        return Ok(false);
    }
    for entry in left.entries() {
        match find_entry(arena, right, entry.hash, entry.key)? {
            Some(other) if equal_within(arena, entry.value, other.value, depth)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Compares a list with the tags, ignoring the order: they are equal if they hold the
/// same names.
fn equal_tags<'a>(arena: &Arena<'a>, run: &'a dyn RunView, items: &[Value<'a>]) -> Result<bool> {
    let tags = run.tags();
    arena.spend(tags.len() as u64)?;
    arena.spend((tags.len() * items.len()) as u64 / 8)?;
    if tags.len() != items.len() {
        return Ok(false);
    }
    Ok(tags.iter().all(|tag| items.iter().any(|item| item.text() == Some(tag))))
}

pub(super) fn find_entry<'a>(
    arena: &Arena<'a>,
    dict: &'a Dict<'a>,
    hash: u64,
    key: Value<'a>,
) -> Result<Option<&'a TableEntry<'a>>> {
    dict.find(hash, || arena.spend(1), |known| equal(arena, *known, key))
}

pub(super) fn in_set<'a>(arena: &Arena<'a>, set: &'a Set<'a>, item: &TableEntry<'a>) -> Result<bool> {
    arena.spend(1)?;
    Ok(set.find(item.hash, || arena.spend(1), |known| equal(arena, *known, item.key))?.is_some())
}

pub(super) fn is_subset<'a>(arena: &Arena<'a>, left: &'a Set<'a>, right: &'a Set<'a>) -> Result<bool> {
    for item in left.items() {
        if !in_set(arena, right, item)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether two contexts are the same. A bool never equals a number; with `exact`, an
/// int does not equal a float either.
pub(super) fn same_context<'a>(
    arena: &Arena<'a>,
    left: Value<'a>,
    right: Value<'a>,
    exact: bool,
) -> Result<bool> {
    same_part(arena, left, right, exact, 0)
}

fn same_part<'a>(
    arena: &Arena<'a>,
    left: Value<'a>,
    right: Value<'a>,
    exact: bool,
    depth: u32,
) -> Result<bool> {
    if depth > MAX_VALUE_DEPTH {
        return Err(Exception::RecursionError.into());
    }
    match (left, right) {
        (Value::Dict(left) | Value::Object(left), Value::Dict(right) | Value::Object(right)) => {
            for entry in left.entries() {
                match find_entry(arena, right, entry.hash, entry.key)? {
                    Some(other) if same_part(arena, entry.value, other.value, exact, depth + 1)? => {}
                    _ => return Ok(false),
                }
            }
            Ok(left.entries().len() == right.entries().len())
        }
        (Value::List(left) | Value::Tuple(left), Value::List(right) | Value::Tuple(right)) => {
            for (left, right) in left.iter().zip(right) {
                if !same_part(arena, *left, *right, exact, depth + 1)? {
                    return Ok(false);
                }
            }
            Ok(left.len() == right.len())
        }
        (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
        (Value::Bool(_), _) | (_, Value::Bool(_)) => Ok(false),
        (Value::Int(_) | Value::Big(_), Value::Float(_)) if exact => Ok(false),
        (Value::Float(_), Value::Int(_) | Value::Big(_)) if exact => Ok(false),
        _ => equal(arena, left, right),
    }
}

pub(super) fn ordered<'a>(
    arena: &Arena<'a>,
    left: Value<'a>,
    right: Value<'a>,
    holds: fn(Ordering) -> bool,
) -> Result<bool> {
    match (left, right) {
        // Sets are ordered by inclusion, so two sets may be neither less, equal
        // nor greater.
        (Value::Set(left), Value::Set(right)) => {
            Ok(match (is_subset(arena, left, right)?, is_subset(arena, right, left)?) {
                (true, true) => holds(Ordering::Equal),
                (true, false) => holds(Ordering::Less),
                (false, true) => holds(Ordering::Greater),
                (false, false) => false,
            })
        }
        _ => Ok(order(arena, left, right, 0)?.is_some_and(holds)),
    }
}

/// Returns the order of two values; `None` if one is NaN, in which case no comparison
/// holds.
pub(super) fn order<'a>(
    arena: &Arena<'a>,
    left: Value<'a>,
    right: Value<'a>,
    depth: u32,
) -> Result<Option<Ordering>> {
    if depth > MAX_VALUE_DEPTH {
        return Err(Exception::RecursionError.into());
    }
    arena.spend(1)?;
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => {
            arena.spend_bytes(left.len().min(right.len()))?;
            Ok(Some(left.cmp(right)))
        }
        (Value::Bytes(left), Value::Bytes(right)) => {
            arena.spend_bytes(left.len().min(right.len()))?;
            Ok(Some(left.cmp(right)))
        }
        (Value::List(left), Value::List(right)) | (Value::Tuple(left), Value::Tuple(right)) => {
            for (left, right) in left.iter().zip(right) {
                if !equal_within(arena, *left, *right, depth + 1)? {
                    return order(arena, *left, *right, depth + 1);
                }
            }
            Ok(Some(left.len().cmp(&right.len())))
        }
        _ if is_real(left) && is_real(right) => Ok(numeric(left, right)),
        _ => Err(Exception::TypeError.into()),
    }
}

pub(super) fn hash<'a>(arena: &Arena<'a>, value: Value<'a>) -> Result<u64> {
    hash_within(arena, value, 0)
}

fn hash_within<'a>(arena: &Arena<'a>, value: Value<'a>, depth: u32) -> Result<u64> {
    if depth > MAX_VALUE_DEPTH {
        return Err(Exception::RecursionError.into());
    }
    arena.spend(1)?;
    Ok(match value {
        Value::None => hash_bytes(b'n', &[]),
        Value::Bool(_) | Value::Int(_) => {
            hash_bytes(b'i', &value.small_int().unwrap_or_default().to_le_bytes())
        }
        Value::Big(big) => {
            // An equal float must have the same hash.
            let float = Number::Big(big.to_bigint()).to_float().unwrap_or(f64::INFINITY);
            hash_float(float)
        }
        Value::Float(value) | Value::Time(value) | Value::Span(value) => hash_float(value),
        // Without an imaginary part, a complex number equals its real part.
        Value::Complex(real, 0.0) => hash_float(real),
        Value::Complex(real, imaginary) => hash_float(real).rotate_left(1) ^ hash_float(imaginary),
        Value::Text(text) => {
            arena.spend_bytes(text.len())?;
            hash_text(text)
        }
        Value::Bytes(bytes) => {
            arena.spend_bytes(bytes.len())?;
            hash_bytes(b'b', bytes)
        }
        Value::Tuple(items) => {
            let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
            for item in items {
                hash.write_u64(hash_within(arena, *item, depth + 1)?);
            }
            hash.finish()
        }
        // The order of elements must not affect the hash of a set.
        Value::Set(set) if set.frozen => {
            arena.spend(set.items().len() as u64 / 8)?;
            set.items().iter().fold(0, |sum, item| item.hash.wrapping_add(sum))
        }
        Value::Range(range) => hash_bytes(b'r', &range.len().to_le_bytes()),
        Value::List(_) | Value::Dict(_) | Value::Object(_) | Value::Set(_) | Value::Slice(_) => {
            return Err(Exception::TypeError.into());
        }
        _ => hash_bytes(b'o', &[]),
    })
}

/// Returns the exact order of two numbers; `None` if one is NaN or not a number.
pub(super) fn numeric(left: Value<'_>, right: Value<'_>) -> Option<Ordering> {
    match (left, right) {
        (Value::Big(left), Value::Big(right)) => return Some(left.compare(right)),
        (Value::Big(left), right) => {
            return match right.float() {
                Some(float) => compare_big_float(left, float),
                None => right.small_int().map(|_| left.sign()),
            };
        }
        (left, Value::Big(right)) => {
            return match left.float() {
                Some(float) => compare_big_float(right, float).map(Ordering::reverse),
                None => left.small_int().map(|_| right.sign().reverse()),
            };
        }
        _ => {}
    }
    match (left.float(), right.float()) {
        (Some(left), Some(right)) => left.partial_cmp(&right),
        (Some(left), None) => compare_int_float(right.small_int()?, left).map(Ordering::reverse),
        (None, Some(right)) => compare_int_float(left.small_int()?, right),
        (None, None) => Some(left.small_int()?.cmp(&right.small_int()?)),
    }
}

pub(super) fn is_real(value: Value<'_>) -> bool {
    matches!(value, Value::Big(_)) || value.small_int().is_some() || value.float().is_some()
}

fn equal_ranges(left: &crate::value::Range, right: &crate::value::Range) -> bool {
    let length = left.len();
    length == right.len()
        && (length == 0 || left.start == right.start && (length == 1 || left.step == right.step))
}

/// `is`: the same singleton or the same allocation. As in CPython, small integers and short
/// strings are shared.
pub(super) fn identical<'a>(left: Value<'a>, right: Value<'a>) -> bool {
    match (left, right) {
        (Value::None, Value::None)
        | (Value::Run(_), Value::Run(_))
        | (Value::Tags(_), Value::Tags(_))
        | (Value::Metrics(_), Value::Metrics(_))
        | (Value::NoSequence, Value::NoSequence) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::Int(left), Value::Int(right)) => left == right && (-5..=256).contains(&left),
        (Value::Text(left), Value::Text(right)) => {
            std::ptr::eq(left, right) || left.len() <= 1 && left == right
        }
        (Value::Bytes(left), Value::Bytes(right)) => std::ptr::eq(left, right),
        (Value::List(left), Value::List(right)) => std::ptr::eq(left, right) && !left.is_empty(),
        (Value::Tuple(left), Value::Tuple(right)) => {
            std::ptr::eq(left, right) || left.len() + right.len() == 0
        }
        (Value::Dict(left), Value::Dict(right)) => std::ptr::eq(left, right),
        (Value::Object(left), Value::Object(right)) => std::ptr::eq(left, right),
        (Value::Set(left), Value::Set(right)) => std::ptr::eq(left, right),
        (Value::Range(left), Value::Range(right)) => std::ptr::eq(left, right),
        (Value::Slice(left), Value::Slice(right)) => std::ptr::eq(left, right),
        (Value::Sequence(left), Value::Sequence(right)) => std::ptr::addr_eq(left, right),
        (Value::Builtin(left), Value::Builtin(right)) => left == right,
        (Value::BoundMethod(left), Value::BoundMethod(right)) => std::ptr::eq(left, right),
        (Value::Closure(left), Value::Closure(right)) => std::ptr::eq(left, right),
        (Value::Iterator(left), Value::Iterator(right)) => std::ptr::eq(left, right),
        _ => false,
    }
}
