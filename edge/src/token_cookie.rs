//! The cookie with the token of a browser that has signed in.

use http::uri::Authority;
use http::{Request, header};
use matyan_access::AccessToken;

use crate::cors::is_of_another_site;
use crate::tls::is_https_page;

/// Prefix of a cookie for all paths of a host. Browsers refuse such a cookie from another host, for a part of the
/// paths, and over http.
const OF_HOST: &str = "__Host-";
/// Prefix of a cookie that browsers refuse over http.
const OF_HTTPS: &str = "__Secure-";

/// The token of a browser that has signed in. A link of another site opens pages, and does not call the API.
pub(crate) fn read_cookie<B>(request: &Request<B>, base_path: &str) -> Option<AccessToken> {
    if !request.headers().contains_key(header::COOKIE) {
        return None;
    }
    let is_api = request.uri().path().trim_start_matches('/').starts_with("api/");
    if is_api && is_of_another_site(request) {
        return None;
    }
    let own = TokenCookie::of(request, base_path).name;
    // HTTP/2 may send each cookie in a header of its own.
    let all = request.headers().get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == own).then(|| AccessToken::parse(value)).flatten())
}

/// The cookie of a server. Browsers send cookies to all ports of a host, so its name has the port: servers on
/// one host must not sign each other's users out.
pub(crate) struct TokenCookie {
    name: String,
    attributes: String,
}

impl TokenCookie {
    pub(crate) fn of<B>(request: &Request<B>, base_path: &str) -> Self {
        let host = request.headers().get(header::HOST).and_then(|it| it.to_str().ok()?.parse().ok());
        let host: Option<&Authority> = request.uri().authority().or(host.as_ref());
        let port = host.and_then(Authority::port_u16).map(|port| format!("-{port}")).unwrap_or_default();
        let is_https = is_https_page(request.headers(), request.extensions());
        let (prefix, secure) = match (is_https, base_path) {
            (false, _) => ("", ""),
            (true, "") => (OF_HOST, "; Secure"),
            (true, _) => (OF_HTTPS, "; Secure"),
        };
        // With `Lax`, links from other sites open pages, and nothing else of other sites sends the cookie.
        let path = if base_path.is_empty() { "/" } else { base_path };
        let attributes = format!("Path={path}; HttpOnly; SameSite=Lax{secure}");
        Self { name: format!("{prefix}matyan{port}"), attributes }
    }

    /// The header that sets the cookie.
    pub(crate) fn set(&self, value: &str, seconds: u32) -> String {
        format!("{}={value}; Max-Age={seconds}; {}", self.name, self.attributes)
    }
}
