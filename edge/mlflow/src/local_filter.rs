//! Filters, orders and pages of short lists: experiments, registered models, versions, and logged models. The server
//! searches runs.

use std::cmp::Ordering;

use crate::error::{MlflowError, Result};
use crate::filter::{Comparator, Comparison, Identifier, Operand};
use crate::order::OrderKey;
use crate::pattern::Pattern;

/// A value of an entry of a list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LocalValue {
    Text(String),
    Number(f64),
}

impl LocalValue {
    /// A time in milliseconds.
    #[expect(clippy::cast_precision_loss, reason = "times in milliseconds are far below 2^53")]
    pub(crate) fn time(milliseconds: i64) -> Self {
        Self::Number(milliseconds as f64)
    }
}

/// An entry of a list that can be searched.
pub(crate) trait SearchedEntry {
    /// The value with a name; `None` if the entry has no such value. Fails if no entry can have it.
    fn value(&self, identifier: &Identifier) -> Result<Option<LocalValue>>;
}

/// Returns whether an entry fits all comparisons.
pub(crate) fn matches(entry: &impl SearchedEntry, filter: &[Comparison]) -> Result<bool> {
    for comparison in filter {
        let value = entry.value(&comparison.identifier)?;
        if !fits(comparison, value.as_ref())? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn fits(comparison: &Comparison, value: Option<&LocalValue>) -> Result<bool> {
    match comparison.comparator {
        Comparator::IsNull => return Ok(value.is_none()),
        Comparator::IsNotNull => return Ok(value.is_some()),
        _ => {}
    }
    let key = &comparison.identifier.key;
    match (value, &comparison.operand) {
        (None, _) => Ok(false),
        (Some(LocalValue::Number(value)), Operand::Number(wanted)) => {
            let order = value.partial_cmp(wanted);
            Ok(match comparison.comparator {
                Comparator::Equal => order == Some(Ordering::Equal),
                Comparator::NotEqual => order != Some(Ordering::Equal),
                Comparator::Less => order == Some(Ordering::Less),
                Comparator::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                Comparator::Greater => order == Some(Ordering::Greater),
                Comparator::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
                _ => return Err(unsupported(key)),
            })
        }
        (Some(LocalValue::Text(value)), Operand::Text(wanted)) => match comparison.comparator {
            Comparator::Equal => Ok(value == wanted),
            Comparator::NotEqual => Ok(value != wanted),
            Comparator::Like => Ok(Pattern::new(wanted).matches(value)),
            Comparator::CaselessLike => {
                Ok(Pattern::new(&wanted.to_lowercase()).matches(&value.to_lowercase()))
            }
            _ => Err(unsupported(key)),
        },
        (Some(LocalValue::Text(value)), Operand::Texts(wanted)) => {
            Ok(wanted.contains(value) == (comparison.comparator == Comparator::In))
        }
        // A version of a model is a number that some clients quote.
        (Some(LocalValue::Number(value)), Operand::Text(wanted)) => match wanted.parse::<f64>() {
            Ok(wanted) => {
                let operand = Operand::Number(wanted);
                fits(&Comparison { operand, ..comparison.clone() }, Some(&LocalValue::Number(*value)))
            }
            Err(_) => Err(unsupported(key)),
        },
        _ => Err(unsupported(key)),
    }
}

fn unsupported(key: &str) -> MlflowError {
    MlflowError::invalid(format!("Invalid comparator or value for '{key}'"))
}

/// Sorts entries. Entries without a value come last in both directions.
pub(crate) fn sort<E: SearchedEntry>(entries: Vec<E>, order: &[OrderKey]) -> Result<Vec<E>> {
    sort_by_values(entries, order, |entry, position| entry.value(&order[position].identifier))
}

/// Sorts entries by the values that `value` finds for an entry and the position of a key in the order.
pub(crate) fn sort_by_values<E>(
    entries: Vec<E>,
    order: &[OrderKey],
    value: impl Fn(&E, usize) -> Result<Option<LocalValue>>,
) -> Result<Vec<E>> {
    let mut keyed = Vec::with_capacity(entries.len());
    for entry in entries {
        let values = (0..order.len()).map(|position| value(&entry, position)).collect::<Result<Vec<_>>>()?;
        keyed.push((values, entry));
    }
    keyed.sort_by(|(one, _), (other, _)| {
        let pairs = one.iter().zip(other).zip(order);
        pairs
            .map(|((one, other), key)| compare(one.as_ref(), other.as_ref(), key))
            .find(|it| it.is_ne())
            .unwrap_or(Ordering::Equal)
    });
    Ok(keyed.into_iter().map(|(_, entry)| entry).collect())
}

fn compare(one: Option<&LocalValue>, other: Option<&LocalValue>, key: &OrderKey) -> Ordering {
    let order = match (one, other) {
        (None, None) => return Ordering::Equal,
        (None, Some(_)) => return Ordering::Greater,
        (Some(_), None) => return Ordering::Less,
        (Some(LocalValue::Number(one)), Some(LocalValue::Number(other))) => one.total_cmp(other),
        (Some(LocalValue::Text(one)), Some(LocalValue::Text(other))) => one.cmp(other),
        (Some(LocalValue::Number(_)), Some(LocalValue::Text(_))) => Ordering::Less,
        (Some(LocalValue::Text(_)), Some(LocalValue::Number(_))) => Ordering::Greater,
    };
    if key.is_descending { order.reverse() } else { order }
}

/// A page of entries, and the token of the next page. Tokens are numbers of entries to skip.
pub(crate) fn page<E>(entries: Vec<E>, token: Option<&str>, size: u32) -> Result<(Vec<E>, Option<String>)> {
    let skipped: usize = match token.filter(|token| !token.is_empty()) {
        None => 0,
        Some(token) => token
            .parse()
            .map_err(|_| MlflowError::invalid("Invalid page token: use one that a search has returned"))?,
    };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let total = entries.len();
    let page: Vec<E> = entries.into_iter().skip(skipped).take(size).collect();
    let end = skipped.saturating_add(page.len());
    Ok((page, (end < total).then(|| end.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::{self, IdentifierKind};
    use crate::order;

    struct Entry(&'static str, Option<f64>);

    impl SearchedEntry for Entry {
        fn value(&self, identifier: &Identifier) -> Result<Option<LocalValue>> {
            match (identifier.kind, identifier.key.as_str()) {
                (IdentifierKind::Attribute, "name") => Ok(Some(LocalValue::Text(self.0.to_owned()))),
                (IdentifierKind::Attribute, "size") => Ok(self.1.map(LocalValue::Number)),
                _ => Err(MlflowError::invalid("no such value")),
            }
        }
    }

    const ENTRIES: [(&str, Option<f64>); 4] =
        [("a", Some(2.0)), ("Ab", None), ("b", Some(1.0)), ("c", Some(3.0))];

    fn entries() -> Vec<Entry> {
        ENTRIES.map(|(name, size)| Entry(name, size)).into()
    }

    #[test]
    fn entries_are_filtered() {
        let found = |filter: &str| {
            let filter = filter::parse(filter).unwrap();
            let found: Result<Vec<_>> =
                entries().iter().map(|entry| Ok(matches(entry, &filter)?.then_some(entry.0))).collect();
            found.map(|found| found.into_iter().flatten().collect::<Vec<_>>())
        };
        assert_eq!(found("").unwrap(), ["a", "Ab", "b", "c"]);
        assert_eq!(found("size > 1 AND size <= 3").unwrap(), ["a", "c"]);
        assert_eq!(found("name ILIKE 'A%'").unwrap(), ["a", "Ab"]);
        assert_eq!(found("name LIKE 'A%'").unwrap(), ["Ab"]);
        assert_eq!(found("name NOT IN ('a', 'b')").unwrap(), ["Ab", "c"]);
        assert_eq!(found("size = '2'").unwrap(), ["a"]);
        assert_eq!(found("size IS NULL").unwrap(), ["Ab"]);
        assert_eq!(found("size != 2").unwrap(), ["b", "c"]);
        for wrong in ["name > 5", "name < 'x'", "size = 'x'", "color = 'x'"] {
            found(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn entries_are_sorted_and_paged() {
        let sorted = |keys: &[&str]| {
            let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            let sorted = sort(entries(), &order::parse(&keys).unwrap()).unwrap();
            sorted.into_iter().map(|entry| entry.0).collect::<Vec<_>>()
        };
        assert_eq!(sorted(&["size"]), ["b", "a", "c", "Ab"]);
        assert_eq!(sorted(&["size DESC"]), ["c", "a", "b", "Ab"]);
        assert_eq!(sorted(&["name"]), ["Ab", "a", "b", "c"]);
        let (first, next) = page(vec![1, 2, 3], None, 2).unwrap();
        assert_eq!((first, next.as_deref()), (vec![1, 2], Some("2")));
        let (second, next) = page(vec![1, 2, 3], next.as_deref(), 2).unwrap();
        assert_eq!((second, next), (vec![3], None));
        page(vec![1], Some("x"), 1).unwrap_err();
    }
}
