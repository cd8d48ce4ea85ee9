//! Errors returned to HTTP callers: a single envelope, with a status derived from the product's
//! error code.
//! The edge invents no statuses: the code of a service is in the details of its gRPC status,
//! and `Code::http` maps it.

use std::collections::HashMap;
use std::fmt;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use matyan_proto::ERROR_DOMAIN;
use matyan_proto::common::v1::Code as ProductCode;
use matyan_wire::headers::NEXT;
use matyan_wire::project_quota::QUOTA;
use schemars::JsonSchema;
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, ErrorInfo, StatusExt};

/// Message for a body that is not JSON.
pub(crate) const INVALID_JSON: &str = "JSON decode error";

/// Name of query errors in the UIs.
const SYNTAX_ERROR: &str = "SyntaxError";

/// Time in seconds after which a client that a quota has refused should try again. A frontier asks as often whether
/// the project accepts data.
const QUOTA_RETRY_S: u64 = 30;

/// The outcome of a call.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

/// The status of a call that the edge itself refuses, in the form in which services send theirs.
pub(crate) fn refusal_status(
    code: ProductCode,
    message: impl Into<String>,
    metadata: &[(&str, &str)],
) -> Status {
    let reason = code.as_str_name().trim_start_matches("CODE_");
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, metadata);
    Status::with_error_details(Code::from_i32(code.grpc()), message, details)
}

/// An unsuccessful response.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
    extra: Option<Box<ErrorExtras>>,
}

/// Parts that only some errors have.
#[derive(Clone, Debug, Default, PartialEq)]
struct ErrorExtras {
    /// Value of `detail`, instead of the message.
    detail: Option<ErrorDetail>,
    /// Value of the top-level `message`, instead of the message.
    title: Option<&'static str>,
    /// Methods that the path supports.
    allow: Option<String>,
    /// Time in seconds after which to try again.
    retry_after_s: Option<u64>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        ApiError { status, message: message.into(), extra: None }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Tells clients after how many seconds to try again.
    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        let extra = self.extra.map(|extra| *extra).unwrap_or_default();
        Self { extra: Some(Box::new(ErrorExtras { retry_after_s: Some(seconds), ..extra })), ..self }
    }

    /// Time in seconds after which clients should try again.
    #[cfg(feature = "mlflow")]
    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        self.extra.as_ref()?.retry_after_s
    }

    fn with_extras(self, extra: ErrorExtras) -> Self {
        ApiError { extra: Some(Box::new(extra)), ..self }
    }

    /// No such route.
    pub(crate) fn no_route() -> Self {
        Self::not_found()
    }

    /// The resource does not exist. The text is part of the API contract.
    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not Found")
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// `allow` lists the methods that the path supports.
    pub(crate) fn method_not_allowed(allow: String) -> Self {
        let extra = ErrorExtras { allow: Some(allow), ..Default::default() };
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed").with_extras(extra)
    }

    /// One message per problem, each naming its field.
    pub(crate) fn validation(problems: &[Problem]) -> Self {
        let messages: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, messages.join("; "))
    }

    /// Like `validation`, with `detail` as a list, for compatibility with the old gateway.
    pub(crate) fn validation_list(problems: &[Problem]) -> Self {
        let detail = ErrorDetail::Problems(problems.iter().map(ProblemDetail::from).collect());
        Self::validation(problems).with_extras(ErrorExtras { detail: Some(detail), ..Default::default() })
    }
}

/// The body of an unsuccessful response.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(crate) struct ErrorBody<'a> {
    error: ErrorSummary<'a>,
    detail: ErrorDetail,
    message: &'a str,
}

#[derive(Serialize, JsonSchema)]
struct ErrorSummary<'a> {
    code: &'static str,
    message: &'a str,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
enum ErrorDetail {
    /// The message again.
    Message(String),
    /// The problems of a request, in the form in which the old gateway reported them.
    Problems(Vec<ProblemDetail>),
    QuerySyntax(SyntaxErrorDetail),
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
struct ProblemDetail {
    r#type: &'static str,
    /// The path of the field.
    loc: Vec<String>,
    msg: String,
}

impl From<&Problem> for ProblemDetail {
    fn from(problem: &Problem) -> Self {
        let loc = problem.field.split('.').map(str::to_owned).collect();
        ProblemDetail { r#type: "value_error", loc, msg: problem.message.clone() }
    }
}

/// The position of an error in a query, so that an editor can underline it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
struct SyntaxErrorDetail {
    name: &'static str,
    statement: Option<String>,
    line: Option<u64>,
    offset: Option<u64>,
    end_offset: Option<u64>,
    column: Option<u64>,
    end_column: Option<u64>,
    expected: Option<String>,
}

/// A problem with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) field: String,
    pub(crate) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.as_str() {
            // About the body as a whole, so it has no field; the text is part of the
            // API contract.
            INVALID_JSON => formatter.write_str(INVALID_JSON),
            message => write!(formatter, "{}: {message}", self.field),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = match self.status.as_u16() {
            400 => "bad_request",
            401 => "unauthorized",
            403 => "forbidden",
            404 => "not_found",
            409 => "conflict",
            412 => "precondition_failed",
            421 => "misdirected_request",
            422 => "validation_error",
            500 => "internal_error",
            _ => "error",
        };
        let extra = self.extra.map(|extra| *extra).unwrap_or_default();
        let detail = extra.detail.unwrap_or_else(|| ErrorDetail::Message(self.message.clone()));
        let body = ErrorBody {
            error: ErrorSummary { code, message: &self.message },
            detail,
            message: extra.title.unwrap_or(&self.message),
        };
        let body = serde_json::to_string(&body).expect("map keys are text");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(challenge) = challenge(self.status) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(allow) = extra.allow {
            let allow = HeaderValue::from_str(&allow).expect("methods are tokens");
            response.headers_mut().insert(header::ALLOW, allow);
        }
        if let Some(seconds) = extra.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// The product's error code of a failed call, if one of the product's services produced the
/// status.
pub(crate) fn product_code(status: &Status) -> Option<ProductCode> {
    parse_reason(&error_info(status)?)
}

/// Whether a call was refused because its project has used up a quota.
pub(crate) fn is_over_quota(status: &Status) -> bool {
    error_info(status).is_some_and(|info| info.metadata.contains_key(QUOTA))
}

/// The field that a failed call names as the cause.
pub(crate) fn blamed_field(status: &Status) -> Option<String> {
    error_info(status)?.metadata.get("field").cloned()
}

/// The principal that a failed call has recognized and refused.
pub(crate) fn refused_principal(status: &Status) -> Option<String> {
    let info = error_info(status)?;
    let is_refused = parse_reason(&info) == Some(ProductCode::PermissionDenied);
    info.metadata.get("principal").filter(|_| is_refused).cloned()
}

/// The page for which a browser began a sign-in that has failed.
pub(crate) fn next_page(status: &Status) -> Option<String> {
    error_info(status)?.metadata.get(NEXT).cloned()
}

fn error_info(status: &Status) -> Option<ErrorInfo> {
    // Reasons of other domains have other meanings.
    status.get_details_error_info().filter(|info| info.domain == ERROR_DOMAIN)
}

fn parse_reason(info: &ErrorInfo) -> Option<ProductCode> {
    ProductCode::from_str_name(&format!("CODE_{}", info.reason))
}

impl From<Status> for ApiError {
    fn from(status: Status) -> Self {
        let info = error_info(&status);
        let code = info.as_ref().and_then(parse_reason);
        let get = |key: &str| info.as_ref().and_then(|info| info.metadata.get(key)).map(String::as_str);
        // In HTTP only a body can be too large (413). A field over its limit is a
        // validation error by the API contract.
        let code = match code {
            Some(ProductCode::TooLarge) if get("field").is_some_and(|field| field != "batch") => {
                Some(ProductCode::InvalidField)
            }
            code => code,
        };
        let http = code.map_or_else(|| http_status(status.code()), ProductCode::http);
        let http = StatusCode::from_u16(http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match http {
            // A project may be named by the URL that a client is configured with, so a missing one must
            // not look like a missing run.
            StatusCode::NOT_FOUND if get("resource") == Some("project") => Self::new(http, status.message()),
            // The API contract has a fixed text for every other 404.
            StatusCode::NOT_FOUND => Self::not_found(),
            // Internal details are logged, but not shown to callers.
            StatusCode::INTERNAL_SERVER_ERROR => {
                tracing::error!(code = ?status.code(), message = status.message(), "internal error in service call");
                Self::new(http, "Internal server error")
            }
            StatusCode::SERVICE_UNAVAILABLE if get(QUOTA).is_some() => {
                let extra = ErrorExtras { retry_after_s: Some(QUOTA_RETRY_S), ..Default::default() };
                Self::new(http, status.message()).with_extras(extra)
            }
            StatusCode::CONFLICT => match (get("resource"), get("name")) {
                (Some(resource), Some(name)) => {
                    Self::new(http, format!("{} with name '{name}' already exists", capitalized(resource)))
                }
                _ => Self::new(http, status.message()),
            },
            _ if code == Some(ProductCode::InvalidQuery) => syntax_error(http, status.message(), get),
            // Generated servers reject calls of unknown methods with an empty
            // message.
            _ if status.message().is_empty() => Self::new(http, http.canonical_reason().unwrap_or_default()),
            _ => Self::new(http, status.message()),
        }
    }
}

impl ApiError {
    /// The error of a call with this query. The status contains only the start of a
    /// long statement; the full statement is restored here, because the reported offsets
    /// refer to all of it.
    pub(crate) fn for_query(status: Status, query: &str) -> Self {
        let mut error = Self::from(status);
        let detail = error.extra.as_mut().and_then(|extra| extra.detail.as_mut());
        if let Some(ErrorDetail::QuerySyntax(SyntaxErrorDetail { statement: Some(statement), .. })) = detail
            && let Some(beginning) = statement.strip_suffix('…')
            && let Some(at) = query.find(beginning)
        {
            *statement = query[at..].trim_end().to_owned();
        }
        error
    }
}

/// The header that tells clients how to sign in. Browsers show no dialog of their own for it.
pub(crate) fn challenge(status: StatusCode) -> Option<HeaderValue> {
    (status == StatusCode::UNAUTHORIZED).then(|| HeaderValue::from_static("Bearer"))
}

fn syntax_error<'a>(http: StatusCode, message: &str, get: impl Fn(&str) -> Option<&'a str>) -> ApiError {
    let number = |key: &str| get(key).and_then(|text| text.parse::<u64>().ok());
    let detail = ErrorDetail::QuerySyntax(SyntaxErrorDetail {
        name: SYNTAX_ERROR,
        statement: get("statement").map(str::to_owned),
        line: number("line"),
        offset: number("offset"),
        end_offset: number("end_offset"),
        column: number("column"),
        end_column: number("end_column"),
        expected: get("expected").map(str::to_owned),
    });
    let extra = ErrorExtras { detail: Some(detail), title: Some(SYNTAX_ERROR), ..Default::default() };
    ApiError::new(http, format!("Invalid query syntax: {message}")).with_extras(extra)
}

fn capitalized(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().into_iter().flat_map(char::to_uppercase).chain(characters).collect()
}

/// HTTP status for a gRPC status that does not come from the product's services, but from a
/// transport or a generated server.
fn http_status(code: Code) -> u16 {
    match code {
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => 500,
        Code::InvalidArgument | Code::OutOfRange | Code::Aborted => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::FailedPrecondition => 409,
        Code::ResourceExhausted => 413,
        Code::Unimplemented => 501,
        Code::Unavailable | Code::Cancelled => 503,
        Code::DeadlineExceeded => 504,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::refusal_status as status;
    use super::*;

    async fn answer(error: ApiError) -> (u16, Value) {
        let response = error.into_response();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn the_status_comes_from_the_products_error_code() {
        let check = async |code, message: &str, metadata: &[(&str, &str)], http: u16, expected: &str| {
            let (status, body) = answer(self::status(code, message, metadata).into()).await;
            assert_eq!((status, &body["error"]["message"]), (http, &Value::from(expected)));
            assert_eq!(body["detail"], expected);
            assert_eq!(body["message"], expected);
        };
        check(ProductCode::InvalidField, "`name` is empty", &[("field", "name")], 422, "`name` is empty")
            .await;
        let long = [("field", "name"), ("limit", "9")];
        check(ProductCode::TooLarge, "`name` has 10 bytes", &long, 422, "`name` has 10 bytes").await;
        check(ProductCode::TooLarge, "it is too large", &[("limit", "9")], 413, "it is too large").await;
        check(ProductCode::InvalidRequest, "Invalid range format", &[], 400, "Invalid range format").await;
        check(ProductCode::NotFound, "no run `x`", &[("resource", "run")], 404, "Not Found").await;
        let project = [("resource", "project"), ("id", "x")];
        check(ProductCode::NotFound, "no project `x`", &project, 404, "no project `x`").await;
        let taken = [("resource", "experiment"), ("name", "x")];
        check(ProductCode::AlreadyExists, "taken", &taken, 409, "Experiment with name 'x' already exists")
            .await;
        check(ProductCode::Unavailable, "try again", &[], 503, "try again").await;
        check(ProductCode::Internal, "secret", &[], 500, "Internal server error").await;
    }

    #[tokio::test]
    async fn a_query_error_has_its_position() {
        let metadata = [
            ("statement", "run."),
            ("line", "1"),
            ("offset", "6"),
            ("end_offset", "7"),
            ("column", "5"),
            ("end_column", "6"),
            ("expected", "a name"),
        ];
        let (status, body) =
            answer(self::status(ProductCode::InvalidQuery, "a name is missing", &metadata).into()).await;
        assert_eq!(status, 400);
        assert_eq!(
            body,
            json!({
                "error": {"code": "bad_request", "message": "Invalid query syntax: a name is missing"},
                "detail": {
                    "name": "SyntaxError", "statement": "run.", "line": 1, "offset": 6, "end_offset": 7,
                    "column": 5, "end_column": 6, "expected": "a name",
                },
                "message": "SyntaxError",
            })
        );
    }

    #[tokio::test]
    async fn a_long_query_is_returned_in_full() {
        let query = format!("SELECT x IF run.a == '{}' and run. \n", "ä".repeat(2_000));
        let expected = format!("{}…", &query[12..1_000]);
        let metadata = [("statement", expected.as_str())];
        let error =
            ApiError::for_query(status(ProductCode::InvalidQuery, "a name is missing", &metadata), &query);
        assert_eq!(answer(error).await.1["detail"]["statement"], query[12..].trim_end());
        let short = [("statement", "run.")];
        let error = ApiError::for_query(status(ProductCode::InvalidQuery, "", &short), &query);
        assert_eq!(answer(error).await.1["detail"]["statement"], "run.");
    }

    #[tokio::test]
    async fn rule_132_a_call_that_a_quota_refuses_says_when_to_try_again() {
        let refused = status(ProductCode::Unavailable, "used up", &[(QUOTA, "runs"), ("limit", "2")]);
        assert!(is_over_quota(&refused));
        let response = ApiError::from(refused).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()["retry-after"], "30");
        let other = status(ProductCode::Unavailable, "gone", &[]);
        assert!(!is_over_quota(&other));
        assert!(!ApiError::from(other).into_response().headers().contains_key("retry-after"));
    }

    #[tokio::test]
    async fn a_status_without_details_is_mapped_by_its_number() {
        assert_eq!(answer(Status::unavailable("gone").into()).await.0, 503);
        let (status, body) = answer(Status::unimplemented("").into()).await;
        assert_eq!((status, &body["message"]), (501, &Value::from("Not Implemented")));
        assert_eq!(answer(Status::unknown("?").into()).await.0, 500);
    }
}
