//! MLflow's protocol on the query port. This file reads requests and writes responses; what they mean is the
//! matter of the crate `matyan-mlflow`, which gets the transports of the request and so the rights of its caller.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderValue, Request, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use matyan_mlflow::{
    Answer, BodyKind, Channel, Channels, ErrorCode, Mlflow, MlflowError, Operation, RequestBody, Route,
};
use matyan_proto::common::v1::Access;

use crate::answer_budget;
use crate::body_budget::{BodyShare, ConnectionBudget};
use crate::deadline::enforce_maximum;
use crate::error::ApiError;
use crate::request_origin::origin;
use crate::rest::artifacts::artifact_response;
use crate::rest::call::read_body;
use crate::rest::router::PathTemplate;
use crate::scope::Scope;
use crate::services::{PortKind, Services};
use crate::settings::Protocol;
use crate::unread_response::drop_if_unread;

/// MLflow's protocol of one port.
#[derive(Debug, Default)]
pub(crate) struct MlflowPort(Mlflow);

impl MlflowPort {
    /// The protocol, if a port answers it: that needs both services.
    pub(crate) fn of_port(services: &Services) -> Option<Self> {
        let is_wanted = services.settings().protocols.contains(&Protocol::Mlflow);
        let has_both = services.has_frontier() && services.has_backend();
        if !is_wanted || !has_both || services.port_kind() != PortKind::Query {
            return None;
        }
        for operation in Route::unanswered_templates() {
            services.metrics().unanswered(Protocol::Mlflow, operation);
        }
        Some(Self::default())
    }

    /// The operation of a request; `None` if its path does not belong to MLflow.
    pub(crate) fn route<B>(request: &Request<B>) -> Option<Route> {
        Route::find(request.method(), request.uri().path())
    }

    pub(crate) async fn answer(
        &self,
        services: &Arc<Services>,
        route: Route,
        request: Request<Body>,
    ) -> Response {
        let template = PathTemplate(route.template.into());
        if matches!(route.operation, Operation::Refused | Operation::Unknown) {
            services.metrics().unanswered(Protocol::Mlflow, route.template).inc();
        }
        let is_read = route.operation.is_read();
        let (head, body) = request.into_parts();
        let answered = Box::pin(self.answered(services, route, &head, body)).await;
        let mut response = answered.unwrap_or_else(|error| error_response(&error));
        // A call that has changed something is not refused afterwards: its client would repeat it.
        if is_read {
            response = answer_budget::hold_whole(response).await.unwrap_or_else(|error| refusal(&error));
        }
        let mut response = response.map(|body| drop_if_unread(body, None));
        response.extensions_mut().insert(template);
        response
    }

    async fn answered(
        &self,
        services: &Arc<Services>,
        route: Route,
        head: &Parts,
        body: Body,
    ) -> Result<Response, MlflowError> {
        // Before the body is read: it may be large.
        Scope::current().check(Access::Caller).await.map_err(|status| mlflow_error(&status.into()))?;
        let mut share = BodyShare::new(services.bodies().clone(), head.extensions.get::<ConnectionBudget>());
        let body = match route.body_kind() {
            BodyKind::File => RequestBody::File(body.map_err(Into::into).boxed_unsync()),
            BodyKind::Json { max_bytes } => {
                if let Some(bytes) = body.size_hint().exact() {
                    share.expect(bytes.try_into().unwrap_or(usize::MAX));
                }
                let read = enforce_maximum(read_body(body, max_bytes, &mut share)).await;
                RequestBody::Json(read.and_then(|read| read).map_err(|error| mlflow_error(&error))?)
            }
        };
        let channels = channels(services);
        let query = head.uri.query().unwrap_or_default();
        let origin = origin(head).ok();
        let scope = Scope::current();
        let project = scope.project_name();
        let request = matyan_mlflow::Request { route, project, query, headers: &head.headers, origin, body };
        match self.0.answer(&channels, request).await? {
            Answer::Json(json) => Ok(json_response(StatusCode::OK, json)),
            Answer::Artifact { run_id, path } => {
                let response = artifact_response(Arc::clone(services), &head.headers, run_id, path).await;
                response.map_err(|error| match error.status() {
                    StatusCode::NOT_FOUND => {
                        let message =
                            "there is no such artifact: list the artifacts of the run for their paths";
                        MlflowError::new(ErrorCode::ResourceDoesNotExist, message)
                    }
                    _ => mlflow_error(&error),
                })
            }
        }
    }
}

/// The transports of a request.
fn channels(services: &Services) -> Channels {
    let (backend, frontier) = services.scoped_transports(Scope::current());
    Channels { backend: Channel::new(backend), frontier: Channel::new(frontier) }
}

/// The answer to a request that the edge refuses.
pub(crate) fn refusal(error: &ApiError) -> Response {
    let mut response = error_response(&mlflow_error(error));
    if let Some(seconds) = error.retry_after_s() {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// An error of the edge in MLflow's words.
fn mlflow_error(error: &ApiError) -> MlflowError {
    MlflowError::new(ErrorCode::of_status(error.status()), error.message())
}

fn error_response(error: &MlflowError) -> Response {
    json_response(error.code.status(), error.body())
}

fn json_response(status: StatusCode, json: String) -> Response {
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_when_to_try_again() {
        let refused = ApiError::unavailable("no room");
        assert!(!refusal(&refused).headers().contains_key(header::RETRY_AFTER));
        let response = refusal(&refused.retry_after(5));
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "5");
    }
}
