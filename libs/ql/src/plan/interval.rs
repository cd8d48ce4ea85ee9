//! Intervals of index keys: numbers (never NaN) or strings, each end open, closed or unbounded.
//! Rounding is handled here: an integer that no float represents is bounded by the neighboring
//! floats, so nothing is left out.

use std::fmt;
use std::ops::Bound;

use crate::tree::Comparison;

/// Keys between two bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Interval<T> {
    pub low: Bound<T>,
    pub high: Bound<T>,
}

impl<T: PartialOrd> Interval<T> {
    pub fn contains(&self, key: &T) -> bool {
        let above = match &self.low {
            Bound::Included(low) => key >= low,
            Bound::Excluded(low) => key > low,
            Bound::Unbounded => true,
        };
        above
            && match &self.high {
                Bound::Included(high) => key <= high,
                Bound::Excluded(high) => key < high,
                Bound::Unbounded => true,
            }
    }

    pub fn is_empty(&self) -> bool {
        match (&self.low, &self.high) {
            (Bound::Included(low), Bound::Included(high)) => low > high,
            (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => {
                low >= high
            }
            _ => false,
        }
    }
}

impl<T: PartialOrd + Clone> Interval<T> {
    pub(super) fn intersect(&self, other: &Self) -> Self {
        let low = match (&self.low, &other.low) {
            (Bound::Unbounded, bound) | (bound, Bound::Unbounded) => bound,
            (
                a @ (Bound::Included(x) | Bound::Excluded(x)),
                b @ (Bound::Included(y) | Bound::Excluded(y)),
            ) => {
                if x > y || x == y && matches!(a, Bound::Excluded(_)) {
                    a
                } else {
                    b
                }
            }
        };
        let high = match (&self.high, &other.high) {
            (Bound::Unbounded, bound) | (bound, Bound::Unbounded) => bound,
            (
                a @ (Bound::Included(x) | Bound::Excluded(x)),
                b @ (Bound::Included(y) | Bound::Excluded(y)),
            ) => {
                if x < y || x == y && matches!(a, Bound::Excluded(_)) {
                    a
                } else {
                    b
                }
            }
        };
        Self { low: low.clone(), high: high.clone() }
    }

    fn point(key: T) -> Self {
        Self { low: Bound::Included(key.clone()), high: Bound::Included(key) }
    }

    /// Returns the keys that compare this way with a key.
    fn ordered(operator: Comparison, key: T) -> Option<Self> {
        let (low, high) = match operator {
            Comparison::Eq => return Some(Self::point(key)),
            Comparison::Less => (Bound::Unbounded, Bound::Excluded(key)),
            Comparison::LessEq => (Bound::Unbounded, Bound::Included(key)),
            Comparison::Greater => (Bound::Excluded(key), Bound::Unbounded),
            Comparison::GreaterEq => (Bound::Included(key), Bound::Unbounded),
            _ => return None,
        };
        Some(Self { low, high })
    }
}

impl Interval<f64> {
    /// Returns the keys of the numbers that compare this way with a number, and whether no other
    /// numbers have these keys. `exact` says that the float equals the number and is the key of
    /// no other number.
    pub(super) fn numbers(operator: Comparison, key: f64, exact: bool) -> Option<(Self, bool)> {
        // Turns -0.0 into 0.0.
        let key = key + 0.0;
        let operator = match operator {
            // A number on the other side of the bound may have the same key.
            Comparison::Less if !exact => Comparison::LessEq,
            Comparison::Greater if !exact => Comparison::GreaterEq,
            operator => operator,
        };
        Self::ordered(operator, key).map(|interval| (interval, exact))
    }

    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        describe(self, f, name, &|key, f| write!(f, "{key:?}"))
    }
}

impl Interval<Box<str>> {
    pub(super) fn texts(operator: Comparison, text: &str) -> Option<Self> {
        Self::ordered(operator, text.into())
    }

    pub(super) fn equal(text: &str) -> Self {
        Self::point(text.into())
    }

    /// Returns the strings with this prefix.
    pub(super) fn prefix(prefix: &str) -> Self {
        let high = after_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded);
        Self { low: Bound::Included(prefix.into()), high }
    }

    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        if let (Bound::Included(low), Bound::Excluded(high)) = (&self.low, &self.high)
            && after_prefix(low).as_ref() == Some(high)
        {
            return write!(f, "{name} starts with {low:?}");
        }
        describe(self, f, name, &|key, f| write!(f, "{key:?}"))
    }
}

/// Returns the first string after all strings with this prefix.
fn after_prefix(prefix: &str) -> Option<Box<str>> {
    let mut characters: Vec<char> = prefix.chars().collect();
    // A trailing character without a successor is dropped, and the character before it is incremented.
    while let Some(last) = characters.pop() {
        let next = match last {
            // Surrogates are not characters.
            '\u{d7ff}' => Some('\u{e000}'),
            last => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next {
            characters.push(next);
            return Some(characters.into_iter().collect::<String>().into());
        }
    }
    None
}

type Write<'w, T> = &'w dyn Fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result;

fn describe<T: PartialEq>(
    interval: &Interval<T>,
    f: &mut fmt::Formatter<'_>,
    name: &str,
    write: Write<'_, T>,
) -> fmt::Result {
    if let (Bound::Included(low), Bound::Included(high)) = (&interval.low, &interval.high)
        && low == high
    {
        write!(f, "{name} = ")?;
        return write(low, f);
    }
    match &interval.low {
        Bound::Unbounded => {}
        Bound::Included(low) | Bound::Excluded(low) => {
            write(low, f)?;
            f.write_str(if matches!(interval.low, Bound::Included(_)) { " <= " } else { " < " })?;
        }
    }
    f.write_str(name)?;
    match &interval.high {
        Bound::Unbounded => Ok(()),
        Bound::Included(high) | Bound::Excluded(high) => {
            f.write_str(if matches!(interval.high, Bound::Included(_)) { " <= " } else { " < " })?;
            write(high, f)
        }
    }
}
