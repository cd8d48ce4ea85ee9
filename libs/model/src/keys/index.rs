//! Keys of the indexes: (p, 4, index, …, run number). The last element of each key is the run number; so is the tail of each
//! range, unless it says otherwise. Who writes these rows, and from what, is in `crate::index`.

use std::{borrow::Cow, ops::Bound};

use foundationdb_tuple::{Bytes as TupleBytes, Element, TuplePack, pack, unpack};
use matyan_store::{Key, Range, Result};

use super::{SeriesKind, Space, below, corrupt, joined};
use crate::ids::{Project, RunNumber};

/// The indexes of a project.
#[derive(Clone, Copy)]
enum Index {
    Experiment = 0,
    Tag = 1,
    Archived = 2,
    Active = 3,
    Param = 4,
    SeriesName = 5,
    Partial = 6,
    Created = 7,
    Name = 8,
    Ended = 9,
}

fn index<T: TuplePack>(project: Project, index: Index, rest: T) -> Key {
    joined(pack(&(project.0, Space::Index as u16, index as u16)), rest)
}

/// The run number that ends a key of any index.
pub fn index_run(key: &Key) -> Result<RunNumber> {
    if let Some(number) = ending_number(key) {
        return Ok(RunNumber(number));
    }
    let elements: Vec<Element<'_>> = unpack(key).map_err(|_| corrupt(key))?;
    match elements.last() {
        Some(Element::Int(number)) => Ok(RunNumber(number.cast_unsigned())),
        _ => Err(corrupt(key)),
    }
}

/// The number that a packed tuple ends with, where only one can: its bytes stand behind a code that counts them. A number
/// may hold bytes that look like such a code; then all of the tuple has to be read, which takes a hundred times as long.
fn ending_number(key: &[u8]) -> Option<u64> {
    const ZERO: u8 = 0x14;
    let mut found = None;
    for count in 1..=size_of::<u64>() {
        let (rest, number) = key.split_at_checked(key.len().checked_sub(count)?)?;
        if *rest.last()? == ZERO + count as u8 {
            if found.is_some() {
                return None;
            }
            found = Some(number.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        }
    }
    // The number zero is its code alone.
    found.filter(|_| key.last() != Some(&ZERO))
}

/// Every row of every index.
pub fn indexes(project: Project) -> Range {
    below(super::project(project, Space::Index, ()))
}

pub fn index_created(project: Project, created_us: i64, number: RunNumber) -> Key {
    index(project, Index::Created, (created_us, number.0))
}

/// The runs created from `first_us` up to and without `end_us`, in that order; the tail is (created: i64, number: u64).
pub fn index_created_between(project: Project, first_us: i64, end_us: i64) -> Range {
    let bound = |time_us| index(project, Index::Created, (time_us,));
    Range::new(bound(first_us), bound(end_us))
}

/// When the run of a key of `index_created_between` was created.
pub fn index_created_of(project: Project, key: &Key) -> Result<i64> {
    let (created_us, _number): (i64, u64) = super::tail(&index(project, Index::Created, ()), key)?;
    Ok(created_us)
}

/// The last moment of all stands with the one before it, so that a range without an end has it.
pub fn index_ended(project: Project, ended_us: i64, number: RunNumber) -> Key {
    index(project, Index::Ended, (ended_us.min(i64::MAX - 1), number.0))
}

/// The runs that ended from `first_us` up to and without `end_us`.
pub fn index_ended_between(project: Project, first_us: i64, end_us: i64) -> Range {
    let bound = |time_us| index(project, Index::Ended, (time_us,));
    Range::new(bound(first_us), bound(end_us))
}

/// A name that is too long for a key stands by its beginning.
pub fn index_name(project: Project, name: &str, number: RunNumber) -> Key {
    let name = &name[..name.floor_char_boundary(INDEXED_NAME_BYTES)];
    index(project, Index::Name, (name, number.0))
}

const INDEXED_NAME_BYTES: usize = matyan_proto::limits::NAME_BYTES;

/// The runs whose names lie between two bounds. None where a bound is as long as what stands of a long name: the rest of that
/// one decides then, and is not there.
pub fn index_names_within(project: Project, low: Bound<&str>, high: Bound<&str>) -> Option<Range> {
    // Before a character of four bytes a name may have been cut this much shorter.
    const SHORTEST_CUT: usize = INDEXED_NAME_BYTES - 3;
    let is_long = |bound: &Bound<&str>| match bound {
        Bound::Included(name) | Bound::Excluded(name) => name.len() >= SHORTEST_CUT,
        Bound::Unbounded => false,
    };
    if is_long(&low) || is_long(&high) {
        return None;
    }
    let name = |name: &str| index(project, Index::Name, (name,));
    Some(within(below(index(project, Index::Name, ())), low.map(name), high.map(name)))
}

pub fn index_experiment(project: Project, experiment: &str, number: RunNumber) -> Key {
    index(project, Index::Experiment, (experiment, number.0))
}

pub fn index_experiment_all(project: Project, experiment: &str) -> Range {
    below(index(project, Index::Experiment, (experiment,)))
}

pub fn index_tag(project: Project, tag: &str, number: RunNumber) -> Key {
    index(project, Index::Tag, (tag, number.0))
}

pub fn index_tag_all(project: Project, tag: &str) -> Range {
    below(index(project, Index::Tag, (tag,)))
}

pub fn index_archived(project: Project, archived: bool, number: RunNumber) -> Key {
    index(project, Index::Archived, (archived, number.0))
}

pub fn index_archived_all(project: Project, archived: bool) -> Range {
    below(index(project, Index::Archived, (archived,)))
}

pub fn index_active(project: Project, active: bool, number: RunNumber) -> Key {
    index(project, Index::Active, (active, number.0))
}

pub fn index_active_all(project: Project, active: bool) -> Range {
    below(index(project, Index::Active, (active,)))
}

/// `path` holds the keys from the root of the tree; `value` orders as `index::IndexedValue` says.
pub fn index_param(project: Project, path: &[Cow<'_, str>], value: &[u8], number: RunNumber) -> Key {
    index(project, Index::Param, (path, TupleBytes::from(value), number.0))
}

/// Every run that has a scalar at this path; the tail is (value: bytes, number: u64).
pub fn index_param_path(project: Project, path: &[Cow<'_, str>]) -> Range {
    below(index(project, Index::Param, (path,)))
}

/// The value and the run of a key of `index_param_path`.
pub(crate) fn index_param_of<'k>(range: &Range, key: &'k Key) -> Result<(TupleBytes<'k>, RunNumber)> {
    let (value, number): (TupleBytes<'k>, u64) = super::tail(&range.start, key)?;
    Ok((value, RunNumber(number)))
}

/// The rows of one path whose values lie from `low` up to and with `high`.
pub fn index_param_between(project: Project, path: &[Cow<'_, str>], low: &[u8], high: &[u8]) -> Range {
    let end = below(index(project, Index::Param, (path, TupleBytes::from(high)))).end;
    Range::new(index(project, Index::Param, (path, TupleBytes::from(low))), end)
}

/// The rows of one path whose values lie between two bounds.
pub fn index_param_within(
    project: Project,
    path: &[Cow<'_, str>],
    low: Bound<&[u8]>,
    high: Bound<&[u8]>,
) -> Range {
    let value = |value: &[u8]| index(project, Index::Param, (path, TupleBytes::from(value)));
    within(index_param_path(project, path), low.map(value), high.map(value))
}

/// From one bound to the other inside of `all`; every key below an excluded low one is left out with it.
fn within(all: Range, low: Bound<Key>, high: Bound<Key>) -> Range {
    let start = match low {
        Bound::Included(key) => key,
        Bound::Excluded(key) => below(key).end,
        Bound::Unbounded => all.start,
    };
    let end = match high {
        Bound::Included(key) => below(key).end,
        Bound::Excluded(key) => key,
        Bound::Unbounded => all.end,
    };
    Range::new(start, end)
}

pub fn index_series_name(project: Project, kind: SeriesKind, name: &str, number: RunNumber) -> Key {
    index(project, Index::SeriesName, (kind as u16, name, number.0))
}

pub fn index_series_name_all(project: Project, kind: SeriesKind, name: &str) -> Range {
    below(index(project, Index::SeriesName, (kind as u16, name)))
}

/// All names of a kind; the tail is (name: String, number: u64).
pub fn index_series_names(project: Project, kind: SeriesKind) -> Range {
    below(index(project, Index::SeriesName, (kind as u16,)))
}

/// The rows of a kind whose names lie between two bounds.
pub fn index_series_names_within(
    project: Project,
    kind: SeriesKind,
    low: Bound<&str>,
    high: Bound<&str>,
) -> Range {
    let name = |name: &str| index(project, Index::SeriesName, (kind as u16, name));
    within(index_series_names(project, kind), low.map(name), high.map(name))
}

/// Runs with more params than are indexed: every plan that uses the param index adds them.
pub fn index_partial(project: Project, number: RunNumber) -> Key {
    index(project, Index::Partial, (number.0,))
}

pub fn index_partial_all(project: Project) -> Range {
    below(index(project, Index::Partial, ()))
}
