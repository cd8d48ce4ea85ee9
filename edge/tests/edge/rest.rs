//! REST as a projection of gRPC: the requests to the backend, and the responses made from its
//! answers.
//! This file has the helpers shared by the tests of all sections.

mod audit;
mod edit_conditions;
mod entities;
mod exports;
mod object_sequences;
mod one_run;
mod searches;
mod ui_state;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use matyan_edge::stream::{Key, Value as Leaf, decode};
use matyan_edge::{Edge, Metrics, Settings, Transport};
use matyan_proto::common::v1::{ActivityCount, IndexRange, Progress, SeriesKey, SeriesType, StepRange};
use matyan_proto::{
    apps, artifacts, dashboards, experiments, logs, metrics, notes, objects, project, reports, runs, search,
    series, system, tags,
};
use serde_json::{Value, json};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

use super::backend::Backend;

struct Rest {
    backend: Backend,
    edge: Edge,
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Entries as `path = value` lines.
    fn entries(&self) -> Vec<String> {
        let value = |value: &Leaf| match value {
            Leaf::Null => "null".to_owned(),
            Leaf::Bool(value) => value.to_string(),
            Leaf::Int(value) => value.to_string(),
            Leaf::Float(value) => format!("{value:?}"),
            Leaf::Text(text) => format!("{text:?}"),
            Leaf::Bytes(bytes) if bytes.len() % 8 == 0 => {
                let doubles = bytes.as_chunks::<8>().0.iter().map(|it| f64::from_le_bytes(*it));
                format!("{:?}", doubles.collect::<Vec<_>>())
            }
            Leaf::Bytes(bytes) => format!("{bytes:?}"),
            Leaf::Array => "[]".to_owned(),
            Leaf::Object => "{}".to_owned(),
        };
        decode(&self.body)
            .unwrap()
            .iter()
            .map(|entry| {
                let path: Vec<String> = entry
                    .path
                    .iter()
                    .map(|key| match key {
                        Key::Text(text) => text.clone(),
                        Key::Index(index) => index.to_string(),
                    })
                    .collect();
                format!("{} = {}", path.join("/"), value(&entry.value))
            })
            .filter(|it| !it.contains("numpy") && !it.contains("/dtype ="))
            .collect()
    }
}

impl Rest {
    fn new() -> Self {
        let backend = Backend::default();
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let edge = matyan_edge::query(Settings::default(), metrics, Transport::new(backend.clone()), None);
        Rest { backend, edge }
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        let base = if path.starts_with("/api/") { "" } else { "/api/v1/rest" };
        let request = Request::builder().method(method).uri(format!("{base}{path}"));
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let (parts, body) = self.edge.answer(request.body(body).unwrap()).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, Value::Null).await
    }

    /// A call that must succeed with JSON.
    async fn json(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.send(method, path, body).await;
        assert!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        answer.json()
    }
}

fn status(code: tonic::Code, reason: &str, message: &str, metadata: &[(&str, &str)]) -> Status {
    let metadata: std::collections::HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, "matyan", metadata))
}

fn missing() -> Status {
    status(tonic::Code::NotFound, "NOT_FOUND", "no such run", &[])
}

/// CBOR of `{"lr": 0.5, "n": NaN, "big": 2^64}`.
fn params() -> Vec<u8> {
    let mut cbor = vec![0xa3, 0x62, b'l', b'r', 0xfb];
    cbor.extend_from_slice(&0.5_f64.to_be_bytes());
    cbor.extend_from_slice(&[0x61, b'n', 0xfb]);
    cbor.extend_from_slice(&f64::NAN.to_be_bytes());
    cbor.extend_from_slice(&[0x63, b'b', b'i', b'g', 0xc2, 0x49, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    cbor
}

fn props() -> runs::v1::Props {
    runs::v1::Props {
        name: "Run: r".into(),
        experiment: Some(runs::v1::ExperimentRef {
            id: "e".into(),
            name: "exp".into(),
            description: String::new(),
        }),
        tags: vec![runs::v1::TagRef {
            id: "t".into(),
            name: "tag".into(),
            color: "#fff".into(),
            ..Default::default()
        }],
        created_us: 1_700_000_000_500_000,
        ended_us: Some(1_700_000_001_000_000),
        archived: false,
        active: true,
        ..Default::default()
    }
}

fn info(name: &str, context: &str, series_type: SeriesType, last: f64) -> runs::v1::SeriesInfo {
    runs::v1::SeriesInfo {
        name: name.into(),
        context: context.into(),
        r#type: series_type.into(),
        last_step: 7,
        last: Some(last),
        first: Some(1.0),
        min: Some(-1.0),
        max: Some(2.0),
        ..Default::default()
    }
}

fn run() -> runs::v1::Run {
    runs::v1::Run {
        run_id: "r".into(),
        props: Some(props()),
        params: params().into(),
        series: vec![
            info("loss", r#"{"subset":"train","x":NaN}"#, SeriesType::Metric, f64::INFINITY),
            info("img", "", SeriesType::Images, 0.0),
        ],
        artifacts: vec![artifacts::v1::Artifact {
            path: "a/b.bin".into(),
            uri: "file://r/a/b.bin".into(),
            ..Default::default()
        }],
        note_count: 2,
        version: 1,
        ..Default::default()
    }
}

const TIME_US: i64 = 1_767_323_045_678_000;
const ISO: &str = "2026-01-02T03:04:05.678Z";
