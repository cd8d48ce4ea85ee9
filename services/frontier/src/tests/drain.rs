//! Tests of draining: everything that was read is acknowledged, and nothing new starts.

use std::time::Duration;

use matyan_log::layers::AppendFault;
use matyan_proto::ingest::v1 as pb;
use prost::Message as _;
use tonic::Code;

use super::harness::*;

#[tokio::test]
async fn everything_that_was_read_is_acknowledged() {
    let world = World::new().await;
    world.faults.script_appends([Some(AppendFault::Delay(Duration::from_millis(100)))]);
    let stream = world.stream().await;
    stream.send(1, &tag("a")).await;
    stream.send(2, &tag("b")).await;
    world.until("matyan_ws_messages_total", |messages| messages == 2.0).await;

    let (drained, (last, ended)) = tokio::join!(world.frontier.drain(), stream.finish());
    let status = ended.unwrap_err();
    assert_eq!((last, status.code(), reason(&status).as_str()), (2, Code::Unavailable, "UNAVAILABLE"));
    assert_eq!(drained, ());
    assert_eq!(world.entries().await.len(), 2);
    assert_eq!(world.metric("matyan_ingest_streams_active"), 0.0);
}

#[tokio::test]
async fn idle_streams_end() {
    let world = World::new().await;
    let (opened, not_opened) = (world.stream().await, world.client().stream(tokio_stream::pending()).await);
    let ((), (_, ended), answer) = tokio::join!(world.frontier.drain(), opened.finish(), async {
        not_opened.unwrap().into_inner().message().await
    });
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn new_calls_are_refused() {
    let world = World::new().await;
    world.frontier.drain().await;
    let status = world.client().stream(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let publish = pb::PublishRequest {
        run_id: "run".into(),
        batch: tag("a").encode_to_vec().into(),
        ..Default::default()
    };
    assert_eq!(world.client().publish(publish).await.unwrap_err().code(), Code::Unavailable);
    let presign =
        pb::PresignRequest { run_id: "run".into(), artifact_path: "x".into(), ..Default::default() };
    assert_eq!(world.client().presign(presign).await.unwrap_err().code(), Code::Unavailable);
    let upload = world.client().upload(tokio_stream::iter([pb::UploadRequest::default()])).await;
    assert_eq!(upload.unwrap_err().code(), Code::Unavailable);
    assert_eq!(world.record_count().await, 0);
}

#[tokio::test]
async fn draining_waits_for_calls_in_progress() {
    let world = World::new().await;
    world.faults.script_appends([Some(AppendFault::Delay(Duration::from_millis(100)))]);
    let publish = pb::PublishRequest {
        run_id: "run".into(),
        batch: tag("a").encode_to_vec().into(),
        ..Default::default()
    };
    let mut client = world.client();
    let publishing = tokio::spawn(async move { client.publish(publish).await });
    world.until("matyan_ingest_in_flight_bytes", |bytes| bytes > 0.0).await;
    world.frontier.drain().await;
    assert_eq!(world.metric("matyan_ingest_in_flight_bytes"), 0.0, "the call has ended when draining has");
    publishing.await.unwrap().unwrap();
}
