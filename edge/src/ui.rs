//! A browser UI that was built elsewhere: its files, and its index page for every path that is no other's.
//! The page is rendered once, when the process starts; files are read when they are asked for, in pieces, and never from
//! outside the directory: the operating system resolves their paths below it, so that no `..` and no link leads out.

mod file;
mod template;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Uri, header};

use crate::edge::with_path;
use crate::error::ApiError;
use crate::rest::table::PathTemplate;

/// Where pages of the bundle find its files.
const FILES: &str = "/static-files/";

/// Never a page: whoever calls the API wants to know that a route does not exist.
const API: &str = "/api";

/// The page of the bundle's metrics explorer, and that of Prometheus.
const METRICS: &str = "/metrics";

/// The index page, by the order in which it is looked for: bundles of Aim ship both, and `index.html` is half rendered.
const INDEXES: [&str; 2] = ["index-template.html", "index.html"];

/// What is served, and what its index page is told.
#[derive(Clone, Default)]
pub struct UiSettings {
    pub dir: PathBuf,
    /// Below which path a proxy shows this server: empty, or `/a/b` without a slash at the end.
    pub base_path: String,
    /// Below which path of the host the API is found. Bundles of Aim know it themselves.
    pub api_base_path: String,
    /// Scheme and host of the API; empty: those of the page.
    pub api_host_base: String,
    /// Sent by the browser as a bearer token.
    pub api_auth_token: String,
}

/// Without the token.
impl fmt::Debug for UiSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dir, base_path, api_base_path, api_host_base, api_auth_token: _ } = self;
        f.debug_struct("UiSettings")
            .field("dir", dir)
            .field("base_path", base_path)
            .field("api_base_path", api_base_path)
            .field("api_host_base", api_host_base)
            .finish_non_exhaustive()
    }
}

/// Why a directory cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum UiError {
    #[error(
        "the UI directory {} holds neither index-template.html nor index.html: \
         name the folder of a built bundle (`make ui` fetches one and tells where it is)",
        .0.display()
    )]
    NoIndex(PathBuf),
    #[error("the UI directory {} cannot be read", dir.display())]
    Unreadable { dir: PathBuf, source: io::Error },
    #[error(
        "the UI's index page has the variable `{0}`, which nobody sets: the bundle is for another server"
    )]
    UnknownVariable(String),
    #[error(
        "the UI's setting {0} has a character that a page cannot hold: use letters, digits and -._~:/@+=%"
    )]
    BadValue(&'static str),
}

/// A bundle that is served. Cheap to clone.
#[derive(Clone)]
pub struct Ui(Arc<Bundle>);

struct Bundle {
    dir: Arc<Dir>,
    base_path: String,
    page: Bytes,
}

impl Ui {
    /// Renders the index page. Files that are replaced later are served as they then are; the page is not.
    pub fn open(settings: &UiSettings) -> Result<Self, UiError> {
        let unreadable = |source| UiError::Unreadable { dir: settings.dir.clone(), source };
        let dir = Dir::open_ambient_dir(&settings.dir, ambient_authority()).map_err(unreadable)?;
        let mut page = None;
        for name in INDEXES {
            match dir.read_to_string(name) {
                Ok(text) => page = page.or(Some(text)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
        let page = page.ok_or_else(|| UiError::NoIndex(settings.dir.clone()))?;
        let page = template::render(&page, settings)?.into();
        Ok(Ui(Arc::new(Bundle { dir: Arc::new(dir), base_path: settings.base_path.clone(), page })))
    }

    /// The path behind the base path. Proxies may cut it or leave it; other paths stay as they are.
    pub(crate) fn below_base(&self, uri: &Uri) -> Uri {
        let Some(rest) = uri.path().strip_prefix(&self.0.base_path) else { return uri.clone() };
        if self.0.base_path.is_empty() || !(rest.is_empty() || rest.starts_with('/')) {
            return uri.clone();
        }
        with_path(uri, if rest.is_empty() { "/" } else { rest })
    }

    /// Whether a browser asks for the page under a path that a scraper asks for, too. Scrapers want no HTML.
    pub(crate) fn shadows(&self, request: &Request<Body>) -> bool {
        let accepts = request.headers().get(header::ACCEPT).and_then(|it| it.to_str().ok());
        is_reading(request.method())
            && request.uri().path() == METRICS
            && accepts.is_some_and(|it| it.contains("text/html"))
    }

    /// Answers a request that no route has taken.
    pub(crate) async fn answer(&self, request: &Parts) -> Response {
        let path = request.uri.path();
        let is_api = path.strip_prefix(API).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if is_api || !is_reading(&request.method) {
            return ApiError::no_route().into_response();
        }
        let (mut response, template) = match path.strip_prefix(FILES) {
            Some(name) => {
                let is_versioned = is_versioned(&request.uri);
                let asked = file::Asked { name, is_versioned, headers: &request.headers };
                (file::answer(&self.0.dir, asked).await, "/static-files/{id}/")
            }
            None => (self.page(), "/{id}/"),
        };
        if request.method == Method::HEAD {
            *response.body_mut() = Body::empty();
        }
        response.extensions_mut().insert(PathTemplate(template.into()));
        response
    }

    /// Asked for anew each time: it names the versions of everything else.
    pub(crate) fn page(&self) -> Response {
        let mut response = Response::new(Body::from(self.0.page.clone()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        headers.insert(header::CONTENT_LENGTH, self.0.page.len().into());
        response
    }
}

fn is_reading(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// What `version` names never changes: another version has another URL.
fn is_versioned(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("version=")))
}
