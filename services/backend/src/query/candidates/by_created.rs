//! Runs in the order of creation, from the index by creation time, so that a page of a long
//! list reads only as many documents as it returns.

use std::sync::Arc;

use matyan_model::{
    ids::{Project, RunNumber},
    keys,
    run::run_ids_get,
};
use matyan_store::{Range, Scan};

use crate::server::{deps::Deps, error::Result};

/// Index rows read at a time.
const ROWS: usize = 64;
/// Ids read at a time, for runs created at the same time.
const IDS: usize = 1_000;

pub(crate) struct RunsByCreated {
    deps: Arc<Deps>,
    project: Project,
    descending: bool,
    rest: Option<Range>,
    /// Rows read and not returned yet: creation time and run number.
    buffered: Vec<(i64, RunNumber)>,
}

impl RunsByCreated {
    /// Starts at the given time, including all runs created at that time.
    pub(crate) fn new(deps: Arc<Deps>, project: Project, descending: bool, from_us: Option<i64>) -> Self {
        let (first, end) = match (from_us, descending) {
            (None, _) => (i64::MIN, i64::MAX),
            (Some(from), true) => (i64::MIN, from.saturating_add(1)),
            (Some(from), false) => (from, i64::MAX),
        };
        let rest = Some(keys::index_created_between(project, first, end));
        Self { deps, project, descending, rest, buffered: Vec::new() }
    }

    /// The next runs in order, always including all runs created at the same time. Empty at
    /// the end.
    pub(crate) async fn next(&mut self) -> Result<Vec<RunNumber>> {
        loop {
            self.read().await?;
            let last = self.buffered.last().map(|(created_us, _)| *created_us);
            // Further rows may have the same time as the last one read.
            let complete = match self.rest {
                None => self.buffered.len(),
                Some(_) => self.buffered.partition_point(|(created_us, _)| Some(*created_us) != last),
            };
            if complete > 0 || self.rest.is_none() {
                let moments = self.buffered.drain(..complete).collect();
                return self.sort_by_id(moments).await;
            }
        }
    }

    /// Orders runs created at the same time by id. There may be any number of such runs.
    async fn sort_by_id(&self, moments: Vec<(i64, RunNumber)>) -> Result<Vec<RunNumber>> {
        let mut ordered = Vec::with_capacity(moments.len());
        for moment in moments.chunk_by(|one, other| one.0 == other.0) {
            if let [(_, alone)] = moment {
                ordered.push(*alone);
                continue;
            }
            let numbers: Vec<RunNumber> = moment.iter().map(|(_, number)| *number).collect();
            let mut ids = Vec::with_capacity(numbers.len());
            for numbers in numbers.chunks(IDS) {
                let snapshot = self.deps.store.snapshot().await?;
                ids.extend(run_ids_get(snapshot.as_ref(), self.project, numbers).await?);
            }
            let mut runs: Vec<_> = ids.into_iter().zip(numbers).collect();
            runs.sort_by_cached_key(|(id, number)| (id.as_ref().map(|id| id.as_str().to_owned()), *number));
            ordered.extend(runs.into_iter().map(|(_, number)| number));
        }
        Ok(ordered)
    }

    async fn read(&mut self) -> Result<()> {
        let Some(range) = self.rest.take() else { return Ok(()) };
        let snapshot = self.deps.store.snapshot().await?;
        let scan = Scan { rows: ROWS, reverse: self.descending, ..Scan::default() };
        let page = snapshot.scan(&range, scan).await?;
        self.rest = page
            .rows
            .last()
            .filter(|_| page.more)
            .map(|(last, _)| if self.descending { range.before(last) } else { range.after(last) });
        for (key, _) in &page.rows {
            self.buffered.push((keys::decode_index_created(self.project, key)?, keys::index_run(key)?));
        }
        Ok(())
    }
}
