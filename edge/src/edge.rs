//! One port: every step of handling a request, from top to bottom. It is a plain function
//! instead of a stack of layers, so that the order is visible and each step sees the result of
//! the previous one.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::{Method, Request, StatusCode};
use percent_encoding::percent_decode_str;
use tokio::time::Instant;
use tower::ServiceExt;

use crate::allowed_hosts::check_host;
use crate::body_budget::{self, BodyShare, CallShare, ConnectionBudget, Messages};
use crate::cors;
use crate::deadline::{self, CallLimits};
use crate::error::ApiError;
use crate::grpc::{self, Grpc};
use crate::methods;
use crate::project;
use crate::request_id;
use crate::rest;
use crate::rest::table::{self, PathTemplate};
use crate::security_headers;
use crate::services::Services;
use crate::ui::Ui;
use crate::unread_response::drop_if_unread;
use crate::uri_path;

const WEBSOCKET_PREFIX: &str = "/api/v1/ws/runs/";

/// Metric label for requests that match no route. Their paths are unbounded, so they cannot be
/// labels.
const UNMATCHED_ROUTE: &str = "unmatched";

/// Metric label for unusual methods: a client may send any token as a method.
const OTHER_METHOD: &str = "other";

/// Handles the requests of one port. Cheap to clone.
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

    /// Also serves a browser UI, on every path without a route.
    pub fn with_ui(self, ui: Ui) -> Self {
        let fallback_ui = ui.clone();
        let fallback = move |request: Request<Body>| {
            let fallback_ui = fallback_ui.clone();
            async move { fallback_ui.answer(&request.into_parts().0).await }
        };
        Edge { router: self.router.fallback(fallback), ui: Some(ui), ..self }
    }

    /// Handles one request. `Request` must come from a connection that can be upgraded;
    /// otherwise WebSockets are refused.
    pub async fn answer(&self, mut request: Request<Body>) -> Response {
        let origins = &self.services.settings().cors_origins;
        let origin = request.headers().get(http::header::ORIGIN).cloned();
        // A preflight is about a future request, and gets the same response for all
        // paths.
        if check_host(self.services.settings(), &request).is_ok()
            && let Some(mut response) = cors::preflight(origins, request.method(), request.headers())
        {
            security_headers::add(response.headers_mut(), false);
            return response;
        }
        let id = request_id::request_id(request.headers());
        let span = request_id::request_span(&request, &id);
        // The WebSocket handler takes the id from the header again when the connection is upgraded.
        request.headers_mut().insert(request_id::HEADER, id.clone());
        let mut response = request_id::run_in_span(id.clone(), span, self.answer_identified(request)).await;
        // Errors need CORS headers too, or the browser hides them from the page.
        let is_shared = cors::add_headers(origins, origin.as_ref(), response.headers_mut());
        security_headers::add(response.headers_mut(), is_shared);
        response.headers_mut().insert(request_id::HEADER, id);
        response
    }

    /// Finds the project of a request, and answers it there.
    async fn answer_identified(&self, mut request: Request<Body>) -> Response {
        if let Some(ui) = &self.ui {
            // Proxies may or may not strip the base path, so paths with and without
            // it are accepted.
            *request.uri_mut() = ui.strip_base_path(request.uri());
        }
        match project::resolve(&mut request) {
            Ok(project) => project::scope(project, Box::pin(self.answer_in_project(request))).await,
            Err(error) if grpc::is_grpc(request.headers()) => self.grpc.refuse(request.uri().path(), &error),
            Err(error) => error.into_response(),
        }
    }

    /// Dispatches to gRPC or HTTP. gRPC has its own statuses and is not counted as HTTP.
    async fn answer_in_project(&self, request: Request<Body>) -> Response {
        let response = match grpc::is_grpc(request.headers()) {
            true => match self.admit(&request) {
                Ok(limits) => {
                    let path = request.uri().path();
                    let is_stream = methods::find(path).is_some_and(|method| method.is_server_streaming);
                    let has_end = !deadline::is_open_ended(path);
                    let (request, share) = self.metered(request);
                    let answered = limits.enforce(self.grpc.answer(request)).await;
                    let response = answered.unwrap_or_else(|_| grpc::late());
                    // A stream with an end may need the message of its call until then.
                    let take = || share.lock().unwrap_or_else(PoisonError::into_inner).take_large();
                    let request = (is_stream && has_end).then(take).flatten();
                    response.map(|body| drop_if_unread(body, request))
                }
                Err(error) => self.grpc.refuse(request.uri().path(), &error),
            },
            false => self.answer_http(request).await,
        };
        tracing::debug!(status = response.status().as_u16(), "answered");
        response
    }

    async fn answer_http(&self, mut request: Request<Body>) -> Response {
        let (method, start) = (request.method().clone(), Instant::now());
        let limits = match self.admit(&request) {
            Ok(limits) => limits,
            Err(error) => {
                let response = error.into_response();
                self.record_metrics(method_label(&method), &response, start);
                return response;
            }
        };
        if let Some(ui) = self.ui.as_ref().filter(|ui| ui.wants_metrics_page(&request)) {
            return ui.page(&project::of_headers(request.headers()));
        }
        *request.uri_mut() = uri_path::normalized(request.uri());
        // A panic is a bug in the server: this request fails, but the server continues.
        let routed = AssertUnwindSafe(limits.enforce(self.route(request))).catch_unwind().await;
        let routed = routed.unwrap_or_else(|_| {
            Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error"))
        });
        let response = routed.unwrap_or_else(IntoResponse::into_response);
        // WebSockets have their own metrics.
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            self.record_metrics(method_label(&method), &response, start);
        }
        response
    }

    /// Charges the messages of a call to the memory budget.
    fn metered(&self, request: Request<Body>) -> (Request<Body>, CallShare) {
        let connection = request.extensions().get::<ConnectionBudget>();
        let share = BodyShare::new(self.services.bodies().clone(), connection);
        let share = CallShare::new(Mutex::new(share));
        let messages = match methods::find(request.uri().path()) {
            Some(method) if !method.is_client_streaming => Messages::One,
            _ => Messages::Many,
        };
        (request.map(|body| body_budget::metered(body, share.clone(), messages)), share)
    }

    /// Maximum number of open connections of a port, except WebSockets.
    pub(crate) fn max_open(&self) -> usize {
        self.services.settings().max_open
    }

    pub(crate) fn count_refused_connection(&self) {
        self.services.metrics().refused_connections.inc();
    }

    /// The share of a new connection in the memory for bodies.
    pub(crate) fn connection_budget(&self) -> ConnectionBudget {
        self.services.bodies().of_connection()
    }

    /// Refuses requests that only a browser sends which someone else's page controls; returns the time
    /// limits of others.
    fn admit(&self, request: &Request<Body>) -> Result<CallLimits, ApiError> {
        let settings = self.services.settings();
        check_host(settings, request)?;
        cors::check_origin(&settings.cors_origins, request)?;
        CallLimits::of_request(request.headers(), settings.request_timeout)
    }

    async fn route(&self, request: Request<Body>) -> Response {
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
        if !self.services.settings().metrics_enabled {
            return;
        }
        let template = response.extensions().get::<PathTemplate>();
        let class = format!("{}xx", response.status().as_u16() / 100);
        let labels = [method, template.map_or(UNMATCHED_ROUTE, |it| &it.0), &class];
        let metrics = &self.services.metrics().http;
        metrics.requests.with_label_values(&labels).inc();
        metrics.seconds.with_label_values(&labels).observe(start.elapsed().as_secs_f64());
    }

    /// Acknowledges everything that WebSockets have sent, then closes them and waits until
    /// all are closed.
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
