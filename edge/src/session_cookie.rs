//! The cookies of browsers: of one that has signed in, and of one that signs in with a provider.

use http::uri::Authority;
use http::{Request, header};
use matyan_access::{BrowserSecret, SecretKind};

use crate::cors::is_of_another_site;
use crate::tls::is_https_page;

/// Prefix of a cookie for all paths of a host. Browsers refuse such a cookie from another host, for a part of the
/// paths, and over http.
const OF_HOST: &str = "__Host-";
/// Prefix of a cookie that browsers refuse over http.
const OF_HTTPS: &str = "__Secure-";

/// Name of the cookie of a browser that has signed in.
const SESSION: &str = "matyan";
/// Name of the cookie of a browser that signs in with a provider.
const SIGN_IN: &str = "matyan-sign-in";

/// The session of a browser that has signed in. A link of another site opens pages, and does not call the API.
pub(crate) fn read_session<B>(request: &Request<B>, base_path: &str) -> Option<BrowserSecret> {
    let is_api = request.uri().path().trim_start_matches('/').starts_with("api/");
    if is_api && is_of_another_site(request) {
        return None;
    }
    BrowserCookie::session(request, base_path)
        .values(request)
        .find_map(|value| BrowserSecret::parse(SecretKind::Session, value))
}

/// A cookie of a server. Browsers send cookies to all ports of a host, so its name has the port: servers on
/// one host must not sign each other's users out.
pub(crate) struct BrowserCookie {
    name: String,
    attributes: String,
}

impl BrowserCookie {
    /// The cookie of a browser that has signed in.
    pub(crate) fn session<B>(request: &Request<B>, base_path: &str) -> Self {
        Self::named(SESSION, request, base_path)
    }

    /// The cookie of a browser that signs in with a provider.
    pub(crate) fn sign_in<B>(request: &Request<B>, base_path: &str) -> Self {
        Self::named(SIGN_IN, request, base_path)
    }

    fn named<B>(name: &str, request: &Request<B>, base_path: &str) -> Self {
        let host = request.headers().get(header::HOST).and_then(|it| it.to_str().ok()?.parse().ok());
        let host: Option<&Authority> = request.uri().authority().or(host.as_ref());
        let port = host.and_then(Authority::port_u16).map(|port| format!("-{port}")).unwrap_or_default();
        let is_https = is_https_page(request.headers(), request.extensions());
        let (prefix, secure) = match (is_https, base_path) {
            (false, _) => ("", ""),
            (true, "") => (OF_HOST, "; Secure"),
            (true, _) => (OF_HTTPS, "; Secure"),
        };
        // With `Lax`, links from other sites open pages, and nothing else of other sites sends the cookie. A provider sends
        // the browser back by such a link.
        let path = if base_path.is_empty() { "/" } else { base_path };
        let attributes = format!("Path={path}; HttpOnly; SameSite=Lax{secure}");
        Self { name: format!("{prefix}{name}{port}"), attributes }
    }

    /// The values of all cookies of this name. HTTP/2 may send each cookie in a header of its own.
    pub(crate) fn values<'a, B>(&'a self, request: &'a Request<B>) -> impl Iterator<Item = &'a str> {
        let all = request.headers().get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.filter_map(move |(name, value)| (name == self.name).then_some(value))
    }

    /// The header that sets the cookie.
    pub(crate) fn set(&self, value: &str, seconds: u64) -> String {
        format!("{}={value}; Max-Age={seconds}; {}", self.name, self.attributes)
    }

    /// The header that removes the cookie.
    pub(crate) fn removed(&self) -> String {
        self.set("", 0)
    }
}
