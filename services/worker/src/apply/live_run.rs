//! The live run with a writer's run id. Its parts are caches that stay valid between
//! transactions, together with the changes of the current transaction.

use bytes::Bytes;
use matyan_model::{
    change::{ChangedPoints, points_change_put},
    ids::RunNumber,
    keys,
    run::{RunEdit, WritingState, writing_put},
};

use super::{
    document::RunDocument,
    logs::{LogRecords, RecentLines},
    object::ObjectSeries,
    series::MetricSeries,
    transaction::RunTransaction,
};

pub(super) struct LiveRun {
    pub(super) number: RunNumber,
    /// Counters of what is written, including by the current transaction.
    pub(super) writing: WritingState,
    /// The counters as stored.
    stored: WritingState,
    pub(super) document: RunDocument,
    pub(super) series: MetricSeries,
    pub(super) objects: ObjectSeries,
    pub(super) log_records: LogRecords,
    pub(super) recent_lines: RecentLines,
    /// Whether the current transaction edits series.
    pub(super) edits_series: bool,
}

/// Activity of a run in a transaction.
#[derive(Debug, Default)]
pub(super) struct Activity {
    pub(super) received_us: i64,
    pub(super) caller: String,
    /// Whether the run has ended.
    pub(super) is_ended: bool,
}

/// Blocks written by a transaction, for the compaction.
#[derive(Clone, Debug)]
pub(crate) struct WrittenBlocks {
    pub(crate) number: RunNumber,
    pub(crate) blocks: Vec<Bytes>,
    /// Number of the run's next block.
    pub(crate) next_block: u64,
    /// Whether the run has ended.
    pub(crate) is_ended: bool,
}

impl LiveRun {
    pub(super) fn stored(number: RunNumber, writing: WritingState) -> Self {
        Self::new(number, writing, RunDocument::default())
    }

    /// The run that the current transaction creates.
    pub(super) fn created(edit: RunEdit) -> Self {
        Self::new(edit.number(), WritingState::default(), RunDocument::created(edit))
    }

    fn new(number: RunNumber, writing: WritingState, document: RunDocument) -> Self {
        let (series, objects, log_records, recent_lines) = Default::default();
        let (stored, edits_series) = (writing, false);
        Self { number, writing, stored, document, series, objects, log_records, recent_lines, edits_series }
    }

    /// Drops what is known about series. Nothing may have been collected.
    pub(super) fn forget_series(&mut self) {
        (self.series, self.objects) = Default::default();
    }

    /// Writes what has been collected for the end of the transaction.
    pub(super) fn finish(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        activity: &Activity,
    ) -> Option<WrittenBlocks> {
        let (project, number) = (transaction.project(), self.number);
        let points = match self.series.first_step() {
            _ if std::mem::take(&mut self.edits_series) => ChangedPoints::Any,
            Some(step) => ChangedPoints::From(step),
            None => ChangedPoints::None,
        };
        let blocks = self.series.write(transaction, number, &mut self.writing);
        self.objects.write_headers(transaction, number);
        self.log_records.clear();
        self.document.write(transaction);
        let (has_items, now_us) = (transaction.has_items(), transaction.now_us());
        let batch = transaction.batch();
        if has_items {
            self.writing.last_data_us = self.writing.last_data_us.max(activity.received_us);
            writing_put(batch, project, number, &self.writing);
            let by = (now_us, activity.caller.as_str());
            points_change_put(batch, project, number, by, points);
        }
        let counters = self.stored.project_counters().into_iter().zip(self.writing.project_counters());
        for ((counter, before), (_, after)) in counters {
            if after != before {
                batch.add(keys::project_counter(project, counter), after - before);
            }
        }
        self.stored = self.writing;
        let (next_block, is_ended) = (self.writing.next_block, activity.is_ended);
        (!blocks.is_empty() || is_ended).then_some(WrittenBlocks { number, blocks, next_block, is_ended })
    }

    /// Approximate memory use between transactions.
    pub(super) fn bytes(&self) -> usize {
        self.series.bytes() + self.objects.bytes() + self.recent_lines.bytes()
    }
}
