//! Runs: pages, deletion of params, concurrent changes, unknown ids.

use std::sync::atomic::Ordering;

use matyan_model::{change::changes_list, ids::Project};
use matyan_proto::{
    common::v1::{PathValue, SeriesKey, SeriesType},
    ingest::v1::{self as pb, CreateRun, event::Kind},
    limits,
    log::v1::LogEntry,
    runs::v1::{run_service_client::RunServiceClient, *},
    search::v1::{Query, RunsRequest, search_service_client::SearchServiceClient},
    series::v1::{self as series, BucketsRequest, RunSelection, series_service_client::SeriesServiceClient},
};
use matyan_store::Store;
use tonic::{Code, service::Routes};

use crate::backend::harness::{
    Harness, all, create, experiment, failure, finish, line, not_found, params, tag, wrong_field,
};

type Client = RunServiceClient<Routes>;

fn props() -> Option<RunParts> {
    Some(RunParts { props: true, ..RunParts::default() })
}

async fn pages(client: &mut Client, request: ListRequest) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut token = String::new();
    loop {
        let request = ListRequest { page_token: token, ..request.clone() };
        let page = client.list(request).await.unwrap().into_inner();
        pages.push(page.runs.into_iter().map(|run| run.run_id).collect());
        token = page.next_page_token;
        if token.is_empty() {
            return pages;
        }
    }
}

/// If a run were hidden before its delete is in the log, it would disappear and then reappear
/// with its next record.
#[tokio::test]
async fn rule_12_a_run_whose_delete_is_not_in_the_log_is_not_hidden() {
    let harness = Harness::new().await;
    harness.create(&["r"]).await;
    harness.applied().await;
    harness.log_close().await;
    let mut client = Client::new(harness.routes());
    client.delete(DeleteRequest { run_id: "r".into() }).await.unwrap_err();
    let all = ListRequest { page_size: 9, parts: props(), ..ListRequest::default() };
    assert_eq!(pages(&mut client, all).await.concat(), ["r"]);
    harness.end().await;
}

#[tokio::test]
async fn runs_are_listed_in_pages_newest_first() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let ids: Vec<String> = (0..7).map(|number| format!("r{number}")).collect();
    harness.create(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    harness.log("r1", [finish()]).await;
    harness.applied().await;
    client.delete(DeleteRequest { run_id: "r5".into() }).await.unwrap();
    let archive = ArchiveBatchRequest { run_ids: vec!["r2".into(), "r3".into()], archived: true };
    client.archive_batch(archive).await.unwrap();
    let three = ListRequest { page_size: 3, parts: props(), ..ListRequest::default() };
    let flat = async |request| pages(&mut Client::new(harness.routes()), request).await.concat();
    assert_eq!(
        pages(&mut client, three.clone()).await,
        [vec!["r6", "r4", "r3"], vec!["r2", "r1", "r0"], vec![]]
    );
    assert_eq!(
        flat(ListRequest { active: Some(true), ..three.clone() }).await,
        ["r6", "r4", "r3", "r2", "r0"]
    );
    assert_eq!(flat(ListRequest { active: Some(false), ..three.clone() }).await, ["r1"]);
    assert_eq!(flat(ListRequest { archived: Some(true), page_size: 1, ..three.clone() }).await, ["r3", "r2"]);
    let both = ListRequest { archived: Some(false), active: Some(true), ..three.clone() };
    assert_eq!(flat(both).await, ["r6", "r4", "r0"]);
    wrong_field(client.list(ListRequest { page_token: "zz".into(), ..three.clone() }).await, "page_token");
    wrong_field(client.list(ListRequest { page_size: 1_001, ..three }).await, "page_size");
    harness.end().await;
}

#[tokio::test]
async fn params_are_deleted_by_path() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    harness
        .log("r", [create(), params(r#"{"h":{"lr":1,"x.y":2,"deep":{"a":1,"b":2}}}"#), params(r#"{"t":1}"#)])
        .await;
    harness.applied().await;
    let read = async || {
        let parts = Some(RunParts { params: true, ..RunParts::default() });
        let request = GetRequest { run_id: "r".into(), parts };
        let run = Client::new(harness.routes()).get(request).await.unwrap().into_inner().run.unwrap();
        matyan_value::cbor::decode(&run.params).unwrap()
    };
    let delete = |paths: &[&[&str]]| DeleteParamsRequest {
        run_id: "r".into(),
        paths: paths
            .iter()
            .map(|path| ParamPath { segments: path.iter().map(|one| (*one).to_owned()).collect() })
            .collect(),
    };
    let json = |text| matyan_value::json::parse(text).unwrap();
    client
        .delete_params(delete(&[&["h", "x.y"], &["h", "deep", "a"], &["h", "lr", "no"], &["no"]]))
        .await
        .unwrap();
    assert_eq!(read().await, json(r#"{"h":{"lr":1,"deep":{"b":2}},"t":1}"#));
    client.delete_params(delete(&[&["t"]])).await.unwrap();
    assert_eq!(read().await, json(r#"{"h":{"lr":1,"deep":{"b":2}}}"#));
    client.delete_params(delete(&[&[]])).await.unwrap();
    assert_eq!(read().await, json("{}"));
    let many = DeleteParamsRequest { run_id: "r".into(), paths: vec![ParamPath::default(); 1_001] };
    wrong_field(client.delete_params(many).await, "paths");
    let missing = DeleteParamsRequest { run_id: "missing".into(), paths: Vec::new() };
    not_found(client.delete_params(missing).await, "run", "missing");
    harness.end().await;
}

#[tokio::test]
async fn concurrent_changes_are_all_kept() {
    let harness = Harness::new().await;
    harness.create(&["r"]).await;
    let update = async |request: UpdateRequest| {
        Client::new(harness.routes()).update(UpdateRequest { run_id: "r".into(), ..request }).await.unwrap()
    };
    let changes = [
        UpdateRequest { name: Some("n".into()), ..Default::default() },
        UpdateRequest { description: Some("d".into()), ..Default::default() },
        UpdateRequest { archived: Some(true), ..Default::default() },
        UpdateRequest { experiment: Some("e".into()), ..Default::default() },
        UpdateRequest { active: Some(false), ..Default::default() },
    ];
    futures::future::join_all(changes.map(update)).await;
    let request = GetRequest { run_id: "r".into(), parts: props() };
    let run = Client::new(harness.routes()).get(request).await.unwrap().into_inner().run.unwrap();
    let props = run.props.unwrap();
    assert_eq!((props.name.as_str(), props.description.as_str()), ("n", "d"));
    assert!(props.archived && !props.active && props.ended_us.is_some());
    assert_eq!(props.experiment.unwrap().name, "e");
    harness.end().await;
}

#[tokio::test]
async fn the_version_of_a_run_changes_exactly_when_the_run_does() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    harness.create(&["r", "other"]).await;
    let version = async |harness: &Harness| {
        harness.applied().await;
        let parts = Some(RunParts { version: true, ..RunParts::default() });
        let request = GetRequest { run_id: "r".into(), parts };
        Client::new(harness.routes()).get(request).await.unwrap().into_inner().run.unwrap().version
    };
    let mut last = version(&harness).await;
    assert!(last > 0);
    let object = || {
        let name = "o".to_owned();
        let dtype = "text".to_owned();
        let value = matyan_value::cbor::encode(&matyan_value::json::parse(r#"{"data":"x"}"#).unwrap()).into();
        Kind::LogObject(pb::LogObject { name, dtype, step: Some(0), value, ..Default::default() })
    };
    let artifact = || Kind::BlobRef(pb::BlobRef { path: "a".into(), key: "k".into(), ..Default::default() });
    let changes: [(&str, Vec<Kind>); 9] = [
        ("params", vec![params(r#"{"a":1}"#)]),
        ("tag", vec![tag("t")]),
        ("experiment", vec![experiment("e")]),
        ("object", vec![object()]),
        ("the same object", vec![object()]),
        ("line", vec![line(0, "x")]),
        ("log record", vec![Kind::LogRecord(pb::LogRecord::default())]),
        ("artifact", vec![artifact()]),
        ("end", vec![finish()]),
    ];
    for (change, events) in changes {
        harness.log("other", events.clone()).await;
        assert_eq!(version(&harness).await, last, "{change} of another run");
        harness.log("r", events).await;
        let next = version(&harness).await;
        assert!(next > last, "{change}");
        last = next;
    }
    // The second time, the same points replace the points of the first time.
    for _ in 0..2 {
        harness.log_points("other", &[("m", "", &[1.0, 2.0])]).await;
        assert_eq!(version(&harness).await, last);
        harness.log_points("r", &[("m", "", &[1.0, 2.0])]).await;
        let next = version(&harness).await;
        assert!(next > last);
        last = next;
    }
    let run_id = "r".to_owned();
    let name = Some("n".to_owned());
    client.update(UpdateRequest { run_id: run_id.clone(), name, ..Default::default() }).await.unwrap();
    let renamed = version(&harness).await;
    let paths = vec![ParamPath { segments: vec!["a".into()] }];
    client.delete_params(DeleteParamsRequest { run_id: run_id.clone(), paths }).await.unwrap();
    let without_params = version(&harness).await;
    let request = series::DeleteRequest {
        run_id,
        r#type: SeriesType::Metric.into(),
        key: Some(SeriesKey { name: "m".into(), ..Default::default() }),
        ..Default::default()
    };
    SeriesServiceClient::new(harness.routes()).delete(request).await.unwrap();
    let without_series = version(&harness).await;
    assert!(last < renamed && renamed < without_params && without_params < without_series);
    // Reading the parts changes nothing.
    client.get(GetRequest { run_id: "r".into(), parts: props() }).await.unwrap();
    assert_eq!(version(&harness).await, without_series);
    harness.end().await;
}

#[tokio::test]
async fn batches_ignore_unknown_ids() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    harness.create(&["r1", "r2"]).await;
    let long = "x".repeat(20_000);
    let ids = || vec!["r1".to_owned(), "missing".into(), String::new(), long.clone()];
    let unknown = vec!["missing".to_owned(), String::new(), long.clone()];
    let response =
        client.archive_batch(ArchiveBatchRequest { run_ids: ids(), archived: true }).await.unwrap();
    assert_eq!(response.into_inner().unknown, unknown);
    let response = client.finish_batch(FinishBatchRequest { run_ids: ids() }).await.unwrap();
    assert_eq!(response.into_inner().unknown, unknown);
    let response = client.delete_batch(DeleteBatchRequest { run_ids: ids() }).await.unwrap().into_inner();
    assert_eq!((response.unknown, response.positions.len()), (unknown, 1));
    not_found(client.get(GetRequest { run_id: "r1".into(), parts: None }).await, "run", "r1");
    not_found(client.get(GetRequest { run_id: long.clone(), parts: None }).await, "run", &long);
    not_found(client.delete(DeleteRequest { run_id: long.clone() }).await, "run", &long);
    client.delete(DeleteRequest { run_id: "r1".into() }).await.unwrap();
    let many = ArchiveBatchRequest { run_ids: vec!["r".into(); limits::RUNS_PER_CALL + 1], archived: true };
    assert_eq!(failure(client.archive_batch(many).await).0, Code::ResourceExhausted);
    let parts = Some(RunParts { series_names: vec!["x".into(); 1_001], ..Default::default() });
    wrong_field(client.get(GetRequest { run_id: "r2".into(), parts }).await, "series_names");
    harness.end().await;
}

async fn batch(client: &mut Client, request: BatchGetRequest) -> BatchGetResponse {
    let mut whole = BatchGetResponse::default();
    for message in all(client.batch_get(request).await.unwrap()).await {
        assert!(!whole.done, "`done` is in the last message");
        whole.runs.extend(message.runs);
        whole.unknown.extend(message.unknown);
        whole.done = message.done;
    }
    assert!(whole.done);
    whole
}

#[tokio::test]
async fn runs_are_returned_by_their_ids_in_order() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let ids: Vec<String> = (0..300).map(|number| format!("r{number}")).collect();
    harness.create(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    client.archive_batch(ArchiveBatchRequest { run_ids: ids[..9].to_vec(), archived: true }).await.unwrap();
    client.delete(DeleteRequest { run_id: "r7".into() }).await.unwrap();
    let mut wanted: Vec<String> = ids.iter().rev().cloned().collect();
    wanted.insert(5, "missing".into());
    let request = BatchGetRequest { run_ids: wanted.clone(), parts: props() };
    let found = batch(&mut client, request).await;
    wanted.retain(|id| !["missing", "r7"].contains(&id.as_str()));
    assert_eq!(found.runs.iter().map(|run| run.run_id.clone()).collect::<Vec<_>>(), wanted);
    assert!(found.runs.iter().all(|run| run.props.is_some()));
    assert_eq!(found.unknown, ["missing", "r7"]);
    let many = BatchGetRequest { run_ids: vec!["r".into(); limits::RUNS_PER_CALL + 1], parts: None };
    assert_eq!(failure(client.batch_get(many).await).0, Code::ResourceExhausted);
    assert!(batch(&mut client, BatchGetRequest::default()).await.runs.is_empty());
    harness.end().await;
}

#[tokio::test]
async fn series_are_selected_by_name_and_context() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    harness.create(&["r"]).await;
    let [train, test] = [r#"{"subset":"train"}"#, r#"{"subset":"test"}"#];
    let series =
        [("loss", train, &[1.0][..]), ("loss", test, &[2.0]), ("acc", train, &[3.0]), ("lr", "", &[4.0])];
    harness.log_points("r", &series).await;
    harness.applied().await;
    let key = |name: &str, context: &str| SeriesKey { name: name.into(), context: context.into() };
    let mut selected = async |names: &[&str], keys: Vec<SeriesKey>| {
        let parts = RunParts {
            series_types: vec![SeriesType::Metric.into()],
            series_names: names.iter().map(ToString::to_string).collect(),
            series_keys: keys,
            ..RunParts::default()
        };
        let request = BatchGetRequest { run_ids: vec!["r".into()], parts: Some(parts) };
        let run = batch(&mut client, request).await.runs.remove(0);
        let mut last: Vec<f64> = run.series.iter().map(|series| series.last.unwrap()).collect();
        last.sort_by(f64::total_cmp);
        last
    };
    assert_eq!(selected(&[], vec![]).await, [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(selected(&[], vec![key("loss", r#"{ "subset" : "test" }"#)]).await, [2.0]);
    assert_eq!(
        selected(&["acc"], vec![key("lr", ""), key("loss", test), key("acc", train)]).await,
        [2.0, 3.0, 4.0]
    );
    assert!(selected(&[], vec![key("acc", test), key("nothing", "")]).await.is_empty());
    let parts = Some(RunParts { series_keys: vec![key("x", "")], ..RunParts::default() });
    wrong_field(client.batch_get(BatchGetRequest { run_ids: vec!["r".into()], parts }).await, "series_types");
    let parts = Some(RunParts {
        series_types: vec![SeriesType::Metric.into()],
        series_keys: vec![key("x", "[1")],
        ..RunParts::default()
    });
    wrong_field(client.get(GetRequest { run_id: "r".into(), parts }).await, "context");
    harness.end().await;
}

#[tokio::test]
async fn values_are_typed_on_request() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    harness.log("r", [params(r#"{"hparams": {"lr": 0.5, "layers": [1, 2]}, "seed": 7}"#)]).await;
    harness.log_points("r", &[("loss", r#"{"subset":"val","fold":2}"#, &[1.0])]).await;
    harness.applied().await;
    let texts = |values: &[PathValue]| -> Vec<String> {
        values.iter().map(|one| format!("{} {:?}", one.path.join("/"), one.value.as_ref().unwrap())).collect()
    };
    let fold = "fold Integer(2)".to_owned();
    let subset = "subset Text(\"val\")".to_owned();
    let parts = |param_paths: Vec<ParamPath>, typed_values| RunParts {
        params: param_paths.is_empty(),
        param_paths,
        series_types: vec![SeriesType::Metric.into()],
        typed_values,
        ..RunParts::default()
    };
    let mut read = async |parts| {
        let request = GetRequest { run_id: "r".into(), parts: Some(parts) };
        client.get(request).await.unwrap().into_inner().run.unwrap()
    };
    let run = read(parts(Vec::new(), true)).await;
    let expected = ["hparams/layers Json(\"[1,2]\")", "hparams/lr Number(0.5)", "seed Integer(7)"];
    assert_eq!(texts(&run.param_values), expected);
    assert_eq!(texts(&run.series[0].context_values), [fold.clone(), subset.clone()]);
    let path = ParamPath { segments: vec!["hparams".into(), "lr".into()] };
    assert_eq!(texts(&read(parts(vec![path], true)).await.param_values), [expected[1]]);
    let run = read(parts(Vec::new(), false)).await;
    assert!(run.param_values.is_empty() && run.series[0].context_values.is_empty());

    let request = series::ListRequest { run_id: "r".into(), typed_values: true, ..Default::default() };
    let listed = all(SeriesServiceClient::new(harness.routes()).list(request).await.unwrap()).await;
    assert_eq!(texts(&listed[0].series[0].context_values), [fold, subset]);
    harness.end().await;
}

/// Large selections in the UI would otherwise take a commit to disk for each run.
#[tokio::test]
async fn batches_take_one_transaction_per_page() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let ids: Vec<String> = (0..250).map(|number| format!("r{number}")).collect();
    harness.create(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // Named twice, a run is changed once.
    let named: Vec<String> = ids.iter().chain(&ids[..1]).cloned().collect();
    let transactions = async |changed_after: Option<matyan_store::Stamp>| {
        let snapshot = harness.store.snapshot().await.unwrap();
        let listed =
            changes_list(snapshot.as_ref(), Project::default(), changed_after, 10_000).await.unwrap();
        let stamps: Vec<_> = listed.0.iter().map(|change| change.stamp).collect();
        let distinct: std::collections::BTreeSet<_> = stamps.iter().copied().collect();
        (stamps.len(), distinct.len(), stamps.last().copied().or(changed_after))
    };
    let (_, _, mut last) = transactions(None).await;
    let archive = ArchiveBatchRequest { run_ids: named.clone(), archived: true };
    client.archive_batch(archive).await.unwrap();
    let (changes, commits, stamp) = transactions(last).await;
    assert_eq!((changes, commits), (250, 3), "archived");
    last = stamp;
    client.finish_batch(FinishBatchRequest { run_ids: named.clone() }).await.unwrap();
    let (changes, commits, _) = transactions(last).await;
    assert_eq!((changes, commits), (250, 3), "finished");
    let deleted = client.delete_batch(DeleteBatchRequest { run_ids: named }).await.unwrap().into_inner();
    assert!(deleted.unknown.is_empty() && !deleted.positions.is_empty());
    let left = client.list(ListRequest::default()).await.unwrap().into_inner().runs;
    assert!(left.is_empty(), "{} runs are left", left.len());
    harness.end().await;
}

/// One wait covers all missing ids, because it applies everything that was in the log when the
/// call arrived.
#[tokio::test]
async fn a_call_waits_only_once_for_a_lagging_log() {
    let mut harness = Harness::with_idle_workers().await;
    let mut client = Client::new(harness.routes());
    harness.log("late", [create()]).await;
    let ids = || ["missing", "late", "neither"].map(str::to_owned).to_vec();
    let unknown = ["missing", "neither"];
    let mut archiving = client.clone();
    let archived = tokio::spawn(async move {
        archiving.archive_batch(ArchiveBatchRequest { run_ids: ids(), archived: true }).await
    });
    while harness.describes() == 0 {
        tokio::task::yield_now().await;
    }
    harness.start_workers().await;
    assert_eq!(archived.await.unwrap().unwrap().into_inner().unknown, unknown);
    assert_eq!(harness.describes(), 1);
    let response = client.finish_batch(FinishBatchRequest { run_ids: ids() }).await.unwrap();
    assert_eq!(
        (response.into_inner().unknown, harness.describes()),
        (unknown.map(str::to_owned).to_vec(), 2)
    );
    let selection = |run_id| RunSelection { run_id, ..RunSelection::default() };
    let runs = ids().into_iter().map(selection).collect();
    let request = BucketsRequest { runs, pixels: 9, ..BucketsRequest::default() };
    all(SeriesServiceClient::new(harness.routes()).buckets(request).await.unwrap()).await;
    assert_eq!(harness.describes(), 3);
    let response = client.delete_batch(DeleteBatchRequest { run_ids: ids() }).await.unwrap().into_inner();
    assert_eq!((response.unknown, harness.describes()), (unknown.map(str::to_owned).to_vec(), 4));
    harness.end().await;
}

/// In a log with two partitions, one of which is never applied, a call about a run of the other partition
/// does not wait and ends first.
#[tokio::test]
async fn rule_24_a_call_waits_for_the_partition_of_its_run_only() {
    let harness = Harness::new().await;
    harness.create(&["r"]).await;
    harness.lagging.store(100, Ordering::Relaxed);
    let of_partition = |partition| {
        let mut ids = (0..).map(|number| format!("missing {number}"));
        ids.find(|id| matyan_log::partition_of(id.as_bytes(), 2) == partition).unwrap()
    };
    let routes = harness.routes();
    let get = async |run_id: String| {
        Client::new(routes.clone()).get(GetRequest { run_id, parts: None }).await.map(drop)
    };
    let mut late = std::pin::pin!(get(of_partition(1)));
    let before = harness.describes();
    while harness.describes() == before {
        assert!(futures::poll!(&mut late).is_pending());
        tokio::task::yield_now().await;
    }
    tokio::select! {
        biased;
        _ = &mut late => panic!("the call about a run of the lagging partition has not waited longer"),
        answer = get(of_partition(0)) => not_found(answer, "run", &of_partition(0)),
    }
    not_found(late.await, "run", &of_partition(1));
    harness.end().await;
}

#[tokio::test]
async fn a_branch_is_found_by_its_parent() {
    let harness = Harness::new().await;
    harness.create(&["trunk", "other"]).await;
    let branch = |step: Option<i64>| {
        let parent_run_id = "trunk".to_owned();
        let parent_step = step;
        Kind::CreateRun(CreateRun { parent_run_id, parent_step, ..CreateRun::default() })
    };
    harness.log("early", [branch(Some(0))]).await;
    harness.log("whole", [branch(None), params(r#"{"parent": "hidden"}"#)]).await;
    harness.applied().await;
    let search = async |text: &str| {
        let query = Some(Query { text: text.to_owned(), ..Query::default() });
        let request = RunsRequest { query, ids_only: true, ..RunsRequest::default() };
        let found = all(SearchServiceClient::new(harness.routes()).runs(request).await.unwrap()).await;
        found.into_iter().flat_map(|message| message.run_ids).collect::<Vec<_>>()
    };
    assert_eq!(search("run.parent == 'trunk'").await, ["early"]);
    assert_eq!(search("run.parent == 'hidden'").await, ["whole"]);
    assert_eq!(search("run.parent is None").await, ["other", "trunk"]);
    let parts = Some(RunParts { props: true, ..RunParts::default() });
    for (run, step) in [("early", Some(0)), ("whole", None)] {
        let request = GetRequest { run_id: run.into(), parts: parts.clone() };
        let found = RunServiceClient::new(harness.routes()).get(request).await.unwrap().into_inner();
        let parent = found.run.unwrap().props.unwrap().parent.unwrap();
        assert_eq!((parent.run_id.as_str(), parent.step), ("trunk", step));
    }
    harness.end().await;
}

#[tokio::test]
async fn the_series_of_a_run_are_read_in_pages() {
    let harness = Harness::new().await;
    harness.create(&["r"]).await;
    let train = r#"{"subset":"train"}"#;
    let val = r#"{"subset":"val"}"#;
    for (name, context) in [("loss", train), ("acc", val), ("loss", ""), ("acc", train), ("lr", "")] {
        harness.log_points("r", &[(name, context, &[1.0, 2.0, 0.5])]).await;
    }
    harness.applied().await;
    let mut client = Client::new(harness.routes());
    let mut read = async |series_offset: u32, series_limit: u32| {
        let series_types = vec![SeriesType::Metric.into()];
        let parts = RunParts { series_types, series_limit, series_offset, ..RunParts::default() };
        let request = GetRequest { run_id: "r".into(), parts: Some(parts) };
        client.get(request).await.map(|found| found.into_inner().run.unwrap())
    };
    let all = read(0, 0).await.unwrap();
    assert_eq!((all.series.len(), all.series_count), (5, 0));
    let mut paged = Vec::new();
    for offset in [0, 2, 4, 6] {
        let page = read(offset, 2).await.unwrap();
        assert_eq!(page.series_count, 5);
        paged.extend(page.series);
    }
    assert_eq!(paged, all.series);
    assert!(paged.iter().all(|info| (info.count, info.last, info.max) == (3, Some(0.5), Some(2.0))));
    assert_eq!(read(5, u32::MAX).await.unwrap().series, []);
    wrong_field(read(1, 0).await, "series_offset");
    harness.end().await;
}

#[tokio::test]
async fn values_that_were_logged_to_a_deleted_run_do_not_begin_the_next_one() {
    let mut harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    harness.create(&["r"]).await;
    client.delete(DeleteRequest { run_id: "r".into() }).await.unwrap();
    let request = ClearTombstoneRequest { run_id: "r".into() };
    let cleared = client.clear_tombstone(request.clone()).await.unwrap().into_inner().cleared;
    assert!(cleared);
    harness.create(&["r"]).await;
    client.delete(DeleteRequest { run_id: "r".into() }).await.unwrap();
    harness.applied().await;
    harness.stop_workers().await;
    harness.log_points("r", &[("loss", "", &[1.0])]).await;
    let clear = async { client.clear_tombstone(request).await.unwrap().into_inner().cleared };
    let (cleared, ()) = tokio::join!(clear, harness.start_workers());
    assert!(cleared);
    harness.applied().await;
    not_found(client.get(GetRequest { run_id: "r".into(), parts: None }).await, "run", "r");
    harness.end().await;
}

/// The clock of a client is wrong by years, and the run was edited meanwhile.
#[tokio::test]
async fn rule_106_the_last_data_of_an_active_run_has_the_time_of_the_server() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let shown = async || {
        let request = GetRequest { run_id: "r".into(), parts: props() };
        let run = Client::new(harness.routes()).get(request).await.unwrap().into_inner().run.unwrap();
        run.props.unwrap()
    };
    let append = async |kind, client_time_us| {
        let event = pb::Event { client_time_us, kind: Some(kind) };
        let batch = pb::IngestionBatch { events: vec![event], ..Default::default() };
        let before_us = harness.now_us();
        harness.append_entry("r", batch, LogEntry::default()).await;
        let received = before_us..=harness.now_us();
        harness.applied().await;
        received
    };
    let received = append(create(), Some(4_102_444_800_000_000)).await;
    let created_us = shown().await.last_data_us.unwrap();
    assert!(received.contains(&created_us), "{created_us}");
    harness.advance_clock(600);
    let rename = UpdateRequest { run_id: "r".into(), name: Some("n".into()), ..Default::default() };
    client.update(rename).await.unwrap();
    assert_eq!(shown().await.last_data_us, Some(created_us), "an edit is no data");
    let received = append(line(0, "x"), Some(1)).await;
    let logged_us = shown().await.last_data_us.unwrap();
    assert!(received.contains(&logged_us) && logged_us >= created_us + 600_000_000, "{logged_us}");
    append(finish(), None).await;
    assert_eq!(shown().await.last_data_us, None);
    harness.end().await;
}
