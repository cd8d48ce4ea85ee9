//! A provider on a socket, which sends the answers that a test prepares.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    response::Response,
};
use futures::stream;
use http::{StatusCode, header};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// An answer on a path.
#[derive(Clone)]
pub(crate) enum Prepared {
    Json(Value),
    Status(u16, Value),
    Redirect(String),
    /// A body without an end.
    Endless,
    /// An answer that never arrives.
    Silent,
}

#[derive(Default)]
struct Answers {
    prepared: HashMap<String, Prepared>,
    /// Path, authorization and body of each request.
    requests: Vec<(String, String, String)>,
}

/// A provider. Dropping it ends the provider.
pub(crate) struct Issuer {
    pub(crate) url: String,
    answers: Arc<Mutex<Answers>>,
    server: JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        let answers = Arc::<Mutex<Answers>>::default();
        let router = Router::new().fallback(answer).with_state(answers.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let issuer = Self { url, answers, server };
        issuer.prepare("/.well-known/openid-configuration", Prepared::Json(issuer.description()));
        issuer
    }

    /// The description that the provider publishes.
    pub(crate) fn description(&self) -> Value {
        let url = &self.url;
        json!({
            "issuer": url,
            "authorization_endpoint": format!("{url}/authorize?tenant=1"),
            "token_endpoint": format!("{url}/token"),
            "jwks_uri": format!("{url}/keys"),
        })
    }

    pub(crate) fn prepare(&self, path: &str, prepared: Prepared) {
        self.answers.lock().unwrap().prepared.insert(path.to_owned(), prepared);
    }

    /// The requests to a path so far: authorization and body of each.
    pub(crate) fn requests(&self, path: &str) -> Vec<(String, String)> {
        let answers = self.answers.lock().unwrap();
        let to_path = answers.requests.iter().filter(|(asked, ..)| asked == path);
        to_path.map(|(_, authorization, body)| (authorization.clone(), body.clone())).collect()
    }
}

async fn answer(State(answers): State<Arc<Mutex<Answers>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().unwrap().as_str().to_owned();
    let authorization = parts.headers.get(header::AUTHORIZATION).map(|it| it.to_str().unwrap().to_owned());
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let prepared = {
        let mut answers = answers.lock().unwrap();
        answers.requests.push((path.clone(), authorization.unwrap_or_default(), body));
        answers.prepared.get(&path).cloned()
    };
    let response = Response::builder();
    match prepared {
        None => response.status(StatusCode::NOT_FOUND).body(Body::empty()),
        Some(Prepared::Json(value)) => response.body(Body::from(value.to_string())),
        Some(Prepared::Status(status, value)) => response.status(status).body(Body::from(value.to_string())),
        Some(Prepared::Redirect(target)) => {
            response.status(StatusCode::FOUND).header(header::LOCATION, target).body(Body::empty())
        }
        Some(Prepared::Endless) => {
            let chunk = || Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 64 << 10]));
            response.body(Body::from_stream(stream::repeat_with(chunk)))
        }
        Some(Prepared::Silent) => std::future::pending().await,
    }
    .unwrap()
}
