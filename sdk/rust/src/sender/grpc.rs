//! Sending by gRPC, for gateways that are reached through proxies without WebSockets.

use std::time::Duration;

use futures::{
    FutureExt as _,
    future::{self, LocalBoxFuture},
    stream,
};
use hyper_util::rt::TokioIo;
use matyan_proto::ingest::v1::{StreamRequest, StreamResponse, ingest_service_client::IngestServiceClient};
use tokio::{sync::mpsc, time};
use tonic::{
    Code, Request, Status, Streaming,
    metadata::AsciiMetadataValue,
    transport::{Channel, Endpoint},
};

use crate::{
    access_token::authorization,
    http::with_sources,
    sender::{
        dialer::{Dialer, STEP_TIMEOUT},
        link::{LinkEnd, RequestSink, ResponseStream},
        target::{ConnectError, Target},
    },
};

/// Interval of HTTP/2 pings.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// Longest wait for the answer to a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests that wait for flow control. The outbox limits how much is in flight.
const QUEUED_REQUESTS: usize = 1;

/// A gateway that is reached by HTTP/2.
pub(crate) struct Gateway {
    channel: Channel,
    /// The token for this gateway.
    authorization: Option<AsciiMetadataValue>,
}

/// Connects with HTTP/2.
pub(crate) async fn connect(target: &Target, dialer: &Dialer) -> Result<Gateway, ConnectError> {
    let authorization = authorization(&target.uri()?.to_string());
    let authorization = authorization.and_then(|value| AsciiMetadataValue::try_from(value.as_bytes()).ok());
    // The connector below knows where to connect, and does TLS itself, so the endpoint must not.
    let endpoint = Endpoint::from_static("http://gateway")
        .origin(target.uri()?)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    let to = target.clone();
    let dialer = dialer.clone();
    let connector = tower::service_fn(move |_| {
        let to = to.clone();
        let dialer = dialer.clone();
        async move { dialer.open(&to, Some(b"h2")).await.map(TokioIo::new) }
    });
    let connecting = endpoint.connect_with_connector(connector);
    match time::timeout(STEP_TIMEOUT, connecting).await {
        Ok(Ok(channel)) => Ok(Gateway { channel, authorization }),
        Ok(Err(error)) => Err(ConnectError::Grpc { address: target.address(), reason: with_sources(&error) }),
        Err(_) => Err(target.timeout()),
    }
}

/// Requests of one call.
pub(crate) struct GrpcRequests(Option<mpsc::Sender<StreamRequest>>);

/// Responses of one call, which the server starts to send when it likes.
pub(crate) enum GrpcResponses {
    Opening(LocalBoxFuture<'static, Result<Streaming<StreamResponse>, Status>>),
    Open(Box<Streaming<StreamResponse>>),
}

/// Both directions of a new call.
pub(crate) fn open(gateway: Gateway) -> (GrpcRequests, GrpcResponses) {
    let (sender, mut receiver) = mpsc::channel(QUEUED_REQUESTS);
    let requests = stream::poll_fn(move |context| receiver.poll_recv(context));
    let call = async move {
        let mut client = IngestServiceClient::new(gateway.channel);
        let mut request = Request::new(requests);
        if let Some(authorization) = gateway.authorization {
            request.metadata_mut().insert("authorization", authorization);
        }
        client.stream(request).await.map(tonic::Response::into_inner)
    };
    (GrpcRequests(Some(sender)), GrpcResponses::Opening(call.boxed_local()))
}

impl RequestSink for GrpcRequests {
    async fn send(&mut self, request: StreamRequest) -> Result<(), String> {
        let Some(sender) = &self.0 else { return Err("the stream is closed".to_owned()) };
        if sender.send(request).await.is_err() {
            // The call has ended, and its status, which says why, is received by the other direction.
            future::pending::<()>().await;
        }
        Ok(())
    }

    async fn ping(&mut self) -> Result<(), String> {
        Ok(())
    }

    async fn close(&mut self) {
        self.0 = None;
    }
}

impl ResponseStream for GrpcResponses {
    const SHOWS_PINGS: bool = false;

    async fn next(&mut self) -> Result<Option<StreamResponse>, LinkEnd> {
        let responses = match self {
            Self::Open(responses) => responses,
            Self::Opening(call) => {
                *self = Self::Open(Box::new(call.await.map_err(|status| end(&status))?));
                return Ok(None);
            }
        };
        match responses.message().await {
            Ok(Some(response)) => Ok(Some(response)),
            Ok(None) => Err(LinkEnd::Lost("the server ended the stream".to_owned())),
            Err(status) => Err(end(&status)),
        }
    }
}

fn end(status: &Status) -> LinkEnd {
    let reason = format!("the server ended the stream ({:?}): {}", status.code(), status.message());
    match status.code() {
        // The only precondition of this method is the sequence.
        Code::FailedPrecondition => LinkEnd::Refused(reason),
        Code::NotFound | Code::Unauthenticated | Code::PermissionDenied => LinkEnd::NeedsCorrection(reason),
        _ => LinkEnd::Lost(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refused_sequence_needs_another_producer() {
        for (code, is_refused) in
            [(Code::FailedPrecondition, true), (Code::Unavailable, false), (Code::InvalidArgument, false)]
        {
            let end = end(&Status::new(code, "reason"));
            assert_eq!(matches!(end, LinkEnd::Refused(_)), is_refused, "{end:?}");
        }
    }
}
