//! gRPC, gRPC-web, and reflection on the port that HTTP uses.

use axum::body::Body;
use futures::StreamExt;
use http::Request;
use http_body_util::BodyExt;
use matyan_edge::{Edge, Metrics, Settings, Transport};
use matyan_proto::ingest::v1::ingest_service_client::IngestServiceClient;
use matyan_proto::ingest::v1::{PresignRequest, PresignResponse};
use matyan_proto::runs::v1::WatchResponse;
use matyan_proto::search::v1::RunsResponse;
use prost::Message;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::Channel;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::backend::Backend;
use super::server::{STUCK, Server};

async fn channel(server: &Server) -> Channel {
    Channel::from_shared(format!("http://{}", server.address)).unwrap().connect().await.unwrap()
}

fn request() -> PresignRequest {
    PresignRequest { run_id: "r".into(), artifact_path: "a".into(), ..Default::default() }
}

#[tokio::test]
async fn native_calls_reach_their_service() {
    let server = Server::start().await;
    let mut client = IngestServiceClient::new(channel(&server).await);
    assert_eq!(client.presign(request()).await.unwrap().into_inner().key, "r/a");
    let refused = PresignRequest { artifact_path: "../a".into(), ..request() };
    assert_eq!(client.presign(refused).await.unwrap_err().code(), tonic::Code::InvalidArgument);
}

/// A client without a window for responses never gets one, and others need the memory of its calls.
#[tokio::test]
async fn a_call_whose_answer_is_not_read_keeps_no_memory() {
    let server = Server::start().await;
    let large = PresignRequest { content_type: "x".repeat((17 << 20) - 1_000), ..request() };
    let mut unread = JoinSet::new();
    // As many calls as together have all the memory for bodies.
    for _ in 0..8 {
        let endpoint = Channel::from_shared(format!("http://{}", server.address)).unwrap();
        let channel = endpoint.initial_stream_window_size(0).connect().await.unwrap();
        let mut client = IngestServiceClient::new(channel);
        let request = large.clone();
        unread.spawn(async move { client.presign(request).await.map(drop) });
    }
    let called = async {
        while server.frontier.projects().len() < unread.len() {
            tokio::task::yield_now().await;
        }
    };
    timeout(STUCK, called).await.expect("the calls must reach their service");
    let mut other = IngestServiceClient::new(channel(&server).await);
    let answered = timeout(STUCK, other.presign(large)).await;
    assert_eq!(answered.expect("the memory must be free").unwrap().into_inner().key, "r/a");
    assert!(unread.try_join_next().is_none(), "none of them has read its answer");
}

#[tokio::test]
async fn a_service_of_another_port_is_unimplemented() {
    let server = Server::start().await;
    let mut client =
        matyan_proto::runs::v1::run_service_client::RunServiceClient::new(channel(&server).await);
    let status = client.get(matyan_proto::runs::v1::GetRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let server = Server::start().await;
    let mut client = ServerReflectionClient::new(channel(&server).await);
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut answers =
        client.server_reflection_info(futures::stream::iter([request])).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.next().await.unwrap().unwrap().message_response
    else {
        panic!("no list");
    };
    let names: Vec<String> = list.service.into_iter().map(|it| it.name).collect();
    assert!(names.contains(&"matyan.ingest.v1.IngestService".to_owned()), "{names:?}");
    assert!(names.contains(&"matyan.search.v1.SearchService".to_owned()), "{names:?}");
}

fn from_a_page(origin: &str) -> Request<Body> {
    let message = request().encode_to_vec();
    let mut body = vec![0];
    body.extend_from_slice(&(message.len() as u32).to_be_bytes());
    body.extend_from_slice(&message);
    Request::post("/matyan.ingest.v1.IngestService/Presign")
        .header("content-type", "application/grpc-web+proto")
        .header("origin", origin)
        .body(Body::from(body))
        .unwrap()
}

#[tokio::test]
async fn a_foreign_page_cannot_call_services() {
    let server = Server::start().await;
    let answer = server.http(from_a_page("http://evil.example")).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, None));
    // Clients of gRPC read the status in the headers.
    assert_eq!(answer.header("grpc-status"), Some("7"));
    assert!(answer.header("grpc-message").unwrap().contains("CORS_ORIGINS"), "{:?}", answer.headers);
}

/// Such a request would count as reading, and a page of another site can cause it.
#[tokio::test]
async fn rule_65_a_call_is_a_post() {
    let server = Server::start().await;
    for method in ["GET", "HEAD", "OPTIONS", "PUT"] {
        for content_type in ["application/grpc", "application/grpc-web+proto"] {
            let mut request = from_a_page("http://localhost:3000");
            *request.method_mut() = method.parse().unwrap();
            request.headers_mut().insert("content-type", content_type.parse().unwrap());
            let answer = server.http(request).await;
            assert_eq!(
                (answer.status, answer.header("allow")),
                (405, Some("POST")),
                "{method} {content_type}"
            );
        }
    }
    assert!(server.frontier.projects().is_empty(), "no call has reached its service");
    // A browser asks before it sends a call.
    let preflight = Request::options("/matyan.ingest.v1.IngestService/Presign")
        .header("origin", "http://localhost:3000")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,x-grpc-web")
        .body(Body::empty())
        .unwrap();
    assert_eq!(server.http(preflight).await.status, 200);
    assert_eq!(server.http(from_a_page("http://localhost:3000")).await.status, 200);
}

#[tokio::test]
async fn calls_under_a_foreign_name_are_refused() {
    let server = Server::start().await;
    for content_type in ["application/grpc", "application/grpc-web+proto"] {
        let request = |uri: &str| {
            Request::post(format!("{uri}/matyan.ingest.v1.IngestService/Presign"))
                .header("content-type", content_type)
        };
        let of_host = request("").header("host", "evil.example").body(Body::empty()).unwrap();
        let of_authority = request("http://evil.example:1").body(Body::empty()).unwrap();
        for request in [of_host, of_authority] {
            let answer = server.http(request).await;
            assert_eq!((answer.status, answer.header("grpc-status")), (421, Some("7")), "{content_type}");
            assert!(
                answer.header("grpc-message").unwrap().contains("MATYAN_ALLOWED_HOSTS"),
                "{:?}",
                answer.headers
            );
        }
    }
}

/// Calls of a method that ended with a code.
async fn counted(edge: &Edge, method: &str, code: &str) -> u64 {
    let request = Request::get("/metrics/").body(Body::empty()).unwrap();
    let text = edge.answer(request).await.into_body().collect().await.unwrap().to_bytes();
    let series = format!("matyan_grpc_requests_total{{code=\"{code}\",method=\"{method}\"}} ");
    let text = String::from_utf8(text.to_vec()).unwrap();
    text.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let backend = Backend::default();
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let edge = matyan_edge::query(Settings::default(), metrics, Transport::new(backend.clone()), None);
    let call = |method: &str, content_type: &str, header: (&'static str, &'static str)| {
        let request = Request::post(format!("/{method}")).header("content-type", content_type);
        request.header(header.0, header.1).body(Body::from(vec![0; 5])).unwrap()
    };
    let search = "matyan.search.v1.SearchService/Runs";
    let watch = "matyan.runs.v1.RunService/Watch";
    let runs = "search.v1.SearchService/Runs";
    let native = "application/grpc";
    let web = "application/grpc-web+proto";
    let here = ("host", "localhost");
    let read = async |request| edge.answer(request).await.into_body().collect().await.unwrap();

    backend.answers(runs, [RunsResponse::default()]);
    let mut second = call(search, native, here);
    *second.version_mut() = http::Version::HTTP_2;
    read(call(search, web, here)).await;
    read(second).await;
    assert_eq!(counted(&edge, search, "OK").await, 2);

    backend.fails(runs, [RunsResponse::default()], Status::not_found("no such run"));
    read(call(search, web, here)).await;
    assert_eq!(counted(&edge, search, "NOT_FOUND").await, 1);

    // An abandoned call, and a call that was too long for its client.
    let _gone = backend.answers_and_holds("runs.v1.RunService/Watch", [WatchResponse::default()]);
    drop(edge.answer(call(watch, web, here)).await);
    assert_eq!(counted(&edge, watch, "CANCELLED").await, 1);
    let _gone = backend.answers_and_holds(runs, [RunsResponse::default()]);
    read(call(search, web, ("grpc-timeout", "20m"))).await;
    assert_eq!(counted(&edge, search, "DEADLINE_EXCEEDED").await, 1);

    // Refused before it is read, and a method that does not exist.
    read(call(search, web, ("host", "evil.example"))).await;
    assert_eq!(counted(&edge, search, "PERMISSION_DENIED").await, 1);
    backend.fails("search.v1.SearchService/Guess", Vec::<WatchResponse>::new(), Status::unimplemented(""));
    read(call("matyan.search.v1.SearchService/Guess", web, here)).await;
    assert_eq!(counted(&edge, "unknown", "UNIMPLEMENTED").await, 1);
}

#[tokio::test]
async fn a_browser_can_use_grpc_web() {
    let server = Server::start().await;
    let answer = server.http(from_a_page("http://localhost:3000")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost:3000"));
    let exposed = answer.header("access-control-expose-headers").unwrap();
    for name in ["grpc-status", "x-query-warnings", "etag", "content-range", "accept-ranges"] {
        assert!(exposed.split(", ").any(|exposed| exposed == name), "{exposed}");
    }
    let length = u32::from_be_bytes(answer.body[1..5].try_into().unwrap()) as usize;
    assert_eq!(PresignResponse::decode(&answer.body[5..5 + length]).unwrap().key, "r/a");
    let trailers = String::from_utf8_lossy(&answer.body[5 + length..]).to_lowercase();
    assert!(trailers.contains("grpc-status:0") || trailers.contains("grpc-status: 0"), "{trailers}");
}
