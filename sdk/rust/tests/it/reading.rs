//! Reading from a real server, from a thread that blocks.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking, and the lint also applies to helpers")]

use std::sync::OnceLock;

use matyan_proto::ingest::v1::{IngestionBatch, Points};
use matyan_sdk::{
    http::{HttpError, RestRequest, Timeouts},
    reading::{BackendClient, BackendOptions, Search, SearchTarget, SeriesSelection, Tree},
};
use matyan_tests::{
    Server,
    binary::BinaryWriter,
    json::{Ack, JsonWriter, create_run, finish_run, log_record, metric},
};
use serde_json::{Value as Json, json};
use tokio::runtime::Runtime;

/// The runtime of the server and of the writers.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    })
}

fn options() -> BackendOptions {
    BackendOptions { timeouts: Timeouts::default(), interrupted: || false, runtime: matyan_sdk::io_runtime }
}

/// A server, and a client of it.
fn start() -> (Server, BackendClient) {
    let server = runtime().block_on(Server::up());
    let client = BackendClient::new(&format!("{}/", server.query), options()).unwrap();
    (server, client)
}

/// Writes messages, and waits until they are acknowledged.
fn write(server: &Server, run_id: &str, messages: &Json) {
    let sent = async {
        let mut writer = JsonWriter::connect(&server.ingest, run_id).await?;
        writer.send(messages).await
    };
    assert_eq!(runtime().block_on(sent), Ok(Ack::Ok));
}

fn parsed(text: &matyan_sdk::http::JsonText) -> Json {
    serde_json::from_str(text.as_str()).unwrap()
}

/// Repeats until the worker has applied the data that was written through JSON, which has no positions.
fn eventually<T>(what: &str, attempt: impl Fn() -> Result<T, String>) -> T {
    matyan_tests::eventually_blocking(what, attempt)
}

#[test]
fn runs_are_found_read_changed_and_deleted() {
    let (server, client) = start();
    for name in ["a/1", "b", "c"] {
        let params =
            json!({"type": "log_hparams", "value": {"hparams": {"list": [1, {"x": []}], "é": null}}});
        write(&server, &name.replace('/', "-"), &json!([create_run(), params, metric("loss", 0.5, Some(3))]));
    }
    let found = eventually("three runs", || {
        let runs: Result<Vec<_>, _> = client.search(&Search::runs("")).and_then(Iterator::collect);
        let runs = runs.map_err(|error| error.to_string())?;
        let is_complete = |run: &matyan_sdk::reading::FoundRun| {
            let metrics = run.content.member("traces").and_then(|it| it.member("metric")).cloned();
            matches!(metrics, Some(Tree::List(list)) if list.len() == 1)
        };
        if runs.len() == 3 && runs.iter().all(is_complete) { Ok(runs) } else { Err(format!("{runs:?}")) }
    });
    assert_eq!(found.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(), ["c", "b", "a-1"]);
    let params = found[0].content.member("params").unwrap().member("hparams").unwrap();
    assert_eq!(params.member("é"), Some(&Tree::Null));
    let Some(Tree::List(list)) = params.member("list") else { panic!("{params:?}") };
    assert_eq!(list[0], Tree::Integer(1));
    let published = found[0].content.clone().published().unwrap();
    assert!(published.member("params").unwrap().member("hparams").unwrap().member("list").is_some());

    let pages: Result<Vec<_>, _> = client.search_pages(Search::runs(""), 2).collect();
    let pages: Vec<Vec<String>> =
        pages.unwrap().into_iter().map(|page| page.into_iter().map(|run| run.id).collect()).collect();
    assert_eq!(pages, [vec!["c".to_owned(), "b".to_owned()], vec!["a-1".to_owned()]]);
    let mut pages = client.search_pages(Search::runs("").after("c"), 1);
    assert_eq!(pages.next().unwrap().unwrap()[0].id, "b");
    client.update_run("b", r#"{"archived": true}"#).unwrap();
    assert_eq!(pages.next().unwrap().unwrap()[0].id, "a-1", "the run before is archived");
    assert!(pages.next().is_none());
    client.update_run("b", r#"{"archived": false}"#).unwrap();

    let info = parsed(&client.run_info("b", &["metric"]).unwrap());
    assert_eq!(info["traces"]["metric"][0]["name"], "loss");
    assert_eq!(info["params"]["hparams"]["list"], json!([1, {"x": []}]));
    client.update_run("b", r#"{"name": "named", "experiment": "exp"}"#).unwrap();
    let tag = parsed(&client.add_tag("b", "best").unwrap());
    let props = parsed(&client.run_info("b", &[] as &[&str]).unwrap())["props"].clone();
    assert_eq!((&props["name"], &props["experiment"]["name"]), (&json!("named"), &json!("exp")));
    assert_eq!(props["tags"][0]["name"], "best");
    client.remove_tag("b", tag["tag_id"].as_str().unwrap()).unwrap();
    client.delete_params("b", vec![vec!["hparams".into(), "é".into()]]).unwrap();
    let info = parsed(&client.run_info("b", &[] as &[&str]).unwrap());
    assert_eq!(info["params"]["hparams"], json!({"list": [1, {"x": []}]}));
    assert_eq!(info["props"]["tags"], json!([]));

    client.delete_run("b").unwrap();
    assert!(matches!(client.run_info("b", &[] as &[&str]), Err(HttpError::NotFound { .. })));
    client.delete_runs(&["a-1", "c"]).unwrap();
    let left: Vec<_> = client.search(&Search::runs("")).unwrap().collect();
    assert!(left.is_empty());
}

#[test]
fn a_query_that_does_not_parse_is_refused_with_the_reason() {
    let (_server, client) = start();
    match client.search(&Search::runs("run.x ==")).map(drop) {
        Err(HttpError::Refused { status: 400, message, .. }) => {
            assert!(message.to_lowercase().contains("syntax"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn logs_come_with_their_numbers() {
    let (server, client) = start();
    let mut messages: Vec<Json> = (0..300)
        .map(|at| json!({"type": "log_terminal_line", "line": format!("line {at}"), "step": at}))
        .collect();
    messages.extend((0..3).map(|at| log_record(&format!("record {at}"), f64::from(at))));
    write(&server, "r", &json!(messages));
    let lines: Vec<(i64, String)> = eventually("all lines", || {
        let lines = client.lines("r", "0:").and_then(Iterator::collect).map_err(|error| error.to_string());
        lines.and_then(
            |lines: Vec<_>| if lines.len() == 300 { Ok(lines) } else { Err(lines.len().to_string()) },
        )
    });
    assert_eq!(lines[299], (299, "line 299".to_owned()));
    assert_eq!(client.lines("r", "").unwrap().count(), 200);
    let (count, records) = client.log_records("r", "1:").unwrap();
    let records: Result<Vec<_>, _> = records.collect();
    let records = records.unwrap();
    assert_eq!((count, records.len()), (3, 2));
    assert_eq!(records[0].1.member("message"), Some(&Tree::Text("record 1".into())));
    assert_eq!(records[0].1.member("log_level"), Some(&Tree::Text("INFO".into())));
}

/// Writes points in columns; returns the position of the last acknowledgement.
fn write_points(
    server: &Server,
    run_id: &str,
    names: &[&str],
    count: i64,
) -> matyan_proto::common::v1::LogPosition {
    runtime().block_on(async {
        let mut writer = BinaryWriter::new(run_id);
        writer.connect(&server.ingest).await.unwrap();
        let mut position = None;
        for name in names {
            let mut batch = IngestionBatch::default();
            let series = writer.series(&mut batch, name);
            batch.points.push(Points {
                series: vec![series; count as usize],
                values: (0..count).map(|step| if step == 1 { f64::NAN } else { step as f64 / 8.0 }).collect(),
                steps: (0..count).collect(),
                epochs: vec![7],
                times_us: (0..count).map(|step| 1_700_000_000_000_000 + step).collect(),
                ..Points::default()
            });
            writer.send(&batch).await.unwrap();
            position = writer.ack().await.unwrap().position;
        }
        position.unwrap()
    })
}

#[test]
fn series_come_at_full_resolution_right_after_the_acknowledgement() {
    let (server, client) = start();
    let count = 150_000;
    client.include("r", write_points(&server, "r", &["a", "b"], count));
    let all: Result<Vec<_>, _> =
        client.series(SeriesSelection::all("r").with_epochs().with_times()).unwrap().collect();
    let all = all.unwrap();
    assert_eq!(all.iter().map(|series| series.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    for series in &all {
        assert_eq!((series.context.as_str(), series.dtype.as_str()), ("{}", "float"));
        assert_eq!(series.steps, (0..count).collect::<Vec<_>>());
        assert!(series.values[1].is_nan());
        assert_eq!(series.values[count as usize - 1], (count - 1) as f64 / 8.0);
        assert_eq!(series.epochs, vec![7; count as usize]);
        assert_eq!(series.times_us[2], 1_700_000_000_000_002);
    }
    let tail = SeriesSelection { first_step: Some(count - 2), ..SeriesSelection::series("r", "b", "") };
    let tail: Result<Vec<_>, _> = client.series(tail).unwrap().collect();
    let tail = tail.unwrap();
    assert_eq!((tail.len(), tail[0].steps.as_slice()), (1, &[count - 2, count - 1][..]));
    assert!(tail[0].epochs.is_empty());

    let batch = client.metric_batch("r", r#"[{"name": "a", "context": {}}]"#, "0:10", 0).unwrap();
    assert_eq!(parsed(&batch)[0]["values"][1], Json::Null);
    assert!(client.series(SeriesSelection::series("r", "missing", "{}")).unwrap().next().is_none());
    let unknown = client.series(SeriesSelection::all("unknown")).unwrap().next();
    assert!(matches!(unknown, Some(Err(HttpError::NotFound { .. }))), "{unknown:?}");
}

#[test]
fn metric_searches_have_columns_of_doubles() {
    let (server, client) = start();
    client.include("r", write_points(&server, "r", &["loss"], 1000));
    let search = Search::new(SearchTarget::Metrics, "metric.name == 'loss'").parameter("p", "100");
    let runs: Result<Vec<_>, _> = client.search(&search).unwrap().collect();
    let runs = runs.unwrap();
    let Some(Tree::List(traces)) = runs[0].content.member("traces") else { panic!("{runs:?}") };
    let steps = traces[0].member("iters").unwrap().doubles().unwrap();
    assert_eq!((steps.len(), steps[0], steps[99]), (100, 0.0, 999.0));
}

#[test]
fn objects_and_their_blobs_are_read() {
    let (server, client) = start();
    let image = |step: i64| {
        json!({"type": "log_custom_object", "name": "img", "step": step, "dtype": "image", "context": null, "epoch": null,
            "value": {"type": "image", "format": "PNG", "caption": "c", "width": 1, "height": 1,
                "s3_key": format!("r/seq/img/{step}.png")}})
    };
    let text = json!({"type": "log_custom_object", "name": "note", "step": 0, "dtype": "text",
        "value": {"type": "text", "data": "hello"}});
    for step in 0..2 {
        put(&server, "r", &format!("seq/img/{step}.png"), format!("pixels {step}").as_bytes());
    }
    write(&server, "r", &json!([create_run(), image(0), image(1), text, finish_run()]));
    let traces = r#"[{"name": "img", "context": {}}, {"name": "none", "context": {}}]"#;
    let images: Vec<Tree> = eventually("two images", || {
        let found = client.object_batch("r", SearchTarget::Images, traces, &[]).and_then(Iterator::collect);
        let found: Vec<Tree> = found.map_err(|error| error.to_string())?;
        match found.first().and_then(|trace| trace.member("values")) {
            Some(Tree::List(values)) if values.len() == 2 => Ok(found),
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(images.len(), 1);
    let Some(Tree::List(steps)) = images[0].member("values") else { panic!("{images:?}") };
    let uri = |step: &Tree| match step {
        Tree::List(items) => items[0].member("blob_uri").and_then(Tree::as_text).unwrap().to_owned(),
        other => panic!("{other:?}"),
    };
    let uris: Vec<String> = steps.iter().map(uri).collect();
    let blobs: Result<Vec<_>, _> = client.blobs(SearchTarget::Images, &uris).unwrap().collect();
    let expected: Vec<_> =
        uris.iter().enumerate().map(|(at, uri)| (uri.clone(), format!("pixels {at}").into_bytes())).collect();
    assert_eq!(blobs.unwrap(), expected);
    let texts = client.search(&Search::new(SearchTarget::Texts, "")).unwrap().next().unwrap().unwrap();
    assert_eq!(texts.id, "r");
}

/// Uploads as the published client does.
fn put(server: &Server, run_id: &str, path: &str, content: &[u8]) {
    runtime().block_on(async {
        let gateway = matyan_sdk::http::HttpClient::new(&server.ingest, Timeouts::default()).unwrap();
        let body = json!({"run_id": run_id, "artifact_path": path}).to_string();
        let request = RestRequest::json("POST".parse().unwrap(), "/api/v1/rest/artifacts/presign", body);
        let answer: Json = serde_json::from_str(gateway.json(&request).await.unwrap().as_str()).unwrap();
        let url = answer["upload_url"].as_str().unwrap();
        let content = content.to_vec();
        gateway.put(url, Default::default(), content.len() as u64, content.into()).await.unwrap();
    });
}

#[test]
fn artifacts_are_downloaded_and_saved() {
    let (server, client) = start();
    let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    put(&server, "r", "models/é 1.bin", &content);
    let blob = json!({"type": "blob_ref", "s3_key": "r/models/é 1.bin", "artifact_path": "models/é 1.bin"});
    write(&server, "r", &json!([create_run(), blob]));
    let downloaded = eventually("the artifact", || {
        let body = client.artifact("r", "models/é 1.bin").map_err(|error| error.to_string())?;
        body.into_bytes().map_err(|error| error.to_string())
    });
    assert!(downloaded == content);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("copy.bin");
    assert_eq!(client.artifact("r", "models/é 1.bin").unwrap().save(&path).unwrap(), content.len() as u64);
    assert!(std::fs::read(&path).unwrap() == content);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing partial is left");
    let zip = client.artifacts_zip("r").unwrap().into_bytes().unwrap();
    assert!(zip.starts_with(b"PK") && zip.len() > content.len());
    assert!(matches!(client.artifact("r", "missing"), Err(HttpError::NotFound { .. })));
}

#[test]
fn experiments_and_tags_are_created_and_listed() {
    let (_server, client) = start();
    assert_eq!(parsed(&client.version().unwrap())["component"], "backend");
    assert!(parsed(&client.project().unwrap())["name"].is_string());
    let created = parsed(&client.create_experiment("é \"x\"").unwrap());
    assert_eq!(parsed(&client.experiments().unwrap())[0]["name"], "é \"x\"");
    let again = client.create_experiment("é \"x\"");
    assert!(matches!(again, Err(HttpError::Refused { status: 409, .. })), "{again:?}");
    client.delete_experiment(created["id"].as_str().unwrap()).unwrap();
    assert_eq!(parsed(&client.experiments().unwrap()), json!([]));
    client.create_tag("t", Some("#ff0000"), None).unwrap();
    assert_eq!(parsed(&client.tags().unwrap())[0]["color"], "#ff0000");
}

#[test]
fn an_absent_server_is_reported_and_an_interrupted_wait_ends() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    // Nothing accepts the connection: the wait lasts until the interruption.
    let interrupted = BackendOptions { interrupted: || true, ..options() };
    let client = BackendClient::new(&format!("http://{address}"), interrupted).unwrap();
    assert!(matches!(client.version(), Err(HttpError::Interrupted)));
    drop(free);
    let client = BackendClient::new(&format!("http://{address}"), options()).unwrap();
    match client.version() {
        Err(error @ HttpError::Unreachable { .. }) => assert!(error.is_temporary(), "{error}"),
        other => panic!("{other:?}"),
    }
}

/// A backend that has only REST, such as Matyan 0.3. Answers every request of a connection.
fn backend_without_grpc() -> String {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = |line: &str| match line {
        line if line.contains("/info/") => {
            let overview = json!({"name": "loss", "context": {"b": 1, "a": 2}, "last_value": 0.5});
            ("200 OK", json!({"params": {}, "traces": {"metric": [overview]}, "props": {}}))
        }
        line if line.contains("/metric/get-batch/?record_density=0") => {
            let values = json!([0.5, null, 2]);
            (
                "200 OK",
                json!([{"name": "loss", "context": {"a": 2, "b": 1}, "iters": [0, 1, 5], "values": values}]),
            )
        }
        _ => ("404 Not Found", json!({"detail": "Not Found"})),
    };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            std::thread::spawn(move || {
                loop {
                    let mut first = String::new();
                    let mut length = 0;
                    if stream.read_line(&mut first).unwrap_or(0) == 0 {
                        return;
                    }
                    loop {
                        let mut header = String::new();
                        stream.read_line(&mut header).unwrap();
                        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                        if header.trim().is_empty() {
                            break;
                        }
                    }
                    stream.read_exact(&mut vec![0; length]).unwrap();
                    let (status, body) = answer(&first);
                    let body = body.to_string();
                    let head = format!(
                        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    stream.get_mut().write_all(format!("{head}{body}").as_bytes()).unwrap();
                }
            });
        }
    });
    url
}

#[test]
fn a_backend_without_grpc_is_read_through_rest() {
    let client = BackendClient::new(&backend_without_grpc(), options()).unwrap();
    // Such a backend knows no positions.
    client.include("r", matyan_proto::common::v1::LogPosition { log: 0, partition: 0, offset: 5 });
    for selection in [SeriesSelection::all("r"), SeriesSelection::series("r", "loss", r#"{"a":2,"b":1}"#)] {
        let series: Result<Vec<_>, _> = client.series(selection).unwrap().collect();
        let series = series.unwrap();
        assert_eq!((series.len(), series[0].steps.as_slice()), (1, &[0, 1, 5][..]));
        assert_eq!((series[0].name.as_str(), series[0].context.as_str()), ("loss", r#"{"a":2,"b":1}"#));
        assert_eq!((series[0].values[0], series[0].values[2]), (0.5, 2.0));
        assert!(series[0].values[1].is_nan());
    }
    let unsupported = client.delete_params("r", vec![Vec::new()]);
    assert!(matches!(unsupported, Err(HttpError::Unsupported { .. })), "{unsupported:?}");
}
