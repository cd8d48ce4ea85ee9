//! One param of all runs, or their names, in memory; and index rows of params in stores of formats up to 6.
//!
//! The key of such a row holds the value in its sortable form; the value of the row restores what that form loses. It is
//! one byte, the type: 0 if the key alone determines the value (null,
//! floats, texts), 1 for a bool, 2 for an integer. A row with an empty value has a value that
//! the key does not represent (-0.0, an integer beyond 2^53, or a long text), which must be read
//! from the document. Rows of names have no value.

use std::ops::Range as Span;

use matyan_store::{Error, Key, Range, Result, Value as Bytes};

use super::{NULL, NUMBER, TEXT};
use crate::{
    ids::{Project, RunNumber},
    keys,
    params::{IndexedParam, MAX_EXACT},
};
use matyan_value::Value;

const KEY_ONLY: &[u8] = &[0];
const BOOL: &[u8] = &[1];
const INTEGER: &[u8] = &[2];

/// The value of the index row of a scalar.
pub(super) fn value_type(value: &Value) -> &'static [u8] {
    match value {
        Value::Null | Value::Text(_) => KEY_ONLY,
        Value::Float(float) if float.to_bits() != (-0.0_f64).to_bits() => KEY_ONLY,
        Value::Bool(_) => BOOL,
        Value::Integer(integer) if integer.unsigned_abs() <= MAX_EXACT => INTEGER,
        _ => &[],
    }
}

/// A value that was read from an index row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum IndexedValue<'c> {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(&'c str),
}

impl IndexedValue<'_> {
    /// Whether it is the same value of the same type. 0.0 and -0.0 are not the same.
    fn is_same(&self, other: &IndexedValue<'_>) -> bool {
        match (self, other) {
            (IndexedValue::Float(one), IndexedValue::Float(other)) => one.to_bits() == other.to_bits(),
            (one, other) => one == other,
        }
    }
}

/// The names of all runs by run number, or one param of the runs that have a scalar at its path. A run
/// is missing if its value is a map or a list, or if it has too many params to index.
#[derive(Debug, Default)]
pub struct IndexColumn {
    cells: Vec<(RunNumber, Cell)>,
    // One buffer for the strings of all cells; the cells refer to ranges of it.
    texts: String,
}

#[derive(Clone, Debug)]
enum Cell {
    Unknown,
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(Span<u32>),
}

impl IndexColumn {
    /// The number of rows, including rows whose value is not in the index.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The value of a run, or `None` if the index does not hold it. `from` is a position at
    /// or before this run, and is advanced to it, so that looking up runs in ascending
    /// order needs no search.
    pub fn value_at(&self, from: &mut usize, number: RunNumber) -> Option<IndexedValue<'_>> {
        while self.cells.get(*from).is_some_and(|(other, _)| *other < number) {
            *from += 1;
        }
        let mut of_run = self.cells[*from..].iter().take_while(|(other, _)| *other == number);
        let (_, first) = of_run.next()?;
        let value = self.indexed_value(first)?;
        // A run that moves from index rows to a column may have an equal value in both. Of different values, one is stale.
        let has_one_value =
            of_run.all(|(_, cell)| self.indexed_value(cell).is_some_and(|other| value.is_same(&other)));
        has_one_value.then_some(value)
    }

    /// The value of each row, in the order in which they were added or sorted; `None` if the
    /// index does not hold it.
    pub fn rows(&self) -> impl Iterator<Item = (RunNumber, Option<IndexedValue<'_>>)> {
        self.cells.iter().map(|(number, cell)| (*number, self.indexed_value(cell)))
    }

    fn indexed_value(&self, cell: &Cell) -> Option<IndexedValue<'_>> {
        Some(match cell {
            Cell::Unknown => return None,
            Cell::Null => IndexedValue::Null,
            Cell::Bool(value) => IndexedValue::Bool(*value),
            Cell::Integer(value) => IndexedValue::Integer(*value),
            Cell::Float(value) => IndexedValue::Float(*value),
            Cell::Text(span) => IndexedValue::Text(&self.texts[span.start as usize..span.end as usize]),
        })
    }

    /// The position of the first run with this number or a higher one.
    pub fn position(&self, number: RunNumber) -> usize {
        self.cells.partition_point(|(other, _)| *other < number)
    }

    /// Adds the param of a run; no value if it must be read from the document. The column must be sorted before
    /// values are looked up.
    pub fn push(&mut self, number: RunNumber, value: Option<&IndexedParam<'_>>) {
        let cell = match value {
            None | Some(IndexedParam::Rounded(_) | IndexedParam::LongText) => Cell::Unknown,
            Some(IndexedParam::Null) => Cell::Null,
            Some(IndexedParam::Bool(value)) => Cell::Bool(*value),
            Some(IndexedParam::Integer(value)) => Cell::Integer(*value),
            Some(IndexedParam::Float(value)) => Cell::Float(*value),
            // The column has too much text for more.
            Some(IndexedParam::Text(text)) => self.text(text).unwrap_or(Cell::Unknown),
        };
        self.cells.push((number, cell));
    }

    /// Adds index rows of a param in a store of an earlier format; `all` is the range of the whole path. The column must be
    /// sorted before values are looked up.
    pub fn add_params(&mut self, all: &Range, rows: &[(Key, Bytes)]) -> Result<()> {
        self.cells.reserve(rows.len());
        for (key, stored) in rows {
            let (number, value) = decode_param_row(all, key, stored)?;
            self.push(number, value.as_ref());
        }
        Ok(())
    }

    /// Adds rows of the index of names. The column must be sorted before values are looked up.
    pub fn add_names(&mut self, project: Project, rows: &[(Key, Bytes)]) -> Result<()> {
        self.cells.reserve(rows.len());
        for (key, _) in rows {
            let (number, name) = keys::decode_index_name(project, key)?;
            let cell = match name {
                Some(name) => self.text(&name).ok_or_else(|| corrupt(key))?,
                None => Cell::Unknown,
            };
            self.cells.push((number, cell));
        }
        Ok(())
    }

    pub fn sort(&mut self) {
        self.cells.sort_unstable_by_key(|(number, _)| *number);
    }

    /// Returns `None` if the column has too much text.
    fn text(&mut self, text: &str) -> Option<Cell> {
        let start = u32::try_from(self.texts.len()).ok()?;
        self.texts.push_str(text);
        Some(Cell::Text(start..u32::try_from(self.texts.len()).ok()?))
    }
}

/// The run and the value of a row of params; no value if it must be read from the document. `all` is the range of the whole path.
pub(crate) fn decode_param_row(
    all: &Range,
    key: &Key,
    stored: &[u8],
) -> Result<(RunNumber, Option<IndexedParam<'static>>)> {
    let (value, number) = keys::decode_index_param(all, key)?;
    let value = decode_value(&value, stored).ok_or_else(|| corrupt(key))?;
    Ok((number, Some(value).filter(|value| *value != IndexedParam::LongText)))
}

/// Returns a long text for a value that the row does not have, and `None` if the row is malformed.
fn decode_value(value: &[u8], stored: &[u8]) -> Option<IndexedParam<'static>> {
    let (kind, value) = value.split_first()?;
    Some(match (*kind, stored) {
        (_, []) => IndexedParam::LongText,
        (NULL, KEY_ONLY) => IndexedParam::Null,
        (NUMBER, KEY_ONLY) => IndexedParam::Float(number(value)?),
        (NUMBER, BOOL) => IndexedParam::Bool(number(value)? != 0.0),
        (NUMBER, INTEGER) => IndexedParam::Integer(number(value)? as i64),
        (TEXT, KEY_ONLY) => IndexedParam::Text(std::str::from_utf8(value).ok()?.to_owned().into()),
        _ => return None,
    })
}

/// Decodes the sortable form of a float.
fn number(ordered: &[u8]) -> Option<f64> {
    let ordered = u64::from_be_bytes(ordered.try_into().ok()?);
    let bits = if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered };
    Some(f64::from_bits(bits))
}

fn corrupt(key: &Key) -> Error {
    Error::corrupt(format!("the index row at {} does not hold a scalar or a name", key.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Scalar;
    use matyan_value::json;

    /// A column with a value of run 7, as its row has it.
    fn column(text: &str) -> IndexColumn {
        let value = json::parse(text).unwrap();
        let key = Scalar::from_value(&value).unwrap().key();
        let all = keys::index_param_path(Project(1), &["p".into()]);
        let row = keys::index_param(Project(1), &["p".into()], &key, RunNumber(7));
        let (number, value) = decode_param_row(&all, &row, value_type(&value)).unwrap();
        let mut column = IndexColumn::default();
        column.push(number, value.as_ref());
        column
    }

    #[test]
    fn values_survive_the_round_trip_through_their_row() {
        let number = RunNumber(7);
        for (text, stored) in [
            ("null", Some(IndexedValue::Null)),
            ("true", Some(IndexedValue::Bool(true))),
            ("false", Some(IndexedValue::Bool(false))),
            ("1", Some(IndexedValue::Integer(1))),
            ("-9007199254740992", Some(IndexedValue::Integer(-9_007_199_254_740_992))),
            ("9007199254740993", None),
            ("99999999999999999999", None),
            ("1.0", Some(IndexedValue::Float(1.0))),
            ("0.0", Some(IndexedValue::Float(0.0))),
            ("-0.0", None),
            ("-1.5e300", Some(IndexedValue::Float(-1.5e300))),
            ("-Infinity", Some(IndexedValue::Float(f64::NEG_INFINITY))),
            (r#""""#, Some(IndexedValue::Text(""))),
            (r#""a\u0000é""#, Some(IndexedValue::Text("a\0é"))),
        ] {
            assert_eq!(column(text).value_at(&mut 0, number), stored, "{text}");
        }
    }

    #[test]
    fn runs_are_looked_up_in_ascending_order() {
        let cells = [3, 5, 9, 12, 12].map(|number| (RunNumber(number), Cell::Integer(number.cast_signed())));
        let column = IndexColumn { cells: cells.into(), texts: String::new() };
        let mut from = column.position(RunNumber(4));
        assert_eq!(from, 1);
        let stored = [4, 5, 6, 9, 10, 12].map(|number| column.value_at(&mut from, RunNumber(number)));
        assert_eq!(
            stored,
            [
                None,
                Some(IndexedValue::Integer(5)),
                None,
                Some(IndexedValue::Integer(9)),
                None,
                Some(IndexedValue::Integer(12))
            ]
        );
    }

    #[test]
    fn a_run_with_different_values_is_unknown() {
        for (cells, value) in [
            (vec![Cell::Float(0.5), Cell::Float(0.5), Cell::Float(0.5)], Some(IndexedValue::Float(0.5))),
            (vec![Cell::Text(0..2), Cell::Text(2..4)], Some(IndexedValue::Text("ab"))),
            (vec![Cell::Null, Cell::Null], Some(IndexedValue::Null)),
            (vec![Cell::Float(0.5), Cell::Float(0.5), Cell::Float(0.25)], None),
            (vec![Cell::Float(0.0), Cell::Float(-0.0)], None),
            (vec![Cell::Integer(1), Cell::Float(1.0)], None),
            (vec![Cell::Integer(1), Cell::Unknown], None),
            (vec![Cell::Unknown, Cell::Unknown], None),
        ] {
            let text = format!("{cells:?}");
            let cells = cells.into_iter().map(|cell| (RunNumber(7), cell)).collect();
            let column = IndexColumn { cells, texts: "abab".to_owned() };
            assert_eq!(column.value_at(&mut 0, RunNumber(7)), value, "{text}");
        }
    }

    #[test]
    fn malformed_rows_are_rejected() {
        for (value, stored) in [
            (&[][..], &[0][..]),
            (&[NUMBER, 1], &[0]),
            (&[NUMBER, 0, 0, 0, 0, 0, 0, 0, 0], &[7]),
            (&[TEXT, 0xff], &[0]),
            (&[TEXT], &[2]),
            (&[9], &[0]),
        ] {
            assert!(decode_value(value, stored).is_none(), "{value:?} {stored:?}");
        }
    }
}
