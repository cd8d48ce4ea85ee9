//! Tests of both forms of a record, and of unreadable records.

use std::collections::BTreeSet;

use matyan_proto::{
    ingest::v1::{self as pb, event::Kind},
    limits,
    log::v1::LogEntry,
};
use matyan_wire::MessageType;

use super::*;

/// Key of a record that cannot be read without a panic.
pub(crate) const PANIC_WHILE_READING: &str = "panics while it is read";
/// Caller of a record whose batch cannot be decoded without a panic.
pub(crate) const PANIC_WHILE_DECODING: &str = "panics while it is decoded";

fn record(value: impl Into<Bytes>, headers: &[(&str, &str)]) -> Record {
    let headers =
        headers.iter().map(|(name, value)| ((*name).to_owned(), Bytes::copy_from_slice(value.as_bytes())));
    Record {
        offset: 7,
        key: Bytes::from("r"),
        value: value.into(),
        headers: headers.collect(),
        appended_us: 99,
        leader_epoch: None,
    }
}

#[test]
fn an_entry_is_read() {
    let batch = IngestionBatch { series_base: 3, ..IngestionBatch::default() };
    let entry = LogEntry {
        run_id: "r".into(),
        caller: "me".into(),
        received_us: 5,
        producer_id: vec![1; 16].into(),
        sequence: 2,
        acknowledged: 1,
        batch: batch.encode_to_vec().into(),
        ephemeral_producer: true,
        ..LogEntry::default()
    };
    let entry = Entry::read(1, 2, record([vec![1], entry.encode_to_vec()].concat(), &[]), false);
    assert_eq!(entry.position, LogPosition { log: 1, partition: 2, offset: 7 });
    assert_eq!((entry.run_id.as_str(), entry.caller.as_str(), entry.received_us), ("r", "me", 5));
    let sent = BatchOrigin {
        producer: ProducerId([1; 16]),
        sequence: 2,
        part: None,
        acknowledged: 1,
        is_ephemeral: true,
    };
    assert_eq!(entry.sent, Some(sent));
    let read = entry.batch().unwrap();
    assert_eq!(read.items, batch);
    assert!(!read.has_own_dictionary);
}

#[test]
fn an_envelope_is_read_with_its_headers() {
    let value = r#"{"type":"log_metric","run_id":"r","timestamp":"2024-01-02T03:04:05.000001Z","payload":
        {"name":"loss","value":NaN,"step":3,"epoch":null,"context":{"b":1,"a":2},"dtype":"float","client_datetime":null}}"#;
    let headers = [
        ("matyan-producer", "01010101010101010101010101010101"),
        ("matyan-sequence", "4"),
        ("matyan-acknowledged", "3"),
        ("matyan-item", "1"),
        ("matyan-items", "2"),
        ("matyan-caller", "me"),
    ];
    let entry = Entry::read(0, 0, record(value, &headers), false);
    assert_eq!((entry.run_id.as_str(), entry.caller.as_str()), ("r", "me"));
    assert_eq!(entry.received_us, 1_704_164_645_000_001);
    assert_eq!(entry.sent.unwrap().part, Some(BatchPart { first: 1, count: 1, total: 2 }));
    let batch = entry.batch().unwrap();
    assert!(batch.has_own_dictionary);
    assert_eq!(batch.items.series[0].context, r#"{"a":2,"b":1}"#);
    assert!(batch.items.points[0].values[0].is_nan());
    assert_eq!((&batch.items.points[0].steps[..], &batch.items.points[0].epochs[..]), (&[3][..], &[][..]));
}

#[test]
fn every_type_of_envelope_is_an_event() {
    let envelopes = [
        ("create_run", r#"{"client_datetime":"2024-01-02T03:04:05+00:00","force_resume":true}"#),
        ("finish_run", "{}"),
        ("set_run_property", r#"{"name":"n","archived":true}"#),
        ("add_tag", r#"{"tag_name":"t"}"#),
        ("remove_tag", r#"{"tag_name":"t"}"#),
        ("log_hparams", r#"{"value":{"a":1}}"#),
        ("log_custom_object", r#"{"name":"o","value":{"type":"text"},"step":null,"dtype":"text"}"#),
        ("log_custom_object", r#"{"name":"o","value":[{"type":"text"},{}],"step":1,"dtype":"text"}"#),
        ("log_metric", r#"{"name":"o","value":{"type":"text"},"step":1,"dtype":"text"}"#),
        ("log_terminal_line", r#"{"line":"x","step":1}"#),
        ("log_record", r#"{"message":"m","level":20,"timestamp":1.5,"logger_info":["f",1]}"#),
        ("blob_ref", r#"{"s3_key":"r/a","artifact_path":"a","content_type":"text/plain"}"#),
        (
            "edit_series",
            r#"{"edit_id":"ab","objects":true,"name":"o","context":"","new_name":"p","new_context":""}"#,
        ),
        ("delete_run", "{}"),
    ];
    let names = BTreeSet::from(envelopes.map(|(kind, _)| kind));
    assert_eq!(names, BTreeSet::from(MessageType::NAMES));
    for (kind, payload) in envelopes {
        let value = format!(r#"{{"type":"{kind}","run_id":"r","timestamp":"","payload":{payload}}}"#);
        let entry = Entry::read(0, 0, record(value, &[]), false);
        let batch = entry.batch().unwrap_or_else(|reason| panic!("{kind}: {reason}")).items;
        assert_eq!((batch.events.len(), batch.points.len()), (1, 0), "{kind}");
        if let Some(Kind::LogObject(object)) = &batch.events[0].kind {
            assert_eq!(object.dtype, "text");
        }
        assert_eq!(entry.received_us, 99, "an unreadable time is replaced by the time of the log");
    }
}

/// It was acknowledged, so it is parked, with its reason, instead of dropped.
#[test]
fn an_envelope_of_an_unknown_type_cannot_be_decoded() {
    let entry_of = |kind| {
        let value = format!(r#"{{"type":"{kind}","run_id":"r","timestamp":"","payload":{{}}}}"#);
        Entry::read(0, 0, record(value, &[]), false)
    };
    assert_eq!(entry_of("nothing").batch().unwrap().items, IngestionBatch::default());
    let reason = entry_of("no_such_type").batch().err().unwrap();
    assert!(reason.contains("its type `no_such_type` is unknown"), "{reason}");
}

#[test]
fn unreadable_records_are_kept_unchanged() {
    for value in [
        "",
        "x",
        "{",
        "{}",
        r#"{"type":"add_tag"}"#,
        "\u{1}\u{ff}",
        "{\"type\":\"add_tag\",\"run_id\":\"r\",\"payload\":1}",
    ] {
        let entry = Entry::read(0, 0, record(value, &[]), false);
        assert_eq!(entry.run_id.as_str(), "r");
        assert!(entry.batch().is_err(), "{value}");
        assert_eq!(entry.raw(), value);
    }
    let bad_payload = r#"{"type":"add_tag","run_id":"r","timestamp":"","payload":{"tag_name":1}}"#;
    assert_eq!(
        Entry::read(0, 0, record(bad_payload, &[]), false).batch().unwrap_err(),
        "`tag_name` is not a text"
    );
    let producer =
        Entry::read(0, 0, record(r#"{"type":"nothing","run_id":"r"}"#, &[("matyan-producer", "xy")]), false);
    assert!(producer.batch().unwrap_err().contains("matyan-producer"));
}

#[test]
fn texts_of_an_old_frontier_are_cut_to_what_a_run_may_have() {
    let read = |kind: &str, field: &str, text: &str| {
        let rest = r#""s3_key":"r/a","artifact_path":"a","value":{},"step":1"#;
        let rest =
            if kind == "log_custom_object" { format!(r#"{rest},"name":"o""#) } else { rest.to_owned() };
        let envelope = format!(
            r#"{{"type":"{kind}","run_id":"r","timestamp":"","payload":{{"{field}":"{text}",{rest}}}}}"#
        );
        let batch = Entry::read(0, 0, record(envelope, &[]), false).batch().unwrap();
        match batch.items.events[0].kind.clone().unwrap() {
            Kind::SetRunProperty(set) => set.name.or(set.description).or(set.experiment).unwrap(),
            Kind::AddTag(pb::AddTag { name }) | Kind::RemoveTag(pb::RemoveTag { name }) => name,
            Kind::LogObject(object) => object.dtype,
            Kind::BlobRef(blob) => blob.content_type,
            other => panic!("{other:?}"),
        }
    };
    for (kind, field, most) in [
        ("set_run_property", "name", limits::NAME_BYTES),
        ("set_run_property", "description", limits::DESCRIPTION_BYTES),
        ("set_run_property", "experiment", limits::NAME_BYTES),
        ("add_tag", "tag_name", limits::NAME_BYTES),
        ("remove_tag", "tag_name", limits::NAME_BYTES),
        ("blob_ref", "content_type", limits::CONTENT_TYPE_BYTES),
        ("log_custom_object", "dtype", limits::DTYPE_BYTES),
    ] {
        let long = format!("x{}", "ö".repeat(most / 2));
        assert_eq!(read(kind, field, &long), long[..most - 1], "{kind} {field}");
        assert_eq!(read(kind, field, &long[..most - 1]), long[..most - 1], "{kind} {field}");
    }
}

#[test]
fn texts_that_are_too_long_for_keys_are_not_used() {
    for (id, key) in [
        ("x".repeat(300), "k".to_owned()),
        (String::new(), "k".to_owned()),
        ("x".repeat(300), "x".repeat(300)),
    ] {
        let entry = LogEntry { run_id: id.clone(), ..LogEntry::default() };
        let value = Bytes::from([vec![1], entry.encode_to_vec()].concat());
        let record = Record { key: key.clone().into(), ..record(value, &[]) };
        let read = Entry::read(0, 0, record, false);
        assert!(read.batch().unwrap_err().contains("its run id"));
        assert_eq!(read.run_id.as_str() == key, key.len() < 300);
        assert!(read.run_id.as_str().len() < 100);
    }
    let refused = |entry: LogEntry| {
        let value = [vec![1], entry.encode_to_vec()].concat();
        let read = Entry::read(0, 0, record(value, &[]), false);
        assert_eq!((read.run_id.as_str(), read.project.as_str(), read.caller.as_str()), ("r", "", ""));
        read.batch().unwrap_err()
    };
    let entry = || LogEntry { run_id: "other".into(), ..LogEntry::default() };
    let project = refused(LogEntry { project: "x".repeat(20_000), ..entry() });
    assert_eq!(project, "its project has 20000 bytes; the limit is 256");
    let caller = refused(LogEntry { caller: "x".repeat(200_000), ..entry() });
    assert_eq!(caller, "its caller has 200000 bytes; the limit is 1024");
    let long = "x".repeat(20_000);
    let envelope = r#"{"type":"delete_run","run_id":"r","payload":{}}"#;
    let read = Entry::read(0, 0, record(envelope, &[("matyan-project", &long)]), false);
    assert!(read.batch().unwrap_err().starts_with("its project has"));
}

#[test]
fn rule_40_a_panic_while_decoding_is_a_reason_to_park() {
    let panicked: Result<(), String> = catch_panic(|| panic!("no {}", "length"));
    assert_eq!(panicked.unwrap_err(), "decoding the record panicked: no length");
}

/// The log hands out records as parts of a buffer of 1 MiB.
#[test]
fn rule_40_a_small_record_does_not_keep_the_buffer_of_its_neighbors_in_memory() {
    let entry = LogEntry { run_id: "r".into(), batch: vec![7; 100].into(), ..LogEntry::default() };
    let value = [vec![1], entry.encode_to_vec(), vec![0; 1 << 20]].concat();
    let bytes = value.len() - (1 << 20);
    let buffer = Bytes::from(value);
    let mut entry = Entry::read(0, 0, record(buffer.slice(..bytes), &[]), false);
    assert!(!buffer.is_unique());
    entry.detach();
    assert!(buffer.is_unique(), "nothing of the entry is in the buffer");
    assert_eq!(entry.raw(), vec![7; 100]);
}
