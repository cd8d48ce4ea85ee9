//! Uploads and ingestion through a frontier, workers, and sweeps, in two projects with the same run
//! ids and names. Nothing that they do in one of them changes a row
//! or a blob of the other.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use matyan_blob::{BlobKey, Blobs};
use matyan_maintenance::{
    OrphanedBlobs, clear_garbage, sweep_dead_entities, sweep_dead_runs, sweep_dead_studies, trim_changes,
};
use matyan_model::{
    ids::{NamedProject, Project},
    keys::project_rows,
    project::{project_find, projects_list},
};
use matyan_proto::{
    common::v1::{SeriesKey, SeriesType},
    experiments::v1::{self as experiments, experiment_service_client::ExperimentServiceClient},
    ingest::v1::{self as pb, event::Kind, store_request, stream_request, upload_request::Message},
    runs::v1::{self as runs, run_service_client::RunServiceClient},
    series::v1::{self as series, series_service_client::SeriesServiceClient},
    tags::v1::{self as tags, tag_service_client::TagServiceClient},
};
use matyan_store::{Scan, Store as _};
use prost::Message as _;
use prost_reflect::DescriptorPool;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::backend::{
    every_rpc::{PROJECTS, Side, encoded, fill},
    harness::{Harness, create, experiment, finish, line, params, tag},
    projects::of,
};

/// Everything that a project has: its rows, and the keys and versions of its blobs.
struct Content {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    blobs: BTreeMap<String, String>,
}

impl Content {
    fn contains(&self, text: &str) -> bool {
        let is_in = |bytes: &Vec<u8>| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        self.rows.iter().any(|(key, value)| is_in(key) || is_in(value))
    }

    /// The rows and blobs that were added, removed or changed since.
    fn changed_since(&self, before: &Self) -> Vec<String> {
        let rows = differing(&self.rows, &before.rows).map(|key| key.escape_ascii().to_string());
        rows.chain(differing(&self.blobs, &before.blobs).cloned()).collect()
    }
}

fn differing<'a, K: Ord, V: PartialEq>(
    after: &'a BTreeMap<K, V>,
    before: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = &'a K> {
    let keys: BTreeSet<&K> = after.keys().chain(before.keys()).collect();
    keys.into_iter().filter(|key| after.get(*key) != before.get(*key))
}

async fn number(harness: &Harness, project: &str) -> Project {
    let snapshot = harness.store.snapshot().await.unwrap();
    project_find(snapshot.as_ref(), project).await.unwrap().unwrap()
}

async fn content(harness: &Harness, project: &str) -> Content {
    let mut rows = BTreeMap::new();
    let mut range = project_rows(number(harness, project).await);
    let snapshot = harness.store.snapshot().await.unwrap();
    loop {
        let page = snapshot.scan(&range, Scan::default()).await.unwrap();
        rows.extend(page.rows.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
        match page.rows.last() {
            Some((last, _)) if page.more => range = range.after(last),
            _ => break,
        }
    }
    let folder = if project.is_empty() { String::new() } else { format!(".projects/{project}/") };
    let listed = harness.blobs.list(&folder, None).await.unwrap();
    assert!(listed.next.is_none(), "all blobs are in one page");
    let mut blobs = BTreeMap::new();
    for (key, _) in listed.blobs {
        if !project.is_empty() || !key.to_string().starts_with(".projects/") {
            let meta = harness.blobs.describe(&key).await.unwrap().unwrap();
            blobs.insert(key.to_string(), format!("{} {}", meta.size, meta.version));
        }
    }
    Content { rows, blobs }
}

/// Uploads the content of a blob, or of a part of one, by its URL.
async fn send(
    harness: &Harness,
    key: BlobKey,
    url: &str,
    data: &str,
) -> Result<pb::UploadResponse, tonic::Status> {
    let (_, token) = url.split_once('?').unwrap();
    let open = pb::UploadOpen {
        key: key.to_string(),
        token: token.to_owned(),
        content_length: Some(data.len() as u64),
        ..Default::default()
    };
    let messages = [Message::Open(open), Message::Chunk(data.to_owned().into())];
    let messages = messages.map(|message| pb::UploadRequest { message: Some(message) });
    Ok(harness.ingest_client().upload(futures::stream::iter(messages)).await?.into_inner())
}

fn batch(text: &str) -> Bytes {
    let kind = Some(params(&format!(r#"{{"by":"{text}"}}"#)));
    let events = vec![pb::Event { client_time_us: None, kind }];
    pb::IngestionBatch { events, ..pb::IngestionBatch::default() }.encode_to_vec().into()
}

/// Makes every call of the service in a project. Returns their names, and what they have stored.
async fn call_all(harness: &Harness, own: &str, other: &str, word: &str) -> (Vec<&'static str>, Vec<String>) {
    let mut client = harness.ingest_client();
    let run_id = || "r".to_owned();
    let request = pb::PublishRequest {
        run_id: run_id(),
        batch: batch(&format!("publish {word}")),
        ..Default::default()
    };
    client.publish(of(own, request)).await.unwrap();
    let open = pb::StreamOpen { run_id: run_id(), producer_id: vec![3; 16].into(), ..Default::default() };
    let sent = pb::StreamBatch { sequence: 1, batch: batch(&format!("stream {word}")), ..Default::default() };
    let messages = [stream_request::Message::Open(open), stream_request::Message::Batch(sent)];
    let messages = messages.map(|message| pb::StreamRequest { message: Some(message) });
    let mut answers = client.stream(of(own, futures::stream::iter(messages))).await.unwrap().into_inner();
    let mut acknowledged = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        acknowledged = answer.sequence;
    }
    assert_eq!(acknowledged, 1);

    client.admit(of(own, pb::AdmitRequest { run_id: run_id() })).await.unwrap();

    let artifact_path = format!("presigned-{word}");
    let request = pb::PresignRequest { run_id: run_id(), artifact_path, ..Default::default() };
    let presigned = client.presign(of(own, request)).await.unwrap().into_inner();
    let elsewhere = BlobKey::in_project(other, &presigned.key).unwrap();
    let refused = send(harness, elsewhere, &presigned.upload_url, word).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "the URL is for its project only");
    let key = BlobKey::in_project(own, &presigned.key).unwrap();
    send(harness, key.clone(), &presigned.upload_url, word).await.unwrap();
    let mut stored = vec![key.to_string()];

    let artifact_path = format!("stored-{word}");
    let size = Some(word.len() as u64);
    let open = pb::StoreOpen { run_id: run_id(), artifact_path, size, ..Default::default() };
    let messages =
        [store_request::Message::Open(open), store_request::Message::Chunk(word.to_owned().into())];
    let messages = messages.map(|message| pb::StoreRequest { message: Some(message) });
    let answer = client.store(of(own, futures::stream::iter(messages))).await.unwrap().into_inner();
    stored.push(BlobKey::in_project(own, &answer.key).unwrap().to_string());

    stored.extend(upload_in_parts(harness, own, other, word).await);
    let called = vec![
        "Admit",
        "Publish",
        "Stream",
        "Presign",
        "Upload",
        "Store",
        "BeginUpload",
        "PresignPart",
        "CompleteUpload",
        "AbortUpload",
    ];
    (called, stored)
}

/// Completes an upload in parts to a project, and aborts another one. Returns the keys of what was stored.
async fn upload_in_parts(harness: &Harness, own: &str, other: &str, word: &str) -> Vec<String> {
    let mut client = harness.ingest_client();
    let mut stored = Vec::new();
    for is_completed in [true, false] {
        let artifact_path = format!("parts-{word}-{is_completed}");
        let size = word.len() as u64;
        let run_id = "r".to_owned();
        let content_type = String::new();
        let begin = pb::BeginUploadRequest {
            run_id: run_id.clone(),
            artifact_path,
            content_type,
            size,
            ..Default::default()
        };
        let begun = client.begin_upload(of(own, begin.clone())).await.unwrap().into_inner();
        let pb::BeginUploadRequest { artifact_path, content_type, .. } = begin;
        let upload = Some(pb::PartedUpload {
            upload_id: begun.upload_id,
            run_id,
            artifact_path,
            content_type,
            size,
            ..Default::default()
        });
        let part = pb::PresignPartRequest { upload: upload.clone(), part_number: 1 };
        let part = client.presign_part(of(own, part)).await.unwrap().into_inner();
        let key = BlobKey::in_project(own, &begun.key).unwrap();
        let etag = send(harness, key.clone(), &part.upload_url, word).await.unwrap().etag;
        let complete = pb::CompleteUploadRequest { upload: upload.clone(), etags: vec![etag] };
        // The other project does not have the parts.
        let without_parts = client.complete_upload(of(other, complete.clone())).await.unwrap_err();
        assert_eq!(without_parts.code(), Code::Aborted);
        if is_completed {
            client.complete_upload(of(own, complete)).await.unwrap();
            stored.push(key.to_string());
        } else {
            client.abort_upload(of(own, pb::AbortUploadRequest { upload })).await.unwrap();
            assert_eq!(client.complete_upload(of(own, complete)).await.unwrap_err().code(), Code::NotFound);
        }
    }
    stored
}

#[tokio::test]
async fn rule_49_no_ingest_rpc_writes_to_another_project() {
    let mut harness = Harness::new().await;
    for project in PROJECTS {
        fill(&harness, project).await;
    }
    let pool = DescriptorPool::decode(matyan_proto::DESCRIPTORS).unwrap();
    let service = pool.get_service_by_name("matyan.ingest.v1.IngestService").unwrap();
    let all: BTreeSet<String> = service.methods().map(|method| method.name().to_owned()).collect();
    for (own, other, word) in [(PROJECTS[0], PROJECTS[1], "first"), (PROJECTS[1], PROJECTS[0], "second")] {
        // Nothing is left to be done in the background.
        harness.stop_workers().await;
        let before = content(&harness, other).await;
        harness.start_workers().await;
        let (called, stored) = call_all(&harness, own, other, word).await;
        assert_eq!(called.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), all, "call the new rpcs");
        harness.applied().await;
        harness.stop_workers().await;
        let changed = content(&harness, other).await.changed_since(&before);
        assert!(changed.is_empty(), "{changed:?} by calls in `{own}`");
        let written = content(&harness, own).await;
        // The params of the stream replace the params of the other call, which `Publish` wrote before.
        assert!(written.contains(&format!("stream {word}")), "{own}");
        for key in stored {
            assert!(written.blobs.contains_key(&key), "{key}: {:?}", written.blobs.keys());
        }
        harness.start_workers().await;
    }
    harness.end().await;
}

/// Logs one item of every kind, and deletes a series, a tag, an experiment and a run.
async fn log_everything(harness: &Harness, side: &Side) {
    let Side { project, canary, ids, .. } = side;
    let value = encoded(r#"{"data":"x"}"#);
    let object =
        pb::LogObject { name: "m".into(), dtype: "text".into(), step: Some(1), value, ..Default::default() };
    let events = [
        create(),
        params(r#"{"new":1}"#),
        tag("new tag"),
        experiment("new experiment"),
        line(1, "x"),
        Kind::LogRecord(pb::LogRecord { message: "x".into(), ..Default::default() }),
        Kind::BlobRef(pb::BlobRef { path: "b.txt".into(), key: "r/a.txt".into(), ..Default::default() }),
        Kind::LogObject(object),
        finish(),
    ];
    for run in ["r", "new"] {
        harness.log_in(project, run, events.clone()).await;
        harness.log_points_in(project, run, &[("m", "", &[5.0; 300]), ("new", "", &[1.0])]).await;
    }
    harness.applied().await;
    let request = series::DeleteRequest {
        run_id: "r".into(),
        r#type: SeriesType::Metric.into(),
        key: Some(SeriesKey { name: "m".into(), ..Default::default() }),
        ..Default::default()
    };
    SeriesServiceClient::new(harness.routes()).delete(of(project, request)).await.unwrap();
    let id = ids["tags.v1.TagService"].clone();
    TagServiceClient::new(harness.routes()).delete(of(project, tags::DeleteRequest { id })).await.unwrap();
    let id = ids["experiments.v1.ExperimentService"].clone();
    let request = of(project, experiments::DeleteRequest { id });
    ExperimentServiceClient::new(harness.routes()).delete(request).await.unwrap();
    let request = of(project, runs::DeleteRequest { run_id: canary.clone() });
    RunServiceClient::new(harness.routes()).delete(request).await.unwrap();
    harness.applied().await;
}

#[tokio::test]
async fn rule_49_workers_touch_only_the_project_of_a_record() {
    for (own, other) in [(0, 1), (1, 0)] {
        let mut harness = Harness::new().await;
        let sides = [fill(&harness, PROJECTS[0]).await, fill(&harness, PROJECTS[1]).await];
        let own = &sides[own];
        let other = &sides[other];
        // Nothing is left to be done in the background.
        harness.stop_workers().await;
        let before = content(&harness, other.project).await;
        let elsewhere = number(&harness, other.project).await;
        harness.worker_fence.forbid(vec![project_rows(elsewhere)]);
        // Jobs go through all projects.
        harness.start_ingestion().await;
        log_everything(&harness, own).await;
        harness.stop_workers().await;
        let touched = harness.worker_fence.take_touched();
        harness.worker_fence.forbid(Vec::new());
        assert!(touched.is_empty(), "{} {touched:?}", own.project);
        let changed = content(&harness, other.project).await.changed_since(&before);
        assert!(changed.is_empty(), "{changed:?} by records of `{}`", own.project);
        assert!(content(&harness, own.project).await.contains("new experiment"));
        harness.end().await;
    }
}

/// Sweeps go through all projects. Here, only one of them has something to sweep.
#[tokio::test]
async fn rule_49_sweeps_change_only_the_project_with_dead_rows() {
    let mut harness = Harness::new().await;
    let sides = [fill(&harness, PROJECTS[0]).await, fill(&harness, PROJECTS[1]).await];
    for (own, other) in [(&sides[0], &sides[1]), (&sides[1], &sides[0])] {
        log_everything(&harness, own).await;
        harness.put_blob(&BlobKey::in_project(own.project, "r/orphan").unwrap().to_string(), b"x").await;
        harness.stop_workers().await;
        let before = content(&harness, other.project).await;
        let own_before = content(&harness, own.project).await;
        assert!(own_before.contains(&own.ids["tags.v1.TagService"]), "links of a deleted tag");
        let deps = harness.maintenance();
        let stop = CancellationToken::new();
        sweep_dead_runs(deps, &stop).await.unwrap();
        sweep_dead_entities(deps, &stop).await.unwrap();
        sweep_dead_studies(deps, &stop).await.unwrap();
        clear_garbage(deps).await.unwrap();
        trim_changes(deps).await.unwrap();
        let projects: Vec<NamedProject> =
            projects_list(harness.store.snapshot().await.unwrap().as_ref()).await.unwrap();
        let mut orphans = OrphanedBlobs::new(deps, projects).await.unwrap();
        while orphans.next_page(None, &mut |_| {}).await.unwrap().is_some() {}
        let changed = content(&harness, other.project).await.changed_since(&before);
        assert!(changed.is_empty(), "{changed:?} by sweeps for `{}`", own.project);
        let swept = content(&harness, own.project).await;
        assert!(!swept.contains(&own.ids["tags.v1.TagService"]), "the links are swept");
        assert!(swept.rows.len() < own_before.rows.len());
        harness.start_workers().await;
    }
    harness.end().await;
}
