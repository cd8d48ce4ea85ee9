//! One REST call after validation: path, parameters, body, and the caller's time zone, in
//! normalized form.
//! A handler can only read what its operation declares; reading anything else is a bug.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use matyan_proto::limits::BATCH_BYTES;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::request_schema::{parse_bool, parse_int};
use super::table::{Input, Operation, ParameterKind};
use crate::error::{ApiError, INVALID_JSON, Problem};

/// Maximum size of a JSON body. The largest legitimate body is an app's state of 1 MiB; a batch
/// of 10,000 series is smaller.
const BODY_BYTES: usize = BATCH_BYTES;

/// Maximum number of values in a JSON body; a batch of 100,000 series has fewer. In memory, a
/// value takes many times the size of its text.
const BODY_VALUES: usize = 1_000_000;

/// Maximum time between two pieces of a JSON body. Uploads have no such limit, because a client
/// may produce a file while sending it.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) const TIMEZONE: &str = "x-timezone-offset";

/// Family of the client. Both families share the routes, but get different responses in some
/// cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `/api/v1/rest`
    Matyan,
    /// `/api`, for the stock bundle of Aim 3.x.
    Aim,
}

pub(crate) struct Call {
    pub(crate) dialect: Dialect,
    pub(crate) parts: Parts,
    /// The JSON body in normalized form; null if the operation takes none.
    pub(crate) json: Value,
    /// The JSON body as received.
    body: Bytes,
    /// The body as a stream, if the operation takes it that way. The lock only makes the
    /// type `Sync`; it is never contended.
    raw: Mutex<Body>,
    path: HashMap<String, String>,
    query: HashMap<&'static str, ParameterValue>,
    timezone: i32,
}

enum ParameterValue {
    Text(String),
    Int(i64),
    Bool(bool),
    Texts(Vec<String>),
}

impl Call {
    /// Validates the request against the declaration of `operation`.
    pub(crate) async fn read(
        operation: &Operation,
        dialect: Dialect,
        mut parts: Parts,
        body: Body,
    ) -> Result<Self, ApiError> {
        let path = path(&mut parts).await?;
        let mut problems = Vec::new();
        let query = read_query(operation, parts.uri.query().unwrap_or_default(), &mut problems);
        let timezone = if operation.is_zoned { read_timezone(&parts, &mut problems) } else { 0 };
        let (mut json, mut bytes, mut raw) = (Value::Null, Bytes::new(), Body::empty());
        match &operation.input {
            Input::None => {}
            Input::Raw => raw = body,
            Input::Json(schema) => {
                bytes = read_body(body).await?;
                check_values(&bytes)?;
                match serde_json::from_slice(&bytes) {
                    Ok(parsed) => {
                        json = parsed;
                        schema.check(&mut json, "body", &mut problems);
                    }
                    Err(_) => problems.push(Problem { field: "body".into(), message: INVALID_JSON.into() }),
                }
            }
        }
        if !problems.is_empty() {
            let to_error =
                if operation.lists_problems { ApiError::validation_list } else { ApiError::validation };
            return Err(to_error(&problems));
        }
        Ok(Call { dialect, parts, json, body: bytes, raw: Mutex::new(raw), path, query, timezone })
    }

    /// A decoded segment of the path.
    pub(crate) fn path(&self, name: &str) -> String {
        self.path.get(name).cloned().expect("handlers only read segments of their own path")
    }

    /// A text parameter; `None` if it is absent and has no default.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.query.get(name) {
            Some(ParameterValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        match self.query.get(name) {
            Some(ParameterValue::Int(int)) => Some(*int),
            _ => None,
        }
    }

    pub(crate) fn bool(&self, name: &str) -> bool {
        matches!(self.query.get(name), Some(ParameterValue::Bool(true)))
    }

    pub(crate) fn texts(&self, name: &str) -> &[String] {
        match self.query.get(name) {
            Some(ParameterValue::Texts(texts)) => texts,
            _ => &[],
        }
    }

    /// Time zone in minutes: UTC minus local time.
    pub(crate) fn timezone(&self) -> i32 {
        self.timezone
    }

    /// Takes the body as a stream; a second call returns an empty body.
    pub(crate) fn take_raw(&self) -> Body {
        let mut raw = self.raw.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut raw, Body::empty())
    }

    /// The JSON text of a member of the body, as received.
    pub(crate) fn raw_member(&self, name: &str) -> Option<String> {
        let members: HashMap<String, &RawValue> = serde_json::from_slice(&self.body).ok()?;
        members.get(name).map(|raw| raw.get().to_owned())
    }

    /// A text member of the JSON body.
    pub(crate) fn member(&self, name: &str) -> Option<&str> {
        self.json.get(name)?.as_str()
    }
}

async fn path(parts: &mut Parts) -> Result<HashMap<String, String>, ApiError> {
    let params = RawPathParams::from_request_parts(parts, &()).await;
    // Segments that are not UTF-8 cannot name an existing resource.
    let params = params.map_err(|_| ApiError::not_found())?;
    Ok(params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn read_query(
    operation: &Operation,
    query: &str,
    problems: &mut Vec<Problem>,
) -> HashMap<&'static str, ParameterValue> {
    let mut given: HashMap<String, Vec<String>> = HashMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        given.entry(decode(name)).or_default().push(decode(value));
    }
    let mut read = HashMap::new();
    for parameter in &operation.query {
        let values = given.remove(parameter.name).unwrap_or_default();
        if let ParameterKind::Texts = parameter.kind {
            read.insert(parameter.name, ParameterValue::Texts(values));
            continue;
        }
        // The last of repeated parameters wins.
        let Some(value) = values.into_iter().next_back().or_else(|| parameter.default.map(str::to_owned))
        else {
            if parameter.required {
                problems.push(Problem { field: parameter.name.into(), message: "Field required".into() });
            }
            continue;
        };
        match parse(parameter.kind, value) {
            Ok(value) => {
                read.insert(parameter.name, value);
            }
            Err(message) => problems.push(Problem { field: parameter.name.into(), message: message.into() }),
        }
    }
    read
}

fn parse(kind: ParameterKind, value: String) -> Result<ParameterValue, &'static str> {
    match kind {
        ParameterKind::Text => Ok(ParameterValue::Text(value)),
        ParameterKind::Texts => Ok(ParameterValue::Texts(vec![value])),
        ParameterKind::Int => {
            parse_int(&value).map(ParameterValue::Int).ok_or("Input should be a valid integer")
        }
        ParameterKind::Bool => {
            parse_bool(&value).map(ParameterValue::Bool).ok_or("Input should be a valid boolean")
        }
    }
}

/// Decodes `%XX` and `+`; invalid UTF-8 becomes U+FFFD.
fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

fn read_timezone(parts: &Parts, problems: &mut Vec<Problem>) -> i32 {
    let Some(value) = parts.headers.get(TIMEZONE) else { return 0 };
    let minutes = value.to_str().ok().and_then(parse_int).and_then(|minutes| i32::try_from(minutes).ok());
    minutes.unwrap_or_else(|| {
        problems.push(Problem { field: TIMEZONE.into(), message: "Input should be a valid integer".into() });
        0
    })
}

/// Rejects bodies with too many values before they are parsed: each value follows a comma or an
/// opening bracket. Those also occur inside strings, so a long string of nothing else is
/// rejected as well.
fn check_values(json: &[u8]) -> Result<(), ApiError> {
    let values = json.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    if values <= BODY_VALUES {
        return Ok(());
    }
    let message = format!("the body has more than {BODY_VALUES} values: split it into several requests");
    Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message))
}

async fn read_body(body: Body) -> Result<Bytes, ApiError> {
    let (mut body, mut bytes) = (Limited::new(body, BODY_BYTES), BytesMut::new());
    loop {
        let piece = timeout(BODY_IDLE_TIMEOUT, body.frame()).await.map_err(|_| body_timeout())?;
        match piece {
            Some(Ok(frame)) => bytes.extend(frame.into_data().ok()),
            Some(Err(error)) if error.is::<LengthLimitError>() => {
                let message = format!("the body is larger than {BODY_BYTES} bytes");
                return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            Some(Err(_)) => return Err(ApiError::new(StatusCode::BAD_REQUEST, "the body ended early")),
            None => return Ok(bytes.freeze()),
        }
    }
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

    /// A body of `pieces` pieces with a pause before each.
    fn body(pieces: usize, pause: Duration) -> Body {
        let piece = futures::stream::unfold(0, move |sent| async move {
            sleep(pause).await;
            (sent < pieces).then(|| (Ok::<_, Infallible>(Bytes::from_static(b"x")), sent + 1))
        });
        Body::from_stream(piece)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_be_slow_but_not_stalled() {
        let slow = read_body(body(9, BODY_IDLE_TIMEOUT / 2)).await.unwrap();
        assert_eq!(slow, "xxxxxxxxx");
        let stalled = read_body(body(9, BODY_IDLE_TIMEOUT * 2)).await.unwrap_err();
        assert_eq!(stalled.into_response().status(), StatusCode::REQUEST_TIMEOUT);
    }
}
