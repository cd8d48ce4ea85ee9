//! W&B's protocol on this port: requests are read and permitted like all others, and answered by the translator.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Request, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use matyan_access::{FilePermits, PermitProblem, PermittedFile, TokenDigest};
use matyan_proto::common::v1::Access;
use matyan_wandb::{Answer, AnswerShare, Channel, Channels, PermitMaker, Route, Wandb, WandbError};

use crate::body_budget::{BodyShare, ConnectionBudget};
use crate::call_limit;
use crate::deadline::enforce_maximum;
use crate::error::{ApiError, ApiResult, challenge};
use crate::project::{self, PREFIX};
use crate::request_caller::not_signed_in;
use crate::request_origin::origin;
use crate::rest::call::read_body;
use crate::rest::router::PathTemplate;
use crate::scope::Scope;
use crate::services::{PortKind, Services};
use crate::settings::Protocol;
use crate::unread_response::drop_if_unread;
use crate::uri_path;

const INVALID_PERMIT: &str =
    "the permit in this URL is not one for this file: copy the URL completely, or send a token";
const ENDED_PERMIT: &str =
    "the permit in this URL has ended: ask for the URL of the file again, or send a token";

/// W&B's protocol of one port.
pub(crate) struct WandbPort(Wandb);

impl WandbPort {
    /// The protocol, if a port answers it: that needs both services.
    pub(crate) fn of_port(services: &Services) -> Option<Self> {
        let is_wanted = services.settings().protocols.contains(&Protocol::Wandb);
        let has_both = services.has_frontier() && services.has_backend();
        if !is_wanted || !has_both || services.port_kind() != PortKind::Query {
            return None;
        }
        for operation in Wandb::unanswered_operations() {
            services.metrics().unanswered(Protocol::Wandb, operation);
        }
        Some(WandbPort(Wandb::new(services.large_work().clone())))
    }

    /// The route of a request; `None` if its path does not belong to W&B.
    pub(crate) fn route<B>(request: &Request<B>) -> Option<Route> {
        Route::find(request.method(), uri_path::normalized(request.uri()).path())
    }

    /// The token whose rights a permit in the URL of a file gives; `None` without a permit. On any other route there is
    /// no permit, whatever the URL contains.
    pub(crate) fn permitted<B>(
        permits: &FilePermits,
        request: &Request<B>,
    ) -> ApiResult<Option<TokenDigest>> {
        let Some(Route::File { project, run, path }) = Self::route(request) else { return Ok(None) };
        let query = request.uri().query().unwrap_or_default();
        let parameters = form_urlencoded::parse(query.as_bytes());
        let permit = parameters.into_iter().find(|(name, _)| name == PermitMaker::PARAMETER);
        let Some((_, permit)) = permit else { return Ok(None) };
        let server_project = project::of_headers(request.headers());
        let file = PermittedFile {
            project: project::name(server_project.as_ref()),
            experiment: &project,
            run: &run,
            path: &path,
        };
        let problem = match permits.verify(&permit, file) {
            Ok(token) => return Ok(Some(token)),
            Err(PermitProblem::Invalid) => INVALID_PERMIT,
            Err(PermitProblem::Ended) => ENDED_PERMIT,
        };
        Err(not_signed_in(problem).into())
    }

    /// Answers a request of this route, which has come under this path of a proxy.
    pub(crate) async fn answer(
        &self,
        services: &Services,
        route: Route,
        request: Request<Body>,
        base_path: &str,
        permits: Option<&FilePermits>,
    ) -> Response {
        let template = PathTemplate(route.template().into());
        let answered = self.try_answer(services, route, request, base_path, permits).await;
        if let Ok(Ok(Answer::Json { unanswered, .. })) = &answered {
            for operation in unanswered {
                services.metrics().unanswered(Protocol::Wandb, operation).inc();
            }
        }
        let response = match answered {
            Ok(Ok(answer)) => response(answer),
            Ok(Err(error)) => json(error.status, error.body()),
            Err(error) => refusal(&error),
        };
        let mut response = response.map(|body| drop_if_unread(body, None));
        response.extensions_mut().insert(template);
        response
    }

    async fn try_answer(
        &self,
        services: &Services,
        route: Route,
        request: Request<Body>,
        base_path: &str,
        permits: Option<&FilePermits>,
    ) -> ApiResult<Result<Answer, WandbError>> {
        let (head, body) = request.into_parts();
        let scope = Scope::current();
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
        let permits = permits.and_then(|permits| permit_maker(permits, &scope));
        let (backend, frontier) = services.scoped_transports(scope);
        let request = matyan_wandb::Request {
            route,
            channels: Channels { backend: Channel::new(backend), frontier: Channel::new(frontier) },
            origin: origin(&head)?,
            headers: head.headers,
            body,
            project_path,
            user,
            client: call_limit::call_origin().client.map(|client| client.to_string()),
            permits,
        };
        Ok(self.0.answer(request).await)
    }
}

/// Makes permits with the rights of the caller; `None` if the caller shows no credential, because it then
/// needs no permit for anything that it may read.
fn permit_maker(permits: &FilePermits, scope: &Scope) -> Option<PermitMaker> {
    let token = scope.token()?;
    let permits = permits.clone();
    let server_project = scope.project_name().to_owned();
    Some(PermitMaker::new(move |experiment, run, path| {
        permits.sign(&token, PermittedFile { project: &server_project, experiment, run, path })
    }))
}

/// The answer to a request that the edge refuses. Clients read the same members of all errors.
pub(crate) fn refusal(error: &ApiError) -> Response {
    let mut response = json(error.status(), WandbError::new(error.status(), error.message()).body());
    if let Some(challenge) = challenge(error.status()) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

fn response(answer: Answer) -> Response {
    match answer {
        Answer::Json { status, body, share, .. } => {
            json(status, Body::new(SharedBody { body: body.into(), _share: share }))
        }
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

fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    let body: Body = body.into();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The body of an answer, with its share of the memory of the port. A client may read it slowly, or not at all.
struct SharedBody {
    body: Body,
    _share: Option<AnswerShare>,
}

impl HttpBody for SharedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
