//! Tests of the server's version, limits, and readiness.

use std::{sync::Arc, time::Duration};

use matyan_blob::layers::{BlobFault, FaultyBlobs};
use matyan_log::layers::AppendFault;
use matyan_proto::{
    limits,
    system::v1::{
        self as pb, system_service_client::SystemServiceClient, system_service_server::SystemServiceServer,
    },
};
use tokio::time::Instant;

use super::harness::*;
use crate::Frontier;

fn client(env: &TestEnv) -> SystemServiceClient<SystemServiceServer<Frontier>> {
    SystemServiceClient::new(env.frontier.system_server())
}

async fn readiness(env: &TestEnv) -> (bool, Vec<(String, bool)>) {
    let answer = client(env).readiness(pb::ReadinessRequest::default()).await.unwrap().into_inner();
    (answer.ready, answer.checks.into_iter().map(|check| (check.name, check.ok)).collect())
}

#[tokio::test]
async fn it_is_ready_while_the_log_takes_records() {
    let env = TestEnv::new().await;
    let checks = |log| vec![("log".to_owned(), log), ("blobs".to_owned(), true)];
    assert_eq!(readiness(&env).await, (true, checks(true)));

    env.faults.script_appends([const { Some(AppendFault::ErrorBefore) }; 3]);
    let mut stream = env.stream().await;
    stream.send(1, &tag("t")).await;
    env.until("matyan_ingest_append_failures_total", |failures| failures > 0.0).await;
    assert_eq!(readiness(&env).await, (false, checks(false)));
    stream.acknowledged(1).await;
    assert_eq!(readiness(&env).await, (true, checks(true)));

    stream.hang_up();
    env.frontier.drain().await;
    assert_eq!(readiness(&env).await, (false, checks(false)));
}

#[tokio::test]
async fn a_hanging_log_is_reported() {
    let env = TestEnv::new().await;
    env.faults.stop();
    tokio::time::pause();
    let answer = client(&env).readiness(pb::ReadinessRequest::default()).await.unwrap().into_inner();
    assert!(!answer.ready, "{answer:?}");
    assert_eq!(answer.checks[0].message, "no response within 2 s");
}

#[tokio::test]
async fn a_hanging_blob_store_is_reported_before_the_caller_gives_up() {
    let env = TestEnv::new().await;
    let hanging = FaultyBlobs::new(env.blobs.clone(), |_| BlobFault::Delay(Duration::from_secs(3_600)));
    let frontier = env.with_blobs(Arc::new(hanging));
    let mut client = SystemServiceClient::new(frontier.system_server());
    tokio::time::pause();
    let started = Instant::now();
    let answer = client.readiness(pb::ReadinessRequest::default()).await.unwrap().into_inner();
    // The edge gives up after a second, which the paused clock measures here.
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert!(answer.ready, "{answer:?}");
    assert_eq!(answer.checks[1].message, "the blob store does not answer");
}

#[tokio::test]
async fn it_reports_version_and_limits() {
    let env = TestEnv::new().await;
    let version = client(&env).version(pb::VersionRequest {}).await.unwrap().into_inner();
    assert_eq!((version.component.as_str(), version.version.is_empty()), ("frontier", false));
    let answer = client(&env).limits(pb::LimitsRequest {}).await.unwrap().into_inner().limits.unwrap();
    assert_eq!(answer.run_id_bytes, Some(256));
    assert_eq!(answer.batch_bytes(), limits::BATCH_BYTES as u32);
}
