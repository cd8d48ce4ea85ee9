//! Signing in with a browser: with a token, a one-time link, or a provider. A cookie keeps the secret of the session
//! that the backend starts, which no script can read. From then on the browser is a caller with this session, until
//! the session ends.

mod page;

mod code;

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use matyan_access::{
    AccessToken, BrowserSecret, Caller, CallerCache, NEXT_PAGE_BYTES, SecretKind, TokenDigest,
};
use matyan_proto::access::v1::{
    BeginSignInRequest, BeginSignInResponse, EndSessionRequest, FinishSignInRequest, OpenLinkRequest,
    StartSessionRequest, StartedSession,
};
use matyan_proto::common::v1::Code as ProductCode;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::access_reports::{SignInRefused, SignedIn, SignedOut};
use crate::allowed_hosts::{browser_authority, host_names};
use crate::cors::{is_of_another_origin, is_of_another_site, is_same_host};
use crate::error::{ApiError, next_page, product_code, refused_principal};
use crate::request_id;
use crate::rest::router::PathTemplate;
use crate::scope::Scope;
use crate::services::Services;
use crate::session_cookie::{BrowserCookie, read_session};
use crate::tls::is_https_page;
pub use page::CALLBACK;
use page::{CODE, Notice, PROVIDER, Place, SIGN_IN, SIGN_OUT, parameter_value, redirect, set_cookies};

/// Values of the parameter `reason`, by which a browser comes to the page for signing in. The first one is
/// sent by the UI.
const END_REASON: &str = "ended";
const SIGN_OUT_REASON: &str = "signed-out";

/// Time for which a browser keeps a sign-in with a provider. The server accepts an answer for as long.
const SIGN_IN_SECONDS: u64 = 600;

/// Number of sign-ins of one browser that wait for a provider. One more replaces them: browsers and proxies accept
/// few kilobytes of cookies.
const MAX_UNFINISHED: usize = 4;

/// Maximum number of cookies of one name that are tried. Someone else may have set one of them for a part of the paths, or
/// from another host of the same domain.
const MAX_VALUES: usize = 8;

/// Header with which a browser forgets its cookies and storage for this server.
const CLEAR_SITE_DATA: &str = "clear-site-data";

/// Time in which the form has to arrive. Its sender has shown no credential.
const FORM_TIME: Duration = Duration::from_secs(10);

/// Maximum size of the form: a token, and a path.
const FORM_BYTES: usize = 16 << 10;

const NO_TOKEN: &str =
    "This is neither a token nor a link: a token begins with mtk_, and must be copied completely.";
const WRONG_TOKEN: &str =
    "This token is unknown, expired or revoked: ask an owner of the project for a new one.";
const ENDED: &str = "Your session has ended, or its token was revoked: sign in again.";
const SIGNED_OUT: &str = "You are signed out.";
const SESSION_LEFT: &str = "This browser is signed out. The server could not be told, and ends the session 12 hours after its \
                            last use.";
const LOOKUP_UNAVAILABLE: &str = "The token cannot be looked up at the moment: try again.";
const UNAVAILABLE: &str = "Signing in is not possible at the moment: try again.";
const CANCELED: &str = "The provider did not sign you in: sign in again.";
const FOREIGN_FORM: &str =
    "only pages of this server sign someone in or out: a proxy before the server must pass on Host";
const TOO_SLOW: &str = "The form did not arrive in time: try again.";
const TOO_LARGE: &str = "The form is too large: paste the token alone.";

/// The pages for signing in and out.
pub(crate) struct SignIn<'a> {
    services: &'a Services,
    /// `None`: anyone may do everything.
    callers: Option<&'a CallerCache>,
    place: Place<'a>,
    /// Whether the pages belong to another UI, such as Aim's.
    is_foreign_ui: bool,
}

/// The reason why a page is shown instead of the next page.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    message: String,
    /// The person whose sign-in is refused, if the person is known.
    principal: Option<String>,
    /// The page for which the browser began to sign in with a provider, if the page is known.
    next: Option<String>,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), principal: None, next: None }
    }

    /// Adds the id by which an operator finds the reason in the log.
    fn with_request_id(mut self) -> Self {
        self.message.push_str(&format!(" The id of this request is `{}`.", request_id::current()));
        self
    }
}

/// The refusal for a call that has started no session. The texts of the backend are for the person who signs
/// in.
impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let next = next_page(&status);
        let http = match (status.code(), product_code(&status)) {
            (Code::Unauthenticated, _) => StatusCode::UNAUTHORIZED,
            (Code::PermissionDenied, _) => StatusCode::FORBIDDEN,
            (Code::NotFound, _) => StatusCode::NOT_FOUND,
            (Code::InvalidArgument, _) | (_, Some(ProductCode::TooLarge)) => StatusCode::BAD_REQUEST,
            (_, Some(ProductCode::Unavailable)) => StatusCode::SERVICE_UNAVAILABLE,
            (code, _) => {
                tracing::warn!(?code, message = status.message(), "failed to sign a browser in");
                return Self { next, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE) };
            }
        };
        let principal = refused_principal(&status);
        Self { status: http, message: sentence(status.message()), principal, next }
    }
}

impl<'a> SignIn<'a> {
    /// `None` if the path is not a page for signing in or out.
    pub(crate) fn for_path(
        path: &str,
        services: &'a Services,
        callers: Option<&'a CallerCache>,
        base_path: &'a str,
        is_foreign_ui: bool,
    ) -> Option<Self> {
        let is_own = matches!(path, SIGN_IN | SIGN_OUT | CALLBACK | CODE) || path.starts_with(PROVIDER);
        is_own.then(|| {
            let place = Place::new(base_path, Scope::current().project_name());
            Self { services, callers, place, is_foreign_ui }
        })
    }

    pub(crate) async fn answer(&self, request: Request<Body>) -> Response {
        // A body cannot be shared between threads, so it is kept apart from what waits for calls.
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, ());
        let path = request.uri().path().to_owned();
        let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
        let is_writing = *request.method() == Method::POST;
        let mut response = match (self.callers, path.as_str()) {
            // No one has to sign in. The fragment of a link would be a part of the next address.
            (None, _) => redirect(&format!("{}#", self.place.destination(&next_of(query(&request)))), &[]),
            // Not even pages that may use the API sign their readers in or out, or allow a program.
            (Some(_), _) if is_writing && is_of_another_origin(&request) => {
                ApiError::new(StatusCode::FORBIDDEN, FOREIGN_FORM).into_response()
            }
            (Some(_), SIGN_IN) if is_reading => self.first_page(&request).await,
            (Some(callers), SIGN_IN) if is_writing => self.sign_in(callers, &request, body).await,
            (Some(_), SIGN_OUT) if is_writing => self.sign_out(&request).await,
            (Some(_), CALLBACK) if *request.method() == Method::GET => self.finish(&request).await,
            (Some(_), CODE) if is_reading => self.code_form(&request).await,
            (Some(_), CODE) if is_writing => self.type_code(&request, body).await,
            (Some(_), SIGN_IN | CODE) => not_allowed("GET, POST"),
            (Some(_), SIGN_OUT) => not_allowed("POST"),
            (Some(_), CALLBACK) => not_allowed("GET"),
            (Some(_), path) if *request.method() == Method::GET => {
                let provider = path.strip_prefix(PROVIDER).unwrap_or_default().to_owned();
                self.begin(provider, &request).await
            }
            (Some(_), _) => not_allowed("GET"),
        };
        let template = match path.as_str() {
            SIGN_IN => "/sign-in/",
            SIGN_OUT => "/sign-out/",
            CALLBACK => "/sign-in/callback/",
            CODE => "/sign-in/code/",
            _ => "/sign-in/with/{id}/",
        };
        response.extensions_mut().insert(PathTemplate(template.into()));
        response
    }

    async fn first_page(&self, request: &Request<()>) -> Response {
        let message = reason_of(query(request));
        let mut response = self.page(StatusCode::OK, message, &next_of(query(request))).await;
        if self.is_foreign_ui {
            // Aim's pages note in their storage that they are refreshing a token. After a failure they never
            // remove the note, and then never lead to this page again.
            response.headers_mut().insert(CLEAR_SITE_DATA, HeaderValue::from_static("\"storage\""));
        }
        response
    }

    async fn page(&self, status: StatusCode, message: &str, next: &str) -> Response {
        self.place.sign_in_page(self.services, Notice { status, message, next }).await
    }

    async fn refuse(&self, refusal: Refusal, next: &str) -> Response {
        let Refusal { status, message, principal, .. } = refusal;
        let mut response = self.page(status, &message, next).await;
        if let Some(principal) = principal {
            response.extensions_mut().insert(SignInRefused { principal });
        }
        response
    }

    /// Signs in with the token, or the secret of a one-time link, in the form.
    async fn sign_in(&self, callers: &CallerCache, request: &Request<()>, body: Body) -> Response {
        let hosts = host_names(request);
        let form = match read_form(body).await {
            Ok(form) => form,
            Err(refusal) => return self.refuse(refusal, "").await,
        };
        let next = next_of(&form);
        let text = parameter(&form, "token");
        let started = match (AccessToken::find(&text), BrowserSecret::find(SecretKind::Link, &text)) {
            (Some(token), _) => self.start_session(callers, &token, &next).await,
            (None, Some(link)) => self.open_link(&link, hosts).await.map(|session| (session, next.clone())),
            (None, None) => Err(Refusal::new(StatusCode::BAD_REQUEST, NO_TOKEN)),
        };
        match started {
            Ok((session, next)) => self.signed_in(request, session, &next, Vec::new()).await,
            Err(refusal) => self.refuse(refusal, &next).await,
        }
    }

    /// Starts a session with a token. Returns it with the page that follows.
    async fn start_session(
        &self,
        callers: &CallerCache,
        token: &AccessToken,
        next: &str,
    ) -> Result<(StartedSession, String), Refusal> {
        let digest = token.digest();
        let caller = match callers.find(Some(&digest)).await {
            Ok(Some(caller)) => caller,
            Ok(None) => return Err(Refusal::new(StatusCode::UNAUTHORIZED, WRONG_TOKEN)),
            Err(_) => return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, LOOKUP_UNAVAILABLE)),
        };
        let request = StartSessionRequest { token_digest: digest.0.to_vec().into() };
        let mut backend = self.services.backend().sign_in();
        let started = Box::pin(backend.start_session(request)).await?;
        let next = if next.is_empty() { self.only_project(&caller) } else { next.to_owned() };
        Ok((started.into_inner().session.unwrap_or_default(), next))
    }

    async fn open_link(&self, link: &BrowserSecret, hosts: Vec<String>) -> Result<StartedSession, Refusal> {
        let request = OpenLinkRequest { secret: link.reveal().to_owned(), hosts };
        let mut backend = self.services.backend().sign_in();
        let opened = Box::pin(backend.open_link(request)).await?;
        Ok(opened.into_inner().session.unwrap_or_default())
    }

    /// Sends a browser to a provider. Pages of other sites cannot make it go there.
    async fn begin(&self, provider: String, request: &Request<()>) -> Response {
        let next = next_of(query(request));
        let Some(authority) = browser_authority(request).filter(|_| !is_of_another_site(request)) else {
            return redirect(&format!("{}?next={}", self.place.path(SIGN_IN), parameter_value(&next)), &[]);
        };
        if let Some(shown) = contradicting_address(request, &authority) {
            let message = hidden_host(&shown, &authority);
            return self.refuse(Refusal::new(StatusCode::BAD_REQUEST, message), &next).await;
        }
        let is_https = is_https_page(request.headers(), request.extensions());
        let scheme = if is_https { "https" } else { "http" };
        let redirect_uri = format!("{scheme}://{authority}{}{CALLBACK}", self.place.base_path());
        let begin = BeginSignInRequest { provider, redirect_uri, next: shortened(&next).to_owned() };
        let mut backend = self.services.backend().sign_in();
        match Box::pin(backend.begin_sign_in(begin)).await {
            Ok(begun) => {
                let BeginSignInResponse { url, browser_secret, state } = begun.into_inner();
                let base_path = self.place.base_path();
                let own = BrowserCookie::sign_in(request, base_path, &state);
                let mut cookies = vec![own.set(&browser_secret, SIGN_IN_SECONDS)];
                let unfinished = BrowserCookie::unfinished(request, base_path);
                if unfinished.len() >= MAX_UNFINISHED {
                    cookies.extend(unfinished.iter().map(BrowserCookie::removed));
                }
                redirect(&url, &cookies)
            }
            Err(status) => self.refuse(status.into(), &next).await,
        }
    }

    /// Takes a browser back from a provider.
    async fn finish(&self, request: &Request<()>) -> Response {
        let answer = |name: &str| parameter(query(request), name);
        let state = answer("state");
        let own = BrowserCookie::sign_in(request, self.place.base_path(), &state);
        let browser_secrets = own.values(request).take(MAX_VALUES).map(str::to_owned).collect();
        let finish =
            FinishSignInRequest { state, code: answer("code"), issuer: answer("iss"), browser_secrets };
        let finished = if finish.code.is_empty() {
            Err(Refusal::new(StatusCode::BAD_REQUEST, CANCELED))
        } else {
            let mut backend = self.services.backend().sign_in();
            let finished = Box::pin(backend.finish_sign_in(finish)).await;
            finished.map_err(|status| Refusal::from(status).with_request_id())
        };
        match finished {
            Ok(finished) => {
                let finished = finished.into_inner();
                let session = finished.session.unwrap_or_default();
                // It was checked when the sign-in began, and has been encrypted since.
                let next = own_path(finished.next);
                self.signed_in(request, session, &next, vec![own.removed()]).await
            }
            Err(mut refusal) => {
                let next = own_path(refusal.next.take().unwrap_or_default());
                let mut response = self.refuse(refusal, &next).await;
                set_cookies(&mut response, &[own.removed()]);
                response
            }
        }
    }

    /// Gives a browser the secret of its session, and sends it to the next page. The session that the browser had before
    /// ends: a person who has copied its cookie must not keep the session.
    async fn signed_in(
        &self,
        request: &Request<()>,
        session: StartedSession,
        next: &str,
        mut cookies: Vec<String>,
    ) -> Response {
        let base_path = self.place.base_path();
        let StartedSession { principal, secret, lifetime_s } = session;
        cookies.push(BrowserCookie::session(request, base_path).set(&secret, lifetime_s));
        let mut response = redirect(&self.place.destination(next), &cookies);
        if let Some(secret) = BrowserSecret::parse(SecretKind::Session, &secret) {
            response.extensions_mut().insert(SignedIn { principal, session: secret.digest() });
        }
        if let Some(earlier) = read_session(request, base_path) {
            match self.end_session(earlier.digest()).await {
                Ok(Some(signed_out)) => drop(response.extensions_mut().insert(signed_out)),
                Ok(None) => {}
                Err(status) => tracing::warn!(%status, "failed to end the earlier session of a browser"),
            }
        }
        response
    }

    /// Ends a session. Returns whose it was, if it was valid.
    async fn end_session(&self, session: TokenDigest) -> Result<Option<SignedOut>, Status> {
        let request = EndSessionRequest { session_digest: session.0.to_vec().into() };
        let mut backend = self.services.backend().sign_in();
        let principal = Box::pin(backend.end_session(request)).await?.into_inner().principal;
        Ok((!principal.is_empty()).then_some(SignedOut { principal, session }))
    }

    async fn sign_out(&self, request: &Request<()>) -> Response {
        let forgotten = BrowserCookie::session(request, self.place.base_path()).removed();
        let target = format!("{}?reason={SIGN_OUT_REASON}", self.place.path(SIGN_IN));
        let ended = match read_session(request, self.place.base_path()) {
            None => Ok(None),
            Some(session) => self.end_session(session.digest()).await,
        };
        let mut response = match ended {
            Ok(signed_out) => {
                let mut response = redirect(&target, &[forgotten]);
                if let Some(signed_out) = signed_out {
                    response.extensions_mut().insert(signed_out);
                }
                response
            }
            Err(status) => {
                tracing::warn!(%status, "failed to end a session");
                let mut response = self.page(StatusCode::SERVICE_UNAVAILABLE, SESSION_LEFT, "").await;
                set_cookies(&mut response, &[forgotten]);
                response
            }
        };
        // Browsers cache media of runs for some minutes.
        response.headers_mut().insert(CLEAR_SITE_DATA, HeaderValue::from_static("\"cache\""));
        response
    }

    /// The start of the only project that a caller may know of, for the pages of the whole server; empty if there
    /// is no such project.
    fn only_project(&self, caller: &Caller) -> String {
        let mut known = caller.known_projects().into_iter().flatten();
        match (known.next(), known.next()) {
            (Some(project), None) if self.place.is_server() => {
                Place::new(self.place.base_path(), project).path("/")
            }
            _ => String::new(),
        }
    }
}

/// Sends a browser to the page for signing in, and back to a page of a project afterwards.
pub(crate) fn redirect_to_sign_in(base_path: &str, project: &str, path_and_query: &str) -> Response {
    let place = Place::new(base_path, project);
    let next = parameter_value(&place.path(path_and_query));
    redirect(&format!("{}?next={next}", place.path(SIGN_IN)), &[])
}

fn not_allowed(methods: &str) -> Response {
    ApiError::method_not_allowed(methods.to_owned()).into_response()
}

async fn read_form(body: Body) -> Result<Bytes, Refusal> {
    match timeout(FORM_TIME, Limited::new(body, FORM_BYTES).collect()).await {
        Ok(Ok(form)) => Ok(form.to_bytes()),
        Ok(Err(_)) => Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, TOO_LARGE)),
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, TOO_SLOW)),
    }
}

/// A text of the API as a sentence.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).chain(['.']).collect()
}

fn query(request: &Request<()>) -> &[u8] {
    request.uri().query().unwrap_or_default().as_bytes()
}

/// The page of this server that the browser asked for before signing in; empty if it asked for none.
fn next_of(form: &[u8]) -> String {
    own_path(parameter(form, "next"))
}

/// A path of this server; empty if the text is not one. A path that begins with two slashes would name
/// another server.
fn own_path(path: String) -> String {
    let is_own = path.starts_with('/')
        && !path[1..].starts_with(['/', '\\'])
        && path.bytes().all(|byte| byte.is_ascii_graphic());
    if is_own { path } else { String::new() }
}

/// The host and port that the browser shows, if the request names others because a proxy has replaced them.
/// The referrer is a page of this server if the browser says that the request is of the same origin.
fn contradicting_address(request: &Request<()>, named: &Authority) -> Option<Authority> {
    let text = |name: &str| request.headers().get(name)?.to_str().ok();
    text("sec-fetch-site").filter(|site| *site == "same-origin")?;
    let page: Uri = text("referer")?.parse().ok()?;
    if is_same_host(&page, named) { None } else { page.authority().cloned() }
}

/// The text for a request whose host a proxy has replaced. The provider would send the browser to an address that it
/// does not reach, or refuse the address.
fn hidden_host(shown: &Authority, named: &Authority) -> String {
    format!(
        "You are at {shown}, but the proxy in front of the server asks for {named}: signing in with a provider would lead there. An \
         operator has the proxy pass on the header Host, or set X-Forwarded-Host."
    )
}

/// The page as far as it fits into the cookie of a sign-in with a provider: whole, or without its query.
fn shortened(page: &str) -> &str {
    let whole = (page.len() <= NEXT_PAGE_BYTES).then_some(page);
    let path = page.split(['?', '#']).next().filter(|path| path.len() <= NEXT_PAGE_BYTES);
    whole.or(path).unwrap_or_default()
}

/// The text for the reason why a browser has come to the page; empty for every other reason.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::refusal_status;

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

    #[test]
    fn a_page_with_a_long_query_is_opened_without_it() {
        let fits = format!("/runs?q={}", "x".repeat(NEXT_PAGE_BYTES - 8));
        assert_eq!(shortened(&fits), fits);
        assert_eq!(shortened(&format!("{fits}x")), "/runs");
        assert_eq!(shortened(&format!("/{}?q", "x".repeat(NEXT_PAGE_BYTES))), "");
        assert_eq!(shortened(""), "");
    }

    #[test]
    fn an_error_of_a_backend_is_shown_if_it_is_for_the_person_who_signs_in() {
        let refused =
            |code, text: &str, metadata: &[(&str, &str)]| Refusal::from(refusal_status(code, text, metadata));
        let away = refused(ProductCode::Unavailable, "it does not answer: sign in with a token", &[]);
        assert_eq!(away.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(away.message, "It does not answer: sign in with a token.");
        let long = refused(ProductCode::TooLarge, "`code` has 5000 bytes", &[("field", "code")]);
        assert_eq!((long.status, long.message.as_str()), (StatusCode::BAD_REQUEST, "`code` has 5000 bytes."));
        let bob = refused(ProductCode::PermissionDenied, "he is disabled", &[("principal", "github:bob")]);
        assert_eq!((bob.status, bob.principal.as_deref()), (StatusCode::FORBIDDEN, Some("github:bob")));
        // Errors of the server are for its log.
        let broken = refused(ProductCode::Internal, "key 0x17 is damaged", &[]);
        assert_eq!((broken.status, broken.message.as_str()), (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE));
        let unreachable = Refusal::from(Status::unavailable("tcp connect error"));
        assert_eq!(unreachable.message, UNAVAILABLE);
    }

    #[test]
    fn texts_of_the_api_are_sentences() {
        assert_eq!(
            sentence("this link was used: ask for a new one"),
            "This link was used: ask for a new one."
        );
    }
}
