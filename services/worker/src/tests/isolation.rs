//! Tests of rules 39 and 40: a run that is stuck, slow, or damaged delays no other.

use std::sync::Arc;

use matyan_blob::{BlobKey, BlobMeta, Blobs, Content, Error, Listing, PresignedUpload};
use matyan_maintenance::PendingUploads;
use matyan_model::{
    ids::RunId,
    keys::{self, Counter},
    project::project_count,
};
use matyan_store::{Batch, Commit, Key, Mutation, Snapshot, Store, Value};

use super::harness::{P, TestEnv, TestRecord, record};
use crate::{IngestSettings, apply::PayloadUploads, job_scheduler};

/// Behavior of a blob store for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Works,
    Forbidden,
    Hangs,
    BadRequest,
    /// An answer that may be about the whole bucket.
    Doubtful,
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
    async fn presign(
        &self,
        key: &BlobKey,
        content_type: &str,
        size: Option<u64>,
    ) -> matyan_blob::Result<PresignedUpload> {
        self.inner.presign(key, content_type, size).await
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
            Answer::Doubtful => Err(Error::doubtful("400")),
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
    upload_round(env, &tokio::sync::Mutex::default()).await
}

async fn upload_round(
    env: &TestEnv,
    uploads: &tokio::sync::Mutex<PendingUploads>,
) -> Result<(), crate::Error> {
    job_scheduler::upload_payloads(&env.deps, &env.metrics.blobs, uploads).await
}

/// Applies figures whose payloads wait in the store.
async fn apply_figures(env: &TestEnv, run: &str, count: usize) {
    let figures = (0..count).map(|at| TestRecord { offset: at as u64, ..figure(run, at) });
    env.apply_with(&mut env.writer(run), figures.collect()).await;
}

#[tokio::test]
async fn rule_39_payloads_that_always_fail_stop_no_others() {
    let mut env = TestEnv::new().await;
    let blobs = plan_blobs(&mut env, |_| Answer::Forbidden);
    apply_figures(&env, "bad", 40).await;
    let of_bad = pending_bytes(&env).await;
    apply_figures(&env, "good", 10).await;
    blobs.set(|key| if key.as_str().starts_with("bad/") { Answer::Forbidden } else { Answer::Works });
    let uploads = tokio::sync::Mutex::default();
    for _ in 0..6 {
        drop(upload_round(&env, &uploads).await);
    }
    assert_eq!(pending_bytes(&env).await, of_bad);
    blobs.set(|_| Answer::Works);
    for _ in 0..2 {
        upload_round(&env, &uploads).await.unwrap();
    }
    assert_eq!(pending_bytes(&env).await, 0);
}

#[tokio::test]
async fn rule_39_a_refusal_that_may_be_of_the_bucket_is_final_once_others_are_stored() {
    let mut env = TestEnv::new().await;
    let blobs = plan_blobs(&mut env, |_| Answer::Doubtful);
    apply_figures(&env, "bad", 1).await;
    upload_payloads(&env).await.unwrap_err();
    assert!(env.parked().await.is_empty() && pending_bytes(&env).await > 0);
    apply_figures(&env, "good", 1).await;
    upload_payloads(&env).await.unwrap_err();
    blobs.set(|key| if key.as_str().starts_with("bad/") { Answer::Doubtful } else { Answer::Works });
    upload_payloads(&env).await.unwrap();
    let parked = env.parked().await;
    assert!(parked.len() == 1 && parked[0].run_id.as_str() == "bad", "{parked:?}");
    assert_eq!(pending_bytes(&env).await, 0);
}

#[tokio::test]
async fn rule_39_refused_payloads_use_up_no_share_and_end_with_their_run() {
    let mut env = TestEnv::new().await;
    let blobs = plan_blobs(&mut env, |_| Answer::Forbidden);
    env.uploads = Arc::new(PayloadUploads::new(150_000));
    apply_figures(&env, "r", 1).await;
    blobs.set(|_| Answer::BadRequest);
    upload_payloads(&env).await.unwrap();
    let refused_bytes = async |env: &TestEnv| {
        let snapshot = env.store().snapshot().await.unwrap();
        project_count(&*snapshot, P, Counter::RefusedBytes).await.unwrap()
    };
    assert!(pending_bytes(&env).await == 0 && refused_bytes(&env).await > 100_000);
    blobs.set(|_| Answer::Forbidden);
    let figure = |offset: u64| TestRecord { offset, ..figure("r", offset as usize) };
    env.uploads = Arc::new(PayloadUploads::new(150_000));
    assert_eq!(env.apply(vec![figure(1)]).await.parked, 0, "the share is free");
    env.apply(vec![TestRecord { offset: 2, ..record(2).delete() }]).await;
    upload_payloads(&env).await.unwrap();
    assert_eq!((pending_bytes(&env).await, refused_bytes(&env).await), (0, 0));
    let rows = keys::pending_payloads(P);
    let snapshot = env.store().snapshot().await.unwrap();
    assert!(snapshot.scan(&rows, Default::default()).await.unwrap().rows.is_empty());
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
    // After a slow upload, as on a busy machine, the blob store would not be asked about the bad one.
    env.append([figure("bad", 0)]).await;
    env.applied(0, 0).await;
    env.append([figure("good", 0), figure("good", 1)]).await;
    env.append([record(0).run("bad").line(0, "good")]).await;
    env.applied(0, 3).await;
    while pending_bytes(&env).await > 0 {
        upload_payloads(&env).await.unwrap();
    }
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

/// A store that commits for one run only as often as it is permitted to.
struct HeldStore {
    inner: Arc<dyn Store>,
    cursor: Key,
    permits: tokio::sync::Semaphore,
}

impl HeldStore {
    /// Holds the commits of a run from now on.
    fn hold(env: &mut TestEnv, run: &str) -> Arc<Self> {
        let inner = env.deps.store.clone();
        let cursor = keys::cursor(P, &RunId::new(run));
        let held = Arc::new(Self { inner, cursor, permits: tokio::sync::Semaphore::new(0) });
        env.deps.store = held.clone();
        held
    }

    /// Lets all commits through.
    fn release(&self) {
        self.permits.close();
    }
}

#[async_trait::async_trait]
impl Store for HeldStore {
    async fn snapshot(&self) -> matyan_store::Result<Box<dyn Snapshot>> {
        self.inner.snapshot().await
    }

    async fn commit(&self, batch: Batch) -> matyan_store::Result<Commit> {
        let mut mutations = batch.mutations.iter();
        let is_held =
            mutations.any(|mutation| matches!(mutation, Mutation::Set { key, .. } if *key == self.cursor));
        if is_held && let Ok(permit) = self.permits.acquire().await {
            permit.forget();
        }
        self.inner.commit(batch).await
    }

    async fn sync(&self) -> matyan_store::Result<()> {
        self.inner.sync().await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> matyan_store::Result<()> {
        self.inner.changed(key, seen).await
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.inner.clears_ranges_at_once()
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }
}

/// A run that writes more than can be applied, and others, whose records are in between.
#[tokio::test]
async fn rule_40_a_flooding_run_is_overtaken_and_nothing_is_lost() {
    let mut env = TestEnv::new().await;
    let flooded = HeldStore::hold(&mut env, "flood");
    // Ten MiB in a window of one.
    let flood = |at: u64| {
        let lines = (0..10).map(|line| (at as i64 * 10 + line, "x".repeat(10_000)));
        lines.fold(record(0).run("flood").sent(1, at + 1, 0), |record, (step, line)| record.line(step, &line))
    };
    for at in 0..100 {
        env.append([flood(at), record(0).run(&format!("small-{}", at % 7)).line(at as i64, "good")]).await;
    }
    let worker = env.work_with(IngestSettings { window_bytes: 1 << 20, ..super::ingest::settings() }).await;
    let count = async |run: &str| env.read_run(run).await.map_or(0, |run| run.lines.len());
    let small = (0..7_usize).map(|run| (format!("small-{run}"), (0..100).filter(|at| at % 7 == run).count()));
    flooded.permits.add_permits(3);
    for (run, lines) in small {
        super::eventually(&run, async || count(&run).await == lines).await;
    }
    super::eventually("some of the flood", async || count("flood").await > 0).await;
    assert!(count("flood").await < 1_000, "the others have overtaken it");
    flooded.release();
    env.applied(0, 199).await;
    let read = env.read_run("flood").await.unwrap();
    let steps: Vec<i64> = read.lines.iter().map(|line| line.number).collect();
    assert_eq!(steps, (0..1_000).collect::<Vec<_>>());
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn rule_40_a_stuck_run_with_more_than_a_window_delays_no_run() {
    let mut env = TestEnv::new().await;
    let stuck = HeldStore::hold(&mut env, "stuck");
    let worker = env.work_with(IngestSettings { window_bytes: 1 << 20, ..super::ingest::settings() }).await;
    for at in 0..60 {
        env.append([record(0).run("stuck").line(at, &"x".repeat(60_000))]).await;
    }
    env.append([record(0).run("other").line(0, "good")]).await;
    super::eventually("the other run", || async { env.read_run("other").await.is_some() }).await;
    assert!(env.read_run("stuck").await.is_none());
    stuck.release();
    env.applied(0, 60).await;
    let lines = env.read_run("stuck").await.unwrap().lines;
    assert_eq!(lines.iter().map(|line| line.number).collect::<Vec<_>>(), (0..60).collect::<Vec<_>>());
    worker.stop().await.unwrap();
}

/// A branch must not miss series of its parent, but does not depend on the records of other runs.
#[tokio::test]
async fn rule_40_a_branch_waits_for_its_parent_and_for_no_other_run() {
    let mut env = TestEnv::new().await;
    let stuck = HeldStore::hold(&mut env, "stuck");
    let worker = env.work().await;
    let points = |run| record(0).run(run).create().define(0, &["a"]).points(0, &[(Some(0), 1.0)]);
    env.append([points("stuck"), points("p")]).await;
    env.append([record(0).run("of-stuck").branch("stuck", None), record(0).branch("p", None)]).await;
    super::eventually("the branch", || async { env.read().await.is_some() }).await;
    assert_eq!(env.points("a").await.len(), 1);
    assert!(env.read_run("of-stuck").await.is_none(), "it waits for its parent");
    stuck.release();
    env.applied(0, 3).await;
    assert_eq!(env.read_run("of-stuck").await.unwrap().metrics.len(), 1);
    worker.stop().await.unwrap();
}
