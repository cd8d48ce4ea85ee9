//! Signing in with a browser: from the first page to the last call.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use matyan_access::{AccessEvent, REVOCATION_TIME, Role, SignInOutcome};
use matyan_edge::{Edge, Settings, Ui};
use tempfile::TempDir;
use tokio::time::advance;

use super::access::{Events, OWN, TestCallers, Tester, closed_with, grpc_call};
use super::projects::Calls;
use super::sessions::{CODE, kept, link, state};
use super::ui::{NO_FILES, PAGE, bundle, settings};

const VIEWER: Tester = Tester::In(OWN, Role::Viewer);
const GET_RUN: &str = "/matyan.runs.v1.RunService/Get";

/// Statuses of a call: of the recorder, which implements nothing, and of the edge.
const REACHED: &str = "12";
const UNKNOWN_PROJECT: &str = "5";
const NOT_SIGNED_IN: &str = "16";

/// A browser with one page open.
struct Browser {
    edge: Edge,
    /// The files of its pages.
    _bundle: TempDir,
    cookies: BTreeMap<String, String>,
    /// Headers of all requests.
    headers: HeaderMap,
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Browser {
    fn open(base_path: &str) -> (Self, Calls, TestCallers) {
        Self::open_with(Settings::default(), base_path)
    }

    fn open_with(edge_settings: Settings, base_path: &str) -> (Self, Calls, TestCallers) {
        let (edge, calls, callers) = closed_with(edge_settings);
        let folder = bundle();
        let edge = edge.with_ui(Ui::open(&settings(&folder, base_path), &NO_FILES, &[]).unwrap());
        (Self { edge, _bundle: folder, cookies: BTreeMap::new(), headers: HeaderMap::new() }, calls, callers)
    }

    async fn send(&mut self, mut request: Request<Body>) -> Answer {
        request.headers_mut().extend(self.headers.clone());
        if request.method() == Method::POST && !request.headers().contains_key("origin") {
            request.headers_mut().entry("sec-fetch-site").or_insert("same-origin".parse().unwrap());
        }
        for (name, value) in &self.cookies {
            request.headers_mut().append("cookie", "theme=dark".parse().unwrap());
            request.headers_mut().append("cookie", format!("x=1; {name}={value}").parse().unwrap());
        }
        let (parts, body) = self.edge.answer(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        for set in parts.headers.get_all("set-cookie") {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn post(&mut self, path: &str, form: &str) -> Answer {
        let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(form.to_owned())).unwrap()).await
    }

    async fn sign_in(&mut self, tester: Tester) -> Answer {
        self.post("/sign-in", &format!("token={}", tester.token().unwrap().reveal())).await
    }

    /// The status of a call that reads a run.
    async fn call(&mut self, project: &str) -> String {
        let request = grpc_call(GET_RUN, Tester::Anonymous, project, "application/grpc-web+proto");
        let answer = self.send(request).await;
        answer.header("grpc-status").to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn rule_64_a_browser_signs_in_and_returns_to_its_page() {
    for base_path in ["", "/matyan"] {
        let (mut browser, calls, _) = Browser::open(base_path);
        let first = browser.get(&format!("{base_path}/p/speech/runs?q=run.x%20%3E%201&tab=a")).await;
        assert_eq!(first.status, StatusCode::SEE_OTHER);
        let expected = format!(
            "{base_path}/p/speech/sign-in?next={base_path}/p/speech/runs?q=run.x%2520%253E%25201%26tab=a"
        );
        assert_eq!(first.header("location"), expected);

        let page = browser.get(first.header("location")).await;
        assert_eq!((page.status, page.header("cache-control")), (StatusCode::OK, "no-store"));
        let text = page.text();
        assert!(text.contains(&format!("action=\"{base_path}/p/speech/sign-in\"")), "{text}");
        assert!(
            text.contains(&format!("value=\"{base_path}/p/speech/runs?q=run.x%20%3E%201&amp;tab=a\"")),
            "{text}"
        );
        let policy = page.header("content-security-policy");
        assert!(
            policy.contains("form-action 'self'") && policy.contains("script-src 'self' 'sha256-"),
            "{policy}"
        );

        let token = VIEWER.token().unwrap();
        let next = format!("{base_path}/p/speech/runs");
        let form = format!("next={next}&token=+{}%0A", token.reveal());
        let signed_in = browser.post(&format!("{base_path}/p/speech/sign-in"), &form).await;
        assert_eq!((signed_in.status, signed_in.header("location")), (StatusCode::SEE_OTHER, next.as_str()));
        let path = if base_path.is_empty() { "/" } else { base_path };
        let cookie = signed_in.header("set-cookie");
        assert!(cookie.starts_with("matyan=mts_") && !cookie.contains(token.reveal()), "{cookie}");
        let attributes = format!("; Max-Age=2592000; Path={path}; HttpOnly; SameSite=Lax");
        assert!(cookie.ends_with(&attributes), "{cookie}");

        assert_eq!(browser.get(&next).await.status, StatusCode::OK);
        assert_eq!(browser.call("speech").await, REACHED);
        assert_eq!(browser.call("vision").await, UNKNOWN_PROJECT);
        assert_eq!(calls.lock().unwrap().drain(..).count(), 1);
        let page = browser.get(&format!("{base_path}/sign-in")).await.text();
        assert!(
            page.contains("You are signed in as <b>service:test</b>") && !page.contains(token.reveal()),
            "{page}"
        );
        assert!(page.contains(&format!("<a href=\"{base_path}/\">Continue to Matyan</a>")), "{page}");
        let page = browser.get(&format!("{base_path}/p/speech/sign-in")).await.text();
        let link = format!("<a href=\"{base_path}/p/speech/\">Continue to speech</a>");
        assert!(page.contains(&link), "{page}");

        let session = browser.cookies["matyan"].clone();
        let signed_out = browser.post(&format!("{base_path}/sign-out"), "").await;
        // For at most this time, the server answers from memory.
        tokio::time::advance(REVOCATION_TIME).await;
        assert_eq!(signed_out.header("location"), format!("{base_path}/sign-in?reason=signed-out"));
        assert_eq!(signed_out.header("clear-site-data"), "\"cache\"");
        assert_eq!(browser.cookies.len(), 0);
        assert_eq!(browser.call("speech").await, NOT_SIGNED_IN);
        // Anyone who has copied the cookie is signed out as well.
        browser.cookies.insert("matyan".to_owned(), session);
        assert_eq!(browser.call("speech").await, NOT_SIGNED_IN);
    }
}

#[tokio::test]
async fn a_token_without_a_page_leads_to_the_start_of_the_project() {
    let (mut browser, _, _) = Browser::open("");
    let form = format!("token={}", VIEWER.token().unwrap().reveal());
    assert_eq!(browser.post("/p/speech/sign-in", &form).await.header("location"), "/p/speech/");
    let (mut browser, _, _) = Browser::open("/ui");
    // The only project of the caller.
    assert_eq!(browser.sign_in(VIEWER).await.header("location"), "/ui/p/speech/");
    assert_eq!(browser.sign_in(Tester::Operator).await.header("location"), "/ui/");
    assert_eq!(browser.get("/ui/").await.text(), PAGE.replace("\"\"", "\"/ui\""));
}

#[tokio::test]
async fn the_page_says_why_a_browser_has_to_sign_in() {
    let (mut browser, _, _) = Browser::open("");
    for (query, text) in [
        ("?reason=ended", "Your session has ended, or its token was revoked"),
        ("?next=%2Fruns&reason=signed-out", "You are signed out."),
    ] {
        let page = browser.get(&format!("/sign-in{query}")).await.text();
        assert!(page.contains(text), "{page}");
    }
    // Only texts of this server are shown.
    let page = browser.get("/sign-in?reason=Send+your+password").await.text();
    assert!(!page.contains("id=\"notice\"") && !page.contains("Send your password"), "{page}");
}

#[tokio::test]
async fn rule_64_a_wrong_token_signs_no_one_in() {
    let (mut browser, _, callers) = Browser::open("");
    let stranger = Tester::Stranger.token().unwrap();
    for (form, status, problem) in [
        (String::new(), StatusCode::BAD_REQUEST, "neither a token nor a link"),
        ("token=mtk_x".to_owned(), StatusCode::BAD_REQUEST, "neither a token nor a link"),
        (
            format!("token={}&next=\"><b>", stranger.reveal()),
            StatusCode::UNAUTHORIZED,
            "unknown, expired or revoked",
        ),
        (format!("token={}", "x".repeat(20_000)), StatusCode::PAYLOAD_TOO_LARGE, "too large"),
    ] {
        let answer = browser.post("/sign-in", &form).await;
        assert_eq!(answer.status, status, "{form}");
        let text = answer.text();
        assert!(
            text.contains(problem) && !text.contains("\"><b>") && !text.contains(stranger.reveal()),
            "{text}"
        );
        assert_eq!(browser.cookies.len(), 0);
    }
    callers.0.lock().unwrap().is_away = true;
    let answer = browser.sign_in(VIEWER).await;
    assert_eq!((answer.status, browser.cookies.len()), (StatusCode::SERVICE_UNAVAILABLE, 0));
    let answer = browser.get("/sign-out").await;
    assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
}

#[tokio::test(start_paused = true)]
async fn a_browser_whose_token_has_ended_signs_in_again() {
    let (mut browser, _, callers) = Browser::open("");
    browser.sign_in(VIEWER).await;
    callers.0.lock().unwrap().is_revoked = true;
    advance(REVOCATION_TIME).await;
    assert_eq!(browser.get("/p/speech/").await.status, StatusCode::SEE_OTHER);
    assert_eq!(browser.call("speech").await, NOT_SIGNED_IN);
    // The files of the page are public, however the session ended.
    assert_eq!(browser.get("/static-files/static/js/main.js").await.status, StatusCode::OK);
    callers.0.lock().unwrap().is_away = true;
    advance(REVOCATION_TIME).await;
    // The page says that the rights cannot be looked up, and tries again.
    assert_eq!(browser.get("/p/speech/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn rule_65_a_cookie_of_http_is_not_one_of_https() {
    let (mut browser, _, _) = Browser::open("");
    browser.sign_in(VIEWER).await;
    browser.headers.insert("x-forwarded-proto", "https".parse().unwrap());
    assert_eq!(browser.call("speech").await, NOT_SIGNED_IN);
    let signed_in = browser.sign_in(VIEWER).await;
    let cookie = signed_in.header("set-cookie");
    assert!(cookie.starts_with("__Host-matyan=mts_") && cookie.ends_with("; Secure"), "{cookie}");
    assert_eq!(browser.call("speech").await, REACHED);
}

/// The proxy says nothing about the scheme that browsers use.
#[tokio::test]
async fn rule_65_behind_a_proxy_for_tls_the_cookie_is_one_of_https() {
    for (base_path, prefix, path) in [("", "__Host-", "/"), ("/matyan", "__Secure-", "/matyan")] {
        let allowed_hosts = vec!["tracker.example".to_owned()];
        let settings = Settings { is_behind_tls_proxy: true, allowed_hosts, ..Settings::default() };
        let (mut browser, _, _) = Browser::open_with(settings, base_path);
        browser.headers.insert("host", "tracker.example:8443".parse().unwrap());
        let signed_in = browser.sign_in(VIEWER).await;
        let cookie = signed_in.header("set-cookie");
        let expected = format!("; Max-Age=2592000; Path={path}; HttpOnly; SameSite=Lax; Secure");
        assert!(cookie.starts_with(&format!("{prefix}matyan-8443=mts_")), "{cookie}");
        assert!(cookie.ends_with(&expected), "{cookie}");
        assert_eq!(browser.call("speech").await, REACHED);
    }
}

/// Such a link opens a page, and causes no searches and downloads.
#[tokio::test]
async fn rule_65_a_link_of_another_site_does_not_call_the_api() {
    let (mut browser, calls, _) = Browser::open("");
    browser.sign_in(VIEWER).await;
    assert_eq!(browser.get("/p/speech/api/v1/rest/projects/").await.status, StatusCode::NOT_IMPLEMENTED);
    assert_eq!(calls.lock().unwrap().drain(..).count(), 1);
    for (name, value) in
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]
    {
        browser.headers.insert(name, value.parse().unwrap());
    }
    for path in ["/p/speech/api/v1/rest/projects/", "/p/speech//api/v1/rest/runs/search/run/?q="] {
        assert_eq!(browser.get(path).await.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    // Other trackers have APIs outside of it.
    let mut paths = Vec::new();
    if cfg!(feature = "mlflow") {
        paths.push("/p/speech/ajax-api/2.0/mlflow/metrics/get-history?run_id=r&metric_key=loss");
        paths.push("/p/speech/ajax-api/3.0/mlflow-artifacts/artifacts/a");
    }
    if cfg!(feature = "wandb") {
        paths.push("/p/speech/files/me/speech/r/huge.ckpt");
    }
    for path in paths {
        let status = browser.get(path).await.status;
        assert!(!status.is_success(), "{path}: {status}");
    }
    assert_eq!(browser.get("/p/speech/").await.status, StatusCode::OK);
    assert_eq!(calls.lock().unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_form_that_does_not_arrive_is_refused() {
    let (mut browser, _, _) = Browser::open("");
    let body = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
    let answer = browser.send(Request::post("/sign-in").body(body).unwrap()).await;
    assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT);
}

/// Shared caches may store what is answered to a cookie.
#[tokio::test]
async fn answers_for_one_caller_are_private() {
    let (mut browser, _, _) = Browser::open("");
    browser.sign_in(VIEWER).await;
    let answer = browser.get("/p/speech/api/v1/rest/projects/").await;
    assert_eq!(answer.header("cache-control"), "private, no-cache");
    let page = browser.get("/p/speech/").await;
    assert_eq!(page.header("cross-origin-opener-policy"), "same-origin");
}

#[tokio::test]
async fn rule_65_pages_of_others_do_nothing_with_a_cookie() {
    let settings = Settings { cors_origins: vec!["http://ui.example".to_owned()], ..Settings::default() };
    let (mut browser, calls, _) = Browser::open_with(settings, "");
    browser.sign_in(VIEWER).await;
    for (name, value) in
        [("origin", "http://evil.example"), ("origin", "null"), ("sec-fetch-site", "same-site")]
    {
        browser.headers.insert(name, value.parse().unwrap());
        assert_ne!(browser.call("speech").await, REACHED, "{name} {value}");
        assert_eq!(browser.post("/sign-out", "").await.status, StatusCode::FORBIDDEN, "{name} {value}");
        assert_eq!(browser.sign_in(Tester::Operator).await.status, StatusCode::FORBIDDEN, "{name} {value}");
        browser.headers.clear();
    }
    // The browser does not say which page sends the request.
    browser.headers.insert("sec-fetch-site", "none".parse().unwrap());
    assert_ne!(browser.call("speech").await, REACHED);
    let answer = browser.post("/sign-out", "").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.text().contains("does not say which page sends it"), "{}", answer.text());
    assert_eq!(browser.get("/p/speech/").await.status, StatusCode::OK, "nobody was signed out");
    browser.headers.clear();
    // A page whose origin may use the server has no session there, on any path.
    assert_eq!(browser.get("/openapi.json").await.status, StatusCode::OK);
    browser.headers.insert("origin", "http://ui.example".parse().unwrap());
    assert_eq!(browser.get("/openapi.json").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(browser.post("/sign-out", "").await.status, StatusCode::FORBIDDEN);
    browser.headers.clear();
    assert_eq!(calls.lock().unwrap().len(), 0);
    // A token in a header is the one that counts.
    let stranger = format!("Bearer {}", Tester::Stranger.token().unwrap().reveal());
    browser.headers.insert("authorization", stranger.parse().unwrap());
    assert_eq!(browser.get("/p/speech/").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn rule_82_a_token_in_a_cookie_and_a_session_in_a_header_are_nothing() {
    let (mut browser, _, _) = Browser::open("");
    browser.cookies.insert("matyan".to_owned(), VIEWER.token().unwrap().reveal().to_owned());
    assert_eq!(browser.call("speech").await, NOT_SIGNED_IN);
    browser.sign_in(VIEWER).await;
    let session = browser.cookies.remove("matyan").unwrap();
    browser.headers.insert("authorization", format!("Bearer {session}").parse().unwrap());
    assert_eq!(browser.get("/p/speech/").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn signing_out_works_while_the_session_cannot_be_ended() {
    let (mut browser, _, callers) = Browser::open("");
    browser.sign_in(VIEWER).await;
    callers.0.lock().unwrap().is_away = true;
    let answer = browser.post("/sign-out", "").await;
    assert_eq!((answer.status, browser.cookies.len()), (StatusCode::SERVICE_UNAVAILABLE, 0));
    assert!(answer.text().contains("This browser is signed out."), "{}", answer.text());
}

#[tokio::test]
async fn rule_83_a_link_signs_a_browser_in_once() {
    let (mut browser, _, _) = Browser::open("");
    browser.headers.insert("host", "localhost:8443".parse().unwrap());
    let link = link();
    // What people paste, or what the page takes from the fragment of a link.
    let form =
        format!("next=/p/speech/runs&token=http://localhost:8443/p/speech/sign-in%23{}", link.reveal());
    let opened = browser.post("/p/speech/sign-in", &form).await;
    assert_eq!((opened.status, opened.header("location")), (StatusCode::SEE_OTHER, "/p/speech/runs"));
    assert!(opened.header("set-cookie").starts_with("matyan-8443=mts_"), "{}", opened.header("set-cookie"));
    assert_eq!(browser.call("speech").await, REACHED);
    let (status, text) = {
        let again = browser.post("/sign-in", &format!("token={}", link.reveal())).await;
        (again.status, again.text())
    };
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(text.contains("This link was used already.") && !text.contains(link.reveal()), "{text}");
    // A link is no token.
    browser.cookies.clear();
    browser.headers.insert("authorization", format!("Bearer {}", link.reveal()).parse().unwrap());
    assert_eq!(browser.get("/p/speech/").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn rule_85_a_browser_signs_in_with_a_provider_and_returns_to_its_page() {
    for base_path in ["", "/matyan"] {
        let (mut browser, _, callers) = Browser::open(base_path);
        browser.headers.insert("host", "localhost:8443".parse().unwrap());
        let page = browser
            .get(&format!("{base_path}/p/speech/sign-in?next={base_path}/p/speech/runs?q=a"))
            .await
            .text();
        let link = format!("href=\"{base_path}/sign-in/with/github?next={base_path}/p/speech/runs?q=a\"");
        assert!(page.contains(&link) && page.contains("Sign in with GitHub &lt;b&gt;</a>"), "{page}");
        assert!(!page.contains("autofocus"), "the token is the second choice: {page}");
        assert!(page.contains("This link signs you in to the project <b>speech</b>, once."), "{page}");
        let begun =
            browser.get(&format!("{base_path}/sign-in/with/github?next={base_path}/p/speech/runs?q=a")).await;
        let state = state(0);
        let address = format!("https://id.example/?state={}", state.reveal());
        assert_eq!((begun.status, begun.header("location")), (StatusCode::SEE_OTHER, address.as_str()));
        let cookie = begun.header("set-cookie");
        let id = state.digest().id();
        let expected = format!("matyan-sign-in-{id}-8443={}; Max-Age=600; ", kept(0));
        assert!(cookie.starts_with(&expected) && cookie.ends_with("; HttpOnly; SameSite=Lax"), "{cookie}");
        let (redirect_uri, next) = callers.0.lock().unwrap().begun.clone().unwrap();
        assert_eq!(redirect_uri, format!("http://localhost:8443{base_path}/sign-in/callback"));
        assert_eq!(next, format!("{base_path}/p/speech/runs?q=a"));

        // The provider sends the browser back, by a link of another site.
        for (name, value) in
            [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]
        {
            browser.headers.insert(name, value.parse().unwrap());
        }
        let answer = callback(base_path, 0);
        let finished = browser.get(&answer).await;
        assert_eq!((finished.status, finished.header("location")), (StatusCode::SEE_OTHER, next.as_str()));
        assert_eq!(browser.cookies.keys().collect::<Vec<_>>(), ["matyan-8443"], "its secret is gone");
        browser.headers.remove("sec-fetch-site");
        assert_eq!(browser.call("speech").await, REACHED);
        let again = browser.get(&answer).await;
        assert_eq!(again.status, StatusCode::UNAUTHORIZED, "an answer can be used once");
    }
}

/// The path to which the provider sends a browser back, with the state of a sign-in.
fn callback(base_path: &str, number: usize) -> String {
    let state = state(number);
    format!("{base_path}/sign-in/callback?code=c&state={}&iss=https%3A%2F%2Fid.example", state.reveal())
}

#[tokio::test]
async fn rule_85_two_tabs_sign_in_at_the_same_time() {
    let (mut browser, _, _) = Browser::open("");
    browser.headers.insert("host", "localhost".parse().unwrap());
    let name = |number| format!("matyan-sign-in-{}", state(number).digest().id());
    browser.get("/sign-in/with/github?next=/p/speech/a").await;
    browser.get("/sign-in/with/github?next=/p/speech/b").await;
    // A cookie of the same name, which comes first. `send` sends the cookies of the browser after it.
    let other = format!("{}=mtb_other", name(0));
    browser.headers.insert("cookie", other.parse().unwrap());
    let first = browser.get(&callback("", 0)).await;
    assert_eq!((first.status, first.header("location")), (StatusCode::SEE_OTHER, "/p/speech/a"));
    browser.headers.clear();
    browser.headers.insert("host", "localhost".parse().unwrap());
    let second = browser.get(&callback("", 1)).await;
    assert_eq!((second.status, second.header("location")), (StatusCode::SEE_OTHER, "/p/speech/b"));
    assert_eq!(browser.cookies.keys().collect::<Vec<_>>(), ["matyan"]);
    // Starting again and again does not fill the browser with cookies.
    for _ in 0..20 {
        browser.get("/sign-in/with/github").await;
        let waiting = browser.cookies.keys().filter(|name| name.starts_with("matyan-sign-in-")).count();
        assert!((1..=4).contains(&waiting), "{waiting}");
    }
    // The cookie of the last sign-in is among them.
    assert!(browser.cookies.contains_key(&name(21)));
}

#[tokio::test]
async fn a_provider_that_is_away_leaves_the_token() {
    let (mut browser, _, _) = Browser::open("");
    browser.headers.insert("host", "localhost".parse().unwrap());
    let answer = browser.get("/sign-in/with/away").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().contains("try again, or sign in with a token."), "{}", answer.text());
}

/// Otherwise the provider would refuse the address, or send the browser to a name that it cannot resolve.
#[tokio::test]
async fn a_proxy_that_hides_its_host_is_noticed_before_the_provider_is_asked() {
    let allowed_hosts = vec!["backend".to_owned(), "tracker.example".to_owned()];
    let settings = Settings { allowed_hosts, ..Settings::default() };
    let (mut browser, _, callers) = Browser::open_with(settings, "");
    for (name, value) in [
        ("host", "backend:53800"),
        ("sec-fetch-site", "same-origin"),
        ("referer", "https://tracker.example/sign-in?next=/"),
    ] {
        browser.headers.insert(name, value.parse().unwrap());
    }
    let refused = browser.get("/sign-in/with/github").await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    let text = refused.text();
    assert!(text.contains("You are at tracker.example") && text.contains("asks for backend:53800"), "{text}");
    assert_eq!(callers.0.lock().unwrap().begun, None);
    browser.headers.insert("x-forwarded-host", "tracker.example".parse().unwrap());
    browser.headers.insert("x-forwarded-proto", "https".parse().unwrap());
    assert_eq!(browser.get("/sign-in/with/github").await.status, StatusCode::SEE_OTHER);
    let (redirect_uri, _) = callers.0.lock().unwrap().begun.clone().unwrap();
    assert_eq!(redirect_uri, "https://tracker.example/sign-in/callback");
    // Someone who has typed the address has no page to compare it with.
    browser.headers.remove("x-forwarded-host");
    browser.headers.remove("referer");
    assert_eq!(browser.get("/sign-in/with/github").await.status, StatusCode::SEE_OTHER);
}

/// An operator sees that someone who was disabled tries again.
#[tokio::test]
async fn rule_80_a_refused_person_is_reported_by_name() {
    let (mut browser, _, _) = Browser::open("");
    let events = Arc::new(Events::default());
    browser.edge = browser.edge.with_access_observer(events.clone());
    browser.headers.insert("host", "localhost".parse().unwrap());
    browser.get("/sign-in/with/github?next=/p/speech/runs?q=a").await;
    let answer = browser.get(&callback("", 0).replace("code=c", "code=disabled")).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let text = answer.text();
    // Another try leads to the same page.
    assert!(text.contains("href=\"/sign-in/with/github?next=/p/speech/runs?q=a\""), "{text}");
    assert!(text.contains("name=\"next\" value=\"/p/speech/runs?q=a\""), "{text}");
    let id = answer.header("x-request-id");
    let problem =
        format!("<code>github:bob</code> is disabled. The id of this request is <code>{id}</code>.");
    assert!(text.contains(&problem), "{text}");
    let reported = std::mem::take(&mut *events.0.lock().unwrap());
    let [AccessEvent::SignIn(attempt)] = &reported[..] else { panic!("{reported:?}") };
    assert_eq!((attempt.principal.as_str(), attempt.outcome), ("github:bob", SignInOutcome::PersonRefused));
}

/// An operator can distinguish someone who tries tokens on a page from a script with an old token.
#[tokio::test]
async fn rule_80_a_refused_form_is_no_refused_credential() {
    let (mut browser, _, _) = Browser::open("");
    let events = Arc::new(Events::default());
    browser.edge = browser.edge.with_access_observer(events.clone());
    assert_eq!(browser.sign_in(Tester::Stranger).await.status, StatusCode::UNAUTHORIZED);
    browser.send(grpc_call(GET_RUN, Tester::Stranger, OWN, "application/grpc-web+proto")).await;
    let reported = std::mem::take(&mut *events.0.lock().unwrap());
    let outcomes = reported.iter().map(|event| match event {
        AccessEvent::SignIn(attempt) => (attempt.principal.as_str(), attempt.outcome),
        other => panic!("{other:?}"),
    });
    let expected = [SignInOutcome::PageRefused, SignInOutcome::CredentialRefused];
    assert_eq!(outcomes.collect::<Vec<_>>(), expected.map(|outcome| ("", outcome)));
}

#[tokio::test(start_paused = true)]
async fn rule_82_signing_in_again_ends_the_earlier_session() {
    let (mut browser, _, callers) = Browser::open("");
    let events = Arc::new(Events::default());
    browser.edge = browser.edge.with_access_observer(events.clone());
    browser.sign_in(VIEWER).await;
    let copied = browser.cookies["matyan"].clone();
    browser.sign_in(Tester::Operator).await;
    assert_eq!(callers.0.lock().unwrap().sessions.len(), 1);
    let reported = std::mem::take(&mut *events.0.lock().unwrap());
    assert!(
        matches!(&reported[..], [AccessEvent::SignIn(_), AccessEvent::SignOut(_), AccessEvent::SignIn(_)]),
        "{reported:?}"
    );
    assert_eq!(browser.call("speech").await, REACHED);
    advance(REVOCATION_TIME).await;
    browser.cookies.insert("matyan".to_owned(), copied);
    assert_eq!(browser.call("speech").await, NOT_SIGNED_IN);
    // The new session begins also while the earlier one cannot be ended.
    browser.sign_in(VIEWER).await;
    callers.0.lock().unwrap().ends_nothing = true;
    assert_eq!(browser.sign_in(VIEWER).await.status, StatusCode::SEE_OTHER);
    assert_eq!(browser.call("speech").await, REACHED);
}

#[tokio::test]
async fn rule_85_nobody_is_signed_in_to_the_account_of_another() {
    let (mut browser, _, callers) = Browser::open("");
    browser.headers.insert("host", "localhost".parse().unwrap());
    browser.get("/sign-in/with/github").await;
    // Someone else's answer, in a browser that has begun another sign-in, or under another name.
    let name = format!("matyan-sign-in-{}", state(0).digest().id());
    let own = browser.cookies.insert(name.clone(), "mtb_other".to_owned());
    assert_eq!(own, Some(kept(0)));
    browser.cookies.insert("matyan-sign-in-".to_owned(), kept(0));
    let refused = browser.get(&callback("", 0)).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(!browser.cookies.contains_key("matyan"));
    let refused = browser.get("/sign-in/callback?code=c&state=s&iss=https%3A%2F%2Fid.example").await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    // The provider did not sign anyone in.
    browser.cookies.insert(name.clone(), kept(0));
    let refused =
        browser.get(&format!("/sign-in/callback?error=access_denied&state={}", state(0).reveal())).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.text().contains("The provider did not sign you in"), "{}", refused.text());
    assert!(!browser.cookies.contains_key(&name), "the sign-in is over");
    assert_eq!(browser.get("/sign-in/with/nobody").await.status, StatusCode::NOT_FOUND);
    // A page of another site cannot send a browser to the provider.
    callers.0.lock().unwrap().begun = None;
    for (name, value) in
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]
    {
        browser.headers.insert(name, value.parse().unwrap());
    }
    let sent = browser.get("/sign-in/with/github?next=/runs").await;
    assert_eq!((sent.status, sent.header("location")), (StatusCode::SEE_OTHER, "/sign-in?next=/runs"));
    assert_eq!(callers.0.lock().unwrap().begun, None);
}

#[tokio::test]
async fn rule_121_a_code_is_typed_by_someone_who_has_signed_in_and_answered_once() {
    for base_path in ["", "/matyan"] {
        let (mut browser, _, callers) = Browser::open(base_path);
        let page = format!("{base_path}/p/speech/sign-in/code");
        let form = format!("code={CODE}&answer=allow");
        for answer in [browser.get(&page).await, browser.post(&page, &form).await] {
            assert_eq!(answer.status, StatusCode::SEE_OTHER);
            let expected = format!("{base_path}/p/speech/sign-in?next={page}");
            assert_eq!(answer.header("location"), expected);
        }
        let token = VIEWER.token().unwrap();
        let signed_in =
            browser.post(&format!("{base_path}/sign-in"), &format!("token={}", token.reveal())).await;
        assert_eq!(signed_in.status, StatusCode::SEE_OTHER);

        let empty = browser.get(&format!("{page}?code={CODE}")).await;
        assert_eq!((empty.status, empty.header("cache-control")), (StatusCode::OK, "no-store"));
        assert!(empty.header("content-security-policy").contains("form-action 'self'"));
        let text = empty.text();
        assert!(text.contains(&format!("action=\"{page}\"")) && !text.contains("{{"), "{text}");
        assert!(!text.contains(CODE), "no link fills the code in: {text}");

        let wrong = browser.post(&page, "code=XXXX-XXXX").await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
        assert!(wrong.text().contains("No program waits for this code."), "{}", wrong.text());
        assert!(callers.0.lock().unwrap().answered_logins.is_empty());

        let asked = browser.post(&page, &format!("code={CODE}")).await;
        let text = asked.text();
        assert_eq!(asked.status, StatusCode::OK);
        for shown in ["laptop &lt;b&gt;", "10.0.0.7", "all of your roles", "30 days", CODE] {
            assert!(text.contains(shown), "{shown}: {text}");
        }
        assert!(callers.0.lock().unwrap().answered_logins.is_empty(), "showing it answers nothing");

        let refused = browser.post(&page, &format!("code={CODE}&answer=refuse")).await;
        assert!(refused.text().contains("gets no token"), "{}", refused.text());
        let allowed = browser.post(&page, &form).await;
        assert!(allowed.text().contains("is signed in as service:test"), "{}", allowed.text());
        assert_eq!(callers.0.lock().unwrap().answered_logins, [false, true]);
        let delete = Request::delete(&page).header("sec-fetch-site", "same-origin");
        let deleted = browser.send(delete.body(Body::empty()).unwrap()).await;
        assert_eq!(deleted.status, StatusCode::METHOD_NOT_ALLOWED);
    }
}

/// Aim's pages note in their storage that they refresh a token, and never lead to signing in again while it is there.
#[tokio::test]
async fn the_page_for_signing_in_clears_the_storage_of_another_ui() {
    let (mut browser, _, _) = Browser::open("");
    assert_eq!(browser.get("/sign-in").await.header("clear-site-data"), "\"storage\"");
    let refreshed = browser.post("/api/auth/refresh", "").await;
    assert_ne!(refreshed.status, StatusCode::OK, "pages would take any answer for a token");
}

#[tokio::test]
async fn rule_121_pages_of_other_origins_answer_no_code() {
    let (mut browser, _, callers) = Browser::open("");
    browser.sign_in(VIEWER).await;
    for (name, value) in [("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")] {
        browser.headers.clear();
        browser.headers.insert(name, value.parse().unwrap());
        let answer = browser.post("/sign-in/code", &format!("code={CODE}&answer=allow")).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{name}");
    }
    assert!(callers.0.lock().unwrap().answered_logins.is_empty());
}

#[tokio::test]
async fn rule_121_a_token_in_a_header_answers_no_code() {
    let (mut browser, _, callers) = Browser::open("");
    let authorization = format!("Bearer {}", VIEWER.token().unwrap().reveal());
    browser.headers.insert("authorization", authorization.parse().unwrap());
    let answer = browser.post("/sign-in/code", &format!("code={CODE}&answer=allow")).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert!(callers.0.lock().unwrap().answered_logins.is_empty());
}
