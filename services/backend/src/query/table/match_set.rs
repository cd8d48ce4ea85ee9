//! The runs of a table that a query matches.

use std::sync::Arc;

use matyan_model::{
    ids::{Project, RunNumber},
    run::Document,
};
use matyan_ql::Query;
use matyan_store::{Snapshot, Stamp};
use tokio::time::Instant;

use super::{
    memory::{grow, vec_growth},
    names_digest::names_digest,
    roster::Slot,
};
use crate::{
    query::{
        candidates::{CandidateLoader, QueryFilter},
        plan::CompiledQuery,
    },
    server::{deps::Deps, error::Result},
};

/// Identifies a match set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct QueryKey {
    /// The query with times as numbers.
    normalized: String,
    timezone_offset_min: i32,
    /// The current time, if the query asks for it.
    now: Option<u64>,
    /// Digest of the names of experiments and tags, if the query uses any: they are changed without
    /// a change of the runs.
    names: Option<u64>,
}

/// A query on a table.
pub(crate) struct TableQuery {
    pub(super) compiled: Arc<CompiledQuery>,
    key: QueryKey,
}

pub(super) struct MatchSet {
    /// Every change up to here is included.
    pub(super) position: Stamp,
    query: Arc<Query>,
    /// By slot; runs beyond the end do not match.
    pub(super) matches: Vec<bool>,
    pub(super) always_raised: bool,
    /// Damaged runs, for which the query could not be evaluated.
    pub(super) damaged: Vec<RunNumber>,
    /// When a request last needed the set.
    pub(super) used: Instant,
}

impl TableQuery {
    /// Returns `None` for the query that matches every run which is not archived: a roster knows
    /// these runs.
    pub(crate) async fn new(
        deps: &Deps,
        project: Project,
        compiled: Arc<CompiledQuery>,
    ) -> Result<Option<Self>> {
        let query = &compiled.query;
        if query.statement().is_empty() {
            return Ok(None);
        }
        let needs = query.needs();
        let options = query.options();
        let names = if needs.experiment || needs.tags {
            Some(names_digest(deps, project, true).await?)
        } else {
            None
        };
        let is_of_now = ["now", "today"].iter().any(|word| query.statement().contains(word));
        let key = QueryKey {
            normalized: query.normalized().to_owned(),
            timezone_offset_min: options.offset_minutes,
            now: is_of_now.then_some(options.now.to_bits()),
            names,
        };
        Ok(Some(Self { compiled, key }))
    }

    pub(super) fn key(&self) -> &QueryKey {
        &self.key
    }

    /// Whether it depends on points of metrics.
    pub(super) fn reads_points(&self) -> bool {
        self.compiled.query.needs().summaries
    }
}

impl MatchSet {
    /// A set without matches.
    pub(super) fn new(
        query: &TableQuery,
        position: Stamp,
        always_raised: bool,
        damaged: Vec<RunNumber>,
    ) -> Self {
        Self {
            position,
            query: query.compiled.query.clone(),
            matches: Vec::new(),
            always_raised,
            damaged,
            used: Instant::now(),
        }
    }

    pub(super) fn contains(&self, slot: Slot) -> bool {
        self.matches.get(slot as usize).copied().unwrap_or(false)
    }

    /// Evaluates a run again.
    pub(super) async fn update(
        &mut self,
        deps: &Deps,
        project: Project,
        snapshot: &dyn Snapshot,
        slot: Option<Slot>,
        number: RunNumber,
        document: Option<&Document>,
    ) -> Result<()> {
        self.damaged.retain(|damaged| *damaged != number);
        let Some(slot) = slot else { return Ok(()) };
        let mut is_match = false;
        if let Some(document) = document {
            let mut loader = CandidateLoader::new(project, self.query.clone(), None);
            let run_id = document.props.run_id.clone();
            match loader.load(snapshot, number, document.clone()).await {
                Ok(candidate) => {
                    let mut filter = QueryFilter::new(self.query.clone(), None);
                    is_match = !filter.matching(&deps.evaluation, vec![candidate]).await?.is_empty();
                    self.always_raised &= filter.always_raised();
                }
                Err(error) => {
                    deps.metrics.leave_out(&run_id, error)?;
                    self.damaged.push(number);
                }
            }
        }
        let index = slot as usize;
        if index >= self.matches.len() {
            let more = index + 1 - self.matches.len();
            grow(&mut self.matches, more);
            self.matches.resize(index + 1, false);
        }
        self.matches[index] = is_match;
        Ok(())
    }

    pub(super) fn bytes(&self) -> usize {
        self.matches.capacity()
    }

    /// Upper bound of the memory that the set takes in addition if there are `runs`.
    pub(super) fn growth(&self, runs: usize) -> usize {
        vec_growth(&self.matches, runs.saturating_sub(self.matches.len()))
    }
}
