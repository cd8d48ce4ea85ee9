//! Native gRPC and gRPC-web on the same port: calls are forwarded to the transport of their
//! service without being decoded. Only reflection is handled here, from the descriptors that
//! the edge is built with, and services of other trackers, by their translators.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::response::Response;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use matyan_proto::DESCRIPTORS;
use matyan_proto::common::v1::Access;
use prometheus::IntCounter;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_web::GrpcWebLayer;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt};

use crate::answer_budget;
use crate::compression::Compressors;
use crate::deadline;
use crate::error::{ApiError, challenge};
use crate::grpc_metrics::GrpcMetrics;
use crate::methods;
use crate::scope::Scope;
use crate::transport::Transport;
use crate::unread_response::{TRANSLATED_UNREAD, UNREAD};

/// Start of the paths of the calls that only the pages of this server make.
const SIGN_IN_PREFIX: &str = "/matyan.access.v1.SignInService/";

/// Returns whether a request is gRPC or gRPC-web.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(|it| it.as_bytes());
    // Also matches gRPC-web and suffixes such as `+proto`.
    content_type.is_some_and(|it| it.starts_with(b"application/grpc"))
}

/// The answer to a call that is refused. Clients of gRPC prefer the status in the headers to the
/// status of HTTP.
fn refusal(error: &ApiError) -> http::Response<Body> {
    let http = error.status();
    let code = match http {
        StatusCode::BAD_REQUEST => Code::InvalidArgument,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        _ => Code::PermissionDenied,
    };
    let status = Status::new(code, error.message());
    let mut response = status.into_http();
    *response.status_mut() = http;
    if let Some(challenge) = challenge(http) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// The answer to a call that is not a POST.
pub(crate) fn wrong_method() -> Response {
    let mut response = Response::new(axum::body::Body::empty());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

/// The answer to a call whose client has given it too little time.
pub(crate) fn late() -> Response {
    deadline::exceeded().into_http()
}

/// A service of another tracker. Its calls are not checked by their own paths, but each call that it makes is: it makes
/// them over transports in the scope of the request.
#[cfg_attr(not(feature = "optuna"), allow(dead_code, reason = "a build may have no translator"))]
#[derive(Clone)]
pub(crate) struct TranslatedService {
    /// Start of the paths of its methods.
    pub(crate) prefix: &'static str,
    pub(crate) service: BoxCloneSyncService<Request<Body>, http::Response<Body>, Infallible>,
    /// Counts calls of methods that the service does not have.
    pub(crate) unanswered: IntCounter,
}

impl TranslatedService {
    /// Answers a call. A panic is a bug in the translator: this call fails, but others continue.
    async fn answer(self, request: Request<Body>) -> http::Response<Body> {
        let response = match AssertUnwindSafe(self.service.oneshot(request)).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(infallible)) => match infallible {},
            Err(_) => Status::internal("internal error: please report it with the server's log").into_http(),
        };
        let status = Status::from_header_map(response.headers());
        if status.is_some_and(|status| status.code() == Code::Unimplemented) {
            self.unanswered.inc();
        }
        response
    }
}

/// Routes calls to transports by service name. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Grpc {
    own: Transport,
    frontier: Option<Transport>,
    backend: Option<Transport>,
    reflection: Transport,
    translated: Arc<[TranslatedService]>,
    compressors: Compressors,
    /// `None`: calls are not counted.
    metrics: Option<GrpcMetrics>,
}

impl Grpc {
    /// `own` handles calls about the server itself.
    pub(crate) fn new(
        metrics: Option<GrpcMetrics>,
        own: Transport,
        frontier: Option<Transport>,
        backend: Option<Transport>,
        translated: Vec<TranslatedService>,
    ) -> Self {
        let builder = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let invariant = "descriptors generated by the build are valid";
        let reflection = Routes::new(builder().build_v1().expect(invariant))
            .add_service(builder().build_v1alpha().expect(invariant));
        let compressors = Compressors::new();
        let reflection = Transport::new(reflection);
        let translated = translated.into();
        Grpc { own, frontier, backend, reflection, translated, compressors, metrics }
    }

    /// Time after which the answer to a call with this path is dropped if its client does not read it.
    pub(crate) fn unread_limit(&self, path: &str) -> Duration {
        if self.translated(path).is_some() { TRANSLATED_UNREAD } else { UNREAD }
    }

    /// The service of another tracker that a path belongs to.
    fn translated(&self, path: &str) -> Option<&TranslatedService> {
        self.translated.iter().find(|service| path.starts_with(service.prefix))
    }

    /// Refuses a call before it is read.
    pub(crate) fn refuse(&self, path: &str, error: &ApiError) -> Response {
        let refusal = refusal(error);
        let counted = match &self.metrics {
            Some(metrics) => metrics.begin(path).follow(refusal),
            None => refusal,
        };
        counted.map(axum::body::Body::new)
    }

    /// Handles one call.
    pub(crate) async fn answer(&self, request: Request<axum::body::Body>) -> Response {
        let compressor = self.compressors.reserve(&request);
        let web = GrpcWebLayer::new().layer(self.clone());
        let response = match web.oneshot(request.map(Body::new)).await {
            Ok(response) => response,
            Err(infallible) => match infallible {},
        };
        match compressor {
            Some(compressor) => compressor.compress(response).map(axum::body::Body::new),
            None => response.map(axum::body::Body::new),
        }
    }

    fn transport(&self, path: &str) -> Option<&Transport> {
        if path.starts_with(SIGN_IN_PREFIX) {
            None
        } else if path.starts_with(methods::INGEST_PREFIX) {
            self.frontier.as_ref()
        } else if path.starts_with("/matyan.system.") || path.starts_with("/grpc.health.") {
            Some(&self.own)
        } else if path.starts_with(methods::REFLECTION_PREFIX) {
            Some(&self.reflection)
        } else {
            self.backend.as_ref()
        }
    }
}

impl Service<Request<Body>> for Grpc {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        if let Some(translated) = self.translated(path) {
            let call = self.metrics.as_ref().map(|metrics| metrics.begin(path));
            let answered = translated.clone().answer(request);
            return Box::pin(async move {
                let response = answered.await;
                Ok(match call {
                    Some(call) => call.follow(response),
                    None => response,
                })
            });
        }
        let scope = Scope::current();
        let transport = self.transport(request.uri().path()).map(|transport| transport.in_scope(scope));
        let call = self.metrics.as_ref().map(|metrics| metrics.begin(request.uri().path()));
        // A call that has changed something is not refused afterwards. Its answer is small.
        let may_be_large = methods::find(request.uri().path())
            .is_some_and(|method| !method.is_server_streaming && method.access == Access::Read);
        Box::pin(async move {
            let mut response = match transport {
                None => Status::unimplemented("this server does not have that service").into_http(),
                Some(transport) => transport.oneshot(request).await.unwrap_or_else(|error| {
                    tracing::warn!(error = &*error, "failed to reach service");
                    Status::unavailable("the service cannot be reached: try again").into_http()
                }),
            };
            if may_be_large {
                response = answer_budget::hold_message(response).await;
            }
            Ok(match call {
                Some(call) => call.follow(response),
                None => response,
            })
        })
    }
}
