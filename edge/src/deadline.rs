//! Time limits of calls. A call ends at the time that its client gives, and at the latest after
//! the maximum of this server; its work is then dropped. Calls that last as long as their
//! client wants, such as watches and uploads, have no maximum.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use matyan_proto::common::v1::Code as ProductCode;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::Status;
use tonic::body::Body;

use crate::error::{ApiError, ApiResult, refusal_status};

/// Time limit of a gRPC call: up to eight digits and a unit.
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Time limit of a REST call in seconds.
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");

/// Methods without a maximum: they wait for events, carry content of any size, or run jobs. All of
/// them are streams.
const OPEN_ENDED: [&str; 27] = [
    "/matyan.ingest.v1.IngestService/Store",
    "/matyan.ingest.v1.IngestService/Stream",
    "/matyan.ingest.v1.IngestService/Upload",
    "/matyan.runs.v1.RunService/Watch",
    "/matyan.search.v1.SearchService/WatchRuns",
    "/matyan.series.v1.SeriesService/Follow",
    "/matyan.live.v1.LiveService/Subscribe",
    "/matyan.logs.v1.LogService/Lines",
    "/matyan.logs.v1.LogService/Records",
    "/matyan.backup.v1.BackupService/ReadProject",
    "/matyan.backup.v1.BackupService/ListRuns",
    "/matyan.backup.v1.BackupService/ReadRun",
    "/matyan.backup.v1.BackupService/ReadBlob",
    "/matyan.backup.v1.BackupService/WriteRun",
    "/matyan.backup.v1.BackupService/WriteBlob",
    "/matyan.artifacts.v1.ArtifactService/Get",
    "/matyan.artifacts.v1.ArtifactService/Zip",
    "/matyan.artifacts.v1.ArtifactService/Payload",
    "/matyan.artifacts.v1.ArtifactService/Blobs",
    "/matyan.export.v1.ExportService/Metrics",
    "/matyan.export.v1.ExportService/Runs",
    "/matyan.export.v1.ExportService/Objects",
    "/matyan.admin.v1.AdminService/Reindex",
    "/matyan.admin.v1.AdminService/FinishStale",
    "/matyan.admin.v1.AdminService/CleanupOrphanBlobs",
    "/matyan.admin.v1.AdminService/CleanupTombstones",
    "/grpc.health.v1.Health/Watch",
];

/// Returns whether a method lasts as long as its client wants.
pub(crate) fn is_open_ended(path: &str) -> bool {
    OPEN_ENDED.contains(&path)
}

tokio::task_local! {
    static LIMITS: CallLimits;
}

/// Limits of the current request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallLimits {
    /// The time that the client has given.
    given: Option<Instant>,
    /// The maximum for calls that have one.
    latest: Instant,
}

impl CallLimits {
    /// Limits of a request that has just arrived.
    pub(crate) fn of_request(headers: &HeaderMap, max: Duration) -> ApiResult<Self> {
        let now = Instant::now();
        // Times beyond the range of a clock never come.
        let after = |time: Duration| now.checked_add(time);
        let given = match headers.get(REQUEST_TIMEOUT) {
            None => match headers.get(GRPC_TIMEOUT) {
                None => None,
                Some(value) => {
                    let time = value.to_str().ok().and_then(parse_grpc);
                    Some(time.ok_or_else(|| invalid(&GRPC_TIMEOUT, "a time limit of gRPC", "2500m"))?)
                }
            },
            Some(value) => {
                let seconds = value.to_str().ok().and_then(|it| it.trim().parse().ok());
                let time = seconds.and_then(|it| Duration::try_from_secs_f64(it).ok());
                Some(time.ok_or_else(|| invalid(&REQUEST_TIMEOUT, "a number of seconds", "2.5"))?)
            }
        };
        Ok(CallLimits { given: given.and_then(after), latest: after(max).unwrap_or(now + MANY_YEARS) })
    }

    /// Runs the work of the request, ending it at the time that the client has given.
    pub(crate) async fn enforce<T>(self, work: impl Future<Output = T>) -> ApiResult<T> {
        let work = LIMITS.scope(self, work);
        match self.given {
            None => Ok(work.await),
            Some(given) => timeout_at(given, work).await.map_err(|_| late()),
        }
    }

    fn of_method(self, path: &str) -> Option<Instant> {
        if is_open_ended(path) {
            self.given
        } else {
            Some(self.given.map_or(self.latest, |given| given.min(self.latest)))
        }
    }
}

/// Runs a part of a request that has a deadline even if its call has none, such as reading a message.
pub(crate) async fn enforce_maximum<T>(work: impl Future<Output = T>) -> ApiResult<T> {
    match LIMITS.try_with(|limits| limits.latest) {
        Ok(latest) => timeout_at(latest, work).await.map_err(|_| late()),
        Err(_) => Ok(work.await),
    }
}

/// Longer than any process runs.
const MANY_YEARS: Duration = Duration::from_secs(30 * 365 * 24 * 3_600);

fn invalid(header: &HeaderName, expected: &str, example: &str) -> ApiError {
    let message = format!("{header} is not {expected}: send one such as {example}, or omit it");
    ApiError::new(StatusCode::BAD_REQUEST, message)
}

fn late() -> ApiError {
    ApiError::new(StatusCode::GATEWAY_TIMEOUT, LATE)
}

const LATE: &str = "the request did not end in time: narrow it, or allow more time";

/// Parses `100m`: at most eight digits, and one of `HMSmun`.
fn parse_grpc(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The deadline of a call to this method by the current request.
pub(crate) fn of_call(path: &str) -> Option<Instant> {
    LIMITS.try_with(|limits| limits.of_method(path)).ok().flatten()
}

/// The status of a call that did not end in time.
pub(crate) fn exceeded() -> Status {
    refusal_status(ProductCode::DeadlineExceeded, LATE, &[])
}

/// Ends the messages of a response at the deadline.
pub(crate) fn limit_body(response: Response<Body>, deadline: Instant) -> Response<Body> {
    response.map(|body| Body::new(LimitedBody { body: Some(body), end: Box::pin(sleep_until(deadline)) }))
}

struct LimitedBody {
    /// `None` after the end. Dropping it ends the work of the call.
    body: Option<Body>,
    end: Pin<Box<Sleep>>,
}

impl HttpBody for LimitedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        // Data that is ready is sent first, so that a response that was in time is complete.
        let frame = Pin::new(body).poll_frame(context);
        if frame.is_ready() || self.end.as_mut().poll(context).is_pending() {
            return frame;
        }
        self.body = None;
        let mut trailers = HeaderMap::new();
        exceeded().add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods;

    #[test]
    fn only_streams_are_open_ended() {
        for path in OPEN_ENDED {
            let method = methods::find(path).unwrap_or_else(|| panic!("there is no method {path}"));
            assert!(method.is_client_streaming || method.is_server_streaming, "{path} needs a maximum");
        }
    }

    #[test]
    fn timeouts_are_parsed() {
        let check = |text: &str, expected: Option<Duration>| assert_eq!(parse_grpc(text), expected, "{text}");
        check("100m", Some(Duration::from_millis(100)));
        check("99999999H", Some(Duration::from_secs(99_999_999 * 3_600)));
        check("1S", Some(Duration::from_secs(1)));
        check("7u", Some(Duration::from_micros(7)));
        for wrong in ["", "m", "1", "1x", "+1m", "123456789m", "1\u{e4}", "-1S"] {
            check(wrong, None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_may_shorten_the_maximum_but_not_extend_it() {
        let max = Duration::from_secs(10);
        let check = |header: Option<(HeaderName, &'static str)>, path: &str, expected: Option<f64>| {
            let header = header.map(|(name, value)| (name, http::HeaderValue::from_static(value)));
            let limits = CallLimits::of_request(&header.into_iter().collect(), max).unwrap();
            let left = limits.of_method(path).map(|end| (end - Instant::now()).as_secs_f64());
            assert_eq!(left, expected, "{path}");
        };
        let search = "/matyan.search.v1.SearchService/Runs";
        let watch = "/matyan.runs.v1.RunService/Watch";
        check(None, search, Some(10.0));
        check(Some((GRPC_TIMEOUT, "1S")), search, Some(1.0));
        check(Some((REQUEST_TIMEOUT, "2.5")), search, Some(2.5));
        check(Some((GRPC_TIMEOUT, "1H")), search, Some(10.0));
        check(None, watch, None);
        check(Some((GRPC_TIMEOUT, "1H")), watch, Some(3_600.0));
        check(None, "/matyan.artifacts.v1.ArtifactService/Blobs", None);
        for unary in ["artifacts.v1.ArtifactService/Thumbnail", "ingest.v1.IngestService/Publish"] {
            check(None, &format!("/matyan.{unary}"), Some(10.0));
        }
        for wrong in ["soon", "-1", "inf"] {
            let headers = HeaderMap::from_iter([(REQUEST_TIMEOUT, http::HeaderValue::from_static(wrong))]);
            CallLimits::of_request(&headers, max).unwrap_err();
        }
        let headers = HeaderMap::from_iter([(GRPC_TIMEOUT, http::HeaderValue::from_static("1"))]);
        CallLimits::of_request(&headers, max).unwrap_err();
    }
}
