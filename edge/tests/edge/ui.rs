//! A browser UI on the port of the API: which requests get a file, the page, or an error.

use std::fs;
use std::os::unix::fs::symlink;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use matyan_edge::{Edge, Metrics, Settings, Transport, Ui, UiError, UiSettings};
use tempfile::TempDir;

use super::backend::Backend;

const PAGE: &str = "<script>window.API_BASE_PATH=\"\"</script>";

/// A bundle, next to a file that must not be served.
fn bundle() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("build");
    fs::create_dir_all(dir.join("static/js")).unwrap();
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    write("index-template.html", "<script>window.API_BASE_PATH=\"{{ base_path }}\"</script>");
    write("index.html", "half rendered");
    write("static/js/main.js", "plain");
    write("static/js/main.js.gz", "gzipped");
    write("static/js/main.js.br", "brotli");
    write("static/js/a~b c.css", "css");
    write(".secret", "hidden");
    fs::write(folder.path().join("outside.txt"), "outside").unwrap();
    symlink("../outside.txt", dir.join("out.txt")).unwrap();
    symlink("static/js/main.js", dir.join("in.js")).unwrap();
    folder
}

fn settings(folder: &TempDir, base_path: &str) -> UiSettings {
    UiSettings { dir: folder.path().join("build"), base_path: base_path.into(), ..Default::default() }
}

fn edge(folder: &TempDir, base_path: &str) -> Edge {
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let backend = Transport::new(Backend::default());
    let ui = Ui::open(&settings(folder, base_path)).unwrap();
    matyan_edge::query(Settings::default(), metrics, backend, None).with_ui(ui)
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn send(edge: &Edge, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (parts, body) = edge.answer(request.body(Body::empty()).unwrap()).await.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body: String::from_utf8(body).unwrap() }
}

async fn get(edge: &Edge, path: &str) -> Answer {
    send(edge, "GET", path, &[]).await
}

#[tokio::test]
async fn paths_without_a_route_return_the_page() {
    let folder = bundle();
    let edge = edge(&folder, "");
    for path in ["/", "/runs", "/runs/abc/params", "/metrics-x", "/apix", "/experiments/?search=a"] {
        let answer = get(&edge, path).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, PAGE), "{path}");
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(answer.header("cache-control"), "no-cache");
    }
    for path in ["/api/boards", "/api/v1/rest/experiments/search=x/y", "/api/", "/static-files/gone.js"] {
        let answer = get(&edge, path).await;
        assert_eq!((answer.status, answer.header("content-type")), (404, "application/json"), "{path}");
    }
    assert_eq!(send(&edge, "POST", "/runs", &[]).await.status, 404);
    let head = send(&edge, "HEAD", "/", &[]).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), PAGE.len().to_string());
    assert_eq!(get(&edge, "/health/live").await.header("content-type"), "application/json");
}

#[tokio::test]
async fn scrapers_get_metrics_and_browsers_get_the_page() {
    let folder = bundle();
    let edge = edge(&folder, "");
    let check = async |path: &str, accept: &str, expected: &str| {
        let answer = send(&edge, "GET", path, &[("accept", accept)]).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, expected), "{path} {accept}");
    };
    let (page, text) = ("text/html; charset=utf-8", "text/plain; version=0.0.4; charset=utf-8");
    check("/metrics", "text/html,application/xhtml+xml,*/*;q=0.8", page).await;
    check("/metrics?select=x", "text/html", page).await;
    check("/metrics", "application/openmetrics-text;q=0.9,text/plain;q=0.5,*/*;q=0.1", text).await;
    check("/metrics/", "text/html", text).await;
    check("/metrics", "*/*", text).await;
}

#[tokio::test]
async fn files_are_served_in_the_best_encoding() {
    let folder = bundle();
    let edge = edge(&folder, "");
    let main = "/static-files/static/js/main.js";
    for (offer, encoding, body) in
        [("gzip, br", "br", "brotli"), ("gzip", "gzip", "gzipped"), ("identity", "", "plain")]
    {
        let answer = send(&edge, "GET", main, &[("accept-encoding", offer)]).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, body), "{offer}");
        assert_eq!(answer.header("content-encoding"), encoding);
        assert_eq!(answer.header("content-type"), "text/javascript; charset=utf-8");
        assert_eq!(answer.header("content-length"), body.len().to_string());
        let vary: Vec<_> = answer.headers.get_all("vary").iter().collect();
        assert_eq!(vary, ["Accept-Encoding", "Origin"]);
    }
    let css = get(&edge, "/static-files/static/js/a~b%20c.css").await;
    assert_eq!((css.status, css.header("content-type")), (200, "text/css; charset=utf-8"));
    assert_eq!(send(&edge, "HEAD", main, &[]).await.body, "");
}

#[tokio::test]
async fn unchanged_files_are_cached_by_browsers() {
    let folder = bundle();
    let edge = edge(&folder, "");
    let main = "/static-files/static/js/main.js";
    let versioned = get(&edge, &format!("{main}?version=7")).await;
    assert_eq!(versioned.header("cache-control"), "public, max-age=31536000, immutable");
    let plain = get(&edge, main).await;
    assert_eq!(plain.header("cache-control"), "no-cache");
    let known = [("if-none-match", plain.header("etag"))];
    let again = send(&edge, "GET", main, &known).await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    let gzip = [known[0], ("accept-encoding", "gzip")];
    assert_eq!(send(&edge, "GET", main, &gzip).await.status, 200, "each encoding has its own tag");
    fs::write(folder.path().join("build/static/js/main.js"), "changed").unwrap();
    assert_eq!(send(&edge, "GET", main, &known).await.body, "changed");
}

#[tokio::test]
async fn nothing_outside_the_bundle_is_served() {
    let folder = bundle();
    let edge = edge(&folder, "");
    for name in [
        "../outside.txt",
        "%2e%2e/outside.txt",
        "..%2foutside.txt",
        "static/../../outside.txt",
        "out.txt",
        ".secret",
        "static",
        "static/js",
        "",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "main.js%00",
        "%ff",
    ] {
        let answer = get(&edge, &format!("/static-files/{name}")).await;
        assert!(answer.status == 404 || answer.body == PAGE, "{name}: {} {}", answer.status, answer.body);
    }
    assert_eq!(get(&edge, "/static-files/in.js").await.body, "plain", "a link inside the bundle is followed");
}

#[tokio::test]
async fn paths_under_a_base_path_work_as_without() {
    let folder = bundle();
    let edge = edge(&folder, "/team/ui");
    let page = PAGE.replace("\"\"", "\"/team/ui\"");
    for path in ["/team/ui", "/team/ui/", "/team/ui/runs?x=1", "/runs", "/team/uix"] {
        assert_eq!(get(&edge, path).await.body, page, "{path}");
    }
    assert_eq!(get(&edge, "/team/ui/static-files/static/js/main.js").await.body, "plain");
    for path in ["/team/ui/health/live/", "/health/live/"] {
        assert_eq!(get(&edge, path).await.body, "{\"status\":\"ok\"}", "{path}");
    }
}

#[test]
fn a_folder_without_a_bundle_is_rejected() {
    let folder = bundle();
    let dir = folder.path().join("build");
    fs::write(dir.join("index-template.html"), "{{ version }}").unwrap();
    assert!(
        matches!(Ui::open(&settings(&folder, "")), Err(UiError::UnknownVariable(name)) if name == "version")
    );
    fs::remove_file(dir.join("index-template.html")).unwrap();
    assert!(Ui::open(&settings(&folder, "")).is_ok(), "without a template, index.html is the page");
    fs::remove_file(dir.join("index.html")).unwrap();
    assert!(matches!(Ui::open(&settings(&folder, "")), Err(UiError::NoIndex(_))));
    fs::remove_dir_all(&dir).unwrap();
    assert!(matches!(Ui::open(&settings(&folder, "")), Err(UiError::Unreadable { .. })));
}
