//! Access to the readers of credentials, for fuzzing.

use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use matyan_access::{AccessToken, BrowserSecret};

use crate::request_caller::read_token;
use crate::session_cookie::read_session;

/// Reads the token in a header `Authorization`. `None` if it contains none, or is refused.
pub fn read_authorization(value: &[u8]) -> Option<AccessToken> {
    read_token(&headers(header::AUTHORIZATION, value)?).ok().flatten()
}

/// Reads the session in a header `Cookie`.
pub fn read_cookie(value: &[u8]) -> Option<BrowserSecret> {
    let mut request = Request::new(());
    *request.headers_mut() = headers(header::COOKIE, value)?;
    read_session(&request, "")
}

/// `None` if HTTP permits no such value.
fn headers(name: HeaderName, value: &[u8]) -> Option<HeaderMap> {
    let value = HeaderValue::from_bytes(value).ok()?;
    Some([(name, value)].into_iter().collect())
}
