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
    candidate::Candidate,
    dated::Dated,
    delivery::{Delivery, Place},
    judge::Matched,
    pulse::Pulse,
    scan::{Page, Scanner},
    sort::{self, Key, Sorter},
    text::{self, Compiled},
};
use crate::{
    Context,
    call::Call,
    convert,
    error::{Error, Result},
    stream::{End, MESSAGE_BYTES, Sender},
    view::{Names, in_pieces, run_parts},
};

const MESSAGE_RUNS: usize = 256;

/// A validated request.
pub(super) struct RunSearch {
    context: Arc<Context>,
    call: Call,
    compiled: Compiled,
    keys: Vec<Key>,
    limit: Option<u64>,
    /// The last run of the previous page.
    after: Option<String>,
    parts: RunParts,
}

impl RunSearch {
    pub(super) fn new(context: Arc<Context>, call: Call, request: RunsRequest) -> Result<Self> {
        let parts = convert::parts(request.parts)?;
        Ok(Self {
            compiled: text::compiled(&context, request.query, Endpoint::Run)?,
            keys: sort::keys(request.sort)?,
            limit: (request.limit > 0).then_some(request.limit.into()),
            after: (!request.after_run_id.is_empty()).then_some(request.after_run_id),
            parts,
            context,
            call,
        })
    }

    pub(super) async fn send(self, sender: &Sender<RunsResponse>) -> Result<(), End> {
        let mut pulse = Pulse::new(sender);
        let opened = Scanner::new(self.context.clone(), self.call.project, &self.compiled);
        let scanner = pulse.during(opened, || None).await??;
        let warnings = self.compiled.warnings;
        if !warnings.is_empty() {
            // Sent before the search starts: a warning about the query must not wait
            // for a match.
            pulse.send(RunsResponse { warnings, ..RunsResponse::default() }).await?;
        }
        let out = Out {
            pulse,
            names: Names::new(&self.call),
            context: self.context,
            parts: self.parts,
            report_progress: self.compiled.report_progress,
            scanner,
            left: self.limit,
            found: 0,
            counts: true,
            match_count: 0,
            message: RunsResponse::default(),
            bytes: 0,
        };
        match sort::date(&self.keys) {
            _ if self.keys.is_empty() => out.newest_first(&self.call, self.after).await,
            // A page of a query that matches nearly everything.
            Some(descending) if self.limit.is_some() && out.scanner.is_dense() => {
                out.dated(&self.call, descending, self.after).await
            }
            _ => out.sorted(&self.call, self.keys, self.after).await,
        }
    }
}

struct Out<'s> {
    context: Arc<Context>,
    pulse: Pulse<'s, RunsResponse>,
    scanner: Scanner,
    names: Names,
    parts: RunParts,
    report_progress: bool,
    /// Number of runs still wanted, or `None` for all.
    left: Option<u64>,
    /// Number of matches so far.
    found: u64,
    /// Whether `found` counts every match before the next one; false after a seek.
    counts: bool,
    /// Total number of matches, once known.
    match_count: u64,
    /// The next message, and its size.
    message: RunsResponse,
    bytes: usize,
}

/// A page with the ranks of its runs.
type Placed = (Page, Vec<Place>);

impl Out<'_> {
    /// Sends matches in descending order of run number, which is the order of creation.
    async fn newest_first(mut self, call: &Call, after: Option<String>) -> Result<(), End> {
        let mut next = self.placed_page().await?;
        if let Some(run_id) = after
            && let Some(first) = next.take()
        {
            next = self.behind(call, run_id, first).await?;
        }
        while let Some((page, places)) = next {
            self.deliver(Delivery::of_page(page, places)).await?;
            if self.left == Some(0) {
                break;
            }
            next = self.placed_page().await?;
        }
        self.end().await
    }

    async fn placed_page(&mut self) -> Result<Option<Placed>, End> {
        let Some(page) = self.page().await? else { return Ok(None) };
        let first = self.found + 1;
        self.found += page.matched.len() as u64;
        if self.counts && self.scanner.is_done() {
            self.match_count = self.found;
        }
        let places = (first..=self.found).map(|place| if self.counts { place } else { 0 }).collect();
        Ok(Some((page, places)))
    }

    /// The matches after a run, beginning with this page; `None` if that run does not
    /// match. If the run is beyond this page, the scan seeks directly to it, and the ranks
    /// of its successors are then unknown.
    async fn behind(&mut self, call: &Call, run_id: String, first: Placed) -> Result<Option<Placed>, End> {
        let Some(number) = self.live(call, run_id).await? else { return Ok(None) };
        let is_passed = first.0.matched.back().is_some_and(|last| last.candidate.number < number);
        let found = cut(first, number);
        if found.is_some() || is_passed || self.scanner.is_done() {
            return Ok(found);
        }
        self.scanner.seek(number);
        self.counts = false;
        Ok(self.placed_page().await?.and_then(|page| cut(page, number)))
    }

    async fn live(&self, call: &Call, run_id: String) -> Result<Option<RunNumber>> {
        if run_id.len() > matyan_proto::limits::RUN_ID_BYTES {
            return Ok(None);
        }
        let snapshot = self.context.store.snapshot().await?;
        Ok(head_live(snapshot.as_ref(), call.project, &RunId::new(run_id)).await?)
    }

    async fn dated(mut self, call: &Call, descending: bool, after: Option<String>) -> Result<(), End> {
        let mut from = None;
        if let Some(run_id) = after {
            let Some(number) = self.live(call, run_id.clone()).await? else { return self.end().await };
            let found = self.scanner.again(&[number]).await?;
            let Some(last) = found.matched.front() else { return self.end().await };
            from = Some((last.candidate.document.props.created_us, run_id));
        }
        self.counts = from.is_none();
        let from_us = from.as_ref().map(|(created_us, _)| *created_us);
        let mut dated = Dated::new(self.context.clone(), call.project, descending, from_us);
        while self.left != Some(0) {
            let life = self.sign_of_life();
            let numbers = self.pulse.during(dated.next(), life).await??;
            if numbers.is_empty() {
                self.match_count = if self.counts { self.found } else { 0 };
                break;
            }
            self.scanner.count(numbers.len());
            let mut unread = numbers;
            while !unread.is_empty() && self.left != Some(0) {
                let life = self.sign_of_life();
                let mut page = self.pulse.during(self.scanner.again(&unread), life).await??;
                unread = std::mem::take(&mut page.unread);
                in_order(&mut page, descending, from.as_ref());
                let first = self.found + 1;
                self.found += page.matched.len() as u64;
                let counts = self.counts;
                let places = (first..).map(|place| if counts { place } else { 0 });
                self.deliver(Delivery::of_page(page, places)).await?;
            }
        }
        self.end().await
    }

    async fn sorted(mut self, call: &Call, keys: Vec<Key>, after: Option<String>) -> Result<(), End> {
        let mut sorter = Sorter::new(keys, (self.context.clock)());
        while let Some(page) = self.page().await? {
            let mut delivery = Delivery::of_page(page, std::iter::repeat(0));
            while let Some((place, matched)) = self.next(&mut delivery).await? {
                let Candidate { number, document, .. } = &matched.candidate;
                let added = sorter.add(delivery.snapshot(), call.project, *number, document);
                let life = self.sign_of_life();
                if let Err(error) = self.pulse.during(added, life).await? {
                    delivery.take_back(*number, place, error)?;
                }
            }
            self.found = sorter.found();
        }
        let sorting = tokio::task::spawn_blocking(move || sorter.sorted()).await;
        let entries = sorting.map_err(|_| Error::Stopping)?;
        self.match_count = entries.len() as u64;
        let behind = match after {
            None => Some(0),
            Some(after) => entries.iter().position(|entry| entry.run_id == after).map(|place| place + 1),
        };
        if let Some(behind) = behind {
            let numbers = entries.into_iter().map(|entry| entry.number).zip(1..).skip(behind);
            self.deliver(Delivery::of(numbers)).await?;
        }
        self.end().await
    }

    async fn page(&mut self) -> Result<Option<Page>, End> {
        let life = self.sign_of_life();
        Ok(self.pulse.during(self.scanner.next(), life).await??)
    }

    async fn next(&mut self, delivery: &mut Delivery) -> Result<Option<(Place, Matched)>, End> {
        let life = self.sign_of_life();
        Ok(self.pulse.during(delivery.next(&mut self.scanner), life).await??)
    }

    fn progress(&self) -> Option<Progress> {
        self.report_progress.then(|| self.scanner.progress(self.found))
    }

    fn sign_of_life(&self) -> impl Fn() -> Option<RunsResponse> + use<> {
        let progress = self.progress();
        move || progress.map(|progress| RunsResponse { progress: Some(progress), ..RunsResponse::default() })
    }

    async fn deliver(&mut self, mut delivery: Delivery) -> Result<(), End> {
        while self.left != Some(0) {
            let Some((place, matched)) = self.next(&mut delivery).await? else { break };
            let Candidate { number, document, .. } = &matched.candidate;
            let (snapshot, life) = (delivery.snapshot(), self.sign_of_life());
            let read = run_parts(&self.context, &mut self.names, snapshot, *number, document, &self.parts);
            let run = match self.pulse.during(read, life).await? {
                Ok(run) => run,
                Err(error) => {
                    delivery.take_back(*number, place, error)?;
                    continue;
                }
            };
            self.left = self.left.map(|left| left - 1);
            for piece in in_pieces(run) {
                self.add(piece, place);
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

    fn add(&mut self, run: Run, place: Place) {
        if self.message.runs.is_empty() {
            self.message.first_place = place;
        }
        self.bytes += run.encoded_len();
        self.message.runs.push(run);
    }

    /// Sends the pending message. If the client is slow, the snapshot is dropped while
    /// waiting.
    async fn flush(&mut self, delivery: &mut Delivery) -> Result<(), End> {
        let message = self.message();
        if let Err(message) = self.pulse.send_soon(message).await {
            delivery.forget();
            self.pulse.send(message).await?;
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

    async fn end(mut self) -> Result<(), End> {
        let mut message = self.message();
        message.warnings.extend(always_raised(&self.scanner));
        message.done = true;
        Ok(self.pulse.send(message).await?)
    }
}

/// A warning that nothing was found because the query always fails.
pub(super) fn always_raised(scanner: &Scanner) -> Option<Warning> {
    let message = "the query fails for everything it is evaluated on, so nothing is found: check its names and types";
    scanner.always_raised().then(|| Warning { message: message.to_owned(), ..Warning::default() })
}

/// Sorts a page by creation time and then id, and drops runs up to the last one of the previous
/// page.
fn in_order(page: &mut Page, descending: bool, last: Option<&(i64, String)>) {
    let key = |matched: &Matched| {
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
fn cut((mut page, mut places): Placed, number: RunNumber) -> Option<Placed> {
    let place = page.matched.iter().position(|matched| matched.candidate.number == number)?;
    page.matched.drain(..=place);
    places.drain(..=place);
    Some((page, places))
}
