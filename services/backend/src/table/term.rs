//! Values of runs that lists are sorted and grouped by, and their order: numbers by value, then
//! texts by code point, then nothing, which comes last in both directions.

use std::cmp::Ordering;

use matyan_value::Value;

/// A value of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Term {
    #[default]
    Absent,
    Bool(bool),
    Integer(i64),
    /// Not NaN.
    Float(f64),
    Text(Box<str>),
}

/// A borrowed value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TermRef<'t> {
    Absent,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(&'t str),
}

impl Term {
    /// The value of a float; NaN is none.
    pub(super) fn float(value: f64) -> Self {
        if value.is_nan() { Self::Absent } else { Self::Float(value) }
    }

    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// The value of a param; containers and null have none.
    pub(super) fn from_value(value: &Value) -> Self {
        match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::Integer(value) => Self::Integer(*value),
            Value::Float(value) => Self::float(*value),
            Value::Big(big) => Self::float(big.to_f64()),
            Value::Text(text) => Self::text(text),
            Value::Null | Value::Bytes(_) | Value::List(_) | Value::Map(_) => Self::Absent,
        }
    }

    /// A value that `to_value` wrote and a client returned. `None` for any other, such as a number of
    /// many digits, whose conversion takes long.
    pub(super) fn from_token(value: &Value) -> Option<Self> {
        match value {
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => {
                Some(Self::from_value(value))
            }
            Value::Big(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The opposite of `from_value`.
    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Absent => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Integer(value) => Value::Integer(*value),
            Self::Float(value) => Value::Float(*value),
            Self::Text(text) => Value::Text(text.to_string()),
        }
    }

    pub(crate) fn borrow(&self) -> TermRef<'_> {
        match self {
            Self::Absent => TermRef::Absent,
            Self::Bool(value) => TermRef::Bool(*value),
            Self::Integer(value) => TermRef::Integer(*value),
            Self::Float(value) => TermRef::Float(*value),
            Self::Text(text) => TermRef::Text(text),
        }
    }

    /// Memory besides the value itself.
    pub(super) fn heap_bytes(&self) -> usize {
        // The allocator adds about as much to a short text.
        const ALLOCATION: usize = 16;
        if let Self::Text(text) = self { text.len() + ALLOCATION } else { 0 }
    }
}

impl TermRef<'_> {
    pub(super) fn to_term(self) -> Term {
        match self {
            Self::Absent => Term::Absent,
            Self::Bool(value) => Term::Bool(value),
            Self::Integer(value) => Term::Integer(value),
            Self::Float(value) => Term::Float(value),
            Self::Text(text) => Term::text(text),
        }
    }

    /// The finite number to aggregate.
    pub(super) fn number(self) -> Option<f64> {
        match self {
            Self::Integer(value) => Some(value as f64),
            Self::Float(value) => Some(value).filter(|value| value.is_finite()),
            Self::Absent | Self::Bool(_) | Self::Text(_) => None,
        }
    }

    /// A bool is the number 0 or 1, as in Python.
    fn as_ordered(self) -> Self {
        if let Self::Bool(value) = self { Self::Integer(value.into()) } else { self }
    }
}

pub(super) fn compare(a: TermRef<'_>, b: TermRef<'_>, descending: bool) -> Ordering {
    use TermRef::{Absent, Float, Integer, Text};
    let ascending = match (a.as_ordered(), b.as_ordered()) {
        (Absent, Absent) => return Ordering::Equal,
        (Absent, _) => return Ordering::Greater,
        (_, Absent) => return Ordering::Less,
        (Text(a), Text(b)) => a.cmp(b),
        (Text(_), _) => Ordering::Greater,
        (_, Text(_)) => Ordering::Less,
        (Float(a), Float(b)) => compare_floats(a, b),
        (Integer(a), Float(b)) => compare_mixed(a, b),
        (Float(a), Integer(b)) => compare_mixed(b, a).reverse(),
        (Integer(a), Integer(b)) => a.cmp(&b),
        (TermRef::Bool(_), _) | (_, TermRef::Bool(_)) => unreachable!("a bool was converted above"),
    };
    if descending { ascending.reverse() } else { ascending }
}

/// Compares numbers that are not NaN; both zeros are equal.
pub(super) fn compare_floats(a: f64, b: f64) -> Ordering {
    (a + 0.0).total_cmp(&(b + 0.0))
}

/// Compares exactly: integers beyond 2^53 have no exact float.
fn compare_mixed(integer: i64, other: f64) -> Ordering {
    match compare_floats(integer as f64, other) {
        // Both are whole numbers here, and fit into the wider type.
        Ordering::Equal => i128::from(integer).cmp(&(other as i128)),
        ordering => ordering,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_ordered_with_absent_ones_last() {
        let rising = [
            Term::Float(f64::NEG_INFINITY),
            Term::Integer(-1),
            Term::Float(-0.5),
            Term::Integer(0),
            Term::Bool(true),
            Term::Float(9_007_199_254_740_992.0),
            Term::Integer(9_007_199_254_740_993),
            Term::Integer(i64::MAX),
            Term::Float(9_223_372_036_854_775_808.0),
            Term::Float(f64::INFINITY),
            Term::text(""),
            Term::text("Z"),
            Term::text("a"),
            Term::text("é"),
        ];
        let compare = |a: &Term, b: &Term, descending| compare(a.borrow(), b.borrow(), descending);
        for (position, a) in rising.iter().enumerate() {
            for (other, b) in rising.iter().enumerate() {
                assert_eq!(compare(a, b, false), position.cmp(&other), "{a:?} {b:?}");
                assert_eq!(compare(a, b, true), other.cmp(&position), "{a:?} {b:?}");
            }
            for descending in [false, true] {
                assert_eq!(compare(a, &Term::Absent, descending), Ordering::Less);
                assert_eq!(compare(&Term::Absent, a, descending), Ordering::Greater);
            }
            assert_eq!(Term::from_value(&a.to_value()), *a);
        }
        assert_eq!(compare(&Term::Float(-0.0), &Term::Integer(0), false), Ordering::Equal);
        assert_eq!(compare(&Term::Bool(false), &Term::Integer(0), false), Ordering::Equal);
        assert_eq!(Term::from_value(&Value::Float(f64::NAN)), Term::Absent);
    }
}
