//! X axes of series, and explanations of queries.

use matyan_proto::{
    common::v1::{SeriesKey, SeriesType, StepRange},
    search::v1::{ExplainRequest, ExplainResponse, MetricsRequest, ObjectsRequest, SearchKind},
    series::v1::{AlignRequest, AlignResponse, AlignRun, AlignSeries, align_request::Axis},
};
use tonic::Code;
use tonic_types::StatusExt;

use crate::search::harness::{self, Harness, RunSpec, Sequence, map, spec};

fn sequence(name: &str, context: &str, steps: impl IntoIterator<Item = i64>) -> Sequence {
    let points = steps.into_iter().map(|step| (step, step as f64 * 0.5)).collect();
    Sequence { name: name.into(), context: map(context), dtype: "float".into(), points }
}

async fn project() -> Harness {
    let harness = Harness::new().await;
    let sequences = vec![
        sequence("loss", "{}", [0, 3, 10, 12]),
        sequence("x", "{}", [0, 1, 2, 3, 4, 10]),
        sequence("loss", r#"{"a":1}"#, [5]),
        sequence("long", "{}", 0..150_000),
    ];
    harness.create(&RunSpec { sequences, ..spec("r", 1) }).await;
    harness.create(&spec("empty", 2)).await;
    harness
}

fn series(name: &str, context: &str, stop: Option<i64>) -> AlignSeries {
    let key = SeriesKey { name: name.into(), context: context.into() };
    AlignSeries { key: Some(key), steps: stop.map(|stop| StepRange { start: None, stop: Some(stop) }) }
}

async fn align(harness: &Harness, axis: Axis, series: Vec<AlignSeries>) -> Vec<AlignResponse> {
    let run = |run_id: &str, series| AlignRun { run_id: run_id.into(), series };
    let runs = vec![run("r", series.clone()), run("missing", series.clone()), run("empty", series)];
    align_responses(harness, AlignRequest { axis: Some(axis), runs, by_column: false }).await
}

async fn align_responses(harness: &Harness, request: AlignRequest) -> Vec<AlignResponse> {
    let mut messages = harness.series().align(request).await.unwrap().into_inner();
    let mut responses = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        responses.push(message);
    }
    responses
}

/// Index of the series, x values, steps.
type Axes = Vec<(u32, Vec<f64>, Vec<i64>)>;

fn of(responses: &[AlignResponse], run: u32) -> Axes {
    let series = responses.iter().filter(|it| it.run == run).flat_map(|it| &it.series);
    series.map(|it| (it.series, it.x_values.clone(), it.steps.clone())).collect()
}

#[tokio::test]
async fn axes_are_metrics_epochs_and_times() {
    let harness = project().await;
    let requested =
        || vec![series("loss", "", None), series("nothing", "", None), series("loss", r#"{"a": 1}"#, None)];
    let check = async |axis: Axis, expected: Axes| {
        let responses = align(&harness, axis.clone(), requested()).await;
        assert_eq!(of(&responses, 0), expected, "{axis:?}");
        let runs: Vec<(u32, &str)> = responses.iter().map(|it| (it.run, it.run_id.as_str())).collect();
        assert!(runs.contains(&(2, "empty")) && !runs.iter().any(|it| it.0 == 1), "{runs:?}");
    };
    let x = (0, vec![0.0, 0.5, 1.0, 1.5, 2.0, 5.0], vec![0, 1, 2, 3, 4, 10]);
    check(Axis::Metric("x".into()), vec![x]).await;
    check(Axis::Metric("nothing".into()), vec![]).await;
    let epochs = (0, vec![0.0, 1.0, 1.0], vec![0, 10, 12]);
    check(Axis::Epoch(true), vec![epochs, (2, vec![], vec![])]).await;
    let times = (0, vec![0.0, 3.0, 10.0, 12.0], vec![0, 3, 10, 12]);
    check(Axis::Time(true), vec![times.clone(), (2, vec![5.0], vec![5])]).await;
    check(Axis::RelativeTime(true), vec![times, (2, vec![0.0], vec![5])]).await;
}

#[tokio::test]
async fn long_axes_come_in_pieces_and_respect_step_ranges() {
    let harness = project().await;
    let responses = align(&harness, Axis::Metric("long".into()), vec![series("loss", "", None)]).await;
    let pieces = of(&responses, 0);
    assert!(pieces.len() > 1 && pieces.iter().all(|it| it.1.len() <= 64 * 1024));
    let steps: Vec<i64> = pieces.into_iter().flat_map(|it| it.2).collect();
    assert_eq!(steps, (0..150_000).collect::<Vec<_>>());
    let cut = align(&harness, Axis::Metric("long".into()), vec![series("loss", "", Some(3))]).await;
    assert_eq!(of(&cut, 0), vec![(0, vec![0.0, 0.5, 1.0], vec![0, 1, 2])]);
    let status = harness.series().align(AlignRequest::default()).await.expect_err("no axis is named");
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn axes_can_be_sent_by_column() {
    let harness = project().await;
    let of = vec![series("loss", "", None), series("nothing", "", None), series("long", "", None)];
    let runs = vec![AlignRun { run_id: "r".into(), series: of }];
    let request = AlignRequest { axis: Some(Axis::Epoch(true)), runs, by_column: true };
    let pieces: Vec<_> =
        align_responses(&harness, request).await.into_iter().flat_map(|it| it.series).collect();
    // Every second step of the long series has an epoch.
    for (place, expected) in [(0, vec![0, 10, 12]), (2, (0..150_000).step_by(2).collect::<Vec<i64>>())] {
        let of: Vec<_> = pieces.iter().filter(|it| it.series == place).collect();
        let ends: Vec<usize> = of.iter().enumerate().filter(|(_, it)| !it.more).map(|(at, _)| at).collect();
        assert_eq!((ends.len(), ends[1] + 1), (2, of.len()), "two columns");
        let (values, steps) = of.split_at(ends[0] + 1);
        assert!(values.iter().all(|it| it.steps.is_empty()) && steps.iter().all(|it| it.x_values.is_empty()));
        let reported: Vec<u64> = of.iter().map(|it| it.count).filter(|count| *count > 0).collect();
        assert_eq!(reported, [expected.len() as u64; 2]);
        assert_eq!((values[0].count, steps[0].count), (reported[0], reported[0]));
        let x: Vec<f64> = values.iter().flat_map(|it| it.x_values.clone()).collect();
        assert_eq!(x, expected.iter().map(|step| (step / 10) as f64).collect::<Vec<_>>());
        assert_eq!(steps.iter().flat_map(|it| it.steps.clone()).collect::<Vec<_>>(), expected);
    }
    assert!(!pieces.iter().any(|it| it.series == 1));
}

async fn explain(harness: &Harness, text: &str) -> ExplainResponse {
    let request = ExplainRequest { kind: SearchKind::Runs.into(), query: harness::query(text) };
    harness.search().explain(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn explain_returns_the_meaning_and_the_plan() {
    let harness = Harness::new().await;
    for at in 0..200 {
        let mut run = spec(&format!("r{at}"), at);
        run.params = map(&format!(r#"{{"lr":{at}}}"#));
        if at < 20 {
            run.name = format!("größe\0{at}");
            run.active = false;
            run.finalized_us = Some(if at == 0 { i64::MAX } else { at * 1_000_000 });
        }
        harness.create(&run).await;
    }
    harness.collect_params(64).await;
    // The maximum time must be found by a range without an end.
    for (text, candidates) in [
        (r#"run.name == "größe\0007""#, 1),
        (r#"run.name in ["größe\0001", "größe\0002", "nothing"]"#, 2),
        (r#"run.name.startswith("größe")"#, 20),
        ("run.end_time > 17", 3),
        ("3 <= run.end_time < 5", 2),
        ("run.end_time == 5", 1),
    ] {
        let explained = explain(&harness, text).await;
        assert!(!explained.full_scan && explained.candidates == candidates, "{text}: {explained:?}");
        assert_eq!(
            harness.runs(harness::runs_request(text)).await.unwrap().ids().len() as u64,
            candidates,
            "{text}"
        );
    }
    let explained = explain(&harness, "run.lr < 3").await;
    assert_eq!(explained.normalized, "run.is_archived == False and (run.lr < 3)");
    assert!(!explained.full_scan && explained.candidates == 3, "{explained:?}");
    assert!(explained.plan.contains("param lr < 3"), "{explained:?}");
    let explained = explain(&harness, "run.archived == True and run.created_at > datetime(2023, 1, 1)").await;
    assert_eq!(explained.normalized, "run.archived == True and run.created_at > 1672531200.0");
    let explained = explain(&harness, "").await;
    assert!(explained.full_scan && explained.candidates == 200, "{explained:?}");
    assert_eq!(explained.normalized, "run.is_archived == False");
    let explained = explain(&harness, "missing == 3").await;
    assert_eq!((explained.warnings[0].line, explained.warnings[0].column), (Some(1), Some(1)));
    let explained = explain(&harness, "SELECT x IF run.lr <\n  run.").await;
    let error = explained.error.expect("the query is invalid");
    assert_eq!((error.line, explained.full_scan, explained.normalized.as_str()), (2, false, ""));
    let error = explain(&harness, "run.lr < 3 run.at").await.error.expect("the query is invalid");
    assert_eq!(error.expected.as_deref(), Some("an operator, or the end of the expression"));
    // A search reports the same error.
    let refused =
        harness.runs(harness::runs_request("run.lr < 3 run.at")).await.expect_err("the query is invalid");
    let metadata = refused.get_error_details().error_info().expect("an error has details").metadata.clone();
    assert_eq!(metadata["expected"], error.expected.unwrap_or_default());
    let place = [("column", error.column), ("end_column", error.end_column)];
    assert!(place.iter().all(|(key, value)| metadata[*key] == value.to_string()), "{metadata:?}");
    let request = ExplainRequest { query: harness::query(""), ..ExplainRequest::default() };
    assert_eq!(harness.search().explain(request).await.expect_err("no kind").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn searches_are_counted_by_their_plans() {
    let harness = Harness::new().await;
    for at in 0..200 {
        let mut run = spec(&format!("r{at}"), at);
        run.params = map(&format!(r#"{{"lr":{at}}}"#));
        harness.create(&run).await;
    }
    harness.collect_params(64).await;
    for text in ["run.archived == True", "run.lr < 3", "run.lr + 1 == 3"] {
        harness.runs(harness::runs_request(text)).await.unwrap();
    }
    for text in ["metric.last > 1", "metric.name == 'loss'"] {
        let request = MetricsRequest { query: harness::query(text), ..MetricsRequest::default() };
        harness.metrics(request).await.unwrap();
    }
    let request = ObjectsRequest {
        query: harness::query("images.name == 'x'"),
        r#type: SeriesType::Images.into(),
        ..ObjectsRequest::default()
    };
    harness.objects(request).await.unwrap();
    let families = harness.registry.gather();
    let counted = families.iter().find(|family| family.name() == "matyan_planner_path_total").unwrap();
    let reported = |metric: &prometheus::proto::Metric| {
        let labels: Vec<_> = metric.get_label().iter().map(|label| label.value().to_owned()).collect();
        (labels.join(" "), metric.get_counter().get_value() as u64)
    };
    let mut reported: Vec<_> = counted.get_metric().iter().map(reported).collect();
    reported.retain(|(_, count)| *count > 0);
    reported.sort();
    let expected = [
        ("iter_matching_sequences fast superset", 1),
        ("metric_search fast superset", 1),
        ("metric_search lazy unindexed_sequence", 1),
        ("run_search fast exact", 1),
        ("run_search fast superset", 1),
        ("run_search lazy no_candidates", 1),
    ];
    assert_eq!(reported, expected.map(|(labels, count)| (labels.to_owned(), count)));
}
