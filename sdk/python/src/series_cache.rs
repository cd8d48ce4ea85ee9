//! The way from the arguments of `track` to a series, without building its context.
//!
//! A training loop passes a new dict on each call, but with equal keys and values. They are hashed
//! and compared as Python objects, most of which are identical to the objects of the previous call.
//! Canonical JSON and its SHA-256 are only computed when a series is seen for the first time.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use matyan_sdk::Series;
use pyo3::{
    prelude::*,
    types::{PyBool, PyDict, PyFloat, PyInt, PyString, PyType},
};

/// Most entries. A name that is built for each call, such as `f"step_{i}"`, must not fill memory.
const CAPACITY: usize = 4096;

/// Most members of a context that is cached.
const MAX_MEMBERS: usize = 8;

/// An odd number without a pattern, as in Fibonacci hashing.
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// The arguments that select a series: name, type of the value, and members of the context.
#[derive(Debug)]
pub(crate) struct SeriesKey<'py> {
    name: Bound<'py, PyString>,
    kind: Bound<'py, PyType>,
    members: Vec<Bound<'py, PyAny>>,
    hash: u64,
}

struct CacheEntry {
    name: Py<PyString>,
    kind: Py<PyType>,
    /// Keys and values in turn, in the order of the dict.
    members: Box<[Py<PyAny>]>,
    series: Arc<Series>,
}

/// Series of one run, by the arguments that selected them before.
#[derive(Default)]
pub(crate) struct SeriesCache {
    // Locked only while the thread is attached to the interpreter, and never across a call that
    // could detach it. So a fork, which is also a call from Python, finds it unlocked.
    entries: Mutex<HashMap<u64, CacheEntry, BuildHasherDefault<GivenHash>>>,
}

impl<'py> SeriesKey<'py> {
    /// Returns the key, or `None` if the context is not a small dict of immutable values.
    pub(crate) fn new(
        name: &Bound<'py, PyString>,
        kind: Bound<'py, PyType>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> Option<Self> {
        if !name.is_exact_instance_of::<PyString>() {
            return None;
        }
        let mut hash = mix(kind.as_ptr() as u64, name.hash().ok()?);
        let mut members = Vec::new();
        if let Some(context) = context.filter(|context| !context.is_none()) {
            let dict = context.cast_exact::<PyDict>().ok()?;
            if dict.len() > MAX_MEMBERS {
                return None;
            }
            members.reserve_exact(dict.len() * 2);
            for (key, value) in dict.iter() {
                if !key.is_exact_instance_of::<PyString>() || !is_immutable(&value) {
                    return None;
                }
                hash = mix(mix(hash, key.hash().ok()?), value.hash().ok()?);
                members.push(key);
                members.push(value);
            }
        }
        Some(Self { name: name.clone(), kind, members, hash })
    }
}

impl SeriesCache {
    /// Returns the series that was inserted with equal arguments.
    pub(crate) fn get(&self, key: &SeriesKey<'_>) -> Option<Arc<Series>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(&key.hash)?;
        let is_equal = entry.kind.is(&key.kind)
            && is_same(entry.name.bind(key.name.py()), &key.name)
            && entry.members.len() == key.members.len()
            && entry.members.iter().zip(&key.members).all(|(entry, key)| is_same(entry.bind(key.py()), key));
        is_equal.then(|| Arc::clone(&entry.series))
    }

    /// Remembers a series.
    pub(crate) fn insert(&self, key: SeriesKey<'_>, series: Arc<Series>) {
        let entry = CacheEntry {
            name: key.name.unbind(),
            kind: key.kind.unbind(),
            members: key.members.into_iter().map(Bound::unbind).collect(),
            series,
        };
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = if entries.len() >= CAPACITY { mem::take(&mut *entries) } else { HashMap::default() };
        let replaced = entries.insert(key.hash, entry);
        drop(entries);
        // The last reference to a type runs Python code when it is dropped, which may call `track`.
        drop((removed, replaced));
    }
}

/// Reports whether a value can be compared later without a copy of it.
fn is_immutable(value: &Bound<'_, PyAny>) -> bool {
    value.is_exact_instance_of::<PyString>()
        || value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyBool>()
        || value.is_exact_instance_of::<PyFloat>()
        || value.is_none()
}

/// Compares two immutable values as the context does: 1, 1.0, and true are different. Runs no code
/// of other classes.
fn is_same(left: &Bound<'_, PyAny>, right: &Bound<'_, PyAny>) -> bool {
    if left.is(right) {
        return true;
    }
    if let (Ok(left), Ok(right)) = (left.cast_exact::<PyFloat>(), right.cast_exact::<PyFloat>()) {
        return left.value().to_bits() == right.value().to_bits();
    }
    left.get_type().is(right.get_type()) && left.eq(right).unwrap_or(false)
}

fn mix(hash: u64, value: isize) -> u64 {
    (hash.rotate_left(23) ^ value as u64).wrapping_mul(MULTIPLIER)
}

/// Uses keys, which are hashes already, without hashing them.
#[derive(Debug, Default)]
struct GivenHash(u64);

impl Hasher for GivenHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
