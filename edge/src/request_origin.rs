//! The address under which a client has reached this server.

use http::request::Parts;
use http::{StatusCode, header};

use crate::error::{ApiError, ApiResult};
use crate::tls::is_https;

/// The scheme and the host of a request, without a slash at the end, so that the client can reach this server again. The
/// header of a proxy counts more than the scheme of the connection.
pub(crate) fn origin(head: &Parts) -> ApiResult<String> {
    let scheme = if is_https(&head.headers, &head.extensions) { "https" } else { "http" };
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or(head.uri.authority().map(|authority| authority.as_str()));
    let host =
        host.ok_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, "the request has no Host header"))?;
    Ok(format!("{scheme}://{host}"))
}
