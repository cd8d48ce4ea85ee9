//! Runs whose rows are damaged, and runs in quarantine.

use matyan_model::{
    ids::{Project, RunId, SeriesNumber},
    keys,
    run::head_live,
};
use matyan_proto::{
    admin::v1::{admin_service_client::AdminServiceClient, *},
    common::v1::SeriesType,
    ingest::v1::{LogObject, event::Kind},
    project::v1::{ParamsRequest, project_service_client::ProjectServiceClient},
    runs::v1::{run_service_client::RunServiceClient, *},
    search::v1::{
        MetricsRequest, ObjectsRequest, Query, RunsRequest, Sort, SortField,
        search_service_client::SearchServiceClient, sort::By,
    },
};
use matyan_store::{Batch, Key, Scan, Store};
use matyan_value::{cbor, json};

use crate::backend::harness::{Harness, all, create, line, not_found, params, wrong_field};

/// Logs the runs `a`, `document`, `params`, and `z`, and damages the document of one and the params of
/// another, which are in pieces.
async fn damage(harness: &Harness) {
    let project = Project::default();
    let large = format!(r#"{{"big":"{}"}}"#, "x".repeat(200_000));
    for run in ["a", "document", "params", "z"] {
        harness.log(run, [create(), params(if run == "params" { &large } else { r#"{"lr":1}"# })]).await;
    }
    harness.applied().await;
    let snapshot = harness.store.snapshot().await.unwrap();
    let number = async |run: &str| head_live(&*snapshot, project, &RunId::new(run)).await.unwrap().unwrap();
    let mut batch = Batch::default();
    batch.set(keys::document(project, number("document").await), vec![0xff]);
    batch.clear_range(keys::params(project, number("params").await));
    harness.store.commit(batch).await.unwrap();
}

/// The types of objects, by the types of their values.
const OBJECTS: [(&str, SeriesType); 5] = [
    ("image", SeriesType::Images),
    ("text", SeriesType::Texts),
    ("distribution", SeriesType::Distributions),
    ("audio", SeriesType::Audios),
    ("figure", SeriesType::Figures),
];

fn object(dtype: &str) -> Kind {
    let value = cbor::encode(&json::parse(r#"{"data":"text"}"#).unwrap()).into();
    let name = format!("some {dtype}");
    let dtype = dtype.to_owned();
    Kind::LogObject(LogObject { name, dtype, step: Some(0), value, ..LogObject::default() })
}

/// The metric of runs that were left out.
fn left_out(harness: &Harness) -> u64 {
    let families = harness.registry.gather();
    let family = families.iter().find(|family| family.name() == "matyan_damaged_runs_left_out_total");
    family.unwrap().get_metric()[0].get_counter().get_value() as u64
}

#[tokio::test]
async fn rule_40_a_damaged_run_is_left_out_and_named() {
    let harness = Harness::new().await;
    damage(&harness).await;
    let mut runs = RunServiceClient::new(harness.routes());
    let parts = Some(RunParts { props: true, params: true, ..Default::default() });
    let list = ListRequest { parts: parts.clone(), ..ListRequest::default() };
    let listed = runs.list(list).await.unwrap().into_inner().runs;
    assert_eq!(listed.iter().map(|run| run.run_id.as_str()).collect::<Vec<_>>(), ["z", "a"]);
    for text in ["", "run.lr == 1"] {
        let query = Some(Query { text: text.to_owned(), ..Query::default() });
        let request = RunsRequest { query, parts: parts.clone(), ..RunsRequest::default() };
        let mut search = SearchServiceClient::new(harness.routes());
        let found = all(search.runs(request).await.unwrap()).await;
        let found: Vec<_> =
            found.into_iter().flat_map(|message| message.runs).map(|run| run.run_id).collect();
        assert_eq!(found, ["z", "a"], "{text}");
    }
    let mut of_project = ProjectServiceClient::new(harness.routes());
    all(of_project.params(ParamsRequest::default()).await.unwrap()).await;
    let refused = runs.get(GetRequest { run_id: "document".into(), parts }).await.unwrap_err();
    assert!(refused.message().contains("run `document` is damaged"), "{refused}");
    let mut admin = AdminServiceClient::new(harness.routes());
    let reindexed = all(admin.reindex(ReindexRequest::default()).await.unwrap()).await.pop().unwrap();
    let progress = reindexed.progress.unwrap();
    assert_eq!((progress.done, progress.failed, reindexed.rows), (4, 2, 0), "their rows are kept");
    harness.end().await;
}

/// Whether the answer comes from a scan, an index, or a table, and whether or not it has all runs.
#[tokio::test]
async fn rule_40_an_answer_says_how_many_runs_it_left_out() {
    let harness = Harness::new().await;
    damage(&harness).await;
    let parts = Some(RunParts { props: true, params: true, ..RunParts::default() });
    let mut counted = left_out(&harness);
    let mut counts = |expected: u64, call: &str| {
        let before = std::mem::replace(&mut counted, left_out(&harness));
        assert_eq!(counted - before, expected, "{call}");
    };
    let mut runs = RunServiceClient::new(harness.routes());
    for active in [None, Some(true)] {
        let mut request =
            ListRequest { active, parts: parts.clone(), page_size: 1, ..ListRequest::default() };
        let mut damaged = Vec::new();
        loop {
            let page = runs.list(request.clone()).await.unwrap().into_inner();
            damaged.push(page.damaged_runs);
            counts(page.damaged_runs.into(), "list");
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        // The runs are `z` and `a`, with both others between them, and nothing is after `a`.
        assert_eq!(damaged, [0, 2, 0], "{active:?}");
    }
    let sort = |field: SortField| vec![Sort { by: Some(By::Field(field.into())), ..Sort::default() }];
    // `params` has more than is indexed, so that every query may match it.
    for (text, sort, limit) in [
        ("", vec![], 0),
        ("run.lr == 1", vec![], 0),
        ("run.lr < 2", vec![], 0),
        ("", sort(SortField::Name), 0),
        // The table is known now.
        ("", vec![], 10),
        ("", sort(SortField::Created), 10),
        ("run.lr < 2", sort(SortField::Name), 10),
        ("run.lr < 2", sort(SortField::RunId), 10),
    ] {
        let case = format!("{text} {sort:?} {limit}");
        let query = Some(Query { text: text.to_owned(), ..Query::default() });
        let request = RunsRequest { query, sort, limit, parts: parts.clone(), ..RunsRequest::default() };
        let mut search = SearchServiceClient::new(harness.routes());
        let messages = all(search.runs(request).await.unwrap()).await;
        let last = messages.last().unwrap();
        assert_eq!((last.damaged_runs, last.done), (2, true), "{case}");
        let warnings: Vec<_> = messages.iter().flat_map(|message| &message.warnings).collect();
        assert!(warnings.iter().any(|it| it.message.contains("left out")), "{case}: {warnings:?}");
        let found: Vec<_> = messages.iter().flat_map(|message| &message.runs).collect();
        assert_eq!(found.len(), 2, "{case}");
    }
    let counted_before = left_out(&harness);
    let mut of_project = ProjectServiceClient::new(harness.routes());
    let merged = all(of_project.params(ParamsRequest::default()).await.unwrap()).await;
    assert_eq!(merged.last().unwrap().damaged_runs, 2);
    assert_eq!(left_out(&harness) - counted_before, 2);

    for (run, left) in [("params", 1), ("document", 0)] {
        runs.delete(DeleteRequest { run_id: run.into() }).await.unwrap();
        harness.applied().await;
        let query = Some(Query { text: "run.lr < 2".to_owned(), ..Query::default() });
        let sort = sort(SortField::Name);
        let request = RunsRequest { query, sort, limit: 10, ..RunsRequest::default() };
        let mut search = SearchServiceClient::new(harness.routes());
        let messages = all(search.runs(request).await.unwrap()).await;
        assert_eq!(messages.last().unwrap().damaged_runs, left, "`{run}` is deleted");
    }
    harness.end().await;
}

/// Covers every kind of search: the params of one run are damaged, the points of another, and the objects of
/// a third.
#[tokio::test]
async fn rule_40_searches_of_sequences_leave_a_damaged_run_out() {
    let harness = Harness::new().await;
    let project = Project::default();
    let large = format!(r#"{{"big":"{}"}}"#, "x".repeat(200_000));
    for run in ["a", "params", "points", "objects", "z"] {
        let params = params(if run == "params" { &large } else { r#"{"lr":1}"# });
        let objects = OBJECTS.into_iter().map(|(dtype, _)| object(dtype));
        harness.log(run, [create(), params].into_iter().chain(objects)).await;
        harness.log_points(run, &[("loss", "", &[0.5])]).await;
    }
    harness.applied().await;
    let snapshot = harness.store.snapshot().await.unwrap();
    let number = async |run: &str| head_live(&*snapshot, project, &RunId::new(run)).await.unwrap().unwrap();
    let mut batch = Batch::default();
    batch.clear_range(keys::params(project, number("params").await));
    let with_points = number("points").await;
    let blocks = snapshot.scan(&keys::blocks(project, with_points), Scan::default()).await.unwrap().rows;
    let with_objects = number("objects").await;
    let rows = snapshot.scan(&keys::run_rows(project, with_objects), Scan::default()).await.unwrap().rows;
    let is_object = |key: &Key| {
        (0..9).any(|series| keys::objects(project, with_objects, SeriesNumber(series)).contains(key))
    };
    let objects: Vec<Key> = rows.into_iter().map(|(key, _)| key).filter(is_object).collect();
    assert_eq!((blocks.len(), objects.len()), (1, OBJECTS.len()));
    for key in blocks.into_iter().map(|(key, _)| key).chain(objects) {
        batch.set(key, vec![0xff]);
    }
    harness.store.commit(batch).await.unwrap();

    let parts = Some(RunParts { props: true, params: true, ..RunParts::default() });
    let request = MetricsRequest { parts: parts.clone(), ..MetricsRequest::default() };
    let mut search = SearchServiceClient::new(harness.routes());
    let messages = all(search.metrics(request).await.unwrap()).await;
    let found: Vec<_> = messages.iter().flat_map(|message| &message.runs).collect();
    let found: Vec<_> = found.iter().map(|found| found.run.as_ref().unwrap().run_id.as_str()).collect();
    assert_eq!(found, ["z", "objects", "a"]);
    let last = messages.last().unwrap();
    assert_eq!((last.damaged_runs, last.warnings.len(), last.done), (2, 1, true), "{last:?}");

    for (dtype, series_type) in OBJECTS {
        let parts = parts.clone();
        let request = ObjectsRequest { r#type: series_type.into(), parts, ..ObjectsRequest::default() };
        let messages = all(search.objects(request).await.unwrap()).await;
        let found: Vec<_> = messages.iter().flat_map(|message| &message.runs).collect();
        let found: Vec<_> = found.iter().map(|found| found.run.as_ref().unwrap().run_id.as_str()).collect();
        assert_eq!(found, ["z", "points", "a"], "{dtype}");
        let last = messages.last().unwrap();
        assert_eq!((last.damaged_runs, last.warnings.len(), last.done), (2, 1, true), "{dtype}: {last:?}");
    }
    harness.end().await;
}

#[tokio::test]
async fn rule_40_runs_in_quarantine_are_listed() {
    let harness = Harness::new().await;
    harness.create(&["a", "b", "c"]).await;
    let mut admin = AdminServiceClient::new(harness.routes());
    let list = async |request: ListQuarantinedRunsRequest| {
        let mut admin = AdminServiceClient::new(harness.routes());
        admin.list_quarantined_runs(request).await.unwrap().into_inner()
    };
    assert_eq!(list(Default::default()).await, ListQuarantinedRunsResponse::default());
    let begun_us = harness.now_us();
    for run_id in ["c", "a", "new"] {
        let reason = format!("of {run_id}");
        admin.park_run(ParkRunRequest { run_id: run_id.into(), reason }).await.unwrap();
    }
    // Nothing is parked, so that only this list shows them.
    let items = admin.list_parked_items(ListParkedItemsRequest::default()).await.unwrap().into_inner();
    assert!(items.items.is_empty());
    let mut batch = Batch::default();
    batch.set(keys::quarantine(Project::default(), &RunId::new("c")), vec![0xff]);
    harness.store.commit(batch).await.unwrap();
    let mut listed = Vec::new();
    let mut request = ListQuarantinedRunsRequest { page_size: 1, ..Default::default() };
    loop {
        let page = list(request.clone()).await;
        assert!(page.runs.len() <= 1);
        listed.extend(page.runs);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed.iter().map(|run| run.run_id.as_str()).collect::<Vec<_>>(), ["a", "c", "new"]);
    assert_eq!(listed[0].reason, "of a");
    assert!(listed[0].since_us.is_some_and(|since_us| since_us >= begun_us), "{listed:?}");
    assert!(listed[1].since_us.is_none() && !listed[1].reason.is_empty(), "{listed:?}");
    let of_run = ListQuarantinedRunsRequest { run_id: "new".into(), ..Default::default() };
    assert_eq!(list(of_run).await.runs, listed[2..]);
    let of_run = ListQuarantinedRunsRequest { run_id: "b".into(), ..Default::default() };
    assert!(list(of_run).await.runs.is_empty());
    let request = ListQuarantinedRunsRequest { page_token: "ff".into(), ..Default::default() };
    wrong_field(admin.list_quarantined_runs(request).await, "page_token");
    harness.end().await;
}

#[tokio::test]
async fn rule_40_an_operator_parks_and_resumes_a_run() {
    let harness = Harness::new().await;
    let mut admin = AdminServiceClient::new(harness.routes());
    harness.log("r", [create(), line(0, "a")]).await;
    harness.applied().await;
    let reason = "it floods the server".to_owned();
    admin.park_run(ParkRunRequest { run_id: "r".into(), reason: reason.clone() }).await.unwrap();
    for step in 1..4 {
        harness.log("r", [line(step, "parked")]).await;
        harness.log("other", [create()]).await;
    }
    harness.applied().await;
    let parked = async || {
        let request = ListParkedItemsRequest { run_id: "r".into(), ..Default::default() };
        AdminServiceClient::new(harness.routes()).list_parked_items(request).await.unwrap().into_inner().items
    };
    let items = parked().await;
    assert!(items.len() == 3 && items[0].reason.contains(&reason), "{items:?}");
    admin.resume_run(ResumeRunRequest { run_id: "r".into() }).await.unwrap();
    harness.applied().await;
    assert!(parked().await.is_empty());
    not_found(admin.resume_run(ResumeRunRequest { run_id: "r".into() }).await, "quarantine of run", "r");
    harness.end().await;
}

/// The other runs of its page are changed, and the answer names the damaged run.
#[tokio::test]
async fn rule_40_a_batch_leaves_a_damaged_run_out() {
    let harness = Harness::new().await;
    let project = Project::default();
    harness.create(&["a", "bad", "z"]).await;
    let snapshot = harness.store.snapshot().await.unwrap();
    let number = head_live(&*snapshot, project, &RunId::new("bad")).await.unwrap().unwrap();
    let mut batch = Batch::default();
    batch.set(keys::document(project, number), vec![0xff]);
    harness.store.commit(batch).await.unwrap();

    let mut runs = RunServiceClient::new(harness.routes());
    let run_ids: Vec<String> = ["a", "bad", "no", "z"].map(str::to_owned).to_vec();
    let left_out = (vec!["no".to_owned()], vec!["bad".to_owned()]);
    let tag = Some(add_tag_batch_request::Tag::TagName("t".into()));
    let request = AddTagBatchRequest { run_ids: run_ids.clone(), tag };
    let done = runs.add_tag_batch(request).await.unwrap().into_inner();
    assert_eq!(((done.unknown, done.damaged), done.changed), (left_out.clone(), 2));
    let tag = Some(remove_tag_batch_request::Tag::TagName("t".into()));
    let request = RemoveTagBatchRequest { run_ids: run_ids.clone(), tag };
    let done = runs.remove_tag_batch(request).await.unwrap().into_inner();
    assert_eq!(((done.unknown, done.damaged), done.changed), (left_out.clone(), 2));
    let experiment = Some(move_batch_request::Experiment::ExperimentName("e".into()));
    let request = MoveBatchRequest { run_ids: run_ids.clone(), experiment };
    let done = runs.move_batch(request).await.unwrap().into_inner();
    assert_eq!(((done.unknown, done.damaged), done.changed), (left_out.clone(), 2));
    let request = ArchiveBatchRequest { run_ids: run_ids.clone(), archived: true };
    let done = runs.archive_batch(request).await.unwrap().into_inner();
    assert_eq!((done.unknown, done.damaged), left_out);
    let request = FinishBatchRequest { run_ids: run_ids.clone() };
    let done = runs.finish_batch(request).await.unwrap().into_inner();
    assert_eq!((done.unknown, done.damaged), left_out);
    let done = runs.delete_batch(DeleteBatchRequest { run_ids }).await.unwrap().into_inner();
    assert_eq!(done.unknown, ["no"], "a damaged run can be deleted");
    harness.end().await;
}

#[tokio::test]
async fn rule_40_a_damaged_run_can_be_deleted() {
    let harness = Harness::new().await;
    let project = Project::default();
    let id = RunId::new("r");
    harness.log("r", [create(), params(r#"{"lr":1}"#)]).await;
    harness.applied().await;
    let number = head_live(&*harness.store.snapshot().await.unwrap(), project, &id).await.unwrap().unwrap();
    let mut batch = Batch::default();
    batch.set(keys::document(project, number), vec![0xff]);
    harness.store.commit(batch).await.unwrap();
    harness.log("r", [params(r#"{"lr":2}"#)]).await;
    harness.applied().await;
    let mut runs = RunServiceClient::new(harness.routes());
    let delete = DeleteRequest { run_id: "r".into() };
    runs.delete(delete.clone()).await.unwrap();
    harness.applied().await;
    let list = RunsRequest { ids_only: true, count: true, ..RunsRequest::default() };
    let found = all(SearchServiceClient::new(harness.routes()).runs(list).await.unwrap()).await;
    assert!(
        found
            .iter()
            .all(|message| message.run_ids.is_empty() && message.match_count.unwrap_or_default() == 0),
        "{found:?}"
    );
    not_found(runs.get(GetRequest { run_id: "r".into(), parts: None }).await, "run", "r");
    let request = ListParkedItemsRequest { run_id: "r".into(), ..Default::default() };
    let mut admin = AdminServiceClient::new(harness.routes());
    assert!(admin.list_parked_items(request).await.unwrap().into_inner().items.is_empty());
    not_found(admin.resume_run(ResumeRunRequest { run_id: "r".into() }).await, "quarantine of run", "r");
    runs.delete(delete).await.unwrap();
    harness.end().await;
}
