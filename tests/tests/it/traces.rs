//! Traces are complete: from a frame of training code to the commit of its data, and from a
//! request to the call that handles it. A server without a collector creates no spans, and one
//! whose collector is unavailable works normally.

use matyan_proto::ingest::v1::{
    Event, FinishRun, IngestionBatch, PublishRequest, event::Kind, ingest_service_client::IngestServiceClient,
};
use matyan_tests::{
    Server, Service,
    collector::{Collector, attribute, span_with},
    json::{self, JsonWriter},
};
use prost::Message;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::Value;
use tonic::Request;

async fn traced() -> (Collector, Server) {
    let collector = Collector::listen().await;
    let server = Server::up_with(&["--otlp-endpoint", &collector.endpoint]).await;
    (collector, server)
}

#[tokio::test]
async fn a_frame_is_traced_to_its_commit() {
    let (collector, server) = traced().await;
    let mut writer = JsonWriter::connect(&server.ingest, "traced").await.expect("the server accepts");
    let frame = Value::Array(vec![json::create_run(), json::metric("loss", 0.5, Some(0))]);
    assert_eq!(writer.send(&frame).await, Ok(json::Ack::Ok));
    let spans = collector
        .trace(span_with("frame", "run_id", "traced"), &["frame", "publish", "apply", "commit"])
        .await;
    assert!(spans.iter().take(3).all(|(_, span)| attribute(span, "run_id").contains("traced")), "{spans:?}");
    assert!(
        collector.spans().iter().all(|(service, _)| service.contains("\"matyan\"")),
        "every span has the service name"
    );
}

#[tokio::test]
async fn a_trace_started_by_a_client_continues() {
    let (collector, server) = traced().await;
    let mut client = IngestServiceClient::connect(server.ingest.clone()).await.expect("the server listens");
    let event = Event { client_time_us: None, kind: Some(Kind::FinishRun(FinishRun::default())) };
    let batch = IngestionBatch { events: vec![event], ..Default::default() };
    let mut request = Request::new(PublishRequest {
        run_id: "begun".into(),
        batch: batch.encode_to_vec().into(),
        ..Default::default()
    });
    let header =
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().expect("the header is ASCII");
    request.metadata_mut().insert("traceparent", header);
    client.publish(request).await.expect("the batch is accepted");
    let call = "/matyan.ingest.v1.IngestService/Publish";
    let spans = collector
        .trace(span_with("publish", "run_id", "begun"), &["request", call, "publish", "apply", "commit"])
        .await;
    let (_, first) = &spans[0];
    assert_eq!(hex(&first.trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex(&first.parent_span_id), "b7ad6b7169203331");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_request_is_traced_to_the_call_that_handles_it() {
    let (collector, server) = traced().await;
    server.get("/api/v1/rest/projects/").await.expect("the server answers");
    let spans = collector
        .trace(
            span_with("request", "path", "/api/v1/rest/projects"),
            &["request", "/matyan.project.v1.ProjectService/Get"],
        )
        .await;
    assert_eq!(attribute(&spans[0].1, "id"), attribute(&spans[1].1, "id"), "both have the same request id");
}

#[tokio::test]
async fn an_unavailable_collector_delays_nothing() {
    let endpoint = Collector::listen().await.endpoint.clone();
    let mut server = Server::up_with(&["--otlp-endpoint", &endpoint]).await;
    let mut writer = JsonWriter::connect(&server.ingest, "alone").await.expect("the server accepts");
    assert_eq!(writer.send(&json::create_run()).await, Ok(json::Ack::Ok));
    assert!(server.terminate().await.success());
}

/// The collector's certificate is verified like the certificate of any other server: with the
/// system's roots, or the file in `SSL_CERT_FILE`.
#[tokio::test]
async fn spans_are_exported_to_a_trusted_collector_over_tls() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("the name is valid");
    let collector = Collector::listen_tls(&cert.pem(), &signing_key.serialize_pem()).await;
    let folder = tempfile::tempdir().expect("the temporary directory is writable");
    let root = folder.path().join("root.crt");
    std::fs::write(&root, cert.pem()).expect("the directory is writable");
    let path = |path: &std::path::Path| path.to_str().expect("the path is text").to_owned();
    let mut up = Service::new("up", folder.path())
        .flag("data-dir", path(&folder.path().join("data")))
        .flag("otlp-endpoint", &collector.endpoint)
        .variable("SSL_CERT_FILE", path(&root));
    up.start().await;
    let mut writer = JsonWriter::connect(up.address("ingest"), "secured").await.expect("the server accepts");
    assert_eq!(writer.send(&json::create_run()).await, Ok(json::Ack::Ok));
    collector.trace(span_with("frame", "run_id", "secured"), &["frame", "publish", "apply", "commit"]).await;
}
