//! The record that deletes a run, behind everything that was written to it. It has the form that the frontiers write, because
//! the same workers read it.

use bytes::Bytes;
use matyan_log::{NewRecord, RecordFormat};
use matyan_proto::{
    ingest::v1::{DeleteRun, Event, IngestionBatch, event::Kind},
    log::v1::LogEntry,
};
use prost::Message;
use time::{OffsetDateTime, format_description::FormatItem, macros::format_description};

use crate::call::Call;

/// What stands before a `LogEntry` in a record.
const FORMAT: u8 = 1;

const TIMESTAMP: &[FormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

pub(super) fn deletion(format: RecordFormat, call: &Call, run_id: &str, now_us: i64) -> NewRecord {
    let key = Bytes::copy_from_slice(run_id.as_bytes());
    match format {
        RecordFormat::Protobuf => NewRecord {
            key,
            value: entry(call, run_id, now_us),
            headers: vec![header("content-type", "application/x-protobuf;type=matyan.log.v1.LogEntry")],
        },
        RecordFormat::Json => NewRecord { key, value: envelope(run_id, now_us), headers: headers(call) },
    }
}

fn entry(call: &Call, run_id: &str, now_us: i64) -> Bytes {
    let event = Event { client_time_us: None, kind: Some(Kind::DeleteRun(DeleteRun {})) };
    let batch = IngestionBatch { events: vec![event], ..IngestionBatch::default() };
    let entry = LogEntry {
        run_id: run_id.to_owned(),
        project: call.project_name.clone(),
        caller: call.caller.clone(),
        received_us: now_us,
        batch: batch.encode_to_vec().into(),
        ..LogEntry::default()
    };
    let mut value = vec![FORMAT];
    entry.encode(&mut value).expect("writing to memory does not fail");
    value.into()
}

fn envelope(run_id: &str, now_us: i64) -> Bytes {
    let now = OffsetDateTime::from_unix_timestamp_nanos(i128::from(now_us) * 1_000);
    let now = now.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let timestamp = now.format(TIMESTAMP).expect("every time has these parts");
    let envelope = serde_json::json!({
        "type": "delete_run", "run_id": run_id, "timestamp": timestamp, "payload": {},
    });
    envelope.to_string().into()
}

/// Matyan 0.3 ignores who it was; our workers do not.
fn headers(call: &Call) -> Vec<(String, Bytes)> {
    let mut headers = vec![header("content-type", "application/json")];
    let author = [("matyan-project", &call.project_name), ("matyan-caller", &call.caller)];
    headers.extend(
        author.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| header(name, value)),
    );
    headers
}

fn header(name: &str, value: &str) -> (String, Bytes) {
    (name.to_owned(), Bytes::copy_from_slice(value.as_bytes()))
}
