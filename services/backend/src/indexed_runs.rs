//! Runs listed by an index: those of an experiment, with a tag, or active. They are read in
//! pages, each from its own snapshot, because a long list may outlast a snapshot. The index
//! only suggests runs; their documents decide.

use matyan_model::{
    ids::{RunId, RunNumber},
    index::index_runs_page_reverse,
    run::{Document, Head, Props, documents_get, head_get},
};
use matyan_proto::common::v1::ActivityCount;
use matyan_store::{Key, Range};
use std::collections::BTreeMap;

use crate::{Deps, call::Call, error::Result, run_lookup::is_run_id};

/// Documents read at a time: about 100 kB.
const PAGE: usize = 256;

/// Visible runs of an index range, newest first.
pub(crate) struct IndexedRuns {
    rest: Option<Range>,
}

impl IndexedRuns {
    pub(crate) fn all(range: Range) -> Self {
        Self { rest: Some(range) }
    }

    /// The runs after this one, whose row in the index is, or was, `key`. All of them if
    /// the run is unknown.
    pub(crate) async fn after(
        deps: &Deps,
        call: &Call,
        range: Range,
        run_id: &str,
        key: impl Fn(RunNumber) -> Key,
    ) -> Result<Self> {
        let number = if is_run_id(run_id) { run_number(deps, call, run_id).await? } else { None };
        Ok(Self::all(match number {
            Some(number) => range.before(&key(number)),
            None => range,
        }))
    }

    /// The next page, which may be empty; `None` after the last.
    pub(crate) async fn next(
        &mut self,
        deps: &Deps,
        call: &Call,
    ) -> Result<Option<Vec<(RunNumber, Document)>>> {
        let Some(range) = self.rest.take() else { return Ok(None) };
        let snapshot = deps.store.snapshot().await?;
        let (numbers, rest) = index_runs_page_reverse(snapshot.as_ref(), &range, PAGE).await?;
        let documents = documents_get(snapshot.as_ref(), call.project, &numbers).await?;
        self.rest = rest;
        let found = numbers.into_iter().zip(documents);
        let visible = found.filter_map(|(number, document)| {
            document.filter(|document| !document.props.pending_delete).map(|document| (number, document))
        });
        Ok(Some(visible.collect()))
    }
}

/// The runs that an index links to an experiment or a tag, newest first. Its rows may be outdated,
/// so the documents decide.
pub(crate) struct LinkedRuns<F> {
    indexed: IndexedRuns,
    is_linked: F,
    left: usize,
}

impl<F: Fn(&Props) -> bool> LinkedRuns<F> {
    /// At most `limit` runs; 0 is no limit.
    pub(crate) fn new(indexed: IndexedRuns, limit: u32, is_linked: F) -> Self {
        let left = if limit == 0 { usize::MAX } else { limit as usize };
        Self { indexed, is_linked, left }
    }

    /// The next runs, at least one; `None` after the last.
    pub(crate) async fn next(&mut self, deps: &Deps, call: &Call) -> Result<Option<Vec<Props>>> {
        while self.left > 0
            && let Some(page) = self.indexed.next(deps, call).await?
        {
            let props = page.into_iter().map(|(_, document)| document.props);
            let linked: Vec<_> = props.filter(&self.is_linked).take(self.left).collect();
            self.left -= linked.len();
            if !linked.is_empty() {
                return Ok(Some(linked));
            }
        }
        Ok(None)
    }
}

/// The number of a live or deleted run.
async fn run_number(deps: &Deps, call: &Call, run_id: &str) -> Result<Option<RunNumber>> {
    let snapshot = deps.store.snapshot().await?;
    Ok(match head_get(snapshot.as_ref(), call.project, &RunId::new(run_id)).await? {
        Some(Head::Live(number)) => Some(number),
        // A list can continue after a run that was deleted since the previous page.
        Some(Head::Tombstone(tombstone)) => tombstone.number.map(RunNumber),
        None => None,
    })
}

/// Counts of runs by hour of creation, in the caller's local time.
#[derive(Default)]
pub(crate) struct ActivityHours {
    offset_s: i64,
    counts: BTreeMap<i64, u32>,
}

impl ActivityHours {
    /// `timezone_offset_min` is UTC minus local time.
    pub(crate) fn new(timezone_offset_min: i32) -> Self {
        Self { offset_s: i64::from(timezone_offset_min) * 60, counts: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, created_us: i64) {
        let local_s = created_us.div_euclid(1_000_000) - self.offset_s;
        *self.counts.entry(local_s.div_euclid(3_600) * 3_600).or_default() += 1;
    }

    pub(crate) fn into_counts(self) -> Vec<ActivityCount> {
        self.counts.into_iter().map(|(local_s, runs)| ActivityCount { local_s, runs }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_in_the_callers_time_zone() {
        let check = |offset_min, created_s: i64, local_s: i64| {
            let mut hours = ActivityHours::new(offset_min);
            hours.add(created_s * 1_000_000 + 999_999);
            hours.add(created_s * 1_000_000);
            assert_eq!(hours.into_counts(), [ActivityCount { local_s, runs: 2 }], "{offset_min} {created_s}");
        };
        check(0, 3_599, 0);
        check(0, -1, -3_600);
        check(-240, 3_600, 5 * 3_600);
        check(210, 0, -4 * 3_600);
        check(-345, 0, 5 * 3_600);
    }
}
