//! Operator calls: jobs under locks, parked items, partitions, usage.

use std::sync::Arc;

use futures::FutureExt as _;
use matyan_backend::Backend;
use matyan_log::{LogInspector, LogReader, Topic};
use matyan_model::{
    ids::{Job, Project},
    keys::{self, LogTopic},
    lock::lock_take,
    position::{AppliedPosition, LogState, applied_put, log_put},
};
use matyan_proto::{
    admin::v1::{admin_service_client::AdminServiceClient, *},
    ingest::v1 as pb,
    ingest::v1::event::Kind,
    runs::v1 as runs,
    system::v1::{ReadinessRequest, system_service_client::SystemServiceClient},
};
use matyan_store::{Batch, Store, Transaction};
use matyan_wire::headers::KNOWN_PROJECTS;
use tonic::{Code, Request, service::Routes};

use crate::backend::harness::{Harness, all, create, experiment, tag, undecodable, wrong_field};

type Client = AdminServiceClient<Routes>;

#[tokio::test]
async fn stale_runs_are_finished() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    harness.create(&["old"]).await;
    harness.advance_clock(3_600);
    harness.create(&["new"]).await;
    let request = |dry_run| FinishStaleRequest { idle_s: 600, dry_run };
    let ids = |responses: Vec<FinishStaleResponse>| {
        responses.into_iter().flat_map(|it| it.run_ids).collect::<Vec<_>>()
    };
    assert_eq!(ids(all(client.finish_stale(request(true)).await.unwrap()).await), ["old"]);
    let jobs = client.list_jobs(ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    assert!(jobs.iter().all(|job| job.last_success_us.is_none()), "a dry run is not a success");
    assert_eq!(ids(all(client.finish_stale(request(false)).await.unwrap()).await), ["old"]);
    assert!(ids(all(client.finish_stale(request(false)).await.unwrap()).await).is_empty());
    let mut of_runs = runs::run_service_client::RunServiceClient::new(harness.routes());
    let parts = Some(runs::RunParts { props: true, ..Default::default() });
    let get = runs::GetRequest { run_id: "old".into(), parts };
    let props = of_runs.get(get).await.unwrap().into_inner().run.unwrap().props.unwrap();
    assert!(
        !props.active && props.ended_us.unwrap() < harness.now_us() - 3_000_000_000,
        "the run ended when it last sent data"
    );
    wrong_field(client.finish_stale(FinishStaleRequest::default()).await, "idle_s");
    let jobs = client.list_jobs(ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    let job = jobs.iter().find(|job| job.name == "finish-stale").unwrap();
    assert!(job.holder.is_empty() && job.last_success_us.is_some());
    harness.end().await;
}

#[tokio::test]
async fn a_job_that_is_already_running_is_busy() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let take = async |now_us: i64| {
        let mut transaction = Transaction::new(harness.store.snapshot().await.unwrap());
        lock_take(&mut transaction, Job::new("reindex", Project(0)), [9; 16], now_us, 0)
            .await
            .unwrap()
            .unwrap();
        harness.store.commit(transaction.into_batch()).await.unwrap();
    };
    take(harness.now_us()).await;
    let mut stream = client.reindex(ReindexRequest { dry_run: true }).await.unwrap().into_inner();
    let busy = stream.message().await.unwrap_err();
    assert_eq!(busy.code(), Code::FailedPrecondition);
    let mut project =
        matyan_proto::project::v1::project_service_client::ProjectServiceClient::new(harness.routes());
    let status = project.status(matyan_proto::project::v1::StatusRequest {}).await.unwrap().into_inner();
    assert!(!status.up_to_date, "indexes are being rebuilt");
    let jobs = client.list_jobs(ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!(jobs[0].holder, "09".repeat(16));
    // Other projects have their own jobs.
    harness.create_project("other").await;
    let dry = ReindexRequest { dry_run: false };
    all(client.reindex(crate::backend::projects::of("other", dry)).await.unwrap()).await;
    let jobs = async |request: Request<ListJobsRequest>| {
        Client::new(harness.routes()).list_jobs(request).await.unwrap().into_inner().jobs
    };
    let named = |jobs: Vec<_>| {
        let named = |job: matyan_proto::admin::v1::Job| (job.project, job.name, job.holder.is_empty());
        jobs.into_iter().map(named).collect::<Vec<_>>()
    };
    let own = (String::new(), "reindex".to_owned(), false);
    let others = ("other".to_owned(), "reindex".to_owned(), true);
    assert_eq!(named(jobs(Request::new(ListJobsRequest::default())).await), std::slice::from_ref(&own));
    let of_other = crate::backend::projects::of("other", ListJobsRequest::default());
    assert_eq!(named(jobs(of_other).await), std::slice::from_ref(&others));
    let every = ListJobsRequest { all_projects: true };
    assert_eq!(named(jobs(Request::new(every)).await), [own, others]);
    harness.advance_clock(3_600);
    all(client.reindex(ReindexRequest { dry_run: true }).await.unwrap()).await;
    harness.end().await;
}

#[tokio::test]
async fn reindex_repairs_indexes() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    harness.log("r", [create(), tag("t"), experiment("e")]).await;
    harness.log_points("r", &[("loss", "", &[1.0])]).await;
    harness.applied().await;
    let reindex = async |dry_run| {
        let responses =
            all(Client::new(harness.routes()).reindex(ReindexRequest { dry_run }).await.unwrap()).await;
        responses.last().unwrap().rows
    };
    assert_eq!(reindex(false).await, 0, "indexes are correct");
    let snapshot = harness.store.snapshot().await.unwrap();
    let before = snapshot.scan(&keys::indexes(Project(0)), Default::default()).await.unwrap().rows;
    let mut batch = Batch::default();
    batch.clear_range(keys::indexes(Project(0)));
    batch.set(keys::index_tag(Project(0), "t", matyan_model::ids::RunNumber(1)), Vec::new());
    // A row of a live run for a value that the run does not have.
    let number = keys::index_run(&before[0].0).unwrap();
    batch.set(keys::index_param(Project(0), &["lr".into()], &[0], number), vec![0]);
    harness.store.commit(batch).await.unwrap();
    let rows = before.len() as u64 + 2;
    assert_eq!(reindex(true).await, rows + 2, "two counts are wrong as well");
    assert!(reindex(false).await >= rows);
    let snapshot = harness.store.snapshot().await.unwrap();
    assert_eq!(snapshot.scan(&keys::indexes(Project(0)), Default::default()).await.unwrap().rows, before);
    assert_eq!(reindex(true).await, 0);
    let partitions = client.list_partitions(ListPartitionsRequest {}).await.unwrap().into_inner().partitions;
    assert!(partitions.iter().all(|one| one.applied == one.end && one.oldest_unapplied_us.is_none()));
    let usage = client.usage(UsageRequest { largest_runs: 5 }).await.unwrap().into_inner();
    let total = usage.total.unwrap();
    assert_eq!((total.runs, total.series, total.points), (1, 1, 1));
    assert_eq!(usage.runs[0].run_id, "r");
    wrong_field(client.usage(UsageRequest { largest_runs: 1_001 }).await, "largest_runs");
    harness.end().await;
}

/// A store whose positions are before the first record of its log, as after workers were down
/// for longer than records are retained.
async fn overtaken() -> Harness {
    let harness = Harness::with_untrimmed_log().await;
    harness.create(&["run"]).await;
    let harness = Harness::with_log_of(harness).await;
    let info = harness.log.describe(Topic::Ingestion).await.unwrap();
    let mut batch = Batch::default();
    let partitions = info.partitions.len() as u32;
    log_put(
        &mut batch,
        LogTopic::Ingestion,
        &LogState { number: 0, identity: Some(info.identity), partitions, ..LogState::default() },
    );
    for (partition, bounds) in (0..).zip(info.partitions) {
        let applied = AppliedPosition { next: bounds.first, ..AppliedPosition::default() };
        applied_put(&mut batch, LogTopic::Ingestion, partition, &applied);
        harness.log.trim(Topic::Ingestion, partition, bounds.end).await.unwrap();
    }
    harness.store.commit(batch).await.unwrap();
    harness
}

/// The log ends before the position up to which it was applied.
#[tokio::test]
async fn rule_43_a_partition_that_lost_its_tail_continues_when_an_operator_decides() {
    let harness = Harness::with_untrimmed_log().await;
    harness.create(&["run"]).await;
    let mut harness = Harness::with_log_of(harness).await;
    let info = harness.log.describe(Topic::Ingestion).await.unwrap();
    let partitions = info.partitions.len() as u32;
    let end = info.partitions[0].end;
    let mut batch = Batch::default();
    let state = LogState { number: 0, identity: Some(info.identity), partitions, ..LogState::default() };
    log_put(&mut batch, LogTopic::Ingestion, &state);
    let applied = AppliedPosition { next: end + 3, identity: state.identity, ..AppliedPosition::default() };
    applied_put(&mut batch, LogTopic::Ingestion, 0, &applied);
    harness.store.commit(batch).await.unwrap();

    let mut client = Client::new(harness.routes());
    let listed = client.list_partitions(ListPartitionsRequest {}).await.unwrap().into_inner().partitions;
    assert_eq!((listed[0].log, listed[0].shortened_to), (0, Some(end)));
    for lost in [3, 0] {
        let skipped = client.skip_lost_records(SkipLostRecordsRequest { partition: 0 }).await;
        assert_eq!(skipped.unwrap().into_inner().records, lost);
    }
    let listed = client.list_partitions(ListPartitionsRequest {}).await.unwrap().into_inner().partitions;
    assert_eq!((listed[0].log, listed[0].applied, listed[0].shortened_to), (1, end, None));
    assert!(listed[1..].iter().all(|other| other.log == 0), "they keep their number");
    harness.start_workers().await;
    // The offsets of these records were applied before; `create` returns once they are.
    harness.create(&["another"]).await;
    harness.end().await;
}

/// Retention has deleted records before the lost tail that were not applied.
#[tokio::test]
async fn rule_43_a_partition_that_lost_both_ends_is_skipped_in_two_steps() {
    let mut harness = overtaken().await;
    let info = harness.log.describe(Topic::Ingestion).await.unwrap();
    let lost = (0..).zip(&info.partitions).find(|(_, bounds)| bounds.first > 0);
    let (partition, bounds) = lost.expect("a partition with the records of the run");
    let identity = Some(info.identity);
    let shortened_to = Some(bounds.end);
    let applied = AppliedPosition { next: 0, identity, shortened_to, ..AppliedPosition::default() };
    let mut batch = Batch::default();
    applied_put(&mut batch, LogTopic::Ingestion, partition, &applied);
    harness.store.commit(batch).await.unwrap();
    let mut client = Client::new(harness.routes());
    let skipped = client.skip_lost_records(SkipLostRecordsRequest { partition }).await;
    assert_eq!(skipped.unwrap().into_inner().records, bounds.first);
    client.skip_lost_records(SkipLostRecordsRequest { partition }).await.unwrap();
    let listed = client.list_partitions(ListPartitionsRequest {}).await.unwrap().into_inner().partitions;
    let own = &listed[partition as usize];
    assert_eq!((own.log, own.applied, own.shortened_to), (1, bounds.end, None));
    harness.start_workers().await;
    harness.end().await;
}

/// A fresh store next to a log whose first records are gone.
#[tokio::test]
async fn rule_70_a_partition_without_its_first_records_continues_when_an_operator_decides() {
    let harness = Harness::with_untrimmed_log().await;
    harness.create(&["run"]).await;
    let mut harness = Harness::with_log_of(harness).await;
    let info = harness.log.describe(Topic::Ingestion).await.unwrap();
    let bounds = (0..).zip(&info.partitions).find(|(_, bounds)| bounds.end > 0);
    let (partition, bounds) = bounds.expect("a partition with the records of the run");
    harness.log.trim(Topic::Ingestion, partition, bounds.end).await.unwrap();
    let mut client = Client::new(harness.routes());
    let refused = client.skip_lost_records(SkipLostRecordsRequest { partition }).await.unwrap_err();
    assert!(refused.message().contains("no worker has seen the log yet"), "{refused:?}");
    harness.start_workers().await;
    let skip = async |client: &mut Client| {
        let skipped = client.skip_lost_records(SkipLostRecordsRequest { partition }).await;
        skipped.map(|skipped| skipped.into_inner().records)
    };
    let mut skipped = skip(&mut client).await;
    while let Err(refused) = &skipped {
        assert!(refused.message().contains("no worker has seen the log yet"), "{refused:?}");
        tokio::task::yield_now().await;
        skipped = skip(&mut client).await;
    }
    assert_eq!((skipped.unwrap(), skip(&mut client).await.unwrap()), (bounds.end, 0));
    let listed = client.list_partitions(ListPartitionsRequest {}).await.unwrap().into_inner().partitions;
    assert!(listed.iter().all(|one| !one.is_headless), "{listed:?}");
    harness.create(&["another"]).await;
    harness.end().await;
}

#[tokio::test]
async fn rule_03_a_partition_that_lost_records_continues_when_an_operator_skips_them() {
    let mut harness = overtaken().await;
    let mut client = Client::new(harness.routes());
    let list = async || {
        let mut client = Client::new(harness.routes());
        client.list_partitions(ListPartitionsRequest {}).await.unwrap().into_inner().partitions
    };
    let lost: Vec<_> = list().await.into_iter().filter(|one| one.applied < one.first).collect();
    assert_eq!(lost.len(), 1, "only the run's partition lost records");
    let skip = async |client: &mut Client, partition| {
        let response = client.skip_lost_records(SkipLostRecordsRequest { partition }).await;
        response.map(|response| response.into_inner().records)
    };
    for one in list().await {
        assert_eq!(skip(&mut client, one.partition).await.unwrap(), one.first - one.applied);
        assert_eq!(skip(&mut client, one.partition).await.unwrap(), 0, "there is nothing left to skip");
    }
    assert!(list().await.iter().all(|one| one.applied == one.first));
    wrong_field(skip(&mut client, 1_000).await, "partition");

    harness.start_workers().await;
    // The record goes to the same partition; `create` returns once it is applied.
    harness.create(&["run"]).await;
    harness.end().await;
}

#[tokio::test]
async fn parked_items_are_listed_and_deleted() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    for run in ["a", "b", "a"] {
        harness.log(run, [create(), undecodable()]).await;
        harness.applied().await;
    }
    let list = async |run: &str, size, token: &str| {
        let run_id = run.into();
        let page_token = token.into();
        let request = ListParkedItemsRequest { run_id, page_size: size, page_token, unknown_projects: false };
        Client::new(harness.routes()).list_parked_items(request).await.unwrap().into_inner()
    };
    let all_items = list("", 0, "").await;
    let runs: Vec<_> = all_items.items.iter().map(|item| item.run_id.as_str()).collect();
    assert_eq!((runs, all_items.total), (vec!["a", "b", "a"], 3));
    assert!(
        all_items
            .items
            .iter()
            .all(|item| item.item == 1 && !item.reason.is_empty() && !item.content.is_empty())
    );
    for (run, expected) in [("", vec!["a", "b", "a"]), ("a", vec!["a", "a"]), ("missing", vec![])] {
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let page = list(run, 1, &token).await;
            found.extend(page.items.into_iter().map(|item| item.run_id));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(found, expected);
    }
    let request = ListParkedItemsRequest { page_token: "forged".into(), ..Default::default() };
    wrong_field(client.list_parked_items(request).await, "page_token");
    let ids = vec![all_items.items[0].id.clone(), "forged".into(), all_items.items[0].id.clone()];
    let request = DeleteParkedItemsRequest { ids, unknown_projects: false };
    let deleted = client.delete_parked_items(request).await.unwrap().into_inner();
    assert_eq!((deleted.deleted, list("", 0, "").await.total), (1, 2));
    harness.end().await;
}

/// Parked records may be of a deleted project, which only a caller who manages all projects may see.
#[tokio::test]
async fn rule_54_an_owner_of_one_project_sees_no_records_of_projects_that_do_not_exist() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let list = ListParkedItemsRequest { unknown_projects: true, ..Default::default() };
    let delete = DeleteParkedItemsRequest { unknown_projects: true, ..Default::default() };
    let runs = ListQuarantinedRunsRequest { unknown_projects: true, ..Default::default() };
    client.list_parked_items(list.clone()).await.expect("this caller manages all projects");
    let codes = [
        client.list_parked_items(of_owner(list)).await.unwrap_err().code(),
        client.delete_parked_items(of_owner(delete)).await.unwrap_err().code(),
        client.list_quarantined_runs(of_owner(runs)).await.unwrap_err().code(),
    ];
    assert_eq!(codes, [Code::PermissionDenied; 3]);
    client.list_parked_items(of_owner(ListParkedItemsRequest::default())).await.expect("its own items");
    harness.end().await;
}

/// A request as the edge sends it for an owner of the default project.
fn of_owner<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(KNOWN_PROJECTS, "/".parse().unwrap());
    request
}

#[tokio::test]
async fn blobs_of_deleted_runs_are_cleaned_up() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    harness.create(&["r"]).await;
    let mut of_runs = runs::run_service_client::RunServiceClient::new(harness.routes());
    of_runs.delete(runs::DeleteRequest { run_id: "r".into() }).await.unwrap();
    harness.applied().await;
    harness.put_blob("r/late.bin", b"12345").await;
    let clean = |dry_run| CleanupOrphanBlobsRequest { dry_run, ..Default::default() };
    let keys = |responses: &[CleanupOrphanBlobsResponse]| {
        responses.iter().flat_map(|response| response.keys.clone()).collect::<Vec<_>>()
    };
    let looked = all(client.cleanup_orphan_blobs(clean(true)).await.unwrap()).await;
    let cleaned = all(client.cleanup_orphan_blobs(clean(false)).await.unwrap()).await;
    // The control worker may already have deleted it.
    assert!(keys(&looked).len() <= 1 && keys(&cleaned).len() <= 1);
    let left = matyan_blob::Blobs::list(&*harness.blobs, "r/", None).await.unwrap().blobs;
    assert!(left.is_empty());
    harness.end().await;
}

/// Data from a client's spool, and uploads by a URL issued earlier, may arrive long after a
/// delete.
#[tokio::test]
async fn rule_13_a_tombstone_is_kept_as_long_as_its_run_may_come_back() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    harness.create(&["r"]).await;
    let mut of_runs = runs::run_service_client::RunServiceClient::new(harness.routes());
    of_runs.delete(runs::DeleteRequest { run_id: "r".into() }).await.unwrap();
    harness.applied().await;
    let clean = async |older_than_s, force| {
        let request = CleanupTombstonesRequest { older_than_s, force, dry_run: false };
        let responses = Client::new(harness.routes()).cleanup_tombstones(request).await?;
        let ids = all(responses).await.into_iter().flat_map(|response| response.run_ids);
        Ok::<Vec<String>, tonic::Status>(ids.collect())
    };
    assert!(clean(0, false).await.unwrap().is_empty(), "the tombstone is too recent");
    let month_s = 30 * 24 * 3_600;
    for older_than_s in [1, month_s - 1] {
        let request = CleanupTombstonesRequest { older_than_s, ..Default::default() };
        wrong_field(client.cleanup_tombstones(request).await, "older_than_s");
    }
    assert!(clean(month_s, false).await.unwrap().is_empty());
    // The workers trim the log and mark the blobs as deleted in the background.
    let gone = async |older_than_s, force| {
        let mut gone = clean(older_than_s, force).await.unwrap();
        while gone.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            gone = clean(older_than_s, force).await.unwrap();
        }
        gone
    };
    harness.advance_clock(3_600);
    assert_eq!(gone(600, true).await, ["r"], "`force` overrides the minimum age");

    harness.create(&["s"]).await;
    of_runs.delete(runs::DeleteRequest { run_id: "s".into() }).await.unwrap();
    harness.applied().await;
    let listed = async || matyan_blob::Blobs::list(&*harness.blobs, "s/", None).await.unwrap().blobs.len();
    let is_marked = async || {
        let snapshot = harness.store.snapshot().await.unwrap();
        let page = matyan_model::run::tombstones_list(&*snapshot, Project(0), &keys::tombstones(Project(0)))
            .await
            .unwrap();
        page.tombstones.iter().all(|(_, tombstone)| tombstone.blobs_deleted)
    };
    while !is_marked().await {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    harness.put_blob("s/late.bin", b"12345").await;
    harness.advance_clock(31 * 24 * 3_600);
    assert_eq!(gone(0, false).await, ["s"]);
    assert_eq!(listed().await, 0, "the last pass must delete late blobs, because no later pass would");
    harness.end().await;
}

/// Recent blobs are kept, because the record that refers to them may be in flight; so are
/// referenced blobs, and folders that belong to no run.
#[tokio::test]
async fn rule_16_unreferenced_blobs_are_cleaned_up_on_request() {
    let harness = Harness::new().await;
    let kept = pb::BlobRef { key: "r/kept.bin".into(), path: "kept.bin".into(), ..pb::BlobRef::default() };
    harness.log("r", [create(), Kind::BlobRef(kept)]).await;
    harness.applied().await;
    for key in ["r/kept.bin", "r/orphan.bin", "stranger/orphan.bin"] {
        harness.put_blob(key, b"12345").await;
    }
    let clean = async |dry_run, unreferenced| {
        let request = CleanupOrphanBlobsRequest { dry_run, unreferenced, ..Default::default() };
        let responses = all(Client::new(harness.routes()).cleanup_orphan_blobs(request).await.unwrap()).await;
        let keys: Vec<String> = responses.iter().flat_map(|response| response.keys.clone()).collect();
        (keys, responses.last().unwrap().deleted_bytes)
    };
    let nothing = (Vec::new(), 0);
    assert_eq!(clean(false, true).await, nothing, "the blob is too recent");
    harness.advance_clock(32 * 24 * 3_600);
    assert_eq!(clean(false, false).await, nothing, "unreferenced blobs were not requested");
    assert_eq!(clean(true, true).await, (vec!["r/orphan.bin".to_owned()], 0));
    assert_eq!(clean(false, true).await, (vec!["r/orphan.bin".to_owned()], 5));
    assert_eq!(clean(false, true).await, nothing);
    for (folder, left) in [("r/", 1), ("stranger/", 1)] {
        let listed = matyan_blob::Blobs::list(&*harness.blobs, folder, None).await.unwrap().blobs;
        assert_eq!(listed.len(), left, "{folder}");
    }
    harness.end().await;
}

/// Training continues without files, so the server stays ready.
#[tokio::test]
async fn refused_uploads_are_a_problem_of_the_blob_store() {
    let harness = Harness::new().await;
    let check = async |backend: Backend| {
        let mut system = SystemServiceClient::new(backend.into_routes());
        let answer = system.readiness(ReadinessRequest::default()).await.unwrap().into_inner();
        let blobs = answer.checks.into_iter().find(|check| check.name == "blobs").unwrap();
        (answer.ready, blobs.ok, blobs.message)
    };
    assert_eq!(check(harness.backend.clone()).await, (true, true, String::new()));
    let full = || std::future::ready(Some("the disk is full".to_owned())).boxed();
    let backend = harness.backend.clone().with_upload_problem(Arc::new(full));
    assert_eq!(check(backend).await, (true, false, "the disk is full".to_owned()));
}
