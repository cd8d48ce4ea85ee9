//! Calls of the gRPC API over gRPC-web: unary, and streams from the server.
//!
//! Both ports serve gRPC-web next to REST, over HTTP/1.1 and through any proxy, so no second client
//! is needed. A body is a sequence of frames: one byte of flags, the length as 32 bits in network
//! order, then a message, or the trailers of the call if the highest bit of the flags is set.

use std::{collections::HashMap, marker::PhantomData};

use bytes::{Buf, Bytes, BytesMut};
use matyan_proto::common::v1::{Code, LogPosition};
use object_store_http::{
    Method,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use percent_encoding::percent_decode_str;
use prost::Message;

use crate::{
    http::{BodyStream, HttpClient, HttpError, RequestToken, RestRequest, malformed},
    plain_text::plain_text,
};

const WEB: HeaderValue = HeaderValue::from_static("application/grpc-web+proto");

/// Metadata with the positions that an answer has to include.
const AFTER: HeaderName = HeaderName::from_static("matyan-after");

/// Flags and length.
const HEAD_BYTES: usize = 5;

const TRAILERS: u8 = 0x80;

/// Largest message that is accepted; servers send at most a few MiB.
const MESSAGE_BYTES: usize = 64 << 20;

/// gRPC's number for success.
const OK: i32 = 0;
const NOT_FOUND: i32 = 5;
const UNIMPLEMENTED: i32 = 12;

/// A position in the log that an answer has to include.
#[derive(Clone, Debug)]
pub struct RequiredPosition {
    pub position: LogPosition,
    /// The run whose records have to be included; without it, the records of all runs up to the position.
    pub run_id: Option<String>,
}

impl RequiredPosition {
    pub fn of_run(run_id: &str, position: LogPosition) -> Self {
        Self { position, run_id: Some(run_id.to_owned()) }
    }

    /// Value of the metadata. Older servers ignore the run.
    fn header(&self) -> HeaderValue {
        let LogPosition { log, partition, offset } = self.position;
        let position = format!("{log}/{partition}/{offset}");
        // Metadata is ASCII, and ids of runs need not be.
        let run = self.run_id.as_ref().filter(|run| run.is_ascii());
        let of_run = run.and_then(|run| format!("{position}/{run}").try_into().ok());
        of_run.unwrap_or_else(|| {
            HeaderValue::from_str(&position).expect("decimal numbers and slashes are valid in headers")
        })
    }
}

/// Calls a unary method, such as `/matyan.runs.v1.RunService/Get`. The answer includes everything
/// up to the positions of `after`.
pub async fn unary<A: Message + Default>(
    client: &HttpClient,
    method: &str,
    request: &impl Message,
    after: &[RequiredPosition],
) -> Result<A, HttpError> {
    let call = call(method, request, after);
    answer(client, method, call).await
}

/// Calls a unary method with a token other than the server's, or with none.
pub(crate) async fn unary_with<A: Message + Default>(
    client: &HttpClient,
    method: &str,
    request: &impl Message,
    token: RequestToken,
) -> Result<A, HttpError> {
    let call = call(method, request, &[]).with_token(token);
    answer(client, method, call).await
}

async fn answer<A: Message + Default>(
    client: &HttpClient,
    method: &str,
    call: RestRequest,
) -> Result<A, HttpError> {
    let limit = client.timeouts().request;
    let call = async {
        let mut stream = open(client, method, call).await?;
        let answer = stream.message().await?;
        let answer = answer.ok_or_else(|| malformed(stream.body.url(), "a call without an answer"))?;
        // Reads the status, which may still be an error.
        while stream.message().await?.is_some() {}
        Ok(answer)
    };
    tokio::time::timeout(limit, call)
        .await
        .map_err(|_| HttpError::TimedOut { url: format!("{}{method}", client.base()), after: limit })?
}

/// Calls a method that answers with a stream.
pub async fn server_stream<A: Message + Default>(
    client: &HttpClient,
    method: &str,
    request: &impl Message,
    after: &[RequiredPosition],
) -> Result<MessageStream<A>, HttpError> {
    open(client, method, call(method, request, after)).await
}

fn call(method: &str, request: &impl Message, after: &[RequiredPosition]) -> RestRequest {
    let call = RestRequest::new(Method::POST, method).body(WEB, framed(request));
    after.iter().fold(call, |call, required| call.header(AFTER, required.header()))
}

async fn open<A: Message + Default>(
    client: &HttpClient,
    method: &str,
    call: RestRequest,
) -> Result<MessageStream<A>, HttpError> {
    let body = client.stream(&call).await.map_err(|error| without_grpc(method, error))?;
    let content_type = body.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if !content_type.starts_with(b"application/grpc-web") {
        return Err(HttpError::Unsupported { call: method.to_owned() });
    }
    // A call that fails immediately has its status in the headers, and no body.
    if let Some(status) = body.headers().get("grpc-status") {
        let text = |name: &str| body.headers().get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
        let status = status.to_str().unwrap_or_default();
        outcome(method, status, text("grpc-message"), text("grpc-status-details-bin"))?;
    }
    Ok(MessageStream {
        body,
        received: BytesMut::new(),
        is_complete: false,
        method: method.to_owned(),
        message: PhantomData,
    })
}

/// A server without gRPC, such as Matyan 0.3, knows no such path.
fn without_grpc(method: &str, error: HttpError) -> HttpError {
    match error {
        HttpError::NotFound { .. } | HttpError::Refused { status: 405 | 415, .. } => {
            HttpError::Unsupported { call: method.to_owned() }
        }
        other => other,
    }
}

fn framed(message: &impl Message) -> Bytes {
    let payload = message.encode_to_vec();
    let length = u32::try_from(payload.len()).expect("requests are smaller than 4 GiB");
    let mut frame = Vec::with_capacity(HEAD_BYTES + payload.len());
    frame.push(0);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&payload);
    frame.into()
}

/// The messages of an answer. A stream that breaks off is an error, never an end.
#[derive(Debug)]
pub struct MessageStream<A> {
    body: BodyStream,
    received: BytesMut,
    is_complete: bool,
    method: String,
    message: PhantomData<fn() -> A>,
}

impl<A: Message + Default> MessageStream<A> {
    /// Returns the next message, or `None` after the last one.
    pub async fn message(&mut self) -> Result<Option<A>, HttpError> {
        if self.is_complete {
            return Ok(None);
        }
        let Some((flags, payload)) = self.frame().await? else {
            return Err(malformed(self.body.url(), "a call that ends without a status"));
        };
        if flags & TRAILERS == 0 {
            let message = A::decode(payload);
            return message.map(Some).map_err(|error| malformed(self.body.url(), error));
        }
        self.is_complete = true;
        let trailers = String::from_utf8_lossy(&payload);
        let [status, message, details] = trailer_values(&trailers);
        outcome(&self.method, status, message, details)?;
        Ok(None)
    }

    async fn frame(&mut self) -> Result<Option<(u8, Bytes)>, HttpError> {
        loop {
            if let Some(frame) = self.received_frame()? {
                return Ok(Some(frame));
            }
            match self.body.chunk().await? {
                Some(chunk) => self.received.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }

    fn received_frame(&mut self) -> Result<Option<(u8, Bytes)>, HttpError> {
        let Some((&[flags, ref length @ ..], rest)) = self.received.split_first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MESSAGE_BYTES {
            return Err(malformed(self.body.url(), format!("a message of {length} bytes")));
        }
        if rest.len() < length {
            self.received.reserve(HEAD_BYTES + length);
            return Ok(None);
        }
        self.received.advance(HEAD_BYTES);
        Ok(Some((flags, self.received.split_to(length).freeze())))
    }
}

/// Values of the three trailers that describe the outcome of a call.
fn trailer_values(trailers: &str) -> [&str; 3] {
    let value = |wanted: &str| {
        let mut lines = trailers.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted)).map_or("", |(_, value)| value.trim())
    };
    [value("grpc-status"), value("grpc-message"), value("grpc-status-details-bin")]
}

/// Converts the status of a call. The code of the product, if present, determines the HTTP status
/// of the error, so that callers handle REST and gRPC errors alike.
fn outcome(method: &str, status: &str, message: &str, details: &str) -> Result<(), HttpError> {
    let status: i32 = status.parse().unwrap_or(2);
    let message = plain_text(&percent_decode_str(message).decode_utf8_lossy());
    match status {
        OK => return Ok(()),
        NOT_FOUND if is_about_project(details) => return Err(HttpError::NoProject { message }),
        NOT_FOUND => return Err(HttpError::NotFound { message }),
        UNIMPLEMENTED => return Err(HttpError::Unsupported { call: method.to_owned() }),
        _ => {}
    }
    let reason = error_info(details).map(|info| info.reason).unwrap_or_default();
    let code = Code::from_str_name(&format!("CODE_{reason}"));
    Err(HttpError::Refused {
        status: code.map_or_else(|| http_status(status), Code::http),
        code: reason,
        message,
    })
}

/// HTTP status of a gRPC status that comes without a code: from a proxy, for example.
fn http_status(status: i32) -> u16 {
    match status {
        3 | 9 | 11 => 400,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        14 => 503,
        4 => 504,
        16 => 401,
        _ => 500,
    }
}

fn is_about_project(details: &str) -> bool {
    error_info(details).is_some_and(|info| info.metadata.get("resource").is_some_and(|it| it == "project"))
}

/// The `google.rpc.ErrorInfo` of a status.
fn error_info(details: &str) -> Option<ErrorInfo> {
    use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
    let details = BASE64_STANDARD_NO_PAD.decode(details.trim_end_matches('=')).ok()?;
    let details = StatusDetails::decode(details.as_slice()).ok()?.details;
    let info = details.iter().find(|any| any.type_url.ends_with("/google.rpc.ErrorInfo"))?;
    ErrorInfo::decode(info.value.as_slice()).ok()
}

/// `google.rpc.Status`, the part that is read.
#[derive(Clone, PartialEq, Message)]
struct StatusDetails {
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// `google.rpc.ErrorInfo`, the part that is read.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(map = "string, string", tag = "3")]
    metadata: HashMap<String, String>,
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};

    use super::*;

    #[test]
    fn a_position_names_the_run_if_metadata_can() {
        let header = |run: &str| {
            let required = RequiredPosition::of_run(run, LogPosition { log: 1, partition: 2, offset: 3 });
            required.header().to_str().map(str::to_owned).ok()
        };
        assert_eq!(header("run/1").as_deref(), Some("1/2/3/run/1"));
        for run in ["\u{e9}", "line\nbreak"] {
            assert_eq!(header(run).as_deref(), Some("1/2/3"));
        }
    }

    fn details(reason: &str, metadata: &[(&str, &str)]) -> String {
        let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let value = ErrorInfo { reason: reason.to_owned(), metadata }.encode_to_vec();
        let any = prost_types::Any { type_url: "type.googleapis.com/google.rpc.ErrorInfo".into(), value };
        BASE64_STANDARD_NO_PAD.encode(StatusDetails { details: vec![any] }.encode_to_vec())
    }

    /// A project without rights looks like one that does not exist, so its runs may well exist.
    #[test]
    fn a_missing_project_is_not_a_missing_run() {
        let outcome = |resource| outcome("/s/M", "5", "", &details("NOT_FOUND", &[("resource", resource)]));
        assert!(matches!(outcome("project"), Err(HttpError::NoProject { .. })));
        assert!(matches!(outcome("run"), Err(HttpError::NotFound { .. })));
    }

    #[test]
    fn trailers_become_errors_with_the_status_of_their_code() {
        let details = details("NOT_YET_APPLIED", &[]);
        let trailers =
            format!("grpc-status:14\r\ngrpc-message: try%20again\r\nGrpc-Status-Details-Bin: {details}\r\n");
        let [status, message, details] = trailer_values(&trailers);
        let Err(HttpError::Refused { status, code, message }) = outcome("/s/M", status, message, details)
        else {
            panic!("not refused")
        };
        assert_eq!((status, code.as_str(), message.as_str()), (503, "NOT_YET_APPLIED", "try again"));
    }

    #[test]
    fn rule_75_the_message_of_a_status_has_no_control_characters() {
        let Err(HttpError::Refused { message, .. }) = outcome("/s/M", "3", "no%1B%5B2J", "") else {
            panic!("not refused")
        };
        assert_eq!(message, "no\\u{1b}[2J");
    }

    #[test]
    fn a_status_without_details_has_an_http_status() {
        let check = |grpc: &str, expected: u16| match outcome("/s/M", grpc, "", "") {
            Err(HttpError::Refused { status, .. }) => assert_eq!(status, expected, "{grpc}"),
            other => panic!("{grpc}: {other:?}"),
        };
        check("3", 400);
        check("14", 503);
        check("2", 500);
        check("nonsense", 500);
        assert!(outcome("/s/M", "0", "", "").is_ok());
        assert!(matches!(outcome("/s/M", "5", "", ""), Err(HttpError::NotFound { .. })));
        assert!(matches!(outcome("/s/M", "12", "", ""), Err(HttpError::Unsupported { .. })));
    }
}
