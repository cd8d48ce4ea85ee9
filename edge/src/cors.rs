//! Cross-origin rules as 0.3 answers them, word for word: browsers of its users are set up for that.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

const METHODS: HeaderValue = HeaderValue::from_static("DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT");
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const TRUE: HeaderValue = HeaderValue::from_static("true");
const ORIGIN: HeaderValue = HeaderValue::from_static("Origin");

/// What gRPC-web clients and our own pages read of an answer.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "grpc-status, grpc-message, grpc-status-details-bin, x-request-id, x-query-warnings",
);

/// The answer to a preflight; `None` if the request is none.
pub(crate) fn preflight(allowed: &[String], method: &Method, headers: &HeaderMap) -> Option<Response> {
    let origin = headers.get(header::ORIGIN)?;
    if method != Method::OPTIONS || !headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let is_allowed = is_allowed(allowed, origin);
    let (status, text) =
        if is_allowed { (StatusCode::OK, "OK") } else { (StatusCode::BAD_REQUEST, "Disallowed CORS origin") };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let mut set = |name: HeaderName, value: HeaderValue| response.headers_mut().insert(name, value);
    set(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    set(header::VARY, ORIGIN);
    set(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    set(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    set(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
    if is_allowed {
        set(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if let Some(requested) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            set(header::ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
        }
    }
    Some(response)
}

/// Lets the page that asked read the answer, if it may. `origin` is the one of the request.
pub(crate) fn allow(allowed: &[String], origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    headers.append(header::VARY, ORIGIN);
    if let Some(origin) = origin.filter(|origin| is_allowed(allowed, origin)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

fn is_allowed(allowed: &[String], origin: &HeaderValue) -> bool {
    allowed.iter().any(|it| it.as_bytes() == origin.as_bytes())
}
