//! A browser UI: its files, and its index page for every path without a route. The page of the
//! default project is rendered once, when the process starts. The files are in the binary, or in a directory
//! with another UI.

mod embedded;
mod file;
mod template;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Uri, header};
use include_dir::Dir as EmbeddedDir;
use matyan_proto::common::v1::Access;
use tonic::Code;

use crate::error::ApiError;
use crate::project::{self, PREFIX, RequestProject};
use crate::rest::router::PathTemplate;
use crate::scope::Scope;
use crate::security_headers::{OPENER_OWN, OPENER_POLICY, PagePermissions, page_policy, sandbox_policy};
use crate::sign_in::redirect_to_sign_in;
use crate::uri_path::{API, with_path};

/// Path prefix under which pages of the bundle find its files.
const FILES_PREFIX: &str = "/static-files/";

/// Start and end of the name of the page that draws logged figures, without its hash.
const FIGURE_PAGE: (&str, &str) = ("assets/figure-", ".html");

/// Path of the bundle's metrics explorer, and also of the Prometheus metrics.
pub(crate) const METRICS_PATH: &str = "/metrics";

/// File names of the index page, in order of preference: bundles of Aim contain both, and
/// `index.html` is only partly rendered.
const INDEX_FILES: [&str; 2] = ["index-template.html", "index.html"];

/// The UI to serve, and the variables of its index page.
#[derive(Clone, Default)]
pub struct UiSettings {
    /// A directory; absent: the UI in the binary.
    pub dir: Option<PathBuf>,
    /// Path under which a proxy exposes this server: empty, or `/a/b` without a trailing
    /// slash.
    pub base_path: String,
    /// Path of the API on its host. Bundles of Aim have it built in.
    pub api_base_path: String,
    /// Scheme and host of the API; empty: the same as the page's.
    pub api_host_base: String,
    /// Sent by the browser as a bearer token.
    pub api_auth_token: String,
    /// Whether pages may run the code in reports.
    pub allows_report_code: bool,
}

/// Omits the token.
impl fmt::Debug for UiSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dir, base_path, api_base_path, api_host_base, api_auth_token: _, allows_report_code } =
            self;
        f.debug_struct("UiSettings")
            .field("dir", dir)
            .field("base_path", base_path)
            .field("api_base_path", api_base_path)
            .field("api_host_base", api_host_base)
            .field("allows_report_code", allows_report_code)
            .finish_non_exhaustive()
    }
}

/// Reasons why a directory cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum UiError {
    #[error(
        "the UI directory {} contains neither index-template.html nor index.html: \
         name the folder of a built bundle (`make ui` downloads one and prints its path)",
        .0.display()
    )]
    NoIndex(PathBuf),
    #[error("failed to read the UI directory {}", dir.display())]
    Unreadable { dir: PathBuf, source: io::Error },
    #[error("the UI's index page has the unknown variable `{0}`: the bundle was built for another server")]
    UnknownVariable(String),
    #[error(
        "the UI's setting {0} has a character that is not allowed in a page: use letters, digits and -._~:/@+=%"
    )]
    BadValue(&'static str),
}

/// A bundle to serve. Cheap to clone.
#[derive(Clone)]
pub struct Ui(Arc<Bundle>);

struct Bundle {
    files: Files,
    settings: UiSettings,
    /// Origins whose pages may show the page in a frame.
    framed_by: Vec<String>,
    template: String,
    page: Page,
    figure_policy: HeaderValue,
}

/// The index page of a project, with its policy.
#[derive(Clone)]
struct Page {
    content: Bytes,
    policy: HeaderValue,
}

enum Files {
    Embedded(&'static EmbeddedDir<'static>),
    Directory(Arc<Dir>),
}

impl Ui {
    /// Opens the bundle and renders the index page. Pages of `framed_by` may show it in a frame.
    pub fn open(
        settings: &UiSettings,
        embedded: &'static EmbeddedDir<'static>,
        framed_by: &[String],
    ) -> Result<Self, UiError> {
        let (files, template) = match &settings.dir {
            Some(dir) => {
                let (dir, template) = Self::open_directory(dir)?;
                (Files::Directory(Arc::new(dir)), template)
            }
            None => (Files::Embedded(embedded), embedded::index(embedded).to_owned()),
        };
        let page = Page::render(&template, settings, framed_by)?;
        let figure_policy = sandbox_policy(framed_by);
        let settings = settings.clone();
        let framed_by = framed_by.to_vec();
        Ok(Ui(Arc::new(Bundle { files, settings, framed_by, template, page, figure_policy })))
    }

    /// Opens a directory and reads its index page. Files that are replaced later are served in
    /// their new version, but the page is not.
    fn open_directory(path: &Path) -> Result<(Dir, String), UiError> {
        let unreadable = |source| UiError::Unreadable { dir: path.to_owned(), source };
        let dir = Dir::open_ambient_dir(path, ambient_authority()).map_err(unreadable)?;
        let mut page = None;
        for name in INDEX_FILES {
            match dir.read_to_string(name) {
                // The first name in the list takes precedence, but every file is checked for
                // errors.
                Ok(text) => page = page.or(Some(text)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
        Ok((dir, page.ok_or_else(|| UiError::NoIndex(path.to_owned()))?))
    }

    /// Removes the base path. Proxies may have removed it already; other paths are kept as
    /// they are.
    pub(crate) fn strip_base_path(&self, uri: &Uri) -> Uri {
        let base_path = &self.0.settings.base_path;
        let Some(rest) = uri.path().strip_prefix(base_path) else { return uri.clone() };
        if base_path.is_empty() || !(rest.is_empty() || rest.starts_with('/')) {
            return uri.clone();
        }
        with_path(uri, if rest.is_empty() { "/" } else { rest })
    }

    /// Returns whether a browser requests the page under a path that scrapers also request.
    /// Scrapers do not accept HTML.
    pub(crate) fn wants_metrics_page(&self, request: &Request<Body>) -> bool {
        let accepts = request.headers().get(header::ACCEPT).and_then(|it| it.to_str().ok());
        is_reading(request.method())
            && request.uri().path() == METRICS_PATH
            && accepts.is_some_and(|it| it.contains("text/html"))
    }

    /// Answers a request that matches no route.
    pub(crate) async fn answer(&self, request: &Parts) -> Response {
        let path = request.uri.path();
        // API clients need to see that a route does not exist.
        let is_api = path.strip_prefix(API).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if is_api || !is_reading(&request.method) {
            return ApiError::no_route().into_response();
        }
        let (mut response, template) = match path.strip_prefix(FILES_PREFIX) {
            Some(name) => {
                let mut response = self.file(name, request).await;
                // Workers have the policy of their script.
                let policy = if is_figure_page(name) { &self.0.figure_policy } else { &self.0.page.policy };
                response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy.clone());
                (response, "/static-files/{id}/")
            }
            None => {
                let project = project::of_headers(&request.headers);
                (self.page_or_sign_in(&request.uri, &project).await, "/{id}/")
            }
        };
        // HEAD gets the headers of GET, without the body.
        if request.method == Method::HEAD {
            *response.body_mut() = Body::empty();
        }
        response.extensions_mut().insert(PathTemplate(template.into()));
        response
    }

    async fn file(&self, name: &str, request: &Parts) -> Response {
        let headers = &request.headers;
        match self.0.files {
            Files::Embedded(files) => embedded::answer(files, name, headers).await,
            Files::Directory(ref dir) => {
                let is_versioned = is_versioned(&request.uri);
                file::answer(dir, file::FileRequest { name, is_versioned, headers }).await
            }
        }
    }

    /// Whether the UI is not our own, such as Aim's.
    pub(crate) fn is_foreign(&self) -> bool {
        matches!(self.0.files, Files::Directory(_))
    }

    /// Path under which a proxy exposes this server, without a trailing slash.
    pub(crate) fn base_path(&self) -> &str {
        &self.0.settings.base_path
    }

    /// Returns the index page of a project, or sends a browser that has no right there to sign in.
    pub(crate) async fn page_or_sign_in(&self, uri: &Uri, project: &RequestProject) -> Response {
        match Scope::current().check(Access::Caller).await {
            Err(status) if status.code() == Code::Unauthenticated => {
                let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
                redirect_to_sign_in(self.base_path(), project::name(project.as_ref()), path)
            }
            // The page says what is wrong.
            Ok(_) | Err(_) => self.page(project),
        }
    }

    /// Returns the index page of a project, revalidated on each request because it names the
    /// versions of all other files. Its links and its calls start with the project.
    fn page(&self, project: &RequestProject) -> Response {
        let Some(page) = self.page_of(project) else { return ApiError::not_found().into_response() };
        let mut response = Response::new(Body::from(page.content.clone()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        headers.insert(header::CONTENT_LENGTH, page.content.len().into());
        headers.insert(header::CONTENT_SECURITY_POLICY, page.policy);
        headers.insert(OPENER_POLICY, OPENER_OWN);
        response
    }

    /// `None` if no project can have this name.
    fn page_of(&self, project: &RequestProject) -> Option<Page> {
        let Some(project) = project else { return Some(self.0.page.clone()) };
        let mut settings = self.0.settings.clone();
        settings.base_path.push_str(PREFIX);
        settings.base_path.push_str(project.to_str().ok()?);
        Page::render(&self.0.template, &settings, &self.0.framed_by).ok()
    }
}

impl Page {
    fn render(template: &str, settings: &UiSettings, framed_by: &[String]) -> Result<Self, UiError> {
        let content = template::render(template, settings)?;
        let UiSettings { dir, api_host_base, allows_report_code, .. } = settings;
        let policy = match dir {
            Some(_) => {
                let permissions = PagePermissions {
                    api_host: api_host_base,
                    allows_report_code: *allows_report_code,
                    framed_by,
                };
                page_policy(&content, permissions)
            }
            None => embedded::policy(framed_by),
        };
        Ok(Self { content: content.into(), policy })
    }
}

fn is_figure_page(name: &str) -> bool {
    let (begin, end) = FIGURE_PAGE;
    name.starts_with(begin) && name.ends_with(end)
}

fn is_reading(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The content of a URL with a `version` never changes: a different version has a different
/// URL.
fn is_versioned(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("version=")))
}
