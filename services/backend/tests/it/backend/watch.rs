//! Watching: each change once, none missed across a reconnect, departures of runs, the end of
//! the stream.

use std::collections::HashMap;

use matyan_proto::{
    common::v1::SeriesType,
    ingest::v1::{LogObject, LogRecord, event::Kind},
    limits,
    runs::v1::{run_change::Change, run_service_client::RunServiceClient, *},
};
use tonic::{Code, Streaming, service::Routes};

use crate::backend::{
    every_rpc::encoded,
    harness::{Harness, create, failure, finish, line, params, tag, until, wrong_field},
};

type Client = RunServiceClient<Routes>;

fn request() -> WatchRequest {
    let parts = Some(RunParts { props: true, ..RunParts::default() });
    WatchRequest { parts, settle_ms: Some(0), ..WatchRequest::default() }
}

async fn watch(harness: &Harness, request: WatchRequest) -> Streaming<WatchResponse> {
    Client::new(harness.routes()).watch(request).await.unwrap().into_inner()
}

/// A watcher's state: the last version of each run, and all names reported for it.
#[derive(Default)]
struct WatchedRuns {
    runs: HashMap<String, Run>,
    reported: HashMap<String, Vec<String>>,
    resume: bytes::Bytes,
}

impl WatchedRuns {
    fn take(&mut self, response: WatchResponse) {
        for change in response.changes {
            match change.change.unwrap() {
                Change::Run(run) => {
                    let name = run.props.as_ref().unwrap().name.clone();
                    self.reported.entry(change.run_id.clone()).or_default().push(name);
                    self.runs.insert(change.run_id, run);
                }
                Change::Left(_) => {
                    assert!(self.runs.remove(&change.run_id).is_some(), "only a reported run can leave");
                }
            }
        }
        if !response.resume.is_empty() {
            self.resume = response.resume;
        }
    }

    fn name(&self, run: &str) -> &str {
        self.runs.get(run).map_or("", |run| &run.props.as_ref().unwrap().name)
    }
}

async fn rename(harness: &Harness, run: &str, name: &str) {
    let request = UpdateRequest { run_id: run.into(), name: Some(name.into()), ..Default::default() };
    Client::new(harness.routes()).update(request).await.unwrap();
}

/// Reads until a run has the given name.
async fn named(stream: &mut Streaming<WatchResponse>, known: &mut WatchedRuns, id: &str, name: &str) {
    until(stream, |response| {
        known.take(response);
        known.name(id) == name
    })
    .await;
}

#[tokio::test]
async fn each_change_is_reported_once() {
    let harness = Harness::new().await;
    harness.create(&["old"]).await;
    let mut stream = watch(&harness, request()).await;
    let mut known = WatchedRuns::default();
    harness.log("new", [create()]).await;
    until(&mut stream, |response| {
        known.take(response);
        known.runs.contains_key("new")
    })
    .await;
    for number in 0..20 {
        let name = format!("name {number}");
        rename(&harness, "old", &name).await;
        until(&mut stream, |response| {
            known.take(response);
            known.name("old") == name
        })
        .await;
    }
    let names: Vec<_> = (0..20).map(|number| format!("name {number}")).collect();
    assert_eq!(known.reported["old"], names, "each state is reported once, in order");
    assert_eq!(known.reported["new"].len(), 1);
    let mut client = Client::new(harness.routes());
    client.delete(DeleteRequest { run_id: "old".into() }).await.unwrap();
    until(&mut stream, |response| {
        known.take(response);
        !known.runs.contains_key("old")
    })
    .await;
    // Applying the deletion of a hidden run must not report a second departure, which `take`
    // would reject.
    harness.applied().await;
    rename(&harness, "new", "last").await;
    named(&mut stream, &mut known, "new", "last").await;
    harness.end().await;
}

#[tokio::test]
async fn rule_107_a_run_in_the_bin_leaves_a_watch_once_and_comes_back() {
    let harness = Harness::new().await;
    harness.create(&["r", "s"]).await;
    let mut stream = watch(&harness, request()).await;
    let mut known = WatchedRuns::default();
    rename(&harness, "r", "before").await;
    named(&mut stream, &mut known, "r", "before").await;
    let mut client = Client::new(harness.routes());
    client.bin_batch(BinBatchRequest { run_ids: vec!["r".into()] }).await.unwrap();
    until(&mut stream, |response| {
        known.take(response);
        !known.runs.contains_key("r")
    })
    .await;
    let reported = known.reported["r"].len();
    // What its client sends is applied, and not reported.
    harness.log("r", [params(r#"{"later": 2}"#)]).await;
    harness.applied().await;
    rename(&harness, "s", "later").await;
    named(&mut stream, &mut known, "s", "later").await;
    assert_eq!(known.reported["r"].len(), reported);
    client.restore_batch(RestoreBatchRequest { run_ids: vec!["r".into()] }).await.unwrap();
    named(&mut stream, &mut known, "r", "before").await;
    harness.end().await;
}

#[tokio::test]
async fn changes_within_the_settle_time_are_merged_into_the_last_state() {
    let harness = Harness::new().await;
    harness.create(&["r"]).await;
    let mut stream = watch(&harness, WatchRequest { settle_ms: Some(500), ..request() }).await;
    for number in 0..50 {
        rename(&harness, "r", &format!("{number}")).await;
    }
    let mut known = WatchedRuns::default();
    named(&mut stream, &mut known, "r", "49").await;
    assert!(known.reported["r"].len() < 25, "{:?}", known.reported["r"]);
    harness.end().await;
}

#[tokio::test]
async fn a_snapshot_is_sent_first_and_no_later_change_is_missed() {
    let harness = Harness::new().await;
    let ids: Vec<String> = (0..250).map(|number| format!("r{number}")).collect();
    for id in &ids {
        harness.log(id, [create()]).await;
    }
    harness.applied().await;
    let mut stream = watch(&harness, WatchRequest { snapshot: true, ..request() }).await;
    let writing = async {
        for (number, id) in ids.iter().enumerate() {
            rename(&harness, id, &format!("new {number}")).await;
        }
    };
    let mut known = WatchedRuns::default();
    let mut has_snapshot = false;
    let reading = until(&mut stream, |response| {
        has_snapshot |= response.snapshot_done;
        known.take(response);
        let is_new = |(number, id): (usize, &String)| known.name(id) == format!("new {number}");
        has_snapshot && ids.iter().enumerate().all(is_new)
    });
    tokio::join!(writing, reading);
    assert!(known.reported.values().all(|names| names.len() <= 2), "only the old and the new state");
    harness.end().await;
}

#[tokio::test]
async fn a_disconnected_watcher_resumes_at_its_position() {
    let harness = Harness::new().await;
    harness.create(&["a", "b"]).await;
    let mut known = WatchedRuns::default();
    let mut stream = watch(&harness, WatchRequest { snapshot: true, ..request() }).await;
    until(&mut stream, |response| {
        let done = response.snapshot_done;
        known.take(response);
        done
    })
    .await;
    drop(stream);
    rename(&harness, "a", "while away").await;
    harness.log("c", [create()]).await;
    harness.applied().await;
    let mut stream = watch(&harness, WatchRequest { resume: known.resume.clone(), ..request() }).await;
    until(&mut stream, |response| {
        known.take(response);
        known.name("a") == "while away" && known.runs.contains_key("c")
    })
    .await;
    assert_eq!(known.reported["b"].len(), 1, "unchanged runs are not reported again");
    // With a settle time, the position stays before the changes that have not been sent.
    let slow = WatchRequest { settle_ms: Some(60_000), resume: known.resume.clone(), ..request() };
    let held = watch(&harness, slow).await;
    rename(&harness, "a", "held back").await;
    drop(held);
    let mut stream = watch(&harness, WatchRequest { resume: known.resume.clone(), ..request() }).await;
    named(&mut stream, &mut known, "a", "held back").await;
    harness.end().await;
}

#[tokio::test]
async fn only_watched_runs_are_reported() {
    let harness = Harness::new().await;
    harness.create(&["a", "b"]).await;
    let by_id = WatchRequest { run_ids: vec!["a".into(), "later".into()], ..request() };
    let by_query = WatchRequest { query: "'wanted' in run.tags".into(), snapshot: true, ..request() };
    let mut ids = watch(&harness, by_id).await;
    let mut query = watch(&harness, by_query).await;
    let mut of_ids = WatchedRuns::default();
    let mut of_query = WatchedRuns::default();
    harness.log("b", [tag("wanted")]).await;
    harness.log("later", [create()]).await;
    until(&mut ids, |response| {
        of_ids.take(response);
        of_ids.runs.contains_key("later")
    })
    .await;
    assert_eq!(of_ids.runs.len(), 1);
    // `a` changes without matching; `take` would refuse its departure.
    harness.log("a", [finish()]).await;
    until(&mut query, |response| {
        of_query.take(response);
        of_query.runs.contains_key("b")
    })
    .await;
    assert_eq!(of_query.runs.len(), 1);
    // Without a snapshot, the watcher may know `a` from before.
    let by_query = WatchRequest { query: "'wanted' in run.tags".into(), ..request() };
    let mut blind = watch(&harness, by_query).await;
    rename(&harness, "a", "renamed").await;
    let left = |change: &RunChange| matches!(change.change, Some(Change::Left(_)));
    until(&mut blind, |response| response.changes.iter().any(|change| change.run_id == "a" && left(change)))
        .await;
    harness
        .log(
            "b",
            [matyan_proto::ingest::v1::event::Kind::RemoveTag(matyan_proto::ingest::v1::RemoveTag {
                name: "wanted".into(),
            })],
        )
        .await;
    until(&mut query, |response| {
        of_query.runs.retain(|id, _| {
            let left =
                |change: &RunChange| change.run_id == *id && matches!(change.change, Some(Change::Left(_)));
            !response.changes.iter().any(left)
        });
        of_query.runs.is_empty()
    })
    .await;
    harness.end().await;
}

#[tokio::test]
async fn data_changes_are_distinguished_from_control_changes() {
    let harness = Harness::new().await;
    harness.create(&["r"]).await;
    let mut stream = watch(&harness, WatchRequest { snapshot: true, ..request() }).await;
    until(&mut stream, |response| response.snapshot_done).await;
    harness.log_points("r", &[("loss", "", &[1.0, 2.0])]).await;
    until(&mut stream, |response| response.changes.iter().any(|change| change.data)).await;
    rename(&harness, "r", "n").await;
    until(&mut stream, |response| response.changes.iter().any(|change| !change.data)).await;
    harness.log("r", [finish()]).await;
    until(&mut stream, |response| !response.changes.is_empty()).await;
    harness.end().await;
}

/// Reads the next changes of the only run.
async fn next_change(stream: &mut Streaming<WatchResponse>) -> RunChange {
    let mut found = None;
    until(stream, |response| {
        found = response.changes.into_iter().next();
        found.is_some()
    })
    .await;
    found.unwrap()
}

#[tokio::test]
async fn changes_name_the_parts_and_metrics_that_changed() {
    let harness = Harness::new().await;
    harness.create(&["r"]).await;
    harness.log_points("r", &[("early", "", &[1.0])]).await;
    harness.applied().await;
    let mut stream = watch(&harness, WatchRequest { snapshot: true, progress: true, ..request() }).await;
    let first = next_change(&mut stream).await;
    assert_eq!((first.parts.len(), first.progress), (0, None));
    let record = LogRecord { message: "m".into(), level: 20, ..LogRecord::default() };
    let changed = [
        (RunPart::TerminalLines, line(0, "text")),
        (RunPart::Params, params(r#"{"lr": 1}"#)),
        (RunPart::LogRecords, Kind::LogRecord(record)),
        (RunPart::Properties, finish()),
        (RunPart::Properties, tag("t")),
    ];
    for (part, event) in changed {
        harness.log("r", [event]).await;
        let change = next_change(&mut stream).await;
        assert_eq!(change.parts().collect::<Vec<_>>(), [part]);
        assert_eq!(change.progress, Some(MetricProgress::default()));
    }
    harness.log_points("r", &[("late", "", &[1.0, 2.0, 3.0]), ("early", "", &[1.0, 2.0])]).await;
    let change = next_change(&mut stream).await;
    assert!(change.parts().any(|part| part == RunPart::Metrics), "{change:?}");
    assert!(change.data);
    let steps = |numbers, last_steps, first_steps| Some(MetricProgress { numbers, last_steps, first_steps });
    assert_eq!(change.progress, steps(vec![0, 1], vec![1, 2], vec![0, 0]));
    harness.end().await;
}

#[tokio::test]
async fn changes_show_how_far_series_of_objects_are() {
    let harness = Harness::new().await;
    let text = |name: &str, step: i64| {
        let value = encoded(r#"{"data":"x"}"#);
        let name = name.to_owned();
        let dtype = "text".to_owned();
        Kind::LogObject(LogObject { name, dtype, step: Some(step), value, ..LogObject::default() })
    };
    harness.create(&["r"]).await;
    let parts = Some(RunParts { series_types: vec![SeriesType::Texts.into()], ..RunParts::default() });
    let request = WatchRequest { snapshot: true, parts, ..request() };
    let mut stream = watch(&harness, request).await;
    next_change(&mut stream).await;
    let logged: [(&[(&str, i64)], &[_]); 4] = [
        (&[("a", 0), ("b", 7)], &[("a", 1, 0), ("b", 1, 7)]),
        (&[("a", 1), ("a", 2)], &[("a", 3, 2), ("b", 1, 7)]),
        (&[("b", 3)], &[("a", 3, 2), ("b", 2, 7)]),
        // An object that replaces another.
        (&[("b", 3)], &[("a", 3, 2), ("b", 2, 7)]),
    ];
    for (objects, expected) in logged {
        harness.log("r", objects.iter().map(|(name, step)| text(name, *step))).await;
        let change = next_change(&mut stream).await;
        assert_eq!(change.parts().collect::<Vec<_>>(), [RunPart::Objects]);
        let Some(Change::Run(run)) = &change.change else { panic!("{change:?}") };
        let series: Vec<_> =
            run.series.iter().map(|info| (info.name.as_str(), info.count, info.last_step)).collect();
        assert_eq!(series, expected);
    }
    harness.end().await;
}

#[tokio::test]
async fn invalid_requests_name_the_field() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let resume = |resume: &[u8]| WatchRequest { resume: bytes::Bytes::copy_from_slice(resume), ..request() };
    wrong_field(client.watch(resume(b"forged")).await, "resume");
    wrong_field(client.watch(WatchRequest { settle_ms: Some(60_001), ..request() }).await, "settle_ms");
    let many = WatchRequest { run_ids: vec!["r".into(); limits::RUNS_PER_CALL + 1], ..request() };
    wrong_field(client.watch(many).await, "run_ids");
    let query = WatchRequest { query: "run.name ==".into(), ..request() };
    assert_eq!(failure(client.watch(query).await).1, "INVALID_QUERY");
    let future = [&[1][..], &[0xff; 10]].concat();
    let both = WatchRequest { snapshot: true, ..resume(&future) };
    wrong_field(client.watch(both).await, "resume");
    let (code, reason, _) = failure(client.watch(resume(&future)).await);
    assert_eq!((code, reason.as_str()), (Code::OutOfRange, "POSITION_EXPIRED"));
    harness.end().await;
}

#[tokio::test]
async fn an_expired_position_is_rejected() {
    use matyan_model::{
        change::{KeptChanges, changes_trim},
        ids::Project,
    };
    use matyan_store::{Batch, Store};
    let harness = Harness::new().await;
    harness.create(&["r"]).await;
    let mut stream = watch(&harness, WatchRequest { snapshot: true, ..request() }).await;
    let mut known = WatchedRuns::default();
    until(&mut stream, |response| {
        let done = response.snapshot_done;
        known.take(response);
        done
    })
    .await;
    drop(stream);
    rename(&harness, "r", "missed").await;
    let mut batch = Batch::default();
    let snapshot = harness.store.snapshot().await.unwrap();
    let kept = KeptChanges { times_us: 0..0, count: 0 };
    assert!(changes_trim(&*snapshot, Project(0), &kept, &mut batch).await.unwrap());
    harness.store.commit(batch).await.unwrap();
    let mut stream = watch(&harness, WatchRequest { resume: known.resume, ..request() }).await;
    assert_eq!(stream.message().await.unwrap_err().code(), Code::OutOfRange);
    harness.end().await;
}

#[tokio::test]
async fn watchers_end_with_their_client_or_the_server() {
    let harness = Harness::new().await;
    let remaining = watch(&harness, request()).await;
    drop(watch(&harness, request()).await);
    harness.backend.close();
    let mut remaining = remaining;
    assert_eq!(remaining.message().await.unwrap_err().code(), Code::Unavailable);
    // Waits for every task: a task that did not end would make the test hang here.
    harness.end().await;
}
