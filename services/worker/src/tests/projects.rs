//! Tests of projects: each record is applied to its own, and nothing of a deleted project remains.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use matyan_blob::layers::{BlobCall, BlobFault, FaultyBlobs};
use matyan_maintenance::deleted_run_number;
use matyan_model::{
    ids::{Job, NamedProject, Project, RunId},
    keys,
    lock::{job_success_put, jobs_list},
    parked::parked_list,
    project::{Creation, ProjectInfo, ProjectState, project_create, project_delete, project_get},
    run::run_find,
};
use matyan_proto::ingest::v1::{self as pb, event::Kind};
use matyan_store::{
    Batch, Commit, Key, Scan, Snapshot, Store, Transaction, Value, layers::FenceStore, transact,
};
use matyan_wire::control::DeletedRun;
use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use super::harness::{P, TestEnv, TestRecord, record};
use crate::{Deps, Error, Metrics, control, job_scheduler};

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 24 * 3_600 * SECOND_US;

impl TestEnv {
    /// Creates a project and returns its number.
    pub(super) async fn create_project(&self, name: &str) -> Project {
        let info = ProjectInfo::default();
        let step = async |mut transaction: Transaction| {
            let created = project_create(&mut transaction, name, &info, 1, 100).await?;
            Ok::<_, Error>((transaction, created))
        };
        match transact(self.store(), step).await.unwrap().0 {
            Creation::Created(created) => created.project.number,
            other => panic!("{other:?}"),
        }
    }

    async fn delete_project(&self, name: &str) {
        let now_us = self.deps.now_us();
        let step = async |mut transaction: Transaction| {
            let deleted = project_delete(&mut transaction, name, now_us).await?;
            Ok::<_, Error>((transaction, deleted))
        };
        transact(self.store(), step).await.unwrap().0.expect("the project exists");
    }

    async fn sweep_deleted_projects(&self) -> Result<(), Error> {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        job_scheduler::delete_projects(&self.deps, &metrics.blobs, &CancellationToken::new()).await
    }

    async fn project_state(&self, name: &str) -> ProjectState {
        project_get(&*self.store().snapshot().await.unwrap(), name).await.unwrap().unwrap().state
    }

    /// Number of rows of a project, up to a page.
    async fn rows(&self, project: Project) -> usize {
        let snapshot = self.store().snapshot().await.unwrap();
        snapshot.scan(&keys::project_rows(project), Scan::default()).await.unwrap().rows.len()
    }

    /// Reasons of the items that are parked apart from all projects.
    pub(super) async fn parked_of_unknown_projects(&self) -> Vec<String> {
        let unknown = keys::parked(Project::UNKNOWN);
        let snapshot = self.store().snapshot().await.unwrap();
        let (parked, _) = parked_list(&*snapshot, Project::UNKNOWN, &unknown, 9).await.unwrap();
        parked.into_iter().map(|item| item.reason).collect()
    }

    async fn blob_keys(&self) -> Vec<String> {
        let listing = self.blobs().list("", None).await.unwrap();
        listing.blobs.into_iter().map(|(key, _)| key.to_string()).collect()
    }
}

fn of(project: &str, mut record: TestRecord) -> TestRecord {
    record.entry.project = project.to_owned();
    record
}

fn artifact(offset: u64) -> TestRecord {
    let reference = pb::BlobRef { key: "r/a".into(), path: "a".into(), ..pb::BlobRef::default() };
    record(offset).event(Kind::BlobRef(reference))
}

#[tokio::test]
async fn rule_37_projects_are_separate_and_records_of_unknown_projects_are_parked() {
    let env = TestEnv::new().await;
    let other = env.create_project("other").await;
    let worker = env.work().await;
    env.append([of("other", artifact(0)), of("missing", artifact(1)), of("other", artifact(2))]).await;
    env.applied(0, 2).await;
    let snapshot = env.store().snapshot().await.unwrap();
    let found = run_find(&*snapshot, other, &RunId::new("r")).await.unwrap();
    assert_eq!(found.unwrap().1.props.run_id, "r");
    assert_eq!(env.rows(P).await, 0, "nothing is written to the default project");
    assert_eq!(env.parked_of_unknown_projects().await, ["project `missing` does not exist"]);
    worker.stop().await.unwrap();
}

/// Its records are applied from then on, although the worker has just looked for it in vain.
#[tokio::test]
async fn rule_37_a_project_that_did_not_exist_is_created() {
    let env = TestEnv::new().await;
    let worker = env.work().await;
    env.append([of("new", artifact(0)), of("new", artifact(1))]).await;
    env.applied(0, 1).await;
    assert_eq!(env.parked_of_unknown_projects().await, ["project `new` does not exist"; 2]);
    let new = env.create_project("new").await;
    let mut created = of("new", artifact(2));
    created.entry.received_us = env.deps.now_us() + 1;
    env.append([created]).await;
    env.applied(0, 2).await;
    let snapshot = env.store().snapshot().await.unwrap();
    assert!(run_find(&*snapshot, new, &RunId::new("r")).await.unwrap().is_some());
    worker.stop().await.unwrap();
}

/// A store that counts its snapshots.
struct CountingStore {
    inner: Arc<dyn Store>,
    snapshots: AtomicUsize,
}

#[async_trait]
impl Store for CountingStore {
    async fn snapshot(&self) -> matyan_store::Result<Box<dyn Snapshot>> {
        self.snapshots.fetch_add(1, Ordering::Relaxed);
        self.inner.snapshot().await
    }

    async fn commit(&self, batch: Batch) -> matyan_store::Result<Commit> {
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

#[tokio::test]
async fn rule_40_a_deleted_project_is_not_looked_up_for_each_of_its_records() {
    let mut env = TestEnv::new().await;
    env.create_project("gone").await;
    env.delete_project("gone").await;
    env.append((0..5_000).map(|at| of("gone", artifact(at)))).await;
    let store = Arc::new(CountingStore { inner: env.deps.store.clone(), snapshots: AtomicUsize::new(0) });
    env.deps.store = store.clone();
    let worker = env.work().await;
    env.applied(0, 4_999).await;
    let snapshots = store.snapshots.load(Ordering::Relaxed);
    assert!(snapshots < 2_500, "{snapshots} snapshots");
    assert_eq!(worker.metrics.ingestion.skipped.get(), 5_000);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn rule_40_a_damaged_project_stops_no_others() {
    let env = TestEnv::new().await;
    env.create_project("damaged").await;
    let other = env.create_project("other").await;
    let mut batch = Batch::default();
    batch.set(keys::project_by_name("damaged"), vec![0xff, 7]);
    env.store().commit(batch).await.unwrap();
    let worker = env.work().await;
    env.append([of("damaged", artifact(0)), of("other", artifact(1))]).await;
    env.applied(0, 1).await;
    let snapshot = env.store().snapshot().await.unwrap();
    assert!(run_find(&*snapshot, other, &RunId::new("r")).await.unwrap().is_some());
    let parked = env.parked_of_unknown_projects().await;
    assert!(parked.len() == 1 && parked[0].starts_with("project `damaged` is damaged: "), "{parked:?}");
    env.delete_project("other").await;
    env.now_us.fetch_add(DAY_US, Ordering::Relaxed);
    env.sweep_deleted_projects().await.unwrap();
    assert_eq!(env.project_state("other").await, ProjectState::Deleted);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn rule_48_a_deleted_project_leaves_nothing_behind() {
    let env = TestEnv::new().await;
    let gone = env.create_project("gone").await;
    let kept = env.create_project("kept").await;
    let worker = env.work().await;
    env.append([of("gone", artifact(0)), of("kept", artifact(1)), of("", artifact(2))]).await;
    env.applied(0, 2).await;
    worker.stop().await.unwrap();
    for key in [".projects/gone/r/a", ".projects/kept/r/a", ".projects/gone-not/r/a", "r/a"] {
        env.put_blob(key).await;
    }
    let mut batch = matyan_store::Batch::default();
    job_success_put(&mut batch, Job::new("reindex", gone), 1);
    job_success_put(&mut batch, Job::new("reindex", kept), 1);
    env.store().commit(batch).await.unwrap();
    let rows_of_others = [env.rows(kept).await, env.rows(P).await];
    env.delete_project("gone").await;

    // Workers may still consider it active.
    env.sweep_deleted_projects().await.unwrap();
    assert!(env.rows(gone).await > 0);
    assert_eq!(env.project_state("gone").await, ProjectState::Deleting);

    env.now_us.fetch_add(61 * SECOND_US, Ordering::Relaxed);
    env.sweep_deleted_projects().await.unwrap();
    assert_eq!(env.rows(gone).await, 0);
    assert_eq!(env.project_state("gone").await, ProjectState::Deleted);
    let left = [".projects/gone-not/r/a", ".projects/kept/r/a", "r/a"];
    assert_eq!(env.blob_keys().await, left);
    assert_eq!([env.rows(kept).await, env.rows(P).await], rows_of_others);
    let snapshot = env.store().snapshot().await.unwrap();
    let jobs = jobs_list(&*snapshot).await.unwrap();
    assert!(jobs.keys().all(|(project, _)| *project != gone));
    assert!(jobs.contains_key(&(kept, "reindex".to_owned())));
    drop(snapshot);

    // An upload and a transaction that were on their way.
    env.put_blob(".projects/gone/r/late").await;
    let mut batch = matyan_store::Batch::default();
    batch.set(keys::head(gone, &RunId::new("late")), "");
    env.store().commit(batch).await.unwrap();
    env.now_us.fetch_add(8 * DAY_US, Ordering::Relaxed);
    env.sweep_deleted_projects().await.unwrap();
    assert_eq!((env.rows(gone).await, env.blob_keys().await), (0, left.map(str::to_owned).to_vec()));
    assert_eq!(env.project_state("gone").await, ProjectState::Cleared);
}

/// The control worker serves all projects, but an event is about one of them, and so is each deletion.
#[tokio::test]
async fn rule_49_deletions_touch_only_the_project_that_they_are_about() {
    let env = TestEnv::new().await;
    let gone = env.create_project("gone").await;
    let kept = env.create_project("kept").await;
    let worker = env.work().await;
    for project in ["gone", "kept", ""] {
        env.append([of(project, artifact(0)), of(project, record(0).delete())]).await;
    }
    env.applied(0, 5).await;
    worker.stop().await.unwrap();
    let left = [".projects/kept/r/a", "r/a"];
    for key in [".projects/gone/r/a"].iter().chain(&left) {
        env.put_blob(key).await;
    }
    let fence = Arc::new(FenceStore::new(env.deps.store.clone()));
    fence.forbid([kept, P, Project::UNKNOWN].map(keys::project_rows).to_vec());
    let deps = Deps { store: fence.clone(), ..env.deps.clone() };
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let delete_blobs = async |project: &str, number: Project| {
        let deleted = deleted_run_number(env.store(), number, &RunId::new("r")).await.unwrap();
        let run = DeletedRun { run_id: "r".into(), number: Some(deleted.unwrap().0), blob_keys: Vec::new() };
        control::delete_run(&deps, &metrics.blobs, project, &run, &|| {}).await
    };
    delete_blobs("gone", gone).await.unwrap();
    assert_eq!(env.blob_keys().await, left);
    env.put_blob(".projects/gone/r/late").await;
    env.delete_project("gone").await;
    env.now_us.fetch_add(61 * SECOND_US, Ordering::Relaxed);
    job_scheduler::delete_projects(&deps, &metrics.blobs, &CancellationToken::new()).await.unwrap();
    assert_eq!((env.rows(gone).await, env.blob_keys().await), (0, left.map(str::to_owned).to_vec()));
    let touched = fence.take_touched();
    assert!(touched.is_empty(), "{touched:?}");
    delete_blobs("kept", kept).await.unwrap_err();
    assert!(!fence.take_touched().is_empty(), "the fence is in between");
}

#[tokio::test]
async fn records_of_a_deleted_project_are_dropped() {
    let env = TestEnv::new().await;
    let gone = env.create_project("gone").await;
    env.delete_project("gone").await;
    let rows = env.rows(gone).await;
    let worker = env.work().await;
    env.append([of("gone", artifact(0)), of("", artifact(1))]).await;
    env.applied(0, 1).await;
    assert_eq!((env.rows(gone).await, env.rows(Project::UNKNOWN).await), (rows, 0));
    assert!(env.rows(P).await > 0, "the partition continues");
    worker.stop().await.unwrap();
}

/// The rows are gone by then, but the project is deleted only with its blobs.
#[tokio::test]
async fn a_project_whose_blobs_cannot_be_deleted_is_tried_again() {
    let mut env = TestEnv::new().await;
    env.create_project("a").await;
    env.create_project("b").await;
    env.put_blob(".projects/a/r/a").await;
    env.put_blob(".projects/b/r/a").await;
    env.delete_project("a").await;
    env.delete_project("b").await;
    env.now_us.fetch_add(61 * SECOND_US, Ordering::Relaxed);
    let working = env.deps.blobs.clone();
    let lists = AtomicU32::new(0);
    env.deps.blobs = Arc::new(FaultyBlobs::new(working.clone(), move |call| {
        let is_first = call == BlobCall::List && lists.fetch_add(1, Ordering::Relaxed) == 0;
        if is_first { BlobFault::Refuse } else { BlobFault::None }
    }));
    env.sweep_deleted_projects().await.unwrap_err();
    let states = [env.project_state("a").await, env.project_state("b").await];
    assert_eq!(states, [ProjectState::Deleting, ProjectState::Deleted]);
    env.deps.blobs = working;
    env.sweep_deleted_projects().await.unwrap();
    assert_eq!(env.project_state("a").await, ProjectState::Deleted);
    assert!(env.blob_keys().await.is_empty());
    let names = matyan_model::project::projects_list(&*env.store().snapshot().await.unwrap()).await.unwrap();
    assert_eq!(names, [NamedProject::default()]);
}
