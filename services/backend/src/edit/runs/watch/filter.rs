//! Selection of the runs to watch: all runs or given ids, optionally restricted by a query.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use matyan_model::{
    ids::RunNumber,
    run::{Document, run_id_get},
};
use matyan_proto::{runs::v1::WatchRequest, search::v1::Query as QueryText};
use matyan_ql::{Endpoint, Query};
use matyan_store::Snapshot;
use prost::Message;

use crate::{
    changes::NUMBER_BYTES,
    query::{
        candidates::{CandidateLoader, QueryFilter, reads_large_params},
        plan::compile_query,
    },
    server::{
        call::Call,
        deps::Deps,
        error::Result,
        evaluation::{Evaluation, PAGE_PARAMS, PageRoom},
    },
    view::run_lookup::is_run_id,
};

/// Maximum number of run numbers for which the result is remembered.
const REMEMBERED: usize = 100_000;

/// Memory for an id in a set, apart from its text, including free places.
const ID_BYTES: usize = 2 * size_of::<String>();

pub(super) struct WatchFilter {
    /// `None` for all runs.
    ids: Option<HashSet<String>>,
    query: Option<Arc<Query>>,
    known: HashMap<RunNumber, bool>,
    /// Size of the request, most of which is kept.
    request_bytes: usize,
}

impl WatchFilter {
    pub(super) async fn new(deps: &Deps, request: &WatchRequest) -> Result<Self> {
        let ids = request.run_ids.iter().filter(|id| is_run_id(id)).cloned().collect();
        let query = if request.query.trim().is_empty() {
            None
        } else {
            let text = QueryText {
                text: request.query.clone(),
                timezone_offset_min: request.timezone_offset_min,
                ..QueryText::default()
            };
            Some(compile_query(deps, Some(text), Endpoint::Run).await?.query)
        };
        Ok(Self {
            ids: (!request.run_ids.is_empty()).then_some(ids),
            query,
            known: HashMap::new(),
            request_bytes: request.encoded_len(),
        })
    }

    /// Size of the kept part of the request, and of the remembered run numbers.
    pub(super) fn bytes(&self) -> usize {
        let ids = self.ids.as_ref().map_or(0, HashSet::len);
        self.request_bytes + ids * ID_BYTES + self.known.len() * NUMBER_BYTES
    }

    /// The ids to watch, or `None` for all.
    pub(super) fn run_ids(&self) -> Option<Vec<String>> {
        self.ids.as_ref().map(|ids| ids.iter().cloned().collect())
    }

    /// Whether the run has one of the ids. Cached, because the id of a run number never
    /// changes.
    pub(super) async fn may_want(&mut self, deps: &Deps, call: &Call, number: RunNumber) -> Result<bool> {
        let Some(ids) = &self.ids else { return Ok(true) };
        if let Some(known) = self.known.get(&number) {
            return Ok(*known);
        }
        let snapshot = deps.store.snapshot().await?;
        let id = run_id_get(snapshot.as_ref(), call.project, number).await?;
        let wanted = id.is_some_and(|id| ids.contains(id.as_str()));
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(number, wanted);
        Ok(wanted)
    }

    /// Waits for room for the runs that the query is evaluated on; `None` without a query.
    pub(super) async fn room<'e>(&self, evaluation: &'e Evaluation) -> Option<PageRoom<'e>> {
        self.query.as_ref()?;
        Some(evaluation.page().await)
    }

    /// Whether the query reads large params of one of the runs.
    pub(super) fn reads_large_params(&self, runs: &[(RunNumber, Document)]) -> bool {
        let Some(query) = &self.query else { return false };
        runs.iter().any(|(_, document)| reads_large_params(query, document))
    }

    /// The runs that match the query. The caller has room for them.
    pub(super) async fn matching(
        &self,
        evaluation: &Evaluation,
        call: &Call,
        snapshot: &dyn Snapshot,
        runs: Vec<(RunNumber, Document)>,
    ) -> Result<HashSet<RunNumber>> {
        let Some(query) = &self.query else {
            return Ok(runs.into_iter().map(|(number, _)| number).collect());
        };
        // A new loader and a new budget each time, because names may have changed since
        // the last one.
        let mut loader = CandidateLoader::new(call.project, query.clone(), None);
        let mut filter = QueryFilter::new(query.clone(), None);
        let mut wanted = HashSet::new();
        let mut runs = runs.into_iter().peekable();
        while runs.peek().is_some() {
            let mut candidates = Vec::new();
            let mut params = 0;
            while params <= PAGE_PARAMS
                && let Some((number, document)) = runs.next()
            {
                let candidate = loader.load(snapshot, number, document).await?;
                params += candidate.params_bytes();
                candidates.push(candidate);
            }
            let matched = filter.matching(evaluation, candidates).await?;
            wanted.extend(matched.into_iter().map(|matched| matched.candidate.number));
        }
        Ok(wanted)
    }
}
