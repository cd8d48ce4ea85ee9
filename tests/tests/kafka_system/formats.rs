//! Both record formats, which allow replacing a running Matyan 0.3 piece by piece: workers of
//! either version understand the records, and the stored result does not depend on the format.

use std::collections::BTreeMap;

use matyan_proto::ingest::v1::{
    Event, FinishRun, IngestionBatch, PublishRequest, event::Kind, ingest_service_client::IngestServiceClient,
};
use matyan_proto::log::v1::LogEntry;
use matyan_servers::kafka::Broker;
use matyan_tests::{
    Reader, eventually,
    json::{Ack, JsonWriter, metric},
    kafka::{admin::header, scene::Scene},
    vectors,
};
use matyan_value::spoken_name;
use prost::Message as _;
use rdkafka::{Message, message::OwnedMessage};
use serde_json::{Value, json};
use tonic::Request;

use crate::control::delete;

const PARTITIONS: u32 = 2;

/// No other scene can use Protobuf meanwhile: the group of old workers has one name on a broker.
pub(crate) async fn protobuf_is_refused_while_old_workers_are_running(broker: &mut Broker) {
    let mut scene = Scene::prepare(broker, "old-workers", PARTITIONS, "protobuf");
    let old =
        tokio::task::block_in_place(|| scene.admin.reader_of_group("ingestion-workers", &scene.ingestion));
    for service in [&mut scene.frontier, &mut scene.up] {
        assert!(!service.run_to_exit().await.success());
        let output = service.log();
        assert!(
            output.contains("`ingestion-workers`") && output.contains("KAFKA_MESSAGE_FORMAT=json"),
            "{output}"
        );
    }
    let mut json = Scene::prepare(broker, "with-old-workers", PARTITIONS, "json");
    json.up.start().await;
    json.frontier.start().await;
    json.stop().await;
    tokio::task::block_in_place(|| drop(old));
    scene.up.start().await;
    scene.frontier.start().await;
    scene.stop().await;
}

/// The frames that the published client sent in each recorded scenario, by run id.
fn recorded_frames() -> BTreeMap<String, Vec<String>> {
    let mut frames: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (_, text) in vectors::files("ws_transcripts", ".jsonl") {
        for line in text.lines().filter(|line| !line.is_empty()) {
            let exchange: Value = serde_json::from_str(line).expect("a line is JSON");
            if exchange["channel"] == "ws"
                && exchange["direction"] == "client->server"
                && exchange["method"] == "TEXT"
            {
                let scenario = exchange["scenario"].as_str().expect("a text").replace('_', "-");
                frames
                    .entry(scenario)
                    .or_default()
                    .push(exchange["raw"].as_str().expect("a text").to_owned());
            }
        }
    }
    frames
}

pub(crate) async fn json_and_protobuf_result_in_the_same_state(broker: &Broker) {
    let recorded = recorded_frames();
    let mut states = Vec::new();
    for format in ["protobuf", "json"] {
        let mut scene = Scene::prepare(broker, &format!("form-{format}"), PARTITIONS, format);
        scene.up.start().await;
        scene.frontier.start().await;
        for (run, frames) in &recorded {
            let mut writer = JsonWriter::connect(scene.ingest(), run).await.expect("the frontier listens");
            for frame in frames {
                writer.send_text(frame.clone()).await.expect("the server answers");
            }
            scene.wait_until_applied(run).await;
        }
        assert_eq!(scene.metric("matyan_ingestion_items_parked_total").await, Ok(0.0));
        let mut state = BTreeMap::new();
        for run in recorded.keys() {
            state.insert(run.clone(), stored(&scene, run).await);
        }
        states.push(state);
        let deleted = recorded.keys().next().expect("something was recorded");
        assert!(delete(&scene, deleted).await);
        let records = scene.admin.read(&scene.ingestion);
        let kinds = records.iter().map(|record| check_form(record, format)).collect::<Vec<_>>();
        assert_eq!(kinds.iter().filter(|kind| *kind == "delete_run").count(), 1, "{kinds:?}");
        scene.stop().await;
    }
    for (run, protobuf) in &states[0] {
        assert_eq!(protobuf, &states[1][run], "{run}");
    }
}

/// A frame of the maximum size goes through as one record, and every record carries its trace.
pub(crate) async fn large_frames_and_traces_in_both_formats(broker: &Broker) {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    for format in ["protobuf", "json"] {
        let mut scene = Scene::prepare(broker, &format!("large-{format}"), PARTITIONS, format);
        scene.up.start().await;
        scene.frontier.start().await;
        let mut frame = json!([
            {"type": "log_custom_object", "name": "figure", "value": {"type": "figure", "data": ""}, "step": 0, "dtype": "figure"}
        ]);
        let room = (16 << 20) - frame.to_string().len();
        frame[0]["value"]["data"] = "x".repeat(room).into();
        let mut writer = JsonWriter::connect(scene.ingest(), "large").await.expect("the frontier listens");
        assert_eq!(writer.send(&frame).await, Ok(Ack::Ok));
        scene.wait_until_applied("large").await;
        let records = scene.admin.read(&scene.ingestion);
        let size = |record: &OwnedMessage| record.payload().map_or(0, <[u8]>::len);
        assert!(records.iter().any(|record| size(record) >= room), "the frame is one record");
        let info = stored(&scene, "large").await;
        assert_eq!(info["info"]["traces"]["figures"][0]["name"], "figure", "{info}");
        assert_eq!(scene.metric("matyan_ingestion_items_parked_total").await, Ok(0.0));

        let mut client =
            IngestServiceClient::connect(scene.ingest().to_owned()).await.expect("the frontier listens");
        let event = Event { client_time_us: None, kind: Some(Kind::FinishRun(FinishRun::default())) };
        let batch = IngestionBatch { events: vec![event], ..Default::default() };
        let batch = batch.encode_to_vec().into();
        let mut request =
            Request::new(PublishRequest { run_id: "traced".into(), batch, ..Default::default() });
        let parent = format!("00-{TRACE}-b7ad6b7169203331-01").parse().expect("the header is ASCII");
        request.metadata_mut().insert("traceparent", parent);
        client.publish(request).await.expect("the batch is accepted");
        let records = scene.admin.read(&scene.ingestion);
        let traced =
            records.iter().find(|record| record.key() == Some(b"traced")).expect("the record exists");
        assert!(header(traced, "traceparent").is_some_and(|trace| trace.contains(TRACE)), "{format}");
        scene.stop().await;
    }
}

/// Checks the documented form of a record: key, format, and ids. Returns the type of an
/// envelope, or whether a batch deletes.
fn check_form(record: &OwnedMessage, format: &str) -> String {
    let value = record.payload().expect("a record has a value");
    let key = std::str::from_utf8(record.key().expect("a record has a key")).expect("the key is text");
    if format == "protobuf" {
        assert_eq!(value[0], 1, "the first byte is the layout");
        assert_eq!(
            header(record, "content-type").as_deref(),
            Some("application/x-protobuf;type=matyan.log.v1.LogEntry")
        );
        let entry = LogEntry::decode(&value[1..]).expect("the value is a log entry");
        let batch = IngestionBatch::decode(entry.batch).expect("the entry has a batch");
        let deletes = |event: &Event| matches!(event.kind, Some(Kind::DeleteRun(_)));
        return if batch.events.iter().any(deletes) { "delete_run" } else { "another" }.to_owned();
    }
    assert_eq!(header(record, "content-type").as_deref(), Some("application/json"));
    let envelope: Value = serde_json::from_slice(value).expect("a value is JSON");
    let members: Vec<_> = envelope.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(members, ["type", "run_id", "timestamp", "payload"]);
    assert_eq!(envelope["run_id"], key);
    let kind = envelope["type"].as_str().expect("a text");
    let (required, optional) = documented(kind).unwrap_or_else(|| panic!("{kind} is not documented"));
    let payload = envelope["payload"].as_object().expect("an object");
    for name in required {
        assert!(payload.contains_key(*name), "{kind} without {name}");
    }
    for name in payload.keys().map(String::as_str) {
        assert!(required.contains(&name) || optional.contains(&name), "{kind} with {name}");
    }
    let ids = ["matyan-producer", "matyan-sequence", "matyan-acknowledged", "matyan-item", "matyan-items"];
    for name in ids.iter().filter(|_| kind != "delete_run") {
        assert!(header(record, name).is_some(), "{kind} without the header {name}");
    }
    kind.to_owned()
}

/// The required and the optional keys of a payload.
fn documented(kind: &str) -> Option<(&'static [&'static str], &'static [&'static str])> {
    Some(match kind {
        "create_run" => (&["client_datetime", "force_resume"], &[]),
        "log_metric" => (&["name", "value", "step", "epoch", "context", "dtype", "client_datetime"], &[]),
        "log_hparams" => (&["value"], &[]),
        "finish_run" => (&[], &["client_datetime"]),
        "set_run_property" => (&[], &["name", "description", "archived", "experiment"]),
        "add_tag" | "remove_tag" => (&["tag_name"], &[]),
        "log_custom_object" => {
            (&["name", "value", "step", "epoch", "context", "dtype"], &["client_datetime"])
        }
        "log_terminal_line" => (&["line", "step"], &[]),
        "log_record" => (&["message", "level", "timestamp"], &["logger_info", "extra_args"]),
        "blob_ref" => (&["s3_key", "artifact_path", "content_type"], &[]),
        "delete_run" => (&[], &[]),
        // For a frame without any valid item: Matyan 0.3 skips types that it does not
        // know.
        "nothing" => (&[], &[]),
        _ => return None,
    })
}

/// Messages sent to the gateway of Matyan 0.3, and what it published: the former goes through
/// this frontier, the latter directly into the log.
pub(crate) async fn recorded_envelopes_result_in_the_same_state_as_recorded_frames(broker: &Broker) {
    let scene = Scene::start(broker, "recorded", PARTITIONS).await;
    let mut compared = 0;
    for (_, text) in vectors::files("gateway_edge_cases", ".json") {
        let recording: Value = serde_json::from_str(&text).expect("a recording is JSON");
        let cases = recording["ws"].as_array().expect("a list");
        for (number, case) in cases.iter().filter(|case| case["verdict"] == "match").enumerate() {
            let ours = format!("frames-{number}");
            let theirs = format!("envelopes-{number}");
            let mut writer = JsonWriter::connect(scene.ingest(), &ours).await.expect("the frontier listens");
            for frame in case["frames"].as_array().expect("a list") {
                // Frames that are recorded as a description are not text, and none of them is in a matching case.
                writer
                    .send_text(frame.as_str().expect("a text").to_owned())
                    .await
                    .expect("the server answers");
            }
            let published = case["reference_published"].as_array().expect("a list");
            for envelope in published {
                publish(&scene, &theirs, envelope["value"].clone()).await;
            }
            scene.wait_until_applied(&ours).await;
            wait_until_envelopes_applied(&scene, &theirs).await;
            let ours = with_neutral_run_id(stored(&scene, &ours).await, &ours);
            let theirs = with_neutral_run_id(stored(&scene, &theirs).await, &theirs);
            assert_eq!(ours, theirs, "{}", case["name"]);
            compared += published.len();
        }
    }
    assert!(compared > 0, "nothing was published");
    scene.stop().await;
}

/// Writes an envelope as the gateway of Matyan 0.3 did.
async fn publish(scene: &Scene, run: &str, mut envelope: Value) {
    envelope["run_id"] = json!(run);
    envelope["timestamp"] = json!("2024-01-02T03:04:05.678901Z");
    if envelope["type"] == "blob_ref" {
        // The recorded key is made up; this frontier replaces it with the signed one.
        let path = envelope["payload"]["artifact_path"].as_str().expect("a text");
        envelope["payload"]["s3_key"] = json!(format!("{run}/{path}"));
    }
    scene.admin.write(&scene.ingestion, run.as_bytes(), envelope.to_string().as_bytes(), &[]).await;
}

/// Like `Scene::wait_until_applied`, with an envelope instead of a frame.
async fn wait_until_envelopes_applied(scene: &Scene, run: &str) {
    let mut payload = metric("last", 0.0, Some(0));
    payload.as_object_mut().expect("an object").remove("type");
    publish(scene, run, json!({"type": "log_metric", "payload": payload})).await;
    let reader = scene.reader().await;
    eventually("the last envelope is applied", async || match reader.points(run, "last", "").await {
        Ok(points) if points.is_empty() => Err("no point".to_owned()),
        points => points.map_err(|status| status.to_string()),
    })
    .await;
}

/// Everything stored for a run, except for times and random ids, which differ each time.
async fn stored(scene: &Scene, run: &str) -> Value {
    let reader = scene.reader().await;
    let url = format!("{}/api/v1/rest/runs/{run}/info/", scene.up.address("query"));
    let answer = reqwest::get(url).await.expect("the server listens");
    let text = answer.text().await.expect("the body is text");
    // Python writes non-finite numbers, which are not valid JSON.
    let mut info: Value = serde_json::from_str(
        &text.replace("-Infinity", "null").replace("Infinity", "null").replace("NaN", "null"),
    )
    .unwrap_or_else(|error| panic!("{error}: {text}"));
    for name in ["creation_time", "end_time", "duration"] {
        info["props"].as_object_mut().expect("an object").remove(name);
    }
    let props = info["props"].as_object_mut().expect("an object");
    for value in props.values_mut() {
        remove_ids(value);
    }
    let mut points = Vec::new();
    for trace in info["traces"]["metric"].as_array().into_iter().flatten() {
        points.push(series(&reader, run, trace).await);
    }
    let lines = eventually("lines are read", async || reader.lines(run).await).await;
    let records = eventually("records are read", async || reader.records(run).await).await;
    json!({"info": info, "points": points, "lines": lines, "records": records})
}

async fn series(reader: &Reader, run: &str, trace: &Value) -> Value {
    let name = trace["name"].as_str().expect("a text");
    let context = match trace["context"].as_object() {
        Some(context) if !context.is_empty() => trace["context"].to_string(),
        _ => String::new(),
    };
    let points = reader.points(run, name, &context).await.expect("the points are read");
    // JSON cannot represent non-finite values, so they are all treated as equal.
    let value = |value: f64| if value.is_finite() { value.to_string() } else { "not finite".to_owned() };
    points.iter().map(|point| json!([point.step, value(point.value), point.epoch, point.time_us])).collect()
}

/// Removes the ids of experiments and tags, which are random.
fn remove_ids(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("id");
            members.values_mut().for_each(remove_ids);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_ids),
        _ => {}
    }
}

/// Replaces the id of a run, and the default name, which depends on the id.
fn with_neutral_run_id(state: Value, run: &str) -> Value {
    let text = state.to_string().replace(run, "run").replace(&spoken_name(run), "name");
    serde_json::from_str(&text).expect("renaming keeps the JSON valid")
}
