//! Tests of the unary call.

use bytes::Bytes;
use matyan_access::AccessToken;
use matyan_log::layers::AppendFault;
use matyan_proto::{
    ingest::v1::{self as pb, event::Kind},
    limits,
};
use prost::Message as _;
use rand::{SeedableRng as _, rngs::StdRng};
use tonic::Code;

use super::harness::*;

fn request(batch: &pb::IngestionBatch) -> pb::PublishRequest {
    pb::PublishRequest { run_id: "run".into(), batch: batch.encode_to_vec().into(), ..Default::default() }
}

#[tokio::test]
async fn a_batch_is_durable_once_it_is_answered() {
    let env = TestEnv::new().await;
    let mut client = env.client();
    let batch = points(0, &["loss"], &[0, 0, 5]);
    let answer = client.publish(request(&batch)).await.unwrap().into_inner();
    assert_eq!(answer.position.unwrap().offset, 0);
    assert_eq!((answer.rejected_items, answer.rejections[0].item), (1, 2));
    let answer = client.publish(request(&tag("t"))).await.unwrap().into_inner();
    assert_eq!((answer.position.unwrap().offset, answer.rejected_items), (1, 0));

    let entries = env.entries().await;
    assert!(entries.iter().all(|entry| entry.ephemeral_producer && entry.sequence == 1));
    assert_ne!(entries[0].producer_id, entries[1].producer_id, "each call has its own producer");
}

#[tokio::test]
async fn rule_104_the_log_has_no_token_in_either_format_and_a_metric_counts_them() {
    let token = AccessToken::generate(&mut StdRng::seed_from_u64(1));
    let line = pb::LogTerminalLine { line: format!("echo {}", token.reveal()), step: 0 };
    let event = pb::Event { client_time_us: None, kind: Some(Kind::LogTerminalLine(line)) };
    let batch = pb::IngestionBatch { events: vec![event], ..Default::default() };
    for env in [TestEnv::new().await, TestEnv::json().await] {
        env.client().publish(request(&batch)).await.unwrap();
        let records = env.all_records().await;
        let contains = |part: &str| {
            let found = |value: &[u8]| value.windows(part.len()).any(|window| window == part.as_bytes());
            records.iter().any(|record| found(&record.value))
        };
        assert!(!contains(token.reveal()));
        assert!(contains(&format!("mtk_masked_{}_", token.digest().id())));
        assert_eq!(env.metric("matyan_ingest_masked_tokens_total"), 1.0);
    }
}

#[tokio::test]
async fn calls_of_a_producer_are_numbered() {
    let env = TestEnv::new().await;
    for sequence in 1..=2 {
        let producer_id = Bytes::from_static(&[9; 16]);
        let request = pb::PublishRequest { producer_id, sequence, ..request(&points(0, &["loss"], &[0])) };
        env.client().publish(request).await.unwrap();
    }
    let marks: Vec<_> =
        env.entries().await.iter().map(|entry| (entry.sequence, entry.acknowledged)).collect();
    assert_eq!(marks, [(1, 0), (2, 1)]);
}

#[tokio::test]
async fn rule_95_all_of_a_batch_or_nothing_is_appended() {
    for env in [TestEnv::new().await, TestEnv::json().await] {
        let whole =
            |batch: &pb::IngestionBatch| pb::PublishRequest { all_or_nothing: true, ..request(batch) };
        let long = pb::Event {
            client_time_us: None,
            kind: Some(Kind::AddTag(pb::AddTag { name: "x".repeat(limits::NAME_BYTES + 1) })),
        };
        let mut bad = points(0, &["loss"], &[0]);
        bad.events.push(long);
        let answer = env.client().publish(whole(&bad)).await.unwrap().into_inner();
        assert_eq!((answer.position, answer.rejected_items), (None, 1));
        assert_eq!(answer.rejections[0].field, "name");
        assert!(env.all_records().await.is_empty());
        bad.events.clear();
        let answer = env.client().publish(whole(&bad)).await.unwrap().into_inner();
        assert_eq!((answer.position.unwrap().offset, answer.rejected_items), (0, 0));
    }
}

/// A caller that waits for its position waits for everything before it.
#[tokio::test]
async fn an_empty_batch_is_appended_as_well() {
    for env in [TestEnv::new().await, TestEnv::json().await] {
        env.client().publish(request(&tag("t"))).await.unwrap();
        let empty = pb::PublishRequest { all_or_nothing: true, ..request(&pb::IngestionBatch::default()) };
        let answer = env.client().publish(empty).await.unwrap().into_inner();
        assert_eq!(answer.position.unwrap().offset, 1);
    }
}

#[tokio::test]
async fn a_call_is_retried_without_duplication() {
    let env = TestEnv::new().await;
    env.faults.script_appends([Some(AppendFault::ErrorAfter)]);
    env.client().publish(request(&tag("t"))).await.unwrap();
    let entries = env.entries().await;
    assert_eq!((entries.len(), &entries[0]), (2, &entries[1]));
}

#[tokio::test]
async fn wrong_requests_are_refused() {
    let env = TestEnv::new().await;
    let good = request(&tag("t"));
    for (request, code, word) in [
        (pb::PublishRequest { run_id: "..".into(), ..good.clone() }, Code::InvalidArgument, "run_id"),
        (pb::PublishRequest { sequence: 1, ..good.clone() }, Code::InvalidArgument, "sequence"),
        (
            pb::PublishRequest { producer_id: Bytes::from_static(b"x"), ..good.clone() },
            Code::InvalidArgument,
            "producer_id",
        ),
        (request(&points(3, &["a"], &[3])), Code::FailedPrecondition, "series_base"),
    ] {
        let status = env.client().publish(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(word), "{status}");
    }
    assert_eq!(env.record_count().await, 0);
}
