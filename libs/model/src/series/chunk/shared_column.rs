//! Columns that the chunks of several series share. Metrics that are logged together have the same steps, epochs and
//! times, and are folded one after another, and compressing a column takes a hundred times as long as comparing it.

use std::cell::RefCell;

use super::super::column::ColumnUse;

/// Lengths of the columns that are kept: shorter ones are not compressed, and longer ones take too much memory.
const SHORTEST: usize = 64;
const LONGEST: usize = 4 * 1024;

/// A column of points, apart from their values.
#[derive(Clone, Copy, Debug)]
pub(super) enum StampColumn {
    Steps,
    Epochs,
    Times,
}

/// A column as it was encoded last.
#[derive(Default)]
struct EncodedColumn {
    values: Vec<i64>,
    /// Absent: no column.
    column_use: Option<ColumnUse>,
    bytes: Vec<u8>,
}

thread_local! {
    static LAST: RefCell<[EncodedColumn; 3]> = RefCell::default();
}

/// Appends what `encode` writes for these values, which may be known from the last series.
pub(super) fn put_shared(
    out: &mut Vec<u8>,
    column: StampColumn,
    values: &[i64],
    column_use: ColumnUse,
    encode: impl Fn(&mut Vec<u8>, &[i64], ColumnUse),
) {
    if !(SHORTEST..=LONGEST).contains(&values.len()) {
        return encode(out, values, column_use);
    }
    LAST.with_borrow_mut(|last| {
        let last = &mut last[column as usize];
        if last.column_use != Some(column_use) || last.values != values {
            last.column_use = None;
            last.bytes.clear();
            encode(&mut last.bytes, values, column_use);
            last.values.clear();
            last.values.extend_from_slice(values);
            last.column_use = Some(column_use);
        }
        out.extend_from_slice(&last.bytes);
    });
}

#[cfg(test)]
mod tests {
    use super::super::super::column::{put_integer_column, put_optional_column};
    use super::*;
    use crate::series::ABSENT;

    #[test]
    fn columns_are_encoded_as_if_they_were_not_shared() {
        let times: Vec<i64> = (0..1_000).map(|at| at * 1_000 + at * at % 77).collect();
        let other: Vec<i64> = times.iter().map(|time| time + 1).collect();
        let absent = vec![ABSENT; 1_000];
        let long: Vec<i64> = times.repeat(5);
        let columns =
            [&times[..], &times[..], &other[..], &times[..63], &times[..64], &absent[..], &long[..]];
        for column_use in [ColumnUse::Kept, ColumnUse::Merged, ColumnUse::Kept] {
            for values in columns.iter().chain(&columns) {
                for column in [StampColumn::Steps, StampColumn::Epochs, StampColumn::Times] {
                    let put = if matches!(column, StampColumn::Steps) {
                        put_integer_column
                    } else {
                        put_optional_column
                    };
                    let mut expected = vec![7];
                    put(&mut expected, values, column_use);
                    let mut found = vec![7];
                    put_shared(&mut found, column, values, column_use, put);
                    assert_eq!(found, expected, "{column:?}");
                }
            }
        }
    }
}
