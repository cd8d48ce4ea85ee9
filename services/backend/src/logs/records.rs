//! Lines and records as they are read from the store.

use std::ops::Range;

use matyan_model::{
    ids::{Project, RunNumber},
    logs::{LogRecord, LogScan, TerminalLine, log_records_list},
};
use matyan_proto::logs::v1 as pb;

use crate::server::{deps::Deps, error::Error};

/// Limits of one message: about 1 MB.
pub(super) const MESSAGE_SCAN: LogScan = LogScan { count: 10_000, bytes: 1 << 20, last: false };

pub(super) type RunKey = (Project, RunNumber);

pub(super) fn line(line: TerminalLine) -> pb::Line {
    pb::Line { step: line.number, text: line.text }
}

pub(super) async fn read_records(
    deps: &Deps,
    (project, number): RunKey,
    range: Range<u64>,
) -> Result<Vec<pb::Record>, Error> {
    let snapshot = deps.store.snapshot().await?;
    let listed = log_records_list(snapshot.as_ref(), project, number, range, MESSAGE_SCAN).await?;
    Ok(listed.into_iter().map(record).collect())
}

fn record((sequence, record): (u64, LogRecord)) -> pb::Record {
    pb::Record {
        step: i64::try_from(sequence).unwrap_or(i64::MAX),
        message: record.message,
        level: record.level,
        timestamp: record.timestamp,
        logger_info: record.logger_info.into(),
        args: record.extra_args.into(),
    }
}
