//! W&B's protocol on this port: requests are read and permitted like all others, and answered by the translator.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, Request, StatusCode, header};
use matyan_proto::common::v1::Access;
use matyan_wandb::{Answer, Channel, Channels, Route, Wandb, WandbError};
use uuid::Uuid;

use crate::body_budget::{BodyShare, ConnectionBudget};
use crate::deadline::enforce_maximum;
use crate::error::{ApiError, ApiResult};
use crate::project::PREFIX;
use crate::rest::call::read_body;
use crate::rest::table::PathTemplate;
use crate::scope::Scope;
use crate::services::{PortKind, Services};
use crate::settings::Protocol;
use crate::tls::is_https;

/// The parameter of a URL with a permit.
const PERMIT: &str = "permit";

/// W&B's protocol of one port.
pub(crate) struct WandbPort {
    wandb: Wandb,
    permits: Permits,
}

impl WandbPort {
    /// The protocol, if a port answers it: that needs both services.
    pub(crate) fn of_port(services: &Services) -> Option<Self> {
        let is_wanted = services.settings().protocols.contains(&Protocol::Wandb);
        let has_both = services.has_frontier() && services.has_backend();
        let port = || WandbPort { wandb: Wandb::new(), permits: Permits::default() };
        (is_wanted && has_both && services.port_kind() == PortKind::Query).then(port)
    }

    /// The route of a request; `None` if its path does not belong to W&B.
    pub(crate) fn route<B>(request: &Request<B>) -> Option<Route> {
        Route::find(request.method(), request.uri().path())
    }

    /// Answers a request of this route, which has come under this path of a proxy.
    pub(crate) async fn answer(
        &self,
        services: &Services,
        route: Route,
        request: Request<Body>,
        base_path: &str,
    ) -> Response {
        let template = PathTemplate(route.template().into());
        let mut response = match self.try_answer(services, route, request, base_path).await {
            Ok(Ok(answer)) => response(answer),
            Ok(Err(error)) => json(error.status, error.body()),
            // Clients read the same members of all errors.
            Err(error) => json(error.status(), WandbError::new(error.status(), error.message()).body()),
        };
        response.extensions_mut().insert(template);
        response
    }

    async fn try_answer(
        &self,
        services: &Services,
        route: Route,
        request: Request<Body>,
        base_path: &str,
    ) -> ApiResult<Result<Answer, WandbError>> {
        let (head, body) = request.into_parts();
        let scope = self.permits.find(head.uri.query()).unwrap_or_else(Scope::current);
        // Before the body is read. Clients send figures about themselves without credentials.
        if matches!(route, Route::Graphql | Route::FileStream { .. }) {
            scope.check(Access::Caller).await?;
        }
        let mut share = BodyShare::new(services.bodies().clone(), head.extensions.get::<ConnectionBudget>());
        let body = enforce_maximum(read_body(body, route.body_bytes(), &mut share)).await??;
        let user = scope.signed_in().await.map(|caller| caller.name().to_owned()).unwrap_or_default();
        let project_path = match scope.project_name() {
            "" => base_path.to_owned(),
            project => format!("{base_path}{PREFIX}{project}"),
        };
        let permit = if scope.is_checked() { self.permits.give(&scope) } else { String::new() };
        let (backend, frontier) = services.scoped_transports(scope);
        let request = matyan_wandb::Request {
            route,
            channels: Channels { backend: Channel::new(backend), frontier: Channel::new(frontier) },
            origin: origin(&head)?,
            headers: head.headers,
            body,
            project_path,
            user,
            permit,
        };
        Ok(self.wandb.answer(request).await)
    }
}

/// Scheme and host under which the client has reached this server.
fn origin(head: &Parts) -> ApiResult<String> {
    let scheme = if is_https(&head.headers, &head.extensions) { "https" } else { "http" };
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or(head.uri.authority().map(|authority| authority.as_str()));
    let host =
        host.ok_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, "the request has no Host header"))?;
    Ok(format!("{scheme}://{host}"))
}

fn response(answer: Answer) -> Response {
    match answer {
        Answer::Json { status, body, .. } => json(status, body),
        Answer::Empty => StatusCode::OK.into_response(),
        Answer::Redirect { location } => match HeaderValue::try_from(location) {
            Ok(location) => (StatusCode::FOUND, [(header::LOCATION, location)]).into_response(),
            Err(_) => ApiError::not_found().into_response(),
        },
        Answer::File(file) => {
            let mut response = Response::new(Body::from_stream(file.content));
            let headers = response.headers_mut();
            // Whatever the file is, no browser shows it as a page of this server.
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
            if let Some(size) = file.size {
                headers.insert(header::CONTENT_LENGTH, size.into());
            }
            response
        }
    }
}

fn json(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Permits for URLs that clients read without their credentials. A permit gives the rights that the token of its request
/// has at the time of the reading, and is forgotten with this process, or when there are many newer ones: the client
/// then asks for the URL again.
#[derive(Default)]
struct Permits(Mutex<VecDeque<(String, Scope)>>);

impl Permits {
    /// The most permits that are kept. Requests of the same token in the same project share one.
    const MAX: usize = 1_000;

    fn give(&self, scope: &Scope) -> String {
        let mut permits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((permit, _)) = permits.iter().rev().find(|(_, other)| other.is_same(scope)) {
            return permit.clone();
        }
        if permits.len() >= Self::MAX {
            permits.pop_front();
        }
        let permit = Uuid::new_v4().simple().to_string();
        permits.push_back((permit.clone(), scope.clone()));
        permit
    }

    /// The scope of the permit in the query of a URL.
    fn find(&self, query: Option<&str>) -> Option<Scope> {
        let parameters = form_urlencoded::parse(query?.as_bytes());
        let (_, wanted) = parameters.into_iter().find(|(name, _)| name == PERMIT)?;
        let permits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        permits.iter().find(|(permit, _)| *permit == wanted).map(|(_, scope)| scope.clone())
    }
}
