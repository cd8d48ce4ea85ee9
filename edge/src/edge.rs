//! One port: every step of handling a request, from top to bottom.
//! It is a plain function instead of a stack of layers, so that the order is visible, and each
//! step sees the result of the previous one.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::{Method, Request, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use tokio::time::Instant;
use tower::ServiceExt;

use crate::cors;
use crate::error::ApiError;
use crate::grpc::{self, Grpc};
use crate::request_id;
use crate::rest::ingest::BLOBS;
use crate::rest::table::{self, PathTemplate};
use crate::rest::{self};
use crate::services::Services;
use crate::ui::Ui;

const WEBSOCKET_PREFIX: &str = "/api/v1/ws/runs/";

/// Metric label for requests that match no route. Their paths are unbounded, so they cannot be
/// labels.
const UNMATCHED_ROUTE: &str = "unmatched";

/// Metric label for unusual methods: a client may send any token as a method.
const OTHER_METHOD: &str = "other";

/// Answers the requests of one port. Cheap to clone.
#[derive(Clone)]
pub struct Edge {
    services: Arc<Services>,
    router: Router,
    grpc: Grpc,
    ui: Option<Ui>,
}

impl Edge {
    pub(crate) fn new(services: Services, grpc: Grpc) -> Self {
        let services = Arc::new(services);
        let router = table::router(rest::operations(&services), &services);
        let router = router.fallback(|| async { ApiError::no_route().into_response() });
        Edge { services, router, grpc, ui: None }
    }

    /// Serves a browser UI as well, on every path without a route.
    pub fn with_ui(self, ui: Ui) -> Self {
        let fallback_ui = ui.clone();
        let fallback = move |request: Request<Body>| {
            let fallback_ui = fallback_ui.clone();
            async move { fallback_ui.answer(&request.into_parts().0).await }
        };
        Edge { router: self.router.fallback(fallback), ui: Some(ui), ..self }
    }

    /// Answers one request. `Request` must come from a connection that can be upgraded;
    /// otherwise WebSockets are refused.
    pub async fn answer(&self, mut request: Request<Body>) -> Response {
        let origins = &self.services.settings().cors_origins;
        let origin = request.headers().get(http::header::ORIGIN).cloned();
        // A preflight is about a future request, and is answered the same for all paths.
        if let Some(response) = cors::preflight(origins, request.method(), request.headers()) {
            return response;
        }
        let id = request_id::request_id(request.headers());
        let span = request_id::request_span(&request, &id);
        // The WebSocket handler takes the id from the header again when the connection is upgraded.
        request.headers_mut().insert(request_id::HEADER, id.clone());
        let mut response = request_id::run_in_span(id.clone(), span, self.answer_identified(request)).await;
        // Errors need CORS headers too, or the browser hides them from the page.
        cors::add_headers(origins, origin.as_ref(), response.headers_mut());
        response.headers_mut().insert(request_id::HEADER, id);
        response
    }

    /// Dispatches to gRPC or HTTP. gRPC has its own statuses and is not counted as HTTP.
    async fn answer_identified(&self, request: Request<Body>) -> Response {
        let response = match grpc::is_grpc(request.headers()) {
            true => match self.check_origin(&request) {
                Ok(()) => self.grpc.answer(request).await,
                Err(error) => error.into_response(),
            },
            false => self.answer_http(request).await,
        };
        tracing::debug!(status = response.status().as_u16(), "answered");
        response
    }

    async fn answer_http(&self, mut request: Request<Body>) -> Response {
        let (method, start) = (request.method().clone(), Instant::now());
        if let Some(ui) = &self.ui {
            // Proxies may have stripped the base path or not, so paths with and without it are
            // accepted.
            *request.uri_mut() = ui.strip_base_path(request.uri());
            if ui.wants_metrics_page(&request) {
                return ui.page();
            }
        }
        *request.uri_mut() = normalized(request.uri());
        // A panic is a bug in the server: this request fails, but the server continues.
        let routed = AssertUnwindSafe(self.route(request)).catch_unwind().await;
        let response = routed.unwrap_or_else(|_| {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error").into_response()
        });
        // WebSockets have metrics of their own.
        if self.services.settings().metrics_enabled && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            self.record_metrics(method_label(&method), &response, start);
        }
        response
    }

    fn check_origin(&self, request: &Request<Body>) -> Result<(), ApiError> {
        cors::check_origin(&self.services.settings().cors_origins, request)
    }

    async fn route(&self, request: Request<Body>) -> Response {
        if let Err(error) = self.check_origin(&request) {
            return error.into_response();
        }
        match (request.uri().path().strip_prefix(WEBSOCKET_PREFIX), self.services.sockets()) {
            // Run ids contain no slash, so a longer path is not a WebSocket.
            (Some(segment), Some(sockets)) if !segment.is_empty() && !segment.contains('/') => {
                let run_id = percent_decode_str(segment).decode_utf8_lossy().into_owned();
                sockets.accept(run_id, request).await.unwrap_or_else(IntoResponse::into_response)
            }
            _ => match self.router.clone().oneshot(request).await {
                Ok(response) => response,
                Err(infallible) => match infallible {},
            },
        }
    }

    fn record_metrics(&self, method: &str, response: &Response, start: Instant) {
        let template = response.extensions().get::<PathTemplate>();
        let class = format!("{}xx", response.status().as_u16() / 100);
        let labels = [method, template.map_or(UNMATCHED_ROUTE, |it| &it.0), &class];
        let metrics = self.services.metrics();
        metrics.http_requests.with_label_values(&labels).inc();
        metrics.http_seconds.with_label_values(&labels).observe(start.elapsed().as_secs_f64());
    }

    /// Acknowledges everything that WebSockets have sent, then closes them and waits for
    /// the last.
    pub async fn drain(&self) {
        if let Some(sockets) = self.services.sockets() {
            sockets.drain().await;
        }
    }
}

fn method_label(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::OPTIONS => method.as_str(),
        _ => OTHER_METHOD,
    }
}

/// The path with single slashes and without a trailing slash, because both forms name the same
/// resource. Keys of blobs are kept as they are.
fn normalized(uri: &Uri) -> Uri {
    let path = uri.path();
    // Almost all paths are plain and need no allocation.
    let is_plain = !path.contains("//") && (path.len() == 1 || !path.ends_with('/'));
    if is_plain || path.trim_start_matches('/').starts_with(&BLOBS[1..]) && !path.starts_with("//") {
        return uri.clone();
    }
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    with_path(uri, &format!("/{}", segments.join("/")))
}

/// Returns the URI with another path. The authority is kept, because HTTP/2 requests carry the
/// host there.
pub(crate) fn with_path(uri: &Uri, path: &str) -> Uri {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let Ok(path) = format!("{path}{query}").parse() else { return uri.clone() };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalized_except_blob_keys() {
        let check = |path: &str, expected: &str| {
            assert_eq!(normalized(&path.parse().unwrap()).to_string(), expected, "{path}");
        };
        check("/", "/");
        check("/a/b", "/a/b");
        check("/a/b/", "/a/b");
        check("/a/b/?q=/x//y/", "/a/b?q=/x//y/");
        check("//api/v1/ws/runs/r", "/api/v1/ws/runs/r");
        check("/api//v1/rest///tags//5//", "/api/v1/rest/tags/5");
        check("/api/v1/rest/blobs/r/a//b/?s=1", "/api/v1/rest/blobs/r/a//b/?s=1");
        check("https://here:1/a//b/?s=1", "https://here:1/a/b?s=1");
    }
}
