//! The cookie of a browser that has signed in, and the cookie of a browser that is about to sign in with a provider.

use http::uri::Authority;
use http::{Method, Request, Uri, header};
use matyan_access::{BrowserSecret, SecretKind};

use crate::cors::is_of_another_origin;
use crate::tls::is_https_page;
use crate::uri_path::{API, normalized};

/// Prefix of a cookie for all paths of a host. Browsers refuse such a cookie from another host, for a part of the
/// paths, and over http.
const OF_HOST: &str = "__Host-";
/// Prefix of a cookie that browsers refuse over http.
const OF_HTTPS: &str = "__Secure-";

/// Name of the cookie of a browser that has signed in.
const SESSION: &str = "matyan";
/// Beginning of the names of cookies of a browser that signs in with a provider. The id of the state follows, so that the
/// sign-ins of two tabs do not disturb each other.
const SIGN_IN: &str = "matyan-sign-in-";
/// Digits of the id of a state.
const STATE_DIGITS: usize = 16;

/// The session of a browser that has signed in. A link of another site opens pages, and calls nothing. A page of
/// another origin has no session here, even if it may use the API, so it reads nothing with the session on any path.
/// Its writes outside of APIs keep the session, and a later check refuses them.
pub(crate) fn read_session<B>(request: &Request<B>, base_path: &str) -> Option<BrowserSecret> {
    if is_of_another_origin(request) {
        let reads_page = !may_write(request) && !is_navigation(request);
        if reads_page || is_call(request.method(), &normalized(request.uri())) {
            return None;
        }
    }
    BrowserCookie::session(request, base_path)
        .values(request)
        .find_map(|value| BrowserSecret::parse(SecretKind::Session, value))
}

/// Returns whether a request may change something. A WebSocket may, although it begins with a GET.
pub(crate) fn may_write<B>(request: &Request<B>) -> bool {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    !reads || request.headers().contains_key(header::UPGRADE)
}

/// Whether the browser says that it navigates. The page that caused a navigation cannot read its answer.
fn is_navigation<B>(request: &Request<B>) -> bool {
    request.headers().get("sec-fetch-mode").is_some_and(|mode| mode == "navigate")
}

/// Whether a request calls the API of this server or of another tracker, rather than opening a page.
fn is_call(method: &Method, uri: &Uri) -> bool {
    let path = uri.path();
    if path == API || path.strip_prefix(API).is_some_and(|rest| rest.starts_with('/')) {
        return true;
    }
    #[cfg(feature = "mlflow")]
    if matyan_mlflow::Route::find(method, path).is_some() {
        return true;
    }
    #[cfg(feature = "wandb")]
    if let Some(route) = matyan_wandb::Route::find(method, path) {
        // Links to pages of runs are what people send each other.
        return !matches!(route, matyan_wandb::Route::RunPage { .. });
    }
    #[cfg(not(any(feature = "mlflow", feature = "wandb")))]
    let _ = method;
    false
}

/// A cookie of a server. Browsers send cookies to all ports of a host, so its name has the port: servers on
/// one host must not sign each other's users out.
pub(crate) struct BrowserCookie {
    prefix: &'static str,
    /// The end of the name; empty for the default port.
    port: String,
    /// The whole name.
    name: String,
    attributes: String,
}

impl BrowserCookie {
    /// The cookie of a browser that has signed in.
    pub(crate) fn session<B>(request: &Request<B>, base_path: &str) -> Self {
        Self::named(SESSION, request, base_path)
    }

    /// The cookie of a browser that signs in with a provider, which gets this state. No cookie has the name
    /// for a text that is not a state.
    pub(crate) fn sign_in<B>(request: &Request<B>, base_path: &str, state: &str) -> Self {
        let state = BrowserSecret::parse(SecretKind::State, state);
        let id = state.map(|state| state.digest().id()).unwrap_or_default();
        Self::named(&format!("{SIGN_IN}{id}"), request, base_path)
    }

    /// The cookies of sign-ins with a provider that this browser has begun and not finished.
    pub(crate) fn unfinished<B>(request: &Request<B>, base_path: &str) -> Vec<Self> {
        let any = Self::named("", request, base_path);
        let of_sign_in = |(name, _): (&str, &str)| {
            let id = name.strip_prefix(any.prefix)?.strip_prefix(SIGN_IN)?.strip_suffix(any.port.as_str())?;
            let is_id = id.len() == STATE_DIGITS && id.bytes().all(|digit| digit.is_ascii_hexdigit());
            is_id.then(|| Self::named(&format!("{SIGN_IN}{id}"), request, base_path))
        };
        cookies(request).filter_map(of_sign_in).collect()
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
        let name = format!("{prefix}{name}{port}");
        Self { prefix, port, name, attributes }
    }

    /// The values of all cookies of this name.
    pub(crate) fn values<'a, B>(&'a self, request: &'a Request<B>) -> impl Iterator<Item = &'a str> {
        cookies(request).filter_map(move |(name, value)| (name == self.name).then_some(value))
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

/// Names and values of all cookies. HTTP/2 may send each cookie in its own header.
fn cookies<B>(request: &Request<B>) -> impl Iterator<Item = (&str, &str)> {
    let all = request.headers().get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn rule_65_a_page_of_another_origin_reads_nothing_with_the_session() {
        let secret = BrowserSecret::generate(SecretKind::Session, &mut StdRng::seed_from_u64(1));
        let cookie = format!("matyan={}", secret.reveal());
        let has_session = |method: Method, path: &str, headers: &[(&str, &str)]| {
            let request = Request::builder().method(method).uri(path);
            let request = request.header("host", "localhost").header("cookie", &cookie);
            let request = headers.iter().fold(request, |it, (name, value)| it.header(*name, *value));
            read_session(&request.body(()).unwrap(), "").is_some()
        };
        let other = ("origin", "http://ui.example");
        let site = ("sec-fetch-site", "cross-site");
        for path in ["/metrics", "/docs", "/openapi.json", "/runs", "/api/v1/rest/runs"] {
            assert!(has_session(Method::GET, path, &[]), "{path}");
            assert!(has_session(Method::GET, path, &[("origin", "http://localhost")]), "{path}");
            for headers in [&[other][..], &[other, site], &[site, ("sec-fetch-mode", "no-cors")]] {
                for method in [Method::GET, Method::HEAD] {
                    assert!(!has_session(method, path, headers), "{path} {headers:?}");
                }
            }
            let link = [site, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
            assert_eq!(has_session(Method::GET, path, &link), !path.starts_with("/api"), "{path}");
        }
        // The check of writes refuses it.
        assert!(has_session(Method::POST, "/sign-out", &[other]));
    }

    #[test]
    fn rule_65_paths_of_all_apis_are_calls() {
        let check = |method: Method, path: &str, expected: bool| {
            let uri = normalized(&path.parse().unwrap());
            assert_eq!(is_call(&method, &uri), expected, "{method} {path}");
        };
        for path in
            ["/api", "/api/v1/rest/runs", "//api//v1/rest/runs/", "/api/v1/rest/blobs/a//b", "/api/future"]
        {
            check(Method::GET, path, true);
        }
        for path in
            ["/", "/runs", "/runs/api/", "/apis", "/metrics", "/sign-in", "/sign-in/callback?code=/api/"]
        {
            check(Method::GET, path, false);
        }
        #[cfg(feature = "mlflow")]
        for base in ["/api/2.0", "/ajax-api/2.0", "/api/3.0", "/ajax-api/3.0"] {
            for path in ["mlflow/metrics/get-history", "mlflow-artifacts/artifacts/a/b", "mlflow/unknown"] {
                check(Method::GET, &format!("{base}/{path}?run_id=r"), true);
                check(Method::HEAD, &format!("{base}/{path}"), true);
            }
        }
        #[cfg(feature = "wandb")]
        {
            check(Method::GET, "/files/me/p/r/huge.ckpt", true);
            check(Method::POST, "/graphql", true);
            check(Method::GET, "/me/p/runs/r", false);
        }
    }
}
