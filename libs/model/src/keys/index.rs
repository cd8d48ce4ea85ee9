//! Keys of the indexes: (p, 4, index, …, run number). The last element of each key is the run
//! number, and so is the tail of each range unless noted otherwise. `crate::index` writes these
//! rows.

use std::{borrow::Cow, ops::Bound};

use foundationdb_tuple::{Bytes as TupleBytes, Element, TuplePack, pack, unpack};
use matyan_store::{Key, Range, Result};

use super::{SeriesKind, Space, corrupt, join_key, subtree};
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
    Parent = 10,
    Binned = 11,
}

fn index<T: TuplePack>(project: Project, index: Index, rest: T) -> Key {
    join_key(pack(&(project.0, Space::Index as u16, index as u16)), rest)
}

/// The run number that ends a key of any index.
pub fn index_run(key: &Key) -> Result<RunNumber> {
    if let Some(number) = trailing_number(key) {
        return Ok(RunNumber(number));
    }
    // The end is ambiguous: decode the whole tuple.
    let elements: Vec<Element<'_>> = unpack(key).map_err(|_| corrupt(key))?;
    match elements.last() {
        Some(Element::Int(number)) => Ok(RunNumber(number.cast_unsigned())),
        _ => Err(corrupt(key)),
    }
}

/// The number at the end of a packed tuple, if it can be found without decoding the tuple,
/// which takes a hundred times as long. A packed number follows a code that gives its length in
/// bytes. If the bytes of a number look like such a code, the end is ambiguous and the result
/// is `None`.
fn trailing_number(key: &[u8]) -> Option<u64> {
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
    // Zero is encoded as the code alone.
    found.filter(|_| key.last() != Some(&ZERO))
}

/// All rows of all indexes.
pub fn indexes(project: Project) -> Range {
    subtree(super::project(project, Space::Index, ()))
}

pub fn index_created(project: Project, created_us: i64, number: RunNumber) -> Key {
    index(project, Index::Created, (created_us, number.0))
}

/// The runs created from `first_us` up to but excluding `end_us`, in that order; the tail is
/// (created: i64, number: u64).
pub fn index_created_between(project: Project, first_us: i64, end_us: i64) -> Range {
    let first = index(project, Index::Created, (first_us,));
    let end = index(project, Index::Created, (end_us,));
    Range::new(first, end)
}

/// Creation time of the run of a key in `index_created_between`.
pub fn decode_index_created(project: Project, key: &Key) -> Result<i64> {
    let (created_us, _number): (i64, u64) = super::tail(&index(project, Index::Created, ()), key)?;
    Ok(created_us)
}

/// The end of the run of a key in `index_ended_between`.
pub fn decode_index_ended(project: Project, key: &Key) -> Result<i64> {
    let (ended_us, _number): (i64, u64) = super::tail(&index(project, Index::Ended, ()), key)?;
    Ok(ended_us)
}

/// The largest possible time is stored as the one before it, so that a range up to `i64::MAX`
/// includes it.
pub fn index_ended(project: Project, ended_us: i64, number: RunNumber) -> Key {
    index(project, Index::Ended, (ended_us.min(i64::MAX - 1), number.0))
}

/// The runs that ended from `first_us` up to but excluding `end_us`.
pub fn index_ended_between(project: Project, first_us: i64, end_us: i64) -> Range {
    let first = index(project, Index::Ended, (first_us,));
    let end = index(project, Index::Ended, (end_us,));
    Range::new(first, end)
}

/// Lists a run in the bin. It has no other rows.
pub fn index_binned(project: Project, binned_us: i64, number: RunNumber) -> Key {
    index(project, Index::Binned, (binned_us, number.0))
}

/// The runs that were moved to the bin before `end_us`, in that order.
pub fn index_binned_before(project: Project, end_us: i64) -> Range {
    let start = index(project, Index::Binned, (i64::MIN,));
    Range::new(start, index(project, Index::Binned, (end_us,)))
}

/// All runs in the bin; the tail is (time: i64, number: u64).
pub fn index_binned_all(project: Project) -> Range {
    subtree(index(project, Index::Binned, ()))
}

/// A name that is too long for a key is cut off.
pub fn index_name(project: Project, name: &str, number: RunNumber) -> Key {
    let name = &name[..name.floor_char_boundary(INDEXED_NAME_BYTES)];
    index(project, Index::Name, (name, number.0))
}

const INDEXED_NAME_BYTES: usize = matyan_proto::limits::NAME_BYTES;

/// Size above which an indexed name may be cut off. A character of four bytes at the limit is
/// dropped whole, which shortens the name by up to three bytes more.
const SHORTEST_CUT: usize = INDEXED_NAME_BYTES - 3;

/// All runs by name; the tail is (name: String, number: u64).
pub fn index_names(project: Project) -> Range {
    subtree(index(project, Index::Name, ()))
}

/// The run of a key in `index_names`, and its name unless that may be cut off.
pub fn decode_index_name(project: Project, key: &Key) -> Result<(RunNumber, Option<String>)> {
    let (name, number): (String, u64) = super::tail(&index(project, Index::Name, ()), key)?;
    Ok((RunNumber(number), Some(name).filter(|name| name.len() < SHORTEST_CUT)))
}

/// The runs whose names are between two bounds. `None` if a bound is so long that it could
/// equal a cut-off name: which runs match would depend on the missing rest of the name.
pub fn index_names_within(project: Project, low: Bound<&str>, high: Bound<&str>) -> Option<Range> {
    if may_be_cut(&low) || may_be_cut(&high) {
        return None;
    }
    let low = low.map(|name| index(project, Index::Name, (name,)));
    let high = high.map(|name| index(project, Index::Name, (name,)));
    Some(clip_range(index_names(project), low, high))
}

fn may_be_cut(name: &Bound<&str>) -> bool {
    match name {
        Bound::Included(name) | Bound::Excluded(name) => name.len() >= SHORTEST_CUT,
        Bound::Unbounded => false,
    }
}

pub fn index_experiment(project: Project, experiment: &str, number: RunNumber) -> Key {
    index(project, Index::Experiment, (experiment, number.0))
}

pub fn index_experiment_all(project: Project, experiment: &str) -> Range {
    subtree(index(project, Index::Experiment, (experiment,)))
}

/// The runs of all experiments; the tail is (experiment id: String, number: u64).
pub fn index_experiments(project: Project) -> Range {
    subtree(index(project, Index::Experiment, ()))
}

/// The run of a key in `index_experiments`, and the id of its experiment.
pub fn decode_index_experiment(project: Project, key: &Key) -> Result<(RunNumber, String)> {
    let (experiment, number): (String, u64) = super::tail(&index(project, Index::Experiment, ()), key)?;
    Ok((RunNumber(number), experiment))
}

pub fn index_tag(project: Project, tag: &str, number: RunNumber) -> Key {
    index(project, Index::Tag, (tag, number.0))
}

pub fn index_tag_all(project: Project, tag: &str) -> Range {
    subtree(index(project, Index::Tag, (tag,)))
}

pub fn index_parent(project: Project, parent: &str, number: RunNumber) -> Key {
    index(project, Index::Parent, (parent, number.0))
}

/// The branches of a run id.
pub fn index_parent_all(project: Project, parent: &str) -> Range {
    subtree(index(project, Index::Parent, (parent,)))
}

/// The runs of all tags; the tail is (tag id: String, number: u64).
pub fn index_tags(project: Project) -> Range {
    subtree(index(project, Index::Tag, ()))
}

/// The run of a key in `index_tags`, and the id of its tag.
pub fn decode_index_tag(project: Project, key: &Key) -> Result<(RunNumber, String)> {
    let (tag, number): (String, u64) = super::tail(&index(project, Index::Tag, ()), key)?;
    Ok((RunNumber(number), tag))
}

pub fn index_archived(project: Project, archived: bool, number: RunNumber) -> Key {
    index(project, Index::Archived, (archived, number.0))
}

pub fn index_archived_all(project: Project, archived: bool) -> Range {
    subtree(index(project, Index::Archived, (archived,)))
}

pub fn index_active(project: Project, active: bool, number: RunNumber) -> Key {
    index(project, Index::Active, (active, number.0))
}

pub fn index_active_all(project: Project, active: bool) -> Range {
    subtree(index(project, Index::Active, (active,)))
}

/// `path` holds the keys from the root of the tree; `value` is the key of an `index::Scalar`.
pub fn index_param(project: Project, path: &[Cow<'_, str>], value: &[u8], number: RunNumber) -> Key {
    index(project, Index::Param, (path, TupleBytes::from(value), number.0))
}

/// The params of all runs; the tail is (path, value: bytes, number: u64).
pub fn index_params(project: Project) -> Range {
    subtree(index(project, Index::Param, ()))
}

/// Every run that has a scalar at this path; the tail is (value: bytes, number: u64).
pub fn index_param_path(project: Project, path: &[Cow<'_, str>]) -> Range {
    subtree(index(project, Index::Param, (path,)))
}

/// The value and the run of a key in `index_param_path`.
pub(crate) fn decode_index_param<'k>(range: &Range, key: &'k Key) -> Result<(TupleBytes<'k>, RunNumber)> {
    let (value, number): (TupleBytes<'k>, u64) = super::tail(&range.start, key)?;
    Ok((value, RunNumber(number)))
}

/// The rows of one path with values from `low` to `high`, both included.
pub fn index_param_between(project: Project, path: &[Cow<'_, str>], low: &[u8], high: &[u8]) -> Range {
    let end = subtree(index(project, Index::Param, (path, TupleBytes::from(high)))).end;
    Range::new(index(project, Index::Param, (path, TupleBytes::from(low))), end)
}

/// The rows of one path with values between two bounds.
pub fn index_param_within(
    project: Project,
    path: &[Cow<'_, str>],
    low: Bound<&[u8]>,
    high: Bound<&[u8]>,
) -> Range {
    let low = low.map(|value| index(project, Index::Param, (path, TupleBytes::from(value))));
    let high = high.map(|value| index(project, Index::Param, (path, TupleBytes::from(value))));
    clip_range(index_param_path(project, path), low, high)
}

/// The part of `all` between two bounds. An excluded lower bound also excludes every key that
/// it is a prefix of.
pub(super) fn clip_range(all: Range, low: Bound<Key>, high: Bound<Key>) -> Range {
    let start = match low {
        Bound::Included(key) => key,
        Bound::Excluded(key) => subtree(key).end,
        Bound::Unbounded => all.start,
    };
    let end = match high {
        Bound::Included(key) => subtree(key).end,
        Bound::Excluded(key) => key,
        Bound::Unbounded => all.end,
    };
    Range::new(start, end)
}

pub fn index_series_name(project: Project, kind: SeriesKind, name: &str, number: RunNumber) -> Key {
    index(project, Index::SeriesName, (kind as u16, name, number.0))
}

pub fn index_series_name_all(project: Project, kind: SeriesKind, name: &str) -> Range {
    subtree(index(project, Index::SeriesName, (kind as u16, name)))
}

/// All series names of a kind; the tail is (name: String, number: u64).
pub fn index_series_names(project: Project, kind: SeriesKind) -> Range {
    subtree(index(project, Index::SeriesName, (kind as u16,)))
}

/// The rows of a kind with names between two bounds.
pub fn index_series_names_within(
    project: Project,
    kind: SeriesKind,
    low: Bound<&str>,
    high: Bound<&str>,
) -> Range {
    let low = low.map(|name| index(project, Index::SeriesName, (kind as u16, name)));
    let high = high.map(|name| index(project, Index::SeriesName, (kind as u16, name)));
    clip_range(index_series_names(project, kind), low, high)
}

/// Lists a run that has params beyond the indexing limits. Every query that uses the param
/// index must add these runs. The value says whether some have no row at all.
pub fn index_partial(project: Project, number: RunNumber) -> Key {
    index(project, Index::Partial, (number.0,))
}

pub fn index_partial_all(project: Project) -> Range {
    subtree(index(project, Index::Partial, ()))
}
