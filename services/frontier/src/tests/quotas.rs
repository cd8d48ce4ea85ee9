//! Projects that have used up a quota.

use std::time::Duration;

use matyan_proto::{
    ingest::v1 as pb,
    project::v1::{ExceededQuota, QuotaKind},
};
use matyan_wire::headers::PROJECT;
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::harness::*;
use crate::admitted_runs;

fn exceed(env: &TestEnv, kind: QuotaKind) {
    env.quotas.lock().exceeded = Some(ExceededQuota { kind: kind.into(), limit: 2, used: 3 });
}

/// Asks whether data of a run is accepted.
async fn admit(env: &TestEnv, run_id: &str) -> Result<(), Status> {
    env.client().admit(pb::AdmitRequest { run_id: run_id.to_owned() }).await.map(drop)
}

async fn publish(env: &TestEnv, run_id: &str) -> Result<(), Status> {
    let batch = tag("t").encode_to_vec().into();
    let request = pb::PublishRequest { run_id: run_id.to_owned(), batch, ..Default::default() };
    env.client().publish(request).await.map(drop)
}

/// Opens a stream, and sends a batch.
async fn send(env: &TestEnv, run_id: &str) -> Result<(), Status> {
    let open = pb::StreamOpen { run_id: run_id.to_owned(), ..Default::default() };
    let stream = env.stream_open(open, &[]).await;
    // A refused stream may have ended before.
    let batch = pb::StreamBatch { sequence: 1, batch: tag("t").encode_to_vec().into(), ..Default::default() };
    let message = Some(pb::stream_request::Message::Batch(batch));
    stream.sender().send(pb::StreamRequest { message }).await.ok();
    stream.finish().await.1
}

fn check_refusal(refused: Status, quota: &str) {
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unavailable, "UNAVAILABLE"),
        "{refused:?}"
    );
    let metadata = refused.get_details_error_info().unwrap().metadata;
    assert_eq!((metadata["quota"].as_str(), metadata["limit"].as_str()), (quota, "2"));
    let words = [format!("quota of {quota} (3 of 2)"), format!("`max_project_{quota}`")];
    assert!(words.iter().all(|words| refused.message().contains(words)), "{refused:?}");
}

#[tokio::test]
async fn rule_132_a_used_up_quota_of_runs_refuses_only_new_runs() {
    let env = TestEnv::new().await;
    env.quotas.lock().runs = vec!["old"];
    exceed(&env, QuotaKind::Runs);
    for refused in [admit(&env, "new").await, publish(&env, "new").await, send(&env, "new").await] {
        check_refusal(refused.unwrap_err(), "runs");
    }
    assert_eq!(env.record_count().await, 0);
    for accepted in [admit(&env, "old").await, publish(&env, "old").await, send(&env, "old").await] {
        accepted.unwrap();
    }
    assert_eq!(env.record_count().await, 2);
    assert_eq!(["runs", "series", "bytes", "uploads"].map(|quota| env.refusals(quota)), [3, 0, 0, 0]);
    env.quotas.lock().exceeded = None;
    send(&env, "new").await.unwrap();
}

/// Lets time pass.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Opens a stream that has acknowledged data, and sends a batch.
async fn send_more(env: &TestEnv) -> Result<(), Status> {
    let stream = env.stream_open(open_producer(1), &[]).await;
    let batch = pb::StreamBatch { sequence: 2, batch: tag("t").encode_to_vec().into(), ..Default::default() };
    let message = Some(pb::stream_request::Message::Batch(batch));
    stream.sender().send(pb::StreamRequest { message }).await.ok();
    stream.finish().await.1
}

/// Workers that lag have not created the run.
#[tokio::test]
async fn rule_132_an_admitted_run_is_no_new_run() {
    let env = TestEnv::new().await;
    send(&env, "run").await.unwrap();
    exceed(&env, QuotaKind::Runs);
    for accepted in [admit(&env, "run").await, publish(&env, "run").await, send(&env, "run").await] {
        accepted.unwrap();
    }
    pass(admitted_runs::LIFETIME).await;
    check_refusal(admit(&env, "run").await.unwrap_err(), "runs");
    check_refusal(send(&env, "run").await.unwrap_err(), "runs");
    send_more(&env).await.unwrap();
    exceed(&env, QuotaKind::Bytes);
    check_refusal(send_more(&env).await.unwrap_err(), "bytes");
}

#[tokio::test]
async fn without_a_quota_of_runs_no_run_is_remembered() {
    let env = TestEnv::new().await;
    env.quotas.lock().allows_all_runs = true;
    send(&env, "stream").await.unwrap();
    publish(&env, "call").await.unwrap();
    // With a quota of runs, both would be known.
    exceed(&env, QuotaKind::Runs);
    for run_id in ["stream", "call"] {
        check_refusal(admit(&env, run_id).await.unwrap_err(), "runs");
    }
}

#[tokio::test]
async fn data_that_is_refused_admits_nothing() {
    let env = TestEnv::new().await;
    let batch = points(3, &["a"], &[3]).encode_to_vec().into();
    let request = pb::PublishRequest { run_id: "r".to_owned(), batch, ..Default::default() };
    env.client().publish(request).await.unwrap_err();
    exceed(&env, QuotaKind::Runs);
    check_refusal(admit(&env, "r").await.unwrap_err(), "runs");
}

/// Clients that connect and send nothing make no run.
#[tokio::test]
async fn a_question_about_a_run_admits_nothing() {
    let env = TestEnv::new().await;
    admit(&env, "r").await.unwrap();
    exceed(&env, QuotaKind::Runs);
    check_refusal(admit(&env, "r").await.unwrap_err(), "runs");
}

#[tokio::test]
async fn rule_132_a_used_up_quota_of_series_or_bytes_refuses_all_data() {
    for (kind, quota) in [(QuotaKind::Series, "series"), (QuotaKind::Bytes, "bytes")] {
        let env = TestEnv::new().await;
        env.quotas.lock().runs = vec!["old"];
        exceed(&env, kind);
        for refused in [admit(&env, "old").await, publish(&env, "old").await, send(&env, "old").await] {
            check_refusal(refused.unwrap_err(), quota);
        }
        assert_eq!(env.record_count().await, 0);
        assert_eq!(env.refusals(quota), 3);
    }
}

#[tokio::test]
async fn rule_132_an_open_stream_ends_after_what_it_has_read() {
    let env = TestEnv::new().await;
    let mut stream = env.stream().await;
    stream.send(1, &tag("t")).await;
    stream.acknowledged(1).await;
    let next_check = async || pass(Duration::from_secs(31)).await;
    // The run of an open stream is not a new run, even if no worker has created it yet.
    exceed(&env, QuotaKind::Runs);
    next_check().await;
    stream.send(2, &tag("t")).await;
    stream.acknowledged(2).await;
    exceed(&env, QuotaKind::Bytes);
    next_check().await;
    check_refusal(stream.answer().await.unwrap_err(), "bytes");
    assert_eq!(env.record_count().await, 2);
    assert_eq!((env.refusals("runs"), env.refusals("bytes")), (0, 1));
}

#[tokio::test]
async fn a_quota_that_cannot_be_looked_up_refuses_nothing() {
    let env = TestEnv::new().await;
    exceed(&env, QuotaKind::Bytes);
    env.quotas.lock().is_away = true;
    for accepted in [admit(&env, "r").await, publish(&env, "r").await, send(&env, "r").await] {
        accepted.unwrap();
    }
}

/// Asks whether a project accepts data while a lookup does not answer. Returns how long that takes as well.
async fn admit_to(env: &TestEnv, project: &str) -> (Result<(), Status>, Duration) {
    let mut request = Request::new(pb::AdmitRequest { run_id: "r".to_owned() });
    request.metadata_mut().insert(PROJECT, project.parse().unwrap());
    let asked_at = Instant::now();
    let answer = env.client().admit(request).await.map(drop);
    (answer, asked_at.elapsed())
}

#[tokio::test]
async fn rule_132_a_lookup_that_does_not_answer_delays_a_call_by_seconds() {
    let env = TestEnv::new().await;
    exceed(&env, QuotaKind::Bytes);
    env.quotas.lock().is_silent = true;
    tokio::time::pause();
    for project in ["", "team"] {
        let (answer, time) = admit_to(&env, project).await;
        answer.unwrap();
        assert!(time < Duration::from_secs(4), "{time:?}");
    }
    let (answer, time) = admit_to(&env, "silent").await;
    assert_eq!(answer.unwrap_err().code(), Code::Unavailable, "it may not exist");
    assert!(time < Duration::from_secs(4), "{time:?}");
}

/// Number of turns of other tasks after which one hangs.
const MOST_YIELDS: usize = 1_000_000;

#[tokio::test]
async fn a_stream_that_waits_for_a_lookup_ends_with_the_frontier() {
    let env = TestEnv::new().await;
    env.quotas.lock().is_silent = true;
    tokio::time::pause();
    let stream = env.stream().await;
    // With the clock paused, a limit on the time would pass at once.
    for _ in 0..MOST_YIELDS {
        if env.quotas.lock().questions > 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(env.quotas.lock().questions > 0, "the stream asks about its project");
    let stopped_at = Instant::now();
    env.frontier.drain().await;
    let refused = stream.finish().await.1.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(stopped_at.elapsed(), Duration::ZERO);
}
