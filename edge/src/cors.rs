//! Cross-origin rules, with the same responses as 0.3, which browser clients depend on. One
//! rule is new: 0.3 answered pages of any origin and only hid the response from them; here
//! their requests are refused.

use axum::body::Body;
use axum::response::Response;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};

use crate::error::ApiError;
use crate::tls::is_https_page;

const METHODS: HeaderValue = HeaderValue::from_static("DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT");
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const TRUE: HeaderValue = HeaderValue::from_static("true");
const ORIGIN: HeaderValue = HeaderValue::from_static("Origin");

/// Maximum length of an origin in the error.
const SHOWN_CHARACTERS: usize = 100;

/// Response headers that gRPC-web clients, the product's own pages, and readers of parts of files use.
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static(
    "grpc-status, grpc-message, grpc-status-details-bin, x-request-id, x-query-warnings, etag, \
     content-range, accept-ranges, content-disposition",
);

/// The response to a preflight; `None` if the request is not a preflight.
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

/// Adds the headers that let the page read the response, if its origin is allowed, and returns
/// whether it is. `origin` is the origin of the request.
pub(crate) fn add_headers(allowed: &[String], origin: Option<&HeaderValue>, headers: &mut HeaderMap) -> bool {
    // Caches must not reuse the response for pages of other origins.
    headers.append(header::VARY, ORIGIN);
    let Some(origin) = origin.filter(|origin| is_allowed(allowed, origin)) else { return false };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
    true
}

/// Refuses requests of pages of other origins, except links to this server. Browsers let any page
/// send plain requests and open WebSockets without a preflight, so the page can reach servers
/// that only its user can reach: it must not write, nor start expensive queries. Clients other
/// than browsers send none of these headers.
pub(crate) fn check_origin<B>(allowed: &[String], request: &Request<B>) -> Result<(), ApiError> {
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        return if is_of_another_site(request) && !is_navigation(allowed, request) {
            Err(refused_page("other sites"))
        } else {
            Ok(())
        };
    };
    if is_allowed(allowed, origin) || is_same_origin(request, origin) {
        return Ok(());
    }
    Err(refused_page(&String::from_utf8_lossy(origin.as_bytes())))
}

fn refused_page(page: &str) -> ApiError {
    let page: String = page.chars().take(SHOWN_CHARACTERS).collect();
    let message = format!(
        "pages of {page} may not use this server: if they are its own, have the proxy before the server \
         pass on Host or set X-Forwarded-Host; otherwise name their origin in the server's CORS_ORIGINS, \
         with which they get no session"
    );
    ApiError::new(StatusCode::FORBIDDEN, message)
}

/// Returns whether the browser says that a page of another origin sent the request. Other ports
/// of the same host are the same site, but may belong to someone else.
pub(crate) fn is_of_another_site<B>(request: &Request<B>) -> bool {
    let site = request.headers().get("sec-fetch-site").map(HeaderValue::as_bytes);
    matches!(site, Some(b"cross-site" | b"same-site"))
}

/// Returns whether a page of another origin sent the request, as far as the browser says. With a WebSocket, browsers send
/// only the origin of the page.
pub(crate) fn is_of_another_origin<B>(request: &Request<B>) -> bool {
    let origin = request.headers().get(header::ORIGIN);
    is_of_another_site(request) || origin.is_some_and(|origin| !is_same_origin(request, origin))
}

/// Returns whether the browser says that a page of this server sent the request. Browsers say so in each request that
/// does more than read.
pub(crate) fn names_own_page<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    match headers.get(header::ORIGIN) {
        Some(origin) => is_same_origin(request, origin),
        None => headers.get("sec-fetch-site").is_some_and(|it| it == "same-origin"),
    }
}

/// Returns whether the user follows a link or, if any other origin is permitted, the browser loads a frame.
/// The other page can read neither. Requests for frames have no `Origin`: the browser decides by the
/// `frame-ancestors` of the response.
fn is_navigation<B>(allowed: &[String], request: &Request<B>) -> bool {
    let is = |name, value: &str| request.headers().get(name).is_some_and(|it| it == value);
    let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_frame = !allowed.is_empty() && is("sec-fetch-dest", "iframe");
    is_reading && is("sec-fetch-mode", "navigate") && (is("sec-fetch-dest", "document") || is_frame)
}

/// Returns whether the page came from the host that the request names. A page of `http://` may have been
/// changed on its way, so it is not a page of a server that is reached by https. Otherwise the scheme is
/// ignored, because a proxy may have terminated TLS without saying so.
fn is_same_origin<B>(request: &Request<B>, origin: &HeaderValue) -> bool {
    let text = |name: &str| request.headers().get(name)?.to_str().ok();
    // Pages cannot set this header, and it passes through proxies that change the host.
    if text("sec-fetch-site") == Some("same-origin") {
        return true;
    }
    let Some(page) = origin.to_str().ok().and_then(|it| it.parse::<Uri>().ok()) else { return false };
    if is_https_page(request.headers(), request.extensions()) && page.scheme_str() != Some("https") {
        return false;
    }
    let forwarded = text("x-forwarded-host").and_then(|it| it.split(',').next()).map(str::trim);
    let hosts = [text("host"), forwarded, request.uri().authority().map(Authority::as_str)];
    hosts.into_iter().flatten().filter_map(|it| it.parse().ok()).any(|host| is_same_host(&page, &host))
}

/// Returns whether a page came from this host and port.
pub(crate) fn is_same_host(page: &Uri, host: &Authority) -> bool {
    let default = match page.scheme_str() {
        Some("https") => 443,
        Some(_) => 80,
        // An opaque origin, such as `null`, belongs to no host.
        None => return false,
    };
    // Either side may omit the default port of the scheme.
    page.authority().is_some_and(|it| {
        let port = |it: &Authority| it.port_u16().unwrap_or(default);
        it.host().eq_ignore_ascii_case(host.host()) && port(it) == port(host)
    })
}

fn is_allowed(allowed: &[String], origin: &HeaderValue) -> bool {
    allowed.iter().any(|it| it.as_bytes() == origin.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, headers: &[(&str, &str)], expected: bool) {
        let request = headers.iter().fold(Request::post(uri), |it, (name, value)| it.header(*name, *value));
        let permitted = check_origin(&["http://ui.example".to_owned()], &request.body(()).unwrap());
        assert_eq!(permitted.is_ok(), expected, "{uri} {headers:?}: {permitted:?}");
    }

    #[test]
    fn only_links_and_frames_of_other_sites_are_followed() {
        let is_permitted = |allowed: &[String], method: &str, headers: &[(&str, &str)]| {
            let request = Request::builder().method(method).uri("/");
            let request = headers.iter().fold(request, |it, (name, value)| it.header(*name, *value));
            check_origin(allowed, &request.body(()).unwrap()).is_ok()
        };
        let check = |method: &str, headers: &[(&str, &str)], expected: bool| {
            let permitted = is_permitted(&["http://ui.example".to_owned()], method, headers);
            assert_eq!(permitted, expected, "{method} {headers:?}");
        };
        let [mode, dest] = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        for site in ["cross-site", "same-site"].map(|it| ("sec-fetch-site", it)) {
            check("GET", &[site], false);
            check("GET", &[site, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")], false);
            check("GET", &[site, mode, dest], true);
            // Only if some origin may frame pages at all.
            let frame = [site, mode, ("sec-fetch-dest", "iframe")];
            check("GET", &frame, true);
            assert!(!is_permitted(&[], "GET", &frame));
            check("POST", &[site, mode, dest], false);
            check("GET", &[site, ("origin", "http://ui.example")], true);
            check("GET", &[site, ("origin", "http://evil.example")], false);
        }
        for site in ["same-origin", "none"] {
            check("GET", &[("sec-fetch-site", site)], true);
        }
        check("GET", &[("origin", "http://evil.example")], false);
    }

    #[test]
    fn foreign_pages_cannot_write() {
        let [host, local] = ["here.example:1", "localhost"].map(|it| ("host", it));
        check("/", &[host], true);
        check("/", &[host, ("origin", "http://here.example:1")], true);
        check("/", &[host, ("origin", "https://HERE.example:1")], true);
        check("/", &[host, ("origin", "http://ui.example")], true);
        check("/", &[host, ("origin", "https://ui.example")], false);
        check("/", &[host, ("origin", "http://here.example:2")], false);
        check("/", &[host, ("origin", "http://here.example")], false);
        check("/", &[host, ("origin", "http://x.here.example:1")], false);
        check("/", &[host, ("origin", "null")], false);
        check("/", &[("host", "null"), ("origin", "null")], false);
        check("/", &[host, ("origin", "")], false);
        check("/", &[local, ("origin", "http://localhost:80")], true);
        check("/", &[local, ("origin", "http://localhost:443")], false);
        check("/", &[("origin", "http://localhost")], false);
    }

    #[test]
    fn a_page_of_this_server_is_recognized_through_a_proxy() {
        let origin = ("origin", "https://here.example");
        let inner = ("host", "10.0.0.1:53800");
        let outer = "x-forwarded-host";
        check("/", &[inner, origin], false);
        check("/", &[inner, origin, (outer, "here.example:443, 10.0.0.2")], true);
        check("/", &[inner, origin, (outer, "10.0.0.2, here.example")], false);
        check("/", &[inner, origin, ("sec-fetch-site", "same-origin")], true);
        check("/", &[inner, origin, ("sec-fetch-site", "same-site")], false);
        check("http://here.example/", &[origin], true);
    }

    /// Also a page whose origin may use the API.
    #[test]
    fn rule_65_a_page_of_another_origin_is_not_one_of_this_server() {
        let check = |headers: &[(&str, &str)], is_own: bool, is_other: bool| {
            let request = Request::post("/").header("host", "here.example:1");
            let request = headers.iter().fold(request, |it, (name, value)| it.header(*name, *value));
            let request = request.body(()).unwrap();
            assert_eq!(
                (names_own_page(&request), is_of_another_origin(&request)),
                (is_own, is_other),
                "{headers:?}"
            );
        };
        check(&[], false, false);
        check(&[("origin", "http://here.example:1")], true, false);
        check(&[("origin", "http://here.example:2")], false, true);
        check(&[("origin", "http://ui.example")], false, true);
        check(&[("origin", "null")], false, true);
        for (site, is_own, is_other) in [
            ("same-origin", true, false),
            ("none", false, false),
            ("same-site", false, true),
            ("cross-site", false, true),
        ] {
            check(&[("sec-fetch-site", site)], is_own, is_other);
        }
    }

    #[test]
    fn rule_59_a_page_without_tls_is_not_of_a_server_with_tls() {
        let host = ("host", "here.example");
        let plain = ("origin", "http://here.example");
        let secure = ("origin", "https://here.example");
        let https = ("x-forwarded-proto", "https");
        check("/", &[host, plain], true);
        check("/", &[host, plain, ("x-forwarded-proto", "http")], true);
        check("/", &[host, plain, https], false);
        check("/", &[host, secure, https], true);
        check("/", &[host, ("origin", "http://ui.example"), https], true);
        let mut request = Request::post("/").header("host", "here.example").header(plain.0, plain.1);
        request.extensions_mut().unwrap().insert(crate::tls::SecureConnection);
        check_origin(&[], &request.body(()).unwrap()).unwrap_err();
    }
}
