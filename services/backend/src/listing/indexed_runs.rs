//! Runs listed by an index: runs of an experiment, runs with a tag, or active runs. They are read in
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

use super::cursor::Cursor;
use crate::{
    server::{
        call::Call,
        deps::Deps,
        error::{Error, Result},
    },
    view::run_lookup::is_run_id,
};

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

    /// The runs after the last run of a page, whose row in the index is, or was, `key`. An unknown run is
    /// an error: a list that started over might never end.
    pub(crate) async fn after(
        deps: &Deps,
        call: &Call,
        range: Range,
        last: &PageEnd<'_>,
        key: impl Fn(RunNumber) -> Key,
    ) -> Result<Self> {
        let number = match last {
            PageEnd::Missing => None,
            PageEnd::Run(run_id) => Some(run_number(deps, call, run_id).await?),
            PageEnd::Cursor { cursor, list } => Some(Cursor::decode_newest_first(cursor, *list)?),
        };
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

/// The end of the previous page of a list, as a request for the next page names it.
pub(crate) enum PageEnd<'r> {
    /// There is no previous page.
    Missing,
    /// The id of the last run.
    Run(&'r str),
    Cursor {
        cursor: &'r str,
        /// Digest of the list.
        list: u64,
    },
}

impl<'r> PageEnd<'r> {
    /// An empty text of a request counts as not given.
    pub(crate) fn of_request(after_run_id: &'r str, cursor: &'r str, list: u64) -> Result<Self> {
        if cursor.is_empty() && after_run_id.is_empty() {
            Ok(Self::Missing)
        } else if cursor.is_empty() {
            Ok(Self::Run(after_run_id))
        } else if after_run_id.is_empty() {
            Ok(Self::Cursor { cursor, list })
        } else {
            Err(Error::field("cursor", "excludes `after_run_id`: set one of them"))
        }
    }
}

/// The runs that an index links to an experiment or a tag, newest first. Its rows may be outdated,
/// so the documents decide.
pub(crate) struct LinkedRuns<F> {
    indexed: IndexedRuns,
    is_linked: F,
    left: usize,
    last: Option<(RunNumber, String)>,
}

impl<F: Fn(&Props) -> bool> LinkedRuns<F> {
    /// At most `limit` runs; 0 means no limit.
    pub(crate) fn new(indexed: IndexedRuns, limit: u32, is_linked: F) -> Self {
        let left = if limit == 0 { usize::MAX } else { limit as usize };
        Self { indexed, is_linked, left, last: None }
    }

    /// The next runs, at least one; `None` after the last.
    pub(crate) async fn next(&mut self, deps: &Deps, call: &Call) -> Result<Option<Vec<Props>>> {
        while self.left > 0
            && let Some(page) = self.indexed.next(deps, call).await?
        {
            let runs = page.into_iter().map(|(number, document)| (number, document.props));
            let linked: Vec<_> = runs.filter(|(_, props)| (self.is_linked)(props)).take(self.left).collect();
            self.left -= linked.len();
            if let Some((number, props)) = linked.last() {
                self.last = Some((*number, props.run_id.clone()));
                return Ok(Some(linked.into_iter().map(|(_, props)| props).collect()));
            }
        }
        Ok(None)
    }

    /// The cursor after the last run, if the limit ended the page; otherwise empty.
    pub(crate) fn next_cursor(&self, list: u64) -> String {
        match &self.last {
            Some((number, run_id)) if self.left == 0 => Cursor::newest_first(list, *number, run_id).encode(),
            _ => String::new(),
        }
    }
}

/// The number of a live or deleted run.
async fn run_number(deps: &Deps, call: &Call, run_id: &str) -> Result<RunNumber> {
    let snapshot = deps.store.snapshot().await?;
    let head = if is_run_id(run_id) {
        head_get(snapshot.as_ref(), call.project, &RunId::new(run_id)).await?
    } else {
        None
    };
    let number = match head {
        Some(Head::Live(number)) => Some(number),
        // A list can continue after a run that was deleted since the previous page.
        Some(Head::Tombstone(tombstone)) => tombstone.number.map(RunNumber),
        None => None,
    };
    number.ok_or_else(|| Error::not_found("run", run_id))
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
