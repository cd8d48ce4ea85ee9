//! Records that the backend appends to the log of a run: its deletion, edits of its series, barriers, and the points of
//! trials. They have the same format as the records of frontiers, because the same workers read them.

use bytes::Bytes;
use matyan_log::NewRecord;
use matyan_proto::{
    ingest::v1::{DeleteRun, Event, IngestionBatch, event::Kind},
    log::v1::LogEntry,
};
use matyan_wire::{
    headers::push_author,
    ingestion::{self, RecordFormat},
    legacy_json::{self, EnvelopeSeries, EnvelopeWriter},
};
use prost::Message;

use super::call::Call;

pub(crate) fn deletion(format: RecordFormat, call: &Call, run_id: &str, now_us: i64) -> NewRecord {
    control_record(format, call, run_id, Kind::DeleteRun(DeleteRun {}), now_us)
}

pub(crate) fn control_record(
    format: RecordFormat,
    call: &Call,
    run_id: &str,
    kind: Kind,
    now_us: i64,
) -> NewRecord {
    let event = Event { client_time_us: None, kind: Some(kind) };
    match format {
        RecordFormat::Protobuf => protobuf_record(call, run_id, vec![event], now_us),
        RecordFormat::Json => {
            let mut headers = legacy_json::headers(None);
            push_author(&mut headers, &call.project_name, &call.caller);
            let value = EnvelopeWriter::new(run_id, now_us).event(&event);
            NewRecord { key: key(run_id), value, headers }
        }
    }
}

/// A record without effect. Once it is applied, all earlier records of the run are applied. Workers
/// of Matyan 0.3 ignore it, because it is in a newer format.
pub(crate) fn barrier(call: &Call, run_id: &str, now_us: i64) -> NewRecord {
    protobuf_record(call, run_id, Vec::new(), now_us)
}

/// The records of a batch of points, whose series are its own.
pub(crate) fn points(
    format: RecordFormat,
    call: &Call,
    run_id: &str,
    batch: IngestionBatch,
    now_us: i64,
) -> Vec<NewRecord> {
    match format {
        RecordFormat::Protobuf => vec![batch_record(call, run_id, &batch, now_us)],
        RecordFormat::Json => {
            let mut series = EnvelopeSeries::default();
            series.extend(&batch.series);
            let writer = EnvelopeWriter::new(run_id, now_us);
            let items =
                batch.points.iter().flat_map(|group| (0..group.values.len()).map(move |at| (group, at)));
            let record = |(group, at)| {
                let mut headers = legacy_json::headers(None);
                push_author(&mut headers, &call.project_name, &call.caller);
                NewRecord { key: key(run_id), value: writer.point(&series, group, at), headers }
            };
            items.map(record).collect()
        }
    }
}

fn protobuf_record(call: &Call, run_id: &str, events: Vec<Event>, now_us: i64) -> NewRecord {
    let batch = IngestionBatch { events, ..IngestionBatch::default() };
    batch_record(call, run_id, &batch, now_us)
}

fn batch_record(call: &Call, run_id: &str, batch: &IngestionBatch, now_us: i64) -> NewRecord {
    let entry = LogEntry {
        run_id: run_id.to_owned(),
        project: call.project_name.clone(),
        caller: call.caller.clone(),
        received_us: now_us,
        batch: batch.encode_to_vec().into(),
        ..LogEntry::default()
    };
    NewRecord { key: key(run_id), value: ingestion::encode(&entry), headers: ingestion::headers(None) }
}

fn key(run_id: &str) -> Bytes {
    Bytes::copy_from_slice(run_id.as_bytes())
}
