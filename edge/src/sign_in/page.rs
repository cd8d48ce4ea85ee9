//! The page for signing in, and where it leads. It needs no UI: it is the same for every bundle.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use matyan_proto::access::v1::{ListProvidersRequest, SignInProvider};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::html;
use crate::project::PREFIX;
use crate::scope::Scope;
use crate::security_headers::{OPENER_OWN, OPENER_POLICY, PagePermissions, page_policy};
use crate::services::Services;

/// Paths below the path of the server or of a project.
pub(super) const SIGN_IN: &str = "/sign-in";
pub(super) const SIGN_OUT: &str = "/sign-out";
/// Path with the id of a provider at its end, below the path of the server only.
pub(super) const PROVIDER: &str = "/sign-in/with/";
/// Path to which providers send browsers back. Operators tell providers its address.
pub const CALLBACK: &str = "/sign-in/callback";

/// Characters of a path that cannot be in a parameter of another URL.
const PARAMETER: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'&').add(b'+').add(b'<').add(b'>');

/// Path of the page on which people type the codes of programs.
pub(super) const CODE: &str = "/sign-in/code";

const PAGE: &str = include_str!("page.html");
const CODE_PAGE: &str = include_str!("code.html");
/// The style of all pages.
const STYLE: &str = include_str!("style.css");

/// The part of the server that a browser signs in to.
pub(super) struct Place<'a> {
    base_path: &'a str,
    /// Path below which its pages are, without a trailing slash: the path of the server and of the project.
    root: String,
}

/// The message of a page, and the page that follows it.
#[derive(Clone, Copy)]
pub(super) struct Notice<'a> {
    pub(super) status: StatusCode,
    pub(super) message: &'a str,
    /// Empty: the start.
    pub(super) next: &'a str,
}

impl<'a> Place<'a> {
    pub(super) fn new(base_path: &'a str, project: &str) -> Self {
        let root = match project {
            "" => base_path.to_owned(),
            project => format!("{base_path}{PREFIX}{project}"),
        };
        Self { base_path, root }
    }

    /// Whether it is the whole server, rather than a project.
    pub(super) fn is_server(&self) -> bool {
        self.root == self.base_path
    }

    pub(super) fn base_path(&self) -> &'a str {
        self.base_path
    }

    /// The path of a page of this place.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.root)
    }

    /// The next page: the page that the browser asked for, or the start.
    pub(super) fn destination(&self, next: &str) -> String {
        if next.is_empty() { self.path("/") } else { next.to_owned() }
    }

    fn name(&self) -> &str {
        let project = self.root.strip_prefix(self.base_path).and_then(|path| path.strip_prefix(PREFIX));
        project.unwrap_or("Matyan")
    }

    /// The page for signing in.
    pub(super) async fn sign_in_page(&self, services: &Services, notice: Notice<'_>) -> Response {
        let Notice { status, message, next } = notice;
        let kind = if status == StatusCode::OK { "notice\" role=\"status" } else { "problem\" role=\"alert" };
        let message = match message {
            "" => String::new(),
            message => format!("<p id=\"{kind}\">{}</p>", with_code(message)),
        };
        let providers = self.providers(services, next).await;
        // A provider is the first way in, and a keyboard on the screen of a phone would cover it.
        let autofocus = if providers.is_empty() { " autofocus" } else { "" };
        let page = PAGE
            .replace("{{style}}", STYLE)
            .replace("{{action}}", &escaped(&self.path(SIGN_IN)))
            .replace("{{next}}", &escaped(next))
            .replace("{{message}}", &message)
            .replace("{{signed_in}}", &self.signed_in(next).await)
            .replace("{{autofocus}}", autofocus)
            .replace("{{place}}", &self.destination_text())
            .replace("{{providers}}", &providers);
        html_response(status, page)
    }

    /// The destination of a link: the project of its address.
    fn destination_text(&self) -> String {
        if self.is_server() {
            String::new()
        } else {
            format!(" to the project <b>{}</b>", escaped(self.name()))
        }
    }

    /// A page about the code of a program. `content` is HTML.
    pub(super) fn code_page(&self, status: StatusCode, content: &str) -> Response {
        html_response(status, CODE_PAGE.replace("{{style}}", STYLE).replace("{{content}}", content))
    }

    /// The name of the person who is signed in already, with ways to sign out or continue.
    async fn signed_in(&self, next: &str) -> String {
        let Some(caller) = Scope::current().signed_in().await else { return String::new() };
        format!(
            "<form class=\"who\" method=\"post\" action=\"{}\"><p>You are signed in as <b>{}</b>. \
             <a href=\"{}\">Continue to {}</a></p><button>Sign out</button></form>",
            escaped(&self.path(SIGN_OUT)),
            escaped(caller.name()),
            escaped(&self.destination(next)),
            escaped(self.name())
        )
    }

    /// Links to the providers. They are links and no forms: the policy of the page lets a form lead to this server only.
    async fn providers(&self, services: &Services, next: &str) -> String {
        let listed = Box::pin(services.backend().sign_in().list_providers(ListProvidersRequest {})).await;
        let providers = match listed {
            Ok(listed) => listed.into_inner().providers,
            // The form for a token is still of use.
            Err(status) => {
                tracing::warn!(%status, "failed to list the providers for signing in");
                Vec::new()
            }
        };
        if providers.is_empty() {
            return String::new();
        }
        let next = parameter_value(&self.destination(next));
        let link = |SignInProvider { id, title }: SignInProvider| {
            let target = format!("{}{PROVIDER}{id}?next={next}", self.base_path);
            format!(
                "<a class=\"provider\" href=\"{}\">Sign in with {}</a>",
                escaped(&target),
                escaped(&title)
            )
        };
        let links: String = providers.into_iter().map(link).collect();
        format!("<nav aria-label=\"Providers\">{links}</nav><p class=\"or\">or with a token</p>")
    }
}

fn html_response(status: StatusCode, page: String) -> Response {
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

/// A text as the value of a parameter of a URL.
pub(super) fn parameter_value(text: &str) -> String {
    utf8_percent_encode(text, PARAMETER).to_string()
}

/// Sends a browser to another page, with changes of its cookies.
pub(super) fn redirect(target: &str, cookies: &[String]) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    let target = HeaderValue::from_str(target).unwrap_or(HeaderValue::from_static("/"));
    headers.insert(header::LOCATION, target);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    set_cookies(&mut response, cookies);
    response
}

/// Adds changes of cookies to a response.
pub(super) fn set_cookies(response: &mut Response, cookies: &[String]) {
    for cookie in cookies {
        let mut cookie = HeaderValue::from_str(cookie).expect("a secret is ASCII");
        cookie.set_sensitive(true);
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

/// A message as HTML. Text between backticks becomes `<code>`.
pub(super) fn with_code(message: &str) -> String {
    let mut html = String::new();
    let mut rest = message;
    while let Some((before, opened)) = rest.split_once('`')
        && let Some((code, after)) = opened.split_once('`')
    {
        html.push_str(&escaped(before));
        html.push_str(&format!("<code>{}</code>", escaped(code)));
        rest = after;
    }
    html.push_str(&escaped(rest));
    html
}

/// Text as a part of the page. Braces are escaped too: they mark placeholders of the page.
pub(super) fn escaped(text: &str) -> String {
    html::escape(text).replace('{', "&#123;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_between_backticks_is_code() {
        assert_eq!(
            with_code("`a<b` is disabled: use `x`."),
            "<code>a&lt;b</code> is disabled: use <code>x</code>."
        );
        assert_eq!(with_code("one ` <alone>"), "one ` &lt;alone&gt;");
        assert_eq!(with_code(""), "");
    }
}
