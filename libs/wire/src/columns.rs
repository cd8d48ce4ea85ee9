//! The columns of a group of points: steps, epochs and times. A column has an entry for each point,
//! one entry for all points, or no entry. `ABSENT` as an entry means that a point has none.

use std::ops::Range;

use matyan_proto::{ABSENT, ingest::v1::Points};

use crate::rows;

/// Returns the entry for a point.
///
/// ```
/// use matyan_proto::ABSENT;
/// use matyan_wire::columns::entry;
///
/// assert_eq!(entry(&[], 3), None);
/// assert_eq!(entry(&[5], 3), Some(5));
/// assert_eq!(entry(&[1, ABSENT], 1), None);
/// ```
#[inline]
pub fn entry(column: &[i64], at: usize) -> Option<i64> {
    let entry = if column.len() == 1 { column.first() } else { column.get(at) };
    entry.copied().filter(|entry| *entry != ABSENT)
}

/// Appends the entries for a range of points to a column with an entry for each point. `otherwise`
/// is the entry for points of a column without entries.
pub fn extend(full: &mut Vec<i64>, column: &[i64], range: Range<usize>, otherwise: i64) {
    match column {
        [] => full.extend(std::iter::repeat_n(otherwise, range.len())),
        [one] => full.extend(std::iter::repeat_n(*one, range.len())),
        entries => full.extend_from_slice(&entries[range]),
    }
}

/// Shortens a column of equal entries: to one entry, or to none if no point has an entry.
pub fn shorten(column: &mut Vec<i64>) {
    let Some(first) = column.first().copied() else { return };
    if column.iter().all(|entry| *entry == first) {
        column.truncate(usize::from(first != ABSENT));
    }
}

/// Returns whether a point of the range has no step. The group has no rows.
pub fn has_open_steps(group: &Points, range: Range<usize>) -> bool {
    match &group.steps[..] {
        [] => true,
        [one] => *one == ABSENT,
        steps => steps[range].contains(&ABSENT),
    }
}

/// Returns which column does not have as many entries as there are points, if there is such a column.
pub fn malformed(group: &Points) -> Option<String> {
    if let Some(rows) = &group.rows {
        return rows::mistake(group, rows).map(|(field, reason)| format!("`{field}` {reason}"));
    }
    let count = group.series.len();
    if group.values.len() != count {
        return Some(format!("column `values` has {} values for {count} points", group.values.len()));
    }
    let columns = [("steps", &group.steps), ("epochs", &group.epochs), ("times_us", &group.times_us)];
    let wrong = columns.into_iter().find(|(_, column)| column.len() > 1 && column.len() != count);
    wrong.map(|(name, column)| format!("column `{name}` has {} values for {count} points", column.len()))
}

/// Returns the points of a range, without rows. A column with one entry for all points is kept.
pub fn slice(group: &Points, range: Range<usize>) -> Points {
    if let Some(rows) = &group.rows {
        return rows::slice(group, rows, range);
    }
    let count = group.series.len();
    let cut = |column: &Vec<i64>| {
        if column.len() == count { column[range.clone()].to_vec() } else { column.clone() }
    };
    Points {
        series: group.series[range.clone()].to_vec(),
        values: group.values.get(range.clone()).unwrap_or(&group.values).to_vec(),
        steps: cut(&group.steps),
        epochs: cut(&group.epochs),
        times_us: cut(&group.times_us),
        rows: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_full_single_or_empty() {
        assert_eq!(entry(&[], 3), None);
        assert_eq!(entry(&[5], 3), Some(5));
        assert_eq!(entry(&[1, ABSENT], 1), None);
        let mut extended = Vec::new();
        extend(&mut extended, &[], 0..2, 9);
        extend(&mut extended, &[1], 0..2, 9);
        extend(&mut extended, &[1, 2, 3], 1..3, 9);
        assert_eq!(extended, [9, 9, 1, 1, 2, 3]);
    }

    #[test]
    fn columns_of_equal_entries_are_shortened() {
        for (column, expected) in
            [(vec![], &[][..]), (vec![7, 7], &[7]), (vec![ABSENT; 3], &[]), (vec![7, ABSENT], &[7, ABSENT])]
        {
            let mut shortened = column.clone();
            shorten(&mut shortened);
            assert_eq!(shortened, expected, "{column:?}");
        }
    }

    #[test]
    fn columns_of_different_lengths_are_reported() {
        let good = Points { series: vec![0, 0], values: vec![1.0, 2.0], steps: vec![7], ..Points::default() };
        assert_eq!(malformed(&good), None);
        let steps = Points { steps: vec![1, 2, 3], ..good.clone() };
        assert_eq!(malformed(&steps).unwrap(), "column `steps` has 3 values for 2 points");
        let values = Points { values: vec![1.0], ..good };
        assert_eq!(malformed(&values).unwrap(), "column `values` has 1 values for 2 points");
    }
}
