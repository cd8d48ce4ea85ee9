//! Branches: what every kind of reader sees of the points that a run shares with its parent.

use matyan_maintenance::ParamCohorts;
use matyan_model::ids::Project;
use matyan_proto::{
    backup::v1::{ReadRunRequest, backup_service_client::BackupServiceClient, piece::Content},
    common::v1::{SeriesKey, SeriesType, StepRange},
    export::v1::{self as export, Format, export_service_client::ExportServiceClient},
    ingest::v1::{CreateRun, IngestionBatch, Points, SeriesDef, event::Kind},
    log::v1::LogEntry,
    runs::v1::{
        DeleteRequest, RunChange, RunPart, WatchRequest, WatchResponse, run_change,
        run_service_client::RunServiceClient,
    },
    search::v1::{
        Aggregate, ExplainRequest, ExplainResponse, GroupBy, GroupsRequest, MetricValue, Query, RunsRequest,
        SearchKind, Sort, SortField, WatchRunsRequest, WatchRunsResponse, aggregate::Of, group_by,
        search_service_client::SearchServiceClient, sort::By,
    },
    series::v1::{series_service_client::SeriesServiceClient, *},
};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use crate::backend::harness::{Harness, all, params, until, wrong_field};

const METRIC: i32 = SeriesType::Metric as i32;

fn branch(step: Option<i64>) -> [Kind; 1] {
    let parent_run_id = "trunk".to_owned();
    [Kind::CreateRun(CreateRun { parent_run_id, parent_step: step, ..CreateRun::default() })]
}

fn loss() -> Option<SeriesKey> {
    Some(SeriesKey { name: "loss".to_owned(), context: String::new() })
}

/// A run `trunk` whose loss is its step, up to 99; a branch `own` from step 49 with its own points, 100
/// more than the step; and a branch `same` from step 79 without any.
async fn forest() -> Harness {
    let harness = Harness::new().await;
    harness.create(&["trunk"]).await;
    let values: Vec<f64> = (0..100).map(f64::from).collect();
    harness.log_points("trunk", &[("loss", "", &values[..])]).await;
    harness.applied().await;
    harness.log("own", branch(Some(49))).await;
    let values: Vec<f64> = (50..60).map(|step| f64::from(step) + 100.0).collect();
    // Without steps: they follow the shared ones.
    let batch = IngestionBatch {
        series: vec![SeriesDef { name: "loss".into(), ..SeriesDef::default() }],
        points: vec![Points { series: vec![0; values.len()], values, ..Points::default() }],
        ..IngestionBatch::default()
    };
    harness.append_entry("own", batch, LogEntry::default()).await;
    harness.log("same", branch(Some(79))).await;
    harness.applied().await;
    harness
}

fn selection(run_id: &str) -> RunSelection {
    let keys = vec![loss().unwrap()];
    RunSelection { run_id: run_id.to_owned(), keys, ..RunSelection::default() }
}

#[tokio::test]
async fn readers_find_the_points_of_the_parent() {
    let harness = forest().await;
    let mut series = SeriesServiceClient::new(harness.routes());
    for (run, own, count) in [("own", 10, 60_u32), ("same", 0, 80)] {
        let expected: Vec<f64> = (0..count - own)
            .map(f64::from)
            .chain((count - own..count).map(|step| f64::from(step) + 100.0))
            .collect();
        let request = PointsRequest { run: Some(selection(run)), ..Default::default() };
        let points = all(series.points(request).await.unwrap()).await;
        let values: Vec<f64> =
            points.into_iter().flat_map(|message| message.points.unwrap().values).collect();
        assert_eq!(values, expected, "{run}");

        let request = BucketsRequest {
            runs: vec![selection(run)],
            pixels: 4,
            columns: vec![BucketColumn::Count.into()],
            ..Default::default()
        };
        let buckets = all(series.buckets(request).await.unwrap()).await;
        let buckets = &buckets[0].series[0];
        assert_eq!(buckets.count.iter().sum::<u32>(), count);

        let request = ListRequest { run_id: run.to_owned(), types: vec![METRIC], ..Default::default() };
        let info = all(series.list(request).await.unwrap()).await[0].series[0].clone();
        let last = *expected.last().unwrap();
        assert_eq!((info.count, info.last, info.max), (u64::from(count), Some(last), Some(last)));

        let request = FollowRequest { runs: vec![selection(run)], settle_ms: Some(0), ..Default::default() };
        let mut followed = series.follow(request).await.unwrap().into_inner();
        let first = followed.message().await.unwrap().unwrap();
        let points: usize = first.series.iter().map(|piece| piece.values.len()).sum();
        assert_eq!(points, count as usize);

        let mut backup = BackupServiceClient::new(harness.routes());
        let read = all(backup.read_run(ReadRunRequest { run_id: run.to_owned() }).await.unwrap()).await;
        let pieces = read.into_iter().flat_map(|message| message.pieces);
        let points = pieces.filter_map(|piece| match piece.content {
            Some(Content::Points(points)) => Some(points.values),
            _ => None,
        });
        assert_eq!(points.flatten().collect::<Vec<f64>>(), expected, "an archive needs no other run");
    }
    harness.end().await;
}

#[tokio::test]
async fn searches_and_tables_use_the_last_value_of_a_branch() {
    let harness = forest().await;
    let search = async |text: &str, sort: Vec<Sort>| {
        let query = Some(Query { text: text.to_owned(), ..Query::default() });
        let request = RunsRequest { query, sort, ids_only: true, ..RunsRequest::default() };
        let found = all(SearchServiceClient::new(harness.routes()).runs(request).await.unwrap()).await;
        found.into_iter().flat_map(|message| message.run_ids).collect::<Vec<_>>()
    };
    let by_last = || {
        let metric = By::Metric(loss().unwrap());
        vec![Sort { by: Some(metric), metric_value: MetricValue::Last.into(), ..Sort::default() }]
    };
    assert_eq!(search("run.metrics['loss'].last == 79", Vec::new()).await, ["same"]);
    assert_eq!(search("", by_last()).await, ["same", "trunk", "own"]);
    // Once they are folded, only their own summaries would be read.
    harness.log("own", [crate::backend::harness::finish()]).await;
    harness.log("same", [crate::backend::harness::finish()]).await;
    harness.applied().await;
    assert_eq!(search("run.metrics['loss'].min == 0", by_last()).await, ["same", "trunk", "own"]);
    harness.end().await;
}

async fn log_loss(harness: &Harness, run: &str, points: &[(i64, f64)]) {
    let (steps, values): (Vec<i64>, Vec<f64>) = points.iter().copied().unzip();
    let batch = IngestionBatch {
        series: vec![SeriesDef { name: "loss".into(), ..SeriesDef::default() }],
        points: vec![Points { series: vec![0; values.len()], steps, values, ..Points::default() }],
        ..IngestionBatch::default()
    };
    harness.append_entry(run, batch, LogEntry::default()).await;
}

fn query(text: &str) -> Option<Query> {
    Some(Query { text: text.to_owned(), ..Query::default() })
}

/// The runs that a query finds, sorted by the last value of their loss, from the table of the project.
async fn sorted(harness: &Harness, text: &str) -> Vec<String> {
    let by = Some(By::Metric(loss().unwrap()));
    let sort = vec![Sort { by, metric_value: MetricValue::Last.into(), ..Sort::default() }];
    let request =
        RunsRequest { query: query(text), sort, ids_only: true, limit: 10, ..RunsRequest::default() };
    let found = all(SearchServiceClient::new(harness.routes()).runs(request).await.unwrap()).await;
    found.into_iter().flat_map(|message| message.run_ids).collect()
}

/// The mean of the last losses of all runs, rounded.
async fn mean(harness: &Harness) -> Option<i64> {
    let by = Some(group_by::By::Field(SortField::Experiment.into()));
    let request = GroupsRequest {
        by: vec![GroupBy { by, ..GroupBy::default() }],
        aggregates: vec![Aggregate { of: Some(Of::Metric(loss().unwrap())), ..Aggregate::default() }],
        ..GroupsRequest::default()
    };
    let found = SearchServiceClient::new(harness.routes()).groups(request).await.unwrap().into_inner();
    found.groups[0].aggregates[0].mean.map(|mean| mean.round() as i64)
}

#[tokio::test]
async fn tables_know_what_a_branch_shares_when_its_parent_changes() {
    let harness = forest().await;
    let high = "run.metrics['loss'].last > 120";
    assert_eq!(sorted(&harness, "").await, ["same", "trunk", "own"]);
    assert_eq!(sorted(&harness, high).await, ["own"]);
    assert_eq!(mean(&harness).await, Some(112));
    // The last step that `same` shares is logged again.
    log_loss(&harness, "trunk", &[(79, 500.0)]).await;
    harness.applied().await;
    assert_eq!(sorted(&harness, "").await, ["trunk", "own", "same"]);
    assert_eq!(sorted(&harness, high).await, ["own", "same"]);
    assert_eq!(mean(&harness).await, Some(253));
    // Later steps are not shared.
    log_loss(&harness, "trunk", &[(100, 130.0)]).await;
    harness.applied().await;
    assert_eq!(sorted(&harness, high).await, ["trunk", "own", "same"]);
    let delete = DeleteStepsRequest {
        run_id: "trunk".into(),
        r#type: METRIC,
        key: loss(),
        steps: Some(StepRange { start: Some(10), stop: None }),
        ..Default::default()
    };
    SeriesServiceClient::new(harness.routes()).delete_steps(delete).await.unwrap();
    assert_eq!(sorted(&harness, high).await, ["own"]);
    assert_eq!(mean(&harness).await, Some(59));
    // A deleted run takes its points along at once.
    let request = DeleteRequest { run_id: "trunk".to_owned() };
    RunServiceClient::new(harness.routes()).delete(request).await.unwrap();
    harness.applied().await;
    assert_eq!(sorted(&harness, "run.metrics['loss'].last < 100").await, [""; 0]);
    assert_eq!(mean(&harness).await, Some(159));
    harness.end().await;
}

#[tokio::test]
async fn a_followed_branch_is_stale_when_what_it_shares_changes() {
    let harness = forest().await;
    let request =
        FollowRequest { runs: vec![selection("same")], settle_ms: Some(0), ..FollowRequest::default() };
    let mut client = SeriesServiceClient::new(harness.routes());
    let mut stream = client.follow(request).await.unwrap().into_inner();
    until(&mut stream, |message| message.caught_up).await;
    // A later step is not shared, so followers are not notified.
    log_loss(&harness, "trunk", &[(100, 1.0)]).await;
    log_loss(&harness, "trunk", &[(40, -7.0)]).await;
    until(&mut stream, |message| {
        assert_eq!(message.series, []);
        message.stale.iter().any(|place| (place.run, place.series) == (0, 0))
    })
    .await;
    // Own points are sent as before.
    log_loss(&harness, "same", &[(80, 3.0)]).await;
    until(&mut stream, |message| {
        assert_eq!(message.stale, []);
        message.series.iter().any(|points| points.steps == [80])
    })
    .await;
    let delete = DeleteStepsRequest {
        run_id: "trunk".into(),
        r#type: METRIC,
        key: loss(),
        steps: Some(StepRange::default()),
        ..Default::default()
    };
    client.delete_steps(delete).await.unwrap();
    until(&mut stream, |message| !message.stale.is_empty()).await;
    harness.end().await;
}

/// A branch without its own points is stale when it loses all that it shares.
#[tokio::test]
async fn a_followed_branch_is_stale_when_its_parent_is_deleted() {
    let harness = forest().await;
    let request =
        FollowRequest { runs: vec![selection("same")], settle_ms: Some(0), ..FollowRequest::default() };
    let mut stream = SeriesServiceClient::new(harness.routes()).follow(request).await.unwrap().into_inner();
    until(&mut stream, |message| message.caught_up).await;
    let request = DeleteRequest { run_id: "trunk".to_owned() };
    RunServiceClient::new(harness.routes()).delete(request).await.unwrap();
    until(&mut stream, |message| !message.stale.is_empty()).await;
    harness.end().await;
}

/// The next change of a run.
async fn change_of(changes: &mut Streaming<WatchResponse>, run: &str) -> RunChange {
    let mut found = None;
    until(changes, |message| {
        found = message.changes.into_iter().find(|change| change.run_id == run);
        found.is_some()
    })
    .await;
    found.unwrap()
}

#[tokio::test]
async fn watchers_of_a_branch_learn_when_what_it_shares_changes() {
    let harness = forest().await;
    let mut runs = RunServiceClient::new(harness.routes());
    let request = WatchRequest {
        run_ids: vec!["same".to_owned()],
        query: "run.metrics['loss'].first < 50".to_owned(),
        snapshot: true,
        progress: true,
        settle_ms: Some(0),
        ..WatchRequest::default()
    };
    let mut changes = runs.watch(request.clone()).await.unwrap().into_inner();
    let before = change_of(&mut changes, "same").await.series_edits;
    // A later step of the parent is not shared, so the first change that is reported is the change of the
    // earlier step.
    log_loss(&harness, "trunk", &[(100, 1.0)]).await;
    harness.applied().await;
    log_loss(&harness, "trunk", &[(40, -7.0), (120, 1.0)]).await;
    let change = change_of(&mut changes, "same").await;
    assert_eq!(change.parts().collect::<Vec<_>>(), [RunPart::Metrics]);
    assert!(change.data && change.series_edits == before, "{change:?}");
    assert_eq!(change.progress, None, "which metrics have changed is not known");
    // Points that the branch logs itself are described as before.
    log_loss(&harness, "same", &[(80, 3.0)]).await;
    let change = change_of(&mut changes, "same").await;
    let progress = change.progress.unwrap();
    assert_eq!((progress.numbers, progress.last_steps, progress.first_steps), (vec![0], vec![80], vec![80]));

    let delete = DeleteStepsRequest {
        run_id: "trunk".into(),
        r#type: METRIC,
        key: loss(),
        steps: Some(StepRange { start: Some(0), stop: Some(10) }),
        ..Default::default()
    };
    SeriesServiceClient::new(harness.routes()).delete_steps(delete).await.unwrap();
    let edited = change_of(&mut changes, "same").await;
    assert!(edited.data && edited.series_edits > before, "{edited:?}");
    drop(changes);
    // A watcher that resumes gets what has changed meanwhile, and a query sees the shared points.
    let mut changes =
        runs.watch(WatchRequest { snapshot: true, ..request.clone() }).await.unwrap().into_inner();
    let mut resume = bytes::Bytes::new();
    until(&mut changes, |message| {
        resume = message.resume;
        message.snapshot_done
    })
    .await;
    drop(changes);
    log_loss(&harness, "trunk", &[(0, 60.0)]).await;
    harness.applied().await;
    let resumed = WatchRequest { snapshot: false, resume, ..request };
    let mut changes = runs.watch(resumed).await.unwrap().into_inner();
    let left = change_of(&mut changes, "same").await;
    assert!(matches!(left.change, Some(run_change::Change::Left(_))), "{left:?}");
    harness.end().await;
}

#[tokio::test]
async fn watchers_of_a_branch_learn_when_its_parent_is_deleted() {
    let harness = forest().await;
    let mut runs = RunServiceClient::new(harness.routes());
    let request = WatchRequest { snapshot: true, settle_ms: Some(0), ..WatchRequest::default() };
    let mut changes = runs.watch(request).await.unwrap().into_inner();
    let first = change_of(&mut changes, "same").await;
    runs.delete(DeleteRequest { run_id: "trunk".to_owned() }).await.unwrap();
    let change = change_of(&mut changes, "same").await;
    assert!(change.data && change.series_edits != first.series_edits, "{change:?}");
    harness.end().await;
}

/// A table that a browser shows is sorted again, and the branch is described.
#[tokio::test]
async fn watched_searches_show_what_branches_share() {
    let harness = forest().await;
    let by = Some(By::Metric(loss().unwrap()));
    let sort = vec![Sort { by, metric_value: MetricValue::Last.into(), ..Sort::default() }];
    let request = WatchRunsRequest { sort, limit: 10, settle_ms: Some(0), ..WatchRunsRequest::default() };
    let mut client = SearchServiceClient::new(harness.routes());
    let mut stream = client.watch_runs(request).await.unwrap().into_inner();
    let order = |message: WatchRunsResponse| message.order.map(|order| order.run_ids).unwrap_or_default();
    until(&mut stream, |message| order(message) == ["same", "trunk", "own"]).await;
    log_loss(&harness, "trunk", &[(79, 500.0)]).await;
    let mut changed = Vec::new();
    until(&mut stream, |message| {
        changed.extend(message.changes.iter().map(|change| (change.run_id.clone(), change.data)));
        order(message) == ["trunk", "own", "same"]
    })
    .await;
    assert!(changed.contains(&("same".to_owned(), true)), "{changed:?}");
    harness.end().await;
}

async fn explain(harness: &Harness, text: &str) -> ExplainResponse {
    let request = ExplainRequest { kind: SearchKind::Runs.into(), query: query(text) };
    SearchServiceClient::new(harness.routes()).explain(request).await.unwrap().into_inner()
}

async fn found(harness: &Harness, text: &str) -> Vec<String> {
    let request = RunsRequest { query: query(text), ids_only: true, ..RunsRequest::default() };
    let found = all(SearchServiceClient::new(harness.routes()).runs(request).await.unwrap()).await;
    let mut ids: Vec<String> = found.into_iter().flat_map(|message| message.run_ids).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn branches_are_found_by_an_index() {
    let harness = forest().await;
    for number in 0..50 {
        harness.log(&format!("other{number}"), [crate::backend::harness::create()]).await;
    }
    // A param hides the property.
    harness.log("named", [params(r#"{"parent": "trunk"}"#)]).await;
    harness.log("hidden", branch(None)).await;
    harness.log("hidden", [params(r#"{"parent": "someone"}"#)]).await;
    harness.applied().await;
    // Until then, the params of new runs are only in their documents.
    let cohorts = ParamCohorts::new(&*harness.store, &|| 1_000_000);
    while cohorts.collect(Project(0), 1, [8; 16], &CancellationToken::new()).await.unwrap().has_more {}
    let text = "run.parent == 'trunk'";
    let explained = explain(&harness, text).await;
    assert!(!explained.full_scan && explained.candidates == 4, "{explained:?}");
    assert_eq!(found(&harness, text).await, ["named", "own", "same"]);
    assert_eq!(found(&harness, "run.parent in ['trunk', 'x'] and not run.archived").await.len(), 3);
    // A parent is known by its id even if it was deleted, and deleted branches are not found.
    for run_id in ["trunk", "own"] {
        let request = DeleteRequest { run_id: run_id.to_owned() };
        RunServiceClient::new(harness.routes()).delete(request).await.unwrap();
    }
    assert_eq!(explain(&harness, text).await.candidates, 3);
    assert_eq!(found(&harness, text).await, ["named", "same"]);
    harness.end().await;
}

#[tokio::test]
async fn a_parent_is_a_run_of_the_same_project() {
    let harness = forest().await;
    harness.create_project("other").await;
    harness.log_in("other", "stranger", branch(None)).await;
    harness.log_in("other", "stranger", [params(r#"{"a": 1}"#)]).await;
    harness.applied().await;
    let request = ListRequest { run_id: "stranger".to_owned(), types: vec![METRIC], ..Default::default() };
    let mut client = SeriesServiceClient::new(harness.routes());
    let series = all(client.list(crate::backend::projects::of("other", request)).await.unwrap()).await;
    assert!(series.iter().all(|message| message.series.is_empty()), "{series:?}");
    let request = RunsRequest { query: query("run.parent == 'trunk'"), ..RunsRequest::default() };
    let mut search = SearchServiceClient::new(harness.routes());
    let runs = all(search.runs(crate::backend::projects::of("other", request)).await.unwrap()).await;
    assert!(runs.iter().all(|message| message.runs.is_empty()), "{runs:?}");
    assert_eq!(found(&harness, "run.parent == 'trunk'").await, ["own", "same"]);
    harness.end().await;
}

#[tokio::test]
async fn samples_bands_and_exports_of_a_branch_have_shared_and_own_points() {
    let harness = forest().await;
    // The branch replaces the last shared steps.
    log_loss(&harness, "own", &[(45, 1_000.0)]).await;
    harness.applied().await;
    let expected: Vec<(i64, f64)> = (0..45)
        .map(|step| (step, step as f64))
        .chain([(45, 1_000.0)])
        .chain((50..60).map(|step| (step, step as f64 + 100.0)))
        .collect();
    let columns = Some(PointColumns { values: true, ..PointColumns::default() });
    let request = SampleRequest { runs: vec![selection("own")], columns, ..SampleRequest::default() };
    let mut series = SeriesServiceClient::new(harness.routes());
    let sampled = all(series.sample(request).await.unwrap()).await;
    let points: Vec<(i64, f64)> = sampled
        .into_iter()
        .flat_map(|message| message.series)
        .flat_map(|points| points.steps.into_iter().zip(points.values))
        .collect();
    assert_eq!(points, expected);

    let groups = vec![SeriesGroup { runs: vec![selection("own"), selection("trunk")] }];
    let request = BandsRequest { groups, pixels: 1_000, ..BandsRequest::default() };
    let bands = all(series.bands(request).await.unwrap()).await;
    let band = bands.into_iter().find_map(|message| message.band).unwrap();
    assert_eq!(band.width, 1);
    let at = |step: i64| {
        let place = band.index.iter().position(|index| band.origin + i64::from(*index) == step).unwrap();
        (band.count[place], band.min[place], band.max[place])
    };
    assert_eq!((at(44), at(45), at(46)), ((2, 44.0, 44.0), (2, 45.0, 1_000.0), (1, 46.0, 46.0)));
    assert_eq!((at(49), at(50)), ((1, 49.0, 49.0), (2, 50.0, 150.0)));

    let run_ids = vec!["own".to_owned()];
    let request =
        export::MetricsRequest { run_ids, format: Format::Csv.into(), ..export::MetricsRequest::default() };
    let exported = all(ExportServiceClient::new(harness.routes()).metrics(request).await.unwrap()).await;
    let file: Vec<u8> = exported.into_iter().flat_map(|message| message.piece.unwrap().data).collect();
    let file = String::from_utf8(file).unwrap();
    let mut lines = file.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let place = |name: &str| header.iter().position(|column| *column == name).unwrap();
    let step = place("step");
    let value = place("value");
    let rows = lines.map(|line| {
        // Contexts have quotes and commas, before and after which the count of columns is the same.
        let fields: Vec<&str> = line.split(',').collect();
        (fields[step].parse().unwrap(), fields[value].parse().unwrap())
    });
    assert_eq!(rows.collect::<Vec<(i64, f64)>>(), expected);
    harness.end().await;
}

#[tokio::test]
async fn shared_steps_are_deleted_in_the_parent() {
    let harness = forest().await;
    let mut series = SeriesServiceClient::new(harness.routes());
    let delete = |run: &str, start| DeleteStepsRequest {
        run_id: run.to_owned(),
        r#type: METRIC,
        key: loss(),
        steps: Some(StepRange { start: Some(start), stop: None }),
        ..Default::default()
    };
    wrong_field(series.delete_steps(delete("own", 49)).await, "steps");
    series.delete_steps(delete("own", 55)).await.unwrap();
    series.delete_steps(delete("trunk", 10)).await.unwrap();
    let mut count = async |run: &str| {
        let request = ListRequest { run_id: run.to_owned(), types: vec![METRIC], ..Default::default() };
        all(series.list(request).await.unwrap()).await[0].series[0].count
    };
    assert_eq!((count("own").await, count("same").await), (15, 10));
    harness.end().await;
}
