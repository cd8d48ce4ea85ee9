//! One REST call after validation: its parameters and body as the types that the handler takes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::{BoxError, Json};
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::{LengthLimitError, Limited};
use matyan_proto::limits::BATCH_BYTES;
use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::edit_condition::IF_MATCH;
use super::input_schema::InputSchema;
use super::valid_json::valid_json;
use crate::body_budget::BodyShare;
use crate::deadline::enforce_maximum;
use crate::error::{ApiError, ApiResult, INVALID_JSON, Problem};
use crate::services::Services;
use crate::slow_sender::too_slow;

/// Maximum size of a JSON body, unless its operation has a lower one. The largest legitimate body is an
/// app's state of 1 MiB; a batch of 10,000 series is smaller.
const BODY_BYTES: usize = BATCH_BYTES;

/// Maximum number of values in a JSON body; a batch of 100,000 series has fewer. In memory, a
/// value takes many times the size of its text.
const BODY_VALUES: usize = 1_000_000;

/// Maximum time between two pieces of a JSON body. The frontier limits the pauses of uploads, which may be
/// longer, because a client may produce a file while sending it.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) const TIMEZONE: &str = "x-timezone-offset";

/// The parameters that are headers.
pub(crate) const HEADERS: [&str; 2] = [TIMEZONE, IF_MATCH];

/// Family of the client. Both families share the routes, but get different responses in some
/// cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `/api/v1/rest`
    Matyan,
    /// `/api`, for the stock bundle of Aim 3.x.
    Aim,
}

/// The argument of a handler. `P` has a member for each parameter of the path and the query, and
/// may include `TimeZone`; `B` is the body.
pub(crate) struct Call<P = NoParameters, B = ()> {
    pub(crate) services: Arc<Services>,
    pub(crate) dialect: Dialect,
    pub(crate) head: Parts,
    pub(crate) parameters: P,
    pub(crate) body: B,
}

/// Parameters of an operation that takes none.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct NoParameters {}

/// Time zone of the caller, for dates in queries and answers.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct TimeZone {
    /// time zone in minutes, UTC minus local time: UTC+4 is -240
    #[serde(default, rename = "x-timezone-offset")]
    pub(crate) offset_min: i32,
}

/// The body that an operation takes: nothing, JSON, or a stream of bytes.
pub(crate) trait RequestBody: Sized + Send + 'static {
    fn schema() -> BodySchema;

    /// Only one of the two is not empty: normalized JSON, or the stream.
    fn decode(json: &str, stream: Body) -> serde_json::Result<Self>;
}

#[derive(Debug)]
pub(crate) enum BodySchema {
    None,
    Json(Arc<InputSchema>),
    Stream,
}

impl RequestBody for () {
    fn schema() -> BodySchema {
        BodySchema::None
    }

    fn decode(_: &str, _: Body) -> serde_json::Result<Self> {
        Ok(())
    }
}

impl<T: DeserializeOwned + JsonSchema + Send + 'static> RequestBody for Json<T> {
    fn schema() -> BodySchema {
        BodySchema::Json(Arc::new(InputSchema::new::<T>()))
    }

    fn decode(json: &str, _: Body) -> serde_json::Result<Self> {
        serde_json::from_str(json).map(Json)
    }
}

impl RequestBody for Body {
    fn schema() -> BodySchema {
        BodySchema::Stream
    }

    fn decode(_: &str, stream: Body) -> serde_json::Result<Self> {
        Ok(stream)
    }
}

/// Everything that an operation reads from requests.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) parameters: InputSchema,
    pub(crate) body: BodySchema,
    /// Maximum size of a JSON body.
    pub(crate) max_body_bytes: usize,
    /// Whether problems of the request are reported as a list in `detail`.
    pub(crate) lists_problems: bool,
}

/// A request with valid parameters and a valid body, both as normalized JSON.
pub(crate) struct ValidRequest {
    services: Arc<Services>,
    dialect: Dialect,
    head: Parts,
    parameters: String,
    json: String,
    stream: Body,
}

impl Inputs {
    pub(crate) fn new<P: JsonSchema, B: RequestBody>() -> Self {
        Inputs {
            parameters: InputSchema::new::<P>(),
            body: B::schema(),
            max_body_bytes: BODY_BYTES,
            lists_problems: false,
        }
    }

    /// Validates a request, whose body takes memory from the share.
    pub(crate) async fn read(
        &self,
        services: Arc<Services>,
        dialect: Dialect,
        mut head: Parts,
        body: Body,
        share: &mut BodyShare,
    ) -> ApiResult<ValidRequest> {
        let mut problems = Vec::new();
        let parameters = self.received_parameters(&mut head).await?.to_string();
        let parameters = self.parameters.normalize(&parameters, "", &mut problems);
        let mut json = String::new();
        let mut stream = Body::empty();
        match &self.body {
            BodySchema::None => {}
            BodySchema::Stream => stream = body,
            BodySchema::Json(schema) => {
                if let Some(bytes) = body.size_hint().exact() {
                    share.expect(bytes.try_into().unwrap_or(usize::MAX));
                }
                let bytes = enforce_maximum(read_body(body, self.max_body_bytes, share)).await??;
                let schema = Arc::clone(schema);
                let size = bytes.len();
                (json, problems) = services
                    .large_work()
                    .run(size, move || normalize_body(&schema, &bytes, problems))
                    .await?;
            }
        }
        if !problems.is_empty() {
            let to_error = if self.lists_problems { ApiError::validation_list } else { ApiError::validation };
            return Err(to_error(&problems));
        }
        Ok(ValidRequest { services, dialect, head, parameters, json, stream })
    }

    /// The parameters as an object of text.
    async fn received_parameters(&self, head: &mut Parts) -> ApiResult<Value> {
        let segments = RawPathParams::from_request_parts(head, &()).await;
        // Segments that are not UTF-8 cannot name an existing resource.
        let segments = segments.map_err(|_| ApiError::not_found())?;
        let mut query = parse_query(head.uri.query().unwrap_or_default());
        let mut received = Map::new();
        for (name, schema) in self.parameters.members() {
            let mut values = query.remove(name).unwrap_or_default();
            let segment = segments.iter().find(|(segment, _)| segment == name);
            let value = if let Some((_, value)) = segment {
                Some(value.into())
            } else if HEADERS.contains(&name.as_str()) {
                header_text(&head.headers, name).map(Value::from)
            } else if schema["type"] == "array" {
                Some(values.into())
            } else {
                // The last of repeated parameters wins.
                values.pop().map(Value::from)
            };
            received.extend(value.map(|value| (name.clone(), value)));
        }
        Ok(received.into())
    }
}

impl ValidRequest {
    pub(crate) async fn decode<P: DeserializeOwned, B: RequestBody>(self) -> ApiResult<Call<P, B>> {
        // The schemas were derived from the same types, so this cannot fail.
        let invalid = |error: serde_json::Error| {
            ApiError::validation(&[Problem { field: "request".to_owned(), message: error.to_string() }])
        };
        let ValidRequest { services, dialect, head, parameters, json, stream } = self;
        let parameters = serde_json::from_str(&parameters).map_err(invalid)?;
        let bytes = json.len();
        let body =
            services.large_work().run(bytes, move || B::decode(&json, stream)).await.map_err(invalid)?;
        Ok(Call { services, dialect, head, parameters, body })
    }
}

/// The JSON of a body in the form that serde reads, and all problems with the request.
fn normalize_body(
    schema: &InputSchema,
    bytes: &[u8],
    mut problems: Vec<Problem>,
) -> ApiResult<(String, Vec<Problem>)> {
    check_values(bytes)?;
    let json = match valid_json(bytes) {
        Some(received) => schema.normalize(received, "body", &mut problems),
        None => {
            problems.push(Problem { field: "body".into(), message: INVALID_JSON.into() });
            String::new()
        }
    };
    Ok((json, problems))
}

/// The value of a header. Values of a header that is sent repeatedly are one list.
fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    let values = headers.get_all(name).iter().map(|it| String::from_utf8_lossy(it.as_bytes()));
    values.map(Cow::into_owned).reduce(|all, next| format!("{all}, {next}"))
}

fn parse_query(query: &str) -> HashMap<String, Vec<String>> {
    let mut values: HashMap<String, Vec<String>> = HashMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        values.entry(decode_query(name)).or_default().push(decode_query(value));
    }
    values
}

/// Decodes `%XX` and `+`; invalid UTF-8 becomes U+FFFD.
fn decode_query(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// Rejects bodies with too many values before they are parsed: each value follows a comma or an
/// opening bracket. Those also occur inside strings, so a long string of nothing else is
/// rejected as well.
fn check_values(json: &[u8]) -> ApiResult<()> {
    let values = json.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    if values <= BODY_VALUES {
        return Ok(());
    }
    let message = format!("the body has more than {BODY_VALUES} values: split it into several requests");
    Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message))
}

/// Reads a body into memory, and takes its share of the memory budget.
pub(crate) async fn read_body(body: Body, max_bytes: usize, share: &mut BodyShare) -> ApiResult<Bytes> {
    // The announced length decides: there is no need to read any of the body.
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(body_too_large(max_bytes));
    }
    let mut body = Limited::new(body, max_bytes);
    let mut bytes = BytesMut::new();
    loop {
        let piece = timeout(BODY_IDLE_TIMEOUT, next_piece(&mut body, share)).await;
        match piece.map_err(|_| body_timeout())?? {
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                share.received(data.len());
                poll_fn(|context| share.poll_take(context)).await?;
                bytes.extend(data);
            }
            Some(Err(error)) if error.is::<LengthLimitError>() => {
                return Err(body_too_large(max_bytes));
            }
            Some(Err(_)) => return Err(ApiError::new(StatusCode::BAD_REQUEST, "the body ended early")),
            None => return Ok(bytes.freeze()),
        }
    }
}

type Piece = Option<Result<Frame<Bytes>, BoxError>>;

/// The next piece of a body, unless its sender is too slow for the memory it holds.
async fn next_piece(body: &mut Limited<Body>, share: &mut BodyShare) -> ApiResult<Piece> {
    poll_fn(|context| match Pin::new(&mut *body).poll_frame(context) {
        Poll::Ready(piece) => Poll::Ready(Ok(piece)),
        Poll::Pending => {
            ready!(share.poll_too_slow(context));
            Poll::Ready(Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, too_slow().to_string())))
        }
    })
    .await
}

fn body_too_large(max_bytes: usize) -> ApiError {
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {max_bytes} bytes"))
}

fn body_timeout() -> ApiError {
    let message = format!(
        "no more of the body arrived within {} s: send the request again",
        BODY_IDLE_TIMEOUT.as_secs()
    );
    ApiError::new(StatusCode::REQUEST_TIMEOUT, message)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::response::IntoResponse;
    use tokio::time::sleep;

    use super::*;
    use crate::body_budget::BodyBudget;

    /// A body of `pieces` pieces with a pause before each.
    fn body(pieces: usize, pause: Duration) -> Body {
        let piece = futures::stream::unfold(0, move |sent| async move {
            sleep(pause).await;
            (sent < pieces).then(|| (Ok::<_, Infallible>(Bytes::from_static(b"x")), sent + 1))
        });
        Body::from_stream(piece)
    }

    fn share() -> BodyShare {
        BodyShare::new(BodyBudget::new(0), None)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_be_slow_but_not_stalled() {
        let slow = read_body(body(9, BODY_IDLE_TIMEOUT / 2), BODY_BYTES, &mut share()).await.unwrap();
        assert_eq!(slow, "xxxxxxxxx");
        let stalled = read_body(body(9, BODY_IDLE_TIMEOUT * 2), BODY_BYTES, &mut share()).await.unwrap_err();
        assert_eq!(stalled.into_response().status(), StatusCode::REQUEST_TIMEOUT);
    }
}
