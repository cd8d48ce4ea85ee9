//! The stream of the rows that a search finds, to a client that may be slow.
//!
//! A `RowStream` has what all searches share: the scan, its progress, the warnings, the runs that are left out,
//! and the messages that keep a client informed. A search reads the rows of each run, and makes the messages.

mod delivery;
mod keep_alive;

pub(crate) use {
    delivery::{Delivery, Rank},
    keep_alive::KeepAlive,
};

use matyan_model::ids::RunNumber;
use matyan_proto::{common::v1::Progress, search::v1::Warning};
use matyan_store::Snapshot;

use super::{
    candidates::{MatchPage, MatchedRun, RunScanner, always_raised_warning},
    plan::CompiledQuery,
};
use crate::server::{large_runs::LargeRunRoom, stream::StreamEnd};

/// The content of a message other than its rows.
#[derive(Default)]
pub(crate) struct MessageStatus {
    pub(crate) progress: Option<Progress>,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) done: bool,
    pub(crate) next_cursor: String,
    pub(crate) damaged_runs: u64,
}

/// The stream of a search with messages of type `T`.
pub(crate) struct RowStream<'s, T> {
    keep_alive: KeepAlive<'s, T>,
    pub(crate) scanner: RunScanner,
    /// Number of runs with a match so far.
    pub(crate) found: u64,
    /// Whether a table knows that the query fails for every run.
    pub(crate) always_raised: bool,
    report_progress: bool,
    /// Whether the search had to wait for its client since the last page was taken. What is read ahead meanwhile
    /// is read a second time.
    has_waited: bool,
    /// Makes a message without rows.
    status_message: fn(MessageStatus) -> T,
}

impl<'s, T> RowStream<'s, T> {
    /// Starts the stream with the warnings about the query, which must not wait for a match.
    pub(crate) async fn start(
        mut keep_alive: KeepAlive<'s, T>,
        scanner: RunScanner,
        compiled: &CompiledQuery,
        status_message: fn(MessageStatus) -> T,
    ) -> Result<Self, StreamEnd> {
        let warnings = compiled.warnings.clone();
        if !warnings.is_empty() {
            keep_alive.send(status_message(MessageStatus { warnings, ..MessageStatus::default() })).await?;
        }
        Ok(Self {
            keep_alive,
            scanner,
            found: 0,
            always_raised: false,
            report_progress: compiled.report_progress,
            has_waited: false,
            status_message,
        })
    }

    /// The progress of the search, if the client asked for it.
    pub(crate) fn progress(&self) -> Option<Progress> {
        self.report_progress.then(|| self.scanner.progress(self.found))
    }

    fn keep_alive_message(&self) -> impl Fn() -> Option<T> + use<T> {
        let progress = self.progress();
        let status_message = self.status_message;
        move || progress.map(|_| status_message(MessageStatus { progress, ..MessageStatus::default() }))
    }

    /// Runs work of the search, which ends if the client disconnects. No async function, because the state of
    /// one would hold the work a second time.
    pub(crate) fn during<O>(
        &mut self,
        work: impl Future<Output = O>,
    ) -> impl Future<Output = Result<O, StreamEnd>> {
        let message = self.keep_alive_message();
        self.keep_alive.during(work, message)
    }

    /// The next page of matches; `None` when all candidates have been examined.
    pub(crate) async fn next_page(&mut self) -> Result<Option<MatchPage>, StreamEnd> {
        let message = self.keep_alive_message();
        Ok(self.keep_alive.during(self.scanner.next(), message).await??)
    }

    /// Reads the next page while the last page is delivered, unless the client is slow.
    pub(crate) fn read_ahead(&mut self) {
        if !std::mem::take(&mut self.has_waited) {
            self.scanner.read_ahead(self.keep_alive.sender());
        }
    }

    /// Reads and evaluates about a page of runs.
    pub(crate) async fn reread(&mut self, numbers: &[RunNumber]) -> Result<MatchPage, StreamEnd> {
        let message = self.keep_alive_message();
        Ok(self.keep_alive.during(self.scanner.reread(numbers), message).await??)
    }

    /// The next run of a delivery.
    pub(crate) async fn next_run(
        &mut self,
        delivery: &mut Delivery,
    ) -> Result<Option<(Rank, MatchedRun)>, StreamEnd> {
        let message = self.keep_alive_message();
        Ok(self.keep_alive.during(delivery.next(&mut self.scanner), message).await??)
    }

    pub(crate) async fn send(&mut self, message: T) -> Result<(), StreamEnd> {
        self.keep_alive.send(message).await
    }

    /// Sends a message during a delivery. No snapshot is held while waiting for a slow client: not the snapshot of
    /// the delivery, not `newer`, and not the snapshot of the page that was read ahead.
    pub(crate) async fn flush(
        &mut self,
        message: T,
        delivery: &mut Delivery,
        newer: &mut Option<Box<dyn Snapshot>>,
    ) -> Result<(), StreamEnd> {
        let Err(message) = self.keep_alive.send_soon(message).await else { return Ok(()) };
        delivery.drop_snapshot();
        *newer = None;
        self.has_waited = true;
        let keep_alive_message = self.keep_alive_message();
        let put_back = self.scanner.put_back_ahead();
        Ok(self.keep_alive.send_during(message, put_back, keep_alive_message).await??)
    }

    /// Waits for room for large runs during a delivery, holding nothing else. The run comes next once more.
    pub(crate) async fn wait_for_room(
        &mut self,
        room: &mut LargeRunRoom,
        delivery: &mut Delivery,
        (number, rank): (RunNumber, Rank),
    ) -> Result<(), StreamEnd> {
        delivery.put_back(number, rank);
        self.has_waited = true;
        let message = self.keep_alive_message();
        let put_back = self.scanner.put_back_ahead();
        let waiting = async {
            put_back.await?;
            room.take().await
        };
        Ok(self.keep_alive.during(waiting, message).await??)
    }

    /// The status of the last message, with the warnings about the whole search after `warnings`.
    pub(crate) fn last_status(&self, mut warnings: Vec<Warning>, next_cursor: String) -> MessageStatus {
        let left_out = &self.scanner.left_out;
        let always_raised = self.always_raised || self.scanner.always_raised();
        warnings.extend(always_raised.then(always_raised_warning));
        warnings.extend(left_out.warning());
        let damaged_runs = left_out.count() as u64;
        MessageStatus { progress: self.progress(), warnings, done: true, next_cursor, damaged_runs }
    }
}
