//! One port: every step of handling a request, from top to bottom. It is a plain function
//! instead of a stack of layers, so that the order is visible and each step sees the result of
//! the previous one.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::{Extensions, HeaderMap, Method, Request, StatusCode};
use matyan_access::{AccessObserver, CallerCache, FilePermits};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use tokio::time::Instant;
use tower::ServiceExt;

use crate::access_reports::{AccessReports, Sender, SignInRefused, SignedIn, SignedOut};
use crate::allowed_hosts::check_host;
use crate::body_budget::{self, BodyShare, CallShare, ConnectionBudget, Messages};
use crate::busy_task::{BusyTaskThreads, TaskSpawner};
use crate::call_limit::{self, Payer, Permit};
use crate::closed_hosts::check_closed_host;
use crate::cors;
use crate::deadline::{self, CallLimits};
use crate::error::{ApiError, ApiResult};
use crate::grpc::{self, Grpc};
use crate::methods;
#[cfg(feature = "mlflow")]
use crate::mlflow::{self, MlflowPort};
use crate::project::{self, RequestProject};
use crate::request_caller::RequestCaller;
use crate::request_id;
use crate::rest;
use crate::rest::router::{self, PathTemplate};
use crate::scope::Scope;
use crate::security_headers;
use crate::services::Services;
use crate::sign_in::SignIn;
use crate::tls::TlsProxy;
use crate::ui::Ui;
use crate::unread_request::UnreadRequest;
use crate::unread_response::drop_if_unread_for;
use crate::uri_path;
#[cfg(feature = "wandb")]
use crate::wandb::{self, WandbPort};

const WEBSOCKET_PREFIX: &str = "/api/v1/ws/runs/";

const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

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
    /// `None` if MLflow's API is not served.
    #[cfg(feature = "mlflow")]
    mlflow: Option<Arc<MlflowPort>>,
    /// `None` if W&B's API is not served.
    #[cfg(feature = "wandb")]
    wandb: Option<Arc<WandbPort>>,
    /// `None`: anyone may do everything.
    callers: Option<CallerCache>,
    /// `None`: URLs of files contain no permits.
    #[cfg_attr(not(feature = "wandb"), allow(dead_code, reason = "permits are for clients of W&B"))]
    file_permits: Option<FilePermits>,
    reports: AccessReports,
    tasks: TaskSpawner,
}

impl Edge {
    pub(crate) fn new(services: Services, grpc: Grpc) -> Self {
        let services = Arc::new(services);
        let router = router::build(rest::operations(&services), &services);
        let router = router.fallback(|| async { ApiError::no_route().into_response() });
        #[cfg(feature = "mlflow")]
        let mlflow = MlflowPort::of_port(&services).map(Arc::new);
        #[cfg(feature = "wandb")]
        let wandb = WandbPort::of_port(&services).map(Arc::new);
        Edge {
            services,
            router,
            grpc,
            ui: None,
            #[cfg(feature = "mlflow")]
            mlflow,
            #[cfg(feature = "wandb")]
            wandb,
            callers: None,
            file_permits: None,
            reports: AccessReports::default(),
            tasks: TaskSpawner::default(),
        }
    }

    /// Also serves a browser UI, on every path without a route.
    pub fn with_ui(self, ui: Ui) -> Self {
        let fallback_ui = ui.clone();
        let router = self.router.fallback(move |request: Request<Body>| {
            let fallback_ui = fallback_ui.clone();
            async move { fallback_ui.answer(&request.into_parts().0).await }
        });
        Edge { router, ui: Some(ui), ..self }
    }

    /// Requires credentials of all callers, and checks their rights.
    pub fn with_access(self, callers: CallerCache) -> Self {
        self.services.metrics().open_to_network.set(0);
        Edge { callers: Some(callers), ..self }
    }

    /// Puts permits into URLs of files, for clients that read files without their credentials.
    pub fn with_file_permits(self, permits: FilePermits) -> Self {
        Edge { file_permits: Some(permits), ..self }
    }

    /// Reports who signs in, which credentials are refused, and which calls are denied.
    pub fn with_access_observer(self, observer: Arc<dyn AccessObserver>) -> Self {
        Edge { reports: AccessReports::new(observer), ..self }
    }

    /// Continues connections and calls on these threads while they keep a processor busy.
    pub fn with_busy_tasks_on(self, threads: Arc<dyn BusyTaskThreads>) -> Self {
        Edge { tasks: TaskSpawner::with_busy_tasks_on(threads), ..self }
    }

    /// Handles one request. `Request` must come from a connection that can be upgraded;
    /// otherwise WebSockets are refused.
    pub async fn answer(&self, mut request: Request<Body>) -> Response {
        if self.services.settings().is_behind_tls_proxy {
            request.extensions_mut().insert(TlsProxy);
        }
        let unread = UnreadRequest::watch(&mut request);
        let mut response = self.answer_any(request).await;
        if let Some(unread) = unread {
            unread.finish(&mut response, self.services.settings().unread_body_wait).await;
        }
        response
    }

    /// Handles preflights, and what all other responses have in common.
    async fn answer_any(&self, mut request: Request<Body>) -> Response {
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
        if self.callers.is_some() {
            security_headers::add_privacy(response.headers_mut());
        }
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
            Ok(project) => {
                let payer = self.services.calls().payer(request.extensions().get().copied());
                Box::pin(self.answer_in_project(project, request, payer)).await
            }
            Err(error) if grpc::is_grpc(request.headers()) => self.grpc.refuse(request.uri().path(), &error),
            Err(error) => error.into_response(),
        }
    }

    /// Admits a request, and dispatches it to gRPC or HTTP. gRPC has its own statuses and is not counted
    /// as HTTP.
    async fn answer_in_project(
        &self,
        project: RequestProject,
        request: Request<Body>,
        payer: Payer,
    ) -> Response {
        let start = Instant::now();
        let is_grpc = grpc::is_grpc(request.headers());
        if is_grpc && request.method() != Method::POST {
            // Other checks treat a GET as a read, which a page of another site may cause; a gRPC call may write.
            return grpc::wrong_method();
        }
        let admitted = match self.admit(&request, payer) {
            Ok(admission) => self.authenticate(admission, request.extensions(), request.headers()).await,
            Err(error) => Err(error),
        };
        let response = match admitted {
            Ok(Admission { limits, caller, payer, permit, .. }) => {
                let address = request.extensions().get().copied();
                let scope = Scope::new(project, caller, address, self.reports.clone());
                let tasks = self.tasks.clone();
                let response = if is_grpc {
                    let answered = Box::pin(self.answer_grpc(request, limits));
                    payer.enclose(scope.enclose(tasks.enclose(answered))).await
                } else {
                    let answered = Box::pin(self.answer_http(request, limits, start));
                    payer.enclose(scope.enclose(tasks.enclose(answered))).await
                };
                call_limit::hold(response, permit, Body::new)
            }
            Err(error) if is_grpc => self.grpc.refuse(request.uri().path(), &error),
            Err(error) => {
                let response = self.refusal(&request, error);
                self.record_metrics(method_label(request.method()), &response, start);
                response
            }
        };
        tracing::debug!(status = response.status().as_u16(), "answered");
        response
    }

    /// The answer to a request that is refused, in the words of its protocol.
    fn refusal(&self, request: &Request<Body>, error: ApiError) -> Response {
        #[cfg(feature = "mlflow")]
        if self.mlflow.is_some() && MlflowPort::route(request).is_some() {
            return mlflow::refusal(&error);
        }
        #[cfg(feature = "wandb")]
        if self.wandb.is_some() && WandbPort::route(request).is_some() {
            return wandb::refusal(&error);
        }
        #[cfg(not(any(feature = "mlflow", feature = "wandb")))]
        let _ = request;
        error.into_response()
    }

    /// A request without a credential may have a permit for the file that it reads.
    #[cfg(feature = "wandb")]
    fn with_permit(&self, request: &Request<Body>, caller: RequestCaller) -> ApiResult<RequestCaller> {
        let (Some(_), Some(permits)) = (&self.wandb, &self.file_permits) else { return Ok(caller) };
        if !caller.is_checked() || caller.token().is_some() {
            return Ok(caller);
        }
        let permitted = WandbPort::permitted(permits, request)?;
        Ok(match permitted {
            Some(token) => caller.with_permit(token),
            None => caller,
        })
    }

    /// Refuses a wrong credential. From then on, the request counts for its principal.
    async fn authenticate(
        &self,
        admission: Admission,
        extensions: &Extensions,
        headers: &HeaderMap,
    ) -> ApiResult<Admission> {
        let Admission { kind, limits, caller, payer, permit } = admission;
        let token = caller.token();
        match caller.authenticate().await {
            Ok((caller, principal)) => {
                let (payer, permit) = match (principal, permit) {
                    (Some(principal), Some(permit)) if kind == RequestKind::Call => {
                        let (payer, permit) = payer.of_principal(principal.name(), permit)?;
                        (payer, Some(permit))
                    }
                    (_, permit) => (payer, permit),
                };
                Ok(Admission { kind, limits, caller, payer, permit })
            }
            Err(error) => {
                if error.status() == StatusCode::UNAUTHORIZED {
                    self.reports.refused(Sender::of(extensions, headers), token);
                }
                Err(error)
            }
        }
    }

    async fn answer_grpc(&self, request: Request<Body>, limits: CallLimits) -> Response {
        let path = request.uri().path();
        let is_stream = methods::find(path).is_some_and(|method| method.is_server_streaming);
        let has_end = !deadline::is_open_ended(path);
        let unread = self.grpc.unread_limit(path);
        let (request, share) = self.metered(request);
        let answered = limits.enforce(self.grpc.answer(request)).await;
        let response = answered.unwrap_or_else(|_| grpc::late());
        // A stream with an end may need the message of its call until then.
        let request = (is_stream && has_end).then(|| share.lock().take_large()).flatten();
        response.map(|body| drop_if_unread_for(unread, body, request))
    }

    async fn answer_http(&self, mut request: Request<Body>, limits: CallLimits, start: Instant) -> Response {
        let method = request.method().clone();
        if let Some(ui) = self.ui.as_ref().filter(|ui| ui.wants_metrics_page(&request)) {
            return ui.page_or_sign_in(request.uri(), &project::of_headers(request.headers())).await;
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

    /// Handles the requests of a new connection.
    pub(crate) fn of_connection(&self) -> Self {
        Edge { tasks: self.tasks.of_connection(), ..self.clone() }
    }

    /// Starts the tasks of the connection.
    pub(crate) fn tasks(&self) -> &TaskSpawner {
        &self.tasks
    }

    /// The share of a new connection in the memory for bodies.
    pub(crate) fn connection_budget(&self) -> ConnectionBudget {
        self.services.bodies().of_connection()
    }

    /// Refuses requests over a limit, requests that a browser sends for someone else's page, and requests
    /// with malformed credentials.
    fn admit(&self, request: &Request<Body>, payer: Payer) -> ApiResult<Admission> {
        let kind = RequestKind::of(request);
        let permit = match kind {
            RequestKind::Socket => None,
            kind => Some(payer.admit_request(kind == RequestKind::Probe)?),
        };
        let settings = self.services.settings();
        check_host(settings, request)?;
        // The page of the web UI at the path of metrics has no metrics.
        if !self.ui.as_ref().is_some_and(|ui| ui.wants_metrics_page(request)) {
            check_closed_host(settings, request)?;
        }
        cors::check_origin(&settings.cors_origins, request)?;
        let limits = CallLimits::of_request(request.headers(), settings.request_timeout)?;
        let caller = RequestCaller::read(self.callers.as_ref(), request, self.base_path())?;
        #[cfg(feature = "wandb")]
        let caller = self.with_permit(request, caller)?;
        Ok(Admission { kind, limits, caller, payer, permit })
    }

    /// Path under which a proxy exposes the pages of this server, without a trailing slash.
    fn base_path(&self) -> &str {
        self.ui.as_ref().map_or("", Ui::base_path)
    }

    /// Reports the outcome of a request to the pages for signing in and out. A sign-in may end an earlier session.
    fn report_sign_in(&self, sender: Sender, response: &Response) {
        let extensions = response.extensions();
        if let Some(signed_out) = extensions.get::<SignedOut>() {
            self.reports.signed_out(sender.clone(), signed_out.clone());
        }
        if let Some(signed_in) = extensions.get::<SignedIn>() {
            self.reports.signed_in(sender, signed_in.clone());
        } else if let Some(refused) = extensions.get::<SignInRefused>() {
            self.reports.sign_in_refused(sender, refused.clone());
        } else if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            self.reports.page_refused(sender);
        }
    }

    async fn route(&self, request: Request<Body>) -> Response {
        if self.ui.is_some()
            && let Some(sign_in) = SignIn::for_path(
                request.uri().path(),
                &self.services,
                self.callers.as_ref(),
                self.base_path(),
                self.ui.as_ref().is_some_and(Ui::is_foreign),
            )
        {
            let sender = Sender::of(request.extensions(), request.headers());
            let response = Box::pin(sign_in.answer(request)).await;
            self.report_sign_in(sender, &response);
            return response;
        }
        #[cfg(feature = "mlflow")]
        if let Some(mlflow) = &self.mlflow
            && let Some(route) = MlflowPort::route(&request)
        {
            return mlflow.answer(&self.services, route, request).await;
        }
        #[cfg(feature = "wandb")]
        if let Some(wandb) = &self.wandb
            && let Some(route) = WandbPort::route(&request)
        {
            let permits = self.file_permits.as_ref();
            return Box::pin(wandb.answer(&self.services, route, request, self.base_path(), permits)).await;
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

/// A request that was admitted. Nothing of its body has been read.
struct Admission {
    kind: RequestKind,
    limits: CallLimits,
    caller: RequestCaller,
    payer: Payer,
    permit: Option<Permit>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RequestKind {
    /// A question about the health of the server.
    Probe,
    /// A handshake of a WebSocket.
    Socket,
    Call,
}

impl RequestKind {
    fn of(request: &Request<Body>) -> Self {
        let path = request.uri().path();
        if path.starts_with("/health/") || path == "/health" || path == HEALTH_CHECK {
            Self::Probe
        } else if path.starts_with(WEBSOCKET_PREFIX) {
            Self::Socket
        } else {
            Self::Call
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
