//! Traits for the data that a query reads: one run and one of its sequences, which a backend
//! may load lazily. Methods are synchronous and cannot fail: the scanning code loads in advance
//! the data that [`crate::Query::needs`] names.

use std::borrow::Cow;
use std::fmt;

/// A run as seen by a query. Params are requested by complete path, so a view need not decode
/// neighboring params.
pub trait RunView {
    fn hash(&self) -> &str;
    fn name(&self) -> Option<&str>;
    fn description(&self) -> Option<&str>;
    /// The experiment's name.
    fn experiment(&self) -> Option<&str>;
    /// In Unix seconds.
    fn created_at(&self) -> f64;
    /// In Unix seconds; `None` while the run is active.
    fn end_time(&self) -> Option<f64>;
    fn active(&self) -> bool;
    /// End of the run, if its client reported it: `finished`, `failed` or `interrupted`.
    fn outcome(&self) -> Option<&str>;
    /// The id of the run that this run branches from.
    fn parent(&self) -> Option<&str>;
    fn archived(&self) -> bool;
    /// The names of the tags, in a stable order.
    fn tags(&self) -> Vec<&str>;
    /// The value at a path of object keys; never called with an empty path. A list or an object of
    /// more than `most_values` values, keys included, is [`StoredParam::TooLarge`], and is not built.
    fn param(&self, path: &KeyPath, most_values: usize) -> ParamRead<'_>;
    /// The sequences with that name, of any dtype, in order of context id. The view finds them
    /// without passing over all others, because a query pays only for the sequences that it gets.
    fn sequences(&self, name: &str) -> Vec<&dyn SequenceView>;
}

/// A sequence (a metric, or a series of objects) of a run.
pub trait SequenceView {
    fn name(&self) -> &str;
    fn dtype(&self) -> &str;
    /// The value at a path in the context; the empty path is the entire context.
    fn context(&self, path: &KeyPath) -> Option<Datum<'_>>;
    fn summary(&self) -> SequenceSummary;
}

/// Summary of a sequence, available without reading its points; `last` is the value written
/// last, not the value of the largest step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SequenceSummary {
    pub first: Option<f64>,
    pub last: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub first_step: Option<i64>,
    pub last_step: Option<i64>,
}

/// A stored free-form value, borrowed from the view where possible.
#[derive(Debug, Clone, PartialEq)]
pub enum Datum<'v> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits: sign and big-endian magnitude.
    BigInt {
        negative: bool,
        magnitude: Cow<'v, [u8]>,
    },
    Float(f64),
    Text(Cow<'v, str>),
    Bytes(Cow<'v, [u8]>),
    List(Vec<Datum<'v>>),
    Object(Vec<(Cow<'v, str>, Datum<'v>)>),
}

/// A param as a view found it, and the work for it.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamRead<'v> {
    pub param: StoredParam<'v>,
    /// Bytes that the view passed over or decoded. The query pays for them.
    pub bytes: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub enum StoredParam<'v> {
    Absent,
    Value(Datum<'v>),
    /// The value exists, but has too many values in it.
    TooLarge,
}

/// The answer of a view that has its params at hand.
impl<'v> From<Option<Datum<'v>>> for ParamRead<'v> {
    fn from(datum: Option<Datum<'v>>) -> Self {
        Self { param: datum.map_or(StoredParam::Absent, StoredParam::Value), bytes: 0 }
    }
}

/// Keys from the outermost to the innermost, split once when the query is compiled.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KeyPath(Box<[Box<str>]>);

impl KeyPath {
    pub fn new<K: Into<Box<str>>>(keys: impl IntoIterator<Item = K>) -> Self {
        Self(keys.into_iter().map(Into::into).collect())
    }

    pub fn keys(&self) -> &[Box<str>] {
        &self.0
    }

    pub(crate) fn join(&self, key: &str) -> Self {
        Self(self.0.iter().cloned().chain([key.into()]).collect())
    }
}

impl AsRef<[Box<str>]> for KeyPath {
    fn as_ref(&self) -> &[Box<str>] {
        &self.0
    }
}

/// Keys joined by dots; a key that is not a plain word is quoted, so that distinct paths have
/// distinct texts.
impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, key) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(".")?;
            }
            if !key.is_empty() && key.chars().all(|c| c == '_' || c.is_alphanumeric()) {
                f.write_str(key)?;
            } else {
                write!(f, "{key:?}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPath({self})")
    }
}
