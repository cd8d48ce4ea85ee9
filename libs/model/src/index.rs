//! Index rows, by which runs are found. They follow from the document alone, so updating them
//! after a change means writing the difference between two sets of rows. An index proposes and
//! the document decides: an index scan may return rows of dead runs, or values that differ only
//! beyond the precision of a float.
//!
//! Params are in columns instead, see `param_cohort`. Runs of stores of formats up to 6 may still have a row of
//! each param.

mod column;
mod encoded;
mod link_count;
mod repair;

pub(crate) use column::decode_param_row;
pub use column::{IndexColumn, IndexedValue};
pub(crate) use encoded::{EncodedParams, KEY_END};
pub use link_count::{CounterRepair, LinkCount};
pub use repair::{DocumentRows, IndexSums, RepairedRun, stale_rows_clear};

use std::{borrow::Cow, collections::BTreeMap};

use matyan_proto::limits;
use matyan_store::{Batch, Key, Page, Range, Result, Scan, Snapshot, Value as Bytes};

use crate::{
    ids::{Project, RunId, RunNumber},
    keys,
    params::{self, IndexedParam},
    run::{Document, Props, params_get, run_id_get},
};
use matyan_value::{MAX_DEPTH, Map, Value};

/// Maximum number of indexed scalars per run. Runs with more are listed as not fully indexed.
pub const MAX_PARAMS: usize = limits::INDEXED_PARAMS;
/// Maximum size of an indexed string, in bytes.
pub const MAX_TEXT_BYTES: usize = limits::INDEXED_PARAM_BYTES;
/// Maximum size of an indexed path, in bytes. It leaves room for the value within the store's
/// key size limit.
const MAX_PATH_BYTES: usize = 4_096;
/// Maximum size of the keys of all param rows of a run. A transaction counts each key three to
/// four times, and it may clear all old rows and set all new ones.
const MAX_ROWS_BYTES: usize = 512 << 10;

/// A scalar in the form in which index keys hold it. Numbers compare as in Python: 1, 1.0, and
/// true are the same value. Integers beyond 2^53 are rounded to the nearest float.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar<'a> {
    Null,
    Number(f64),
    Text(&'a str),
}

const NULL: u8 = 0;
const NUMBER: u8 = 1;
const TEXT: u8 = 2;
/// The whole key of a text that is too long to index.
const LONG_TEXT: u8 = 3;

impl<'a> Scalar<'a> {
    /// Returns `None` for values that are not indexed: maps, lists, bytes, and NaN.
    pub fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::Null),
            Value::Bool(bool) => Some(Self::Number(f64::from(u8::from(*bool)))),
            Value::Integer(integer) => Some(Self::Number(*integer as f64)),
            Value::Big(big) => Some(Self::Number(big.to_f64())),
            Value::Float(float) => (!float.is_nan()).then_some(Self::Number(*float)),
            Value::Text(text) => Some(Self::Text(text)),
            Value::Bytes(_) | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Bytes that sort in the same order as the scalars: null, then numbers, then strings.
    pub fn key(&self) -> Vec<u8> {
        match self {
            Self::Null => vec![NULL],
            Self::Number(number) => {
                // Adding 0.0 turns -0.0 into 0.0. The bits of negative floats sort in reverse, so
                // they are inverted; the bits of other floats are moved above them.
                let bits = (number + 0.0).to_bits();
                let ordered = if bits >> 63 == 1 { !bits } else { bits | (1 << 63) };
                [&[NUMBER], ordered.to_be_bytes().as_slice()].concat()
            }
            Self::Text(text) => [&[TEXT], text.as_bytes()].concat(),
        }
    }
}

/// Index rows by key. Param rows have a value, the type of the param, and so have the rows of partially
/// indexed runs.
pub(crate) type IndexRows = BTreeMap<Key, &'static [u8]>;

/// Whether params at this path have index rows. A longer or deeper path may not fit in a key.
pub fn is_indexed_path<K: AsRef<str>>(path: &[K]) -> bool {
    path.len() <= MAX_DEPTH && path.iter().map(|key| key.as_ref().len()).sum::<usize>() <= MAX_PATH_BYTES
}

/// The keys of the lowest and the highest number, for ranges with an open end.
pub fn number_bounds() -> (Vec<u8>, Vec<u8>) {
    (Scalar::Number(f64::NEG_INFINITY).key(), Scalar::Number(f64::INFINITY).key())
}

/// The keys before the first and after the last text, for ranges with an open end.
pub fn text_bounds() -> (Vec<u8>, Vec<u8>) {
    (vec![TEXT], vec![TEXT + 1])
}

/// Index rows of everything but the params. A run that is pending deletion has none, and a run in the bin
/// only its place there, so that counting other index rows counts visible runs only.
/// `parent` is the id of the parent.
pub(crate) fn props_rows(
    project: Project,
    number: RunNumber,
    props: &Props,
    parent: Option<&RunId>,
) -> IndexRows {
    if props.pending_delete {
        let binned = props.binned_us.map(|binned_us| keys::index_binned(project, binned_us, number));
        return binned.into_iter().map(|key| (key, EMPTY)).collect();
    }
    let mut rows = vec![
        keys::index_created(project, props.created_us, number),
        keys::index_archived(project, props.archived, number),
        keys::index_active(project, props.active, number),
        keys::index_name(project, &props.name, number),
    ];
    let ended_us = props.ended_us().filter(|_| !props.active);
    rows.extend(ended_us.map(|ended_us| keys::index_ended(project, ended_us, number)));
    rows.extend(props.experiment.iter().map(|id| keys::index_experiment(project, id, number)));
    rows.extend(props.tags.iter().map(|id| keys::index_tag(project, id, number)));
    let parent = parent.filter(|_| props.parent.is_some());
    rows.extend(parent.map(|id| keys::index_parent(project, id.as_str(), number)));
    rows.into_iter().map(|key| (key, EMPTY)).collect()
}

const EMPTY: &[u8] = &[];

/// The value of the row of a partially indexed run whose params all have a row: only the values of long
/// texts are missing.
const VALUES_MISSING: &[u8] = &[1];

/// The parts of the params of a run that indexes lack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexGaps {
    /// Some scalars are beyond the limits.
    pub(crate) rows: bool,
    /// The values of long texts.
    pub(crate) values: bool,
}

/// Visits the scalars of params that indexes have, in the order of their paths, up to the limits.
pub(crate) fn indexed_params<'t>(
    tree: &'t Map,
    visit: &mut dyn FnMut(&[Cow<'t, str>], IndexedParam<'t>),
) -> IndexGaps {
    let mut gaps = IndexGaps::default();
    let mut count = 0;
    let mut bytes = 0;
    params::scalars(tree, &mut |path, value| {
        let Some(param) = IndexedParam::of(value, MAX_TEXT_BYTES) else { return };
        if count >= MAX_PARAMS || bytes >= MAX_ROWS_BYTES || !is_indexed_path(path) {
            gaps.rows = true;
            return;
        }
        gaps.values |= param == IndexedParam::LongText;
        count += 1;
        bytes += path.iter().map(|key| key.len()).sum::<usize>() + param.text_bytes();
        visit(path, param);
    });
    gaps
}

/// The index row of a run that is partially indexed, if it is.
pub(crate) fn partial_row(project: Project, number: RunNumber, tree: &Map) -> IndexRows {
    partial_row_of(project, number, indexed_params(tree, &mut |_, _| {})).into_iter().collect()
}

fn partial_row_of(project: Project, number: RunNumber, gaps: IndexGaps) -> Option<(Key, &'static [u8])> {
    let value = if gaps.rows { EMPTY } else { VALUES_MISSING };
    (gaps.rows || gaps.values).then(|| (keys::index_partial(project, number), value))
}

/// Index rows of the params, in the order of their paths, up to the limits, as in stores of formats up to 6.
/// A text that is too long has a row without its value.
pub(crate) fn params_rows(project: Project, number: RunNumber, tree: &Map) -> IndexRows {
    let mut rows = IndexRows::new();
    let mut bytes = 0;
    let mut rows_missing = false;
    let mut values_missing = false;
    params::scalars(tree, &mut |path, value| {
        let Some(scalar) = Scalar::from_value(value) else { return };
        if rows.len() >= MAX_PARAMS || bytes >= MAX_ROWS_BYTES || !is_indexed_path(path) {
            rows_missing = true;
            return;
        }
        let is_long = matches!(scalar, Scalar::Text(text) if text.len() > MAX_TEXT_BYTES);
        let (value_key, value) =
            if is_long { (vec![LONG_TEXT], EMPTY) } else { (scalar.key(), column::value_type(value)) };
        values_missing |= is_long;
        let key = keys::index_param(project, path, &value_key, number);
        bytes += key.len();
        rows.insert(key, value);
    });
    rows.extend(partial_row_of(project, number, IndexGaps { rows: rows_missing, values: values_missing }));
    rows
}

/// Writes the difference between two sets of rows.
pub(crate) fn write_difference(batch: &mut Batch, before: &IndexRows, after: &IndexRows) {
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        batch.clear(key.clone());
    }
    for (key, value) in after.iter().filter(|(key, value)| before.get(*key) != Some(value)) {
        batch.set(key.clone(), *value);
    }
}

/// The index rows that the document of a run calls for.
pub struct DocumentIndex(IndexRows);

impl DocumentIndex {
    pub async fn of_run(
        snapshot: &dyn Snapshot,
        project: Project,
        number: RunNumber,
        document: &Document,
    ) -> Result<Self> {
        let tree = params_get(snapshot, project, number, document).await?;
        let mut index = Self::without_params(snapshot, project, number, document).await?;
        index.0.extend(params_rows(project, number, &tree));
        Ok(index)
    }

    /// The rows of everything but the params, which may be large.
    pub async fn without_params(
        snapshot: &dyn Snapshot,
        project: Project,
        number: RunNumber,
        document: &Document,
    ) -> Result<Self> {
        let parent = match document.props.parent {
            Some(parent) => run_id_get(snapshot, project, RunNumber(parent.number)).await?,
            None => None,
        };
        Ok(Self(props_rows(project, number, &document.props, parent.as_ref())))
    }

    pub fn has_row_in(&self, range: &Range) -> bool {
        self.0.range::<Key, _>(&range.start..&range.end).next().is_some()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Size of the keys of all rows.
    pub fn key_bytes(&self) -> usize {
        self.0.keys().map(Key::len).sum()
    }
}

/// Whether the index of a range has any row.
pub async fn index_has_row(snapshot: &dyn Snapshot, range: &Range) -> Result<bool> {
    let scan = Scan { rows: 1, keys_only: true, ..Scan::DEFAULT };
    Ok(!snapshot.scan(range, scan).await?.rows.is_empty())
}

/// Counts the rows of one page of an index. Also returns the range of the rest.
pub async fn index_page_count(
    snapshot: &dyn Snapshot,
    range: &Range,
    rows: usize,
) -> Result<(usize, Option<Range>)> {
    let (rows, rest) = index_page(snapshot, range, rows).await?;
    Ok((rows.len(), rest))
}

/// One page of an index, and the range of the rest.
pub(crate) async fn index_page(
    snapshot: &dyn Snapshot,
    range: &Range,
    rows: usize,
) -> Result<(Vec<(Key, Bytes)>, Option<Range>)> {
    let Page { rows, more } = snapshot.scan(range, Scan { rows, ..Scan::default() }).await?;
    let rest = rows.last().filter(|_| more).map(|(key, _)| range.after(key));
    Ok((rows, rest))
}

/// One page of the run numbers that an index range proposes, in key order, and the range of the
/// rest. The last element of each key is the run number.
pub async fn index_runs_page(
    snapshot: &dyn Snapshot,
    range: &Range,
    rows: usize,
) -> Result<(Vec<RunNumber>, Option<Range>)> {
    let (rows, rest) = index_page(snapshot, range, rows).await?;
    Ok((index_rows_runs(&rows)?, rest))
}

/// One page of the partially indexed runs that have params without a row, and the range of the rest.
pub async fn index_rowless_page(
    snapshot: &dyn Snapshot,
    range: &Range,
    rows: usize,
) -> Result<(Vec<RunNumber>, Option<Range>)> {
    let (rows, rest) = index_page(snapshot, range, rows).await?;
    let rowless = rows.iter().filter(|(_, value)| **value != *VALUES_MISSING);
    Ok((rowless.map(|(key, _)| keys::index_run(key)).collect::<Result<_>>()?, rest))
}

/// Like `index_runs_page`, but from the end of the range, for example to list the newest runs of
/// a tag first.
pub async fn index_runs_page_reverse(
    snapshot: &dyn Snapshot,
    range: &Range,
    rows: usize,
) -> Result<(Vec<RunNumber>, Option<Range>)> {
    let Page { rows, more } = snapshot.scan(range, Scan { rows, reverse: true, ..Scan::default() }).await?;
    let rest = rows.last().filter(|_| more).map(|(key, _)| range.before(key));
    Ok((index_rows_runs(&rows)?, rest))
}

/// The run numbers listed by index rows.
pub fn index_rows_runs(rows: &[(Key, Bytes)]) -> Result<Vec<RunNumber>> {
    rows.iter().map(|(key, _)| keys::index_run(key)).collect()
}

#[cfg(test)]
mod tests;
