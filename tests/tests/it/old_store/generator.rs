//! The generator of a fixture: fills a server of the version that `MATYAN_BIN` names with one of
//! everything, kills it, and records what it answers after a restart.

use std::path::Path;

use flate2::{Compression, write::GzEncoder};
use matyan_tests::{
    eventually,
    json::{JsonWriter, create_run, finish_run, log_record, metric},
    server::Server,
};
use serde_json::{Value, json};

use super::{command, fixture, replay};

const POINTS: i64 = 2_500;

async fn post(server: &Server, path: &str, body: Value) -> Value {
    let url = format!("{}/api/v1/rest{path}", server.query);
    let response = reqwest::Client::new().post(url).json(&body).send().await.expect("the server listens");
    assert!(response.status().is_success(), "{path}: {}", response.status());
    response.json().await.expect("JSON")
}

async fn log(base: &str, run_id: &str, frames: &[Value]) {
    let mut writer = JsonWriter::connect(base, run_id).await.expect("the server listens");
    for frame in frames {
        let ack = writer.send(frame).await.expect("the frame is acknowledged");
        assert_eq!(ack, matyan_tests::json::Ack::Ok, "{frame}");
    }
}

async fn until_finished(server: &Server, run_id: &str) {
    eventually("the run is finished", async || {
        let run = server.get(&format!("/api/v1/rest/runs/{run_id}/info/")).await?;
        run["props"]["end_time"].is_number().then_some(()).ok_or_else(|| run.to_string())
    })
    .await;
}

fn object(name: &str, step: i64, dtype: &str, value: Value) -> Value {
    json!({"type": "log_custom_object", "name": name, "step": step, "dtype": dtype, "value": value})
}

async fn upload(server: &Server, run_id: &str, path: &str, content: Vec<u8>) {
    let client = reqwest::Client::new();
    let request = json!({"run_id": run_id, "artifact_path": path, "content_type": "text/plain"});
    let url = format!("{}/api/v1/rest/artifacts/presign", server.ingest);
    let signed = client.post(url).json(&request).send().await.expect("the server listens");
    let signed: Value = signed.json().await.expect("JSON");
    let put = client.put(signed["upload_url"].as_str().expect("a URL")).header("content-type", "text/plain");
    assert!(put.body(content).send().await.expect("the server listens").status().is_success());
    let blob = json!({
        "type": "blob_ref", "artifact_path": path, "s3_key": signed["s3_key"], "content_type": "text/plain",
    });
    log(&server.ingest, run_id, &[blob]).await;
}

/// A run with params in pieces, folded series, and series with contexts.
async fn log_series(server: &Server) {
    let words: Vec<String> = (0..4_000).map(|word| format!("word {word}")).collect();
    let params = json!({"type": "log_hparams", "value": {"hparams": {"lr": 0.01, "vocabulary": words}}});
    log(&server.ingest, "series", &[create_run(), params]).await;
    let points: Vec<Value> = (0..POINTS)
        .flat_map(|step| {
            let mut accuracy = metric("accuracy", step as f64 / POINTS as f64, Some(step));
            accuracy["context"] = json!({"subset": if step % 2 == 0 { "train" } else { "val" }});
            [metric("loss", (step as f64).sin(), Some(step)), accuracy]
        })
        .collect();
    for frame in points.chunks(1_000) {
        log(&server.ingest, "series", &[json!(frame)]).await;
    }
    let late = metric("loss", -1.0, Some(17));
    log(
        &server.ingest,
        "series",
        &[late, json!({"type": "set_run_property", "name": "long", "experiment": "first"})],
    )
    .await;
    log(&server.ingest, "series", &[json!({"type": "add_tag", "tag_name": "best"}), finish_run()]).await;
}

/// A run that continues another from a step on.
async fn log_branch(server: &Server) {
    let mut create = create_run();
    create["parent_run_id"] = json!("series");
    create["parent_step"] = json!(POINTS / 2);
    let later: Vec<Value> =
        (POINTS / 2 + 1..POINTS).map(|step| metric("loss", (step as f64).cos(), Some(step))).collect();
    log(&server.ingest, "branch", &[create, json!(later), finish_run()]).await;
}

/// A run with objects inside and outside of the store, artifacts, lines and log records.
async fn log_objects(server: &Server) {
    let bins = json!({"type": "distribution", "bin_count": 3, "range": [0.0, 1.0], "data": [1, 2, 3]});
    let figure = json!({"type": "figure", "data": {"data": [{"y": [1, 2]}], "layout": {}}});
    let long = json!({"type": "text", "data": "long ".repeat(30_000)});
    let mut frames = vec![
        create_run(),
        json!({"type": "log_hparams", "value": {"hparams": {"lr": 0.5, "layers": [64, 64], "none": null}}}),
        object("texts", 0, "text", json!({"type": "text", "data": "short"})),
        object("texts", 1, "text", long),
        object("weights", 0, "distribution", bins),
        object("figures", 0, "figure", figure),
        log_record("learning", 1.5),
    ];
    frames.extend(
        (0..20)
            .map(|step| json!({"type": "log_terminal_line", "line": format!("line {step}"), "step": step})),
    );
    log(&server.ingest, "objects", &frames).await;
    upload(server, "objects", "model/weights.bin", vec![7; 100_000]).await;
    upload(server, "objects", "readme.txt", b"small".to_vec()).await;
    log(&server.ingest, "objects", &[finish_run()]).await;
}

async fn make_entities(server: &Server) {
    post(server, "/experiments/", json!({"name": "second"})).await;
    post(server, "/tags/", json!({"name": "unused", "color": "#ff0000", "description": "a tag"})).await;
    let app = post(server, "/apps/", json!({"type": "metrics", "state": {"rows": [1, 2, 3]}})).await;
    let dashboard = json!({"name": "overview", "description": "all", "app_id": app["id"]});
    post(server, "/dashboards/", dashboard).await;
    post(
        server,
        "/reports/",
        json!({"name": "report", "code": "# Title\n".repeat(20_000), "description": "long"}),
    )
    .await;
    post(server, "/runs/objects/note/", json!({"content": "a note"})).await;
    let pinned = json!({"sequences": [{"name": "loss", "context": {}}]});
    post(server, "/projects/pinned-sequences/", pinned).await;
    post(server, "/runs/archive-batch/?archive=true", json!(["objects"])).await;
    let other = post(server, "/projects/", json!({"name": "other", "description": "another"})).await;
    assert!(other.is_object());
    let base = format!("{}/p/other", server.ingest);
    log(&base, "elsewhere", &[create_run(), metric("loss", 0.5, Some(0)), finish_run()]).await;
}

/// The requests that the restarted server answers.
fn requests() -> Vec<Value> {
    let get = |path: String| json!({"method": "GET", "path": path});
    let mut all = Vec::new();
    for run in ["series", "branch", "objects", "parked", "burst", "deleted"] {
        all.extend(["info", "logs", "log-records", "note"].map(|part| get(format!("/runs/{run}/{part}/"))));
        let series = json!([
            {"name": "loss", "context": {}}, {"name": "accuracy", "context": {"subset": "train"}},
            {"name": "accuracy", "context": {"subset": "val"}},
        ]);
        let path = format!("/runs/{run}/metric/get-batch/?record_density=400");
        all.push(json!({"method": "POST", "path": path, "body": series}));
        for (kind, name) in [("texts", "texts"), ("distributions", "weights"), ("figures", "figures")] {
            let path = format!("/runs/{run}/{kind}/get-batch/");
            all.push(json!({"method": "POST", "path": path, "body": [{"name": name, "context": {}}]}));
        }
    }
    let lists = [
        "experiments",
        "tags",
        "dashboards",
        "apps",
        "reports",
        "projects",
        "projects/list",
        "projects/params",
    ];
    all.extend(lists.map(|list| get(format!("/{list}/"))));
    all.extend(["/projects/pinned-sequences/", "/projects/status/"].map(|path| get(path.to_owned())));
    for path in ["model/weights.bin", "readme.txt"] {
        all.push(get(format!("/runs/objects/artifacts/download/?path={path}")));
    }
    let queries = [
        "run.hparams.lr%20%3C%200.06",
        "run.name%20%3D%3D%20%22long%22",
        "%22best%22%20in%20run.tags",
        "run.parent%20%3D%3D%20%22series%22",
    ];
    for query in queries {
        all.push(get(format!("/runs/search/run/?q={query}&report_progress=false")));
    }
    all.push(get(
        "/runs/search/metric/?q=metric.name%20%3D%3D%20%22loss%22&p=50&report_progress=false".to_owned()
    ));
    all.push(json!({"method": "GET", "path": "/runs/elsewhere/info/", "project": "other"}));
    all.push(json!({"command": ["parked", "ls"]}));
    all.push(json!({"command": ["projects", "list"]}));
    all
}

fn pack(directory: &Path, name: &str, into: &Path) {
    let file = std::fs::File::create(into).expect("the fixture is writable");
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::best()));
    archive.append_dir_all(name, directory).expect("the directory is readable");
    archive.into_inner().and_then(GzEncoder::finish).expect("the fixture is writable");
}

#[tokio::test]
#[ignore = "writes a fixture: see its README.md"]
async fn generator() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let data = directory.path().join("data");
    let into = fixture("everything-of-format-4");
    let mut server = Server::up_on(&data).await;
    log_series(&server).await;
    log_objects(&server).await;
    log(&server.ingest, "parked", &[create_run(), metric("loss", 1.0, Some(0)), finish_run()]).await;
    log(&server.ingest, "deleted", &[create_run(), finish_run()]).await;
    until_finished(&server, "series").await;
    log_branch(&server).await;
    for run in ["branch", "objects", "parked", "deleted"] {
        until_finished(&server, run).await;
    }
    make_entities(&server).await;
    command(&server.query, &["runs", "park", "parked", "--reason", "kept for later"]).await;
    let more: Vec<Value> = (1..4).map(|step| metric("loss", 1.0, Some(step))).collect();
    log(&server.ingest, "parked", &more).await;
    command(&server.query, &["runs", "rm", "deleted", "--yes"]).await;
    eventually("records are parked", async || {
        let parked = command(&server.query, &["parked", "ls"]).await;
        (parked.lines().count() >= 3).then_some(()).ok_or(parked)
    })
    .await;
    let burst: Vec<Value> =
        (0..3_000).map(|step| metric("loss", f64::from(step), Some(step.into()))).collect();
    log(&server.ingest, "burst", &[create_run(), json!(burst), finish_run()]).await;
    // Records of `burst` are acknowledged, and not all of them applied.
    server.kill();
    pack(&data, "data", &into.join("data.tar.gz"));
    server.start().await;
    until_finished(&server, "burst").await;
    let mut answers = Vec::new();
    for mut request in requests() {
        let (status, answer) = replay(&server, &request).await.expect("the server answers");
        request["status"] = status.into();
        request["answer"] = answer.into();
        answers.push(request);
    }
    let file = std::fs::File::create(into.join("answers.json.gz")).expect("the fixture is writable");
    let file = GzEncoder::new(file, Compression::best());
    serde_json::to_writer_pretty(file, &answers).expect("the fixture is writable");
    let archive = super::backup(&server, directory.path()).await;
    pack(&archive, "archive", &into.join("archive.tar.gz"));
}
