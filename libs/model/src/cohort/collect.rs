//! Finds the runs that are due for a cohort, and takes their values.

use std::collections::{BTreeMap, btree_map::Entry};

use matyan_store::{Batch, Error, Key, Range, Result, Snapshot};

use super::{CohortNumber, CohortSource};
use crate::{
    ids::{Project, RunNumber},
    keys::{self, SeriesKind},
    metric::metric_names_page,
    series::{CohortColumn, MetricValues, folded_summaries},
    uncollected::UncollectedReader,
};

/// Listed runs that are read together.
const LISTED: usize = 1_000;

/// Runs of the next page of the list of uncollected runs that have ended and are folded; `None` after the last page. Branches
/// are left out, because their values change with the runs that they share points with.
pub async fn cohort_runs_due(
    snapshot: &dyn Snapshot,
    project: Project,
    list: &mut UncollectedReader,
) -> Result<Option<Vec<RunNumber>>> {
    let Some(listed) = list.next_runs(snapshot, LISTED).await? else { return Ok(None) };
    let ended: Vec<Key> = listed.iter().map(|number| keys::index_active(project, false, *number)).collect();
    let ended = snapshot.get_many(&ended).await?;
    let ended = listed.into_iter().zip(ended).filter(|(_, row)| row.is_some());
    let ended: Vec<RunNumber> = ended.map(|(number, _)| number).collect();
    let others: Vec<Key> = ended
        .iter()
        .flat_map(|number| [keys::unfolded(project, *number), keys::branch(project, *number)])
        .collect();
    let others = snapshot.get_many(&others).await?;
    let due = ended.iter().zip(others.chunks_exact(2));
    let due = due.filter(|(_, rows)| matches!(rows, [None, None])).map(|(number, _)| *number);
    Ok(Some(due.collect()))
}

/// Size in memory at which values are written.
const MAX_BYTES: usize = 32 << 20;
/// Approximate memory of a metric, without the values of its runs.
const METRIC_BYTES: usize = 128;
/// Size of the values that one transaction writes.
const BATCH_BYTES: usize = 1 << 20;

/// The name of a metric, and the digest of its context.
type MetricKey = (String, [u8; 16]);

/// Values of a cohort on their way from the summaries to its rows. They have limited memory, and no row is
/// written twice, so a cohort takes only the runs whose values fit. If the values of its first run alone do
/// not fit, it takes only this run, whose rows are written in parts.
pub struct CohortValues<'c> {
    project: Project,
    cohort: CohortNumber,
    /// In the order of the cohort.
    numbers: &'c [RunNumber],
    /// Position of the run to be read.
    run: usize,
    /// Its series that are still to be read, if some have been.
    rest: Option<Range>,
    metrics: BTreeMap<MetricKey, Vec<(usize, MetricValues)>>,
    bytes: usize,
    max_bytes: usize,
    has_rows: bool,
    damaged: Vec<RunNumber>,
}

impl<'c> CohortValues<'c> {
    /// `numbers` are the runs that the cohort was created with.
    pub fn new(project: Project, cohort: CohortNumber, numbers: &'c [RunNumber]) -> Self {
        Self {
            project,
            cohort,
            numbers,
            run: 0,
            rest: None,
            metrics: BTreeMap::new(),
            bytes: 0,
            max_bytes: MAX_BYTES,
            has_rows: false,
            damaged: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(crate) fn with_max_bytes(self, max_bytes: usize) -> Self {
        Self { max_bytes, ..self }
    }

    async fn read_series(&mut self, snapshot: &dyn Snapshot, number: RunNumber) -> Result<()> {
        let project = self.project;
        let range = match self.rest.take() {
            Some(rest) => rest,
            None => keys::series_names(project, number, SeriesKind::Metric),
        };
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
            runs.push((self.run, MetricValues::of(&summary)));
        }
        self.rest = rest;
        Ok(())
    }

    /// Removes the values of the current run.
    fn forget_run(&mut self) {
        let run = self.run;
        self.rest = None;
        self.metrics.retain(|_, runs| {
            runs.retain(|(at, _)| *at != run);
            !runs.is_empty()
        });
    }
}

impl CohortSource for CohortValues<'_> {
    fn is_full(&self) -> bool {
        self.bytes >= self.max_bytes
    }

    fn runs(&self) -> usize {
        self.run
    }

    fn is_complete(&self) -> bool {
        self.run == self.numbers.len()
    }

    fn damaged(&self) -> &[RunNumber] {
        &self.damaged
    }

    /// Reads about a megabyte of the series of a run.
    async fn read(&mut self, snapshot: &dyn Snapshot) -> Result<bool> {
        let Some(number) = self.numbers.get(self.run) else { return Ok(false) };
        let is_first = self.run == 0;
        if !is_first && (self.is_full() || self.has_rows) {
            return Ok(false);
        }
        match self.read_series(snapshot, *number).await {
            Ok(()) => {}
            Err(Error::Corrupt { .. }) => {
                self.rest = None;
                self.damaged.push(*number);
            }
            Err(error) => return Err(error),
        }
        if self.rest.is_none() {
            self.run += 1;
        } else if !is_first && self.is_full() {
            self.forget_run();
            return Ok(false);
        }
        Ok(true)
    }

    fn write(&mut self, batch: &mut Batch) -> bool {
        self.has_rows = true;
        let mut written = 0;
        while written < BATCH_BYTES
            && let Some(((name, digest), runs)) = self.metrics.pop_first()
        {
            let key = keys::cohort_column(self.project, self.cohort, &name, &digest);
            let mut column = CohortColumn::new(self.numbers.len());
            for (at, values) in runs {
                column.set(at, values);
            }
            let encoded = column.encode();
            written += key.len() + encoded.len() + METRIC_BYTES;
            batch.set(key, encoded);
        }
        if self.metrics.is_empty() {
            self.bytes = 0;
        }
        self.metrics.is_empty()
    }
}
