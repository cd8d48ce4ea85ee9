//! Several live streams in one.

use std::collections::BTreeMap;

use matyan_proto::{
    common::v1::{SeriesKey, StepRange},
    limits,
    live::v1::{
        SubscribeRequest, SubscribeResponse, Subscription, live_service_client::LiveServiceClient,
        subscribe_response::Response, subscription::Request as Wanted,
    },
    logs::v1::{LinesRequest, RecordsRequest},
    runs::v1::WatchRequest,
    search::v1::WatchRunsRequest,
    series::v1::{FollowRequest, RunSelection},
};
use tonic::{Code, Streaming};

use crate::backend::{
    harness::{Harness, finish, line, until, wrong_field},
    projects::of,
};

fn request(wanted: impl IntoIterator<Item = Wanted>) -> SubscribeRequest {
    let subscriptions = wanted.into_iter().map(|request| Subscription { request: Some(request) });
    SubscribeRequest { subscriptions: subscriptions.collect() }
}

fn lines(run_id: &str) -> Wanted {
    Wanted::Lines(LinesRequest { run_id: run_id.into(), follow: true, ..LinesRequest::default() })
}

/// Counts what was received by subscription and kind.
#[derive(Default, Debug)]
struct Received(BTreeMap<(u32, &'static str), usize>);

impl Received {
    async fn until(
        &mut self,
        stream: &mut Streaming<SubscribeResponse>,
        wanted: &[(u32, &'static str, usize)],
    ) {
        until(stream, |message| {
            let (kind, count) = match message.response.unwrap() {
                Response::Watch(watch) => ("watch", watch.changes.len()),
                Response::WatchRuns(watch) => ("watch runs", watch.changes.len()),
                Response::Follow(follow) => {
                    ("follow", follow.series.iter().map(|one| one.values.len()).sum())
                }
                Response::Lines(lines) => ("lines", lines.lines.len()),
                Response::Records(records) => ("records", records.records.len()),
                Response::Ended(end) => (if end.code == 0 { "end" } else { "failure" }, 1),
            };
            *self.0.entry((message.subscription, kind)).or_default() += count;
            wanted
                .iter()
                .all(|(index, kind, count)| self.0.get(&(*index, kind)).is_some_and(|it| it >= count))
        })
        .await;
    }
}

/// Requests of followers and watches are counted before they begin.
#[tokio::test]
async fn requests_of_streams_take_memory() {
    let harness = Harness::new().await;
    let mut client = LiveServiceClient::new(harness.routes());
    let follow = |series: usize| {
        let run = RunSelection { run_id: "r".into(), numbers: vec![0; series], ..RunSelection::default() };
        Wanted::Follow(FollowRequest { runs: vec![run], ..FollowRequest::default() })
    };
    let watch = |runs: usize| {
        let run_ids = (0..runs).map(|run| format!("{run:050}")).collect();
        Wanted::Watch(WatchRequest { run_ids, ..WatchRequest::default() })
    };
    // Ever smaller ones, until hardly any memory is left.
    let mut open = Vec::new();
    let mut series = limits::SERIES_PER_CALL;
    while series > 500 {
        match client.subscribe(request([follow(series)])).await {
            Ok(stream) => open.push(stream),
            Err(refused) => {
                assert_eq!(refused.code(), Code::Unavailable, "{refused}");
                series /= 2;
            }
        }
        assert!(open.len() < 64, "all of them together take no memory");
    }
    assert!(!open.is_empty());
    let refused = client.subscribe(request([watch(5_000)])).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    open.clear();
    harness.end().await;
}

#[tokio::test]
async fn one_stream_follows_runs_points_and_logs() {
    let harness = Harness::new().await;
    harness.create(&["r", "other"]).await;
    harness.log_points("r", &[("loss", "", &[1.0, 2.0])]).await;
    harness.log("r", [line(0, "first")]).await;
    harness.applied().await;
    let keys = vec![SeriesKey { name: "loss".into(), context: String::new() }];
    let run = RunSelection { run_id: "r".into(), keys, ..RunSelection::default() };
    let wanted = request([
        Wanted::WatchRuns(WatchRunsRequest { limit: 10, settle_ms: Some(0), ..Default::default() }),
        Wanted::Follow(FollowRequest { runs: vec![run], settle_ms: Some(0), ..Default::default() }),
        lines("r"),
        Wanted::Watch(WatchRequest { settle_ms: Some(0), ..Default::default() }),
        Wanted::Records(RecordsRequest { run_id: "r".into(), ..Default::default() }),
    ]);
    let mut client = LiveServiceClient::new(harness.routes());
    let mut stream = client.subscribe(wanted).await.unwrap().into_inner();
    let mut received = Received::default();
    received
        .until(&mut stream, &[(0, "watch runs", 2), (1, "follow", 2), (2, "lines", 1), (4, "end", 1)])
        .await;
    harness.log_points("r", &[("loss", "", &[1.0, 2.0, 3.0])]).await;
    harness.log("r", [line(1, "second")]).await;
    received
        .until(&mut stream, &[(0, "watch runs", 3), (1, "follow", 3), (2, "lines", 2), (3, "watch", 1)])
        .await;
    // The end of a log ends its subscription alone.
    harness.log("r", [finish()]).await;
    received.until(&mut stream, &[(2, "end", 1)]).await;
    harness.log("other", [line(0, "x")]).await;
    let before = received.0[&(3, "watch")];
    received.until(&mut stream, &[(3, "watch", before + 1)]).await;
    assert!(!received.0.keys().any(|(_, kind)| *kind == "failure"), "{received:?}");
    drop(stream);
    harness.end().await;
}

/// Changes made while a client is away arrive when it subscribes again from where it was.
#[tokio::test]
async fn a_subscription_continues_after_a_disconnect() {
    let harness = Harness::new().await;
    harness.create(&["a", "b"]).await;
    harness.log("a", [line(0, "first")]).await;
    harness.applied().await;
    let from = |resume: &bytes::Bytes, first_line: i64| {
        let snapshot = resume.is_empty();
        let watch =
            WatchRequest { resume: resume.clone(), snapshot, settle_ms: Some(0), ..WatchRequest::default() };
        let steps = Some(StepRange { start: Some(first_line), stop: None });
        let lines = LinesRequest { run_id: "a".into(), follow: true, steps, ..LinesRequest::default() };
        request([Wanted::Watch(watch), Wanted::Lines(lines)])
    };
    let mut client = LiveServiceClient::new(harness.routes());
    let mut stream = client.subscribe(from(&bytes::Bytes::new(), 0)).await.unwrap().into_inner();
    let mut resume = bytes::Bytes::new();
    let mut next_line = 0;
    let mut done = false;
    until(&mut stream, |message| {
        match message.response.unwrap() {
            Response::Watch(watch) => {
                done |= watch.snapshot_done;
                resume = watch.resume;
            }
            Response::Lines(lines) => next_line += lines.lines.len() as i64,
            other => panic!("{other:?}"),
        }
        done && next_line == 1
    })
    .await;
    drop(stream);
    harness.log("a", [line(1, "second"), line(2, "third")]).await;
    harness.log("new", [line(0, "x")]).await;
    harness.applied().await;
    let mut stream = client.subscribe(from(&resume, next_line)).await.unwrap().into_inner();
    let mut changed = std::collections::BTreeSet::new();
    let mut lines = Vec::new();
    until(&mut stream, |message| {
        match message.response.unwrap() {
            Response::Watch(watch) => changed.extend(watch.changes.into_iter().map(|change| change.run_id)),
            Response::Lines(found) => lines.extend(found.lines.into_iter().map(|line| line.text)),
            other => panic!("{other:?}"),
        }
        changed.len() >= 2 && lines.len() >= 2
    })
    .await;
    assert_eq!(changed.into_iter().collect::<Vec<_>>(), ["a", "new"], "`b` has not changed");
    assert_eq!(lines, ["second", "third"]);
    drop(stream);
    harness.end().await;
}

#[tokio::test]
async fn a_subscription_fails_alone_and_a_stream_ends_with_the_last_one() {
    let harness = Harness::new().await;
    let project = harness.create_project("p").await;
    let mut client = LiveServiceClient::new(harness.routes());
    let mut stream = client.subscribe(of("p", request([lines("none")]))).await.unwrap().into_inner();
    let mut ended = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        ended.push(message.response.unwrap());
    }
    assert!(matches!(&ended[..], [Response::Lines(_), Response::Ended(end)] if end.code == 0), "{ended:?}");
    drop(project);
    // A run of another project with the same id is not followed.
    harness.log("r", [line(0, "x")]).await;
    let wanted = request([lines("r"), Wanted::Watch(WatchRequest { snapshot: true, ..Default::default() })]);
    let mut stream = client.subscribe(of("p", wanted)).await.unwrap().into_inner();
    harness.log_in("p", "own", [line(0, "y")]).await;
    let mut received = Received::default();
    received.until(&mut stream, &[(0, "end", 1), (1, "watch", 1)]).await;
    assert_eq!((received.0[&(0, "lines")], received.0[&(1, "watch")]), (0, 1));
    drop(stream);

    wrong_field(client.subscribe(SubscribeRequest::default()).await, "subscriptions");
    let unknown = SubscribeRequest { subscriptions: vec![Subscription { request: None }] };
    wrong_field(client.subscribe(unknown).await, "subscriptions");
    let many = request((0..33).map(|_| lines("r")));
    wrong_field(client.subscribe(many).await, "subscriptions");
    let invalid = request([Wanted::WatchRuns(WatchRunsRequest::default())]);
    wrong_field(client.subscribe(invalid).await, "limit");
    // A server that stops ends the stream, so that clients connect again.
    let wanted = request([Wanted::Watch(WatchRequest::default()), lines("r")]);
    let mut stream = client.subscribe(wanted).await.unwrap().into_inner();
    let end = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without an error"),
                Err(status) => return status.code(),
            }
        }
    };
    let (code, ()) = tokio::join!(end, harness.end());
    assert_eq!(code, Code::Unavailable);
}
