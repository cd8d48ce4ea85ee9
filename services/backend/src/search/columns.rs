//! A scan without documents. Once a search has looked at some of them in vain, the params that its query names are read from
//! their indexes, a hundredth of the bytes, and the query is asked of those. Whoever it refuses so is out; the documents of
//! the others decide, as after any index. A run is also looked at if the query asks for what no column tells: its name, say,
//! or a param that is a list. Where that is so for many, the documents are scanned after all.

use std::{borrow::Cow, cell::Cell, sync::Arc};

use matyan_model::{
    ids::{Project, RunNumber},
    index::{Column, Told, rows_proposed},
    keys,
};
use matyan_ql::{Datum, Endpoint, Limits, Outcome, Path, Query, RunView, SequenceView, Wanted};
use matyan_store::{Error as StoreError, Key, Range, Snapshot};

use super::judge::Tally;
use crate::error::{Error, Result};

/// Params that a query may name.
const PATHS: usize = 4;
/// Values of them in memory at once: 24 bytes each, and texts.
const VALUES: usize = 500_000;
/// A scan of documents is cheaper than fetching one in so many.
const FETCH_FROM: usize = 8;
/// Runs after which that is looked at.
const TRIED: usize = 1_000;

/// What the columns say of a scan.
pub(super) struct Sieved {
    /// Runs whose documents decide, ascending.
    pub(super) left: Vec<RunNumber>,
    /// Verdicts on the others.
    pub(super) tally: Tally,
    pub(super) steps_left: u64,
}

/// The params that columns can tell for a query; `None` if it asks for more than params.
pub(super) fn paths(query: &Query) -> Option<Vec<Path>> {
    let needs = query.needs();
    let Wanted::These(paths) = &needs.params else { return None };
    let is_of_params = query.options().endpoint == Endpoint::Run
        && needs.sequences.is_nothing()
        && (1..=PATHS).contains(&paths.len());
    is_of_params.then(|| paths.iter().cloned().collect())
}

/// What is left of a scan of documents.
pub(super) struct Scan {
    pub(super) project: Project,
    pub(super) query: Arc<Query>,
    /// As `paths` says.
    pub(super) paths: Vec<Path>,
    /// The documents before this key.
    pub(super) end: Key,
    pub(super) limits: Limits,
}

/// Asks the columns. `None`: the documents have to be scanned.
pub(super) async fn sieve(snapshot: &dyn Snapshot, scan: Scan) -> Result<Option<Sieved>> {
    match sieved(snapshot, scan).await {
        // Then there is too much to read, and documents are read from many snapshots.
        Err(Error::Store(StoreError::SnapshotTooOld)) => Ok(None),
        sieved => sieved,
    }
}

async fn sieved(snapshot: &dyn Snapshot, scan: Scan) -> Result<Option<Sieved>> {
    let Scan { project, query, paths, end, limits } = scan;
    let most = VALUES / paths.len();
    let columns = paths.iter().map(|path| column(snapshot, project, path, most));
    let (columns, shown, archived) = futures::future::try_join3(
        futures::future::try_join_all(columns),
        runs(snapshot, keys::index_archived_all(project, false)),
        runs(snapshot, keys::index_archived_all(project, true)),
    )
    .await?;
    let columns: Option<Vec<Column>> = columns.into_iter().collect();
    let (Some(columns), Some(shown), Some(archived)) = (columns, shown, archived) else { return Ok(None) };
    let columns = Arc::new(Columns { paths, columns });
    let mut all: Vec<(RunNumber, bool)> = shown.into_iter().map(|number| (number, false)).collect();
    all.extend(archived.into_iter().map(|number| (number, true)));
    all.sort_unstable();
    all.truncate(all.partition_point(|(number, _)| keys::document(project, *number) < end));
    let second = all.split_off(all.len() / 2);
    let limits = Limits { steps_in_total: limits.steps_in_total / 2, ..limits };
    let half = |runs: Vec<(RunNumber, bool)>| {
        let (columns, query) = (columns.clone(), query.clone());
        away(move || columns.sieve(&query, limits, &runs))
    };
    let (first, second) = futures::future::try_join(half(all), half(second)).await?;
    Ok(first.zip(second).map(|(mut sieved, second)| {
        sieved.left.extend(second.left);
        sieved.tally.add(second.tally);
        sieved.steps_left += second.steps_left;
        sieved
    }))
}

/// Work of milliseconds.
async fn away<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::Stopping),
    }
}

/// A param of all runs; `None` if more than `most` have it.
async fn column(
    snapshot: &dyn Snapshot,
    project: Project,
    path: &Path,
    most: usize,
) -> Result<Option<Column>> {
    let path: Vec<Cow<'_, str>> = path.keys().iter().map(|key| Cow::Borrowed(&**key)).collect();
    let all = keys::index_param_path(project, &path);
    let (mut column, mut rest) = (Column::default(), Some(all.clone()));
    while let Some(range) = rest {
        let page = snapshot.scan(&range, matyan_store::Scan::default()).await?;
        rest = page.rows.last().filter(|_| page.more).map(|(last, _)| range.after(last));
        if column.len() + page.rows.len() > most {
            return Ok(None);
        }
        let all = all.clone();
        column = away(move || column.add(&all, &page.rows).map(|()| column)).await??;
    }
    let sorted = away(move || {
        column.sort();
        column
    });
    sorted.await.map(Some)
}

/// The runs of an index range; `None` of too many.
async fn runs(snapshot: &dyn Snapshot, range: Range) -> Result<Option<Vec<RunNumber>>> {
    let (mut runs, mut rest) = (Vec::new(), Some(range));
    while let Some(range) = rest {
        let page = snapshot.scan(&range, matyan_store::Scan::default()).await?;
        rest = page.rows.last().filter(|_| page.more).map(|(last, _)| range.after(last));
        if runs.len() + page.rows.len() > VALUES {
            return Ok(None);
        }
        runs.extend(away(move || rows_proposed(&page.rows)).await??);
    }
    Ok(Some(runs))
}

struct Columns {
    paths: Vec<Path>,
    columns: Vec<Column>,
}

impl Columns {
    /// `None` if too many runs are left, or the query takes too long to tell.
    fn sieve(&self, query: &Query, limits: Limits, runs: &[(RunNumber, bool)]) -> Option<Sieved> {
        let mut evaluator = query.evaluator(limits);
        let mut places: Vec<usize> = match runs.first() {
            Some((first, _)) => self.columns.iter().map(|column| column.place(*first)).collect(),
            None => Vec::new(),
        };
        let (mut left, mut tally) = (Vec::new(), Tally::default());
        let mut values = vec![None; self.paths.len()];
        for (at, (number, archived)) in runs.iter().enumerate() {
            if at == TRIED && left.len() > TRIED / FETCH_FROM {
                return None;
            }
            for ((value, column), place) in values.iter_mut().zip(&self.columns).zip(&mut places) {
                *value = column.at(place, *number);
            }
            let row =
                Row { paths: &self.paths, values: &values, archived: *archived, asked: Cell::new(false) };
            let outcome = evaluator.run(&row).ok()?;
            if row.asked.get() || outcome == Outcome::Match {
                left.push(*number);
            } else {
                tally.note(outcome);
            }
        }
        let is_scan_cheaper = left.len() > (runs.len() / FETCH_FROM).max(TRIED / FETCH_FROM);
        (!is_scan_cheaper).then(|| Sieved { left, tally, steps_left: evaluator.steps_left() })
    }
}

/// A run as columns know it.
struct Row<'c> {
    paths: &'c [Path],
    values: &'c [Option<Told<'c>>],
    archived: bool,
    /// Somebody has asked for what is in the document alone: no verdict counts.
    asked: Cell<bool>,
}

impl Row<'_> {
    fn unknown<T: Default>(&self) -> T {
        self.asked.set(true);
        T::default()
    }
}

impl RunView for Row<'_> {
    fn hash(&self) -> &str {
        self.unknown()
    }

    fn name(&self) -> Option<&str> {
        self.unknown()
    }

    fn description(&self) -> Option<&str> {
        self.unknown()
    }

    fn experiment(&self) -> Option<&str> {
        self.unknown()
    }

    fn created_at(&self) -> f64 {
        self.unknown()
    }

    fn end_time(&self) -> Option<f64> {
        self.unknown()
    }

    fn active(&self) -> bool {
        self.unknown()
    }

    fn archived(&self) -> bool {
        self.archived
    }

    fn tags(&self) -> Vec<&str> {
        self.unknown()
    }

    fn param(&self, path: &Path) -> Option<Datum<'_>> {
        let known = self.paths.iter().position(|known| known == path).and_then(|place| self.values[place]);
        match known {
            Some(Told::Null) => Some(Datum::None),
            Some(Told::Bool(value)) => Some(Datum::Bool(value)),
            Some(Told::Integer(value)) => Some(Datum::Int(value)),
            Some(Told::Float(value)) => Some(Datum::Float(value)),
            Some(Told::Text(text)) => Some(Datum::Text(Cow::Borrowed(text))),
            None => self.unknown(),
        }
    }

    fn sequences(&self, _: &str) -> Vec<&dyn SequenceView> {
        self.unknown()
    }
}
