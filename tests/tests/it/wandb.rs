//! W&B's protocol through the whole system: what is acknowledged is what a worker has stored.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};
use std::time::Duration;

use matyan_tests::{Reader, Server, eventually};
use rand::Rng as _;
use reqwest::Client;
use serde_json::{Value, json};

const RUN: &str = "r:demo";
const STREAM: &str = "/files/me/demo/r/file_stream";
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);

/// A server with a run that a client of W&B has begun.
struct Wandb {
    server: Server,
    http: Client,
}

impl Wandb {
    async fn begin() -> Self {
        let wandb = Self { server: Server::up().await, http: Client::new() };
        wandb.upsert(json!({"name": "r", "modelName": "demo"})).await.expect("the run begins");
        wandb
    }

    /// The status of an answer, and the answer.
    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> (u16, Value) {
        let mut request = self.http.post(format!("{}{path}", self.server.query)).json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("the server answers");
        let status = answer.status().as_u16();
        (status, answer.json().await.expect("the answer is JSON"))
    }

    /// Creates or changes the run, or returns the message of the error.
    async fn upsert(&self, input: Value) -> Result<(), String> {
        let query = "mutation ($input: UpsertBucketInput!) { upsertBucket(input: $input) { inserted } }";
        let body = json!({"query": query, "variables": {"input": input}});
        let (status, answer) = self.post("/graphql", &[], &body).await;
        assert_eq!(status, 200, "{answer}");
        answer["errors"][0]["message"].as_str().map_or(Ok(()), |message| Err(message.to_owned()))
    }

    /// Streams lines of files. The end of the run makes the server answer when all of it is applied.
    async fn stream(&self, files: Value) {
        let body = json!({"files": files, "complete": true, "exitcode": 0});
        let (status, answer) = self.post(STREAM, &[], &body).await;
        assert_eq!(status, 200, "{answer}");
    }

    async fn stream_summary(&self, summary: &Value) {
        self.stream(json!({"wandb-summary.json": {"offset": 0, "content": [summary.to_string()]}})).await;
    }

    /// Waits until a part of the params is as expected.
    async fn until_params(&self, name: &str, expected: impl Fn(&Value) -> bool) {
        let path = format!("/api/v1/rest/runs/{RUN}/info/");
        eventually("the params are stored", async || match self.server.get(&path).await {
            Ok(info) if expected(&info["params"][name]) => Ok(()),
            other => Err(other.map(|info| info["params"][name].to_string())),
        })
        .await;
    }

    async fn reader(&self) -> Reader {
        Reader::connect(&self.server.query).await
    }
}

fn has_no_members(params: &Value) -> bool {
    params.as_object().is_none_or(serde_json::Map::is_empty)
}

#[tokio::test]
async fn a_config_and_a_summary_lose_what_the_client_deletes() {
    let wandb = Wandb::begin().await;
    for members in [json!({"acc": 1, "loss": 2}), json!({"acc": 1}), json!({"loss": {"min": 3}})] {
        wandb.stream_summary(&members).await;
        wandb.until_params("summary", |found| *found == members).await;
    }
    wandb.stream_summary(&json!({"_step": 3})).await;
    wandb.until_params("summary", has_no_members).await;
    for members in [json!({"lr": 1, "seed": 2}), json!({"lr": 1})] {
        let config = json!({"name": "r", "modelName": "demo", "config": members.to_string()});
        wandb.upsert(config).await.expect("the config is stored");
        wandb.until_params("hparams", |found| *found == members).await;
    }
}

#[tokio::test]
async fn what_is_too_large_is_shortened_or_refused() {
    let wandb = Wandb::begin().await;
    let large = "x".repeat(3_500_000);
    let config = json!({"big": large, "lr": 1}).to_string();
    wandb.upsert(json!({"name": "r", "modelName": "demo", "config": config})).await.expect("it fits");
    wandb.stream_summary(&json!({"big": large, "acc": 1})).await;
    let is_short = |summary: &Value| {
        summary["acc"] == 1 && summary["big"].as_str().is_some_and(|text| text.starts_with("left out: "))
    };
    wandb.until_params("summary", is_short).await;
    let summary = json!({"huge": large, "acc": 2}).to_string();
    let refused = wandb.upsert(json!({"name": "r", "modelName": "demo", "summaryMetrics": summary})).await;
    let message = refused.expect_err("there is no room");
    assert!(message.contains("`summaryMetrics`") && message.contains("`huge`"), "{message}");
    wandb.until_params("summary", is_short).await;
    // A name above the limit of 1,024 bytes.
    let name = "n".repeat(2_000);
    let row = json!({"_step": 0, "_timestamp": 1e9, name: 0.5}).to_string();
    wandb.stream(json!({"wandb-history.jsonl": {"offset": 0, "content": [row]}})).await;
    let reader = wandb.reader().await;
    eventually("the point is stored", async || match reader.count(RUN).await {
        Ok(1) => Ok(()),
        other => Err(other),
    })
    .await;
}

#[tokio::test]
async fn rows_and_records_that_come_again_are_stored_once() {
    const WRITER: [(&str, &str); 2] =
        [("x-wandb-use-async-filestream", "true"), ("x-wandb-async-client-id", "w")];
    let wandb = Wandb::begin().await;
    let row = json!({"_step": 7, "_timestamp": 1e9, "loss": 0.5, "words": "hello"}).to_string();
    for offset in [0, 0, 500] {
        let files = json!({
            "wandb-history.jsonl": {"offset": offset, "content": [row]},
            "output.log": {"offset": offset, "content": ["2026-01-02T03:04:05.678901 a line"]},
        });
        for headers in [&[][..], &WRITER] {
            let body = json!({"files": files, "complete": true, "exitcode": 0});
            assert_eq!(wandb.post(STREAM, headers, &body).await.0, 200);
        }
    }
    let reader = wandb.reader().await;
    eventually("everything is stored", async || match reader.records(RUN).await {
        Ok(records) if !records.is_empty() => Ok(()),
        other => Err(other.map(|records| records.len())),
    })
    .await;
    assert_eq!(reader.records(RUN).await.expect("records are read").len(), 1);
    let info = wandb.server.get(&format!("/api/v1/rest/runs/{RUN}/info/?sequence=texts")).await;
    let texts = &info.expect("the run is read")["traces"]["texts"];
    assert_eq!(texts.as_array().map(Vec::len), Some(2), "one sequence for each writer: {texts}");
    for context in ["{}", r#"{"writer":"w"}"#] {
        let points = reader.points(RUN, "loss", context).await.expect("the series is read");
        assert_eq!(points.iter().map(|point| (point.step, point.value)).collect::<Vec<_>>(), [(7, 0.5)]);
    }
}

/// Streams a row at a time, across restarts of the server, and notes the steps that were acknowledged.
async fn log_rows(base: Arc<Mutex<String>>, stop: Arc<AtomicBool>, acknowledged: Arc<Mutex<Vec<i64>>>) {
    let http = Client::new();
    let mut step = 0_i64;
    while !stop.load(SeqCst) {
        let url = format!("{}{STREAM}", base.lock().expect("the address is only assigned"));
        let row = json!({"_step": step, "_timestamp": 1e9, "loss": step}).to_string();
        let files = json!({"wandb-history.jsonl": {"offset": step, "content": [row]}});
        match http.post(url).json(&json!({"files": files})).send().await {
            Ok(answer) if answer.status() == 200 => {
                acknowledged.lock().expect("no writer panics").push(step);
            }
            _ => tokio::time::sleep(RECONNECT_PAUSE).await,
        }
        step += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_row_survives_kills() {
    let mut wandb = Wandb::begin().await;
    let base = Arc::new(Mutex::new(wandb.server.query.clone()));
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let task = tokio::spawn(log_rows(Arc::clone(&base), Arc::clone(&stop), Arc::clone(&acknowledged)));
    for _ in 0..3 {
        let more = rand::rng().random_range(20..100);
        let wanted = acknowledged.lock().expect("no writer panics").len() + more;
        eventually("rows are acknowledged", async || {
            match acknowledged.lock().expect("no writer panics").len() {
                rows if rows >= wanted => Ok(()),
                rows => Err(rows),
            }
        })
        .await;
        wandb.server.kill();
        wandb.server.start().await;
        wandb.server.query.clone_into(&mut base.lock().expect("the address is only assigned"));
    }
    stop.store(true, SeqCst);
    task.await.expect("the writer does not panic");
    let acknowledged = acknowledged.lock().expect("no writer panics").clone();
    let reader = wandb.reader().await;
    eventually("every acknowledged row is stored", async || {
        let points = reader.points(RUN, "loss", "{}").await.map_err(|status| status.to_string())?;
        assert!(points.iter().all(|point| point.value == point.step as f64), "a point has another value");
        let steps: Vec<i64> = points.iter().map(|point| point.step).collect();
        let lost: Vec<&i64> = acknowledged.iter().filter(|step| !steps.contains(step)).collect();
        if lost.is_empty() { Ok(()) } else { Err(format!("steps {lost:?} are lost")) }
    })
    .await;
}
