//! A browser UI on the port of the API: which requests get a file, the page, or an error.

use std::fs;
use std::os::unix::fs::symlink;

use axum::body::{Body, Bytes};
use http::Request;
use http_body_util::BodyExt;
use include_dir::{Dir, DirEntry, File};
use matyan_edge::{Edge, Metrics, Settings, Transport, Ui, UiError, UiSettings};
use tempfile::TempDir;

use super::backend::Backend;

pub(super) const PAGE: &str = "<script>window.API_BASE_PATH=\"\"</script>";

/// The files in a program that was built without the UI.
pub(super) static NO_FILES: Dir<'_> = Dir::new("", &[]);

const SCRIPT: &str = "export default 1;\n";

/// The files in a program that was built with the UI; `gzip --no-name` wrote the script.
static FILES: Dir<'_> =
    Dir::new("", &[DirEntry::File(File::new("index.html", INDEX)), DirEntry::Dir(ASSETS)]);
const INDEX: &[u8] =
    b"<base href=\"{{ base_path }}/static-files/\"><script src=\"./assets/main-1a2b.js\"></script>";
const ASSETS: Dir<'_> = Dir::new(
    "assets",
    &[
        DirEntry::File(File::new("assets/main-1a2b.js.gz", COMPRESSED)),
        DirEntry::File(File::new("assets/figure-3c4d.html.gz", COMPRESSED)),
    ],
);
const COMPRESSED: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03K\xad(\xc8/*QHIMK,\xcd)Q0\xb4\xe6\x02\x00\xeaJ\x106\x12\x00\x00\x00";

/// A bundle, next to a file that must not be served.
pub(super) fn bundle() -> TempDir {
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

pub(super) fn settings(folder: &TempDir, base_path: &str) -> UiSettings {
    UiSettings { dir: Some(folder.path().join("build")), base_path: base_path.into(), ..Default::default() }
}

fn edge(folder: &TempDir, base_path: &str) -> Edge {
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let backend = Transport::new(Backend::default());
    let ui = Ui::open(&settings(folder, base_path), &NO_FILES, &[]).unwrap();
    matyan_edge::query(Settings::default(), metrics, backend, None).with_ui(ui)
}

fn embedded(files: &'static Dir<'static>, base_path: &str) -> Edge {
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let settings = UiSettings { base_path: base_path.into(), ..Default::default() };
    let ui = Ui::open(&settings, files, &["https://notebooks.example".to_owned()]).unwrap();
    matyan_edge::query(Settings::default(), metrics, Transport::new(Backend::default()), None).with_ui(ui)
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: String,
    bytes: Bytes,
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
    let bytes = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8_lossy(&bytes).into_owned();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body, bytes }
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

/// A browser that was signed in before access control was turned off.
#[tokio::test]
async fn without_access_control_no_one_signs_in() {
    let folder = bundle();
    for (path, target) in [
        ("/sign-in?next=/ui/p/team/runs", "/ui/p/team/runs#"),
        ("/ui/sign-in", "/ui/#"),
        ("/ui/p/team/sign-in?next=//evil.example", "/ui/p/team/#"),
    ] {
        let answer = get(&edge(&folder, "/ui"), path).await;
        assert_eq!((answer.status, answer.header("location")), (303, target), "{path}");
        assert_eq!(answer.header("set-cookie"), "");
    }
}

#[tokio::test]
async fn each_project_has_its_page() {
    let folder = bundle();
    for (base_path, path) in
        [("", "/p/team"), ("", "/p/team/runs/abc"), ("/ui", "/ui/p/team/"), ("/ui", "/p/team/")]
    {
        let edge = edge(&folder, base_path);
        let answer = get(&edge, path).await;
        let expected = format!("<script>window.API_BASE_PATH=\"{base_path}/p/team\"</script>");
        assert_eq!((answer.status, answer.body), (200, expected), "{path}");
        let policy = answer.headers["content-security-policy"].to_str().unwrap().to_owned();
        assert_ne!(
            policy,
            get(&edge, "/").await.header("content-security-policy"),
            "it has the hash of the page"
        );
    }
    let edge = edge(&folder, "");
    assert_eq!(get(&edge, "/p/team/static-files/static/js/main.js").await.body, "plain");
    assert_eq!(get(&edge, "/p/team/api/boards").await.status, 404);
    let metrics = send(&edge, "GET", "/p/team/metrics", &[("accept", "text/html")]).await;
    assert!(metrics.body.contains("/p/team"), "{}", metrics.body);
    // Characters that could end an attribute or a script.
    for path in ["/p/%22%3E/", "/p/'/", "/p/%3C/runs"] {
        assert_eq!(get(&edge, path).await.status, 404, "{path}");
    }
    let embedded = embedded(&FILES, "/ui");
    assert!(get(&embedded, "/ui/p/team/").await.body.contains("<base href=\"/ui/p/team/static-files/\">"));
}

#[tokio::test]
async fn pages_run_only_their_own_scripts() {
    let folder = bundle();
    let edge = edge(&folder, "");
    for path in ["/", "/runs/abc", "/static-files/static/js/main.js"] {
        let policy = get(&edge, path).await.header("content-security-policy").to_owned();
        assert!(policy.contains("script-src 'self' 'sha256-"), "{path}: {policy}");
        assert!(!policy.contains("unsafe-eval"), "{path}: {policy}");
    }
    let metrics = send(&edge, "GET", "/metrics", &[("accept", "text/html")]).await;
    assert!(metrics.header("content-security-policy").contains("script-src 'self'"), "{:?}", metrics.headers);
    let data = get(&edge, "/health/live/").await;
    assert!(data.header("content-security-policy").ends_with("sandbox"), "{:?}", data.headers);

    let with_reports = UiSettings { allows_report_code: true, ..settings(&folder, "") };
    let framed_by = ["https://notebooks.example".to_owned()];
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let open = matyan_edge::query(Settings::default(), metrics, Transport::new(Backend::default()), None)
        .with_ui(Ui::open(&with_reports, &NO_FILES, &framed_by).unwrap());
    let policy = get(&open, "/").await.header("content-security-policy").to_owned();
    assert!(policy.contains("'unsafe-eval' https://cdn.jsdelivr.net"), "{policy}");
    assert!(policy.ends_with("frame-ancestors 'self' https://notebooks.example"), "{policy}");
}

#[tokio::test]
async fn a_page_is_not_served_under_a_foreign_name() {
    let folder = bundle();
    let edge = edge(&folder, "");
    for path in ["/", "/static-files/static/js/main.js", "/metrics", "/docs", "/health/live"] {
        for headers in [
            [("host", "evil.example:53800"), ("accept", "text/html")],
            [("host", "evil.example"), ("accept", "*/*")],
        ] {
            let answer = send(&edge, "GET", path, &headers).await;
            assert_eq!(answer.status, 421, "{path}: {}", answer.body);
            assert!(
                answer.body.contains("evil.example") && answer.body.contains("MATYAN_ALLOWED_HOSTS"),
                "{}",
                answer.body
            );
        }
        assert_eq!(send(&edge, "GET", path, &[("host", "localhost:53800")]).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn scrapers_get_metrics_and_browsers_get_the_page() {
    let folder = bundle();
    let edge = edge(&folder, "");
    let check = async |path: &str, accept: &str, expected: &str| {
        let answer = send(&edge, "GET", path, &[("accept", accept)]).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, expected), "{path} {accept}");
    };
    let page = "text/html; charset=utf-8";
    let text = "text/plain; version=0.0.4; charset=utf-8";
    check("/metrics", "text/html,application/xhtml+xml,*/*;q=0.8", page).await;
    check("/metrics?select=x", "text/html", page).await;
    check("/metrics", "application/openmetrics-text;q=0.9,text/plain;q=0.5,*/*;q=0.1", text).await;
    check("/metrics/", "text/html", text).await;
    check("/metrics", "*/*", text).await;
}

/// An ingress does not see the paths below a base path, or below the prefix of a project.
#[tokio::test]
async fn rule_77_the_operators_services_are_closed_under_a_closed_name() {
    let folder = bundle();
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let hosts = vec!["matyan.example".to_owned()];
    let own = Settings { allowed_hosts: hosts.clone(), closed_hosts: hosts, ..Settings::default() };
    let edge = matyan_edge::query(own, metrics, Transport::new(Backend::default()), None)
        .with_ui(Ui::open(&settings(&folder, "/base"), &NO_FILES, &[]).unwrap());
    let closed = [
        [("host", "Matyan.example:443"), ("accept", "*/*")],
        [("host", "10.0.0.7"), ("x-forwarded-host", "matyan.example.")],
    ];
    for prefix in ["", "/base", "/p/speech", "/base/p/speech"] {
        for name in closed {
            let answer = send(&edge, "GET", &format!("{prefix}/metrics/"), &name).await;
            assert_eq!(answer.status, 403, "{prefix}: {}", answer.body);
            assert!(answer.body.contains("MATYAN_CLOSED_HOSTS"), "{}", answer.body);
            for method in ["matyan.backup.v1.BackupService/WriteRun", "matyan.admin.v1.AdminService/ListJobs"]
            {
                let headers = [name.as_slice(), &[("content-type", "application/grpc")]].concat();
                let answer = send(&edge, "POST", &format!("{prefix}/{method}"), &headers).await;
                assert_eq!((answer.status, answer.header("grpc-status")), (403, "7"), "{prefix} {method}");
            }
        }
    }
    // Others, and the page and its usage under that name, are open.
    let page = [("host", "matyan.example"), ("accept", "text/html")];
    assert_eq!(send(&edge, "GET", "/base/metrics", &page).await.status, 200);
    assert_eq!(send(&edge, "GET", "/metrics", &[("host", "10.0.0.7:53800")]).await.status, 200);
    let grpc = [("content-type", "application/grpc"), ("host", "matyan.example")];
    let usage = send(&edge, "POST", "/matyan.admin.v1.AdminService/Usage", &grpc).await;
    assert_ne!(usage.header("grpc-status"), "7", "{:?}", usage.headers);
    let grpc = [("content-type", "application/grpc"), ("host", "localhost:53800")];
    let jobs = send(&edge, "POST", "/matyan.admin.v1.AdminService/ListJobs", &grpc).await;
    assert_ne!(jobs.header("grpc-status"), "7", "{:?}", jobs.headers);
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
async fn paths_under_a_base_path_work_like_paths_without_one() {
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
        matches!(Ui::open(&settings(&folder, ""), &NO_FILES, &[]), Err(UiError::UnknownVariable(name)) if name == "version")
    );
    fs::remove_file(dir.join("index-template.html")).unwrap();
    assert!(
        Ui::open(&settings(&folder, ""), &NO_FILES, &[]).is_ok(),
        "without a template, index.html is the page"
    );
    fs::remove_file(dir.join("index.html")).unwrap();
    assert!(matches!(Ui::open(&settings(&folder, ""), &NO_FILES, &[]), Err(UiError::NoIndex(_))));
    fs::remove_dir_all(&dir).unwrap();
    assert!(matches!(Ui::open(&settings(&folder, ""), &NO_FILES, &[]), Err(UiError::Unreadable { .. })));
}

#[tokio::test]
async fn embedded_files_are_compressed_and_never_change() {
    let edge = embedded(&FILES, "");
    let main = "/static-files/assets/main-1a2b.js";
    for (offer, encoding, bytes) in [("gzip, br", "gzip", COMPRESSED), ("br", "", SCRIPT.as_bytes())] {
        let answer = send(&edge, "GET", main, &[("accept-encoding", offer)]).await;
        assert_eq!((answer.status, &answer.bytes[..]), (200, bytes), "{offer}");
        assert_eq!(answer.header("content-encoding"), encoding);
        assert_eq!(answer.header("content-length"), bytes.len().to_string());
        assert_eq!(answer.header("content-type"), "text/javascript; charset=utf-8");
        assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("vary"), "Accept-Encoding");
    }
    let head = send(&edge, "HEAD", main, &[("accept-encoding", "gzip")]).await;
    assert_eq!((head.status, head.header("content-length")), (200, &*COMPRESSED.len().to_string()));
    assert!(head.bytes.is_empty());
    for name in
        ["assets", "assets/main-1a2b.js.gz", "index.html", "assets/../assets/main-1a2b.js", "%2e%2e/x"]
    {
        assert_eq!(get(&edge, &format!("/static-files/{name}")).await.status, 404, "{name}");
    }
}

#[tokio::test]
async fn the_embedded_page_loads_nothing_from_elsewhere() {
    let edge = embedded(&FILES, "/team/ui");
    for path in ["/", "/team/ui/runs/abc?tab=params"] {
        let page = get(&edge, path).await;
        assert!(page.body.starts_with("<base href=\"/team/ui/static-files/\">"), "{path}: {}", page.body);
        assert_eq!(page.header("cache-control"), "no-cache");
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'self';"), "{policy}");
        assert!(policy.ends_with("frame-ancestors 'self' https://notebooks.example"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
    assert_eq!(get(&edge, "/api/nothing").await.status, 404);
}

#[tokio::test]
async fn the_page_of_figures_is_a_sandbox_of_its_own() {
    let edge = embedded(&FILES, "");
    let figure = get(&edge, "/p/team/static-files/assets/figure-3c4d.html").await;
    assert_eq!((figure.status, figure.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = figure.header("content-security-policy");
    assert_eq!(
        policy,
        "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
         img-src data:; font-src data:; media-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'self' https://notebooks.example"
    );
    let page = get(&edge, "/").await;
    for path in ["/static-files/assets/main-1a2b.js", "/static-files/assets/figure-3c4d.html.gz"] {
        let answer = get(&edge, path).await;
        assert_eq!(
            answer.header("content-security-policy"),
            page.header("content-security-policy"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn without_embedded_files_the_page_says_how_to_get_them() {
    let page = get(&embedded(&NO_FILES, ""), "/runs").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.body.contains("make ui-build") && page.body.contains("href=\"/docs\""), "{}", page.body);
}
