//! Invalid or oversized input: the response names the item and the limit, other data is not
//! affected, and a connection is closed only where no response could be understood.

use matyan_proto::{
    ingest::v1::{
        BlobRef, Event, IngestionBatch, LogTerminalLine, PresignRequest, PublishRequest, StreamBatch,
        StreamOpen, event::Kind as Item, ingest_service_client::IngestServiceClient, stream_request::Message,
    },
    limits,
};
use matyan_tests::{
    Reader, Server, eventually,
    json::{Ack, JsonWriter, log_record, metric},
    raw::{self, RawSocket},
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message as Frame;
use tonic::Code;

/// Maximum frame size of the WebSocket contract.
const FRAME: usize = 16 << 20;

/// Paths that are not inside a run's directory, or are not valid paths.
const FOREIGN_PATHS: &[&str] =
    &["../x", "a/../../x", "..", "/etc/passwd", "", "a//b", "a/./b", "a\u{0}b", "a\nb"];

async fn stored(reader: &Reader, run_id: &str, least: usize) -> Vec<f64> {
    let points = eventually("everything acknowledged is applied", async || {
        let points = reader.points(run_id, "good", "").await.map_err(|status| status.to_string())?;
        if points.len() >= least { Ok(points) } else { Err(points.len().to_string()) }
    })
    .await;
    points.iter().map(|point| point.value).collect()
}

/// A frame of records with an exact total length. The records have different lengths, because
/// identical ones would be deduplicated.
fn json_frame(bytes: usize) -> String {
    const RECORD: usize = 1 << 20;
    let record = |length: usize| log_record(&"x".repeat(length), 1.0).to_string();
    let mut frame = format!("[{}", record(RECORD));
    for shorter in 1.. {
        if frame.len() + 2 * record(RECORD).len() > bytes {
            break;
        }
        frame = format!("{frame},{}", record(RECORD - shorter));
    }
    // The last record fills the frame to its exact length.
    let rest = bytes - frame.len() - record(0).len() - 2;
    format!("{frame},{}]", record(rest))
}

/// A batch of lines with an exact encoded length.
fn batch(bytes: usize) -> Vec<u8> {
    const LINE: usize = 1 << 20;
    let encode = |length: usize| {
        let line = |(step, at)| {
            let line = LogTerminalLine { line: "x".repeat(LINE.min(length - at)), step };
            Event { client_time_us: None, kind: Some(Item::LogTerminalLine(line)) }
        };
        let events = (1..).zip((0..length).step_by(LINE)).map(line).collect();
        IngestionBatch { events, ..IngestionBatch::default() }.encode_to_vec()
    };
    // The encoding overhead is measured with a slightly shorter batch.
    let beside = encode(bytes - 1_000).len() - (bytes - 1_000);
    encode(bytes - beside)
}

/// A frame of the binary protocol with an exact length.
fn binary_frame(bytes: usize) -> Vec<u8> {
    let encode = |length: usize| {
        let batch = batch(length).into();
        raw::encoded(Message::Batch(StreamBatch { sequence: 1, batch, ..StreamBatch::default() }))
    };
    let beside = encode(bytes - 1_000).len() - (bytes - 1_000);
    encode(bytes - beside)
}

/// Expects a close frame with code 1009 and a reason that names the limit.
async fn assert_too_large(socket: &mut RawSocket) {
    match socket.next().await {
        Ok(Frame::Close(Some(close))) => {
            assert_eq!(u16::from(close.code), 1009, "{}", close.reason);
            assert!(close.reason.contains(&FRAME.to_string()), "{}", close.reason);
        }
        other => panic!("not closed with a close frame: {other:?}"),
    }
}

#[tokio::test]
async fn frames_of_16_mib_are_accepted_and_larger_ones_are_rejected_with_the_limit() {
    let mut server = Server::up().await;
    let reader = Reader::connect(&server.query).await;

    let mut socket = RawSocket::json(&server.ingest, "json").await;
    let largest = json_frame(FRAME);
    assert_eq!(largest.len(), FRAME);
    socket.send(Frame::text(largest)).await.expect("the frame is accepted");
    assert_eq!(socket.next().await, Ok(Frame::text(r#"{"status":"ok","error":null}"#)));
    // A server that rejects a frame by its header may close the connection before all of it
    // is sent.
    socket.send(Frame::text(json_frame(FRAME + 1))).await.ok();
    assert_too_large(&mut socket).await;
    let records = eventually("the frame is applied", async || {
        let records = reader.records("json").await.map_err(|status| status.to_string())?;
        let wanted = json_frame(FRAME).matches("log_record").count();
        if records.len() < wanted { Err(format!("{} records", records.len())) } else { Ok(records) }
    })
    .await;
    assert!(records.iter().all(|record| record.bytes().all(|byte| byte == b'x')));

    let mut socket = RawSocket::binary(&server.ingest, "binary").await;
    socket.request(Message::Open(StreamOpen::default())).await.expect("the message is accepted");
    assert_eq!(binary_frame(FRAME).len(), FRAME);
    socket.send(Frame::binary(binary_frame(FRAME))).await.expect("the frame is accepted");
    assert_eq!(socket.response().await.map(|answer| (answer.sequence, answer.rejected_items)), Ok((1, 0)));
    socket.send(Frame::binary(binary_frame(FRAME + 1))).await.ok();
    assert_too_large(&mut socket).await;
    let lines = eventually("the frame is applied", async || {
        let lines = reader.lines("binary").await.map_err(|status| status.to_string())?;
        if lines.len() < FRAME >> 20 { Err(format!("{} lines", lines.len())) } else { Ok(lines) }
    })
    .await;
    let bytes: usize = lines.iter().map(|(_, line)| line.len()).sum();
    assert!(bytes > FRAME - 1_000 && lines.iter().all(|(_, line)| line.bytes().all(|byte| byte == b'x')));
    server.check_alive();
}

#[tokio::test]
async fn a_batch_of_16_mib_is_accepted_over_grpc_and_a_larger_one_is_rejected_with_the_limit() {
    let server = Server::up().await;
    let mut client = IngestServiceClient::connect(server.ingest.clone()).await.expect("the server listens");
    for (bytes, rejected) in [(limits::BATCH_BYTES, 0), (limits::BATCH_BYTES + 1, 1)] {
        let batch = batch(bytes);
        assert_eq!(batch.len(), bytes);
        let request =
            PublishRequest { run_id: "run".into(), batch: batch.into(), ..PublishRequest::default() };
        let answer = client.publish(request).await.expect("the server answers").into_inner();
        assert_eq!(answer.rejected_items, rejected, "{bytes} bytes");
        if let Some(rejection) = answer.rejections.first() {
            assert_eq!((rejection.item, rejection.field.as_str()), (0, "batch"));
            assert!(
                rejection.reason.contains("16 MiB") || rejection.reason.contains("16777216"),
                "{rejection:?}"
            );
        }
    }
    let request = PublishRequest {
        run_id: "run".into(),
        batch: vec![0; limits::MESSAGE_BYTES].into(),
        ..Default::default()
    };
    let status = client.publish(request).await.expect_err("the message exceeds the limit");
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    assert!(status.message().contains(&limits::MESSAGE_BYTES.to_string()), "{status}");
}

/// Invalid items, and the field that the error must name; empty if the item as a whole is
/// invalid.
fn bad_items() -> Vec<(Value, &'static str)> {
    let with = |field: &str, value: Value| {
        let mut item = metric("bad", 1.0, Some(1));
        item[field] = value;
        item
    };
    vec![
        (json!(7), ""),
        (json!(null), ""),
        (json!([]), ""),
        (json!({}), "type"),
        (json!({"type": "delete_run"}), "type"),
        (json!({"type": 5}), "type"),
        (with("value", json!("many")), "value"),
        (with("value", json!(null)), "value"),
        (with("step", json!(1.5)), "step"),
        (with("name", json!(null)), "name"),
        (with("name", json!("x".repeat(limits::NAME_BYTES + 1))), "name"),
        (with("context", json!([1])), "context"),
        (with("client_datetime", json!("yesterday")), "client_datetime"),
        (json!({"type": "log_hparams", "value": 1}), "value"),
        (json!({"type": "log_record", "message": "m", "level": "loud", "timestamp": 1.0}), "level"),
        (json!({"type": "log_terminal_line", "line": 1, "step": 1}), "line"),
        (json!({"type": "log_terminal_line", "line": "x".repeat(limits::LOG_BYTES + 1), "step": 1}), "line"),
        (json!({"type": "add_tag"}), "tag_name"),
        (json!({"type": "create_run", "client_datetime": 1, "force_resume": "perhaps"}), "force_resume"),
    ]
}

#[tokio::test]
async fn an_invalid_message_is_reported_by_index_and_field_and_closes_nothing() {
    let server = Server::up().await;
    let mut writer = JsonWriter::connect(&server.ingest, "run").await.expect("the server listens");
    let mut good = Vec::new();
    let mut next = || {
        #[expect(clippy::cast_precision_loss, reason = "the number is small")]
        let value = good.len() as f64;
        good.push(value);
        metric("good", value, None)
    };
    for (item, field) in bad_items() {
        let Ok(Ack::Error(error)) = writer.send(&json!([next(), item, next()])).await else {
            panic!("{item} was not rejected")
        };
        let named = if field.is_empty() { "item 1: ".to_owned() } else { format!("item 1: {field}: ") };
        assert!(error.starts_with(&named) && error.len() > named.len(), "{item}: {error}");
    }
    for frame in
        ["", "{", "[", "nonsense", "7", "null", "\"text\"", "[[]]", "{\"type\"", "\u{0}", "[,]", "{}{}"]
    {
        let Ok(Ack::Error(error)) = writer.send_text(frame.to_owned()).await else {
            panic!("{frame} was not rejected")
        };
        assert!(!error.is_empty());
    }
    // The last one is a frame of garbage with the maximum size.
    let garbage = format!("[{}7]", "7,".repeat(FRAME / 2 - 2));
    let Ok(Ack::Error(error)) = writer.send_text(garbage).await else { panic!("garbage was not rejected") };
    assert!(error.starts_with("item 0: ") && error.len() < 1 << 20, "{} bytes", error.len());
    assert_eq!(writer.send(&next()).await, Ok(Ack::Ok));
    assert_eq!(stored(&Reader::connect(&server.query).await, "run", good.len()).await, good);
}

fn blob_ref(path: &str) -> IngestionBatch {
    let reference = BlobRef { key: format!("run/{path}"), path: path.into(), ..BlobRef::default() };
    let event = Event { client_time_us: None, kind: Some(Item::BlobRef(reference)) };
    IngestionBatch { events: vec![event], ..IngestionBatch::default() }
}

#[tokio::test]
async fn paths_outside_of_a_run_are_rejected_by_every_api() {
    let server = Server::up().await;
    let http = reqwest::Client::new();
    let mut grpc = IngestServiceClient::connect(server.ingest.clone()).await.expect("the server listens");
    let mut json = JsonWriter::connect(&server.ingest, "run").await.expect("the server listens");
    let mut binary = RawSocket::binary(&server.ingest, "run").await;
    binary.request(Message::Open(StreamOpen::default())).await.expect("the message is accepted");
    for (sequence, path) in (1..).zip(FOREIGN_PATHS) {
        let body = json!({"run_id": "run", "artifact_path": path});
        for base in [&server.ingest, &server.query] {
            let url = format!("{base}/api/v1/rest/artifacts/presign");
            let answer = http.post(url).json(&body).send().await.expect("the server answers");
            assert_eq!(answer.status(), 422, "{path:?}");
            let text = answer.text().await.expect("the body is text");
            assert!(text.contains("artifact_path"), "{path:?}: {text}");
        }
        let request = PresignRequest {
            run_id: "run".into(),
            artifact_path: (*path).into(),
            ..PresignRequest::default()
        };
        let status = grpc.presign(request).await.expect_err("the path is invalid");
        assert_eq!(status.code(), Code::InvalidArgument, "{path:?}");
        assert!(status.message().contains("artifact_path"), "{path:?}: {status}");

        let item = json!({"type": "blob_ref", "s3_key": format!("run/{path}"), "artifact_path": path});
        let Ok(Ack::Error(error)) = json.send(&item).await else { panic!("{path:?} was not rejected") };
        assert!(error.starts_with("item 0: ") && error.contains("path"), "{path:?}: {error}");

        let batch = blob_ref(path).encode_to_vec();
        let request =
            PublishRequest { run_id: "run".into(), batch: batch.clone().into(), ..PublishRequest::default() };
        let answer = grpc.publish(request).await.expect("the server answers").into_inner();
        let batch = StreamBatch { sequence, batch: batch.into(), ..StreamBatch::default() };
        binary.request(Message::Batch(batch)).await.expect("the message is accepted");
        let streamed = binary.response().await.expect("the stream continues");
        for rejections in [answer.rejections, streamed.rejections] {
            let [rejection] = rejections.as_slice() else { panic!("{path:?}: {rejections:?}") };
            assert_eq!(rejection.item, 0, "{path:?}");
            assert!(rejection.field.contains("path"), "{path:?}: {rejection:?}");
        }
    }
}

#[tokio::test]
async fn run_ids_that_name_other_directories_are_rejected_by_every_api() {
    let server = Server::up().await;
    let http = reqwest::Client::new();
    let mut grpc = IngestServiceClient::connect(server.ingest.clone()).await.expect("the server listens");
    for run_id in ["", "..", ".", "a/b", "../run", ".projects", "a\nb", &"x".repeat(limits::RUN_ID_BYTES + 1)]
    {
        let body = json!({"run_id": run_id, "artifact_path": "file"});
        let url = format!("{}/api/v1/rest/artifacts/presign", server.ingest);
        let answer = http.post(url).json(&body).send().await.expect("the server answers");
        assert_eq!(answer.status(), 422, "{run_id:?}");
        assert!(answer.text().await.expect("the body is text").contains("run_id"), "{run_id:?}");
        let request = PresignRequest {
            run_id: run_id.into(),
            artifact_path: "file".into(),
            ..PresignRequest::default()
        };
        let status = grpc.presign(request).await.expect_err("the run id is invalid");
        assert_eq!(status.code(), Code::InvalidArgument, "{run_id:?}");
        let request = PublishRequest { run_id: run_id.into(), ..PublishRequest::default() };
        let status = grpc.publish(request).await.expect_err("the run id is invalid");
        assert!(status.code() == Code::InvalidArgument && status.message().contains("run_id"), "{status}");
    }
    // Percent-encoded in the path of a WebSocket. The handshake is accepted before the run
    // id is checked.
    for segment in ["%2e%2e", "a%2Fb", ".projects", "a%0Ab"] {
        let mut writer =
            JsonWriter::connect(&server.ingest, segment).await.expect("the handshake is accepted");
        let answer = writer.send(&metric("good", 1.0, None)).await;
        assert!(
            matches!(&answer, Ok(Ack::Error(error)) if error.contains("run_id")),
            "{segment}: {answer:?}"
        );
        let answer = writer.send_text("[]".into()).await;
        assert_eq!(answer, Ok(Ack::Ok), "the connection stays open");
    }
}

/// An upload URL works only for the file that it was signed for.
#[tokio::test]
async fn an_upload_url_works_only_for_its_own_file() {
    let server = Server::up().await;
    let http = reqwest::Client::new();
    let presign = async |path: &str| {
        let url = format!("{}/api/v1/rest/artifacts/presign", server.ingest);
        let body = json!({"run_id": "run", "artifact_path": path});
        let answer = http.post(url).json(&body).send().await.expect("the server answers");
        let answer: Value = answer.json().await.expect("the body is JSON");
        answer["upload_url"].as_str().expect("the URL is text").to_owned()
    };
    let own = presign("own.txt").await;
    let put =
        async |url: String| http.put(url).body("content").send().await.expect("the server answers").status();
    for (from, to) in
        [("run/own.txt", "run/other.txt"), ("run/own.txt", "other/own.txt"), ("signature=", "signature=0")]
    {
        let forged = own.replacen(from, to, 1);
        assert_ne!(forged, own, "{own}");
        let status = put(forged.clone()).await;
        assert!(status.is_client_error(), "{forged}: {status}");
    }
    assert!(put(own.clone()).await.is_success(), "{own}");
}
