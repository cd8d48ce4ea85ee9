//! The router: finds the operation for a request. A framework's method router is not used because
//! the table of operations also generates the OpenAPI description, a wrong method is answered with
//! 405 in the contract's error envelope, and HEAD is not treated as GET.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::request::Parts;

use super::call::Dialect;
use super::operation::Operation;
use crate::answer_budget;
use crate::body_budget::{BodyShare, ConnectionBudget};
use crate::error::{ApiError, ApiResult};
use crate::scope::Scope;
use crate::services::Services;
use crate::unread_response::drop_if_unread;

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
pub(crate) fn build(operations: Vec<Operation>, services: &Arc<Services>) -> Router {
    let mut routes: BTreeMap<String, Route> = BTreeMap::new();
    for operation in operations.into_iter().map(Arc::new) {
        for (path, dialect) in operation.paths() {
            // A path has one dialect, given by its base.
            let route = routes.entry(path).or_insert_with_key(|path| Route {
                template: PathTemplate(template(path)),
                dialect,
                operations: Vec::new(),
            });
            route.operations.push(Arc::clone(&operation));
        }
    }
    routes.into_iter().fold(Router::new(), |router, (path, route)| {
        let route = Arc::new(route);
        let services = Arc::clone(services);
        // Methods are checked in `dispatch`, which answers 405 in the error envelope.
        router.route(&path, any(move |request| answer(Arc::clone(&route), Arc::clone(&services), request)))
    })
}

async fn answer(route: Arc<Route>, services: Arc<Services>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let answered = dispatch(&route, services, head, body).await;
    let mut response = answered.unwrap_or_else(IntoResponse::into_response);
    response.extensions_mut().insert(route.template.clone());
    response
}

async fn dispatch(route: &Route, services: Arc<Services>, head: Parts, body: Body) -> ApiResult<Response> {
    let Some(operation) = route.operations.iter().find(|operation| operation.method == head.method) else {
        let methods: Vec<&str> = route.operations.iter().map(|operation| operation.method.as_str()).collect();
        return Err(ApiError::method_not_allowed(methods.join(", ")));
    };
    // Before the body is read: it may be large.
    Scope::current().check(operation.access).await?;
    let mut share = BodyShare::new(services.bodies().clone(), head.extensions.get::<ConnectionBudget>());
    let request = operation.inputs.read(services, route.dialect, head, body, &mut share).await?;
    let mut answer = operation.answer(request).await?;
    if operation.is_read() {
        answer = answer_budget::hold_whole(answer).await?;
    }
    // A streamed answer may use a large request until it ends, so it keeps the memory of that request.
    Ok(answer.map(|body| drop_if_unread(body, share.take_large())))
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
