//! Logs: existing lines and records, and those written while the run is active.

use std::collections::BTreeMap;

use matyan_model::{
    ids::{Project, RunId},
    position::{Cursor, LogPosition, cursor_put},
};
use matyan_proto::{
    common::v1::StepRange,
    ingest::v1 as pb,
    ingest::v1::event::Kind,
    logs::v1::{log_service_client::LogServiceClient, *},
    runs::v1::{GetRequest, run_service_client::RunServiceClient},
};
use matyan_store::{Batch, Store as _};
use tonic::{Code, Request, Streaming, service::Routes};

use crate::backend::harness::{Harness, all, create, finish, line, until};

type Client = LogServiceClient<Routes>;

fn record(message: &str) -> Kind {
    Kind::LogRecord(pb::LogRecord { message: message.to_owned(), level: 20, ..Default::default() })
}

async fn follow(
    harness: &Harness,
    run: &str,
    steps: Option<StepRange>,
    tail: u32,
) -> Streaming<LinesResponse> {
    let request = LinesRequest { run_id: run.to_owned(), steps, tail, follow: true };
    Client::new(harness.routes()).lines(request).await.unwrap().into_inner()
}

/// Collects lines until the stream ends without an error.
async fn rest(stream: Streaming<LinesResponse>) -> Vec<(i64, String)> {
    let responses = all(tonic::Response::new(stream)).await;
    responses.into_iter().flat_map(|response| response.lines).map(|line| (line.step, line.text)).collect()
}

#[tokio::test]
async fn followers_miss_and_duplicate_no_line_during_writes() {
    let harness = Harness::new().await;
    harness.log("r", [create()]).await;
    for step in 0..300 {
        harness.log("r", [line(step, &format!("line {step}"))]).await;
    }
    harness.applied().await;
    let writing = async {
        for step in 300..1_500 {
            harness.log("r", [line(step, &format!("line {step}"))]).await;
            if step % 100 == 0 {
                harness.applied().await;
            }
        }
        harness.log("r", [finish()]).await;
    };
    let from_start = Some(StepRange { start: Some(0), stop: None });
    let followers = async {
        let mut streams = Vec::new();
        for _ in 0..4 {
            streams.push(follow(&harness, "r", from_start, 0).await);
            tokio::task::yield_now().await;
        }
        futures::future::join_all(streams.into_iter().map(rest)).await
    };
    let ((), followed) = tokio::join!(writing, followers);
    let expected: Vec<_> = (0..1_500).map(|step| (step, format!("line {step}"))).collect();
    for mut lines in followed {
        lines.sort();
        assert_eq!(lines, expected);
    }
    harness.end().await;
}

#[tokio::test]
async fn a_rewritten_line_is_sent_again() {
    let harness = Harness::new().await;
    harness.log("r", [create(), line(5, "a"), line(6, "10%")]).await;
    harness.applied().await;
    let mut stream = follow(&harness, "r", None, 1).await;
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!((first.lines.len(), first.last_step), (1, Some(6)));
    let mut seen: BTreeMap<i64, String> = BTreeMap::new();
    for (step, text) in [(6, "50%"), (6, "100%"), (0, "resumed"), (9, "new")] {
        harness.log("r", [line(step, text)]).await;
        until(&mut stream, |response| {
            seen.extend(response.lines.into_iter().map(|line| (line.step, line.text)));
            seen.get(&step).is_some_and(|seen| seen == text)
        })
        .await;
    }
    assert_eq!(
        seen.keys().copied().collect::<Vec<_>>(),
        [0, 6, 9],
        "older lines outside of the tail are not sent"
    );
    harness.log("r", [line(9, "last"), finish()]).await;
    assert_eq!(rest(stream).await, [(9, "last".to_owned())]);
    harness.end().await;
}

#[tokio::test]
async fn records_are_followed_until_the_run_ends() {
    let harness = Harness::new().await;
    harness.log("r", [create(), record("0"), record("1"), record("2")]).await;
    harness.applied().await;
    let request = RecordsRequest { run_id: "r".into(), steps: None, tail: 2, follow: true };
    let stream = Client::new(harness.routes()).records(request.clone()).await.unwrap();
    let writing = async {
        for number in 3..200 {
            harness.log("r", [record(&number.to_string())]).await;
        }
        harness.log("r", [finish()]).await;
    };
    let ((), responses) = tokio::join!(writing, all(stream));
    let messages: Vec<_> =
        responses.into_iter().flat_map(|response| response.records).map(|one| one.message).collect();
    assert_eq!(messages, (1..200).map(|number| number.to_string()).collect::<Vec<_>>());
    let range = Some(StepRange { start: Some(198), stop: Some(500) });
    let again =
        Client::new(harness.routes()).records(RecordsRequest { steps: range, ..request }).await.unwrap();
    let responses = all(again).await;
    assert_eq!((responses[0].records.len(), responses[0].count), (2, 200));
    harness.end().await;
}

#[tokio::test]
async fn following_ends_immediately_for_an_unknown_run_and_on_deletion_for_a_known_one() {
    let harness = Harness::new().await;
    let responses = all(tonic::Response::new(follow(&harness, "missing", None, 0).await)).await;
    assert_eq!(responses, [LinesResponse::default()]);
    harness.create(&["r"]).await;
    let mut stream = follow(&harness, "r", None, 0).await;
    assert!(stream.message().await.unwrap().unwrap().lines.is_empty(), "the first response is immediate");
    let mut runs = matyan_proto::runs::v1::run_service_client::RunServiceClient::new(harness.routes());
    runs.delete(matyan_proto::runs::v1::DeleteRequest { run_id: "r".into() }).await.unwrap();
    assert!(rest(stream).await.is_empty());
    harness.end().await;
}

#[tokio::test]
async fn a_closing_server_disconnects_followers() {
    let harness = Harness::new().await;
    harness.create(&["r"]).await;
    let mut stream = follow(&harness, "r", None, 0).await;
    stream.message().await.unwrap();
    harness.backend.close();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable);
    harness.end().await;
}

/// The partition is held back by a record of another run.
#[tokio::test]
async fn rule_24_a_call_waits_for_the_records_of_one_run_only() {
    let harness = Harness::with_idle_workers().await;
    let mut batch = Batch::default();
    let applied = LogPosition { log: 0, partition: 0, offset: 5 };
    cursor_put(&mut batch, Project::default(), &RunId::new("r"), Cursor::after(applied));
    harness.store.commit(batch).await.unwrap();
    let call = async |after: &str| {
        let mut request = Request::new(GetRequest { run_id: "r".to_owned(), parts: None });
        request.metadata_mut().insert("matyan-after", after.parse().unwrap());
        RunServiceClient::new(harness.routes()).get(request).await.map(drop).map_err(|status| status.code())
    };
    // The call itself has begun, and finds no run.
    assert_eq!(call("0/0/5/r").await, Err(Code::NotFound));
    let late = futures::future::join_all(["0/0/5", "0/0/6/r", "0/0/5/other"].map(&call));
    assert_eq!(late.await, [Err(Code::Unavailable); 3]);
    for wrong in ["0/0", "0/x/5/r", ""] {
        assert_eq!(call(wrong).await, Err(Code::InvalidArgument), "{wrong}");
    }
    harness.end().await;
}

/// The cursor of a run in quarantine passes the records that are parked, and a reader would miss them.
#[tokio::test]
async fn rule_24_parked_records_do_not_count_as_applied() {
    let harness = Harness::with_idle_workers().await;
    let call = async |is_quarantined: bool| {
        let passed = Cursor::after(LogPosition { log: 0, partition: 0, offset: 5 });
        let mut batch = Batch::default();
        cursor_put(&mut batch, Project::default(), &RunId::new("r"), Cursor { is_quarantined, ..passed });
        harness.store.commit(batch).await.unwrap();
        let mut request = Request::new(GetRequest { run_id: "r".to_owned(), parts: None });
        request.metadata_mut().insert("matyan-after", "0/0/5/r".parse().unwrap());
        RunServiceClient::new(harness.routes()).get(request).await.unwrap_err()
    };
    let parked = call(true).await;
    assert_eq!(parked.code(), Code::Unavailable);
    assert!(parked.message().contains("`matyan runs resume r`"), "{parked}");
    assert_eq!(call(false).await.code(), Code::NotFound, "the call itself has begun, and finds no run");
    harness.end().await;
}
