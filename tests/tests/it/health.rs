//! Each port reports its component and its health, in the format of Matyan 0.3 and over gRPC.

use matyan_proto::system::v1::{
    ReadinessRequest, VersionRequest, system_service_client::SystemServiceClient,
};
use matyan_tests::{Server, channel};
use serde_json::{Value, json};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

async fn get(base: &str, path: &str) -> Value {
    let answer = reqwest::get(format!("{base}{path}")).await.expect("the server answers");
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    answer.json().await.expect("the body is JSON")
}

#[tokio::test]
async fn both_ports_report_their_component_and_health() {
    let server = Server::up().await;
    let ingest_checks = json!({"kafka": "ok", "blob": "ok"});
    let query_checks = json!({"fdb": "ok", "kafka": {"control_producer": true, "ingestion_producer": true}});
    for (base, component, checks) in
        [(&server.ingest, "frontier", ingest_checks), (&server.query, "backend", query_checks)]
    {
        let version = get(base, "/api/v1/rest/version/").await;
        assert_eq!(
            (&version["component"], &version["version"]),
            (&json!(component), &json!(env!("CARGO_PKG_VERSION")))
        );
        assert_eq!(get(base, "/health/live/").await, json!({"status": "ok"}));
        assert_eq!(get(base, "/health/ready/").await, json!({"status": "ok", "checks": checks}));

        let channel = channel(base).await;
        let mut system = SystemServiceClient::new(channel.clone());
        let version = system.version(VersionRequest {}).await.expect("the server answers").into_inner();
        assert_eq!(version.component, component);
        assert!(
            system
                .readiness(ReadinessRequest::default())
                .await
                .expect("the server answers")
                .into_inner()
                .ready
        );
        let health = HealthClient::new(channel)
            .check(HealthCheckRequest::default())
            .await
            .expect("the server answers");
        assert_eq!(health.into_inner().status(), ServingStatus::Serving);
    }
}

/// Clients that watch are notified of a shutdown before their connection is closed.
#[tokio::test]
async fn a_stopping_server_reports_that_it_is_not_serving() {
    let mut server = Server::up().await;
    let mut health = HealthClient::new(channel(&server.ingest).await);
    let mut watch =
        health.watch(HealthCheckRequest::default()).await.expect("the server answers").into_inner();
    let mut next = async || watch.message().await.map(|response| response.map(|response| response.status()));
    assert_eq!(next().await.expect("a status arrives"), Some(ServingStatus::Serving));
    let stopped = server.terminate();
    let statuses =
        async { [next().await.expect("a status arrives"), next().await.expect("the stream ends")] };
    let (status, statuses) = tokio::join!(stopped, statuses);
    assert!(status.success());
    assert_eq!(statuses, [Some(ServingStatus::NotServing), None]);
    assert!(!server.log().contains("in time; "), "{}", server.log());
}
