//! The terminal lines and log records of a run.

use std::collections::{HashSet, VecDeque};

use matyan_model::{
    ids::RunNumber,
    keys,
    logs::{LogRecord, log_record_put, terminal_line_put},
    run::WritingState,
};
use matyan_proto::ingest::v1 as pb;
use matyan_value::cbor;

use crate::apply::{apply_failure::ApplyFailure, transaction::RunTransaction};

/// Digests of the log records written in this transaction.
#[derive(Debug, Default)]
pub(crate) struct LogRecords(HashSet<[u8; 16]>);

impl LogRecords {
    /// Writes a log record, unless the run already has the same one, for example because a
    /// client resent it.
    pub(crate) async fn write(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        number: RunNumber,
        writing: &mut WritingState,
        record: &LogRecord,
    ) -> Result<(), ApplyFailure> {
        let project = transaction.project();
        let digest = record.digest();
        let seen = keys::log_record_seen(project, number, &digest);
        if !self.0.insert(digest) || transaction.snapshot().get(&seen).await?.is_some() {
            return Ok(());
        }
        let sequence = writing.next_log_record;
        let bytes = log_record_put(transaction.batch(), project, number, sequence, record);
        writing.next_log_record += 1;
        writing.bytes += bytes as u64;
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.0 = HashSet::new();
    }
}

/// Checks a message; `Err` holds the reason that it can never be stored.
pub(crate) fn parse_log_record(record: &pb::LogRecord) -> Result<LogRecord, String> {
    for (name, value) in [("logger_info", &record.logger_info), ("extra_args", &record.extra_args)] {
        if !value.is_empty()
            && let Err(error) = cbor::tree_weight(value)
        {
            return Err(format!("`{name}`: {error}"));
        }
    }
    Ok(LogRecord {
        message: record.message.clone(),
        level: record.level,
        timestamp: record.timestamp,
        logger_info: record.logger_info.to_vec(),
        extra_args: record.extra_args.to_vec(),
    })
}

/// The lines that were written last, each with the sequence number of its last write. A progress bar
/// rewrites its line many times a second, and only the row of the last write is kept.
#[derive(Debug, Default)]
pub(crate) struct RecentLines(VecDeque<(i64, u64)>);

/// Maximum number of recent lines, enough for the progress bars of many processes.
const MOST_RECENT_LINES: usize = 256;

impl RecentLines {
    pub(crate) fn write(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        number: RunNumber,
        writing: &mut WritingState,
        line: &pb::LogTerminalLine,
    ) {
        let project = transaction.project();
        let sequence = writing.next_line;
        if let Some(earlier) = self.replace(line.step, sequence) {
            transaction.batch().clear(keys::line_written(project, number, earlier));
        }
        let bytes = terminal_line_put(transaction.batch(), project, number, sequence, line.step, &line.line);
        writing.next_line += 1;
        writing.bytes += bytes as u64;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<(i64, u64)>()
    }

    /// Notes a write, and returns the previous write of the same line if it is known.
    fn replace(&mut self, line: i64, sequence: u64) -> Option<u64> {
        let place = self.0.iter().position(|(known, _)| *known == line);
        let earlier = place.and_then(|place| self.0.remove(place));
        if self.0.len() == MOST_RECENT_LINES {
            self.0.pop_front();
        }
        self.0.push_back((line, sequence));
        earlier.map(|(_, sequence)| sequence)
    }
}
