//! The table of operations, and the lookup of the operation for a request.
//! It is used instead of a framework's method router because the table also generates the
//! OpenAPI description, answers 405 in the contract's error envelope, and does not treat HEAD
//! as GET.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use futures::future::BoxFuture;
use http::Method;

use super::call::{Call, Dialect};
use super::request_schema::RequestSchema;
use super::response_schema::ResponseSchema;
use crate::error::ApiError;
use crate::services::Services;

pub(crate) type Answer = Result<Response, ApiError>;
pub(crate) type Handler = fn(Arc<Services>, Call) -> BoxFuture<'static, Answer>;

/// Base path of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BasePath {
    /// Under `/`.
    Root,
    /// Under `/api/v1/rest`.
    Rest,
    /// Under `/api/v1/rest`, and also under `/api`.
    RestAndAim,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParameterKind {
    Text,
    Int,
    Bool,
    /// May be repeated.
    Texts,
}

/// A query parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) kind: ParameterKind,
    pub(crate) default: Option<&'static str>,
    pub(crate) required: bool,
}

impl Parameter {
    /// An optional parameter, with or without a default.
    pub(crate) const fn new(name: &'static str, kind: ParameterKind, default: Option<&'static str>) -> Self {
        Parameter { name, kind, default, required: false }
    }

    pub(crate) const fn required(name: &'static str, kind: ParameterKind) -> Self {
        Parameter { name, kind, default: None, required: true }
    }
}

/// The body that an operation takes.
#[derive(Debug)]
pub(crate) enum Input {
    None,
    Json(&'static RequestSchema),
    Raw,
}

/// The response of an operation if it succeeds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Output {
    Json(&'static ResponseSchema),
    /// Entries of the streaming codec.
    Bytes,
    /// Entries found by a query, with a header for warnings about the query.
    SearchResults,
    /// A file of any type.
    File,
    Zip,
    Text,
    Html,
    Nothing,
    /// No body; null with status 200 for the bundle of Aim, which parses JSON from every
    /// successful response.
    Deleted,
}

pub(crate) struct Operation {
    pub(crate) base: BasePath,
    pub(crate) method: Method,
    /// Relative to the base, without a trailing slash.
    pub(crate) path: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) query: Vec<Parameter>,
    pub(crate) input: Input,
    pub(crate) success: u16,
    pub(crate) output: Output,
    /// Whether dates in the query use the time zone from the caller's header.
    pub(crate) is_zoned: bool,
    /// Whether a 503 has the form of a successful response.
    pub(crate) may_be_unready: bool,
    /// Error statuses in addition to those common to all operations.
    pub(crate) failures: &'static [&'static str],
    /// Whether problems of the request are reported as a list in `detail`.
    pub(crate) lists_problems: bool,
    pub(crate) handler: Handler,
}

impl Operation {
    pub(crate) fn new(method: Method, path: &'static str, summary: &'static str, handler: Handler) -> Self {
        Operation {
            base: BasePath::RestAndAim,
            method,
            path,
            summary,
            query: Vec::new(),
            input: Input::None,
            success: 200,
            output: Output::Json(&ResponseSchema::Any),
            is_zoned: false,
            may_be_unready: false,
            failures: &[],
            lists_problems: false,
            handler,
        }
    }

    pub(crate) fn base(self, base: BasePath) -> Self {
        Operation { base, ..self }
    }

    pub(crate) fn query(self, query: &[Parameter]) -> Self {
        Operation { query: query.to_vec(), ..self }
    }

    pub(crate) fn json(self, schema: &'static RequestSchema) -> Self {
        Operation { input: Input::Json(schema), ..self }
    }

    pub(crate) fn raw(self) -> Self {
        Operation { input: Input::Raw, ..self }
    }

    pub(crate) fn success(self, success: u16) -> Self {
        Operation { success, ..self }
    }

    pub(crate) fn answers(self, schema: &'static ResponseSchema) -> Self {
        Operation { output: Output::Json(schema), ..self }
    }

    pub(crate) fn zoned(self) -> Self {
        Operation { is_zoned: true, ..self }
    }

    pub(crate) fn maybe_unready(self) -> Self {
        Operation { may_be_unready: true, ..self }
    }

    pub(crate) fn fails(self, failures: &'static [&'static str]) -> Self {
        Operation { failures, ..self }
    }

    pub(crate) fn listing_problems(self) -> Self {
        Operation { lists_problems: true, ..self }
    }

    pub(crate) fn output(self, output: Output) -> Self {
        Operation { output, ..self }
    }

    /// Full paths, each with its dialect.
    pub(crate) fn paths(&self) -> Vec<(String, Dialect)> {
        let bases: &[(&str, Dialect)] = match self.base {
            BasePath::Root => &[("", Dialect::Matyan)],
            BasePath::Rest => &[("/api/v1/rest", Dialect::Matyan)],
            BasePath::RestAndAim => &[("/api/v1/rest", Dialect::Matyan), ("/api", Dialect::Aim)],
        };
        bases.iter().map(|(base, dialect)| (format!("{base}{}", self.path), *dialect)).collect()
    }
}

/// The route that answered, used as a metrics label. Stored in the extensions of a response.
#[derive(Clone, Debug)]
pub(crate) struct PathTemplate(pub(crate) Arc<str>);

/// The operations of one path.
struct Route {
    template: PathTemplate,
    dialect: Dialect,
    operations: Vec<Arc<Operation>>,
}

/// Builds the routes of all operations.
pub(crate) fn router(operations: Vec<Operation>, services: &Arc<Services>) -> Router {
    let mut routes: BTreeMap<String, Route> = BTreeMap::new();
    for operation in operations.into_iter().map(Arc::new) {
        for (path, dialect) in operation.paths() {
            let route = routes.entry(path).or_insert_with_key(|path| Route {
                template: PathTemplate(template(path)),
                dialect,
                operations: Vec::new(),
            });
            route.operations.push(Arc::clone(&operation));
        }
    }
    routes.into_iter().fold(Router::new(), |router, (path, route)| {
        let (route, services) = (Arc::new(route), Arc::clone(services));
        let handler = move |request: Request| answer(Arc::clone(&route), Arc::clone(&services), request);
        // Methods are checked in `dispatch`, which answers 405 in the error envelope.
        router.route(&path, any(handler))
    })
}

async fn answer(route: Arc<Route>, services: Arc<Services>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answered = dispatch(&route, services, parts, body).await;
    let mut response = answered.unwrap_or_else(IntoResponse::into_response);
    response.extensions_mut().insert(route.template.clone());
    response
}

async fn dispatch(route: &Route, services: Arc<Services>, parts: http::request::Parts, body: Body) -> Answer {
    let Some(operation) = route.operations.iter().find(|operation| operation.method == parts.method) else {
        let methods: Vec<&str> = route.operations.iter().map(|operation| operation.method.as_str()).collect();
        return Err(ApiError::method_not_allowed(methods.join(", ")));
    };
    let call = Call::read(operation, route.dialect, parts, body).await?;
    (operation.handler)(services, call).await
}

/// The path with every variable segment replaced by `{id}`, and with a trailing slash.
fn template(path: &str) -> Arc<str> {
    let segments = path.split('/').map(|it| if it.starts_with('{') { "{id}" } else { it });
    let mut template = segments.collect::<Vec<_>>().join("/");
    template.push('/');
    template.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_contain_no_values() {
        let check = |path: &str, expected: &str| assert_eq!(&*template(path), expected);
        check("/health/live", "/health/live/");
        check("/api/runs/{run_id}/note/{note_id}", "/api/runs/{id}/note/{id}/");
        check("/api/v1/rest/blobs/{*key}", "/api/v1/rest/blobs/{id}/");
    }
}
