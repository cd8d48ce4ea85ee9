//! Repair of indexes. Index rows follow from the documents, so they can be rebuilt at any time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::RandomState},
    hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _},
    ops::RangeInclusive,
};

use matyan_store::{Key, Range, Result, Scan, Snapshot, Transaction};

use super::{EMPTY, IndexRows, index_page, params_rows, partial_row, props_rows};
use crate::{
    ids::{Project, RunNumber},
    keys::{self, CohortKind, SeriesKind},
    rows,
    run::{RunEdit, run_id_get, staged_get},
    uncollected::UncollectedList,
};

/// Compares the index rows of many runs with the rows that their documents call for, in one scan of
/// the index: adds up the hashes of both kinds of rows for each run. If the sums differ, so do the
/// rows.
pub struct IndexSums {
    /// The runs that are compared. Others are ignored.
    runs: RangeInclusive<RunNumber>,
    hasher: RandomState,
    /// Sorted by run: the sum of the rows that it should have, minus the sum of the rows that it
    /// has.
    sums: Vec<(RunNumber, u64)>,
    /// Runs whose documents cannot be read.
    damaged: BTreeSet<RunNumber>,
}

/// Number of runs that are compared at once: their sums take 16 MB.
const COMPARED: usize = 1 << 20;

impl IndexSums {
    /// Starts a comparison of the runs from this number on.
    pub fn new(first: RunNumber) -> Self {
        Self {
            runs: first..=RunNumber(u64::MAX),
            hasher: RandomState::new(),
            sums: Vec::new(),
            damaged: BTreeSet::new(),
        }
    }

    /// Whether the runs so far must be compared before more are added.
    pub fn is_full(&self) -> bool {
        self.sums.len() >= COMPARED
    }

    /// Ends the comparison with the last run that was added or left out. Returns the number from which the
    /// next comparison starts.
    pub fn end(&mut self) -> RunNumber {
        let added = self.sums.last().map(|(last, _)| *last);
        let last = added.max(self.damaged.last().copied()).unwrap_or(*self.runs.end());
        self.runs = *self.runs.start()..=last;
        RunNumber(last.0.saturating_add(1))
    }

    /// Leaves out a run whose document is damaged.
    pub fn skip(&mut self, number: RunNumber) {
        self.damaged.insert(number);
    }

    /// Adds the rows that the document of a run calls for. Runs are added in ascending order. Returns `false`
    /// if the run is damaged.
    pub async fn expect(
        &mut self,
        transaction: &Transaction,
        project: Project,
        number: RunNumber,
    ) -> Result<bool> {
        let Some(expected) = rows::readable(expected_rows(transaction, project, number).await)? else {
            self.skip(number);
            return Ok(false);
        };
        if let Some(expected) = expected {
            let sum =
                expected.iter().fold(0_u64, |sum, (key, value)| sum.wrapping_add(self.hash(key, value)));
            self.sums.push((number, sum));
        }
        Ok(true)
    }

    /// Subtracts one page of index rows. Returns the rows of missing runs, and the range of the
    /// rest.
    pub async fn subtract(
        &mut self,
        snapshot: &dyn Snapshot,
        range: &Range,
        count: usize,
    ) -> Result<(Vec<Key>, Option<Range>)> {
        let (rows, rest) = index_page(snapshot, range, count).await?;
        let mut stale = Vec::new();
        for (key, value) in rows {
            let number = keys::index_run(&key)?;
            if let Ok(at) = self.sums.binary_search_by_key(&number, |(number, _)| *number) {
                let hash = self.hash(&key, &value);
                let (_, sum) = &mut self.sums[at];
                *sum = sum.wrapping_sub(hash);
            } else if self.runs.contains(&number) && !self.damaged.contains(&number) {
                stale.push(key);
            }
        }
        Ok((stale, rest))
    }

    /// The runs that have other rows than they should have.
    pub fn differing(&self) -> Vec<RunNumber> {
        self.sums.iter().filter(|(_, sum)| *sum != 0).map(|(number, _)| *number).collect()
    }

    /// Adds the rows of a run that are missing or wrong.
    pub async fn repair(
        &self,
        transaction: &mut Transaction,
        project: Project,
        number: RunNumber,
    ) -> Result<RepairedRun> {
        let at = self.sums.binary_search_by_key(&number, |(number, _)| *number);
        let mut difference = at.map_or(0, |at| self.sums[at].1);
        let Some(expected) = expected_rows(transaction, project, number).await? else {
            return Ok(RepairedRun { rows: 0, has_stale: difference != 0 });
        };
        let (keys, values): (Vec<Key>, Vec<&[u8]>) = expected.into_iter().unzip();
        let found = transaction.unchecked().get_many(&keys).await?;
        let mut rows = 0;
        for ((key, value), found) in keys.into_iter().zip(values).zip(found) {
            if found.as_deref() == Some(value) {
                continue;
            }
            let replaced = found.map_or(0, |found| self.hash(&key, &found));
            difference = difference.wrapping_sub(self.hash(&key, value)).wrapping_add(replaced);
            transaction.batch().set(key, value);
            rows += 1;
        }
        Ok(RepairedRun { rows, has_stale: difference != 0 })
    }

    fn hash(&self, key: &Key, value: &[u8]) -> u64 {
        self.hasher.hash_one((key, value))
    }
}

/// Result of adding the missing rows of a run.
pub struct RepairedRun {
    /// Number of rows that were written.
    pub rows: usize,
    /// Whether it may have other rows, which its document does not call for.
    pub has_stale: bool,
}

const SERIES: [SeriesKind; 2] = [SeriesKind::Metric, SeriesKind::Object];

/// All index rows that a run should have, if it exists.
async fn expected_rows(
    transaction: &Transaction,
    project: Project,
    number: RunNumber,
) -> Result<Option<IndexRows>> {
    let Some(mut expected) = document_rows(transaction, project, number).await? else { return Ok(None) };
    for kind in SERIES {
        let range = keys::series_names(project, number, kind);
        for (key, _) in rows::scan_all(transaction.unchecked(), &range).await? {
            let name = keys::decode_series_name(&range, &key)?;
            expected.insert(keys::index_series_name(project, kind, &name, number), EMPTY);
        }
    }
    Ok(Some(expected))
}

/// The index rows that follow from the document and the params of a run, if it exists. The
/// transaction fails if they change.
async fn document_rows(
    transaction: &Transaction,
    project: Project,
    number: RunNumber,
) -> Result<Option<IndexRows>> {
    let Some(mut edit) = RunEdit::load(transaction, project, number).await? else { return Ok(None) };
    // Large params are stored in separate rows, which may change without the document.
    transaction.scan(&keys::params(project, number), Scan { rows: 1, ..Scan::default() }).await?;
    let has_param_rows = edit.has_param_rows() && !is_collected(transaction, project, number).await?;
    let tree = edit.params(transaction.unchecked()).await?;
    let mut rows =
        if has_param_rows { params_rows(project, number, tree) } else { partial_row(project, number, tree) };
    rows.extend(props_rows(project, number, &edit.props, edit.parent_id()));
    Ok(Some(rows))
}

/// Whether the params of a run have been listed for a cohort, or taken by one. Its index rows of an earlier format are not
/// needed then.
async fn is_collected(transaction: &Transaction, project: Project, number: RunNumber) -> Result<bool> {
    let list = UncollectedList::read(transaction.unchecked(), CohortKind::Params, project).await?;
    Ok(list.has(transaction, number).await?
        || transaction.get(&keys::run_cohort(CohortKind::Params, project, number)).await?.is_some())
}

/// Hashes of the index rows that the documents of some runs call for.
#[derive(Debug, Default)]
pub struct DocumentRows {
    /// Sorted hashes of the rows of each run; `None` if the run does not exist.
    runs: HashMap<RunNumber, Option<Vec<u64>>>,
    hashes: usize,
}

/// Number of hashes that are kept at once: 8 MB.
const MAX_HASHES: usize = 1 << 20;

impl DocumentRows {
    /// Whether no more runs should be added.
    pub fn is_full(&self) -> bool {
        self.hashes >= MAX_HASHES
    }

    /// Reads the document of a run.
    pub async fn add(
        &mut self,
        transaction: &Transaction,
        project: Project,
        number: RunNumber,
    ) -> Result<()> {
        let hashes = match document_rows(transaction, project, number).await? {
            Some(rows) => Some(hashes(&rows)),
            // A run that is being restored has rows of its series, but no document yet.
            None => is_staged(transaction.unchecked(), project, number).await?.then(Vec::new),
        };
        self.hashes += hashes.as_ref().map_or(0, Vec::len);
        self.runs.insert(number, hashes);
        Ok(())
    }

    /// Whether a row is one of a run that was added, and its document does not call for it.
    fn rejects(&self, project: Project, key: &Key) -> Result<bool> {
        let of_run = self.runs.get(&keys::index_run(key)?);
        Ok(of_run.is_some_and(|hashes| match hashes {
            Some(hashes) => !is_of_series(project, key) && hashes.binary_search(&hash(key)).is_err(),
            None => true,
        }))
    }

    /// The rows of one index page that the documents do not call for, and the range of the rest.
    pub async fn find_stale(
        &self,
        snapshot: &dyn Snapshot,
        project: Project,
        range: &Range,
        count: usize,
    ) -> Result<(Vec<Key>, Option<Range>)> {
        let (rows, rest) = index_page(snapshot, range, count).await?;
        let mut stale = Vec::new();
        for (key, _) in rows {
            if self.rejects(project, &key)? {
                stale.push(key);
            }
        }
        Ok((stale, rest))
    }
}

fn hashes(rows: &IndexRows) -> Vec<u64> {
    let mut hashes: Vec<u64> = rows.keys().map(hash).collect();
    hashes.sort_unstable();
    hashes
}

fn hash(key: &Key) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// Whether this is an index row of a series name. These rows are kept as long as the run
/// exists.
fn is_of_series(project: Project, key: &Key) -> bool {
    SERIES.iter().any(|kind| keys::index_series_names(project, *kind).contains(key))
}

async fn is_staged(snapshot: &dyn Snapshot, project: Project, number: RunNumber) -> Result<bool> {
    let Some(id) = run_id_get(snapshot, project, number).await? else { return Ok(false) };
    Ok(staged_get(snapshot, project, &id).await?.is_some_and(|staged| staged.number == number))
}

/// Clears the rows that the current documents do not call for: rows of missing runs, of outdated
/// values, and beyond the indexing limits. Returns how many were cleared of each run.
pub async fn stale_rows_clear(
    transaction: &mut Transaction,
    project: Project,
    stale: &[Key],
) -> Result<BTreeMap<RunNumber, usize>> {
    let mut documents = DocumentRows::default();
    let mut cleared = BTreeMap::new();
    for key in stale {
        let number = keys::index_run(key)?;
        if !documents.runs.contains_key(&number) {
            documents.add(transaction, project, number).await?;
        }
        if documents.rejects(project, key)? {
            transaction.batch().clear(key.clone());
            *cleared.entry(number).or_default() += 1;
        }
    }
    Ok(cleared)
}
