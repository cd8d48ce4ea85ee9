//! Connection of the edge to a service: one boxed tower service, either the generated server in
//! this process or a channel to another one. Both look the same, so a single code path serves
//! both deployments. Only streams of sockets take a shorter path (`LocalStreams`), because the frontier of a
//! port is always in its process.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use http::{HeaderValue, Request, Response, Uri};
use matyan_access::CallOrigin;
use matyan_proto::common::v1::Code as ProductCode;
use matyan_proto::ingest::v1::StreamRequest;
use tokio::sync::mpsc;
use tokio::time::timeout_at;
use tonic::Status;
use tonic::body::Body;

use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt};

use crate::busy_task::CallOnPort;
use crate::call_limit;
use crate::deadline;
use crate::error::refusal_status;
use crate::local_frontier::{LocalFrontier, LocalStream, STREAM_METHOD};
use crate::methods;
use crate::permission::{Permission, Permitted, RefusedCall, limit_permission};
use crate::request_id;
use crate::scope::Scope;

/// A service that takes gRPC requests. Cheap to clone.
#[derive(Clone)]
pub struct Transport {
    service: BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>,
    /// `None` for calls of the edge itself, which are about no project, and which anyone may make.
    scope: Option<Scope>,
    /// The client and the answer of the request that makes the calls.
    origin: CallOrigin,
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
        let service = BoxCloneSyncService::new(service.map_err(Into::into));
        Transport { service, scope: None, origin: CallOrigin::default() }
    }

    /// The same connection, for the calls of a request.
    pub(crate) fn in_scope(&self, scope: Scope) -> Self {
        Transport { scope: Some(scope), origin: call_limit::call_origin(), ..self.clone() }
    }
}

/// Connection of the edge to the frontier of its process: a transport for calls, and the direct path of sockets.
#[derive(Clone)]
pub struct FrontierTransport {
    calls: Transport,
    streams: Arc<dyn LocalFrontier>,
}

impl FrontierTransport {
    /// `calls` and `streams` must reach the same frontier.
    pub fn new(calls: Transport, streams: Arc<dyn LocalFrontier>) -> Self {
        FrontierTransport { calls, streams }
    }

    /// The transport for everything except the streams of sockets.
    pub fn calls(&self) -> &Transport {
        &self.calls
    }

    /// The direct path, for the streams of a request's socket.
    pub(crate) fn streams_in_scope(&self, scope: Scope) -> LocalStreams {
        LocalStreams { frontier: Arc::clone(&self.streams), scope }
    }
}

/// The direct path to the frontier of this process, for the streams of a request's socket.
#[derive(Clone)]
pub(crate) struct LocalStreams {
    frontier: Arc<dyn LocalFrontier>,
    scope: Scope,
}

impl LocalStreams {
    /// Opens a stream, checked and labeled like any other call. There is no limit on such calls besides the limit on sockets,
    /// and no deadline: a socket lasts as long as its client wants.
    pub(crate) async fn open(
        self,
        requests: mpsc::Receiver<StreamRequest>,
    ) -> Result<Permitted<LocalStream>, Status> {
        let LocalStreams { frontier, scope } = self;
        let mut call = Request::new(Body::empty());
        *call.uri_mut() = Uri::from_static(STREAM_METHOD);
        request_id::propagate(call.headers_mut());
        let opened = make_call(Some(scope), call, move |call| {
            frontier.open_stream(call.into_parts().0.headers, requests)
        });
        let (stream, refused) = opened.await?;
        Ok(Permitted::new(stream?, refused))
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
        let on_port = call_on_port(request.uri().path());
        request_id::propagate(request.headers_mut());
        request.extensions_mut().insert(self.origin.clone());
        let deadline = deadline::of_call(request.uri().path());
        let scope = self.scope.clone();
        // The service that `poll_ready` has reported ready; a clone may not be.
        let clone = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, clone);
        let answered = async move {
            if let Some(call) = &on_port {
                call.begin().await;
            }
            let (answer, refused) = make_call(scope, request, move |request| service.call(request)).await?;
            Ok::<_, Status>(answer.map(|response| limit_permission(response, refused)))
        };
        Box::pin(async move {
            let answered = match deadline {
                None => answered.await,
                Some(deadline) => match timeout_at(deadline, answered).await {
                    Ok(answered) => answered,
                    Err(_) => Err(deadline::exceeded()),
                },
            };
            let response = match (answered, deadline) {
                (Ok(Ok(response)), None) => response,
                (Ok(Ok(response)), Some(deadline)) => deadline::limit_body(response, deadline),
                (Ok(Err(error)), _) => return Err(error),
                (Err(status), _) => status.into_http(),
            };
            Ok(call_limit::hold(response, permit, Body::new))
        })
    }
}

/// Keeps the current request on the threads of its port for a call to this path; `None` if the call only reads.
fn call_on_port(path: &str) -> Option<CallOnPort> {
    if methods::logs_data(path) {
        Some(CallOnPort::for_data())
    } else if methods::may_change(path) {
        Some(CallOnPort::for_change())
    } else {
        None
    }
}

/// Makes a call, unless its scope does not permit it, or no longer does before it is answered. Returns its answer, and the
/// end of its permission, which also ends what follows the answer; `None` if the permission cannot be lost.
async fn make_call<F: Future>(
    scope: Option<Scope>,
    mut request: Request<Body>,
    send: impl FnOnce(Request<Body>) -> F,
) -> Result<(F::Output, Option<RefusedCall>), Status> {
    let id = request.headers().get(request_id::HEADER).cloned();
    let permission = Permission::check(scope, &mut request).await?;
    // A panic is a bug in the service: this call fails, but others continue.
    let answered = AssertUnwindSafe(async move { send(request).await }).catch_unwind();
    let answered = answered.map(move |answered| answered.map_err(|_| broken(id.as_ref())));
    let Some(mut refused) = permission.refused() else { return Ok((answered.await?, None)) };
    tokio::select! {
        biased;
        status = &mut refused => Err(status),
        answered = answered => Ok((answered?, Some(refused))),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_130_calls_that_are_acknowledged_are_made_on_the_threads_of_the_port() {
        for (path, is_on_port) in [
            ("/matyan.ingest.v1.IngestService/Store", true),
            ("/matyan.ingest.v1.IngestService/Presign", true),
            ("/matyan.runs.v1.RunService/Update", true),
            ("/matyan.project.v1.ProjectService/Update", true),
            ("/matyan.backup.v1.BackupService/WriteRun", true),
            ("/matyan.search.v1.SearchService/Runs", false),
            ("/matyan.runs.v1.RunService/Get", false),
            ("/matyan.no.v1.NoService/None", false),
        ] {
            assert_eq!(call_on_port(path).is_some(), is_on_port, "{path}");
        }
    }

    #[test]
    fn the_method_of_sockets_exists_and_has_no_limits() {
        assert!(methods::find(STREAM_METHOD).is_some_and(|method| method.is_client_streaming));
        assert!(deadline::is_open_ended(STREAM_METHOD));
        assert!(matches!(call_limit::admit_call(STREAM_METHOD), Ok(None)));
    }
}
