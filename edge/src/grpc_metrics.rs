//! Counts of gRPC calls by method and status code, and their durations.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame};
use matyan_proto::status_name;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::{deadline, methods};

/// Metric label for calls of methods that do not exist. Their paths are unbounded, so they cannot
/// be labels.
const UNKNOWN_METHOD: &str = "unknown";

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct GrpcMetrics {
    calls: IntCounterVec,
    seconds: HistogramVec,
}

impl GrpcMetrics {
    pub(crate) fn register(registry: &Registry, buckets: &[f64]) -> prometheus::Result<Self> {
        let calls = IntCounterVec::new(
            Opts::new("matyan_grpc_requests_total", "gRPC calls that have ended, by status code."),
            &["method", "code"],
        )?;
        registry.register(Box::new(calls.clone()))?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "matyan_grpc_request_duration_seconds",
                "Time until the end of gRPC calls, except calls that last as long as their client wants.",
            )
            .buckets(buckets.to_vec()),
            &["method"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(GrpcMetrics { calls, seconds })
    }

    /// Starts a call of the method with this path.
    pub(crate) fn begin(&self, path: &str) -> OpenCall {
        OpenCall {
            metrics: self.clone(),
            method: methods::label(path).unwrap_or(UNKNOWN_METHOD),
            started: Instant::now(),
            deadline: deadline::of_call(path),
            is_timed: !deadline::is_open_ended(path),
            is_counted: false,
        }
    }
}

/// A call that is counted when it ends.
pub(crate) struct OpenCall {
    metrics: GrpcMetrics,
    method: &'static str,
    started: Instant,
    deadline: Option<Instant>,
    is_timed: bool,
    is_counted: bool,
}

impl OpenCall {
    /// Counts the call with its final status, once.
    pub(crate) fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.is_counted, true) {
            return;
        }
        self.metrics.calls.with_label_values(&[self.method, status_name(code as i32)]).inc();
        if self.is_timed {
            self.metrics
                .seconds
                .with_label_values(&[self.method])
                .observe(self.started.elapsed().as_secs_f64());
        }
    }

    fn end_with(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.end(status.code());
        }
    }

    /// Counts the call when its response ends.
    pub(crate) fn follow(mut self, response: Response<Body>) -> Response<Body> {
        // A response without messages has its status in the headers.
        self.end_with(response.headers());
        if self.is_counted {
            response
        } else {
            response.map(|body| Body::new(CountedBody { body, call: self }))
        }
    }
}

impl Drop for OpenCall {
    /// A call that is dropped before its end was abandoned by its client, or was late.
    fn drop(&mut self) {
        let is_late = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        self.end(if is_late { Code::DeadlineExceeded } else { Code::Cancelled });
    }
}

struct CountedBody {
    body: Body,
    call: OpenCall,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.call.end_with(trailers);
                }
            }
            Some(Err(status)) => self.call.end(status.code()),
            // A response must end with its status.
            None => self.call.end(Code::Unknown),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_names_of_the_specification() {
        for number in 0..=16 {
            let camel = format!("{:?}", Code::from_i32(number));
            let plain = status_name(number).replace('_', "");
            assert!(plain.eq_ignore_ascii_case(&camel), "{number}: {plain} {camel}");
        }
        assert_eq!(
            [status_name(5), status_name(16), status_name(17)],
            ["NOT_FOUND", "UNAUTHENTICATED", "UNKNOWN"]
        );
    }
}
