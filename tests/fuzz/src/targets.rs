//! The list of targets. Where there is a stronger property than "does not panic", the target
//! checks it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use matyan_access::{AccessToken, BrowserSecret, LoginCode, SecretKind};
use matyan_blob::{BlobKey, RunFolder, UrlSigner};
use matyan_model::series::Block;
use matyan_proto::{
    backup::v1::RestoreProjectRequest,
    ingest::v1::{IngestionBatch, PartedUpload, Points},
    log::v1::LogEntry,
    studies::v1::CreateTrialRequest,
};
use matyan_ql::{Datum, Endpoint, KeyPath, ParamRead, QueryLimits, QueryOptions, RunView, SequenceView};
use matyan_value::{
    Context, Value, cbor,
    json::{self, JsonStyle},
};
use matyan_wire::{columns, rows};
use prost::{Message, Name};

pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

pub const TARGETS: &[Target] = &[
    Target { name: "websocket_frame", run: websocket_frame },
    Target { name: "batch", run: batch },
    Target { name: "point_rows", run: point_rows },
    Target { name: "stream_codec", run: stream_codec },
    Target { name: "json", run: json_value },
    Target { name: "cbor", run: cbor_value },
    Target { name: "signed_url", run: signed_url },
    Target { name: "secrets", run: secrets },
    Target { name: "credentials", run: credentials },
    Target { name: "log_entry", run: log_entry },
    Target { name: "block", run: block },
    Target { name: "param_column", run: matyan_model::params::fuzz_column },
    Target { name: "query", run: query },
    Target { name: "archive", run: crate::archive::read },
    Target { name: "multipart_upload", run: multipart_upload },
    Target { name: "event_file", run: crate::client_files::event_file },
    Target { name: "event_record", run: crate::client_files::event_record },
    Target { name: "unfinished_upload", run: crate::stored_files::unfinished_upload },
    Target { name: "log_segment", run: crate::stored_files::log_segment },
    Target { name: "store_journal", run: crate::stored_files::store_journal },
    Target { name: "store_manifest", run: crate::stored_files::store_manifest },
    Target { name: "spool_records", run: crate::client_files::spool_records },
    Target { name: "upload_manifest", run: crate::client_files::upload_manifest },
    Target { name: "leveldb_log", run: crate::client_files::leveldb_log },
    Target { name: "request", run: request },
    Target { name: "protobuf_message", run: crate::client_files::protobuf_message },
];

/// A JSON frame of the published client. Every item is either accepted or named among the
/// rejected items.
fn websocket_frame(bytes: &[u8]) {
    let Ok(frame) = matyan_wire::client_json::decode_frame(bytes) else { return };
    assert_eq!(frame.events.len(), frame.event_items.len());
    let mut items: Vec<u32> = frame.metrics.iter().map(|metric| metric.item).collect();
    items.extend(&frame.event_items);
    items.extend(frame.rejections.reasons.iter().map(|rejection| rejection.item));
    let all = items.len();
    items.sort_unstable();
    items.dedup();
    assert_eq!(items.len(), all, "an item was handled twice");
}

/// A protobuf batch: the part that its check accepts passes a second check unchanged.
fn batch(bytes: &[u8]) {
    let Some(left) = matyan_frontier::batch_check("run", Bytes::copy_from_slice(bytes)) else { return };
    let again = matyan_frontier::batch_check("run", left.clone());
    assert_eq!(again, Some(left), "checking a checked batch changed it");
}

/// A group of points, which may be in rows. Without the rows, a good group is good, and has as many points.
fn point_rows(bytes: &[u8]) {
    let Ok(group) = Points::decode(bytes) else { return };
    let plain = rows::plain(&group);
    if columns::malformed(&group).is_none() {
        assert_eq!(columns::malformed(&plain), None);
        assert_eq!((plain.series.len(), plain.values.len()), (rows::count(&group), rows::count(&group)));
    }
}

/// A streamed response body.
fn stream_codec(bytes: &[u8]) {
    // Errors are valid results for broken bodies; only panics count.
    let _broken_or_not = matyan_edge::stream::decode(bytes);
}

/// Encoded requests of several kinds: a request whose estimated size is accepted can be decoded, or is
/// malformed.
fn request(bytes: &[u8]) {
    check_request::<IngestionBatch>(bytes);
    check_request::<CreateTrialRequest>(bytes);
    check_request::<RestoreProjectRequest>(bytes);
}

fn check_request<M: Message + Name + Default>(bytes: &[u8]) {
    let estimated = matyan_proto::codec::check_decoded_size::<M>(bytes);
    if let Ok(message) = M::decode(bytes) {
        assert!(estimated.is_ok() || bytes.len() > 100_000, "a small request was refused");
        // Encoded again, the request lacks the fields that decoding drops.
        matyan_proto::codec::check_decoded_size::<M>(&message.encode_to_vec())
            .expect("a request that was decoded is small enough");
    }
}

/// Number of values in a tree.
fn values(value: &Value) -> usize {
    match value {
        Value::List(list) => 1 + list.iter().map(values).sum::<usize>(),
        Value::Map(map) => 1 + map.values().map(values).sum::<usize>(),
        _ => 1,
    }
}

fn json_value(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(value) = json::parse(text) {
        assert!(values(&value) <= json::tree_weight(bytes), "there are more values than were estimated");
        let encoded = cbor::encode(&value);
        assert_eq!(cbor::decode(&encoded).as_ref(), Ok(&value), "a value changed in a CBOR round trip");
        let transcoded = json::to_cbor(text).expect("text that is a tree is CBOR");
        assert_eq!(cbor::decode(&transcoded).as_ref(), Ok(&value), "tree and transcoder disagree");
    }
    if let Ok(context) = Context::parse(text) {
        let again = Context::parse(context.canonical()).expect("canonical text is JSON");
        assert_eq!(again.canonical(), context.canonical(), "canonicalization is not idempotent");
    }
}

fn cbor_value(bytes: &[u8]) {
    assert_eq!(cbor::tree_weight(bytes).is_ok(), cbor::decode(bytes).is_ok());
    if let Ok(value) = cbor::decode(bytes) {
        assert_eq!(cbor::decode(&cbor::encode(&value)).as_ref(), Ok(&value));
        assert!(values(&value) <= cbor::tree_weight(bytes).unwrap_or_default());
    }
    if cbor::check(bytes).is_ok() {
        assert!(cbor::decode(bytes).is_ok() && json::cbor_text(bytes, JsonStyle::STRICT).is_ok());
    }
    // As above, errors are valid results.
    let _found_or_not = cbor::find(bytes, &["hparams", "lr"]);
}

/// A blob token: only tokens that the signer made are accepted.
fn signed_url(bytes: &[u8]) {
    let signer = UrlSigner::new(b"secret", Duration::from_secs(60), Arc::new(|| 0));
    let Ok(token) = std::str::from_utf8(bytes) else { return };
    let key = BlobKey::new("run/file").expect("the literal is a valid key");
    assert!(signer.verify(&key, token).is_err() || signer.sign(&key) == token, "forged: {token}");
    if let Ok(key) = BlobKey::new(token) {
        assert!(!key.as_str().split('/').any(|segment| segment == ".." || segment.is_empty()));
    }
}

/// Texts that people paste and type as tokens, secrets and codes. A secret that is found is read again
/// unchanged, and masking keeps the length and leaves nothing else to mask.
fn secrets(bytes: &[u8]) {
    if let Some((masked, count)) = AccessToken::mask_valid(bytes) {
        assert!(count > 0 && masked.len() == bytes.len());
        assert!(AccessToken::mask_valid(&masked).is_none(), "a token was left");
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(token) = AccessToken::find(text) {
        assert!(AccessToken::parse(token.reveal()) == Some(token.clone()));
        assert!(!AccessToken::masked(text).contains(token.reveal()), "a token is shown");
    }
    for kind in [SecretKind::Session, SecretKind::Link, SecretKind::State] {
        assert!(
            BrowserSecret::find(kind, text)
                .is_none_or(|secret| AccessToken::parse(secret.reveal()).is_none())
        );
    }
    if let Some(code) = LoginCode::parse(text) {
        assert_eq!(LoginCode::parse(&code.shown()), Some(code));
    }
}

/// The headers that callers prove their identity with. An accepted credential is a complete secret of its kind, and the
/// header contains it as it is, except for a password, which is encoded there.
fn credentials(bytes: &[u8]) {
    if let Some(token) = matyan_edge::fuzzing::read_authorization(bytes) {
        assert!(AccessToken::parse(token.reveal()) == Some(token));
    }
    if let Some(session) = matyan_edge::fuzzing::read_cookie(bytes) {
        assert!(BrowserSecret::parse(SecretKind::Session, session.reveal()).is_some());
        assert!(String::from_utf8_lossy(bytes).contains(session.reveal()), "another session");
    }
}

fn log_entry(bytes: &[u8]) {
    if let Ok(entry) = LogEntry::decode(bytes) {
        batch(&entry.batch);
    }
}

/// An upload in parts, as its client describes it in every request: an accepted one is in the folder of its run, and
/// its parts begin and end with it.
fn multipart_upload(bytes: &[u8]) {
    let Ok(described) = PartedUpload::decode(bytes) else { return };
    let run_id = described.run_id.clone();
    let size = described.size;
    let Some(upload) = matyan_frontier::upload_check(described) else { return };
    let folder = RunFolder::new("", &run_id).expect("the default project has a folder for every run");
    assert!(folder.reference_of(&upload.key).is_some(), "{} is outside of {}", upload.key, folder.prefix());
    let count = upload.part_count();
    let last = upload.part(count).expect("an upload has a last part");
    assert_eq!(upload.part(1).map(|first| first.offset), Some(0));
    assert_eq!(last.offset + last.length, size);
    assert_eq!([0, count + 1].map(|number| upload.part(number)), [None; 2]);
}

/// A query: it is rejected with a position inside the text, or has a plan and ends within its
/// budget.
fn query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let endpoint = if text.contains("metric") { Endpoint::Metric } else { Endpoint::Run };
    match matyan_ql::compile(text, QueryOptions { endpoint, offset_minutes: 60, now: 1e9 }) {
        Err(error) => {
            assert!(text.get(error.typed.clone()).is_some(), "{:?} is not a range of the text", error.typed);
            assert!((error.end_line, error.end_column) >= (error.line, error.column));
        }
        Ok(query) => {
            assert!(!query.plan().to_string().is_empty());
            let limits = QueryLimits { steps_per_candidate: 20_000, steps_in_total: 20_000, memory: 1 << 20 };
            // Every verdict is a valid result, and so is an exceeded budget.
            let _verdict = query.evaluator(limits).run(&FuzzedRun);
        }
    }
}

/// A run with values of all kinds, depending on the path.
struct FuzzedRun;

impl RunView for FuzzedRun {
    fn hash(&self) -> &str {
        "0a1b"
    }
    fn name(&self) -> Option<&str> {
        Some("Größe 42")
    }
    fn description(&self) -> Option<&str> {
        None
    }
    fn experiment(&self) -> Option<&str> {
        Some("baseline")
    }
    fn created_at(&self) -> f64 {
        1.7e9
    }
    fn end_time(&self) -> Option<f64> {
        Some(1.7e9 + 0.5)
    }
    fn active(&self) -> bool {
        false
    }
    fn outcome(&self) -> Option<&str> {
        None
    }
    fn parent(&self) -> Option<&str> {
        None
    }
    fn archived(&self) -> bool {
        false
    }
    fn tags(&self) -> Vec<&str> {
        vec!["cv", "nlp"]
    }
    fn param(&self, path: &KeyPath, _: usize) -> ParamRead<'_> {
        let datum = match path.to_string().len() % 8 {
            0 => Datum::Float(-0.0),
            1 => Datum::Int(i64::MIN),
            2 => Datum::BigInt { negative: true, magnitude: vec![0xff; 20].into() },
            3 => Datum::Text("ünïcode 7".into()),
            4 => Datum::List(vec![Datum::None, Datum::Bool(true), Datum::Float(f64::NAN)]),
            5 => Datum::Object(vec![("lr".into(), Datum::Float(0.1)), ("get".into(), Datum::None)]),
            6 => Datum::Bytes(vec![0, 255].into()),
            _ => return None.into(),
        };
        Some(datum).into()
    }
    fn sequences(&self, _name: &str) -> Vec<&dyn SequenceView> {
        Vec::new()
    }
}

/// A stored block. Errors are valid results for damaged blocks.
fn block(bytes: &[u8]) {
    let Ok(block) = Block::open(bytes) else { return };
    for index in 0..block.series_count() {
        let mut points = matyan_model::series::Points::default();
        if block.read(index, &mut points).is_err() {
            return;
        }
    }
}
