//! Equality, order, identity, membership and hashes with Python's semantics: `1 == 1.0 ==
//! True`, a string never equals a number, and ordering unlike types raises. Numbers compare
//! exactly, even integers beyond 2^53 with floats.

use std::cmp::Ordering;
use std::hash::Hasher;

use super::integer::{Number, compare_big_float, compare_int_float};
use super::{Exception, Machine, Result};
use crate::limits::MAX_VALUE_DEPTH;
use crate::tree::{Comparison, Display, Node};
use crate::value::table::TableEntry;
use crate::value::{Dict, Set, Value};
use crate::view::KeyPath;

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

impl<'a> Machine<'a> {
    pub(super) fn compare(&self, operator: Comparison, left: Value<'a>, right: Value<'a>) -> Result<bool> {
        match operator {
            Comparison::Eq => self.equal(left, right),
            Comparison::NotEq => self.equal(left, right).map(|equal| !equal),
            Comparison::Less => self.ordered(left, right, Ordering::is_lt),
            Comparison::LessEq => self.ordered(left, right, Ordering::is_le),
            Comparison::Greater => self.ordered(left, right, Ordering::is_gt),
            Comparison::GreaterEq => self.ordered(left, right, Ordering::is_ge),
            Comparison::Is => Ok(identical(left, right)),
            Comparison::IsNot => Ok(!identical(left, right)),
            Comparison::In => self.contains(right, left),
            Comparison::NotIn => self.contains(right, left).map(|found| !found),
        }
    }

    pub(super) fn equal(&self, left: Value<'a>, right: Value<'a>) -> Result<bool> {
        match (left, right) {
            (Value::Text(left), Value::Text(right)) => self.equal_bytes(left.as_bytes(), right.as_bytes()),
            (Value::Int(left), Value::Int(right)) => Ok(left == right),
            (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
            (Value::None, Value::None) => Ok(true),
            _ => self.equal_within(left, right, 0),
        }
    }

    fn equal_within(&self, left: Value<'a>, right: Value<'a>, depth: u32) -> Result<bool> {
        if depth > MAX_VALUE_DEPTH {
            return Err(Exception::RecursionError.into());
        }
        self.spend(1)?;
        let depth = depth + 1;
        match (left, right) {
            (Value::Text(left), Value::Text(right)) => self.equal_bytes(left.as_bytes(), right.as_bytes()),
            (Value::Bytes(left), Value::Bytes(right)) => self.equal_bytes(left, right),
            (Value::List(left), Value::List(right)) | (Value::Tuple(left), Value::Tuple(right)) => {
                self.equal_items(left, right, depth)
            }
            (Value::Dict(left) | Value::Object(left), Value::Dict(right) | Value::Object(right)) => {
                self.equal_dicts(left, right, depth)
            }
            (Value::Set(left), Value::Set(right)) => {
                Ok(left.items().len() == right.items().len() && self.is_subset(left, right)?)
            }
            (Value::Range(left), Value::Range(right)) => Ok(equal_ranges(left, right)),
            (Value::Slice(left), Value::Slice(right)) => self.equal_items(left, right, depth),
            (Value::Tags, Value::List(items) | Value::Tuple(items))
            | (Value::List(items) | Value::Tuple(items), Value::Tags) => self.equal_tags(items),
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
    fn equal_bytes(&self, left: &[u8], right: &[u8]) -> Result<bool> {
        if left.len() != right.len() {
            return Ok(false);
        }
        self.spend_bytes(left.len())?;
        Ok(left == right)
    }

    fn equal_items(&self, left: &[Value<'a>], right: &[Value<'a>], depth: u32) -> Result<bool> {
        if left.len() != right.len() {
            return Ok(false);
        }
        for (left, right) in left.iter().zip(right) {
            if !self.equal_within(*left, *right, depth)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn equal_dicts(&self, left: &'a Dict<'a>, right: &'a Dict<'a>, depth: u32) -> Result<bool> {
        if left.entries().len() != right.entries().len() {
            return Ok(false);
        }
        for entry in left.entries() {
            match self.find_entry(right, entry.hash, entry.key)? {
                Some(other) if self.equal_within(entry.value, other.value, depth)? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Compares a list with the tags, ignoring the order: they are equal if they hold the
    /// same names.
    fn equal_tags(&self, items: &[Value<'a>]) -> Result<bool> {
        let tags = self.run.tags();
        self.spend((tags.len() * items.len()) as u64 / 8)?;
        let named = |tag: &&str| items.iter().any(|item| item.text() == Some(tag));
        Ok(tags.len() == items.len() && tags.iter().all(named))
    }

    pub(super) fn find_entry(
        &self,
        dict: &'a Dict<'a>,
        hash: u64,
        key: Value<'a>,
    ) -> Result<Option<&'a TableEntry<'a>>> {
        dict.find(hash, |known| self.equal(*known, key))
    }

    pub(super) fn in_set(&self, set: &'a Set<'a>, item: &TableEntry<'a>) -> Result<bool> {
        self.spend(1)?;
        Ok(set.find(item.hash, |known| self.equal(*known, item.key))?.is_some())
    }

    pub(super) fn is_subset(&self, left: &'a Set<'a>, right: &'a Set<'a>) -> Result<bool> {
        for item in left.items() {
            if !self.in_set(right, item)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether two contexts are the same. A bool never equals a number; with `exact`, an
    /// int does not equal a float either.
    pub(super) fn same_context(&self, left: Value<'a>, right: Value<'a>, exact: bool) -> Result<bool> {
        self.same_part(left, right, exact, 0)
    }

    fn same_part(&self, left: Value<'a>, right: Value<'a>, exact: bool, depth: u32) -> Result<bool> {
        if depth > MAX_VALUE_DEPTH {
            return Err(Exception::RecursionError.into());
        }
        let all = |left: &[Value<'a>], right: &[Value<'a>]| {
            for (left, right) in left.iter().zip(right) {
                if !self.same_part(*left, *right, exact, depth + 1)? {
                    return Ok(false);
                }
            }
            Ok(left.len() == right.len())
        };
        match (left, right) {
            (Value::Dict(left) | Value::Object(left), Value::Dict(right) | Value::Object(right)) => {
                for entry in left.entries() {
                    match self.find_entry(right, entry.hash, entry.key)? {
                        Some(other) if self.same_part(entry.value, other.value, exact, depth + 1)? => {}
                        _ => return Ok(false),
                    }
                }
                Ok(left.entries().len() == right.entries().len())
            }
            (Value::List(left) | Value::Tuple(left), Value::List(right) | Value::Tuple(right)) => {
                all(left, right)
            }
            (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
            (Value::Bool(_), _) | (_, Value::Bool(_)) => Ok(false),
            (Value::Int(_) | Value::Big(_), Value::Float(_)) if exact => Ok(false),
            (Value::Float(_), Value::Int(_) | Value::Big(_)) if exact => Ok(false),
            _ => self.equal(left, right),
        }
    }

    fn ordered(&self, left: Value<'a>, right: Value<'a>, holds: fn(Ordering) -> bool) -> Result<bool> {
        match (left, right) {
            // Sets are ordered by inclusion, so two sets may be neither less, equal
            // nor greater.
            (Value::Set(left), Value::Set(right)) => {
                let (fewer, more) = (self.is_subset(left, right)?, self.is_subset(right, left)?);
                Ok(match (fewer, more) {
                    (true, true) => holds(Ordering::Equal),
                    (true, false) => holds(Ordering::Less),
                    (false, true) => holds(Ordering::Greater),
                    (false, false) => false,
                })
            }
            _ => Ok(self.order(left, right, 0)?.is_some_and(holds)),
        }
    }

    /// Returns the order of two values; `None` if one is NaN, in which case no comparison
    /// holds.
    pub(super) fn order(&self, left: Value<'a>, right: Value<'a>, depth: u32) -> Result<Option<Ordering>> {
        if depth > MAX_VALUE_DEPTH {
            return Err(Exception::RecursionError.into());
        }
        self.spend(1)?;
        match (left, right) {
            (Value::Text(left), Value::Text(right)) => {
                self.spend_bytes(left.len().min(right.len()))?;
                Ok(Some(left.cmp(right)))
            }
            (Value::Bytes(left), Value::Bytes(right)) => {
                self.spend_bytes(left.len().min(right.len()))?;
                Ok(Some(left.cmp(right)))
            }
            (Value::List(left), Value::List(right)) | (Value::Tuple(left), Value::Tuple(right)) => {
                for (left, right) in left.iter().zip(right) {
                    if !self.equal_within(*left, *right, depth + 1)? {
                        return self.order(*left, *right, depth + 1);
                    }
                }
                Ok(Some(left.len().cmp(&right.len())))
            }
            _ if is_real(left) && is_real(right) => Ok(numeric(left, right)),
            _ => Err(Exception::TypeError.into()),
        }
    }

    pub(super) fn in_constants(&self, needle: Value<'a>, haystack: &'a Node) -> Result<Option<bool>> {
        let Some(constants) = haystack.constants() else { return Ok(None) };
        // Searching a set raises for an unhashable value.
        if matches!(haystack, Node::Display(Display::Set, _)) {
            self.hash(needle)?;
        }
        for constant in constants {
            self.spend(1)?;
            if self.equal(needle, Value::constant(constant))? {
                return Ok(Some(true));
            }
        }
        Ok(Some(false))
    }

    pub(super) fn contains(&self, container: Value<'a>, item: Value<'a>) -> Result<bool> {
        match container {
            Value::Text(text) => {
                let part = item.text().ok_or(Exception::TypeError)?;
                self.spend_bytes(text.len())?;
                Ok(text.contains(part))
            }
            Value::Tags => Ok(item.text().is_some_and(|name| self.run.has_tag(name))),
            Value::Metrics => self.has_sequence(item),
            Value::Run => Ok(item.text().is_some_and(|key| self.run.param(&KeyPath::new([key])).is_some())),
            Value::Dict(dict) | Value::Object(dict) => {
                Ok(self.find_entry(dict, self.hash(item)?, item)?.is_some())
            }
            Value::Set(set) => {
                // A set is looked up as the equal frozen set.
                let key = match item {
                    Value::Set(inner) => self.alloc(inner.frozen()).map(Value::Set)?,
                    item => item,
                };
                let entry = TableEntry { hash: self.hash(key)?, key, value: Value::None };
                self.in_set(set, &entry)
            }
            Value::Bytes(bytes) => self.bytes_contain(bytes, item),
            Value::Range(range) => match (item.small_int(), item.float()) {
                (Some(int), _) => Ok(in_range(range, int)),
                (None, Some(float)) => Ok(float as i64 as f64 == float && in_range(range, float as i64)),
                (None, None) => Ok(false),
            },
            _ => {
                let mut found = false;
                self.each(container, &mut |value| {
                    found = self.equal(value, item)?;
                    Ok(!found)
                })?;
                Ok(found)
            }
        }
    }

    fn bytes_contain(&self, bytes: &[u8], item: Value<'a>) -> Result<bool> {
        self.spend_bytes(bytes.len())?;
        match item {
            Value::Bytes(part) => Ok(memchr::memmem::find(bytes, part).is_some()),
            item => {
                let byte = u8::try_from(item.small_int().ok_or(Exception::TypeError)?);
                Ok(bytes.contains(&byte.map_err(|_| Exception::ValueError)?))
            }
        }
    }

    pub(super) fn hash(&self, value: Value<'a>) -> Result<u64> {
        self.hash_within(value, 0)
    }

    fn hash_within(&self, value: Value<'a>, depth: u32) -> Result<u64> {
        if depth > MAX_VALUE_DEPTH {
            return Err(Exception::RecursionError.into());
        }
        self.spend(1)?;
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
                self.spend_bytes(text.len())?;
                hash_text(text)
            }
            Value::Bytes(bytes) => {
                self.spend_bytes(bytes.len())?;
                hash_bytes(b'b', bytes)
            }
            Value::Tuple(items) => {
                let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
                for item in items {
                    hash.write_u64(self.hash_within(*item, depth + 1)?);
                }
                hash.finish()
            }
            // The order of elements must not affect the hash of a set.
            Value::Set(set) if set.frozen => {
                set.items().iter().fold(0, |sum, item| item.hash.wrapping_add(sum))
            }
            Value::Range(range) => hash_bytes(b'r', &range.len().to_le_bytes()),
            Value::List(_) | Value::Dict(_) | Value::Object(_) | Value::Set(_) | Value::Slice(_) => {
                return Err(Exception::TypeError.into());
            }
            _ => hash_bytes(b'o', &[]),
        })
    }
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

fn in_range(range: &crate::value::Range, item: i64) -> bool {
    let offset = i128::from(item) - i128::from(range.start);
    let step = i128::from(range.step);
    offset % step == 0 && (0..i128::from(range.len())).contains(&(offset / step))
}

/// `is`: the same singleton or the same allocation. Small integers and short strings are
/// shared, as in CPython.
fn identical<'a>(left: Value<'a>, right: Value<'a>) -> bool {
    match (left, right) {
        (Value::None, Value::None)
        | (Value::Run, Value::Run)
        | (Value::Tags, Value::Tags)
        | (Value::Metrics, Value::Metrics)
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
