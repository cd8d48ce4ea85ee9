//! A gRPC server with a span for each call, which continues the caller's trace and lasts until
//! the last response is sent.

use http::{HeaderMap, Request, Response};
use matyan_wire::{
    headers::{REQUEST_ID, TRACEPARENT},
    trace::{join_trace, stamp},
};
use tonic::body::Body;
use tower::{Service, ServiceBuilder};
use tower_http::trace::TraceLayer;
use tracing::Span;

/// Wraps a server.
pub(super) fn trace_calls<S>(
    server: S,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = S::Error, Future: Send> + Clone + Send + Sync
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync,
    S::Future: Send,
    S::Error: std::fmt::Display + 'static,
{
    // Failures are logged where the response is built; logging them here as well would
    // duplicate them.
    let spans = TraceLayer::new_for_grpc()
        .make_span_with(span)
        .on_request(())
        .on_response(())
        .on_body_chunk(())
        .on_eos(())
        .on_failure(());
    ServiceBuilder::new()
        .map_response(|response: Response<_>| response.map(Body::new))
        .layer(spans)
        // Spans of the work that the call causes are children of the call.
        .map_request(|mut request: Request<Body>| {
            stamp(request.headers_mut());
            request
        })
        .service(server)
}

fn span(request: &Request<Body>) -> Span {
    call_span(request.uri().path(), request.headers())
}

/// The span of a call, which continues the trace in these headers.
pub(super) fn call_span(rpc: &str, headers: &HeaderMap) -> Span {
    let id = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let span = tracing::info_span!(target: "matyan_call", parent: None, "call", otel.name = rpc, otel.kind = "server", rpc, id);
    join_trace(&span, headers.get(TRACEPARENT).map_or(&[], |it| it.as_bytes()));
    span
}
