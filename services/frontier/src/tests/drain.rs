//! Tests of draining: everything that was read is acknowledged, and nothing new starts.

use std::time::Duration;

use matyan_log::layers::AppendFault;
use matyan_proto::ingest::v1 as pb;
use prost::Message as _;
use tonic::Code;

use super::harness::*;

#[tokio::test]
async fn everything_that_was_read_is_acknowledged() {
    let env = TestEnv::new().await;
    env.faults.script_appends([Some(AppendFault::Delay(Duration::from_millis(100)))]);
    let stream = env.stream().await;
    stream.send(1, &tag("a")).await;
    stream.send(2, &tag("b")).await;
    env.until("matyan_ws_messages_total", |messages| messages == 2.0).await;

    let (drained, (last, ended)) = tokio::join!(env.frontier.drain(), stream.finish());
    let status = ended.unwrap_err();
    assert_eq!((last, status.code(), reason(&status).as_str()), (2, Code::Unavailable, "UNAVAILABLE"));
    assert_eq!(drained, ());
    assert_eq!(env.entries().await.len(), 2);
    assert_eq!(env.metric("matyan_ingest_streams_active"), 0.0);
}

#[tokio::test]
async fn idle_streams_end() {
    let env = TestEnv::new().await;
    let opened = env.stream().await;
    let not_opened = env.client().stream(tokio_stream::pending()).await;
    let ((), (_, ended), answer) = tokio::join!(env.frontier.drain(), opened.finish(), async {
        not_opened.unwrap().into_inner().message().await
    });
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn new_calls_are_refused() {
    let env = TestEnv::new().await;
    env.frontier.drain().await;
    let status = env.client().stream(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let publish = pb::PublishRequest {
        run_id: "run".into(),
        batch: tag("a").encode_to_vec().into(),
        ..Default::default()
    };
    assert_eq!(env.client().publish(publish).await.unwrap_err().code(), Code::Unavailable);
    let presign =
        pb::PresignRequest { run_id: "run".into(), artifact_path: "x".into(), ..Default::default() };
    assert_eq!(env.client().presign(presign).await.unwrap_err().code(), Code::Unavailable);
    let upload = env.client().upload(tokio_stream::iter([pb::UploadRequest::default()])).await;
    assert_eq!(upload.unwrap_err().code(), Code::Unavailable);
    assert_eq!(env.record_count().await, 0);
}

#[tokio::test]
async fn draining_waits_for_calls_in_progress() {
    let env = TestEnv::new().await;
    env.faults.script_appends([Some(AppendFault::Delay(Duration::from_millis(100)))]);
    let publish = pb::PublishRequest {
        run_id: "run".into(),
        batch: tag("a").encode_to_vec().into(),
        ..Default::default()
    };
    let mut client = env.client();
    let publishing = tokio::spawn(async move { client.publish(publish).await });
    env.until("matyan_ingest_in_flight_bytes", |bytes| bytes > 0.0).await;
    env.frontier.drain().await;
    assert_eq!(env.metric("matyan_ingest_in_flight_bytes"), 0.0, "the call has ended when draining has");
    publishing.await.unwrap().unwrap();
}
