//! A GitHub on a socket, as far as signing in needs it: everyone who comes back with the right code is the
//! same person, who belongs to one organization.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    task::{AbortHandle, JoinSet},
};

use crate::exact_http::contains;

/// The login of the person.
const LOGIN: &str = "ana";

/// The organization of the person.
pub const ORGANIZATION: &str = "lab";

/// Secrets that the server and GitHub exchange, and that nobody else may learn.
#[derive(Clone, Debug)]
pub struct GitHubSecrets {
    pub client_secret: String,
    /// The code that GitHub gives to the browser it sends back.
    pub code: String,
    /// The token with which the server asks who has signed in.
    pub token: String,
}

/// A GitHub that listens until it is dropped.
pub struct GitHub {
    /// `http://127.0.0.1:port`.
    pub url: String,
    task: AbortHandle,
}

impl GitHub {
    pub async fn listen(secrets: GitHubSecrets) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("the listener is bound"));
        let task = tokio::spawn(serve(listener, Arc::new(secrets))).abort_handle();
        Self { url, task }
    }
}

impl Drop for GitHub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, secrets: Arc<GitHubSecrets>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.expect("the listener works");
        let secrets = Arc::clone(&secrets);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let secrets = Arc::clone(&secrets);
                async move { Ok::<_, Infallible>(answer(&secrets, request).await) }
            });
            // A client may leave at any time.
            http1::Builder::new().serve_connection(TokioIo::new(socket), service).await.ok();
        });
    }
}

async fn answer(secrets: &GitHubSecrets, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let form = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let authorization = head.headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let is_server = authorization == Some(format!("Bearer {}", secrets.token).as_bytes());
    let is_right = [("client_secret", &secrets.client_secret), ("code", &secrets.code)]
        .iter()
        .all(|(name, value)| contains(&form, &format!("{name}={value}")));
    let (status, json) = match head.uri.path() {
        "/login/oauth/access_token" if is_right => (StatusCode::OK, json!({"access_token": secrets.token})),
        "/api/v3/user" if is_server => (StatusCode::OK, json!({"id": 7, "login": LOGIN})),
        "/api/v3/user/orgs" if is_server => (StatusCode::OK, json!([{"login": ORGANIZATION}])),
        "/api/v3/user/teams" if is_server => (StatusCode::OK, json!([])),
        _ => (StatusCode::UNAUTHORIZED, Value::Null),
    };
    let mut response = Response::new(Full::new(Bytes::from(json.to_string())));
    *response.status_mut() = status;
    response
}
