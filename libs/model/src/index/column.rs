//! One param of all runs, read from its index: a hundredth of the bytes of their documents. The key of a row has the value
//! in the form that orders; the row itself tells what that form leaves out, so that the value comes back as it was.
//!
//! A row holds one byte, the type: 0 of what the key tells whole (null, floats, texts), 1 of a bool, 2 of an integer. A row
//! without it stands for a value that the key cannot tell, -0.0 or an integer beyond 2^53: ask the document.

use std::ops::Range as Span;

use matyan_store::{Error, Key, Range, Result, Value as Bytes};

use super::{NULL, NUMBER, TEXT};
use crate::{ids::RunNumber, keys, value::Value};

const WHOLE: &[u8] = &[0];
const BOOL: &[u8] = &[1];
const INTEGER: &[u8] = &[2];
/// Every integer up to here is a float of its own.
const EXACT: u64 = 1 << 53;

/// What stands in the row of a scalar.
pub(super) fn told_type(value: &Value) -> &'static [u8] {
    match value {
        Value::Null | Value::Text(_) => WHOLE,
        Value::Float(float) if float.to_bits() != (-0.0_f64).to_bits() => WHOLE,
        Value::Bool(_) => BOOL,
        Value::Integer(integer) if integer.unsigned_abs() <= EXACT => INTEGER,
        _ => &[],
    }
}

/// A value as its row tells it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Told<'c> {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(&'c str),
}

/// A param of all runs that have a scalar there, by run number. A run may be missing because its value is a map or a list,
/// or because it has too much to index.
#[derive(Debug, Default)]
pub struct Column {
    cells: Vec<(RunNumber, Cell)>,
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

impl Column {
    /// Rows in all, also those that do not tell their value.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The value of a run; `None` if the index does not tell it. `from` is the place of an earlier run, and moves to this
    /// one: whoever asks for runs in rising order never searches.
    pub fn at(&self, from: &mut usize, number: RunNumber) -> Option<Told<'_>> {
        while self.cells.get(*from).is_some_and(|(other, _)| *other < number) {
            *from += 1;
        }
        let (_, cell) = self.cells.get(*from).filter(|(other, _)| *other == number)?;
        // Two rows of one run: one of them is not of its document.
        if self.cells.get(*from + 1).is_some_and(|(other, _)| *other == number) {
            return None;
        }
        Some(match cell {
            Cell::Unknown => return None,
            Cell::Null => Told::Null,
            Cell::Bool(value) => Told::Bool(*value),
            Cell::Integer(value) => Told::Integer(*value),
            Cell::Float(value) => Told::Float(*value),
            Cell::Text(span) => Told::Text(&self.texts[span.start as usize..span.end as usize]),
        })
    }

    /// The place from which on runs have this number or a greater one.
    pub fn place(&self, number: RunNumber) -> usize {
        self.cells.partition_point(|(other, _)| *other < number)
    }

    /// Adds rows of `range`, which is that of a whole path. To be sorted before it is asked.
    pub fn add(&mut self, range: &Range, rows: &[(Key, Bytes)]) -> Result<()> {
        self.cells.reserve(rows.len());
        for (key, told) in rows {
            let (value, number) = keys::index_param_of(range, key)?;
            let cell = self.cell(&value, told).ok_or_else(|| corrupt(key))?;
            self.cells.push((number, cell));
        }
        Ok(())
    }

    pub fn sort(&mut self) {
        self.cells.sort_unstable_by_key(|(number, _)| *number);
    }

    /// `None` of a row that nobody can have written.
    fn cell(&mut self, value: &[u8], told: &[u8]) -> Option<Cell> {
        let (kind, value) = value.split_first()?;
        Some(match (*kind, told) {
            (_, []) => Cell::Unknown,
            (NULL, WHOLE) => Cell::Null,
            (NUMBER, WHOLE) => Cell::Float(number(value)?),
            (NUMBER, BOOL) => Cell::Bool(number(value)? != 0.0),
            (NUMBER, INTEGER) => Cell::Integer(number(value)? as i64),
            (TEXT, WHOLE) => {
                let start = u32::try_from(self.texts.len()).ok()?;
                self.texts.push_str(std::str::from_utf8(value).ok()?);
                Cell::Text(start..u32::try_from(self.texts.len()).ok()?)
            }
            _ => return None,
        })
    }
}

/// The float whose bits were turned to order.
fn number(ordered: &[u8]) -> Option<f64> {
    let ordered = u64::from_be_bytes(ordered.try_into().ok()?);
    let bits = if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered };
    Some(f64::from_bits(bits))
}

fn corrupt(key: &Key) -> Error {
    Error::corrupt(format!("the index row at {} does not tell a scalar", key.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{index::Scalar, json};

    fn cell(text: &str) -> (Column, Cell) {
        let value = json::parse(text).unwrap();
        let mut column = Column::default();
        let cell = column.cell(&Scalar::of(&value).unwrap().key(), told_type(&value)).unwrap();
        (column, cell)
    }

    #[test]
    fn values_come_back_as_they_were() {
        let number = RunNumber(7);
        for (text, told) in [
            ("null", Some(Told::Null)),
            ("true", Some(Told::Bool(true))),
            ("false", Some(Told::Bool(false))),
            ("1", Some(Told::Integer(1))),
            ("-9007199254740992", Some(Told::Integer(-9_007_199_254_740_992))),
            ("9007199254740993", None),
            ("99999999999999999999", None),
            ("1.0", Some(Told::Float(1.0))),
            ("0.0", Some(Told::Float(0.0))),
            ("-0.0", None),
            ("-1.5e300", Some(Told::Float(-1.5e300))),
            ("-Infinity", Some(Told::Float(f64::NEG_INFINITY))),
            (r#""""#, Some(Told::Text(""))),
            (r#""a\u0000é""#, Some(Told::Text("a\0é"))),
        ] {
            let (mut column, cell) = cell(text);
            column.cells.push((number, cell));
            assert_eq!(column.at(&mut 0, number), told, "{text}");
        }
    }

    #[test]
    fn runs_are_found_in_rising_order() {
        let cells = [3, 5, 9, 12, 12].map(|number| (RunNumber(number), Cell::Integer(number.cast_signed())));
        let column = Column { cells: cells.into(), texts: String::new() };
        let mut from = column.place(RunNumber(4));
        assert_eq!(from, 1);
        let told = [4, 5, 6, 9, 10, 12].map(|number| column.at(&mut from, RunNumber(number)));
        assert_eq!(told, [None, Some(Told::Integer(5)), None, Some(Told::Integer(9)), None, None]);
    }

    #[test]
    fn rows_that_nobody_wrote_are_refused() {
        for (value, told) in [
            (&[][..], &[0][..]),
            (&[NUMBER, 1], &[0]),
            (&[NUMBER, 0, 0, 0, 0, 0, 0, 0, 0], &[7]),
            (&[TEXT, 0xff], &[0]),
            (&[TEXT], &[2]),
            (&[9], &[0]),
        ] {
            assert!(Column::default().cell(value, told).is_none(), "{value:?} {told:?}");
        }
    }
}
