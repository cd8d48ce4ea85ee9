//! Runs without faults.

use std::sync::Arc;

use matyan_sdk::{
    Columns, Context, LoggingRecord, Map, Properties, Run, Value,
    http::{HttpClient, Method, RestRequest, Timeouts},
};
use matyan_tests::{Reader, Server};

use crate::delivery::scene::{
    GUARD, PATIENT, SlowestCall, SpoolRoot, blocking, expect_count, props, series, take_notices,
};

#[tokio::test(flavor = "multi_thread")]
async fn points_get_steps_in_order_and_the_spool_is_removed() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let run = Arc::new(root.run(&server.ingest));
    let loss = series(&run, "loss");
    for step in 0..10_000 {
        run.track(&loss, f64::from(step), None, None);
    }
    let id = run.id().to_owned();
    let flushed = {
        let run = run.clone();
        blocking(move || run.flush(GUARD)).await
    };
    assert!(flushed, "{:?}", run.health());
    let health = run.health();
    assert_eq!((health.pending, health.dropped, health.connected), (0, 0, true));
    expect_count(&server.query, &id, "loss", 10_000).await;
    let report = blocking(move || run.close(PATIENT, |_| true)).await;
    assert_eq!((report.pending, report.spool), (0, None));
    assert_eq!(root.spools(), Vec::<std::path::PathBuf>::new());
}

/// Values of many series at one step travel in rows, with and without given steps.
#[tokio::test(flavor = "multi_thread")]
async fn rule_138_values_of_many_series_arrive_at_each_step() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let run = root.run(&server.ingest);
    let all: Vec<_> = (0..40).map(|number| series(&run, &format!("metric {number}"))).collect();
    for step in 0..500_i64 {
        for (number, series) in (0..).zip(&all) {
            let value = f64::from(number) + step as f64 / 8.0;
            let given = if step % 2 == 0 { Some(step) } else { None };
            run.track_at(series, value, given, Some(step / 100), 1_700_000_000_000_000 + step);
        }
    }
    let id = run.id().to_owned();
    drop(run);
    root.wait_until_empty().await;
    let reader = Reader::connect(&server.query).await;
    for number in 0..40 {
        let name = format!("metric {number}");
        let points = matyan_tests::eventually("all points can be read", async || {
            let points = reader.points(&id, &name, "").await.map_err(|status| status.to_string())?;
            if points.len() == 500 { Ok(points) } else { Err(format!("{} points", points.len())) }
        })
        .await;
        for (step, point) in (0..).zip(&points) {
            let found = (point.step, point.value, point.epoch, point.time_us);
            let value = f64::from(number) + step as f64 / 8.0;
            assert_eq!(found, (step, value, Some(step / 100), Some(1_700_000_000_000_000 + step)), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_stored_as_they_are() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let run = root.run(&server.ingest);
    let values = [0.5, f64::NAN, f64::INFINITY, -0.0];
    let columns = Columns {
        values: &values,
        steps: Some(&[-3, 7, i64::MAX, 1]),
        epochs: Some(&[1, 2, 3, 4]),
        times_us: Some(&[5, 1_700_000_000_000_000, 0, 9]),
    };
    run.track_many(&series(&run, "a"), &columns).unwrap();
    let wrong = Columns { steps: Some(&[1]), ..columns };
    assert_eq!(
        run.track_many(&series(&run, "a"), &wrong).unwrap_err().to_string(),
        "`steps`: expected 4 entries, one for each value, found 1"
    );
    let id = run.id().to_owned();
    drop(run);
    root.wait_until_empty().await;
    let reader = Reader::connect(&server.query).await;
    let points = matyan_tests::eventually("the points can be read", async || {
        let points = reader.points(&id, "a", "").await.map_err(|status| status.to_string())?;
        if points.len() == 4 { Ok(points) } else { Err(format!("{points:?}")) }
    })
    .await;
    let found: Vec<_> =
        points.iter().map(|point| (point.step, point.value.to_bits(), point.epoch, point.time_us)).collect();
    assert_eq!(
        found,
        [
            (-3, 0.5_f64.to_bits(), Some(1), Some(5)),
            (1, (-0.0_f64).to_bits(), Some(4), Some(9)),
            (7, f64::NAN.to_bits(), Some(2), Some(1_700_000_000_000_000)),
            (i64::MAX, f64::INFINITY.to_bits(), Some(3), Some(0)),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_in_order() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let run = root.run(&server.ingest);
    run.set_params(&Map::from([("lr".to_owned(), Value::Float(0.1))])).unwrap();
    run.set_properties(Properties { name: Some("first".to_owned()), ..Properties::default() }).unwrap();
    run.add_tag("a").unwrap();
    for line in 0..100 {
        run.terminal_line(&format!("line {line}"), line).unwrap();
        let message = format!("message {line}");
        let record = LoggingRecord {
            message: &message,
            level: 20,
            timestamp: 1.0,
            logger_info: Some(("train.py", line)),
            extra_args: None,
        };
        run.log_record(record).unwrap();
    }
    let id = run.id().to_owned();
    drop(run);
    root.wait_until_empty().await;
    let reader = Reader::connect(&server.query).await;
    matyan_tests::eventually("lines and records can be read", async || {
        let lines = reader.lines(&id).await.map_err(|status| status.to_string())?;
        let records = reader.records(&id).await.map_err(|status| status.to_string())?;
        let expected: Vec<_> = (0..100).map(|line| (line, format!("line {line}"))).collect();
        let messages: Vec<_> = (0..100).map(|line| format!("message {line}")).collect();
        if lines == expected && records == messages {
            Ok(())
        } else {
            Err(format!("{} lines, {} records", lines.len(), records.len()))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_larger_than_a_segment_is_stored() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let run = root.run(&server.ingest);
    let loss = series(&run, "loss");
    run.track(&loss, 0.0, None, None);
    run.terminal_line(&"x".repeat(7 << 20), 0).unwrap();
    run.track(&loss, 1.0, None, None);
    let id = run.id().to_owned();
    drop(run);
    root.wait_until_empty().await;
    expect_count(&server.query, &id, "loss", 2).await;
    let lines = Reader::connect(&server.query).await.lines(&id).await.unwrap();
    assert_eq!(lines.iter().map(|(_, line)| line.len()).collect::<Vec<_>>(), [7 << 20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_threads_share_a_series() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let run = root.run(&server.ingest);
    let loss = series(&run, "loss");
    let calls = SlowestCall::new("1,000 threads");
    std::thread::scope(|scope| {
        for _ in 0..1_000 {
            scope.spawn(|| (0..100).for_each(|_| calls.track(&run, &loss, 1, None)));
        }
    });
    let id = run.id().to_owned();
    drop(run);
    root.wait_until_empty().await;
    let reader = Reader::connect(&server.query).await;
    let steps = matyan_tests::eventually("all points can be read", async || {
        let points = reader.points(&id, "loss", "").await.map_err(|status| status.to_string())?;
        let steps: Vec<_> = points.iter().map(|point| point.step).collect();
        if steps.len() == 100_000 { Ok(steps) } else { Err(steps.len().to_string()) }
    })
    .await;
    assert!(steps.iter().copied().eq(0..100_000), "every step is used once");
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_of_one_run_share_steps_and_lines() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let first = root.run(&server.ingest);
    let id = first.id().to_owned();
    let again = matyan_sdk::RunOptions { run_id: Some(id.clone()), ..root.options(&server.ingest) };
    let second = Run::new(again).unwrap();
    for step in 0..10_000 {
        let run = if step % 3 == 0 { &second } else { &first };
        run.track(&series(run, "loss"), f64::from(step), None, None);
    }
    for line in 0..100 {
        first.terminal_line("of the first", line).unwrap();
        second.terminal_line("of the second", line).unwrap();
        // Progress bars rewrite their line.
        first.terminal_line("of the first, again", line).unwrap();
    }
    drop((first, second));
    root.wait_until_empty().await;
    expect_count(&server.query, &id, "loss", 10_000).await;
    let lines = Reader::connect(&server.query).await.lines(&id).await.unwrap();
    let expected = ["of the first, again", "of the second"];
    let expected: Vec<_> = (0..200).map(|line| (line, expected[line as usize % 2].to_owned())).collect();
    assert_eq!(lines, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_run_neither_continues_nor_ends_it() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let run = Arc::new(root.run(&server.ingest));
    let id = run.id().to_owned();
    let joining =
        matyan_sdk::RunOptions { run_id: Some(id.clone()), joins: true, ..root.options(&server.ingest) };
    let early = Run::new(joining.clone()).unwrap();
    early.track(&series(&early, "loss"), 0.0, Some(0), None);
    drop(early);
    run.finish(Some(&matyan_sdk::Outcome::Failed("out of memory".to_owned())));
    blocking(move || run.close(PATIENT, |_| true)).await;
    let ended = props(&server, &id, |props| props["active"] == false).await;
    let late = Run::new(joining).unwrap();
    late.track(&series(&late, "loss"), 1.0, Some(1), None);
    drop(late);
    root.wait_until_empty().await;
    expect_count(&server.query, &id, "loss", 2).await;
    let after = props(&server, &id, |_| true).await;
    for name in ["active", "outcome", "outcome_message", "end_time"] {
        assert_eq!(after[name], ended[name], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_a_run_that_was_deleted_is_reported_as_lost() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let config = matyan_sdk::Config { backend_url: server.query.clone(), ..root.config(&server.ingest) };
    let close = async |options: matyan_sdk::RunOptions| {
        let run = Arc::new(Run::new(options).unwrap());
        run.track(&series(&run, "loss"), 0.0, None, None);
        let flushing = run.clone();
        let is_stored = blocking(move || flushing.flush(GUARD)).await;
        assert_eq!(is_stored, run.health().dropped == 0);
        let closing = run.clone();
        let report = blocking(move || closing.close(PATIENT, |_| true)).await;
        let notices = take_notices(&run);
        let is_named = notices.iter().any(|notice| notice.message.contains("it was deleted"));
        assert_eq!((is_named, report.dropped > 0), (!is_stored, !is_stored), "{notices:?}");
        (run.id().to_owned(), is_named)
    };
    let (id, is_named) = close(matyan_sdk::RunOptions { config: config.clone(), ..Default::default() }).await;
    assert!(!is_named);
    let resumed = matyan_sdk::RunOptions { run_id: Some(id.clone()), config, ..Default::default() };
    assert!(!close(resumed.clone()).await.1, "the run exists");
    let request = RestRequest::new(Method::DELETE, format!("/api/v1/rest/runs/{id}/"));
    HttpClient::new(&server.query, Timeouts::default()).unwrap().text(&request).await.unwrap();
    assert!(close(resumed).await.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_tracked_after_the_end_is_stored_too() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let run = Arc::new(root.run(&server.ingest));
    let loss = series(&run, "loss");
    run.track(&loss, 0.0, None, None);
    let closing = run.clone();
    let report = blocking(move || closing.close(PATIENT, |_| true)).await;
    assert_eq!(report.pending, 0);
    run.track(&loss, 1.0, Some(1), None);
    let id = run.id().to_owned();
    drop((run, loss));
    root.wait_until_empty().await;
    expect_count(&server.query, &id, "loss", 2).await;
}

#[test]
fn invalid_arguments_are_named() {
    let root = SpoolRoot::new();
    let run = root.run("http://127.0.0.1:1");
    let long = "x".repeat(1025);
    let context = Context::default();
    assert_eq!(run.series(&long, &context, "float").err().map(|error| error.argument), Some("name"));
    assert_eq!(run.add_tag(&long).unwrap_err().argument, "tag");
    let options = matyan_sdk::RunOptions { run_id: Some("a/b".to_owned()), ..root.options("http://h") };
    assert_eq!(Run::new(options).err().map(|error| error.argument), Some("run_id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_run_continues_steps_and_lines() {
    let server = Server::up().await;
    let root = SpoolRoot::new();
    let options = matyan_sdk::RunOptions {
        config: matyan_sdk::Config { backend_url: server.query.clone(), ..root.config(&server.ingest) },
        ..matyan_sdk::RunOptions::default()
    };
    let first = Run::new(options.clone()).unwrap();
    let id = first.id().to_owned();
    let resumed = matyan_sdk::RunOptions { run_id: Some(id.clone()), ..options };
    for round in 0..2 {
        let run = Run::new(resumed.clone()).unwrap();
        for line in 0..3 {
            run.terminal_line(&format!("{round} {line}"), line).unwrap();
            run.track(&series(&run, "loss"), f64::from(round * 3) + line as f64, None, None);
        }
        drop(run);
        let count = (round as usize + 1) * 3;
        expect_count(&server.query, &id, "loss", count).await;
    }
    drop(first);
    root.wait_until_empty().await;
    let lines = Reader::connect(&server.query).await.lines(&id).await.unwrap();
    let expected = ["0 0", "0 1", "0 2", "1 0", "1 1", "1 2"];
    let expected: Vec<_> =
        expected.iter().enumerate().map(|(at, text)| (at as i64, (*text).to_owned())).collect();
    assert_eq!(lines, expected);
}
