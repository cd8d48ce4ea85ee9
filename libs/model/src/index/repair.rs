//! Repair of indexes. Index rows follow from the documents, so they can be rebuilt at any time.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use matyan_store::{Key, Range, Result, Scan, Snapshot, Transaction};

use super::{EMPTY, IndexRows, params_rows, props_rows};
use crate::{
    entity,
    ids::{Project, RunNumber},
    keys::{self, Counter, EntityKind, SeriesKind},
    rows,
    run::{RunEdit, run_id_get, staged_get},
};

/// Adds the index rows of a run that are missing or wrong, and returns how many were written.
pub async fn index_repair(
    transaction: &mut Transaction,
    project: Project,
    number: RunNumber,
) -> Result<usize> {
    let Some(mut expected) = document_rows(transaction, project, number).await? else { return Ok(0) };
    for kind in SERIES {
        let range = keys::series_names(project, number, kind);
        for (key, _) in rows::scan_all(transaction.unchecked(), &range).await? {
            let name = keys::decode_series_name(&range, &key)?;
            expected.insert(keys::index_series_name(project, kind, &name, number), EMPTY);
        }
    }
    let (keys, values): (Vec<Key>, Vec<&[u8]>) = expected.into_iter().unzip();
    let found = transaction.unchecked().get_many(&keys).await?;
    let mut repaired = 0;
    for ((key, value), found) in keys.into_iter().zip(values).zip(found) {
        if found.as_deref() != Some(value) {
            transaction.batch().set(key, value);
            repaired += 1;
        }
    }
    Ok(repaired)
}

const SERIES: [SeriesKind; 2] = [SeriesKind::Metric, SeriesKind::Object];

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
    let tree = edit.params(transaction.unchecked()).await?;
    let mut rows = params_rows(project, number, tree);
    rows.extend(props_rows(project, number, &edit.props, edit.parent_id()));
    Ok(Some(rows))
}

/// Caches which index rows the documents call for, as hashes, because an index names the same
/// runs many times.
#[derive(Debug, Default)]
pub struct DocumentRows {
    /// Sorted hashes of the rows of each run; `None` if the run does not exist.
    runs: HashMap<RunNumber, Option<Vec<u64>>>,
    hashes: usize,
}

/// Maximum number of cached hashes: 32 MB.
const REMEMBERED: usize = 4 << 20;

impl DocumentRows {
    async fn contains(&mut self, transaction: &Transaction, project: Project, key: &Key) -> Result<bool> {
        let number = keys::index_run(key)?;
        if !self.runs.contains_key(&number) {
            let hashes = match document_rows(transaction, project, number).await? {
                Some(rows) => Some(hashes(&rows)),
                // A run that is being restored has rows of its series, but no
                // document yet.
                None => is_staged(transaction.unchecked(), project, number).await?.then(Vec::new),
            };
            self.remember(number, hashes);
        }
        let Some(hashes) = &self.runs[&number] else { return Ok(false) };
        Ok(is_of_series(project, key) || hashes.binary_search(&hash(key)).is_ok())
    }

    fn remember(&mut self, number: RunNumber, hashes: Option<Vec<u64>>) {
        if self.hashes > REMEMBERED {
            *self = Self::default();
        }
        self.hashes += hashes.as_ref().map_or(0, Vec::len);
        self.runs.insert(number, hashes);
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

/// The rows of one index page that the documents do not call for, according to the cache, and
/// the range of the rest.
pub async fn stale_rows_find(
    transaction: &Transaction,
    documents: &mut DocumentRows,
    project: Project,
    range: &Range,
    count: usize,
) -> Result<(Vec<Key>, Option<Range>)> {
    let page = transaction.unchecked().scan(range, Scan { rows: count, ..Scan::default() }).await?;
    let mut stale = Vec::new();
    for (key, _) in &page.rows {
        if !documents.contains(transaction, project, key).await? {
            stale.push(key.clone());
        }
    }
    let rest = page.rows.last().filter(|_| page.more).map(|(key, _)| range.after(key));
    Ok((stale, rest))
}

/// Clears the rows that the current documents do not call for: rows of missing runs, of
/// outdated values, and beyond the indexing limits. Returns how many were cleared of each run.
pub async fn stale_rows_clear(
    transaction: &mut Transaction,
    project: Project,
    stale: &[Key],
) -> Result<BTreeMap<RunNumber, usize>> {
    let (mut documents, mut cleared) = (DocumentRows::default(), BTreeMap::new());
    for key in stale {
        if !documents.contains(transaction, project, key).await? {
            transaction.batch().clear(key.clone());
            *cleared.entry(keys::index_run(key)?).or_default() += 1;
        }
    }
    Ok(cleared)
}

/// Sets the run counter of a tag or an experiment to the number of index rows. Returns whether
/// it was wrong.
pub async fn run_count_repair(
    transaction: &mut Transaction,
    project: Project,
    kind: EntityKind,
    id: &str,
) -> Result<bool> {
    let range = match kind {
        EntityKind::Tag => keys::index_tag_all(project, id),
        _ => keys::index_experiment_all(project, id),
    };
    let (mut linked, mut rest) = (0_i64, range);
    loop {
        let page = transaction.scan(&rest, Scan::default()).await?;
        linked += page.rows.len() as i64;
        match page.rows.last() {
            Some((last, _)) if page.more => rest = rest.after(last),
            _ => break,
        }
    }
    let key = keys::entity_counter(project, kind, id, Counter::Runs);
    let counted = transaction.unchecked().get(&key).await?;
    let counted = counted.map(|value| entity::decode_counter(&key, &value)).transpose()?.unwrap_or_default();
    if counted != linked {
        // Linking a run adds to the counter and also changes the range, which this
        // transaction checks.
        transaction.batch().add(key, linked - counted);
    }
    Ok(counted != linked)
}
