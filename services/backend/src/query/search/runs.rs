//! Searches of runs. Without a sort order, runs are sent newest first as they are found. With one,
//! the table of the project gives the order, and each run is read when it is sent. A page by time
//! of creation alone needs no table.

use std::sync::Arc;

use matyan_model::ids::RunNumber;
use matyan_proto::{
    runs::v1::{Run, RunParts},
    search::v1::RunsResponse,
};
use prost::Message;

use super::{
    run_request::{ListStart, RunSearch},
    sort,
    unknown_names::unknown_names,
};
use crate::{
    listing::Term,
    query::{
        candidates::{Candidate, MatchPage, MatchedRun, RunScanner, RunsByCreated, newest_run},
        row_stream::{Delivery, KeepAlive, MessageStatus, Rank, RowStream},
        table::{PageStart, TablePage},
    },
    server::{
        deps::Deps,
        error::{Error, Result},
        large_runs::LargeRunRoom,
        stream::{MESSAGE_BYTES, Sender, StreamEnd},
    },
    view::{EntityNames, in_pieces, run_parts},
};

const MESSAGE_RUNS: usize = 256;

/// Size of an id in a message, apart from its text.
const ID_BYTES: usize = 3;

impl RunSearch {
    pub(super) async fn send(
        self,
        sender: &Sender<RunsResponse>,
        room: LargeRunRoom,
    ) -> Result<(), StreamEnd> {
        let mut keep_alive = KeepAlive::new(sender);
        let created_order = sort::created_order(&self.keys).filter(|_| self.limit.is_some());
        let mut scans = !self.uses_table() && (self.keys.is_empty() || created_order.is_some());
        let mut known = None;
        if scans && self.may_be_known() {
            known = keep_alive.during(self.known_page(), || None).await??;
            scans = known.is_none();
        }
        let scanner = if scans {
            let opened = RunScanner::new(self.catalog.deps.clone(), self.call.project, &self.compiled);
            keep_alive.during(opened, || None).await??
        } else {
            RunScanner::of_known(self.catalog.deps.clone(), self.call.project, &self.compiled, 0)
        };
        let stream = RowStream::start(keep_alive, scanner, &self.compiled, status_message).await?;
        let is_dense = stream.scanner.is_dense();
        let runs = RunSender {
            stream,
            room,
            names: EntityNames::new(&self.call),
            deps: self.catalog.deps.clone(),
            parts: self.parts.clone(),
            left: self.limit,
            counts: MatchCounts { is_counted: true, total: None },
            message: RunsResponse::default(),
            bytes: 0,
            last: None,
        };
        match created_order {
            _ if scans && self.keys.is_empty() => Box::pin(runs.newest_first(self)).await,
            // A page of a query that matches nearly everything.
            Some(descending) if scans && is_dense => Box::pin(runs.by_created(self, descending)).await,
            _ => Box::pin(runs.tabled(self, known)).await,
        }
    }
}

fn status_message(status: MessageStatus) -> RunsResponse {
    let MessageStatus { progress, warnings, done, next_cursor, damaged_runs } = status;
    RunsResponse { progress, warnings, done, next_cursor, damaged_runs, ..RunsResponse::default() }
}

/// The last run that was sent.
struct LastRun {
    number: RunNumber,
    run_id: String,
    created_us: i64,
}

struct RunSender<'s> {
    stream: RowStream<'s, RunsResponse>,
    room: LargeRunRoom,
    deps: Arc<Deps>,
    names: EntityNames,
    /// `None`: only the ids.
    parts: Option<RunParts>,
    /// Number of runs still wanted, or `None` for all.
    left: Option<u64>,
    counts: MatchCounts,
    last: Option<LastRun>,
    /// The next message, and its size.
    message: RunsResponse,
    bytes: usize,
}

struct MatchCounts {
    /// Whether the matches that were found are all matches before the next one; false after a seek.
    is_counted: bool,
    /// Total number of matches, once known.
    total: Option<u64>,
}

/// A page with the ranks of its runs.
type RankedPage = (MatchPage, Vec<Rank>);

impl RunSender<'_> {
    /// Sends matches in descending order of run number, which is the order of creation.
    async fn newest_first(mut self, search: RunSearch) -> Result<(), StreamEnd> {
        let mut first = None;
        if let ListStart::Cursor(cursor) = &search.start {
            self.stream.scanner.seek_after(cursor.run_number()?);
            self.counts.is_counted = false;
        }
        let mut next = self.ranked_page().await?;
        if let ListStart::AfterRun(run_id) = &search.start
            && let Some(page) = next.take()
        {
            next = self.page_after(&search, run_id, page).await?;
        }
        while let Some((page, ranks)) = next {
            first = first.or(page.matched.front().map(|matched| matched.candidate.number));
            if self.left.is_none_or(|left| left > page.matched.len() as u64) {
                self.stream.read_ahead();
            }
            self.deliver(Delivery::from_page(page, ranks)).await?;
            if self.left == Some(0) {
                break;
            }
            next = self.ranked_page().await?;
        }
        let last = self.last.take().filter(|_| self.left == Some(0));
        let cursor = last.map(|LastRun { number, run_id, .. }| {
            let terms = vec![Term::Integer(number.0.cast_signed())];
            search.cursor(first.unwrap_or(number), terms, run_id)
        });
        self.end(&search, cursor).await
    }

    async fn ranked_page(&mut self) -> Result<Option<RankedPage>, StreamEnd> {
        let Some(page) = self.stream.next_page().await? else { return Ok(None) };
        let first = self.stream.found + 1;
        self.stream.found += page.matched.len() as u64;
        if self.counts.is_counted && self.stream.scanner.is_done() {
            self.counts.total = Some(self.stream.found);
        }
        let ranks = (first..=self.stream.found).map(|rank| self.counts.is_counted.then_some(rank)).collect();
        Ok(Some((page, ranks)))
    }

    /// The matches after a run, starting with this page; `None` if that run does not
    /// match. If the run is beyond this page, the scan seeks directly to it, and the ranks
    /// of its successors are then unknown.
    async fn page_after(
        &mut self,
        search: &RunSearch,
        run_id: &str,
        first: RankedPage,
    ) -> Result<Option<RankedPage>, StreamEnd> {
        let Some(number) = search.find_live(run_id).await? else { return Ok(None) };
        let is_passed = first.0.matched.back().is_some_and(|last| last.candidate.number < number);
        let found = split_after(first, number);
        if found.is_some() || is_passed || self.stream.scanner.is_done() {
            return Ok(found);
        }
        self.stream.scanner.seek(number);
        self.counts.is_counted = false;
        Ok(self.ranked_page().await?.and_then(|page| split_after(page, number)))
    }

    async fn by_created(mut self, search: RunSearch, descending: bool) -> Result<(), StreamEnd> {
        let project = search.call.project;
        let mut newest = newest_run(&self.deps, search.call.project).await?;
        let from = match &search.start {
            ListStart::Position(_) => None,
            ListStart::Cursor(cursor) => {
                newest = cursor.newest;
                let Some(Term::Integer(created_us)) = cursor.terms.first() else {
                    return Err(Error::field("cursor", "is invalid: use the one of the previous page").into());
                };
                Some((*created_us, cursor.run_id.clone()))
            }
            ListStart::AfterRun(run_id) => {
                let Some(number) = search.find_live(run_id).await? else {
                    return self.end(&search, None).await;
                };
                let found = self.stream.reread(&[number]).await?;
                let Some(last) = found.matched.front() else { return self.end(&search, None).await };
                Some((last.candidate.document.props.created_us, run_id.clone()))
            }
        };
        self.counts.is_counted = from.is_none();
        let from_us = from.as_ref().map(|(created_us, _)| *created_us);
        let mut by_created = RunsByCreated::new(self.deps.clone(), project, descending, from_us);
        while self.left != Some(0) {
            let numbers = self.stream.during(by_created.next()).await??;
            if numbers.is_empty() {
                self.counts.total = self.counts.is_counted.then_some(self.stream.found);
                break;
            }
            self.stream.scanner.count_checked(numbers.len());
            let mut unread: Vec<RunNumber> = numbers.into_iter().filter(|number| *number <= newest).collect();
            while !unread.is_empty() && self.left != Some(0) {
                let mut page = self.stream.reread(&unread).await?;
                unread = std::mem::take(&mut page.unread);
                sort_by_created(&mut page, descending, from.as_ref());
                let first = self.stream.found + 1;
                self.stream.found += page.matched.len() as u64;
                let is_counted = self.counts.is_counted;
                let ranks = (first..).map(|rank| is_counted.then_some(rank));
                self.deliver(Delivery::from_page(page, ranks)).await?;
            }
        }
        let last = self.last.take().filter(|_| self.left == Some(0));
        let cursor =
            last.map(|last| search.cursor(newest, vec![Term::Integer(last.created_us)], last.run_id));
        self.end(&search, cursor).await
    }

    /// Sends runs in the order of the table of the project. The first page may be known already.
    async fn tabled(mut self, search: RunSearch, mut known: Option<TablePage>) -> Result<(), StreamEnd> {
        let Some(mut start) = search.page_start().await? else { return self.end(&search, None).await };
        let mut selection = search.selection().await?;
        let deps = self.deps.clone();
        loop {
            let page = match known.take() {
                Some(page) => page,
                None => {
                    let most = self.left.and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX);
                    let read =
                        search.catalog.tables.page(&deps, &selection, start, most.min(search.page_runs()));
                    self.stream.during(read).await??
                }
            };
            self.stream.found = page.total;
            self.counts.total = Some(page.total);
            self.stream.always_raised = page.always_raised;
            self.stream.scanner.left_out.extend_counted(&page.damaged);
            self.stream.scanner.set_total(page.total);
            let Some((_, last_id)) = page.runs.last().cloned() else { break };
            selection.newest = Some(page.newest);
            let ranks = (page.first_rank..).map(Some);
            if self.parts.is_none() {
                let ids = page.runs.into_iter().map(|(_, run_id)| run_id).zip(ranks);
                self.send_ids(ids).await?;
            } else {
                let numbers = page.runs.into_iter().map(|(number, _)| number).zip(ranks);
                self.deliver(Delivery::new(numbers)).await?;
            }
            if !page.more {
                break;
            }
            if self.left == Some(0) {
                let cursor = search.cursor(page.newest, page.last_terms, last_id);
                return self.end(&search, Some(cursor)).await;
            }
            start = PageStart::After { terms: page.last_terms, run_id: last_id };
        }
        self.end(&search, None).await
    }

    /// Sends the ids of sorted runs as of the time when each was found.
    async fn send_ids(&mut self, ids: impl Iterator<Item = (String, Rank)>) -> Result<(), StreamEnd> {
        let most = self.left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        for (run_id, rank) in ids.take(most) {
            self.left = self.left.map(|left| left - 1);
            self.add_id(run_id, rank);
            if self.bytes >= MESSAGE_BYTES {
                let message = self.message();
                self.stream.send(message).await?;
            }
        }
        Ok(())
    }

    async fn deliver(&mut self, mut delivery: Delivery) -> Result<(), StreamEnd> {
        while self.left != Some(0) {
            let Some((rank, matched)) = self.stream.next_run(&mut delivery).await? else { break };
            let Candidate { number, document, .. } = &matched.candidate;
            let last = LastRun {
                number: *number,
                run_id: document.props.run_id.clone(),
                created_us: document.props.created_us,
            };
            let Some(parts) = &self.parts else {
                self.last = Some(last);
                self.left = self.left.map(|left| left - 1);
                self.add_id(document.props.run_id.clone(), rank);
                if self.bytes >= MESSAGE_BYTES {
                    self.flush(&mut delivery).await?;
                }
                continue;
            };
            let snapshot = delivery.snapshot();
            let read = run_parts(&self.deps, &mut self.names, snapshot, *number, document, parts);
            let run = match self.stream.during(read).await? {
                Ok(run) => run,
                Err(error @ Error::Damaged(_)) => {
                    let run = (*number, document.props.run_id.as_str());
                    self.stream.scanner.left_out.leave_out(&self.deps.metrics, run, error)?;
                    continue;
                }
                Err(error) => {
                    delivery.take_back(*number, rank, error)?;
                    continue;
                }
            };
            if !self.room.is_enough_for(&run) {
                drop((run, matched));
                if self.bytes > 0 {
                    self.flush(&mut delivery).await?;
                }
                self.stream.wait_for_room(&mut self.room, &mut delivery, (last.number, rank)).await?;
                continue;
            }
            self.last = Some(last);
            self.left = self.left.map(|left| left - 1);
            for piece in in_pieces(run) {
                self.add(piece, rank);
                if self.bytes >= MESSAGE_BYTES || self.message.runs.len() >= MESSAGE_RUNS {
                    self.flush(&mut delivery).await?;
                }
            }
        }
        // Found runs are not held back while the scan continues; `end` sends the last
        // runs.
        let is_more = self.left != Some(0) && !self.stream.scanner.is_done();
        if is_more && self.bytes > 0 {
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

    fn add_id(&mut self, run_id: String, rank: Rank) {
        if self.message.run_ids.is_empty() {
            self.message.first_place = rank;
        }
        self.bytes += run_id.len() + ID_BYTES;
        self.message.run_ids.push(run_id);
    }

    async fn flush(&mut self, delivery: &mut Delivery) -> Result<(), StreamEnd> {
        let message = self.message();
        self.stream.flush(message, delivery, &mut None).await
    }

    /// The pending message, after which there is none.
    fn message(&mut self) -> RunsResponse {
        self.bytes = 0;
        let mut message = std::mem::take(&mut self.message);
        message.match_count = self.counts.total;
        message.progress = self.stream.progress();
        message
    }

    /// Sends the last message, with the cursor of the next page if there may be one.
    async fn end(mut self, search: &RunSearch, next_cursor: Option<String>) -> Result<(), StreamEnd> {
        let mut warnings = Vec::new();
        if self.stream.found == 0 && self.counts.is_counted {
            let unknown = unknown_names(&search.catalog, &search.call, &search.compiled);
            warnings = self.stream.during(unknown).await??;
        }
        let status = self.stream.last_status(warnings, next_cursor.unwrap_or_default());
        let RunsResponse { runs, run_ids, first_place, match_count, .. } = self.message();
        let message = RunsResponse { runs, run_ids, first_place, match_count, ..status_message(status) };
        self.stream.send(message).await
    }
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
