//! Requests as values, relative to the base URL of a server.

use bytes::Bytes;
use object_store_http as reqwest;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Method,
    header::{HeaderMap, HeaderName, HeaderValue},
};

/// Characters that need no escape in a path segment or a query value.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The token that is sent with a request.
#[derive(Clone, Debug, Default)]
pub(crate) enum RequestToken {
    /// The token that this process uses for the server, if there is one.
    #[default]
    OfServer,
    /// No token: the one for the server may have ended.
    Absent,
    /// The value of the header for this token.
    Own(HeaderValue),
}

/// One request, relative to the base URL of a server.
///
/// ```
/// # use matyan_sdk::http::RestRequest;
/// let request = RestRequest::get("/api/v1/rest/runs/search/run/").query("q", "run.active and True");
/// assert_eq!(request.target(), "/api/v1/rest/runs/search/run/?q=run.active%20and%20True");
/// ```
#[derive(Clone, Debug)]
pub struct RestRequest {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) body: Option<(HeaderValue, Bytes)>,
    pub(super) headers: HeaderMap,
    pub(super) token: RequestToken,
    /// The answer takes the server long, because it reads a lot of data.
    pub(super) is_slow: bool,
}

impl RestRequest {
    /// A request without a body. The path starts with `/` and is escaped already; see `segment`.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: String::new(),
            body: None,
            headers: HeaderMap::new(),
            token: RequestToken::default(),
            is_slow: false,
        }
    }

    /// A request that reads.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// A request with a JSON body.
    pub fn json(method: Method, path: impl Into<String>, json: impl Into<Bytes>) -> Self {
        Self::new(method, path).body(HeaderValue::from_static("application/json"), json)
    }

    /// Adds a query parameter.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        let separator = if self.query.is_empty() { '?' } else { '&' };
        self.query.push(separator);
        self.query.extend(utf8_percent_encode(name, ESCAPED));
        self.query.push('=');
        self.query.extend(utf8_percent_encode(value, ESCAPED));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, content_type: HeaderValue, body: impl Into<Bytes>) -> Self {
        self.body = Some((content_type, body.into()));
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Sends a token other than the server's, or none.
    #[must_use]
    pub(crate) fn with_token(mut self, token: RequestToken) -> Self {
        self.token = token;
        self
    }

    /// Allows the whole answer the time of a search.
    #[must_use]
    pub fn slow(mut self) -> Self {
        self.is_slow = true;
        self
    }

    /// Path and query.
    pub fn target(&self) -> String {
        format!("{}{}", self.path, self.query)
    }
}

/// Escapes text, such as a run id, for use as one segment of a path.
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_and_queries_are_escaped() {
        assert_eq!(segment("a/b c?é"), "a%2Fb%20c%3F%C3%A9");
        let request = RestRequest::get("/x/").query("a", "1&2").query("b", "");
        assert_eq!(request.target(), "/x/?a=1%262&b=");
    }
}
