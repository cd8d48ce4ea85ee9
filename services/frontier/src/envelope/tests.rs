use matyan_proto::{
    common::v1::{Outcome, OutcomeKind},
    ingest::v1::event::Kind,
};
use minicbor::Encoder;
use serde_json::{Value, json};

use super::*;
use crate::{
    convert::{Caller, Producer},
    run_id::RunId,
};

const RECEIVED_US: i64 = 1_767_323_045_678_901;
const CLIENT_US: i64 = 1_704_164_645_123_456;

fn author() -> Author {
    Author {
        run: RunId::parse("run_1".into()).unwrap(),
        producer: Producer { id: [0xab; 16], ephemeral: true },
        caller: Caller { project: "team".into(), ..Caller::default() },
    }
}

fn series_of(batch: &pb::IngestionBatch) -> EnvelopeSeries {
    let mut series = EnvelopeSeries::default();
    series.extend(&batch.series);
    series
}

fn envelopes(batch: &pb::IngestionBatch) -> Vec<NewRecord> {
    let stamp = Stamp { received_us: RECEIVED_US, sequence: 7, acknowledged: 5, trace: None };
    encode(&author(), &stamp, &series_of(batch), batch).unwrap()
}

fn event(kind: Kind) -> pb::Event {
    pb::Event { client_time_us: Some(CLIENT_US), kind: Some(kind) }
}

#[track_caller]
fn check_event(kind: Kind, name: &str, payload: Value) {
    let batch = pb::IngestionBatch { events: vec![event(kind)], ..Default::default() };
    let records = envelopes(&batch);
    assert_eq!(records.len(), 1);
    let envelope: Value = serde_json::from_slice(&records[0].value).unwrap();
    let expected = json!({"type": name, "run_id": "run_1", "timestamp": "2026-01-02T03:04:05.678901Z", "payload": payload});
    assert_eq!(envelope, expected);
}

fn cbor(write: impl FnOnce(&mut Encoder<Vec<u8>>) -> &mut Encoder<Vec<u8>>) -> Bytes {
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder);
    encoder.into_writer().into()
}

#[test]
fn events_become_the_documented_envelopes() {
    let time = "2024-01-02T03:04:05.123456+00:00";
    check_event(
        Kind::CreateRun(pb::CreateRun { force_resume: true, ..Default::default() }),
        "create_run",
        json!({"client_datetime": time, "force_resume": true}),
    );
    check_event(
        Kind::CreateRun(pb::CreateRun { client: "W&B 0.31.0".into(), ..Default::default() }),
        "create_run",
        json!({"client_datetime": time, "force_resume": false, "client": "W&B 0.31.0"}),
    );
    check_event(Kind::FinishRun(pb::FinishRun::default()), "finish_run", json!({"client_datetime": time}));
    let outcome = Outcome { kind: OutcomeKind::Failed.into(), message: "no \"GPU\"".into() };
    check_event(
        Kind::FinishRun(pb::FinishRun { outcome: Some(outcome) }),
        "finish_run",
        json!({"client_datetime": time, "outcome": "failed", "message": "no \"GPU\""}),
    );
    check_event(Kind::SetRunProperty(pb::SetRunProperty::default()), "set_run_property", json!({}));
    check_event(
        Kind::SetRunProperty(pb::SetRunProperty {
            name: Some("n\"".into()),
            description: Some(String::new()),
            archived: Some(false),
            experiment: Some("é".into()),
        }),
        "set_run_property",
        json!({"name": "n\"", "description": "", "archived": false, "experiment": "é"}),
    );
    check_event(Kind::AddTag(pb::AddTag { name: "t".into() }), "add_tag", json!({"tag_name": "t"}));
    check_event(Kind::RemoveTag(pb::RemoveTag { name: "t".into() }), "remove_tag", json!({"tag_name": "t"}));
    let value =
        cbor(|to| to.map(1).unwrap().str("a").unwrap().map(1).unwrap().str("b").unwrap().f64(1.0).unwrap());
    check_event(Kind::LogParams(pb::LogParams { value }), "log_hparams", json!({"value": {"a": {"b": 1.0}}}));
    check_event(
        Kind::LogTerminalLine(pb::LogTerminalLine { line: "\u{1b}[0m".into(), step: 3 }),
        "log_terminal_line",
        json!({"line": "\u{1b}[0m", "step": 3}),
    );
    check_event(
        Kind::BlobRef(pb::BlobRef { key: "run_1/p".into(), path: "p".into(), ..Default::default() }),
        "blob_ref",
        json!({"s3_key": "run_1/p", "artifact_path": "p", "content_type": "application/octet-stream"}),
    );
}

#[test]
fn objects_and_records_leave_out_what_is_absent() {
    let object = pb::LogObject {
        name: "t".into(),
        value: cbor(|to| to.map(1).unwrap().str("data").unwrap().str("x").unwrap()),
        ..Default::default()
    };
    let time = "2024-01-02T03:04:05.123456+00:00";
    check_event(
        Kind::LogObject(object.clone()),
        "log_custom_object",
        json!({"name": "t", "value": {"data": "x"}, "step": null, "epoch": null, "context": null, "dtype": "custom", "client_datetime": time}),
    );
    let full = pb::LogObject {
        step: Some(2),
        epoch: Some(1),
        context: "{\"k\":NaN}".into(),
        dtype: "text".into(),
        ..object
    };
    check_event(
        Kind::LogObject(full),
        "log_custom_object",
        json!({"name": "t", "value": {"data": "x"}, "step": 2, "epoch": 1, "context": {"k": null}, "dtype": "text", "client_datetime": time}),
    );
    let record = pb::LogRecord { message: "m".into(), level: 20, timestamp: 1.5, ..Default::default() };
    check_event(
        Kind::LogRecord(record.clone()),
        "log_record",
        json!({"message": "m", "level": 20, "timestamp": 1.5}),
    );
    let full = pb::LogRecord {
        logger_info: cbor(|to| to.array(2).unwrap().str("f").unwrap().u8(1).unwrap()),
        extra_args: cbor(|to| to.map(0).unwrap()),
        ..record
    };
    check_event(
        Kind::LogRecord(full),
        "log_record",
        json!({"message": "m", "level": 20, "timestamp": 1.5, "logger_info": ["f", 1], "extra_args": {}}),
    );
}

#[test]
fn points_become_one_envelope_each() {
    let batch = pb::IngestionBatch {
        series: vec![
            pb::SeriesDef {
                name: "loss".into(),
                context: "{\"subset\":\"val\"}".into(),
                dtype: "Tensor".into(),
            },
            pb::SeriesDef { name: "acc".into(), ..Default::default() },
        ],
        points: vec![pb::Points {
            series: vec![0, 1, 1],
            values: vec![0.5, f64::NAN, 1.0],
            steps: vec![3, i64::MIN, -1],
            epochs: vec![2],
            times_us: vec![CLIENT_US, 1_704_164_645_000_000, i64::MAX],
            ..pb::Points::default()
        }],
        ..Default::default()
    };
    let payloads: Vec<Value> = envelopes(&batch)
        .iter()
        .map(|record| serde_json::from_slice::<Value>(&record.value).unwrap()["payload"].clone())
        .collect();
    assert_eq!(
        payloads,
        [
            json!({"name": "loss", "value": 0.5, "step": 3, "epoch": 2, "context": {"subset": "val"}, "dtype": "Tensor", "client_datetime": "2024-01-02T03:04:05.123456+00:00"}),
            json!({"name": "acc", "value": null, "step": null, "epoch": 2, "context": null, "dtype": "float", "client_datetime": "2024-01-02T03:04:05+00:00"}),
            json!({"name": "acc", "value": 1.0, "step": -1, "epoch": 2, "context": null, "dtype": "float", "client_datetime": "2026-01-02T03:04:05.678901+00:00"}),
        ]
    );
}

#[test]
fn every_value_of_rows_becomes_an_envelope() {
    let series = |name: &str| pb::SeriesDef { name: name.into(), ..Default::default() };
    let batch = pb::IngestionBatch {
        series: vec![series("a"), series("b")],
        points: vec![
            pb::Points {
                steps: vec![3, 4],
                rows: Some(rows::encode(0, 2, &[0.0, 1.0, 2.0, 3.0])),
                ..pb::Points::default()
            },
            pb::Points { series: vec![1], values: vec![4.0], steps: vec![5], ..pb::Points::default() },
        ],
        ..Default::default()
    };
    let found: Vec<(Value, Value, Value)> = envelopes(&batch)
        .iter()
        .map(|record| {
            let payload = serde_json::from_slice::<Value>(&record.value).unwrap()["payload"].clone();
            (payload["name"].clone(), payload["step"].clone(), payload["value"].clone())
        })
        .collect();
    let expected = |name: &str, step: i64, value: f64| (json!(name), json!(step), json!(value));
    let of_rows =
        [expected("a", 3, 0.0), expected("b", 3, 1.0), expected("a", 4, 2.0), expected("b", 4, 3.0)];
    assert_eq!(found[..4], of_rows);
    assert_eq!(found[4..], [expected("b", 5, 4.0)]);
}

#[test]
fn ids_travel_in_headers() {
    let tag = event(Kind::AddTag(pb::AddTag { name: "t".into() }));
    let records = envelopes(&pb::IngestionBatch { events: vec![tag.clone(), tag], ..Default::default() });
    let headers: Vec<(&str, &[u8])> =
        records[1].headers.iter().map(|(name, value)| (name.as_str(), &value[..])).collect();
    assert_eq!(
        headers,
        [
            ("content-type", &b"application/json"[..]),
            ("matyan-producer", b"abababababababababababababababab"),
            ("matyan-sequence", b"7"),
            ("matyan-acknowledged", b"5"),
            ("matyan-item", b"1"),
            ("matyan-items", b"2"),
            ("matyan-ephemeral", b"1"),
            ("matyan-project", b"team"),
        ]
    );
    assert!(records.iter().all(|record| record.key == "run_1"));
}

#[test]
fn a_batch_without_items_still_carries_its_sequence() {
    let records = envelopes(&pb::IngestionBatch::default());
    assert_eq!(records.len(), 1);
    let envelope: Value = serde_json::from_slice(&records[0].value).unwrap();
    assert_eq!((&envelope["type"], &envelope["payload"]), (&json!("nothing"), &json!({})));
}

#[test]
fn an_event_that_is_too_large_only_as_json_is_refused() {
    let object = |text: &str| {
        let value = cbor(|to| to.map(1).unwrap().str("data").unwrap().str(text).unwrap());
        event(Kind::LogObject(pb::LogObject { value, ..Default::default() }))
    };
    check(&object(&"x".repeat(15 << 20))).unwrap();
    check(&object(&"\u{1}".repeat(2 << 20))).unwrap();
    check(&object(&"\u{1}".repeat(3 << 20))).unwrap_err();
}

/// A batch of 1 MB, each of whose points becomes a record that repeats a long name.
#[test]
fn a_batch_that_comes_to_too_much_is_refused() {
    let name = "n".repeat(1_000);
    let batch = |points: usize| pb::IngestionBatch {
        series: vec![pb::SeriesDef { name: name.clone(), ..Default::default() }],
        points: vec![pb::Points { series: vec![0; points], values: vec![0.5; points], ..Default::default() }],
        ..Default::default()
    };
    assert_eq!(envelopes(&batch(10)).len(), 10);
    let batch = batch(100_000);
    let stamp = Stamp { received_us: RECEIVED_US, sequence: 7, acknowledged: 5, trace: None };
    let refused = encode(&author(), &stamp, &series_of(&batch), &batch);
    assert!(matches!(refused, Err(Error::TooLargeAsJson { limit: MAX_BYTES })), "{refused:?}");
}
