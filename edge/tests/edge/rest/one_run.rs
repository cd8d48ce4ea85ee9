//! A single run: its data, changes to it, logs, and artifacts.

use super::*;

#[tokio::test]
async fn run_info_shows_everything() {
    let rest = Rest::new();
    rest.backend.answers("runs.v1.RunService/Get", [runs::v1::GetResponse { run: Some(run()) }]);
    let answer = rest.get("/runs/r/info/?sequence=metric&sequence=images&skip_system=1").await;
    assert_eq!(
        answer.text(),
        r##"{"params":{"lr":0.5,"n":null,"big":18446744073709551616},"traces":{"metric":[{"context":{"subset":"train","x":null},"name":"loss","last_value":null}],"images":[{"context":{},"name":"img"}]},"props":{"name":"Run: r","description":"","experiment":{"id":"e","name":"exp","description":""},"tags":[{"id":"t","name":"tag","color":"#fff","description":""}],"creation_time":1700000000.5,"end_time":1700000001.0,"archived":false,"active":true},"artifacts":[{"name":"b.bin","path":"a/b.bin","uri":"file://r/a/b.bin"}]}"##
    );
    let request: runs::v1::GetRequest = rest.backend.last_request("runs.v1.RunService/Get");
    let parts = request.parts.unwrap();
    assert_eq!((request.run_id.as_str(), parts.system_params), ("r", false));
    assert_eq!(parts.series_types, [SeriesType::Metric as i32, SeriesType::Images as i32]);

    let aim = rest.get("/api/runs/r/info").await.json();
    assert_eq!(aim["props"]["notes"], 2);
    assert_eq!(aim["params"]["n"], "NaN");
    let types: Vec<&String> = aim["traces"].as_object().unwrap().keys().collect();
    assert_eq!(types, ["metric", "images", "texts", "distributions", "audios", "figures"]);

    let bare = rest.get("/runs/r/info/?sequence=metric&bare_numbers=true").await;
    assert!(bare.text().starts_with(r#"{"params":{"lr":0.5,"n":NaN,"#), "{}", bare.text());
    assert!(bare.text().contains(r#""name":"loss","last_value":Infinity}"#), "{}", bare.text());

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
    let messages = [
        series::v1::SampleResponse { series: vec![points(0, vec![0, 1, 2], vec![0.5, f64::NAN, 1.0])] },
        series::v1::SampleResponse { series: vec![points(1, vec![], vec![])] },
    ];
    rest.backend.answers("series.v1.SeriesService/Sample", messages);
    let body = json!([{"name": "loss", "context": {"a": 1.0}}, {"name": "x", "context": {}}]);
    let answer = rest.json("POST", "/runs/r/metric/get-batch/?record_range=1:&record_density=60", body).await;
    assert_eq!(
        answer,
        json!([
            {"name": "loss", "context": {}, "iters": [0, 1, 2], "values": [0.5, null, 1.0]},
            {"name": "loss", "context": {}, "iters": [], "values": []},
        ])
    );
    let request: series::v1::SampleRequest = rest.backend.last_request("series.v1.SeriesService/Sample");
    assert_eq!((request.density, request.steps), (60, Some(StepRange { start: Some(1), stop: None })));
    let key = |name: &str, context: &str| SeriesKey { name: name.into(), context: context.into() };
    assert_eq!(request.runs[0].keys, [key("loss", r#"{"a":1.0}"#), key("x", "")]);

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

/// Without a density, every point is requested, column by column.
#[tokio::test]
async fn all_points_are_streamed_as_they_are_read() {
    let rest = Rest::new();
    let piece = |steps: &[i64], values: &[f64], more, info| {
        let steps = steps.to_vec();
        let values = values.to_vec();
        let points = series::v1::SeriesPoints { steps, values, more, info, ..Default::default() };
        series::v1::PointsResponse { points: Some(points) }
    };
    let pieces = [
        piece(&[0, 1], &[], true, Some(info("a\"b", r#"{"x":1}"#, SeriesType::Metric, 0.0))),
        piece(&[2], &[], false, None),
        piece(&[], &[0.5], true, None),
        piece(&[], &[f64::NAN, 1.0], false, None),
        piece(&[7], &[], false, Some(info("c", "", SeriesType::Metric, 0.0))),
        piece(&[], &[2.0], false, None),
    ];
    rest.backend.answers("series.v1.SeriesService/Points", pieces);
    let body = json!([{"name": "a\"b", "context": {"x": 1}}, {"name": "c", "context": {}}]);
    let answer = rest.json("POST", "/runs/r/metric/get-batch/?record_density=-1&record_range=:9", body).await;
    let item = json!({"name": "a\"b", "context": {"x": 1}, "iters": [0, 1, 2], "values": [0.5, null, 1.0]});
    assert_eq!(answer, json!([item, {"name": "c", "context": {}, "iters": [7], "values": [2.0]}]));
    assert_eq!(
        rest.backend.call_count("series.v1.SeriesService/Points"),
        1,
        "one call must fetch all series"
    );
    let request: series::v1::PointsRequest = rest.backend.last_request("series.v1.SeriesService/Points");
    assert_eq!(request.steps, Some(StepRange { start: None, stop: Some(9) }));
    assert_eq!((request.by_column, request.run.unwrap().keys[1].name.as_str()), (true, "c"));
    let empty =
        [piece(&[], &[], false, Some(info("e", "", SeriesType::Metric, 0.0))), piece(&[], &[], false, None)];
    rest.backend.answers("series.v1.SeriesService/Points", empty);
    let body = json!([{"name": "e", "context": {}}]);
    let answer = rest.json("POST", "/runs/r/metric/get-batch/?record_density=0", body).await;
    assert_eq!(answer, json!([{"name": "e", "context": {}, "iters": [], "values": []}]));
    rest.backend.answers::<series::v1::PointsResponse>("series.v1.SeriesService/Points", []);
    let answer = rest.json("POST", "/runs/r/metric/get-batch/?record_density=0", json!([])).await;
    assert_eq!(answer, json!([]));
    rest.backend.fails::<series::v1::PointsResponse>("series.v1.SeriesService/Points", [], missing());
    let answer = rest.send("POST", "/runs/x/metric/get-batch/?record_density=0", json!({})).await;
    assert_eq!(answer.status, 404);
}

/// A sample of several messages arrives column by column, among series of one message each.
#[tokio::test]
async fn a_large_sample_is_one_item() {
    let rest = Rest::new();
    let piece = |steps: &[i64], values: &[f64], more, name: Option<&str>| {
        let info = name.map(|name| info(name, "", SeriesType::Metric, 0.0));
        let steps = steps.to_vec();
        let values = values.to_vec();
        series::v1::SampleResponse {
            series: vec![series::v1::SeriesPoints { steps, values, more, info, ..Default::default() }],
        }
    };
    let pieces = [
        piece(&[3], &[0.25], false, Some("short")),
        piece(&[0, 1], &[], true, Some("long")),
        piece(&[2], &[], false, None),
        piece(&[], &[0.5, 1.0], true, None),
        piece(&[], &[f64::NAN], false, None),
        piece(&[], &[], false, Some("empty")),
    ];
    rest.backend.answers("series.v1.SeriesService/Sample", pieces);
    let answer = rest.json("POST", "/runs/r/metric/get-batch/?record_density=70000", json!([])).await;
    let item = |name: &str, iters: &[i64], values: serde_json::Value| json!({"name": name, "context": {}, "iters": iters, "values": values});
    let long = item("long", &[0, 1, 2], json!([0.5, 1.0, null]));
    assert_eq!(answer, json!([item("short", &[3], json!([0.25])), long, item("empty", &[], json!([]))]));
    let request: series::v1::SampleRequest = rest.backend.last_request("series.v1.SeriesService/Sample");
    assert_eq!((request.density, request.by_column), (70_000, true));
}

/// Messages after the first are written as they arrive, so an error among them aborts the
/// response.
#[tokio::test]
async fn metric_batches_are_not_buffered() {
    let rest = Rest::new();
    let points = series::v1::SeriesPoints {
        info: Some(info("loss", "", SeriesType::Metric, 0.0)),
        steps: vec![1],
        values: vec![0.5],
        ..Default::default()
    };
    let first = series::v1::SampleResponse { series: vec![points] };
    rest.backend.fails("series.v1.SeriesService/Sample", [first], missing());
    let request = Request::post("/api/v1/rest/runs/r/metric/get-batch/");
    let response = rest.edge.answer(request.body(Body::from("[]")).unwrap()).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let chunk = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&chunk[..], br#"[{"name":"loss","context":{},"iters":[1],"values":[0.5]}"#);
    assert!(body.collect().await.is_err(), "the body must be aborted");
}

/// A body with too many values is rejected before any of them is parsed.
#[tokio::test]
async fn bodies_with_too_many_values_are_rejected() {
    let rest = Rest::new();
    let body = format!("[{}{{}}]", "{},".repeat(600_000));
    let request = Request::post("/api/v1/rest/runs/r/metric/get-batch/");
    let response = rest.edge.answer(request.body(Body::from(body)).unwrap()).await;
    assert_eq!(response.status(), 413);
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&text).contains("more than 1000000 values"));
}

/// Series and artifacts that do not fit in the message of a run are listed by separate calls.
#[tokio::test]
async fn a_run_with_many_series_is_returned_completely() {
    let rest = Rest::new();
    let wide = runs::v1::Run { more_series: true, more_artifacts: true, ..run() };
    rest.backend.answers("runs.v1.RunService/Get", [runs::v1::GetResponse { run: Some(wide) }]);
    let listed =
        |name: &str| series::v1::ListResponse { series: vec![info(name, "", SeriesType::Metric, 1.0)] };
    rest.backend.answers("series.v1.SeriesService/List", [listed("a"), listed("b")]);
    let artifacts = |path: &str| artifacts::v1::ListResponse {
        artifacts: vec![artifacts::v1::Artifact { path: path.into(), ..Default::default() }],
    };
    rest.backend.answers("artifacts.v1.ArtifactService/List", [artifacts("x"), artifacts("y")]);
    let answer = rest.get("/runs/r/info/?sequence=metric").await.json();
    let names: Vec<_> = answer["traces"]["metric"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["a", "b"]);
    let paths: Vec<_> = answer["artifacts"].as_array().unwrap().iter().map(|it| &it["path"]).collect();
    assert_eq!(paths, ["x", "y"]);
}

/// A run may have 200,000 series, and its answer may be read slowly, or not at all.
#[tokio::test]
async fn series_and_artifacts_of_a_run_are_sent_as_they_arrive() {
    let rest = Rest::new();
    let wide = runs::v1::Run { more_series: true, more_artifacts: true, ..run() };
    rest.backend.answers("runs.v1.RunService/Get", [runs::v1::GetResponse { run: Some(wide) }]);
    let listed = series::v1::ListResponse { series: vec![info("a", "", SeriesType::Metric, 1.0)] };
    let _gone = rest.backend.answers_and_holds("series.v1.SeriesService/List", [listed.clone()]);
    let get = |path: &str| Request::get(format!("/api/v1/rest{path}")).body(Body::empty()).unwrap();
    let mut answer = rest.edge.answer(get("/runs/r/info/?sequence=metric")).await;
    assert_eq!((answer.status(), answer.headers()["etag"].is_empty()), (http::StatusCode::OK, false));
    let mut text = Vec::new();
    while !text.ends_with(br#""last_value":1.0}"#) {
        text.extend(answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap());
    }

    rest.backend.answers("series.v1.SeriesService/List", [listed]);
    let artifact = artifacts::v1::Artifact { path: "x".into(), ..Default::default() };
    let artifacts = artifacts::v1::ListResponse { artifacts: vec![artifact] };
    let _gone = rest.backend.answers_and_holds("artifacts.v1.ArtifactService/List", [artifacts]);
    let mut answer = rest.edge.answer(get("/runs/r/info/?sequence=metric")).await;
    let mut text = Vec::new();
    while !text.ends_with(br#""path":"x","uri":""}"#) {
        text.extend(answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap());
    }

    // Before the first series, an error has its status.
    rest.backend.fails::<series::v1::ListResponse>("series.v1.SeriesService/List", [], missing());
    assert_eq!(rest.get("/runs/r/info/?sequence=metric").await.status, 404);
}

/// The params of a run may take megabytes, and their text several times as much.
#[tokio::test]
async fn params_of_a_run_are_sent_piece_by_piece() {
    let rest = Rest::new();
    let members: Vec<_> = (0..50_000).map(|index| format!(r#""key {index:05}":"\u0001""#)).collect();
    let params = format!("{{{}}}", members.join(","));
    let cbor = matyan_value::json::to_cbor(&params).unwrap();
    let large = runs::v1::Run { params: cbor.into(), ..run() };
    rest.backend.answers("runs.v1.RunService/Get", [runs::v1::GetResponse { run: Some(large) }]);
    let answer = rest.get("/runs/r/info/?sequence=metric").await;
    assert!(answer.text().starts_with(&format!(r#"{{"params":{params},"traces":{{"metric":[{{"#)));
    let empty = runs::v1::Run { params: Default::default(), ..run() };
    rest.backend.answers("runs.v1.RunService/Get", [runs::v1::GetResponse { run: Some(empty) }]);
    let answer = rest.get("/runs/r/info/?sequence=metric").await;
    assert!(answer.text().starts_with(r#"{"params":{},"traces":{"#), "{}", answer.text());
    // An error at the start has its status.
    let damaged = runs::v1::Run { params: vec![0xa1, 0x01, 0x01].into(), ..run() };
    rest.backend.answers("runs.v1.RunService/Get", [runs::v1::GetResponse { run: Some(damaged) }]);
    assert_eq!(rest.get("/runs/r/info/?sequence=metric").await.status, 500);
}

#[tokio::test]
async fn logs_are_streamed_by_step() {
    let rest = Rest::new();
    let line = |step, text: &str| logs::v1::Line { step, text: text.into() };
    let message = logs::v1::LinesResponse { lines: vec![line(3, "a"), line(4, "b")], last_step: Some(4) };
    rest.backend.answers("logs.v1.LogService/Lines", [message]);
    assert_eq!(rest.get("/runs/r/logs/?record_range=3:").await.entries(), [r#"3 = "a""#, r#"4 = "b""#]);
    // Aim's bundle uses lines as HTML.
    let hostile =
        logs::v1::LinesResponse { lines: vec![line(0, "<b onclick='a'>&\"\u{1b}[1m")], last_step: Some(0) };
    rest.backend.answers("logs.v1.LogService/Lines", [hostile.clone()]);
    let escaped = "0 = \"&lt;b onclick=&#39;a&#39;&gt;&amp;&quot;\\u{1b}[1m\"";
    assert_eq!(rest.get("/api/runs/r/logs/").await.entries(), [escaped]);
    rest.backend.answers("logs.v1.LogService/Lines", [hostile]);
    assert_eq!(rest.get("/runs/r/logs/").await.entries(), ["0 = \"<b onclick='a'>&\\\"\\u{1b}[1m\""]);
    rest.get("/runs/r/logs/?record_range=3:").await;
    let request: logs::v1::LinesRequest = rest.backend.last_request("logs.v1.LogService/Lines");
    assert_eq!(request.steps, Some(StepRange { start: Some(3), stop: None }));

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
async fn runs_can_be_changed() {
    let rest = Rest::new();
    let backend = &rest.backend;
    backend.answers("runs.v1.RunService/Update", [runs::v1::UpdateResponse::default()]);
    let body = json!({"name": null, "description": "d", "archived": "true", "active": 0, "experiment": ""});
    assert_eq!(rest.json("PUT", "/runs/r/", body).await, json!({"id": "r", "status": "OK"}));
    assert_eq!(
        backend.last_request::<runs::v1::UpdateRequest>("runs.v1.RunService/Update"),
        runs::v1::UpdateRequest {
            run_id: "r".into(),
            name: None,
            description: Some("d".into()),
            archived: Some(true),
            active: Some(false),
            experiment: Some(String::new()),
            if_updated_us: None,
        }
    );
    backend.answers("runs.v1.RunService/Delete", [runs::v1::DeleteResponse::default()]);
    assert_eq!(rest.json("DELETE", "/runs/a%20b/", Value::Null).await, json!({"id": "a b", "status": "OK"}));
    backend.answers("runs.v1.RunService/DeleteBatch", [runs::v1::DeleteBatchResponse::default()]);
    assert_eq!(rest.json("POST", "/runs/delete-batch/", json!(["a", "b"])).await, json!({"status": "OK"}));
    assert_eq!(rest.json("POST", "/runs/delete-batch/", json!({})).await, json!({"status": "OK"}));
    assert_eq!(backend.call_count("runs.v1.RunService/DeleteBatch"), 1, "an empty batch makes no call");
    backend.answers("runs.v1.RunService/ArchiveBatch", [runs::v1::ArchiveBatchResponse::default()]);
    rest.json("POST", "/runs/archive-batch/?archive=false", json!(["a"])).await;
    let request: runs::v1::ArchiveBatchRequest = backend.last_request("runs.v1.RunService/ArchiveBatch");
    assert_eq!((request.run_ids, request.archived), (vec!["a".to_owned()], false));
    let damaged = runs::v1::FinishBatchResponse { damaged: vec!["a".into()], ..Default::default() };
    backend.answers("runs.v1.RunService/FinishBatch", [damaged]);
    let finished = rest.json("POST", "/runs/finish-batch/", json!(["a"])).await;
    assert_eq!(finished, json!({"status": "OK", "damaged": ["a"]}));
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
async fn series_can_be_edited() {
    use matyan_proto::{common::v1 as common, series::v1 as series};
    let rest = Rest::new();
    let key = |name: &str, context: &str| {
        Some(common::SeriesKey { name: name.to_owned(), context: context.to_owned() })
    };
    rest.backend.answers("series.v1.SeriesService/Rename", [series::RenameResponse {}]);
    let body =
        json!({"type": "metric", "name": "a", "context": {"s": 1}, "new_name": "b", "request_id": "i"});
    let answer = rest.json("POST", "/runs/r/series/rename/", body).await;
    assert_eq!(answer, json!({"id": "r", "status": "OK"}));
    assert_eq!(
        rest.backend.last_request::<series::RenameRequest>("series.v1.SeriesService/Rename"),
        series::RenameRequest {
            run_id: "r".into(),
            r#type: common::SeriesType::Metric.into(),
            key: key("a", r#"{"s":1}"#),
            new_key: key("b", r#"{"s":1}"#),
            request_id: "i".into(),
        }
    );
    rest.backend.answers("series.v1.SeriesService/Delete", [series::DeleteResponse {}]);
    rest.json("POST", "/runs/r/series/delete/", json!({"type": "images", "name": "a"})).await;
    let request: series::DeleteRequest = rest.backend.last_request("series.v1.SeriesService/Delete");
    assert_eq!((request.r#type(), request.key), (common::SeriesType::Images, key("a", "")));
    rest.backend.answers("series.v1.SeriesService/DeleteSteps", [series::DeleteStepsResponse {}]);
    rest.json("POST", "/runs/r/series/delete/", json!({"type": "metric", "name": "a", "start": 5})).await;
    let request: series::DeleteStepsRequest =
        rest.backend.last_request("series.v1.SeriesService/DeleteSteps");
    assert_eq!(request.steps, Some(common::StepRange { start: Some(5), stop: None }));
    // Without a type, a metric might be deleted by mistake.
    assert_eq!(rest.send("POST", "/runs/r/series/delete/", json!({"name": "a"})).await.status, 422);
}

/// Players seek with ranges, and browsers keep what has not changed.
#[tokio::test]
async fn parts_of_artifacts_are_downloaded_and_kept() {
    use artifacts::v1::get_response::Message;
    const GET: &str = "artifacts.v1.ArtifactService/Get";
    let rest = Rest::new();
    let holds = |version: &str, bytes: &'static [u8]| {
        let artifact = artifacts::v1::Artifact { path: "a.mp4".into(), size: Some(10), ..Default::default() };
        let artifact = Some(Message::Artifact(artifact));
        let described = artifacts::v1::GetResponse { message: artifact, version: version.to_owned() };
        let chunk = Some(Message::Chunk(bytes.into()));
        let chunk = artifacts::v1::GetResponse { message: chunk, ..Default::default() };
        rest.backend.answers(GET, [described, chunk]);
    };
    let ask = async |headers: &[(&str, &str)]| {
        let mut request = Request::get("/api/v1/rest/runs/r/artifacts/download/?path=a.mp4");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = rest.edge.answer(request.body(Body::empty()).unwrap()).await;
        let (parts, body) = answer.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        let header = |name: &str| parts.headers.get(name).map(|it| it.to_str().unwrap().to_owned());
        let head = (header("content-range"), header("content-length"));
        (parts.status.as_u16(), text, head, header("etag").unwrap_or_default())
    };
    let asked = || {
        let request: artifacts::v1::GetRequest = rest.backend.last_request(GET);
        (request.offset, request.length)
    };
    let some = |range: &str, length: &str| (Some(range.to_owned()), Some(length.to_owned()));

    holds("\"v1\"", b"0123456789");
    let (status, body, head, etag) = ask(&[]).await;
    assert_eq!(
        (status, body.as_str(), head, asked()),
        (200, "0123456789", (None, Some("10".into())), (0, None))
    );
    holds("\"v1\"", b"234");
    let (status, body, head, _) = ask(&[("range", "bytes=2-4"), ("if-range", &etag)]).await;
    assert_eq!((status, body.as_str(), head), (206, "234", some("bytes 2-4/10", "3")));
    assert_eq!(asked(), (2, Some(3)));
    holds("\"v1\"", b"789");
    let (status, body, head, _) = ask(&[("range", "bytes=-3")]).await;
    assert_eq!((status, body.as_str(), head), (206, "789", some("bytes 7-9/10", "3")));
    assert_eq!(asked(), (7, Some(3)));
    let (status, body, head, _) = ask(&[("range", "bytes=10-")]).await;
    assert_eq!((status, body.as_str(), head.0), (416, "", Some("bytes */10".into())));

    let (status, body, _, same) = ask(&[("if-none-match", &etag), ("range", "bytes=2-4")]).await;
    assert_eq!((status, body.as_str(), &same), (304, "", &etag));
    assert_eq!(asked(), (0, Some(0)), "no byte of the file is read");
    // The bytes were replaced, though the artifact was not logged again: neither the copy nor a range of it can be used.
    holds("\"v2\"", b"0123456789");
    let (status, _, _, other) = ask(&[("if-none-match", &etag)]).await;
    assert!(status == 200 && other != etag, "{status} {other}");
    let (status, body, head, _) = ask(&[("range", "bytes=2-4"), ("if-range", &etag)]).await;
    assert_eq!((status, body.as_str(), head), (200, "0123456789", (None, Some("10".into()))));
    assert_eq!(asked(), (0, None));
    // Without a version, nothing can be resumed.
    holds("", b"0123456789");
    let (status, _, _, none) = ask(&[("range", "bytes=2-4"), ("if-range", "\"\"")]).await;
    assert_eq!((status, none.as_str()), (200, ""));
}

#[tokio::test]
async fn artifacts_are_passed_on_as_they_arrive() {
    use artifacts::v1::get_response::Message;
    let rest = Rest::new();
    let message = |message| artifacts::v1::GetResponse { message: Some(message), ..Default::default() };
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
    let request: artifacts::v1::GetRequest = rest.backend.last_request("artifacts.v1.ArtifactService/Get");
    assert_eq!(request.path, "a/größe.txt");
    assert_eq!(rest.get("/runs/r/artifacts/download/").await.status, 422);

    rest.backend.fails("artifacts.v1.ArtifactService/Get", messages, Status::unavailable("gone"));
    let request = Request::get("/api/v1/rest/runs/r/artifacts/download/?path=x").body(Body::empty()).unwrap();
    assert!(
        rest.edge.answer(request).await.into_body().collect().await.is_err(),
        "a truncated file must not look complete"
    );

    let zip = |chunk: &'static [u8]| artifacts::v1::ZipResponse { chunk: chunk.into() };
    rest.backend.answers("artifacts.v1.ArtifactService/Zip", [zip(b"PK"), zip(b"..")]);
    let answer = rest.get("/runs/r/artifacts/download-all/").await;
    assert_eq!((answer.text(), answer.header("content-type")), ("PK..", Some("application/zip")));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"r-artifacts.zip\""));
    rest.backend.fails::<artifacts::v1::ZipResponse>("artifacts.v1.ArtifactService/Zip", [], missing());
    assert_eq!(rest.get("/runs/r/artifacts/download-all/").await.status, 404);
}

/// Pages show images and audio by their URIs.
#[tokio::test]
async fn payloads_are_shown_in_parts_and_kept() {
    use artifacts::v1::payload_response::Message;
    const PAYLOAD: &str = "artifacts.v1.ArtifactService/Payload";
    const THUMBNAIL: &str = "artifacts.v1.ArtifactService/Thumbnail";
    let rest = Rest::new();
    let ask = async |path: &str, headers: &[(&str, &str)]| {
        let mut request = Request::get(format!("/api/v1/rest/payloads/{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = rest.edge.answer(request.body(Body::empty()).unwrap()).await;
        let (parts, body) = answer.into_parts();
        (parts, body.collect().await.unwrap().to_bytes())
    };
    let info =
        artifacts::v1::PayloadInfo { size: 10, version: "v1".into(), media_type: "audio/x-wav".into() };
    let described = artifacts::v1::PayloadResponse { message: Some(Message::Info(info)) };
    let chunk = artifacts::v1::PayloadResponse { message: Some(Message::Chunk(b"234".as_slice().into())) };
    rest.backend.answers(PAYLOAD, [described, chunk]);
    let (parts, body) = ask("some-uri/", &[("range", "bytes=2-4")]).await;
    assert_eq!((parts.status.as_u16(), &body[..]), (206, &b"234"[..]));
    let request: artifacts::v1::PayloadRequest = rest.backend.last_request(PAYLOAD);
    assert_eq!((request.uri.as_str(), request.offset, request.length), ("some-uri", 2, Some(3)));
    let header = |name: &str| parts.headers[name].to_str().unwrap();
    assert_eq!(header("content-type"), "audio/x-wav");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert!(header("content-security-policy").contains("sandbox"));
    assert!(header("cache-control").starts_with("private, max-age="));
    assert!(!parts.headers.contains_key("content-disposition"), "shown, and not saved");
    let (parts, body) = ask("some-uri/", &[("if-none-match", header("etag"))]).await;
    assert_eq!((parts.status.as_u16(), body.len()), (304, 0));

    // A logged page is its own sandbox, and is saved if someone opens it outside of a frame.
    let (parts, _) = ask("some-uri/page/", &[("sec-fetch-dest", "document"), ("range", "bytes=2-4")]).await;
    assert!(parts.headers["content-disposition"].to_str().unwrap().starts_with("attachment"));
    let (parts, body) = ask("some-uri/page/", &[("sec-fetch-dest", "iframe"), ("range", "bytes=2-4")]).await;
    assert!(!parts.headers.contains_key("content-disposition"), "shown in its frame");
    assert_eq!((parts.status.as_u16(), &body[..]), (206, &b"234"[..]));
    let header = |name: &str| parts.headers[name].to_str().unwrap();
    assert_eq!(header("content-type"), "text/html; charset=utf-8");
    assert_eq!(header("x-content-type-options"), "nosniff");
    let policy = header("content-security-policy");
    assert!(policy.starts_with("sandbox allow-scripts; default-src 'none';"), "{policy}");
    assert!(!policy.contains("allow-same-origin") && !policy.contains("connect-src"), "{policy}");

    let reduced = artifacts::v1::ThumbnailResponse { png: b"png".as_slice().into(), version: "v1".into() };
    rest.backend.answers(THUMBNAIL, [reduced]);
    let (parts, body) = ask("some-uri/thumbnail/?size=64", &[]).await;
    assert_eq!((parts.status.as_u16(), &body[..]), (200, &b"png"[..]));
    assert_eq!(parts.headers["content-type"], "image/png");
    let etag = parts.headers["etag"].to_str().unwrap().to_owned();
    let request: artifacts::v1::ThumbnailRequest = rest.backend.last_request(THUMBNAIL);
    assert_eq!((request.uri.as_str(), request.size), ("some-uri", 64));
    let (parts, body) = ask("some-uri/thumbnail/?size=64", &[("if-none-match", &etag)]).await;
    assert_eq!((parts.status.as_u16(), body.len()), (304, 0));
    assert_eq!(ask("some-uri/thumbnail/?size=wide", &[]).await.0.status, 422);
}
