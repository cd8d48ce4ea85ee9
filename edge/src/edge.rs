//! One port: everything that is done with a request, top to bottom.
//! A plain function and no stack of layers: the order can be read, and each step sees what the one before has left.

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
use crate::identify;
use crate::rest::ingest::BLOBS;
use crate::rest::table::{self, PathTemplate};
use crate::rest::{self};
use crate::services::Services;
use crate::ui::Ui;

const WEBSOCKETS: &str = "/api/v1/ws/runs/";

/// Label of requests that no route has matched: their paths are not ours to count.
const UNMATCHED: &str = "unmatched";

/// Label of the methods that no route has: any word may be one.
const OTHER: &str = "other";

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

    /// Shows people a browser UI as well, on every path that is no other's.
    pub fn with_ui(self, ui: Ui) -> Self {
        let shown = ui.clone();
        let fallback = move |request: Request<Body>| {
            let shown = shown.clone();
            async move { shown.answer(&request.into_parts().0).await }
        };
        Edge { router: self.router.fallback(fallback), ui: Some(ui), ..self }
    }

    /// Answers one request. `Request` must come from a connection that can be upgraded, or WebSockets are refused.
    pub async fn answer(&self, mut request: Request<Body>) -> Response {
        let origins = &self.services.settings().cors_origins;
        let origin = request.headers().get(http::header::ORIGIN).cloned();
        // A preflight asks about a request to come, and is answered for all paths alike.
        if let Some(response) = cors::preflight(origins, request.method(), request.headers()) {
            return response;
        }
        let id = identify::id(request.headers());
        let span = identify::span(&request, &id);
        request.headers_mut().insert(identify::HEADER, id.clone());
        let mut response = identify::within(id.clone(), span, self.answer_identified(request)).await;
        // Errors too, or a browser hides them from its page.
        cors::allow(origins, origin.as_ref(), response.headers_mut());
        response.headers_mut().insert(identify::HEADER, id);
        response
    }

    /// gRPC keeps its own statuses and has its own names for everything.
    async fn answer_identified(&self, request: Request<Body>) -> Response {
        let response = match grpc::is_grpc(request.headers()) {
            true => match self.permit(&request) {
                Ok(()) => self.grpc.answer(request).await,
                Err(foreign) => foreign.into_response(),
            },
            false => self.answer_http(request).await,
        };
        tracing::debug!(status = response.status().as_u16(), "answered");
        response
    }

    async fn answer_http(&self, mut request: Request<Body>) -> Response {
        let (method, begun) = (request.method().clone(), Instant::now());
        if let Some(ui) = &self.ui {
            *request.uri_mut() = ui.below_base(request.uri());
            if ui.shadows(&request) {
                return ui.page();
            }
        }
        *request.uri_mut() = normalized(request.uri());
        // A panic is a mistake of ours: this request fails, the server goes on.
        let routed = AssertUnwindSafe(self.route(request)).catch_unwind().await;
        let response = routed.unwrap_or_else(|_| {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error").into_response()
        });
        if self.services.settings().metrics_enabled && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            self.count(label(&method), &response, begun);
        }
        response
    }

    fn permit(&self, request: &Request<Body>) -> Result<(), ApiError> {
        cors::permit(&self.services.settings().cors_origins, request)
    }

    async fn route(&self, request: Request<Body>) -> Response {
        if let Err(foreign) = self.permit(&request) {
            return foreign.into_response();
        }
        match (request.uri().path().strip_prefix(WEBSOCKETS), self.services.sockets()) {
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

    fn count(&self, method: &str, response: &Response, begun: Instant) {
        let template = response.extensions().get::<PathTemplate>();
        let class = format!("{}xx", response.status().as_u16() / 100);
        let labels = [method, template.map_or(UNMATCHED, |it| &it.0), &class];
        let metrics = self.services.metrics();
        metrics.http_requests.with_label_values(&labels).inc();
        metrics.http_seconds.with_label_values(&labels).observe(begun.elapsed().as_secs_f64());
    }

    /// Acknowledges what WebSockets have sent, then closes them. Waits for the last.
    pub async fn drain(&self) {
        if let Some(sockets) = self.services.sockets() {
            sockets.drain().await;
        }
    }
}

fn label(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::OPTIONS => method.as_str(),
        _ => OTHER,
    }
}

/// The path with single slashes and none at its end: both forms of a path are one resource. Keys of blobs stay as they are.
fn normalized(uri: &Uri) -> Uri {
    let path = uri.path();
    let is_plain = !path.contains("//") && (path.len() == 1 || !path.ends_with('/'));
    if is_plain || path.trim_start_matches('/').starts_with(&BLOBS[1..]) && !path.starts_with("//") {
        return uri.clone();
    }
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    with_path(uri, &format!("/{}", segments.join("/")))
}

/// The same URI with another path. HTTP/2 names the host there, so that it stays.
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
    fn both_forms_of_a_path_are_one() {
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
