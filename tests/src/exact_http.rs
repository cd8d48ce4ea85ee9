//! A client that sends requests exactly as a test writes them, with repeated headers and encoded paths, over HTTP/1.1 or
//! HTTP/2, and returns everything that the server answers, trailers included.

use std::sync::{Arc, Mutex};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use memchr::memmem;
use tonic::Status;

/// The message of a call without fields, with its prefix.
pub const EMPTY_MESSAGE: &[u8] = &[0; 5];

/// Bit of the flags of a frame of gRPC-web that contains trailers.
const TRAILERS: u8 = 0x80;

/// Requests over the connections of one pool. A server may refuse a request before it has read its body, and then resets
/// the stream; it closes a connection of HTTP/2 after 1,024 resets.
const REQUESTS_OF_POOL: usize = 500;

type Pool = Client<HttpConnector, Full<Bytes>>;

/// Copies share their connections.
#[derive(Clone)]
pub struct ExactClient {
    is_http2: bool,
    /// The current pool, and how many requests it has sent. A pool that is replaced lives until its last answer has begun.
    pool: Arc<Mutex<(Pool, usize)>>,
}

/// Everything that a server has answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

impl ExactClient {
    pub fn http1() -> Self {
        Self::new(false)
    }

    /// Without TLS, by prior knowledge.
    pub fn http2() -> Self {
        Self::new(true)
    }

    fn new(is_http2: bool) -> Self {
        Self { is_http2, pool: Arc::new(Mutex::new((new_pool(is_http2), 0))) }
    }

    /// The pool for one more request.
    fn pool(&self) -> Pool {
        let mut current = self.pool.lock().expect("no thread panics while it holds the lock");
        let (pool, requests) = &mut *current;
        if *requests == REQUESTS_OF_POOL {
            *pool = new_pool(self.is_http2);
            *requests = 0;
        }
        *requests += 1;
        pool.clone()
    }

    /// Sends a request, and reads the whole answer.
    pub async fn send(&self, request: Request<Bytes>) -> Answer {
        self.open(request).await.finish().await
    }

    /// Sends a request, and reads the answer without its body, which may be endless.
    pub async fn begin(&self, request: Request<Bytes>) -> Answer {
        let (parts, _) = self.open(request).await.0.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: Bytes::new(),
            trailers: HeaderMap::new(),
        }
    }

    /// Sends a request, and waits until its answer begins.
    pub async fn open(&self, request: Request<Bytes>) -> OpenAnswer {
        let what = format!("{} {}", request.method(), request.uri());
        let response = self.pool().request(request.map(Full::new)).await;
        OpenAnswer(response.unwrap_or_else(|error| panic!("{what}: {error:?}")))
    }
}

fn new_pool(is_http2: bool) -> Pool {
    Client::builder(TokioExecutor::new()).http2_only(is_http2).build(HttpConnector::new())
}

/// An answer whose body has not been read.
pub struct OpenAnswer(Response<Incoming>);

impl OpenAnswer {
    /// Reads the answer to its end.
    pub async fn finish(self) -> Answer {
        let (parts, body) = self.0.into_parts();
        let (body, trailers) = if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            Default::default()
        } else {
            let collected = body.collect().await.expect("the answer ends well");
            let trailers = collected.trailers().cloned().unwrap_or_default();
            (collected.to_bytes(), trailers)
        };
        Answer { status: parts.status, headers: parts.headers, body, trailers }
    }
}

impl Answer {
    /// The status of a call of gRPC or gRPC-web, as far as the answer has been read.
    pub fn grpc_status(&self) -> Option<Status> {
        let of_body = if self.is_grpc_web() { web_frames(&self.body).1 } else { HeaderMap::new() };
        [&self.headers, &self.trailers, &of_body].into_iter().find_map(Status::from_header_map)
    }

    fn is_grpc_web(&self) -> bool {
        let content_type = self.headers.get(header::CONTENT_TYPE);
        content_type.is_some_and(|it| it.as_bytes().starts_with(b"application/grpc-web"))
    }

    /// The answer as text for comparisons, with the name of a project replaced by `#`. Omits the date, the id of the
    /// request, and whether the connection ends, which depends on how soon a body that nobody reads has arrived.
    pub fn comparable(&self, project: &str) -> String {
        let (body, of_body) =
            if self.is_grpc_web() { web_frames(&self.body) } else { (self.body.to_vec(), HeaderMap::new()) };
        let mask = "#".repeat(project.len());
        let mut text = format!("{}\n", self.status);
        for (name, value) in self.headers.iter().chain(&self.trailers).chain(&of_body) {
            if matches!(name.as_str(), "date" | "x-request-id" | "connection") {
                continue;
            }
            let value = match name.as_str() {
                "grpc-status-details-bin" => sorted_details(value, project, &mask),
                _ => String::from_utf8_lossy(value.as_bytes()).into_owned(),
            };
            text += &format!("{name}: {value}\n");
        }
        text += &String::from_utf8_lossy(&body);
        text.replace(project, &mask)
    }

    /// Returns whether a text is anywhere in the answer, also in encoded details of an error.
    pub fn contains(&self, text: &str) -> bool {
        let (_, of_body) = web_frames(&self.body);
        let in_map = |map: &HeaderMap| {
            let in_details =
                map.get("grpc-status-details-bin").is_some_and(|it| contains(&details(it), text));
            in_details || map.values().any(|value| contains(value.as_bytes(), text))
        };
        contains(&self.body, text) || [&self.headers, &self.trailers, &of_body].into_iter().any(in_map)
    }
}

/// Returns whether a text is anywhere in the bytes.
pub fn contains(bytes: &[u8], text: &str) -> bool {
    memmem::find(bytes, text.as_bytes()).is_some()
}

fn details(value: &HeaderValue) -> Vec<u8> {
    let text = value.as_bytes().strip_suffix(b"==").unwrap_or(value.as_bytes());
    STANDARD_NO_PAD.decode(text.strip_suffix(b"=").unwrap_or(text)).expect("details are base64")
}

/// The bytes of the details, sorted because the entries of a map are in random order.
fn sorted_details(value: &HeaderValue, project: &str, mask: &str) -> String {
    let mut bytes = String::from_utf8_lossy(&details(value)).replace(project, mask).into_bytes();
    bytes.sort_unstable();
    bytes.escape_ascii().to_string()
}

/// The messages of a body of gRPC-web, and its trailers.
fn web_frames(mut body: &[u8]) -> (Vec<u8>, HeaderMap) {
    let mut messages = Vec::new();
    let mut trailers = HeaderMap::new();
    while let Some((head, rest)) = body.split_first_chunk::<5>() {
        let [flags, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        if flags & TRAILERS == 0 {
            messages.extend_from_slice(payload);
        } else {
            trailers.extend(String::from_utf8_lossy(payload).lines().filter_map(trailer));
        }
        body = rest;
    }
    (messages, trailers)
}

fn trailer(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(':')?;
    Some((name.trim().parse().ok()?, value.trim().parse().ok()?))
}
