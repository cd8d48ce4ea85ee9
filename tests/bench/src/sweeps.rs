//! Memory of maintenance: the memory that each job needs in addition to the idle server, in projects with
//! many runs, many texts and many artifacts. The server has read the project before, so that the cache of
//! the store, which has a fixed size and serves all reads, is full.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use matyan_blob::{BlobKey, Blobs, UrlSigner, fs::FsBlobs};
use matyan_proto::{
    admin::v1::{
        CleanupOrphanBlobsRequest, FinishStaleRequest, ListPartitionsRequest, ReindexRequest,
        admin_service_client::AdminServiceClient,
    },
    ingest::v1::{BlobRef, Event, IngestionBatch, LogObject, event::Kind},
    runs::v1::RunParts,
    search::v1::RunsRequest,
};
use matyan_tests::{Server, binary::BinaryWriter, channel, eventually};
use matyan_value::{Value, cbor};
use tonic::{Streaming, transport::Channel};

use crate::{
    deleted,
    ingest::{run_id, send_batches},
    process::idle_memory,
    project::{self, Content},
    runs::{publish, requests},
    search,
    table::{Budget, Table, Unit},
};

const BUDGET: Budget = Budget::AtMost(32.0);

const JOBS: [&str; 4] = ["reindex", "stale runs", "orphaned blobs", "tombstones"];
const PROJECTS: [&str; 3] = ["100,000 runs", "a million texts", "100,000 artifacts"];

/// Indexes of runs that are added to a project: runs that remain active, and runs that are deleted
/// before each measurement.
const ACTIVE: u64 = 1_000_000;
const DELETED: u64 = 2_000_000;
/// Number of runs of either kind.
const ADDED: u64 = 10_000;
/// Number of blobs without a reference that are added before each measurement.
const ORPHANS: u64 = 1_000;
/// Age of all blobs. Blobs younger than 31 days are not considered.
const BLOB_AGE: Duration = Duration::from_hours(32 * 24);
/// Blobs that are written at the same time.
const UPLOADS: usize = 32;

/// A server with the runs of a project.
struct Project {
    server: Server,
    ids: Vec<String>,
    /// Number of runs that are added at a time.
    added: u64,
    orphans: u64,
    active: usize,
    /// Number of runs that were added and deleted.
    deleted: u64,
    _directory: Option<tempfile::TempDir>,
}

pub(crate) async fn rows(table: &mut Table, scale: u64) {
    for name in PROJECTS {
        let rows = JOBS.map(|job| (job, format!("memory of a sweep of {name}: {job}")));
        let deletion = format!("memory of the deletion of {name}");
        if !rows.iter().map(|(_, row)| row).chain([&deletion]).any(|row| table.wants(row)) {
            continue;
        }
        let mut project = Project::new(name, scale).await;
        read_all_runs(&project.server).await;
        for (job, row) in rows {
            table.row(&row, BUDGET, Unit::Megabytes, async || project.measure(job).await).await;
        }
        if table.wants(&deletion) {
            let Project { server, ids, .. } = &project;
            let figure = memory_of(server, deleted::delete_for_good(server, ids)).await;
            table.print(&deletion, BUDGET, Unit::Megabytes, vec![figure]);
        }
    }
}

/// Peak megabytes while work is done, beyond the megabytes before it.
async fn memory_of(server: &Server, work: impl Future<Output = ()>) -> f64 {
    let idle = idle_memory(server).await;
    // Resets the peak to the current size.
    std::fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").expect("the process is our own");
    work.await;
    (server.memory("VmHWM") as f64 / 1e6 - idle).max(0.0)
}

impl Project {
    async fn new(name: &str, scale: u64) -> Self {
        let mut directory = None;
        let (server, ids, active) = match name {
            "100,000 runs" => {
                let content = Content::of_runs(100_000 / scale);
                // Not the cached project, which other rows and later measurements read.
                let copy = tempfile::tempdir().expect("the temporary directory is writable");
                project::generate(content, copy.path()).await;
                let server = Server::up_on(directory.insert(copy).path()).await;
                (server, (0..content.runs).map(project::run_id).collect(), 0)
            }
            "a million texts" => (with_texts(1_000_000 / scale).await, vec![run_id(0)], 1),
            _ => (with_artifacts(100_000 / scale).await, vec![run_id(0)], 1),
        };
        let added = ADDED / scale;
        let active = active + added as usize;
        let project =
            Self { server, ids, added, orphans: ORPHANS / scale, active, deleted: 0, _directory: directory };
        project.add(ACTIVE..ACTIVE + added).await;
        project
    }

    /// Adds runs.
    async fn add(&self, indexes: Range<u64>) {
        publish(&self.server, requests(Content::of_runs(self.added), indexes)).await;
        until_applied(&self.server).await;
    }

    /// References of blobs that nothing refers to.
    fn orphan_references(&self) -> impl Iterator<Item = String> {
        (0..self.orphans).map(|at| format!("{}/lost/{at}.txt", self.ids[at as usize % self.ids.len()]))
    }

    /// Memory of a job, after something was added that it finds.
    async fn measure(&mut self, job: &str) -> f64 {
        match job {
            "orphaned blobs" => {
                write_blobs(&self.server, self.orphan_references()).await;
            }
            "tombstones" => {
                let start = DELETED + self.deleted;
                self.deleted += self.added;
                self.add(start..start + self.added).await;
                let ids: Vec<String> = (start..start + self.added).map(project::run_id).collect();
                deleted::delete(&self.server, &ids).await;
            }
            _ => {}
        }
        memory_of(&self.server, self.run(job)).await
    }

    /// Runs a job, and checks that it has handled everything that it is measured with.
    async fn run(&self, job: &str) {
        let mut client = admin(&self.server).await;
        match job {
            "reindex" => {
                let pages = pages(client.reindex(ReindexRequest::default()).await).await;
                let read = pages.last().and_then(|page| page.progress).map(|progress| progress.done);
                assert!(read >= Some(self.ids.len() as u64), "all runs are read");
            }
            "stale runs" => {
                // All active runs are read, and none is finished, so the next measurement finds all of them.
                let never = FinishStaleRequest { idle_s: u32::MAX.into(), ..FinishStaleRequest::default() };
                let pages = pages(client.finish_stale(never).await).await;
                let read = pages.last().and_then(|page| page.progress).map(|progress| progress.done);
                assert_eq!(read, Some(self.active as u64), "all active runs are read");
            }
            "orphaned blobs" => {
                let all =
                    CleanupOrphanBlobsRequest { unreferenced: true, ..CleanupOrphanBlobsRequest::default() };
                pages(client.cleanup_orphan_blobs(all).await).await;
                // The server's own sweep, a minute after its start, may have deleted some of them.
                let blobs = open_blobs(&self.server);
                for reference in self.orphan_references() {
                    let found = blobs.describe(&blob_key(&reference)).await;
                    let found = found.expect("the directory is readable");
                    assert!(found.is_none(), "all blobs without a reference are deleted: {reference}");
                }
            }
            _ => deleted::remove_tombstones(&self.server, self.added as usize).await,
        }
    }
}

/// The directory of a server's blobs, where new blobs get times from before the server was started.
fn open_blobs(server: &Server) -> FsBlobs {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock is right");
    let written_us = (now - BLOB_AGE).as_micros() as i64;
    let clock: matyan_blob::Clock = Arc::new(move || written_us);
    let signer = UrlSigner::new(b"", Duration::ZERO, clock.clone());
    FsBlobs::open(&server.data_dir().join("blobs"), signer, clock).expect("the directory is writable")
}

fn blob_key(reference: &str) -> BlobKey {
    BlobKey::in_project("", reference).expect("the reference is valid")
}

/// Reads the documents of all runs with all their params.
async fn read_all_runs(server: &Server) {
    let parts = RunParts { props: true, params: true, ..RunParts::default() };
    let all = RunsRequest { parts: Some(parts), ..RunsRequest::default() };
    let mut messages = search::connect(server).await.runs(all).await.expect("all runs match").into_inner();
    while messages.message().await.expect("the search continues").is_some() {}
}

pub(crate) async fn admin(server: &Server) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(channel(&server.query).await)
}

/// All messages of a job.
async fn pages<M>(started: Result<tonic::Response<Streaming<M>>, tonic::Status>) -> Vec<M> {
    let mut messages = started.expect("the job starts").into_inner();
    let mut pages = Vec::new();
    while let Some(page) = messages.message().await.expect("the job continues") {
        pages.push(page);
    }
    pages
}

/// Writes small blobs to the directory of a server.
async fn write_blobs(server: &Server, references: impl Iterator<Item = String>) {
    let blobs = open_blobs(server);
    let writes = references.map(async |reference| {
        let key = blob_key(&reference);
        let content = stream::iter([Ok(Bytes::from(reference))]).boxed();
        blobs.put(&key, "text/plain", None, content).await.expect("the directory is writable");
    });
    stream::iter(writes).buffer_unordered(UPLOADS).collect::<()>().await;
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
    let server = Server::up().await;
    let run = run_id(0);
    write_blobs(&server, (0..artifacts).map(|at| format!("{run}/{}", path(at)))).await;
    let mut events = Vec::new();
    for at in 0..artifacts {
        let path = path(at);
        let blob = BlobRef { key: format!("{run}/{path}"), path, ..BlobRef::default() };
        events.push(Event { kind: Some(Kind::BlobRef(blob)), ..Event::default() });
    }
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

/// Waits until the log has been applied to its end. There is no limit in time as long as less and less of it is left.
pub(crate) async fn until_applied(server: &Server) {
    let mut admin = admin(server).await;
    let mut left = u64::MAX;
    while left > 0 {
        left = eventually("more is applied", async || {
            let partitions = admin.list_partitions(ListPartitionsRequest::default()).await;
            let partitions = partitions.map_err(|error| error.to_string())?.into_inner().partitions;
            let now: u64 =
                partitions.iter().map(|partition| partition.end.saturating_sub(partition.applied)).sum();
            if now < left { Ok(now) } else { Err(format!("{partitions:?}")) }
        })
        .await;
    }
}
