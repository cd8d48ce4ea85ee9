//! Tests of the JSON envelopes in the log, compared with the envelopes that Matyan 0.3 published.

use std::path::PathBuf;

use bytes::Bytes;
use matyan_proto::ingest::v1::{self as pb, event::Kind, stream_request::Message};
use matyan_wire::ingestion::RecordFormat;
use minicbor::Encoder;
use prost::Message as _;
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::harness::*;
use crate::Settings;

/// Vector files in the repository, and in the directory named by `MATYAN_VECTORS_DIR`.
fn vector_files(name: &str) -> Vec<PathBuf> {
    let recorded = PathBuf::from("../../tests/vectors");
    #[expect(clippy::disallowed_methods, reason = "this is the only variable that tests read")]
    let others = std::env::var("MATYAN_VECTORS_DIR").ok().map(PathBuf::from);
    let mut files = Vec::new();
    for folder in std::iter::once(recorded).chain(others) {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            if file.starts_with(name) && file.ends_with(".json") {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty());
    files
}

/// The batch that a client must have sent to produce this envelope.
struct SentMessage {
    batch: pb::IngestionBatch,
    envelope: Value,
}

impl SentMessage {
    fn new(mut envelope: Value) -> Self {
        // The key of a blob is now always built from the run and the path; Matyan 0.3
        // accepted any.
        let run = envelope["run_id"].as_str().unwrap().to_owned();
        if let Some(path) = envelope["payload"]["artifact_path"].as_str() {
            envelope["payload"]["s3_key"] = format!("{run}/{path}").into();
        }
        // A time without a time zone is UTC.
        let time = envelope["payload"]["client_datetime"].as_str().map(str::to_owned);
        let client_time_us = time.map(|time| {
            let time = if time.len() == 19 { format!("{time}+00:00") } else { time };
            envelope["payload"]["client_datetime"] = time.clone().into();
            let time = OffsetDateTime::parse(&time, &Rfc3339).unwrap();
            (time.unix_timestamp_nanos() / 1_000) as i64
        });
        let payload = envelope["payload"].as_object().unwrap().clone();
        let kind = envelope["type"].as_str().unwrap().to_owned();
        let batch = match kind.as_str() {
            "log_metric" => point(&payload, client_time_us.unwrap()),
            kind => {
                let event = pb::Event { client_time_us, kind: Some(event(kind, &payload)) };
                pb::IngestionBatch { events: vec![event], ..Default::default() }
            }
        };
        Self { batch, envelope }
    }
}

fn point(payload: &Map<String, Value>, time_us: i64) -> pb::IngestionBatch {
    let integer = |key: &str| payload[key].as_i64().unwrap_or(i64::MIN);
    pb::IngestionBatch {
        series: vec![pb::SeriesDef {
            name: text(payload, "name"),
            context: context(payload),
            dtype: text(payload, "dtype"),
        }],
        points: vec![pb::Points {
            series: vec![0],
            values: vec![payload["value"].as_f64().unwrap_or(f64::NAN)],
            steps: vec![integer("step")],
            epochs: vec![integer("epoch")],
            times_us: vec![time_us],
            ..pb::Points::default()
        }],
        ..Default::default()
    }
}

fn event(kind: &str, payload: &Map<String, Value>) -> Kind {
    let optional = |key: &str| payload.get(key).map(|value| value.as_str().unwrap().to_owned());
    let cbor = |key: &str| payload.get(key).map_or(Bytes::new(), to_cbor);
    match kind {
        "create_run" => Kind::CreateRun(pb::CreateRun {
            force_resume: payload["force_resume"].as_bool().unwrap(),
            ..Default::default()
        }),
        "finish_run" => Kind::FinishRun(pb::FinishRun::default()),
        "set_run_property" => Kind::SetRunProperty(pb::SetRunProperty {
            name: optional("name"),
            description: optional("description"),
            archived: payload.get("archived").map(|value| value.as_bool().unwrap()),
            experiment: optional("experiment"),
        }),
        "add_tag" => Kind::AddTag(pb::AddTag { name: text(payload, "tag_name") }),
        "remove_tag" => Kind::RemoveTag(pb::RemoveTag { name: text(payload, "tag_name") }),
        "log_hparams" => Kind::LogParams(pb::LogParams { value: cbor("value") }),
        "log_custom_object" => Kind::LogObject(pb::LogObject {
            name: text(payload, "name"),
            context: context(payload),
            dtype: text(payload, "dtype"),
            step: payload["step"].as_i64(),
            epoch: payload["epoch"].as_i64(),
            value: cbor("value"),
        }),
        "log_terminal_line" => Kind::LogTerminalLine(pb::LogTerminalLine {
            line: text(payload, "line"),
            step: payload["step"].as_i64().unwrap(),
        }),
        "log_record" => Kind::LogRecord(pb::LogRecord {
            message: text(payload, "message"),
            level: payload["level"].as_i64().unwrap(),
            timestamp: payload["timestamp"].as_f64().unwrap(),
            logger_info: cbor("logger_info"),
            extra_args: cbor("extra_args"),
        }),
        "blob_ref" => Kind::BlobRef(pb::BlobRef {
            key: text(payload, "s3_key"),
            path: text(payload, "artifact_path"),
            content_type: text(payload, "content_type"),
            ..Default::default()
        }),
        other => panic!("unknown kind of envelope: {other}"),
    }
}

fn text(payload: &Map<String, Value>, key: &str) -> String {
    payload[key].as_str().unwrap().to_owned()
}

fn context(payload: &Map<String, Value>) -> String {
    payload["context"].to_string()
}

fn to_cbor(value: &Value) -> Bytes {
    let mut encoder = Encoder::new(Vec::new());
    put(&mut encoder, value);
    encoder.into_writer().into()
}

fn put(encoder: &mut Encoder<Vec<u8>>, value: &Value) {
    match value {
        Value::Null => drop(encoder.null().unwrap().writer()),
        Value::Bool(bool) => drop(encoder.bool(*bool).unwrap().writer()),
        Value::Number(number) => put_number(encoder, &number.to_string()),
        Value::String(text) => drop(encoder.str(text).unwrap().writer()),
        Value::Array(list) => {
            encoder.array(list.len() as u64).unwrap();
            for item in list {
                put(encoder, item);
            }
        }
        Value::Object(map) => {
            encoder.map(map.len() as u64).unwrap();
            for (key, value) in map {
                encoder.str(key).unwrap();
                put(encoder, value);
            }
        }
    }
}

fn put_number(encoder: &mut Encoder<Vec<u8>>, text: &str) {
    if let Ok(integer) = text.parse::<i64>() {
        encoder.i64(integer).unwrap();
    } else {
        encoder.f64(text.parse().unwrap()).unwrap();
    }
}

/// Every envelope that the gateway of Matyan 0.3 published is reproduced from the data that its
/// client had sent.
#[tokio::test]
async fn vectors_gateway_edge_cases_are_published_as_before() {
    let mut compared = 0;
    for path in vector_files("gateway_edge_cases") {
        let vectors: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for case in vectors["ws"].as_array().unwrap() {
            let published = case["reference_published"].as_array().unwrap();
            let sent: Vec<SentMessage> =
                published.iter().map(|record| SentMessage::new(record["value"].clone())).collect();
            check_published(case["name"].as_str().unwrap(), &sent).await;
            compared += sent.len();
        }
    }
    println!("{compared} envelopes compared");
    assert!(compared > 20);
}

async fn check_published(name: &str, sent: &[SentMessage]) {
    let env = TestEnv::json().await;
    for sent in sent {
        let request = pb::PublishRequest {
            run_id: sent.envelope["run_id"].as_str().unwrap().to_owned(),
            batch: prost::Message::encode_to_vec(&sent.batch).into(),
            ..Default::default()
        };
        let answer = env.client().publish(request).await.unwrap().into_inner();
        assert_eq!(answer.rejections, [], "{name}");
    }
    let records = env.all_records().await;
    assert_eq!(records.len(), sent.len(), "{name}");
    for (record, sent) in records.iter().zip(sent) {
        let mut envelope: Value = serde_json::from_slice(&record.value).unwrap();
        assert_eq!(envelope["timestamp"], "2026-01-02T03:04:05.678901Z", "{name}");
        envelope["timestamp"] = "<server time>".into();
        assert_eq!(envelope, sent.envelope, "{name}");
        assert_eq!(record.key, sent.envelope["run_id"].as_str().unwrap(), "{name}");
    }
}

#[tokio::test]
async fn a_stream_names_series_that_earlier_batches_defined() {
    let env = TestEnv::json().await;
    let mut stream = env.stream_open(open_producer(0), &[]).await;
    stream.send(1, &points(0, &["a"], &[0])).await;
    stream.send(2, &points(1, &["b"], &[1, 0])).await;
    stream.acknowledged(2).await;
    stream.hang_up();
    let reopened = pb::StreamOpen { dictionary: dictionary(&["a", "b"]), ..open_producer(2) };
    let mut stream = env.stream_open(reopened, &[]).await;
    stream.send(3, &points(2, &["c"], &[2, 0, 1])).await;
    stream.acknowledged(3).await;

    let name = |record: &matyan_log::Record| {
        let envelope: Value = serde_json::from_slice(&record.value).unwrap();
        let header = |name: &str| {
            let value =
                record.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.clone());
            String::from_utf8(value.unwrap().to_vec()).unwrap()
        };
        let place =
            format!("{}:{}/{}", header("matyan-sequence"), header("matyan-item"), header("matyan-items"));
        (envelope["payload"]["name"].as_str().unwrap().to_owned(), place)
    };
    let names: Vec<_> = env.all_records().await.iter().map(name).collect();
    let expected =
        [("a", "1:0/1"), ("b", "2:0/2"), ("a", "2:1/2"), ("c", "3:0/3"), ("a", "3:1/3"), ("b", "3:2/3")];
    assert_eq!(names, expected.map(|(name, place)| (name.to_owned(), place.to_owned())));
}

#[tokio::test]
async fn a_stream_whose_names_find_no_room_ends_before_the_batch_is_appended() {
    let settings = Settings { format: RecordFormat::Json, dictionary_bytes: 100_000, ..Settings::default() };
    let env = TestEnv::with(settings).await;
    let name = "n".repeat(1_000);
    let define = {
        let name = name.clone();
        move |number: u32| points(number, &[&format!("{name}{number}")], &[number])
    };
    let stream = env.stream_open(open_producer(0), &[]).await;
    let requests = stream.sender();
    // The server does not end the stream before its responses are read.
    let sending = tokio::spawn(async move {
        for number in 0..200 {
            let sequence = u64::from(number) + 1;
            let batch = define(number).encode_to_vec().into();
            let message = Message::Batch(pb::StreamBatch { sequence, batch, ..Default::default() });
            if requests.send(pb::StreamRequest { message: Some(message) }).await.is_err() {
                break;
            }
        }
    });
    let (durable, ended) = stream.finish().await;
    sending.await.unwrap();
    assert_eq!(ended.unwrap_err().code(), tonic::Code::ResourceExhausted);
    assert!((100..200).contains(&durable), "{durable}");
    assert_eq!(env.record_count().await as u64, durable);

    // The rest follows under another producer, whose dictionary starts empty.
    let producer_id = Bytes::from_static(&[8; 16]);
    let mut stream = env.stream_open(pb::StreamOpen { producer_id, ..open_producer(0) }, &[]).await;
    stream.send(1, &points(0, &[&format!("{name}{durable}")], &[0])).await;
    stream.acknowledged(1).await;
}

#[tokio::test]
async fn only_the_item_that_is_too_large_as_json_is_rejected() {
    let env = TestEnv::json().await;
    let mut stream = env.stream().await;
    let object = |text: &str| {
        let value = to_cbor(&serde_json::json!({"data": text}));
        Kind::LogObject(pb::LogObject { name: "o".into(), value, ..Default::default() })
    };
    let kinds = [object(&"\u{1}".repeat(3 << 20)), object("small")];
    let events = kinds.map(|kind| pb::Event { client_time_us: None, kind: Some(kind) }).to_vec();
    stream.send(1, &pb::IngestionBatch { events, ..Default::default() }).await;
    let answer = stream.acknowledged(1).await;
    assert_eq!((answer.rejected_items, answer.rejections[0].item), (1, 0));
    assert_eq!(env.record_count().await, 1);
}
