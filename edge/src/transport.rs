//! Connection of the edge to a service: one boxed tower service, either the generated server in
//! this process or a channel to another one. Both look the same, so a single code path serves
//! both deployments.

use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt};

use crate::request_id;

/// A service that takes gRPC requests. Cheap to clone.
#[derive(Clone)]
pub struct Transport(BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>);

impl Transport {
    /// Wraps `tonic::service::Routes`, a generated server, or a
    /// `tonic::transport::Channel`.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError> + 'static,
        S::Future: Send + 'static,
    {
        Transport(BoxCloneSyncService::new(service.map_err(Into::into)))
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future =
        <BoxCloneSyncService<Request<Body>, Response<Body>, BoxError> as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request_id::propagate(request.headers_mut());
        self.0.call(request)
    }
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
