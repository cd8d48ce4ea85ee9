//! Memory of maintenance: what each job needs in addition to the idle server, in projects with
//! many runs, many texts and many artifacts.

use std::sync::Arc;

use futures::{StreamExt, stream};
use matyan_proto::{
    admin::v1::{
        CleanupOrphanBlobsRequest, CleanupTombstonesRequest, FinishStaleRequest, ListPartitionsRequest,
        Partition, ReindexRequest, admin_service_client::AdminServiceClient,
    },
    ingest::v1::{BlobRef, Event, IngestionBatch, LogObject, event::Kind},
};
use matyan_tests::{Server, binary::BinaryWriter, eventually};
use matyan_value::{Value, cbor};
use serde_json::{Value as Json, json};
use tonic::{Streaming, transport::Channel};

use crate::{
    deleted,
    ingest::{run_id, send_batches},
    process::idle_memory,
    project::{self, Content},
    table::{Budget, Table, Unit},
};

const BUDGET: Budget = Budget::AtMost(32.0);

const JOBS: [&str; 4] = ["reindex", "stale runs", "orphaned blobs", "tombstones"];
const PROJECTS: [&str; 3] = ["100,000 runs", "a million texts", "100,000 artifacts"];

pub(crate) async fn rows(table: &mut Table, scale: u64) {
    for project in PROJECTS {
        let rows = JOBS.map(|job| (job, format!("memory of a sweep of {project}: {job}")));
        let deletion = format!("memory of the deletion of {project}");
        if !rows.iter().map(|(_, row)| row).chain([&deletion]).any(|row| table.wants(row)) {
            continue;
        }
        let (server, ids) = match project {
            "100,000 runs" => {
                let content = Content::of_runs(100_000 / scale);
                let server = Server::up_on(&project::cached(content).await).await;
                (server, (0..content.runs).map(project::run_id).collect())
            }
            "a million texts" => (with_texts(1_000_000 / scale).await, vec![run_id(0)]),
            _ => (with_artifacts(100_000 / scale).await, vec![run_id(0)]),
        };
        for (job, row) in rows {
            table
                .row(&row, BUDGET, Unit::Megabytes, async || memory_of(&server, run(&server, job)).await)
                .await;
        }
        if table.wants(&deletion) {
            // Not in the project that other rows and later runs read.
            let copy = tempfile::tempdir().expect("the temporary directory is writable");
            let server = match project {
                "100,000 runs" => {
                    project::generate(Content::of_runs(100_000 / scale), copy.path()).await;
                    Server::up_on(copy.path()).await
                }
                _ => server,
            };
            let figure = memory_of(&server, deleted::delete_for_good(&server, &ids)).await;
            table.print(&deletion, BUDGET, Unit::Megabytes, vec![figure]);
        }
    }
}

/// Peak megabytes while work is done, above those before it.
async fn memory_of(server: &Server, work: impl Future<Output = ()>) -> f64 {
    let idle = idle_memory(server).await;
    // Resets the peak to the current size.
    std::fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").expect("the process is our own");
    work.await;
    (server.memory("VmHWM") as f64 / 1e6 - idle).max(0.0)
}

async fn run(server: &Server, job: &str) {
    let mut client = admin(server).await;
    match job {
        "reindex" => finish(client.reindex(ReindexRequest::default()).await).await,
        "stale runs" => {
            let never = FinishStaleRequest { idle_s: u32::MAX.into(), ..FinishStaleRequest::default() };
            finish(client.finish_stale(never).await).await;
        }
        "orphaned blobs" => {
            let all =
                CleanupOrphanBlobsRequest { unreferenced: true, ..CleanupOrphanBlobsRequest::default() };
            finish(client.cleanup_orphan_blobs(all).await).await;
        }
        _ => finish(client.cleanup_tombstones(CleanupTombstonesRequest::default()).await).await,
    }
}

pub(crate) async fn admin(server: &Server) -> AdminServiceClient<Channel> {
    let endpoint = Channel::from_shared(server.query.clone()).expect("the base is a URL");
    AdminServiceClient::new(endpoint.connect().await.expect("the server listens"))
}

async fn finish<M>(started: Result<tonic::Response<Streaming<M>>, tonic::Status>) {
    let mut messages = started.expect("the job starts").into_inner();
    while messages.message().await.expect("the job continues").is_some() {}
}

/// A server with one run of many texts.
async fn with_texts(texts: u64) -> Server {
    const TEXTS_A_BATCH: u64 = 1_000;
    let text = |step: u64| {
        let data = Value::Text(format!("a sentence that a model has written at step {step}"));
        let value = cbor::encode_map(&[("data".to_owned(), data)].into());
        let object = LogObject {
            name: "samples".into(),
            context: "{}".into(),
            dtype: "text".into(),
            step: Some(step.cast_signed()),
            value: value.into(),
            ..LogObject::default()
        };
        Event { kind: Some(Kind::LogObject(object)), ..Event::default() }
    };
    let server = Server::up().await;
    let batches = (0..texts / TEXTS_A_BATCH).map(|batch| IngestionBatch {
        events: (batch * TEXTS_A_BATCH..(batch + 1) * TEXTS_A_BATCH).map(text).collect(),
        ..IngestionBatch::default()
    });
    write(&server, batches.collect()).await;
    server
}

/// A server with one run of many small artifacts.
async fn with_artifacts(artifacts: u64) -> Server {
    const UPLOADS: usize = 32;
    let server = Server::up().await;
    let (client, run) = (reqwest::Client::new(), run_id(0));
    stream::iter(0..artifacts)
        .for_each_concurrent(UPLOADS, async |at| {
            let request = json!({"run_id": run, "artifact_path": path(at), "content_type": "text/plain"});
            let presign = format!("{}/api/v1/rest/artifacts/presign", server.ingest);
            let answer = client.post(&presign).json(&request).send().await.expect("the server answers");
            let answer: Json = answer.json().await.expect("a response in JSON");
            let url = answer["upload_url"].as_str().expect("a URL").to_owned();
            let put = client.put(url).header("content-type", "text/plain").body(format!("artifact {at}"));
            assert!(put.send().await.expect("the server answers").status().is_success());
        })
        .await;
    let event = |at: u64| {
        let path = path(at);
        let blob = BlobRef { key: format!("{run}/{path}"), path, ..BlobRef::default() };
        Event { kind: Some(Kind::BlobRef(blob)), ..Event::default() }
    };
    let events: Vec<_> = (0..artifacts).map(event).collect();
    let batches = events
        .chunks(1_000)
        .map(|events| IngestionBatch { events: events.into(), ..IngestionBatch::default() });
    write(&server, batches.collect()).await;
    server
}

fn path(at: u64) -> String {
    format!("checkpoints/{:03}/{at:06}.txt", at / 1_000)
}

/// Writes the batches of a run, and waits until they are applied.
async fn write(server: &Server, batches: Vec<IngestionBatch>) {
    let mut writer = BinaryWriter::new(&run_id(0));
    writer.connect(&server.ingest).await.expect("the server listens");
    send_batches(writer, Arc::new(batches)).await;
    until_applied(server).await;
}

/// Waits until the log has been applied to its end.
pub(crate) async fn until_applied(server: &Server) {
    let mut admin = admin(server).await;
    eventually("everything is applied", async || {
        let partitions = admin.list_partitions(ListPartitionsRequest::default()).await;
        let partitions = partitions.map_err(|error| error.to_string())?.into_inner().partitions;
        let is_late = |it: &&Partition| it.applied < it.end;
        partitions.iter().find(is_late).map_or(Ok(()), |late| Err(format!("{late:?}")))
    })
    .await;
}
