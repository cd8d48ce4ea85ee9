//! Finds the runs that are due for a cohort, and takes their values.

use std::collections::{BTreeMap, btree_map::Entry};

use matyan_store::{Batch, Error, Key, Page, Range, Result, Scan, Snapshot};

use super::CohortNumber;
use crate::{
    ids::{Project, RunNumber},
    keys::{self, SeriesKind},
    metric::metric_names_page,
    rows,
    series::{CohortColumn, MetricValues, folded_summaries},
};

/// Runs of the list that are looked at together.
const LISTED: Scan = Scan { rows: 1_000, keys_only: true, ..Scan::DEFAULT };

/// Runs of a page of the list of uncollected runs that have ended and are folded, and the range of the rest;
/// `keys::uncollected_all` is the range of the first page. Branches are left out, because their values
/// change with the runs that they share points with.
pub async fn cohort_runs_due(
    snapshot: &dyn Snapshot,
    project: Project,
    range: &Range,
) -> Result<(Vec<RunNumber>, Option<Range>)> {
    let all = keys::uncollected_all(project);
    let page: Page = snapshot.scan(range, LISTED).await?;
    let mut listed = Vec::with_capacity(page.rows.len());
    for (key, _) in &page.rows {
        let (number,) = keys::tail(&all.start, key)?;
        listed.push(RunNumber(number));
    }
    let rows: Vec<Key> = listed
        .iter()
        .flat_map(|number| {
            let ended = keys::index_active(project, false, *number);
            [ended, keys::unfolded(project, *number), keys::branch(project, *number)]
        })
        .collect();
    let rows = snapshot.get_many(&rows).await?;
    let due = listed.iter().zip(rows.chunks_exact(3));
    let due = due.filter(|(_, rows)| matches!(rows, [Some(_), None, None])).map(|(number, _)| *number);
    Ok((due.collect(), page.rest(range)))
}

/// Memory of values at which they are written.
const MAX_BYTES: usize = 32 << 20;
/// Approximate memory of the values of a metric, apart from those of its runs.
const METRIC_BYTES: usize = 128;
/// Size of the values that one transaction writes.
const BATCH_BYTES: usize = 1 << 20;

/// The name of a metric, and the digest of its context.
type MetricKey = (String, [u8; 16]);

/// Values of a cohort on their way from the summaries to its rows.
pub struct CohortValues<'c> {
    project: Project,
    cohort: CohortNumber,
    /// In the order of the cohort.
    numbers: &'c [RunNumber],
    metrics: BTreeMap<MetricKey, Vec<(usize, MetricValues)>>,
    bytes: usize,
    max_bytes: usize,
    /// Some values are already in the rows of the cohort.
    has_rows: bool,
}

/// Where to continue to read the values of a cohort.
#[derive(Debug, Default)]
pub struct CohortPlace {
    /// Position of the run in the cohort.
    run: usize,
    /// Its series that are still to be read, if some have been.
    rest: Option<Range>,
    /// The run cannot be read.
    pub damaged: Option<RunNumber>,
}

impl<'c> CohortValues<'c> {
    /// `numbers` are the runs that the cohort was created with.
    pub fn new(project: Project, cohort: CohortNumber, numbers: &'c [RunNumber]) -> Self {
        let metrics = BTreeMap::new();
        Self { project, cohort, numbers, metrics, bytes: 0, max_bytes: MAX_BYTES, has_rows: false }
    }

    #[cfg(test)]
    pub(crate) fn with_max_bytes(self, max_bytes: usize) -> Self {
        Self { max_bytes, ..self }
    }

    /// Whether the values must be written before more are read.
    pub fn is_full(&self) -> bool {
        self.bytes >= self.max_bytes
    }

    /// Reads values of a run: of about a megabyte of its series. Returns the place of the next; `None` after
    /// the last one. The snapshot must be more recent than the start of the cohort.
    pub async fn read(&mut self, snapshot: &dyn Snapshot, place: CohortPlace) -> Result<Option<CohortPlace>> {
        let CohortPlace { run, rest, .. } = place;
        let Some(number) = self.numbers.get(run) else { return Ok(None) };
        let next_run = CohortPlace { run: run + 1, ..CohortPlace::default() };
        match self.read_series(snapshot, (run, *number), rest).await {
            Ok(Some(rest)) => Ok(Some(CohortPlace { run, rest: Some(rest), damaged: None })),
            Ok(None) => Ok(Some(next_run)),
            Err(Error::Corrupt { .. }) => Ok(Some(CohortPlace { damaged: Some(*number), ..next_run })),
            Err(error) => Err(error),
        }
    }

    async fn read_series(
        &mut self,
        snapshot: &dyn Snapshot,
        (at, number): (usize, RunNumber),
        rest: Option<Range>,
    ) -> Result<Option<Range>> {
        let project = self.project;
        let range = rest.unwrap_or_else(|| keys::series_names(project, number, SeriesKind::Metric));
        let (named, rest) = metric_names_page(snapshot, project, number, &range).await?;
        let series: Vec<_> = named.iter().map(|(_, _, series)| (number, *series)).collect();
        let summaries = folded_summaries(snapshot, project, &series).await?;
        for ((name, digest, _), summary) in named.into_iter().zip(summaries) {
            let Some(summary) = summary else { continue };
            let name_bytes = name.len();
            let runs = match self.metrics.entry((name, digest)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    self.bytes += name_bytes + METRIC_BYTES;
                    new.insert(Vec::new())
                }
            };
            self.bytes += size_of::<(usize, MetricValues)>();
            runs.push((at, MetricValues::of(&summary)));
        }
        Ok(rest)
    }

    /// Takes values out, and writes them to a batch of limited size. Returns true once none are left.
    pub async fn write(&mut self, snapshot: &dyn Snapshot, batch: &mut Batch) -> Result<bool> {
        let mut written = 0;
        while written < BATCH_BYTES
            && let Some(((name, digest), runs)) = self.metrics.pop_first()
        {
            let key = keys::cohort_column(self.project, self.cohort, &name, &digest);
            // Values of its other runs may have been written before.
            let stored = if self.has_rows { snapshot.get(&key).await? } else { None };
            let mut column = match stored {
                Some(stored) => {
                    let column = CohortColumn::decode(&stored).map_err(|malformed| malformed.at(&key))?;
                    if column.len() != self.numbers.len() {
                        return Err(rows::corrupt(&key, &"it does not match its cohort"));
                    }
                    column
                }
                None => CohortColumn::new(self.numbers.len()),
            };
            for (at, values) in runs {
                column.set(at, values);
            }
            let encoded = column.encode();
            written += key.len() + encoded.len() + METRIC_BYTES;
            batch.set(key, encoded);
        }
        if !self.metrics.is_empty() {
            return Ok(false);
        }
        self.bytes = 0;
        self.has_rows = true;
        Ok(true)
    }
}
