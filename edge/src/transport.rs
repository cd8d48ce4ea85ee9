//! Connection of the edge to a service: one boxed tower service, either the generated server in
//! this process or a channel to another one. Both look the same, so a single code path serves
//! both deployments.

use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use http::{HeaderValue, Request, Response};
use matyan_proto::common::v1::Code as ProductCode;
use tokio::time::timeout_at;
use tonic::Status;
use tonic::body::Body;

use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt};

use crate::call_limit;
use crate::deadline;
use crate::error::refusal_status;
use crate::permission::{Permission, limit_permission};
use crate::request_id;
use crate::scope::Scope;

/// A service that takes gRPC requests. Cheap to clone.
#[derive(Clone)]
pub struct Transport {
    service: BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>,
    /// `None` for calls of the edge itself, which are about no project, and which anyone may make.
    scope: Option<Scope>,
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
        Transport { service: BoxCloneSyncService::new(service.map_err(Into::into)), scope: None }
    }

    /// The same connection, for the calls of a request.
    pub(crate) fn in_scope(&self, scope: Scope) -> Self {
        Transport { service: self.service.clone(), scope: Some(scope) }
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
        let permit = match call_limit::admit_call(request.uri().path()) {
            Ok(permit) => permit,
            Err(refused) => return Box::pin(ready(Ok(refused.into_http()))),
        };
        request_id::propagate(request.headers_mut());
        let id = request.headers().get(request_id::HEADER).cloned();
        let deadline = deadline::of_call(request.uri().path());
        let scope = self.scope.clone();
        // The service that `poll_ready` has reported ready; a clone may not be.
        let clone = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, clone);
        let answered = async move {
            let permission = Permission::check(scope, &mut request).await.map_err(CallFailure::Status)?;
            // A panic is a bug in the service: this call fails, but others continue.
            let answered = AssertUnwindSafe(async move { service.call(request).await }).catch_unwind();
            let answered = answered.map(move |answered| match answered {
                Ok(answered) => answered.map_err(CallFailure::Transport),
                Err(_) => Err(CallFailure::Status(broken(id.as_ref()))),
            });
            let Some(mut refused) = permission.refused() else { return answered.await };
            tokio::select! {
                biased;
                status = &mut refused => Err(CallFailure::Status(status)),
                answered = answered => Ok(limit_permission(answered?, refused)),
            }
        };
        Box::pin(async move {
            let answered = match deadline {
                None => answered.await,
                Some(deadline) => match timeout_at(deadline, answered).await {
                    Ok(answered) => answered,
                    Err(_) => Err(CallFailure::Status(deadline::exceeded())),
                },
            };
            let response = match (answered, deadline) {
                (Ok(response), None) => response,
                (Ok(response), Some(deadline)) => deadline::limit_body(response, deadline),
                (Err(CallFailure::Status(status)), _) => status.into_http(),
                (Err(CallFailure::Transport(error)), _) => return Err(error),
            };
            Ok(call_limit::hold(response, permit, Body::new))
        })
    }
}

/// The reason why a call has no response of its service.
enum CallFailure {
    Status(Status),
    Transport(BoxError),
}

/// The status of a call whose handler panicked.
fn broken(id: Option<&HeaderValue>) -> Status {
    let id = id.and_then(|it| it.to_str().ok()).unwrap_or("unknown");
    let message = format!("internal error: please report it with the request id {id} and the server's log");
    refusal_status(ProductCode::Internal, message, &[("request_id", id)])
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
