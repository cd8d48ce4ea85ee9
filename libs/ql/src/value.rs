//! Values under evaluation: small, copyable, and allocated in one arena per candidate, which is
//! reset before the next. Values are never dropped or reference-counted, so deep and cyclic
//! values are harmless; integers beyond 64 bits are slices of digits.

mod environment;
pub(crate) mod table;

use std::cell::Cell;

use crate::names::{Builtin, Member};
use crate::tree::{Comprehension, Constant, Lambda};
use crate::view::{RunView, SequenceView};
pub(crate) use environment::{Environment, Scope, Variable};
pub(crate) use table::{Dict, Set};

#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Big(BigInteger<'a>),
    Float(f64),
    /// A point in time: a float of Unix seconds that also has a calendar.
    Time(f64),
    /// A duration: a float of seconds that also has days.
    Span(f64),
    Complex(f64, f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    List(&'a [Value<'a>]),
    Tuple(&'a [Value<'a>]),
    Dict(&'a Dict<'a>),
    /// A stored object: a dict whose keys are also attributes.
    Object(&'a Dict<'a>),
    Set(&'a Set<'a>),
    Range(&'a Range),
    Slice(&'a [Value<'a>; 3]),
    Run(&'a dyn RunView),
    Tags(&'a dyn RunView),
    Metrics(&'a dyn RunView),
    Sequence(&'a dyn SequenceView),
    /// `run.metrics[..]` of a sequence that the run does not have: false, and all members
    /// are None.
    NoSequence,
    Builtin(Builtin),
    BoundMethod(&'a BoundMethod<'a>),
    Closure(&'a Closure<'a>),
    Iterator(&'a LazyIterator<'a>),
    /// The result of calling an exception class.
    Exception(u8),
}

/// An integer beyond 64 bits: 32-bit digits, least significant first; the most significant digit
/// is nonzero.
#[derive(Clone, Copy)]
pub(crate) struct BigInteger<'a> {
    pub(crate) negative: bool,
    pub(crate) digits: &'a [u32],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: i64,
    pub(crate) stop: i64,
    pub(crate) step: i64,
}

impl Range {
    pub(crate) fn len(&self) -> i64 {
        // In i128, because the distance of two bounds may exceed an i64.
        let (low, high, step) = if self.step > 0 {
            (self.start, self.stop, i128::from(self.step))
        } else {
            (self.stop, self.start, -i128::from(self.step))
        };
        let span = (i128::from(high) - i128::from(low)).max(0);
        i64::try_from((span + step - 1) / step).unwrap_or(i64::MAX)
    }

    /// Returns the element at a position below `len`.
    pub(crate) fn at(&self, position: i64) -> i64 {
        self.start + position * self.step
    }
}

/// A method with its receiver. If the receiver is a class, the first argument replaces it.
pub(crate) struct BoundMethod<'a> {
    pub(crate) receiver: Value<'a>,
    pub(crate) member: Member,
}

/// A lambda with the environment it captures.
pub(crate) struct Closure<'a> {
    pub(crate) lambda: &'a Lambda,
    pub(crate) environment: Environment<'a>,
    /// One value per parameter that has a default, in order.
    pub(crate) defaults: &'a [Value<'a>],
}

/// A lazy iterator. Each use walks it from the start and skips the elements taken before, which
/// works because expressions have no side effects.
pub(crate) struct LazyIterator<'a> {
    pub(crate) kind: LazyKind<'a>,
    pub(crate) taken: Cell<u64>,
    pub(crate) finished: Cell<bool>,
}

pub(crate) enum LazyKind<'a> {
    /// The comprehension, its first iterable, and the environment around it.
    Generator(&'a Comprehension, Value<'a>, Environment<'a>),
    Zip(&'a [Value<'a>]),
    Map(Value<'a>, &'a [Value<'a>]),
    Filter(Value<'a>, Value<'a>),
    Enumerate(Value<'a>, i64),
    Reversed(&'a [Value<'a>]),
}

impl<'a> Value<'a> {
    pub(crate) fn constant(constant: &'a Constant) -> Self {
        match constant {
            Constant::None => Value::None,
            Constant::Bool(value) => Value::Bool(*value),
            Constant::Int(value) => Value::Int(*value),
            Constant::Big(big) => Value::Big(BigInteger { negative: big.negative, digits: &big.digits }),
            Constant::Float(value) => Value::Float(*value),
            Constant::Time(value) => Value::Time(*value),
            Constant::Span(value) => Value::Span(*value),
            Constant::Complex(real, imaginary) => Value::Complex(*real, *imaginary),
            Constant::Text(text) => Value::Text(text),
            Constant::Bytes(bytes) => Value::Bytes(bytes),
        }
    }

    pub(crate) fn truth(&self) -> bool {
        match self {
            Value::None | Value::NoSequence => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Float(value) | Value::Time(value) | Value::Span(value) => *value != 0.0,
            Value::Complex(real, imaginary) => *real != 0.0 || *imaginary != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::Bytes(bytes) => !bytes.is_empty(),
            Value::List(items) | Value::Tuple(items) => !items.is_empty(),
            Value::Dict(dict) | Value::Object(dict) => !dict.entries().is_empty(),
            Value::Set(set) => !set.items().is_empty(),
            Value::Range(range) => range.len() > 0,
            _ => true,
        }
    }

    /// Returns the name of a value's type; times count as floats, stored objects as dicts.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::Big(_) => "int",
            Value::Float(_) | Value::Time(_) | Value::Span(_) => "float",
            Value::Complex(..) => "complex",
            Value::Text(_) => "str",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) | Value::Object(_) => "dict",
            Value::Set(set) if set.frozen => "frozenset",
            Value::Set(_) => "set",
            Value::Range(_) => "range",
            Value::Slice(_) => "slice",
            Value::Run(_) => "Run",
            Value::Tags(_) => "Tags",
            Value::Metrics(_) => "Metrics",
            Value::Sequence(_) | Value::NoSequence => "Sequence",
            Value::Builtin(Builtin::Class(_) | Builtin::Exception(_)) => "type",
            Value::Builtin(Builtin::Module(_)) => "module",
            Value::Builtin(_) | Value::BoundMethod(_) => "builtin_function_or_method",
            Value::Closure(_) => "function",
            Value::Iterator(lazy) => lazy.type_name(),
            Value::Exception(_) => "Exception",
        }
    }

    /// Returns the number in a float, a time or a span, all of which count as floats.
    pub(crate) fn float(&self) -> Option<f64> {
        match self {
            Value::Float(value) | Value::Time(value) | Value::Span(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the integer value of a bool or a small int.
    pub(crate) fn small_int(&self) -> Option<i64> {
        match self {
            Value::Bool(value) => Some(i64::from(*value)),
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&'a str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl<'a> LazyIterator<'a> {
    pub(crate) fn new(kind: LazyKind<'a>) -> Self {
        Self { kind, taken: Cell::new(0), finished: Cell::new(false) }
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self.kind {
            LazyKind::Generator(..) => "generator",
            LazyKind::Zip(_) => "zip",
            LazyKind::Map(..) => "map",
            LazyKind::Filter(..) => "filter",
            LazyKind::Enumerate(..) => "enumerate",
            LazyKind::Reversed(_) => "reversed",
        }
    }
}
