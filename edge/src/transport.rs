//! Connection of the edge to a service: one boxed tower service, either the generated server in
//! this process or a channel to another one. Both look the same, so a single code path serves
//! both deployments.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use matyan_proto::common::v1::Code as ProductCode;
use tokio::time::timeout_at;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt};

use crate::deadline;
use crate::error::DOMAIN;
use crate::project::{self, RequestProject};
use crate::request_id;

/// A service that takes gRPC requests. Cheap to clone.
#[derive(Clone)]
pub struct Transport {
    service: BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>,
    /// Stamped on each call, if there is one.
    project: RequestProject,
}

impl Transport {
    /// Wraps `tonic::service::Routes`, a generated server, or a
    /// `tonic::transport::Channel`.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError> + 'static,
        S::Future: Send + 'static,
    {
        Transport { service: BoxCloneSyncService::new(service.map_err(Into::into)), project: None }
    }

    /// The same connection, for calls in a project.
    pub(crate) fn in_project(&self, project: RequestProject) -> Self {
        Transport { service: self.service.clone(), project }
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request_id::propagate(request.headers_mut());
        if let Some(project) = &self.project {
            request.headers_mut().insert(project::HEADER, project.clone());
        }
        let id = request.headers().get(request_id::HEADER).cloned();
        let deadline = deadline::of_call(request.uri().path());
        // A panic is a bug in the service: this call fails, but others continue.
        let answered = AssertUnwindSafe(self.service.call(request)).catch_unwind();
        Box::pin(async move {
            let answered = match deadline {
                None => answered.await,
                Some(deadline) => match timeout_at(deadline, answered).await {
                    Ok(answered) => answered,
                    Err(_) => return Ok(deadline::exceeded().into_http()),
                },
            };
            let response = match answered {
                Ok(answered) => answered?,
                Err(_) => return Ok(broken(id.as_ref()).into_http()),
            };
            Ok(match deadline {
                None => response,
                Some(deadline) => deadline::limit_body(response, deadline),
            })
        })
    }
}

/// The status of a call whose handler panicked.
fn broken(id: Option<&HeaderValue>) -> Status {
    let id = id.and_then(|it| it.to_str().ok()).unwrap_or("unknown");
    let message = format!("internal error: please report it with the request id {id} and the server's log");
    let reason = ProductCode::Internal.as_str_name().trim_start_matches("CODE_");
    let metadata = HashMap::from([("request_id".to_owned(), id.to_owned())]);
    let details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    Status::with_error_details(Code::Internal, message, details)
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Transport")
    }
}

/// Creates a generated client over a transport, with the system's message size limit in both
/// directions.
macro_rules! client {
    ($client:ty, $transport:expr) => {
        <$client>::new($transport)
            .max_decoding_message_size(matyan_proto::limits::MESSAGE_BYTES)
            .max_encoding_message_size(matyan_proto::limits::MESSAGE_BYTES)
    };
}
pub(crate) use client;
