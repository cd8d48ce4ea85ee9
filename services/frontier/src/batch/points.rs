//! Validation of a group of points. In the common case, in which nothing is wrong, it reads
//! each series number once and copies nothing. Of rows, it only reads the range of their series.

use matyan_proto::ingest::v1 as pb;
use matyan_wire::rows;

use super::{Dictionary, Problem, Rejections};

/// Number of items in a group. Series and values differ in length only in a malformed group.
pub(super) fn items(group: &pb::Points) -> usize {
    let values = group.rows.as_ref().map_or(0, rows::value_count);
    values.max(group.series.len()).max(group.values.len())
}

/// Removes bad points; `first` is the number of the group's first item. Returns true if any
/// points are left.
pub(super) fn check(
    dictionary: &Dictionary,
    group: &mut pb::Points,
    first: usize,
    rejections: &mut Rejections,
) -> bool {
    if let Some(rows) = &group.rows {
        if let Some((field, reason)) = rows::mistake(group, rows) {
            rejections.push_many(first, items(group), &Problem::new(field, reason));
            return false;
        }
        // Otherwise many groups that say they have many series, and have no values, would take seconds.
        if rows::value_count(rows) == 0 {
            return false;
        }
        if dictionary.has_range(rows.first_series, rows.series_count) {
            return true;
        }
        // Some of the series are bad.
        *group = rows::plain(group).into_owned();
    }
    if let Err(problem) = columns_check(group) {
        rejections.push_many(first, items(group), &problem);
        return false;
    }
    if dictionary.has_all(&group.series) {
        return !group.values.is_empty();
    }
    let kept: Vec<bool> = group.series.iter().map(|number| dictionary.has(*number)).collect();
    for (at, number) in group.series.iter().enumerate().filter(|(at, _)| !kept[*at]) {
        if rejections.is_full() {
            rejections.count_only();
        } else {
            rejections.push(first + at, &dictionary.problem(*number));
        }
    }
    keep(&mut group.steps, &kept);
    keep(&mut group.epochs, &kept);
    keep(&mut group.times_us, &kept);
    keep(&mut group.values, &kept);
    keep(&mut group.series, &kept);
    !group.values.is_empty()
}

fn columns_check(group: &pb::Points) -> Result<(), Problem> {
    let items = group.values.len();
    let series = group.series.len();
    if series != items {
        return Err(Problem::new("series", format!("has {series} entries for {items} values")));
    }
    let columns =
        [("steps", group.steps.len()), ("epochs", group.epochs.len()), ("times_us", group.times_us.len())];
    match columns.into_iter().find(|(_, len)| ![0, 1, items].contains(len)) {
        Some((field, len)) => Err(Problem::new(
            field,
            format!("has {len} entries for {items} values: send one per value, a single one, or none"),
        )),
        None => Ok(()),
    }
}

/// Keeps the marked points. Columns with a single entry apply to all points and are left as
/// they are.
fn keep<T: Copy>(column: &mut Vec<T>, kept: &[bool]) {
    if column.len() == kept.len() {
        let mut kept = kept.iter();
        column.retain(|_| *kept.next().expect("both have the same length"));
    }
}
