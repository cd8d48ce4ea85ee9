//! Signing in with a browser. A page takes a token, and a cookie keeps it, which no script can read. From
//! then on the browser is a caller with this token, until the token ends or the user signs out. The page needs
//! no UI: it is the same for every bundle.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use matyan_access::{AccessToken, Caller, CallerCache};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tokio::time::timeout;

use crate::access_reports::SignedIn;
use crate::error::ApiError;
use crate::html;
use crate::project::PREFIX;
use crate::rest::table::PathTemplate;
use crate::scope::Scope;
use crate::security_headers::{OPENER_OWN, OPENER_POLICY, PagePermissions, page_policy};
use crate::token_cookie::TokenCookie;

const SIGN_IN: &str = "/sign-in";
const SIGN_OUT: &str = "/sign-out";

/// Values of the parameter `reason`, by which a browser comes to the page for signing in. The first one is
/// sent by the UI.
const END_REASON: &str = "ended";
const SIGN_OUT_REASON: &str = "signed-out";

/// Time after which a browser forgets the token, if the token has no earlier end.
const COOKIE_SECONDS: u32 = 30 * 24 * 3_600;

/// Time in which the form has to arrive. Its sender has shown no credential.
const FORM_TIME: Duration = Duration::from_secs(10);

/// Maximum size of the form: a token, and a path.
const FORM_BYTES: usize = 16 << 10;

/// Characters of a path that cannot be in a parameter of another URL.
const PARAMETER: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'&').add(b'+').add(b'<').add(b'>');

const PAGE: &str = include_str!("sign_in/page.html");

const NO_TOKEN: &str = "This is not a token: a token begins with mtk_, and must be copied completely.";
const WRONG_TOKEN: &str =
    "This token is unknown, expired or revoked: ask an owner of the project for a new one.";
const ENDED: &str = "Your token was revoked or has expired: sign in with another one.";
const SIGNED_OUT: &str = "You are signed out. The token stays valid: revoke it if someone else may have it.";
const LOOKUP_UNAVAILABLE: &str = "The token cannot be looked up at the moment: try again.";
const TOO_SLOW: &str = "The form did not arrive in time: try again.";
const TOO_LARGE: &str = "The form is too large: paste the token alone.";

/// The pages for signing in and out.
pub(crate) struct SignIn<'a> {
    /// `None`: anyone may do everything.
    callers: Option<&'a CallerCache>,
    base_path: &'a str,
    /// Path below which the pages are, without a trailing slash: the path of the server and of the project.
    root: String,
}

impl<'a> SignIn<'a> {
    /// `None` if the path is neither page.
    pub(crate) fn for_path(path: &str, callers: Option<&'a CallerCache>, base_path: &'a str) -> Option<Self> {
        matches!(path, SIGN_IN | SIGN_OUT).then(|| Self {
            callers,
            base_path,
            root: root(base_path, Scope::current().project_name()),
        })
    }

    pub(crate) async fn answer(&self, request: Request<Body>) -> Response {
        let is_sign_in = request.uri().path() == SIGN_IN;
        let next = next_of(request.uri().query().unwrap_or_default().as_bytes());
        let mut response = match (self.callers, request.method()) {
            // No one has to sign in. The fragment of a link would be a part of the next address.
            (None, _) => redirect(&format!("{}#", self.destination(next)), None),
            (Some(_), &Method::GET | &Method::HEAD) if is_sign_in => {
                let reason = reason_of(request.uri().query().unwrap_or_default().as_bytes());
                self.page(StatusCode::OK, reason, &next).await
            }
            (Some(callers), &Method::POST) if is_sign_in => self.sign_in(callers, request).await,
            (Some(_), &Method::POST) => self.sign_out(&request),
            (Some(_), _) => {
                let methods = if is_sign_in { "GET, POST" } else { "POST" };
                ApiError::method_not_allowed(methods.to_owned()).into_response()
            }
        };
        let template = if is_sign_in { "/sign-in/" } else { "/sign-out/" };
        response.extensions_mut().insert(PathTemplate(template.into()));
        response
    }

    /// The next page: the page that the browser asked for, or the start of the project.
    fn destination(&self, next: String) -> String {
        if next.is_empty() { format!("{}/", self.root) } else { next }
    }

    async fn sign_in(&self, callers: &CallerCache, request: Request<Body>) -> Response {
        let cookie = TokenCookie::of(&request, self.base_path);
        let form = timeout(FORM_TIME, Limited::new(request.into_body(), FORM_BYTES).collect()).await;
        let form = match form {
            Ok(Ok(form)) => form.to_bytes(),
            Ok(Err(_)) => return self.page(StatusCode::PAYLOAD_TOO_LARGE, TOO_LARGE, "").await,
            Err(_) => return self.page(StatusCode::REQUEST_TIMEOUT, TOO_SLOW, "").await,
        };
        let next = next_of(&form);
        let Some(token) = AccessToken::find(&parameter(&form, "token")) else {
            return self.page(StatusCode::BAD_REQUEST, NO_TOKEN, &next).await;
        };
        let digest = token.digest();
        match callers.find(Some(&digest)).await {
            Ok(Some(caller)) => {
                let next = if next.is_empty() { self.only_project(&caller) } else { next };
                let mut response =
                    redirect(&self.destination(next), Some(&cookie.set(token.reveal(), COOKIE_SECONDS)));
                let principal = caller.name().to_owned();
                response.extensions_mut().insert(SignedIn { principal, token: digest });
                response
            }
            Ok(None) => self.page(StatusCode::UNAUTHORIZED, WRONG_TOKEN, &next).await,
            Err(_) => self.page(StatusCode::SERVICE_UNAVAILABLE, LOOKUP_UNAVAILABLE, &next).await,
        }
    }

    fn sign_out(&self, request: &Request<Body>) -> Response {
        let forgotten = TokenCookie::of(request, self.base_path).set("", 0);
        let mut response =
            redirect(&format!("{}{SIGN_IN}?reason={SIGN_OUT_REASON}", self.root), Some(&forgotten));
        // Browsers cache media of runs for some minutes.
        response.headers_mut().insert("clear-site-data", HeaderValue::from_static("\"cache\""));
        response
    }

    /// The start of the only project that a caller may know of, for the pages of the whole server; empty if there
    /// is no such project.
    fn only_project(&self, caller: &Caller) -> String {
        let mut known = caller.known_projects().into_iter().flatten();
        match (known.next(), known.next()) {
            (Some(project), None) if self.root == self.base_path => {
                format!("{}/", root(self.base_path, project))
            }
            _ => String::new(),
        }
    }

    /// The name of the page that follows.
    fn place(&self) -> &str {
        let project = self.root.strip_prefix(self.base_path).and_then(|path| path.strip_prefix(PREFIX));
        project.unwrap_or("Matyan")
    }

    async fn page(&self, status: StatusCode, message: &str, next: &str) -> Response {
        let signed_in = Scope::current().signed_in().await;
        let signed_in = match &signed_in {
            None => String::new(),
            Some(caller) => format!(
                "<form class=\"who\" method=\"post\" action=\"{}{SIGN_OUT}\"><p>You are signed in as <b>{}</b>. \
                 <a href=\"{}\">Continue to {}</a></p><button>Sign out</button></form>",
                escaped(&self.root),
                escaped(caller.name()),
                escaped(&self.destination(next.to_owned())),
                escaped(self.place())
            ),
        };
        let kind = if status == StatusCode::OK { "notice\" role=\"status" } else { "problem\" role=\"alert" };
        let message = match message {
            "" => String::new(),
            message => format!("<p id=\"{kind}\">{}</p>", escaped(message)),
        };
        let page = PAGE
            .replace("{{action}}", &format!("{}{SIGN_IN}", escaped(&self.root)))
            .replace("{{next}}", &escaped(next))
            .replace("{{message}}", &message)
            .replace("{{signed_in}}", &signed_in);
        let policy = page_policy(&page, PagePermissions::default());
        let mut response = Response::new(Body::from(page));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        headers.insert(OPENER_POLICY, OPENER_OWN);
        response
    }
}

/// Sends a browser to the page for signing in, and back to a page of a project afterwards.
pub(crate) fn redirect_to_sign_in(base_path: &str, project: &str, path_and_query: &str) -> Response {
    let root = root(base_path, project);
    let next = format!("{root}{path_and_query}");
    let next = utf8_percent_encode(&next, PARAMETER);
    redirect(&format!("{root}{SIGN_IN}?next={next}"), None)
}

fn root(base_path: &str, project: &str) -> String {
    match project {
        "" => base_path.to_owned(),
        project => format!("{base_path}{PREFIX}{project}"),
    }
}

fn redirect(target: &str, cookie: Option<&str>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    let target = HeaderValue::from_str(target).unwrap_or(HeaderValue::from_static("/"));
    headers.insert(header::LOCATION, target);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(cookie) = cookie {
        let mut cookie = HeaderValue::from_str(cookie).expect("a token is ASCII");
        cookie.set_sensitive(true);
        headers.insert(header::SET_COOKIE, cookie);
    }
    response
}

/// The page of this server that the browser asked for before signing in; empty if it asked for none. A path that
/// begins with two slashes would name another server.
fn next_of(form: &[u8]) -> String {
    let next = parameter(form, "next");
    let is_own = next.starts_with('/')
        && !next[1..].starts_with(['/', '\\'])
        && next.bytes().all(|byte| byte.is_ascii_graphic());
    if is_own { next } else { String::new() }
}

/// The text for the reason by which a browser has come to the page; empty if it names none of them.
fn reason_of(query: &[u8]) -> &'static str {
    match parameter(query, "reason").as_str() {
        END_REASON => ENDED,
        SIGN_OUT_REASON => SIGNED_OUT,
        _ => "",
    }
}

/// A value of a form; empty if there is none.
fn parameter(form: &[u8], name: &str) -> String {
    form_urlencoded::parse(form)
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

/// Text as a part of the page. Braces are escaped too: they mark placeholders of the page.
fn escaped(text: &str) -> String {
    html::escape(text).replace('{', "&#123;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_64_only_pages_of_this_server_follow_the_page_for_signing_in() {
        let next = |next: &str| {
            let form: String =
                form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
            next_of(form.as_bytes())
        };
        for own in ["/", "/p/speech/runs?q=run.x+%3E+1", "/a/b#c"] {
            assert_eq!(next(own), own);
        }
        let foreign = [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "runs",
            "/a\r\nSet-Cookie: x",
            "/ü",
        ];
        for foreign in foreign {
            assert_eq!(next(foreign), "", "{foreign}");
        }
    }
}
