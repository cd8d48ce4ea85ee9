//! The columns of a group of points. A column has a value for each point, one for all, or none.

use std::ops::Range;

use matyan_model::series::ABSENT;
use matyan_proto::ingest::v1::Points;

/// The value of a column at a point; `absent` also means none.
pub(super) fn column(values: &[i64], at: usize, absent: i64) -> Option<i64> {
    let value = match values {
        [] => return None,
        [one] => *one,
        values => values[at],
    };
    (value != absent).then_some(value)
}

/// Appends the values of a range to a full column.
pub(super) fn extend(column: &mut Vec<i64>, values: &[i64], range: Range<usize>, absent: i64) {
    match values {
        [] => column.extend(std::iter::repeat_n(absent, range.len())),
        [one] => column.extend(std::iter::repeat_n(*one, range.len())),
        values => column.extend_from_slice(&values[range]),
    }
}

/// Whether a point of the range has no step.
pub(super) fn has_open_steps(group: &Points, range: Range<usize>) -> bool {
    match &group.steps[..] {
        [] => true,
        [one] => *one == ABSENT,
        steps => steps[range].contains(&ABSENT),
    }
}

/// Explains which column does not have as many values as there are points, if one does not.
pub(super) fn malformed(group: &Points) -> Option<String> {
    let count = group.series.len();
    if group.values.len() != count {
        return Some(format!("column `values` has {} values for {count} points", group.values.len()));
    }
    let columns = [("steps", &group.steps), ("epochs", &group.epochs), ("times_us", &group.times_us)];
    let wrong = columns.into_iter().find(|(_, column)| column.len() > 1 && column.len() != count);
    wrong.map(|(name, column)| format!("column `{name}` has {} values for {count} points", column.len()))
}

/// The points of a range. A column with a single value applies to all points and is kept as it
/// is.
pub(super) fn slice(group: &Points, range: Range<usize>) -> Points {
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_full_single_or_empty() {
        assert_eq!(column(&[], 3, ABSENT), None);
        assert_eq!(column(&[5], 3, ABSENT), Some(5));
        assert_eq!(column(&[1, ABSENT], 1, ABSENT), None);
        let mut extended = Vec::new();
        extend(&mut extended, &[], 0..2, 9);
        extend(&mut extended, &[1], 0..2, 9);
        extend(&mut extended, &[1, 2, 3], 1..3, 9);
        assert_eq!(extended, [9, 9, 1, 1, 2, 3]);
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
