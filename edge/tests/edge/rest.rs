//! REST as a projection of gRPC: what a call asks the backend, and what it makes of the answer.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use matyan_edge::stream::{Key, Value as Leaf, decode};
use matyan_edge::{Edge, Metrics, Settings, Transport};
use matyan_proto::common::v1::{ActivityCount, IndexRange, Progress, SeriesKey, SeriesType, StepRange};
use matyan_proto::{
    apps, artifacts, dashboards, experiments, logs, notes, objects, project, runs, search, series, system,
    tags,
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
        let key = |key: &Key| match key {
            Key::Text(text) => text.clone(),
            Key::Index(index) => index.to_string(),
        };
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
        let line = |entry: &matyan_edge::stream::Entry| {
            let path: Vec<String> = entry.path.iter().map(key).collect();
            format!("{} = {}", path.join("/"), value(&entry.value))
        };
        decode(&self.body)
            .unwrap()
            .iter()
            .map(line)
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
    }
}

#[tokio::test]
async fn run_info_shows_everything() {
    let rest = Rest::new();
    rest.backend.answers("runs.v1.RunService/Get", [runs::v1::GetResponse { run: Some(run()) }]);
    let answer = rest.get("/runs/r/info/?sequence=metric&sequence=images&skip_system=1").await;
    assert_eq!(
        answer.text(),
        r##"{"params":{"lr":0.5,"n":null,"big":18446744073709551616},"traces":{"metric":[{"context":{"subset":"train","x":null},"name":"loss","last_value":null}],"images":[{"context":{},"name":"img"}]},"props":{"name":"Run: r","description":"","experiment":{"id":"e","name":"exp","description":""},"tags":[{"id":"t","name":"tag","color":"#fff","description":""}],"creation_time":1700000000.5,"end_time":1700000001.0,"archived":false,"active":true},"artifacts":[{"name":"b.bin","path":"a/b.bin","uri":"file://r/a/b.bin"}]}"##
    );
    let asked: runs::v1::GetRequest = rest.backend.asked("runs.v1.RunService/Get");
    let parts = asked.parts.unwrap();
    assert_eq!((asked.run_id.as_str(), parts.system_params), ("r", false));
    assert_eq!(parts.series_types, [SeriesType::Metric as i32, SeriesType::Images as i32]);

    let aim = rest.get("/api/runs/r/info").await.json();
    assert_eq!(aim["props"]["notes"], 2);
    assert_eq!(aim["params"]["n"], "NaN");
    let types: Vec<&String> = aim["traces"].as_object().unwrap().keys().collect();
    assert_eq!(types, ["metric", "images", "texts", "distributions", "audios", "figures"]);

    assert_eq!(rest.get("/runs/r/info/?sequence=logs").await.status, 400);
    assert_eq!(rest.get("/runs/r/info/?skip_system=maybe").await.status, 422);
    rest.backend.fails::<runs::v1::GetResponse>("runs.v1.RunService/Get", [], missing());
    let answer = rest.get("/runs/x/info/").await;
    assert_eq!((answer.status, answer.json()["detail"].clone()), (404, json!("Not Found")));
}

#[tokio::test]
async fn metric_batches_are_json() {
    let rest = Rest::new();
    let points = |place, steps: Vec<i64>, values: Vec<f64>| series::v1::SeriesPoints {
        place: Some(series::v1::Place { run: 0, series: place }),
        info: Some(info("loss", "", SeriesType::Metric, 0.0)),
        steps,
        values,
        ..Default::default()
    };
    let pieces = [
        series::v1::SampleResponse { series: vec![points(0, vec![0, 1], vec![0.5, f64::NAN])] },
        series::v1::SampleResponse { series: vec![points(0, vec![2], vec![1.0]), points(1, vec![], vec![])] },
    ];
    rest.backend.answers("series.v1.SeriesService/Sample", pieces);
    let body = json!([{"name": "loss", "context": {"a": 1.0}}, {"name": "x", "context": {}}]);
    let answer = rest.json("POST", "/runs/r/metric/get-batch/?record_range=1:&record_density=-1", body).await;
    assert_eq!(
        answer,
        json!([
            {"name": "loss", "context": {}, "iters": [0, 1, 2], "values": [0.5, null, 1.0]},
            {"name": "loss", "context": {}, "iters": [], "values": []},
        ])
    );
    let asked: series::v1::SampleRequest = rest.backend.asked("series.v1.SeriesService/Sample");
    assert_eq!((asked.density, asked.steps), (0, Some(StepRange { start: Some(1), stop: None })));
    let key = |name: &str, context: &str| SeriesKey { name: name.into(), context: context.into() };
    assert_eq!(asked.runs[0].keys, [key("loss", r#"{"a":1.0}"#), key("x", "")]);

    let bad = rest.send("POST", "/runs/r/metric/get-batch/?record_range=a:b", json!([])).await;
    assert_eq!((bad.status, bad.json()["message"].clone()), (400, json!("Invalid range format")));
    let bad = rest.send("POST", "/runs/r/metric/get-batch/", json!([{"name": 5}])).await;
    assert_eq!(bad.status, 422);
    assert_eq!(
        bad.json()["message"],
        "body.0.name: Input should be a valid string; body.0.context: Field required"
    );

    rest.backend.answers::<series::v1::SampleResponse>("series.v1.SeriesService/Sample", []);
    rest.backend.fails::<runs::v1::GetResponse>("runs.v1.RunService/Get", [], missing());
    assert_eq!(rest.send("POST", "/runs/x/metric/get-batch/", json!({})).await.status, 404);
}

/// What run search streams for `run()` and an empty run.
const TWO_RUNS: &str = r##"progress_0 = []
progress_0/0 = 0
progress_0/1 = 2
r/params/lr = 0.5
r/params/n = NaN
r/params/big = 1.8446744073709552e19
r/traces/metric = []
r/traces/metric/0/name = "loss"
r/traces/metric/0/context/subset = "train"
r/traces/metric/0/context/x = NaN
r/traces/metric/0/values/last = inf
r/traces/metric/0/values/last_step = 7
r/traces/metric/0/values/first = 1.0
r/traces/metric/0/values/min = -1.0
r/traces/metric/0/values/max = 2.0
r/traces/metric/1/name = "img"
r/traces/metric/1/context = {}
r/traces/metric/1/values/last = 0.0
r/traces/metric/1/values/last_step = 7
r/traces/metric/1/values/first = 1.0
r/traces/metric/1/values/min = -1.0
r/traces/metric/1/values/max = 2.0
r/props/name = "Run: r"
r/props/description = ""
r/props/experiment/id = "e"
r/props/experiment/name = "exp"
r/props/experiment/description = ""
r/props/tags = []
r/props/tags/0/id = "t"
r/props/tags/0/name = "tag"
r/props/tags/0/color = "#fff"
r/props/tags/0/description = ""
r/props/creation_time = 1700000000.5
r/props/end_time = 1700000001.0
r/props/archived = false
r/props/active = true
progress_1 = []
progress_1/0 = 1
progress_1/1 = 2
s/params = {}
s/traces/metric = []
s/props/name = ""
s/props/description = ""
s/props/experiment/id = null
s/props/experiment/name = null
s/props/experiment/description = null
s/props/tags = []
s/props/creation_time = 0.0
s/props/end_time = null
s/props/archived = false
s/props/active = false
progress_2 = []
progress_2/0 = 2
progress_2/1 = 2
progress_3 = []
progress_3/0 = 0
progress_3/1 = 0"##;

#[tokio::test]
async fn run_search_streams_trees_and_progress() {
    let rest = Rest::new();
    let mut second = run();
    second.run_id = "s".into();
    second.series.clear();
    second.params = vec![0xa0].into();
    second.props = Some(runs::v1::Props::default());
    let messages = [
        search::v1::RunsResponse { runs: vec![run()], first_place: 1, match_count: 2, ..Default::default() },
        search::v1::RunsResponse {
            runs: vec![second],
            first_place: 2,
            match_count: 2,
            done: true,
            ..Default::default()
        },
    ];
    rest.backend.answers("search.v1.SearchService/Runs", messages);
    let answer = rest.get("/runs/search/run/?q=run.active%20%3D%3D+True&limit=5&offset=x").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/octet-stream")));
    assert_eq!(answer.entries().join("\n"), TWO_RUNS);
    let asked: search::v1::RunsRequest = rest.backend.asked("search.v1.SearchService/Runs");
    let query = asked.query.unwrap();
    assert_eq!((query.text.as_str(), query.report_progress), ("run.active == True", true));
    assert_eq!((asked.limit, asked.after_run_id.as_str()), (5, "x"));
    assert_eq!(asked.parts.unwrap().series_types, [SeriesType::Metric as i32]);
    assert_eq!(rest.get("/runs/search/run/?limit=-1").await.status, 422);
    assert_eq!(rest.get("/runs/search/run/?sort=%5B1%5D").await.status, 400);
}

#[tokio::test]
async fn a_refused_query_is_an_error_before_the_stream() {
    let rest = Rest::new();
    let metadata = [("statement", "run."), ("line", "1"), ("offset", "6"), ("end_offset", "7")];
    let refused = status(tonic::Code::InvalidArgument, "INVALID_QUERY", "a name is missing", &metadata);
    rest.backend.fails::<search::v1::RunsResponse>("search.v1.SearchService/Runs", [], refused);
    let answer = rest.get("/runs/search/run/?q=run.").await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["message"], "SyntaxError");
    assert_eq!(answer.json()["error"]["message"], "Invalid query syntax: a name is missing");
    assert_eq!(answer.json()["detail"]["offset"], 6);
}

#[tokio::test]
async fn a_stream_that_breaks_is_broken_for_the_client() {
    let rest = Rest::new();
    let first =
        search::v1::RunsResponse { runs: vec![run()], first_place: 1, match_count: 2, ..Default::default() };
    let check = async || {
        let request = Request::get("/api/v1/rest/runs/search/run/").body(Body::empty()).unwrap();
        let response = rest.edge.answer(request).await;
        assert_eq!(response.status(), 200);
        assert!(response.into_body().collect().await.is_err());
    };
    rest.backend.fails("search.v1.SearchService/Runs", [first.clone()], Status::internal("broken"));
    check().await;
    // An end without the last message is no end.
    rest.backend.answers("search.v1.SearchService/Runs", [first]);
    check().await;
}

#[tokio::test]
async fn active_runs_tell_last_values() {
    let rest = Rest::new();
    let message = search::v1::RunsResponse {
        runs: vec![run()],
        first_place: 1,
        match_count: 1,
        done: true,
        ..Default::default()
    };
    rest.backend.answers("search.v1.SearchService/Runs", [message]);
    let entries = rest.get("/runs/active/").await.entries();
    assert!(entries[0].starts_with("r/traces/metric = []"), "{entries:?}");
    assert!(!entries.iter().any(|it| it.contains("values/min") || it.contains("params")));
    assert_eq!(entries[entries.len() - 3..], ["progress_0 = []", "progress_0/0 = 1", "progress_0/1 = 1"]);
}

#[tokio::test]
async fn metric_search_streams_points() {
    let rest = Rest::new();
    let points = |name: &str| series::v1::SeriesPoints {
        info: Some(info(name, "", SeriesType::Metric, 0.0)),
        steps: vec![0, 5],
        values: vec![1.0, f64::NAN],
        epochs: vec![i64::MIN, 3],
        times_us: vec![1_500_000, 2_000_000],
        x_places: vec![1],
        x_values: vec![9.0],
        ..Default::default()
    };
    let found = |run: Option<runs::v1::Run>, name: &str, more| search::v1::RunMetrics {
        run,
        points: vec![points(name)],
        more,
        ..Default::default()
    };
    let mut plain = run();
    plain.params = vec![0xa0].into();
    let messages = [
        search::v1::MetricsResponse {
            runs: vec![found(Some(plain), "a", true)],
            progress: Some(Progress { checked: 1, total: 2, matched: 1 }),
            ..Default::default()
        },
        search::v1::MetricsResponse {
            runs: vec![found(None, "b", false)],
            progress: Some(Progress { checked: 2, total: 2, matched: 1 }),
            done: true,
            ..Default::default()
        },
    ];
    rest.backend.answers("search.v1.SearchService/Metrics", messages);
    let entries = rest.get("/runs/search/metric/?p=100&x_axis=b").await.entries();
    let expected = r#"r/params = {}
r/traces = []
r/traces/0/name = "a"
r/traces/0/context = {}
r/traces/0/slice = []
r/traces/0/slice/0 = 0
r/traces/0/slice/1 = 5
r/traces/0/slice/2 = 1
r/traces/0/values/shape = 2
r/traces/0/values/blob = [1.0, NaN]
r/traces/0/iters/shape = 2
r/traces/0/iters/blob = [0.0, 5.0]
r/traces/0/epochs/shape = 2
r/traces/0/epochs/blob = [NaN, 3.0]
r/traces/0/timestamps/shape = 2
r/traces/0/timestamps/blob = [1.5, 2.0]
r/traces/0/x_axis_values/shape = 1
r/traces/0/x_axis_values/blob = [9.0]
r/traces/0/x_axis_iters/shape = 1
r/traces/0/x_axis_iters/blob = [5.0]
r/traces/1/name = "b""#;
    assert_eq!(entries[..21].join("\n"), expected);
    assert!(entries.iter().any(|it| it == "r/props/active = true"));
    let progress: Vec<_> = entries.iter().filter(|it| it.starts_with("progress_")).collect();
    assert_eq!(progress.len(), 6, "{progress:?}");
    let asked: search::v1::MetricsRequest = rest.backend.asked("search.v1.SearchService/Metrics");
    assert_eq!(asked.points, Some(search::v1::metrics_request::Points::Density(100)));
    assert_eq!(asked.x_axis.as_deref(), Some("b"));
    assert_eq!(rest.get("/runs/search/metric/?p=0").await.status, 422);
}

#[tokio::test]
async fn axes_are_streamed_by_run() {
    let rest = Rest::new();
    let aligned = |series| series::v1::AlignedSeries { series, x_values: vec![0.5], steps: vec![3] };
    let messages = [
        series::v1::AlignResponse { run_id: "r".into(), run: 0, series: vec![aligned(1)] },
        series::v1::AlignResponse { run_id: "r".into(), run: 0, series: vec![aligned(0)] },
        series::v1::AlignResponse { run_id: "s".into(), run: 1, series: vec![] },
    ];
    rest.backend.answers("series.v1.SeriesService/Align", messages);
    let trace = |name: &str, stop| json!({"name": name, "context": {"a": 1}, "slice": [0, stop, 1]});
    let body = json!({"align_by": "x", "runs": [
        {"run_id": "r", "traces": [trace("m", 4), trace("n", 0)]},
        {"run_id": "s", "traces": []},
    ]});
    let answer = rest.send("POST", "/runs/search/metric/align/", body).await;
    let expected = r#"r = []
r/0/name = "n"
r/0/context/a = 1
r/0/x_axis_values/shape = 1
r/0/x_axis_values/blob = [0.5]
r/0/x_axis_iters/shape = 1
r/0/x_axis_iters/blob = [3.0]
r/1/name = "m"
r/1/context/a = 1
r/1/x_axis_values/shape = 1
r/1/x_axis_values/blob = [0.5]
r/1/x_axis_iters/shape = 1
r/1/x_axis_iters/blob = [3.0]
s = []"#;
    assert_eq!(answer.entries().join("\n"), expected);
    let asked: series::v1::AlignRequest = rest.backend.asked("series.v1.SeriesService/Align");
    assert_eq!(asked.runs[0].series[0].steps, Some(StepRange { start: None, stop: Some(5) }));
    assert_eq!(asked.runs[0].series[1].steps, None);
}

fn text(index: u32, data: &str) -> objects::v1::Object {
    let kind = objects::v1::object::Kind::Text(objects::v1::Text { data: data.into() });
    objects::v1::Object { index, kind: Some(kind) }
}

fn range(start: i64, stop: i64) -> Option<StepRange> {
    Some(StepRange { start: Some(start), stop: Some(stop) })
}

#[tokio::test]
async fn object_search_streams_items_and_ranges() {
    let rest = Rest::new();
    let step = objects::v1::Step {
        step: 3,
        epoch: Some(1),
        objects: vec![text(2, "c"), text(4, "e")],
        object_count: 5,
        ..Default::default()
    };
    let sequence = objects::v1::Sequence { name: "txt".into(), steps: vec![step], ..Default::default() };
    let mut plain = run();
    plain.params = vec![0xa0].into();
    let message = search::v1::ObjectsResponse {
        runs: vec![search::v1::RunObjects {
            run: Some(plain),
            sequences: vec![sequence],
            record_range_total: range(0, 9),
            index_total: 5,
            more: false,
        }],
        done: true,
        ..Default::default()
    };
    rest.backend.answers("search.v1.SearchService/Objects", [message]);
    let answer = rest.get("/runs/search/texts/?record_range=2:&index_range=1:&report_progress=0").await;
    let entries = answer.entries();
    let expected = r#"r/params = {}
r/traces = []
r/traces/0/name = "txt"
r/traces/0/context = {}
r/traces/0/values = []
r/traces/0/values/0 = []
r/traces/0/values/0/0/data = "c"
r/traces/0/values/0/0/index = 2
r/traces/0/values/0/1/data = "e"
r/traces/0/values/0/1/index = 4
r/traces/0/iters = []
r/traces/0/iters/0 = 3
r/traces/0/epochs = []
r/traces/0/epochs/0 = 1
r/traces/0/timestamps = []
r/traces/0/timestamps/0 = null"#;
    assert_eq!(entries[..16].join("\n"), expected);
    let ranges: Vec<&String> = entries.iter().filter(|it| it.contains("/ranges/")).collect();
    let expected = [
        "r/ranges/record_range_total = []",
        "r/ranges/record_range_total/0 = 0",
        "r/ranges/record_range_total/1 = 9",
        "r/ranges/record_range_used = []",
        "r/ranges/record_range_used/0 = 2",
        "r/ranges/record_range_used/1 = 9",
        "r/ranges/index_range_total = []",
        "r/ranges/index_range_total/0 = 0",
        "r/ranges/index_range_total/1 = 5",
        "r/ranges/index_range_used = []",
        "r/ranges/index_range_used/0 = 1",
        "r/ranges/index_range_used/1 = 5",
    ];
    assert_eq!(ranges, expected);
    let asked: search::v1::ObjectsRequest = rest.backend.asked("search.v1.SearchService/Objects");
    assert_eq!(asked.r#type, SeriesType::Texts as i32);
    let selection = asked.selection.unwrap();
    assert_eq!((selection.record_density, selection.index_density), (50, 5));
    assert_eq!(selection.index_range, Some(IndexRange { start: Some(1), stop: None }));
}

#[tokio::test]
async fn object_batches_come_in_pieces() {
    let rest = Rest::new();
    let step = |step, data: &str| objects::v1::Step {
        step,
        objects: vec![text(0, data)],
        object_count: 1,
        ..Default::default()
    };
    let piece = |steps: Vec<objects::v1::Step>, last| objects::v1::BatchResponse {
        sequence: Some(objects::v1::Sequence {
            name: "txt".into(),
            steps,
            record_range_total: range(0, 3),
            index_total: 1,
            ..Default::default()
        }),
        last,
    };
    let pieces = [piece(vec![step(0, "a")], false), piece(vec![step(2, "b")], true)];
    rest.backend.answers("objects.v1.ObjectService/Batch", pieces);
    let body = json!([{"name": "txt", "context": {}}]);
    let answer = rest.send("POST", "/runs/r/texts/get-batch/", body.clone()).await;
    let expected = r#"name = "txt"
context = {}
values = []
values/0 = []
values/0/0/data = "a"
values/0/0/index = 0
values/1 = []
values/1/0/data = "b"
values/1/0/index = 0
iters = []
iters/0 = 0
iters/1 = 2
record_range_used = []
record_range_used/0 = 0
record_range_used/1 = 3
record_range_total = []
record_range_total/0 = 0
record_range_total/1 = 3
index_range_used = []
index_range_used/0 = 0
index_range_used/1 = 1
index_range_total = []
index_range_total/0 = 0
index_range_total/1 = 1"#;
    assert_eq!(answer.entries().join("\n"), expected);
    rest.backend.fails::<objects::v1::BatchResponse>("objects.v1.ObjectService/Batch", [], missing());
    assert_eq!(rest.send("POST", "/runs/x/texts/get-batch/", body).await.status, 404);
}

#[tokio::test]
async fn one_step_of_every_type_has_its_items() {
    let rest = Rest::new();
    let check = async |name: &str, kind: objects::v1::object::Kind, expected: &[&str]| {
        let object = objects::v1::Object { index: 3, kind: Some(kind) };
        let step =
            objects::v1::Step { step: 5, objects: vec![object], object_count: 4, ..Default::default() };
        let sequence = objects::v1::Sequence {
            name: "s".into(),
            steps: vec![step],
            record_range_total: range(0, 9),
            ..Default::default()
        };
        rest.backend.answers(
            "objects.v1.ObjectService/Step",
            [objects::v1::StepResponse { sequence: Some(sequence) }],
        );
        let path = format!("/runs/r/{name}/get-step/?record_step=5");
        let answer = rest.send("POST", &path, json!([{"name": "s", "context": {}}])).await;
        let entries = answer.entries();
        let items: Vec<&str> = entries.iter().filter_map(|it| it.strip_prefix("values/0/")).collect();
        assert_eq!(items, expected, "{name}");
        assert!(entries.contains(&"record_range_used/1 = 6".to_owned()), "{entries:?}");
        let has_index = entries.contains(&"index_range_total/1 = 4".to_owned());
        assert_eq!(has_index, ["images", "texts", "audios"].contains(&name), "{entries:?}");
    };
    use objects::v1::object::Kind;
    let image = objects::v1::Image {
        caption: "c".into(),
        width: Some(2),
        height: None,
        format: "png".into(),
        blob_uri: "u".into(),
    };
    let expected = [
        "caption = \"c\"",
        "width = 2",
        "height = null",
        "format = \"png\"",
        "blob_uri = \"u\"",
        "index = 3",
    ];
    check("images", Kind::Image(image), &expected).await;
    let audio = objects::v1::Audio {
        caption: String::new(),
        rate: Some(1),
        format: "wav".into(),
        blob_uri: "u".into(),
    };
    check(
        "audios",
        Kind::Audio(audio),
        &["caption = \"\"", "format = \"wav\"", "blob_uri = \"u\"", "index = 3"],
    )
    .await;
    let distribution = objects::v1::Distribution { weights: vec![1.0, 2.0], low: 0.0, high: 1.0 };
    let expected = [
        "data/shape = 2",
        "data/blob = [1.0, 2.0]",
        "bin_count = 2",
        "range = []",
        "range/0 = 0.0",
        "range/1 = 1.0",
    ];
    check("distributions", Kind::Distribution(distribution), &expected).await;
    let figure = objects::v1::Figure { data: vec![0xa1, 0x64, b'd', b'a', b't', b'a', 0x81, 0x01].into() };
    check("figures", Kind::Figure(figure), &[r#"data = "{\"data\": [1]}""#, "index = 3"]).await;
}

#[tokio::test]
async fn a_step_below_minus_one_is_no_step() {
    let rest = Rest::new();
    rest.backend.answers("runs.v1.RunService/Get", [runs::v1::GetResponse::default()]);
    let answer = rest.send("POST", "/runs/r/texts/get-step/?record_step=-2", json!([])).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}

#[tokio::test]
async fn payloads_come_by_their_uris() {
    let rest = Rest::new();
    let piece =
        |index, chunk: &'static [u8], last| artifacts::v1::BlobsResponse { index, chunk: chunk.into(), last };
    let pieces = [piece(0, b"ab", false), piece(0, b"c", true), piece(2, b"", true)];
    rest.backend.answers("artifacts.v1.ArtifactService/Blobs", pieces);
    let answer = rest.send("POST", "/runs/images/get-batch/", json!(["u", "bad", "v"])).await;
    assert_eq!(answer.entries(), ["u = [97, 98, 99]", "v = []"]);
    let asked: artifacts::v1::BlobsRequest = rest.backend.asked("artifacts.v1.ArtifactService/Blobs");
    assert_eq!(asked.uris, ["u", "bad", "v"]);
    assert_eq!(rest.send("POST", "/runs/texts/get-batch/", json!([])).await.status, 404);
}

#[tokio::test]
async fn logs_are_streamed_by_step() {
    let rest = Rest::new();
    let line = |step, text: &str| logs::v1::Line { step, text: text.into() };
    let message = logs::v1::LinesResponse { lines: vec![line(3, "a"), line(4, "b")], last_step: Some(4) };
    rest.backend.answers("logs.v1.LogService/Lines", [message]);
    assert_eq!(rest.get("/runs/r/logs/?record_range=3:").await.entries(), [r#"3 = "a""#, r#"4 = "b""#]);
    let asked: logs::v1::LinesRequest = rest.backend.asked("logs.v1.LogService/Lines");
    assert_eq!(asked.steps, Some(StepRange { start: Some(3), stop: None }));

    let full = logs::v1::Record {
        step: 0,
        message: "m".into(),
        level: 30,
        timestamp: 5.5,
        logger_info: vec![0x82, 0x61, b'f', 0x03].into(),
        args: vec![0xa1, 0x61, b'k', 0x01].into(),
    };
    let bare = logs::v1::Record { step: 1, message: "p".into(), ..Default::default() };
    let message = logs::v1::RecordsResponse { records: vec![full, bare], count: 9 };
    rest.backend.answers("logs.v1.LogService/Records", [message]);
    let expected = r#"log_records_count = 9
0/message = "m"
0/log_level = "WARNING"
0/timestamp = 5.5
0/logger_info = []
0/logger_info/0 = "f"
0/logger_info/1 = 3
0/args/k = 1
0/is_notified = true
1/message = "p"
1/log_level = "INFO"
1/timestamp = 0
1/args = null
1/is_notified = true"#;
    assert_eq!(rest.get("/runs/r/log-records/").await.entries().join("\n"), expected);
    rest.backend.answers::<logs::v1::RecordsResponse>("logs.v1.LogService/Records", []);
    assert_eq!(rest.get("/runs/r/log-records/").await.entries(), ["log_records_count = 0"]);
}

#[tokio::test]
async fn runs_are_changed() {
    let rest = Rest::new();
    let backend = &rest.backend;
    backend.answers("runs.v1.RunService/Update", [runs::v1::UpdateResponse {}]);
    let body = json!({"name": null, "description": "d", "archived": "true", "active": 0, "experiment": ""});
    assert_eq!(rest.json("PUT", "/runs/r/", body).await, json!({"id": "r", "status": "OK"}));
    assert_eq!(
        backend.asked::<runs::v1::UpdateRequest>("runs.v1.RunService/Update"),
        runs::v1::UpdateRequest {
            run_id: "r".into(),
            name: None,
            description: Some("d".into()),
            archived: Some(true),
            active: Some(false),
            experiment: Some(String::new()),
        }
    );
    backend.answers("runs.v1.RunService/Delete", [runs::v1::DeleteResponse::default()]);
    assert_eq!(rest.json("DELETE", "/runs/a%20b/", Value::Null).await, json!({"id": "a b", "status": "OK"}));
    backend.answers("runs.v1.RunService/DeleteBatch", [runs::v1::DeleteBatchResponse::default()]);
    assert_eq!(rest.json("POST", "/runs/delete-batch/", json!(["a", "b"])).await, json!({"status": "OK"}));
    assert_eq!(rest.json("POST", "/runs/delete-batch/", json!({})).await, json!({"status": "OK"}));
    assert_eq!(backend.times_asked("runs.v1.RunService/DeleteBatch"), 1, "an empty batch asks nothing");
    backend.answers("runs.v1.RunService/ArchiveBatch", [runs::v1::ArchiveBatchResponse::default()]);
    rest.json("POST", "/runs/archive-batch/?archive=false", json!(["a"])).await;
    let asked: runs::v1::ArchiveBatchRequest = backend.asked("runs.v1.RunService/ArchiveBatch");
    assert_eq!((asked.run_ids, asked.archived), (vec!["a".to_owned()], false));
    backend.answers("runs.v1.RunService/FinishBatch", [runs::v1::FinishBatchResponse::default()]);
    rest.json("POST", "/runs/finish-batch/", json!(["a"])).await;
    backend
        .answers("runs.v1.RunService/ClearTombstone", [runs::v1::ClearTombstoneResponse { cleared: true }]);
    let cleared = rest.send("POST", "/runs/r/clear-tombstone/", Value::Null).await;
    assert_eq!((cleared.status, cleared.header("content-type"), cleared.body.len()), (204, None, 0));
    backend.answers("runs.v1.RunService/AddTag", [runs::v1::AddTagResponse { tag_id: "t".into() }]);
    let answer = rest.json("POST", "/runs/r/tags/new/", json!({"tag_name": "x"})).await;
    assert_eq!(answer, json!({"id": "r", "tag_id": "t", "status": "OK"}));
    backend.answers("runs.v1.RunService/RemoveTag", [runs::v1::RemoveTagResponse { removed: false }]);
    let answer = rest.json("DELETE", "/runs/r/tags/t/", Value::Null).await;
    assert_eq!(answer, json!({"id": "r", "removed": false, "status": "OK"}));

    backend.fails::<runs::v1::DeleteResponse>("runs.v1.RunService/Delete", [], missing());
    assert_eq!(rest.send("DELETE", "/runs/x/", Value::Null).await.status, 404);
    assert_eq!(rest.send("POST", "/runs/delete-batch/", json!([1])).await.status, 422);
    let get = rest.get("/runs/r/").await;
    assert_eq!((get.status, get.header("allow")), (405, Some("PUT, DELETE")));
}

#[tokio::test]
async fn artifacts_are_downloaded_as_they_come() {
    use artifacts::v1::get_response::Message;
    let rest = Rest::new();
    let message = |message| artifacts::v1::GetResponse { message: Some(message) };
    let artifact = artifacts::v1::Artifact {
        path: "a/größe.txt".into(),
        content_type: "text/plain".into(),
        size: Some(5),
        ..Default::default()
    };
    let chunk = |bytes: &'static [u8]| message(Message::Chunk(bytes.into()));
    let messages = [message(Message::Artifact(artifact)), chunk(b"he"), chunk(b"llo")];
    rest.backend.answers("artifacts.v1.ArtifactService/Get", messages.clone());
    let answer = rest.get("/runs/r/artifacts/download/?path=a/gr%C3%B6%C3%9Fe.txt").await;
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("content-length"), Some("5"));
    let disposition = answer.header("content-disposition").unwrap();
    assert!(disposition.ends_with("filename*=UTF-8''gr%C3%B6%C3%9Fe.txt"), "{disposition}");
    let asked: artifacts::v1::GetRequest = rest.backend.asked("artifacts.v1.ArtifactService/Get");
    assert_eq!(asked.path, "a/größe.txt");
    assert_eq!(rest.get("/runs/r/artifacts/download/").await.status, 422);

    rest.backend.fails("artifacts.v1.ArtifactService/Get", messages, Status::unavailable("gone"));
    let request = Request::get("/api/v1/rest/runs/r/artifacts/download/?path=x").body(Body::empty()).unwrap();
    assert!(
        rest.edge.answer(request).await.into_body().collect().await.is_err(),
        "a cut file does not look whole"
    );

    let zip = |chunk: &'static [u8]| artifacts::v1::ZipResponse { chunk: chunk.into() };
    rest.backend.answers("artifacts.v1.ArtifactService/Zip", [zip(b"PK"), zip(b"..")]);
    let answer = rest.get("/runs/r/artifacts/download-all/").await;
    assert_eq!((answer.text(), answer.header("content-type")), ("PK..", Some("application/zip")));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"r-artifacts.zip\""));
    rest.backend.fails::<artifacts::v1::ZipResponse>("artifacts.v1.ArtifactService/Zip", [], missing());
    assert_eq!(rest.get("/runs/r/artifacts/download-all/").await.status, 404);
}

const TIME_US: i64 = 1_767_323_045_678_000;
const ISO: &str = "2026-01-02T03:04:05.678Z";

#[tokio::test]
async fn notes_belong_to_runs_and_experiments() {
    let rest = Rest::new();
    let backend = &rest.backend;
    let note = notes::v1::Note {
        id: "n".into(),
        content: "c".into(),
        created_us: TIME_US,
        updated_us: TIME_US,
        ..Default::default()
    };
    backend.answers("notes.v1.NoteService/List", [notes::v1::ListResponse { notes: vec![note.clone()] }]);
    assert_eq!(
        rest.json("GET", "/runs/r/note/", Value::Null).await,
        json!([{"id": "n", "content": "c", "created_at": ISO, "run_hash": "r", "updated_at": ISO}])
    );
    assert_eq!(
        rest.json("GET", "/experiments/e/note/", Value::Null).await,
        json!([{"id": "n", "content": "c", "created_at": ISO, "experiment_id": "e", "updated_at": ISO}])
    );
    let asked: notes::v1::ListRequest = backend.asked("notes.v1.NoteService/List");
    assert_eq!(asked.owner.unwrap().kind, Some(notes::v1::owner::Kind::ExperimentId("e".into())));
    backend.answers("notes.v1.NoteService/Create", [notes::v1::CreateResponse { note: Some(note.clone()) }]);
    let created = rest.send("POST", "/runs/r/note/", json!({"content": "c"})).await;
    assert_eq!((created.status, created.json()), (201, json!({"id": "n", "created_at": ISO})));
    backend.answers("notes.v1.NoteService/Get", [notes::v1::GetResponse { note: Some(note.clone()) }]);
    backend.answers("notes.v1.NoteService/Update", [notes::v1::UpdateResponse { note: Some(note) }]);
    backend.answers("notes.v1.NoteService/Delete", [notes::v1::DeleteResponse {}]);
    let shown = json!({"id": "n", "content": "c", "updated_at": ISO});
    assert_eq!(rest.json("GET", "/runs/r/note/n/", Value::Null).await, shown);
    assert_eq!(rest.json("PUT", "/runs/r/note/n/", json!({"content": "x"})).await, shown);
    assert_eq!(rest.json("DELETE", "/runs/r/note/n/", Value::Null).await, json!({"status": "OK"}));
    let asked: notes::v1::UpdateRequest = backend.asked("notes.v1.NoteService/Update");
    assert_eq!((asked.id.as_str(), asked.content.as_str()), ("n", "x"));
}

#[tokio::test]
async fn experiments_are_listed_and_changed() {
    let rest = Rest::new();
    let backend = &rest.backend;
    let experiment = experiments::v1::Experiment {
        id: "e".into(),
        name: "exp".into(),
        run_count: 2,
        created_us: Some(1_500_000),
        ..Default::default()
    };
    let shown = json!({"id": "e", "name": "exp", "description": "", "run_count": 2, "archived": false, "creation_time": 1.5});
    let list = experiments::v1::ListResponse { experiments: vec![experiment.clone()] };
    backend.answers("experiments.v1.ExperimentService/List", [list]);
    assert_eq!(rest.json("GET", "/experiments/", Value::Null).await, json!([shown]));
    rest.json("GET", "/experiments/search/?q=Ex", Value::Null).await;
    let asked: experiments::v1::ListRequest = backend.asked("experiments.v1.ExperimentService/List");
    assert_eq!(asked.name_contains, "Ex");
    let one = Some(experiment);
    backend.answers(
        "experiments.v1.ExperimentService/Get",
        [experiments::v1::GetResponse { experiment: one.clone() }],
    );
    assert_eq!(rest.json("GET", "/experiments/e/", Value::Null).await, shown);
    backend.answers(
        "experiments.v1.ExperimentService/Create",
        [experiments::v1::CreateResponse { experiment: one.clone() }],
    );
    let answer = rest.send("POST", "/experiments/", json!({"name": "exp"})).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"id": "e", "status": "OK"})));
    backend.answers(
        "experiments.v1.ExperimentService/Update",
        [experiments::v1::UpdateResponse { experiment: one }],
    );
    rest.json("PUT", "/experiments/e/", json!({"archived": true})).await;
    let asked: experiments::v1::UpdateRequest = backend.asked("experiments.v1.ExperimentService/Update");
    assert_eq!((asked.description, asked.archived), (None, Some(true)));
    backend.answers("experiments.v1.ExperimentService/Delete", [experiments::v1::DeleteResponse {}]);
    assert_eq!(rest.json("DELETE", "/experiments/e/", Value::Null).await, json!({"status": "OK"}));
    let run = experiments::v1::ExperimentRun {
        run_id: "r".into(),
        name: "n".into(),
        created_us: 1_500_000,
        ..Default::default()
    };
    backend.answers(
        "experiments.v1.ExperimentService/ListRuns",
        [experiments::v1::ListRunsResponse { runs: vec![run] }],
    );
    assert_eq!(
        rest.json("GET", "/experiments/e/runs/?limit=10&offset=x", Value::Null).await,
        json!({"id": "e", "runs": [{"run_id": "r", "name": "n", "creation_time": 1.5, "end_time": null, "archived": false}]})
    );
    let asked: experiments::v1::ListRunsRequest = backend.asked("experiments.v1.ExperimentService/ListRuns");
    assert_eq!((asked.limit, asked.after_run_id.as_str()), (10, "x"));
    let activity = experiments::v1::ActivityResponse {
        run_count: 3,
        hours: vec![ActivityCount { local_s: 1_767_323_045, runs: 3 }],
        ..Default::default()
    };
    backend.answers("experiments.v1.ExperimentService/Activity", [activity]);
    assert_eq!(
        rest.json("GET", "/experiments/e/activity/", Value::Null).await,
        json!({"num_runs": 3, "num_archived_runs": 0, "num_active_runs": 0, "activity_map": {"2026-01-02T03:00:00": 3}})
    );
    let taken = status(
        tonic::Code::AlreadyExists,
        "ALREADY_EXISTS",
        "taken",
        &[("resource", "experiment"), ("name", "x")],
    );
    backend.fails::<experiments::v1::CreateResponse>("experiments.v1.ExperimentService/Create", [], taken);
    let answer = rest.send("POST", "/experiments/", json!({"name": "x"})).await;
    assert_eq!(answer.status, 409);
    assert_eq!(
        answer.json()["error"],
        json!({"code": "conflict", "message": "Experiment with name 'x' already exists"})
    );
}

#[tokio::test]
async fn tags_are_listed_and_changed() {
    let rest = Rest::new();
    let backend = &rest.backend;
    let tag =
        tags::v1::Tag { id: "t".into(), name: "tag".into(), color: "#fff".into(), ..Default::default() };
    let shown = json!({"id": "t", "name": "tag", "color": "#fff", "description": "", "run_count": 0, "archived": false});
    backend.answers("tags.v1.TagService/List", [tags::v1::ListResponse { tags: vec![tag.clone()] }]);
    assert_eq!(rest.json("GET", "/tags/", Value::Null).await, json!([shown]));
    assert_eq!(rest.json("GET", "/tags/search/?q=t", Value::Null).await, json!([shown]));
    backend.answers("tags.v1.TagService/Get", [tags::v1::GetResponse { tag: Some(tag.clone()) }]);
    assert_eq!(rest.json("GET", "/tags/t/", Value::Null).await, shown);
    backend.answers("tags.v1.TagService/Create", [tags::v1::CreateResponse { tag: Some(tag.clone()) }]);
    let answer = rest.json("POST", "/tags/", json!({"name": "tag", "color": null})).await;
    assert_eq!(answer, json!({"id": "t", "status": "OK"}));
    backend.answers("tags.v1.TagService/Update", [tags::v1::UpdateResponse { tag: Some(tag) }]);
    rest.json("PUT", "/tags/t/", json!({"color": "red"})).await;
    let asked: tags::v1::UpdateRequest = backend.asked("tags.v1.TagService/Update");
    assert_eq!((asked.name, asked.color.as_deref()), (None, Some("red")));
    backend.answers("tags.v1.TagService/Delete", [tags::v1::DeleteResponse {}]);
    assert_eq!(rest.json("DELETE", "/tags/t/", Value::Null).await, Value::Null);
    let run = tags::v1::TagRun {
        run_id: "r".into(),
        experiment: Some("e".into()),
        ended_us: Some(1),
        ..Default::default()
    };
    backend.answers("tags.v1.TagService/ListRuns", [tags::v1::ListRunsResponse { runs: vec![run] }]);
    assert_eq!(
        rest.json("GET", "/tags/t/runs/", Value::Null).await,
        json!({"id": "t", "runs": [{"run_id": "r", "name": "", "experiment": "e", "creation_time": 0.0, "end_time": 1e-6}]})
    );
}

#[tokio::test]
async fn what_the_ui_keeps_comes_back() {
    let rest = Rest::new();
    let backend = &rest.backend;
    let dashboard = dashboards::v1::Dashboard {
        id: "d".into(),
        name: "n".into(),
        app_id: "a".into(),
        created_us: TIME_US,
        updated_us: TIME_US,
        ..Default::default()
    };
    let one = Some(dashboard.clone());
    backend.answers(
        "dashboards.v1.DashboardService/List",
        [dashboards::v1::ListResponse { dashboards: vec![dashboard] }],
    );
    backend.answers(
        "dashboards.v1.DashboardService/Create",
        [dashboards::v1::CreateResponse { dashboard: one.clone() }],
    );
    backend.answers(
        "dashboards.v1.DashboardService/Get",
        [dashboards::v1::GetResponse { dashboard: one.clone() }],
    );
    backend.answers(
        "dashboards.v1.DashboardService/Update",
        [dashboards::v1::UpdateResponse { dashboard: one }],
    );
    backend.answers("dashboards.v1.DashboardService/Delete", [dashboards::v1::DeleteResponse {}]);
    let shown = json!({
        "id": "d", "name": "n", "description": "", "app_id": "a", "app_type": null, "updated_at": ISO, "created_at": ISO
    });
    assert_eq!(rest.json("GET", "/dashboards/", Value::Null).await, json!([shown]));
    let created = rest.send("POST", "/dashboards/", json!({"name": "n", "app_id": "a"})).await;
    assert_eq!((created.status, created.json()), (201, shown.clone()));
    assert_eq!(rest.json("GET", "/dashboards/d/", Value::Null).await, shown);
    assert_eq!(rest.json("PUT", "/dashboards/d/", json!({"name": "m"})).await, shown);
    let deleted = rest.send("DELETE", "/dashboards/d/", Value::Null).await;
    assert_eq!((deleted.status, deleted.header("content-type")), (204, None));
    let deleted = rest.send("DELETE", "/api/dashboards/d/", Value::Null).await;
    assert_eq!((deleted.status, deleted.json()), (200, Value::Null));

    let report = reports();
    let one = Some(report.clone());
    backend.answers(
        "reports.v1.ReportService/List",
        [matyan_proto::reports::v1::ListResponse { reports: vec![report] }],
    );
    backend.answers(
        "reports.v1.ReportService/Create",
        [matyan_proto::reports::v1::CreateResponse { report: one.clone() }],
    );
    backend.answers(
        "reports.v1.ReportService/Get",
        [matyan_proto::reports::v1::GetResponse { report: one.clone() }],
    );
    backend.answers(
        "reports.v1.ReportService/Update",
        [matyan_proto::reports::v1::UpdateResponse { report: one }],
    );
    backend.answers("reports.v1.ReportService/Delete", [matyan_proto::reports::v1::DeleteResponse {}]);
    let shown = json!({"id": "p", "name": "n", "code": "# x", "description": "", "updated_at": ISO, "created_at": ISO});
    assert_eq!(rest.json("GET", "/reports/", Value::Null).await, json!([shown]));
    assert_eq!(rest.send("POST", "/reports/", json!({"name": "n"})).await.json(), shown);
    assert_eq!(rest.json("GET", "/reports/p/", Value::Null).await, shown);
    assert_eq!(rest.json("PUT", "/reports/p/", json!({"code": ""})).await, shown);
    assert_eq!(rest.send("DELETE", "/reports/p/", Value::Null).await.status, 204);
}

fn reports() -> matyan_proto::reports::v1::Report {
    matyan_proto::reports::v1::Report {
        id: "p".into(),
        name: "n".into(),
        code: "# x".into(),
        created_us: TIME_US,
        updated_us: TIME_US,
        ..Default::default()
    }
}

#[tokio::test]
async fn the_state_of_an_app_keeps_every_number() {
    let rest = Rest::new();
    let backend = &rest.backend;
    let state = r#"{"a":1,"b":1.0,"c":null,"big":123456789012345678901234567890,"z":[-0.0]}"#;
    let body = format!(r#"{{"type": "metrics", "state": {state}}}"#);
    backend.answers("apps.v1.AppService/Create", [apps::v1::CreateResponse::default()]);
    let request = Request::post("/api/v1/rest/apps/").body(Body::from(body)).unwrap();
    assert_eq!(rest.edge.answer(request).await.status(), 201);
    let asked: apps::v1::CreateRequest = backend.asked("apps.v1.AppService/Create");
    let app =
        apps::v1::App { id: "a".into(), r#type: asked.r#type, state: asked.state, ..Default::default() };
    backend.answers("apps.v1.AppService/Get", [apps::v1::GetResponse { app: Some(app.clone()) }]);
    let answer = rest.get("/apps/a/").await;
    assert!(answer.text().ends_with(&format!("\"state\":{state}}}")), "{}", answer.text());
    backend.answers("apps.v1.AppService/List", [apps::v1::ListResponse { apps: vec![app.clone()] }]);
    assert_eq!(rest.json("GET", "/apps/", Value::Null).await[0]["type"], "metrics");
    backend.answers("apps.v1.AppService/Update", [apps::v1::UpdateResponse { app: Some(app) }]);
    rest.json("PUT", "/apps/a/", json!({"type": "scatter", "state": null})).await;
    let asked: apps::v1::UpdateRequest = backend.asked("apps.v1.AppService/Update");
    assert_eq!((asked.r#type.as_deref(), asked.state), (Some("scatter"), None));
    backend.answers("apps.v1.AppService/Delete", [apps::v1::DeleteResponse {}]);
    assert_eq!(rest.send("DELETE", "/apps/a/", Value::Null).await.status, 204);
    assert_eq!(rest.send("POST", "/apps/", json!({"type": "x", "state": []})).await.status, 422);
}

#[tokio::test]
async fn the_project_is_told_in_every_part() {
    let rest = Rest::new();
    let backend = &rest.backend;
    backend.answers(
        "project.v1.ProjectService/Get",
        [project::v1::GetResponse { name: "My project".into(), description: String::new() }],
    );
    assert_eq!(
        rest.get("/projects/").await.text(),
        r#"{"name":"My project","path":"","description":"","telemetry_enabled":0,"warn_index":false,"warn_runs":false}"#
    );
    let hour = |local_s, runs| ActivityCount { local_s, runs };
    let activity = project::v1::ActivityResponse {
        experiment_count: 1,
        run_count: 6,
        archived_run_count: 2,
        active_run_count: 3,
        hours: vec![hour(1_767_312_000, 1), hour(1_767_323_045, 2), hour(1_767_398_400, 3)],
    };
    backend.answers("project.v1.ProjectService/Activity", [activity]);
    let request = Request::get("/api/v1/rest/projects/activity/").header("x-timezone-offset", "-240");
    let response = rest.edge.answer(request.body(Body::empty()).unwrap()).await;
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap(),
        json!({
            "num_experiments": 1, "num_runs": 6, "num_archived_runs": 2, "num_active_runs": 3,
            "activity_map": {"2026-01-02T00:00:00": 3, "2026-01-03T00:00:00": 3},
        })
    );
    let asked: project::v1::ActivityRequest = backend.asked("project.v1.ProjectService/Activity");
    assert_eq!(asked.timezone_offset_min, -240);
    let aim = rest.get("/api/projects/activity").await.json();
    assert_eq!(aim["activity_map"]["2026-01-02T03:00:00"], 2);

    let names = project::v1::SequenceName {
        name: "loss".into(),
        contexts: vec![String::new(), r#"{"fold":1.0}"#.into()],
    };
    let types = vec![project::v1::TypeNames { r#type: SeriesType::Metric.into(), names: vec![names] }];
    let answer = project::v1::ParamsResponse { params: params().into(), types };
    backend.answers("project.v1.ProjectService/Params", [answer]);
    assert_eq!(
        rest.get("/projects/params/?sequence=metric&sequence=images").await.text(),
        r#"{"params":{"lr":0.5,"n":null,"big":18446744073709551616},"metric":{"loss":[{},{"fold":1.0}]},"images":{}}"#
    );
    let without = rest.get("/projects/params/?exclude_params=true").await.json();
    assert_eq!(without.as_object().unwrap().len(), 6);
    assert_eq!(rest.get("/projects/params/?sequence=x").await.status, 400);

    let key = SeriesKey { name: "a".into(), context: r#"{"x":1}"#.into() };
    let sequences = vec![key];
    backend.answers(
        "project.v1.ProjectService/SetPinnedSequences",
        [project::v1::SetPinnedSequencesResponse { sequences: sequences.clone() }],
    );
    backend.answers(
        "project.v1.ProjectService/GetPinnedSequences",
        [project::v1::GetPinnedSequencesResponse { sequences }],
    );
    let pinned = json!({"sequences": [{"name": "a", "context": {"x": 1}}]});
    assert_eq!(rest.json("POST", "/projects/pinned-sequences/", pinned.clone()).await, pinned);
    assert_eq!(rest.json("GET", "/projects/pinned-sequences/", Value::Null).await, pinned);
    let bad = rest.send("POST", "/projects/pinned-sequences/", json!({"sequences": [{"name": "a"}]})).await;
    assert_eq!(bad.status, 422);
    backend.answers("project.v1.ProjectService/Status", [project::v1::StatusResponse { up_to_date: true }]);
    assert_eq!(rest.json("GET", "/projects/status/", Value::Null).await, "up-to-date");
}

#[tokio::test]
async fn the_backend_tells_version_and_health() {
    let rest = Rest::new();
    let version = system::v1::VersionResponse {
        version: "1.2.3".into(),
        component: "backend".into(),
        fdb_api_version: 730,
        format: 1,
    };
    rest.backend.answers("system.v1.SystemService/Version", [version]);
    assert_eq!(
        rest.get("/version/").await.text(),
        r#"{"version":"1.2.3","component":"backend","fdb_api_version":730}"#
    );
    let check = |name: &str, ok, message: &str| system::v1::Check {
        name: name.into(),
        ok,
        message: message.into(),
        required: true,
    };
    let checks = vec![check("store", true, ""), check("control_log", true, ""), check("log", false, "full")];
    rest.backend.answers(
        "system.v1.SystemService/Readiness",
        [system::v1::ReadinessResponse { ready: false, checks }],
    );
    let request = Request::get("/health/ready/").body(Body::empty()).unwrap();
    let response = rest.edge.answer(request).await;
    assert_eq!(response.status(), 503);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap(),
        json!({
            "status": "degraded",
            "checks": {"fdb": "ok", "kafka": {"control_producer": true, "ingestion_producer": false}},
        })
    );
}
