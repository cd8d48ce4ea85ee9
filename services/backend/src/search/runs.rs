//! Searches of runs. Without a sort order, runs are sent newest first as they are found,
//! starting after the previous page. With one, the sort keys of all matches are collected, and
//! each run is read again when it is sent.

use std::sync::Arc;

use matyan_model::{
    ids::{RunId, RunNumber},
    run::head_live,
};
use matyan_proto::{
    common::v1::Progress,
    runs::v1::{Run, RunParts},
    search::v1::{RunsRequest, RunsResponse, Warning},
};
use matyan_ql::Endpoint;
use prost::Message;

use super::{
    by_created::RunsByCreated,
    candidate::Candidate,
    delivery::{Delivery, Rank},
    filter::MatchedRun,
    keep_alive::KeepAlive,
    query_text::{self, CompiledQuery},
    scan::{MatchPage, RunScanner},
    sort::{self, SortKey, Sorter},
};
use crate::{
    Deps,
    call::Call,
    convert,
    error::{Error, Result},
    stream::{MESSAGE_BYTES, Sender, StreamEnd},
    view::{EntityNames, in_pieces, run_parts},
};

const MESSAGE_RUNS: usize = 256;

/// A validated request.
pub(super) struct RunSearch {
    deps: Arc<Deps>,
    call: Call,
    compiled: CompiledQuery,
    keys: Vec<SortKey>,
    limit: Option<u64>,
    /// The last run of the previous page.
    after: Option<String>,
    parts: RunParts,
}

impl RunSearch {
    pub(super) fn new(deps: Arc<Deps>, call: Call, request: RunsRequest) -> Result<Self> {
        let parts = convert::parts(request.parts)?;
        Ok(Self {
            compiled: query_text::compile_query(&deps, request.query, Endpoint::Run)?,
            keys: sort::parse_keys(request.sort)?,
            limit: (request.limit > 0).then_some(request.limit.into()),
            after: (!request.after_run_id.is_empty()).then_some(request.after_run_id),
            parts,
            deps,
            call,
        })
    }

    pub(super) async fn send(self, sender: &Sender<RunsResponse>) -> Result<(), StreamEnd> {
        let mut keep_alive = KeepAlive::new(sender);
        let opened = RunScanner::new(self.deps.clone(), self.call.project, &self.compiled);
        let scanner = keep_alive.during(opened, || None).await??;
        let warnings = self.compiled.warnings;
        if !warnings.is_empty() {
            // Sent before the search starts: a warning about the query must not wait
            // for a match.
            keep_alive.send(RunsResponse { warnings, ..RunsResponse::default() }).await?;
        }
        let runs = RunSender {
            keep_alive,
            names: EntityNames::new(&self.call),
            deps: self.deps,
            parts: self.parts,
            report_progress: self.compiled.report_progress,
            scanner,
            left: self.limit,
            found: 0,
            is_counted: true,
            match_count: 0,
            message: RunsResponse::default(),
            bytes: 0,
        };
        match sort::created_order(&self.keys) {
            _ if self.keys.is_empty() => runs.newest_first(&self.call, self.after).await,
            // A page of a query that matches nearly everything.
            Some(descending) if self.limit.is_some() && runs.scanner.is_dense() => {
                runs.by_created(&self.call, descending, self.after).await
            }
            _ => runs.sorted(&self.call, self.keys, self.after).await,
        }
    }
}

struct RunSender<'s> {
    deps: Arc<Deps>,
    keep_alive: KeepAlive<'s, RunsResponse>,
    scanner: RunScanner,
    names: EntityNames,
    parts: RunParts,
    report_progress: bool,
    /// Number of runs still wanted, or `None` for all.
    left: Option<u64>,
    /// Number of matches so far.
    found: u64,
    /// Whether `found` counts every match before the next one; false after a seek.
    is_counted: bool,
    /// Total number of matches, once known.
    match_count: u64,
    /// The next message, and its size.
    message: RunsResponse,
    bytes: usize,
}

/// A page with the ranks of its runs.
type RankedPage = (MatchPage, Vec<Rank>);

impl RunSender<'_> {
    /// Sends matches in descending order of run number, which is the order of creation.
    async fn newest_first(mut self, call: &Call, after: Option<String>) -> Result<(), StreamEnd> {
        let mut next = self.ranked_page().await?;
        if let Some(run_id) = after
            && let Some(first) = next.take()
        {
            next = self.page_after(call, run_id, first).await?;
        }
        while let Some((page, ranks)) = next {
            self.deliver(Delivery::from_page(page, ranks)).await?;
            if self.left == Some(0) {
                break;
            }
            next = self.ranked_page().await?;
        }
        self.end().await
    }

    async fn ranked_page(&mut self) -> Result<Option<RankedPage>, StreamEnd> {
        let Some(page) = self.page().await? else { return Ok(None) };
        let first = self.found + 1;
        self.found += page.matched.len() as u64;
        if self.is_counted && self.scanner.is_done() {
            self.match_count = self.found;
        }
        let ranks = (first..=self.found).map(|rank| if self.is_counted { rank } else { 0 }).collect();
        Ok(Some((page, ranks)))
    }

    /// The matches after a run, beginning with this page; `None` if that run does not
    /// match. If the run is beyond this page, the scan seeks directly to it, and the ranks
    /// of its successors are then unknown.
    async fn page_after(
        &mut self,
        call: &Call,
        run_id: String,
        first: RankedPage,
    ) -> Result<Option<RankedPage>, StreamEnd> {
        let Some(number) = self.find_live(call, run_id).await? else { return Ok(None) };
        let is_passed = first.0.matched.back().is_some_and(|last| last.candidate.number < number);
        let found = split_after(first, number);
        if found.is_some() || is_passed || self.scanner.is_done() {
            return Ok(found);
        }
        self.scanner.seek(number);
        self.is_counted = false;
        Ok(self.ranked_page().await?.and_then(|page| split_after(page, number)))
    }

    async fn find_live(&self, call: &Call, run_id: String) -> Result<Option<RunNumber>> {
        if run_id.len() > matyan_proto::limits::RUN_ID_BYTES {
            return Ok(None);
        }
        let snapshot = self.deps.store.snapshot().await?;
        Ok(head_live(snapshot.as_ref(), call.project, &RunId::new(run_id)).await?)
    }

    async fn by_created(
        mut self,
        call: &Call,
        descending: bool,
        after: Option<String>,
    ) -> Result<(), StreamEnd> {
        let mut from = None;
        if let Some(run_id) = after {
            let Some(number) = self.find_live(call, run_id.clone()).await? else { return self.end().await };
            let found = self.scanner.reread(&[number]).await?;
            let Some(last) = found.matched.front() else { return self.end().await };
            from = Some((last.candidate.document.props.created_us, run_id));
        }
        self.is_counted = from.is_none();
        let from_us = from.as_ref().map(|(created_us, _)| *created_us);
        let mut by_created = RunsByCreated::new(self.deps.clone(), call.project, descending, from_us);
        while self.left != Some(0) {
            let message = self.keep_alive_message();
            let numbers = self.keep_alive.during(by_created.next(), message).await??;
            if numbers.is_empty() {
                self.match_count = if self.is_counted { self.found } else { 0 };
                break;
            }
            self.scanner.count_checked(numbers.len());
            let mut unread = numbers;
            while !unread.is_empty() && self.left != Some(0) {
                let message = self.keep_alive_message();
                let mut page = self.keep_alive.during(self.scanner.reread(&unread), message).await??;
                unread = std::mem::take(&mut page.unread);
                sort_by_created(&mut page, descending, from.as_ref());
                let first = self.found + 1;
                self.found += page.matched.len() as u64;
                let is_counted = self.is_counted;
                let ranks = (first..).map(|rank| if is_counted { rank } else { 0 });
                self.deliver(Delivery::from_page(page, ranks)).await?;
            }
        }
        self.end().await
    }

    async fn sorted(
        mut self,
        call: &Call,
        keys: Vec<SortKey>,
        after: Option<String>,
    ) -> Result<(), StreamEnd> {
        let mut sorter = Sorter::new(keys, (self.deps.clock)());
        while let Some(page) = self.page().await? {
            let mut delivery = Delivery::from_page(page, std::iter::repeat(0));
            while let Some((rank, matched)) = self.next(&mut delivery).await? {
                let Candidate { number, document, .. } = &matched.candidate;
                let added = sorter.add(delivery.snapshot(), call.project, *number, document);
                let message = self.keep_alive_message();
                if let Err(error) = self.keep_alive.during(added, message).await? {
                    delivery.take_back(*number, rank, error)?;
                }
            }
            self.found = sorter.found();
        }
        let sorting = tokio::task::spawn_blocking(move || sorter.sorted()).await;
        let entries = sorting.map_err(|_| Error::Stopping)?;
        self.match_count = entries.len() as u64;
        let skipped = match after {
            None => Some(0),
            Some(after) => entries.iter().position(|entry| entry.run_id == after).map(|index| index + 1),
        };
        if let Some(skipped) = skipped {
            let numbers = entries.into_iter().map(|entry| entry.number).zip(1..).skip(skipped);
            self.deliver(Delivery::new(numbers)).await?;
        }
        self.end().await
    }

    async fn page(&mut self) -> Result<Option<MatchPage>, StreamEnd> {
        let message = self.keep_alive_message();
        Ok(self.keep_alive.during(self.scanner.next(), message).await??)
    }

    async fn next(&mut self, delivery: &mut Delivery) -> Result<Option<(Rank, MatchedRun)>, StreamEnd> {
        let message = self.keep_alive_message();
        Ok(self.keep_alive.during(delivery.next(&mut self.scanner), message).await??)
    }

    fn progress(&self) -> Option<Progress> {
        self.report_progress.then(|| self.scanner.progress(self.found))
    }

    fn keep_alive_message(&self) -> impl Fn() -> Option<RunsResponse> + use<> {
        let progress = self.progress();
        move || progress.map(|progress| RunsResponse { progress: Some(progress), ..RunsResponse::default() })
    }

    async fn deliver(&mut self, mut delivery: Delivery) -> Result<(), StreamEnd> {
        while self.left != Some(0) {
            let Some((rank, matched)) = self.next(&mut delivery).await? else { break };
            let Candidate { number, document, .. } = &matched.candidate;
            let (snapshot, message) = (delivery.snapshot(), self.keep_alive_message());
            let read = run_parts(&self.deps, &mut self.names, snapshot, *number, document, &self.parts);
            let run = match self.keep_alive.during(read, message).await? {
                Ok(run) => run,
                Err(error @ Error::Damaged(_)) => {
                    self.deps.metrics.leave_out(&document.props.run_id, error)?;
                    continue;
                }
                Err(error) => {
                    delivery.take_back(*number, rank, error)?;
                    continue;
                }
            };
            self.left = self.left.map(|left| left - 1);
            for piece in in_pieces(run) {
                self.add(piece, rank);
                if self.bytes >= MESSAGE_BYTES || self.message.runs.len() >= MESSAGE_RUNS {
                    self.flush(&mut delivery).await?;
                }
            }
        }
        // Found runs are not held back while the scan continues; `end` sends the last
        // ones.
        let is_more = self.left != Some(0) && !self.scanner.is_done();
        if is_more && !self.message.runs.is_empty() {
            self.flush(&mut delivery).await?;
        }
        Ok(())
    }

    fn add(&mut self, run: Run, rank: Rank) {
        if self.message.runs.is_empty() {
            self.message.first_place = rank;
        }
        self.bytes += run.encoded_len();
        self.message.runs.push(run);
    }

    /// Sends the pending message. If the client is slow, the snapshot is dropped while
    /// waiting.
    async fn flush(&mut self, delivery: &mut Delivery) -> Result<(), StreamEnd> {
        let message = self.message();
        if let Err(message) = self.keep_alive.send_soon(message).await {
            delivery.drop_snapshot();
            self.keep_alive.send(message).await?;
        }
        Ok(())
    }

    fn message(&mut self) -> RunsResponse {
        self.bytes = 0;
        let mut message = std::mem::take(&mut self.message);
        message.match_count = self.match_count;
        message.progress = self.progress();
        message
    }

    async fn end(mut self) -> Result<(), StreamEnd> {
        let mut message = self.message();
        message.warnings.extend(always_raised(&self.scanner));
        message.done = true;
        Ok(self.keep_alive.send(message).await?)
    }
}

/// A warning that nothing was found because the query always fails.
pub(super) fn always_raised(scanner: &RunScanner) -> Option<Warning> {
    let message =
        "the query fails for everything it is evaluated on, so nothing is found: check its names and types";
    scanner.always_raised().then(|| Warning { message: message.to_owned(), ..Warning::default() })
}

/// Sorts a page by creation time and then id, and drops runs up to the last one of the previous
/// page.
fn sort_by_created(page: &mut MatchPage, descending: bool, last: Option<&(i64, String)>) {
    let key = |matched: &MatchedRun| {
        let props = &matched.candidate.document.props;
        (props.created_us, props.run_id.clone())
    };
    if let Some(last) = last {
        page.matched.retain(|matched| {
            let key = key(matched);
            key.0 != last.0 || key.1 > last.1
        });
    }
    page.matched.make_contiguous().sort_by_cached_key(|matched| {
        let (created_us, run_id) = key(matched);
        (if descending { -i128::from(created_us) } else { created_us.into() }, run_id)
    });
}

/// The part of a page after a run; `None` if the run is not among its matches.
fn split_after((mut page, mut ranks): RankedPage, number: RunNumber) -> Option<RankedPage> {
    let index = page.matched.iter().position(|matched| matched.candidate.number == number)?;
    page.matched.drain(..=index);
    ranks.drain(..=index);
    Some((page, ranks))
}
