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
};
use crate::apply::transaction::RunTransaction;

pub(crate) struct LiveRun {
    pub(crate) number: RunNumber,
    /// Counters of the written rows, including the rows of the current transaction.
    pub(crate) writing: WritingState,
    /// The counters as stored.
    stored: WritingState,
    pub(crate) document: RunDocument,
    pub(crate) series: MetricSeries,
    pub(crate) objects: ObjectSeries,
    pub(crate) log_records: LogRecords,
    pub(crate) recent_lines: RecentLines,
    /// Whether the current transaction edits series.
    pub(crate) edits_series: bool,
}

/// Activity of a run in a transaction.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    pub(crate) received_us: i64,
    pub(crate) caller: String,
    /// Whether the run has ended.
    pub(crate) is_ended: bool,
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
    pub(crate) fn stored(number: RunNumber, writing: WritingState) -> Self {
        Self::new(number, writing, RunDocument::default())
    }

    /// The run that the current transaction creates.
    pub(crate) fn created(edit: RunEdit) -> Self {
        Self::new(edit.number(), WritingState::default(), RunDocument::created(edit))
    }

    fn new(number: RunNumber, writing: WritingState, document: RunDocument) -> Self {
        Self {
            number,
            writing,
            stored: writing,
            document,
            series: MetricSeries::default(),
            objects: ObjectSeries::default(),
            log_records: LogRecords::default(),
            recent_lines: RecentLines::default(),
            edits_series: false,
        }
    }

    /// Drops the cached series. No points or objects may have been collected.
    pub(crate) fn forget_series(&mut self) {
        self.series = MetricSeries::default();
        self.objects = ObjectSeries::default();
    }

    /// Writes the changes that were collected for the end of the transaction.
    pub(crate) fn finish(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        activity: &Activity,
    ) -> Option<WrittenBlocks> {
        let project = transaction.project();
        let number = self.number;
        let points = if std::mem::take(&mut self.edits_series) {
            ChangedPoints::Any
        } else {
            self.series.first_step().map_or(ChangedPoints::None, ChangedPoints::From)
        };
        let blocks = self.series.write(transaction, number, &mut self.writing);
        self.objects.write_headers(transaction, number);
        self.log_records.clear();
        self.document.write(transaction);
        let now_us = transaction.now_us();
        let has_items = transaction.has_items();
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
        if blocks.is_empty() && !activity.is_ended {
            return None;
        }
        Some(WrittenBlocks {
            number,
            blocks,
            next_block: self.writing.next_block,
            is_ended: activity.is_ended,
        })
    }

    /// Approximate memory use between transactions.
    pub(crate) fn bytes(&self) -> usize {
        self.series.bytes() + self.objects.bytes() + self.recent_lines.bytes()
    }
}
