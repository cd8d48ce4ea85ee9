//! Native gRPC and gRPC-web on the same port: a call goes on to the transport of its service, unread.
//! Only reflection is answered here, from the descriptors that the edge is built with.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::response::Response;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, header};
use matyan_proto::DESCRIPTORS;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tonic_web::GrpcWebLayer;
use tower::{Layer, Service, ServiceExt};

use crate::transport::Transport;

/// Set by the access layer alone: what a client sends under this name is dropped.
const CALLER: &str = "matyan-caller";

/// Whether a request is for this module.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(|it| it.as_bytes());
    content_type.is_some_and(|it| it.starts_with(b"application/grpc"))
}

/// The transports by service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Grpc {
    own: Transport,
    frontier: Option<Transport>,
    backend: Option<Transport>,
    reflection: Transport,
}

impl Grpc {
    /// `own` answers about the server itself.
    pub(crate) fn new(own: Transport, frontier: Option<Transport>, backend: Option<Transport>) -> Self {
        let builder = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let invariant = "the descriptors were made by the build";
        let reflection = Routes::new(builder().build_v1().expect(invariant))
            .add_service(builder().build_v1alpha().expect(invariant));
        Grpc { own, frontier, backend, reflection: Transport::new(reflection) }
    }

    /// Answers one call.
    pub(crate) async fn answer(&self, mut request: Request<axum::body::Body>) -> Response {
        request.headers_mut().remove(CALLER);
        let web = GrpcWebLayer::new().layer(self.clone());
        match web.oneshot(request.map(Body::new)).await {
            Ok(response) => response.map(axum::body::Body::new),
            Err(infallible) => match infallible {},
        }
    }

    fn transport(&self, path: &str) -> Option<&Transport> {
        if path.starts_with("/matyan.ingest.") {
            self.frontier.as_ref()
        } else if path.starts_with("/matyan.system.") || path.starts_with("/grpc.health.") {
            Some(&self.own)
        } else if path.starts_with("/grpc.reflection.") {
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
        let transport = self.transport(request.uri().path()).cloned();
        Box::pin(async move {
            let Some(transport) = transport else {
                return Ok(Status::unimplemented("this server does not have that service").into_http());
            };
            Ok(transport.oneshot(request).await.unwrap_or_else(|error| {
                tracing::warn!(error = &*error, "a service cannot be reached");
                Status::unavailable("the service cannot be reached: try again").into_http()
            }))
        })
    }
}
