//! Answers that keep a processor busy: their connections continue on threads that leave the processors to threads that
//! acknowledge.

#![cfg(target_os = "linux")]

use std::{fs, time::Duration};

use matyan_tests::{
    Server, eventually,
    json::{Ack, JsonWriter, create_run},
};
use serde_json::{Map, Value, json};

/// Params of the run: the server takes milliseconds to encode the answer.
const PARAMS: usize = 100_000;

/// Time for which the threads must have run.
const TIME: Duration = Duration::from_millis(20);

/// The threads for busy tasks, and the threads of queries, which take these tasks over while other programs fill the
/// processors. Reading the params of a run is not a query.
const THREADS: [&str; 2] = ["matyan-busy", "matyan-query"];

/// Time for which the threads have run.
fn time_of_threads(server: &Server) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("the process runs");
    let times = tasks.map(|task| {
        let task = task.expect("the threads can be listed").path();
        // A thread may end before it is read.
        let read = |file: &str| fs::read_to_string(task.join(file)).unwrap_or_default();
        if !THREADS.contains(&read("comm").trim_end()) {
            return Duration::ZERO;
        }
        let nanoseconds = read("schedstat").split(' ').next().and_then(|ran| ran.parse().ok());
        Duration::from_nanos(nanoseconds.unwrap_or_default())
    });
    times.sum()
}

#[tokio::test]
async fn rule_130_connections_that_send_large_answers_continue_on_threads_for_busy_tasks() {
    let server = Server::up().await;
    let mut writer = JsonWriter::connect(&server.ingest, "wide").await.expect("the server listens");
    assert_eq!(writer.send(&create_run()).await, Ok(Ack::Ok));
    let params: Map<String, Value> =
        (0..PARAMS).map(|number| (format!("param_{number:06}"), json!(number))).collect();
    assert_eq!(writer.send(&json!({"type": "log_hparams", "value": params})).await, Ok(Ack::Ok));
    let client = reqwest::Client::new();
    let url = format!("{}/api/v1/rest/runs/wide/info/", server.query);
    eventually("the threads for busy tasks have run", async || {
        // All over one connection.
        let answer = client.get(&url).send().await.map_err(|error| error.to_string())?;
        let body = answer.bytes().await.map_err(|error| error.to_string())?;
        let time = time_of_threads(&server);
        if time >= TIME { Ok(()) } else { Err(format!("{} bytes, {time:?}", body.len())) }
    })
    .await;
}
