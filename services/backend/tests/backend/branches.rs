//! Branches: what every kind of reader sees of the points that a run shares with its parent.

use matyan_proto::{
    backup::v1::{ReadRunRequest, backup_service_client::BackupServiceClient, piece::Content},
    common::v1::{SeriesKey, SeriesType, StepRange},
    ingest::v1::{CreateRun, IngestionBatch, Points, SeriesDef, event::Kind},
    log::v1::LogEntry,
    search::v1::{
        MetricValue, Query, RunsRequest, Sort, search_service_client::SearchServiceClient, sort::By,
    },
    series::v1::{series_service_client::SeriesServiceClient, *},
};

use crate::harness::{Harness, all, wrong_field};

const METRIC: i32 = SeriesType::Metric as i32;

fn branch(step: Option<i64>) -> [Kind; 1] {
    let parent_run_id = "trunk".to_owned();
    [Kind::CreateRun(CreateRun { parent_run_id, parent_step: step, ..CreateRun::default() })]
}

fn loss() -> Option<SeriesKey> {
    Some(SeriesKey { name: "loss".to_owned(), context: String::new() })
}

/// A run `trunk` whose loss is its step, up to 99; a branch `own` from step 49 with points of its own, 100
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
    // Folded, their own summaries would be read alone.
    harness.log("own", [crate::harness::finish()]).await;
    harness.log("same", [crate::harness::finish()]).await;
    harness.applied().await;
    assert_eq!(search("run.metrics['loss'].min == 0", by_last()).await, ["same", "trunk", "own"]);
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
