//! One trace is seen whole: from a frame of training code to the commit of what it brought, and from a request to the call
//! that answers it. A server without a collector makes no spans, and one whose collector is away works as ever.

use matyan_proto::ingest::v1::{
    Event, FinishRun, IngestionBatch, PublishRequest, event::Kind, ingest_service_client::IngestServiceClient,
};
use matyan_tests::{Server, collector::Collector, eventually, json, json::JsonWriter};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::Value;
use tonic::Request;

/// The spans of the trace in which one is called `name` and has this value of an attribute, parents first, once
/// there are as many as are expected.
async fn trace(collector: &Collector, has: impl Fn(&Span) -> bool, expected: &[&str]) -> Vec<Span> {
    eventually("the whole trace is exported", async || {
        let spans: Vec<Span> = collector.spans().into_iter().map(|(_, span)| span).collect();
        let of = spans.iter().find(|span| has(span)).ok_or("nothing of it has come")?.trace_id.clone();
        let of_trace = spans.into_iter().filter(|span| span.trace_id == of).collect();
        let chain = chain(of_trace);
        let names: Vec<&str> = chain.iter().map(|span| span.name.as_str()).collect();
        if names == expected { Ok(chain) } else { Err(format!("{names:?}")) }
    })
    .await
}

/// From the first on, each the parent of the next; empty while one is missing.
fn chain(spans: Vec<Span>) -> Vec<Span> {
    let is_parent = |parent: &Span, child: &Span| parent.span_id == child.parent_span_id;
    let mut chain: Vec<Span> = Vec::new();
    let first = spans.iter().find(|child| !spans.iter().any(|parent| is_parent(parent, child)));
    chain.extend(first.cloned());
    while let Some(next) = chain.last().and_then(|last| spans.iter().find(|span| is_parent(last, span))) {
        chain.push(next.clone());
    }
    if chain.len() == spans.len() { chain } else { Vec::new() }
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    found.map(|attribute| format!("{:?}", attribute.value)).unwrap_or_default()
}

fn is_of(name: &'static str, key: &'static str, value: &'static str) -> impl Fn(&Span) -> bool {
    move |span| span.name == name && attribute(span, key).contains(value)
}

async fn traced() -> (Collector, Server) {
    let collector = Collector::listen().await;
    let server = Server::up_with(&["--otlp-endpoint", &collector.endpoint]).await;
    (collector, server)
}

#[tokio::test]
async fn a_frame_is_followed_to_its_commit() {
    let (collector, server) = traced().await;
    let mut writer = JsonWriter::connect(&server.ingest, "traced").await.expect("the server accepts");
    let frame = Value::Array(vec![json::create_run(), json::metric("loss", 0.5, Some(0))]);
    assert_eq!(writer.send(&frame).await, Ok(json::Ack::Ok));
    let spans =
        trace(&collector, is_of("frame", "run_id", "traced"), &["frame", "publish", "apply", "commit"]).await;
    assert!(spans.iter().take(3).all(|span| attribute(span, "run_id").contains("traced")), "{spans:?}");
    assert!(
        collector.spans().iter().all(|(service, _)| service.contains("\"matyan\"")),
        "it tells who it is"
    );
}

#[tokio::test]
async fn a_trace_that_a_client_has_begun_goes_on() {
    let (collector, server) = traced().await;
    let mut client = IngestServiceClient::connect(server.ingest.clone()).await.expect("it listens");
    let event = Event { client_time_us: None, kind: Some(Kind::FinishRun(FinishRun {})) };
    let batch = IngestionBatch { events: vec![event], ..Default::default() };
    let mut request = Request::new(PublishRequest {
        run_id: "begun".into(),
        batch: batch.encode_to_vec().into(),
        ..Default::default()
    });
    let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().expect("it is ASCII");
    request.metadata_mut().insert("traceparent", header);
    client.publish(request).await.expect("it is taken");
    let call = "/matyan.ingest.v1.IngestService/Publish";
    let spans = trace(
        &collector,
        is_of("publish", "run_id", "begun"),
        &["request", call, "publish", "apply", "commit"],
    )
    .await;
    assert_eq!(hex(&spans[0].trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex(&spans[0].parent_span_id), "b7ad6b7169203331");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_request_is_followed_to_the_call_that_answers_it() {
    let (collector, server) = traced().await;
    server.get("/api/v1/rest/projects/").await.expect("it answers");
    let spans = trace(
        &collector,
        is_of("request", "path", "/api/v1/rest/projects"),
        &["request", "/matyan.project.v1.ProjectService/Get"],
    )
    .await;
    assert_eq!(attribute(&spans[0], "id"), attribute(&spans[1], "id"), "one id names both");
}

#[tokio::test]
async fn a_collector_that_is_away_holds_nothing_up() {
    let endpoint = Collector::listen().await.endpoint.clone();
    let mut server = Server::up_with(&["--otlp-endpoint", &endpoint]).await;
    let mut writer = JsonWriter::connect(&server.ingest, "alone").await.expect("the server accepts");
    assert_eq!(writer.send(&json::create_run()).await, Ok(json::Ack::Ok));
    assert!(server.terminate().await.success());
}
