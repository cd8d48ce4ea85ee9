//! Tests of rules 39 and 40: a run that is stuck, slow, or damaged delays no other.

use std::sync::Arc;

use matyan_blob::{BlobKey, BlobMeta, Blobs, Content, Error, Listing, PresignedUpload};
use matyan_model::{keys::Counter, project::project_count};

use super::harness::{P, TestEnv, TestRecord, record};
use crate::{IngestSettings, apply::PayloadUploads, job_scheduler};

/// Behavior of a blob store for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Works,
    Forbidden,
    Hangs,
    BadRequest,
}

/// A blob store that answers uploads as its plan says; the plan may be changed.
struct PlannedBlobs {
    inner: Arc<dyn Blobs>,
    plan: std::sync::Mutex<fn(&BlobKey) -> Answer>,
}

impl PlannedBlobs {
    fn set(&self, plan: fn(&BlobKey) -> Answer) {
        *self.plan.lock().unwrap() = plan;
    }
}

#[async_trait::async_trait]
impl Blobs for PlannedBlobs {
    async fn presign(&self, key: &BlobKey, content_type: &str) -> matyan_blob::Result<PresignedUpload> {
        self.inner.presign(key, content_type).await
    }

    async fn put(
        &self,
        key: &BlobKey,
        content_type: &str,
        size: Option<u64>,
        content: Content,
    ) -> matyan_blob::Result<u64> {
        let answer = (*self.plan.lock().unwrap())(key);
        match answer {
            Answer::Works => self.inner.put(key, content_type, size, content).await,
            Answer::Forbidden => Err(Error::Setup { reason: "403 AccessDenied".into() }),
            Answer::Hangs => std::future::pending().await,
            Answer::BadRequest => Err(Error::Rejected { reason: "400 KeyTooLongError".into() }),
        }
    }

    async fn read(
        &self,
        key: &BlobKey,
        range: Option<std::ops::Range<u64>>,
    ) -> matyan_blob::Result<Option<(BlobMeta, Content)>> {
        self.inner.read(key, range).await
    }

    async fn describe(&self, key: &BlobKey) -> matyan_blob::Result<Option<BlobMeta>> {
        self.inner.describe(key).await
    }

    async fn delete(&self, keys: &[BlobKey]) -> matyan_blob::Result<Vec<(BlobKey, Error)>> {
        self.inner.delete(keys).await
    }

    async fn list(&self, folder: &str, after: Option<&BlobKey>) -> matyan_blob::Result<Listing> {
        self.inner.list(folder, after).await
    }
}

/// Replaces the blob store of the workers.
fn plan_blobs(env: &mut TestEnv, plan: fn(&BlobKey) -> Answer) -> Arc<PlannedBlobs> {
    let inner = env.deps.blobs.clone();
    let blobs = Arc::new(PlannedBlobs { inner, plan: std::sync::Mutex::new(plan) });
    env.deps.blobs = blobs.clone();
    blobs
}

async fn pending_bytes(env: &TestEnv) -> i64 {
    project_count(&*env.store().snapshot().await.unwrap(), P, Counter::PendingBytes).await.unwrap()
}

/// A text that is too large for a row.
fn large(at: usize) -> String {
    format!("{at} {}", "x".repeat(100_000))
}

fn figure(run: &str, at: usize) -> TestRecord {
    record(0).run(run).object("figure", Some(at as i64), &large(at))
}

async fn upload_payloads(env: &TestEnv) -> Result<(), crate::Error> {
    job_scheduler::upload_payloads(&env.deps, &env.metrics.blobs).await
}

/// Six MiB of stuck payloads in a window of two, and records of other runs among them.
async fn delays_no_run(plan: fn(&BlobKey) -> Answer) {
    let mut env = TestEnv::new().await;
    let blobs = plan_blobs(&mut env, plan);
    let worker = env.work_with(IngestSettings { window_bytes: 2 << 20, ..super::ingest::settings() }).await;
    let runs = ["a", "b", "c"];
    for at in 0..20 {
        let points = |run: &&str| {
            let first = record(0).run(run).sent(1, at as u64 + 1, 0);
            let first = if at == 0 { first.define(0, &["loss"]) } else { first };
            first.points(0, &[(Some(at as i64), 1.0)]).object("figure", Some(at as i64), &large(at))
        };
        env.append(runs.iter().map(points)).await;
    }
    env.append([record(0).run("scalars").line(0, "good")]).await;
    env.applied(0, 60).await;
    assert_eq!(env.read_run("scalars").await.unwrap().lines.len(), 1);
    assert_eq!((env.parked().await.len(), pending_bytes(&env).await > 6_000_000), (0, true));
    let check = async || {
        for run in runs {
            let read = env.read_run(run).await.unwrap();
            assert_eq!((read.metrics[0].1.steps.len(), read.objects[0].1.len()), (20, 20));
            let value = env.value(&read.objects[0].1[7]).await;
            assert_eq!(value.as_map().unwrap()["data"], matyan_value::Value::Text(large(7)));
        }
    };
    check().await;
    blobs.set(|_| Answer::Works);
    upload_payloads(&env).await.unwrap();
    assert_eq!(pending_bytes(&env).await, 0);
    check().await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn rule_39_a_blob_store_that_refuses_everything_delays_no_run() {
    delays_no_run(|_| Answer::Forbidden).await;
}

#[tokio::test]
async fn rule_39_a_blob_store_that_hangs_delays_no_run() {
    delays_no_run(|_| Answer::Hangs).await;
}

#[tokio::test]
async fn rule_39_what_the_blob_store_rejects_is_parked_alone() {
    let mut env = TestEnv::new().await;
    plan_blobs(
        &mut env,
        |key| if key.as_str().starts_with("bad/") { Answer::BadRequest } else { Answer::Works },
    );
    let worker = env.work().await;
    env.append([figure("good", 0), figure("bad", 0), figure("good", 1)]).await;
    env.append([record(0).run("bad").line(0, "good")]).await;
    env.applied(0, 3).await;
    assert_eq!(env.read_run("good").await.unwrap().objects[0].1.len(), 2);
    assert_eq!(env.read_run("bad").await.unwrap().lines.len(), 1);
    let parked = env.parked().await;
    assert!(parked[0].reason.contains("400 KeyTooLongError"), "{}", parked[0].reason);
    assert_eq!((parked.len(), parked[0].item.len() > 100_000, pending_bytes(&env).await), (1, true, 0));
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn rule_39_pending_payloads_are_bounded() {
    let mut env = TestEnv::new().await;
    plan_blobs(&mut env, |_| Answer::Forbidden);
    env.uploads = Arc::new(PayloadUploads::new(250_000));
    let mut parked = Vec::new();
    for at in 0..3 {
        let figure = TestRecord { offset: at, ..figure("r", at as usize) };
        parked.push(env.apply(vec![figure]).await.parked);
    }
    assert_eq!(parked, [0, 0, 1]);
    let reason = &env.parked().await[0].reason;
    assert!(reason.contains("would exceed 250000 bytes"), "{reason}");
    assert_eq!(env.read().await.unwrap().objects[0].1.len(), 2);
}

/// Refused later than it was applied, so that its object exists.
#[tokio::test]
async fn rule_39_a_pending_payload_that_is_rejected_stays_readable() {
    let mut env = TestEnv::new().await;
    let blobs = plan_blobs(&mut env, |_| Answer::Forbidden);
    env.apply(vec![figure("r", 0)]).await;
    assert!(upload_payloads(&env).await.is_err());
    blobs.set(|_| Answer::BadRequest);
    for _ in 0..2 {
        upload_payloads(&env).await.unwrap();
        let parked = env.parked().await;
        assert!(parked.len() == 1 && parked[0].reason.contains("400 KeyTooLongError"), "{parked:?}");
    }
    let object = &env.read().await.unwrap().objects[0].1[0];
    let value = env.value(object).await;
    assert_eq!(value.as_map().unwrap()["data"], matyan_value::Value::Text(large(0)));
}

#[tokio::test]
async fn rule_39_pending_payloads_of_a_deleted_run_are_dropped() {
    let mut env = TestEnv::new().await;
    let blobs = plan_blobs(&mut env, |_| Answer::Forbidden);
    let delete = TestRecord { offset: 1, ..record(1).delete() };
    env.apply(vec![figure("r", 0), delete]).await;
    assert!(pending_bytes(&env).await > 0);
    blobs.set(|_| panic!("nothing is uploaded"));
    upload_payloads(&env).await.unwrap();
    assert_eq!(pending_bytes(&env).await, 0);
}

#[tokio::test]
async fn rule_39_equal_payloads_wait_once() {
    let mut env = TestEnv::new().await;
    plan_blobs(&mut env, |_| Answer::Forbidden);
    let same = (0..12).fold(record(0), |same, step| same.object("o", Some(step), &large(0)));
    env.apply(vec![same]).await;
    assert_eq!(env.read().await.unwrap().objects[0].1.len(), 12);
    assert!(pending_bytes(&env).await < 200_000);
}
