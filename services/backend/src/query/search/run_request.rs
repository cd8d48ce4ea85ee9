//! Requests of searches of runs, validated, and the cursors of their lists.

use std::sync::Arc;

use matyan_model::{
    ids::{RunId, RunNumber},
    run::head_live,
};
use matyan_proto::{
    limits,
    runs::v1::RunParts,
    search::v1::{GroupBy, Query, RunsRequest},
};
use matyan_ql::Endpoint;
use prost::Message;

use super::{groups::group_values, sort};
use crate::{
    listing::{Cursor, GroupToken, Term, request_digest},
    query::{
        catalog::Catalog,
        plan::{CompiledQuery, query_text},
        table::{PageStart, RunValue, Selection, SortKey, TablePage, TableQuery},
    },
    server::{
        call::Call,
        convert,
        error::{Error, Result},
    },
};

/// Largest number of runs, or of ids, taken from a table at a time.
const TABLE_RUNS: usize = 100_000;

/// A validated request.
pub(super) struct RunSearch {
    pub(super) catalog: Catalog,
    pub(super) call: Call,
    pub(super) compiled: Arc<CompiledQuery>,
    /// In the order of the request; empty: newest first.
    pub(super) keys: Vec<SortKey>,
    pub(super) limit: Option<u64>,
    pub(super) start: ListStart,
    pub(super) count: bool,
    pub(super) group: Option<(Vec<RunValue>, Vec<Term>)>,
    /// Digest of the parts of the request that a cursor of this list depends on.
    digest: u64,
    pub(super) now_us: i64,
    /// `None`: only the ids.
    pub(super) parts: Option<RunParts>,
}

/// Where a search starts.
pub(super) enum ListStart {
    Position(u64),
    Cursor(Cursor),
    /// The last run of the previous page.
    AfterRun(String),
}

impl RunSearch {
    pub(super) async fn new(catalog: &Catalog, call: Call, request: RunsRequest) -> Result<Self> {
        let parts = convert::parts(request.parts.clone())?;
        let digest = list_digest(&request);
        let keys = sort::parse_keys(request.sort)?;
        let starts = [
            ("after_run_id", !request.after_run_id.is_empty()),
            ("position", request.position > 0),
            ("cursor", !request.cursor.is_empty()),
        ];
        let mut starts = starts.into_iter().filter(|(_, is_set)| *is_set);
        if let (Some((first, _)), Some((second, _))) = (starts.next(), starts.next()) {
            return Err(Error::field(second, format!("cannot be combined with `{first}`: set one of them")));
        }
        let start = match request.cursor.as_str() {
            "" if request.after_run_id.is_empty() => ListStart::Position(request.position),
            "" => ListStart::AfterRun(request.after_run_id),
            text => ListStart::Cursor(Cursor::decode(text, digest, keys.len().max(1))?),
        };
        let now_us = match &start {
            ListStart::Cursor(cursor) => cursor.now_us,
            _ => (catalog.deps.clock)(),
        };
        let group = match request.group.as_str() {
            "" => None,
            text => {
                let GroupToken { by, terms } = GroupToken::<GroupBy>::decode(text)?;
                Some((group_values("group", by)?, terms))
            }
        };
        let evaluation = &catalog.deps.evaluation;
        let compiled = query_text::compile_query_at(evaluation, now_us, request.query, Endpoint::Run).await?;
        Ok(Self {
            compiled: Arc::new(compiled),
            keys,
            limit: (request.limit > 0).then_some(request.limit.into()),
            start,
            count: request.count,
            group,
            digest,
            now_us,
            parts: (!request.ids_only).then_some(parts),
            catalog: catalog.clone(),
            call,
        })
    }

    /// Whether only a table can answer the request.
    pub(super) fn uses_table(&self) -> bool {
        let is_far = matches!(self.start, ListStart::Position(position) if position > 0);
        is_far || self.count || self.group.is_some()
    }

    /// Whether a table may have a page that can be read without one.
    pub(super) fn may_be_known(&self) -> bool {
        self.limit.is_some() && self.compiled.query.statement().is_empty()
    }

    /// The runs of the request in a table.
    pub(super) async fn selection(&self) -> Result<Selection> {
        let project = self.call.project;
        Ok(Selection {
            project,
            sort: if self.keys.is_empty() { sort::newest_first() } else { self.keys.clone() },
            query: TableQuery::new(&self.catalog.deps, project, self.compiled.clone()).await?,
            group: self.group.clone(),
            now_us: self.now_us,
            newest: match &self.start {
                ListStart::Cursor(cursor) => Some(cursor.newest),
                ListStart::Position(_) | ListStart::AfterRun(_) => None,
            },
        })
    }

    /// The place where the request starts in a table; `None` after a run that does not exist.
    pub(super) async fn page_start(&self) -> Result<Option<PageStart>> {
        Ok(Some(match &self.start {
            ListStart::Position(position) => PageStart::Position(*position),
            ListStart::Cursor(cursor) => {
                PageStart::After { terms: cursor.terms.clone(), run_id: cursor.run_id.clone() }
            }
            ListStart::AfterRun(run_id) => match self.find_live(run_id).await? {
                Some(number) => PageStart::AfterRun(number),
                None => return Ok(None),
            },
        }))
    }

    /// The page of the request, if its table has it at hand. Such a page can be read without a table
    /// and does not wait for one.
    pub(super) async fn known_page(&self) -> Result<Option<TablePage>> {
        let Some(start) = self.page_start().await? else { return Ok(None) };
        self.catalog
            .tables
            .page_now(&self.catalog.deps, &self.selection().await?, start, self.page_runs())
            .await
    }

    /// Number of runs, or of ids, to take from a table at a time.
    pub(super) fn page_runs(&self) -> usize {
        let limit = self.limit.and_then(|limit| usize::try_from(limit).ok());
        limit.map_or(TABLE_RUNS, |limit| limit.min(TABLE_RUNS))
    }

    pub(super) async fn find_live(&self, run_id: &str) -> Result<Option<RunNumber>> {
        if run_id.len() > limits::RUN_ID_BYTES {
            return Ok(None);
        }
        let snapshot = self.catalog.deps.store.snapshot().await?;
        Ok(head_live(snapshot.as_ref(), self.call.project, &RunId::new(run_id)).await?)
    }

    /// The cursor after a run.
    pub(super) fn cursor(&self, newest: RunNumber, terms: Vec<Term>, run_id: String) -> String {
        let newest = match &self.start {
            ListStart::Cursor(cursor) => cursor.newest,
            _ => newest,
        };
        let request = self.digest;
        let now_us = self.now_us;
        let number = Term::Absent;
        Cursor { request, now_us, newest, terms, run_id, number }.encode()
    }
}

/// A digest of the parts of a request that select its runs and their order.
fn list_digest(request: &RunsRequest) -> u64 {
    let query = request.query.as_ref().map(|query| Query { report_progress: false, ..query.clone() });
    let query = query.unwrap_or_default().encode_to_vec();
    let sort: Vec<Vec<u8>> = request.sort.iter().map(Message::encode_to_vec).collect();
    let mut parts = vec![query.as_slice(), request.group.as_bytes()];
    parts.extend(sort.iter().map(Vec::as_slice));
    request_digest(&parts)
}
