//! Seeds for mutation: recorded frames and contexts, and data derived from them.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use matyan_access::{AccessToken, BrowserSecret, LoginCode, SecretKind};
use matyan_blob::MAX_UPLOAD_BYTES;
use matyan_model::{
    ids::SeriesNumber,
    params::{IndexedParam, encode_columns},
    series::{ABSENT, Point, WrittenPoints},
};
use matyan_proto::{
    backup::v1::{RestoreProjectRequest, StudyPart, study_part},
    ingest::v1::{Event, IngestionBatch, LogRecord, PartedUpload, Points, SeriesDef, event::Kind},
    log::v1::LogEntry,
    studies::v1::{CreateTrialRequest, Trial, TrialParam},
};
use matyan_tests::vectors;
use matyan_wire::rows;
use prost::Message;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::Value;

use crate::{client_files, stored_files};

/// Seeds of a target; never empty.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "websocket_frame" => frames(),
        "batch" => vec![batch().encode_to_vec()],
        "point_rows" => batch().points.iter().map(Points::encode_to_vec).collect(),
        "log_entry" => {
            let batch = batch().encode_to_vec().into();
            vec![
                LogEntry {
                    run_id: "run".into(),
                    producer_id: vec![7; 16].into(),
                    batch,
                    ..LogEntry::default()
                }
                .encode_to_vec(),
            ]
        }
        "json" => contexts(),
        "cbor" => contexts().iter().filter_map(|text| cbor(text)).collect(),
        "stream_codec" => bodies(),
        "block" => blocks(),
        "param_column" => param_columns(),
        "query" => queries(),
        "archive" => crate::archive::seeds(),
        "multipart_upload" => multipart_uploads(),
        "event_file" => event_files(),
        "event_record" => event_files().iter().flat_map(|file| event_records(file)).collect(),
        "unfinished_upload" => stored_files::unfinished_uploads(),
        "log_segment" => stored_files::segments(),
        "store_journal" => stored_files::journals(),
        "store_manifest" => stored_files::manifests(),
        "spool_records" => client_files::spools(),
        "upload_manifest" => client_files::manifests(),
        "leveldb_log" => client_files::leveldb_logs(),
        "request" => requests(),
        "protobuf_message" => client_files::messages(),
        "secrets" => secrets(),
        "credentials" => credentials(),
        _ => signed_urls(),
    }
}

fn secrets() -> Vec<Vec<u8>> {
    let mut random = StdRng::seed_from_u64(1);
    let token = AccessToken::generate(&mut random);
    let link = BrowserSecret::generate(SecretKind::Link, &mut random);
    let texts = [
        format!("export MATYAN_TOKEN={}\n", token.reveal()),
        format!("https://matyan.example/sign-in#{}", link.reveal()),
        LoginCode::of(&token.digest()).shown(),
    ];
    texts.map(String::into_bytes).into()
}

fn credentials() -> Vec<Vec<u8>> {
    let mut random = StdRng::seed_from_u64(1);
    let token = AccessToken::generate(&mut random);
    let session = BrowserSecret::generate(SecretKind::Session, &mut random);
    let texts = [
        format!("Bearer {}", token.reveal()),
        format!("Basic {}", STANDARD.encode(format!("_:{}", token.reveal()))),
        format!("theme=dark; matyan={}; matyan-53801=mts_x", session.reveal()),
    ];
    texts.map(String::into_bytes).into()
}

fn signed_urls() -> Vec<Vec<u8>> {
    let signature = "0".repeat(64);
    let tokens = [
        format!("expires=60&signature={signature}"),
        format!("length=5&expires=60&signature={signature}"),
        format!("upload=0a1b&offset=0&length=5&expires=60&signature={signature}"),
        "run/seq/images/1.png".to_owned(),
    ];
    tokens.map(String::into_bytes).into()
}

fn multipart_uploads() -> Vec<Vec<u8>> {
    let upload = |run_id: &str, size| PartedUpload {
        upload_id: "0a1b".into(),
        run_id: run_id.into(),
        artifact_path: "checkpoints/last.pt".into(),
        content_type: "application/octet-stream".into(),
        size,
        ..PartedUpload::default()
    };
    let uploads = [upload("run", 1), upload(".projects", 100 << 20), upload("run", MAX_UPLOAD_BYTES)];
    uploads.map(|upload| upload.encode_to_vec()).into()
}

fn requests() -> Vec<Vec<u8>> {
    let attribute = |name: &str| (name.to_owned(), "1".to_owned());
    let trial = Trial {
        values: vec![0.5],
        params: vec![TrialParam { name: "lr".into(), ..TrialParam::default() }],
        user_attributes: [attribute("a"), attribute("b")].into(),
        intermediate_values: [(1, 0.5)].into(),
        ..Trial::default()
    };
    let study = StudyPart { study_id: 1, content: Some(study_part::Content::Trial(trial.clone())) };
    let restored = RestoreProjectRequest { studies: vec![study], ..RestoreProjectRequest::default() };
    let created = CreateTrialRequest { study_id: 1, template: Some(trial) };
    vec![batch().encode_to_vec(), created.encode_to_vec(), restored.encode_to_vec()]
}

/// Event files that TensorBoard's own packages wrote.
fn event_files() -> Vec<Vec<u8>> {
    let logs = Path::new("sdk/python/tests/importing/fixtures/tensorboard/logs");
    // Tests run in the directory of their crate, and programs usually in the root.
    let places = [Path::new("../..").join(logs), logs.to_owned()];
    let found = places.into_iter().find(|path| path.is_dir());
    let mut folders = vec![found.unwrap_or_else(|| panic!("{} is missing", logs.display()))];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the fixtures are there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(fs::read(path).expect("a fixture can be read"));
            }
        }
    }
    files
}

/// The records of an event file: each has a length, a checksum, a content and its checksum.
fn event_records(file: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = file;
    let mut records = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<8>() {
        let length = usize::try_from(u64::from_le_bytes(*length)).expect("a record is short");
        records.push(after[4..4 + length].to_vec());
        rest = &after[4 + length + 4..];
    }
    records
}

fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for (_, text) in vectors::files("ws_transcripts", ".jsonl") {
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let sent = lines.filter(|line| line["direction"] == "client->server");
        frames.extend(sent.filter_map(|line| Some(line["raw"].as_str()?.as_bytes().to_vec())));
    }
    frames.extend(odd_frames());
    // Keys that are overwritten many times, before a long value that is kept.
    let repeats = r#""a":1,"#.repeat(1_000);
    let rest = "x".repeat(10_000);
    frames.push(format!(r#"{{"type":"log_hparams","value":{{{repeats}"b":"{rest}"}}}}"#).into_bytes());
    frames
}

fn odd_frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for (_, text) in vectors::files("gateway_edge_cases", ".json") {
        let recording: Value = serde_json::from_str(&text).expect("a vector file is JSON");
        for case in recording["ws"].as_array().into_iter().flatten() {
            let texts = case["frames"].as_array().into_iter().flatten();
            frames.extend(texts.filter_map(|frame| Some(frame.as_str()?.as_bytes().to_vec())));
        }
    }
    frames
}

fn contexts() -> Vec<Vec<u8>> {
    let mut contexts = Vec::new();
    for (_, text) in vectors::files("context_ids", ".json") {
        let recording: Value = serde_json::from_str(&text).expect("a vector file is JSON");
        let pairs = recording["pairs"].as_array().into_iter().flatten();
        contexts.extend(pairs.filter_map(|pair| Some(pair["context_json"].as_str()?.as_bytes().to_vec())));
    }
    contexts
}

fn queries() -> Vec<Vec<u8>> {
    let mut queries = Vec::new();
    for (_, text) in vectors::files("matyanql", ".json") {
        let recording: Value = serde_json::from_str(&text).expect("a vector file is JSON");
        let vectors = recording["vectors"].as_array().into_iter().flatten();
        queries.extend(vectors.filter_map(|vector| Some(vector["q"].as_str()?.as_bytes().to_vec())));
    }
    queries
}

fn cbor(text: &[u8]) -> Option<Vec<u8>> {
    let value = matyan_value::json::parse(std::str::from_utf8(text).ok()?).ok()?;
    Some(matyan_value::cbor::encode(&value))
}

fn bodies() -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    for (_, text) in vectors::files("streaming_codec", ".json") {
        let recording: Value = serde_json::from_str(&text).expect("a vector file is JSON");
        for case in recording["cases"].as_array().into_iter().flatten() {
            let digits = case["encoded_hex"].as_str().unwrap_or_default().as_bytes();
            bodies.push(digits.chunks(2).filter_map(byte).collect());
        }
    }
    bodies
}

fn byte(pair: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()
}

fn batch() -> IngestionBatch {
    let series =
        SeriesDef { name: "loss".into(), context: r#"{"subset":"train"}"#.into(), dtype: "float".into() };
    let record = LogRecord { message: "hello".into(), level: 20, timestamp: 1.5, ..LogRecord::default() };
    let listed = Points {
        series: vec![0; 3],
        values: vec![0.5, f64::NAN, -0.0],
        steps: vec![0, 1, i64::MIN],
        epochs: vec![0],
        times_us: vec![1, 2, 3],
        ..Points::default()
    };
    IngestionBatch {
        series: vec![series],
        series_base: 0,
        events: vec![Event { client_time_us: Some(1), kind: Some(Kind::LogRecord(record)) }],
        points: vec![listed, point_rows(&[0.5, 2.0]), point_rows(&[0.1, f64::NAN])],
    }
}

/// Two steps of a series as rows.
fn point_rows(values: &[f64]) -> Points {
    Points { steps: vec![4, 5], epochs: vec![0], rows: Some(rows::encode(0, 1, values)), ..Points::default() }
}

/// Columns of one kind of value, and of all kinds.
fn param_columns() -> Vec<Vec<u8>> {
    let number = |at: usize| (at, IndexedParam::Float(at as f64 / 7.0));
    let text = |at: usize| (at, IndexedParam::Text(["adam", "sgd", "größe"][at % 3].into()));
    let mixed = |at: usize| match at % 8 {
        0 => (at, IndexedParam::Null),
        1 => (at, IndexedParam::Bool(at.is_multiple_of(3))),
        2 => (at, IndexedParam::Integer(at as i64 - 50)),
        3 => (at, IndexedParam::Rounded(1e20)),
        4 => (at, IndexedParam::LongText),
        5 => text(at),
        _ => number(at),
    };
    let all = [
        (0..100).map(number).collect::<Vec<_>>(),
        (0..100).map(text).collect(),
        (0..99).step_by(3).map(mixed).collect(),
        (0..100).map(mixed).collect(),
    ];
    all.iter().flat_map(|values| encode_columns(100, values)).map(|column| column.to_vec()).collect()
}

fn blocks() -> Vec<Vec<u8>> {
    let mut written = WrittenPoints::default();
    for step in 0..200 {
        for series in 0..3 {
            let value = f64::from(step) / 7.0;
            let point = Point { step: step.into(), value, epoch: ABSENT, time_us: 1_000 * i64::from(step) };
            written.push(SeriesNumber(series), point);
        }
    }
    written.blocks()
}
