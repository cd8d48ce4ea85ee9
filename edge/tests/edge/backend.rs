//! A backend that answers each method with messages set by the test, and records its requests.
//! It implements gRPC's framing itself, so that this one file serves all services.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use tokio::sync::oneshot;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tower::Service;

#[derive(Clone, Default)]
pub(crate) struct Backend(Arc<Mutex<Methods>>);

#[derive(Clone)]
struct PreparedAnswer {
    messages: Vec<Bytes>,
    /// `None`: the stream stays open, and `held` is dropped when the client disconnects.
    end: Option<Status>,
    held: Option<Arc<oneshot::Sender<()>>>,
}

#[derive(Default)]
struct Methods {
    answers: HashMap<String, PreparedAnswer>,
    /// The answers to the next requests of a method, before those in `answers`.
    next: HashMap<String, VecDeque<PreparedAnswer>>,
    requests: HashMap<String, Vec<Bytes>>,
    /// Positions in the log that the requests of each method have waited for; empty: none.
    positions: HashMap<String, Vec<String>>,
    /// Whether the position of each of the next requests that have one is not applied in time.
    late: VecDeque<bool>,
}

impl Backend {
    /// Sets the messages with which `method` (such as "runs.v1.RunService/Get") answers
    /// from now on.
    pub(crate) fn answers<M: Message>(&self, method: &str, messages: impl IntoIterator<Item = M>) {
        self.prepare(method, messages, Some(Status::ok("")), None);
    }

    /// Sets the message or the failure with which each of the next requests of a method is answered.
    pub(crate) fn answers_next<M: Message>(
        &self,
        method: &str,
        answers: impl IntoIterator<Item = Result<M, Status>>,
    ) {
        let prepared = answers.into_iter().map(|answer| match answer {
            Ok(message) => PreparedAnswer {
                messages: vec![message.encode_to_vec().into()],
                end: Some(Status::ok("")),
                held: None,
            },
            Err(status) => PreparedAnswer { messages: Vec::new(), end: Some(status), held: None },
        });
        self.0.lock().unwrap().next.insert(format!("/matyan.{method}"), prepared.collect());
    }

    /// Like `answers`, but the stream then stays open, once. The receiver resolves when the
    /// client disconnects.
    pub(crate) fn answers_and_holds<M: Message>(
        &self,
        method: &str,
        messages: impl IntoIterator<Item = M>,
    ) -> oneshot::Receiver<()> {
        let (held, gone) = oneshot::channel();
        self.prepare(method, messages, None, Some(Arc::new(held)));
        gone
    }

    /// Like `answers`, but the stream then fails.
    pub(crate) fn fails<M: Message>(
        &self,
        method: &str,
        messages: impl IntoIterator<Item = M>,
        status: Status,
    ) {
        self.prepare(method, messages, Some(status), None);
    }

    fn prepare<M: Message>(
        &self,
        method: &str,
        messages: impl IntoIterator<Item = M>,
        end: Option<Status>,
        held: Option<Arc<oneshot::Sender<()>>>,
    ) {
        let messages = messages.into_iter().map(|it| it.encode_to_vec().into()).collect();
        let prepared = PreparedAnswer { messages, end, held };
        self.0.lock().unwrap().answers.insert(format!("/matyan.{method}"), prepared);
    }

    /// The last request of `method`.
    pub(crate) fn last_request<M: Message + Default>(&self, method: &str) -> M {
        let methods = self.0.lock().unwrap();
        let requests = methods.requests.get(&format!("/matyan.{method}"));
        let last = requests.and_then(|it| it.last()).unwrap_or_else(|| panic!("{method} was not called"));
        M::decode(last.clone()).unwrap()
    }

    /// The position in the log that each request of `method` has waited for; empty: none.
    pub(crate) fn positions(&self, method: &str) -> Vec<String> {
        let methods = self.0.lock().unwrap();
        methods.positions.get(&format!("/matyan.{method}")).cloned().unwrap_or_default()
    }

    /// Sets whether the position of each of the next requests that have one is not applied in time.
    pub(crate) fn sets_late(&self, late: impl IntoIterator<Item = bool>) {
        self.0.lock().unwrap().late = late.into_iter().collect();
    }

    pub(crate) fn call_count(&self, method: &str) -> usize {
        self.0.lock().unwrap().requests.get(&format!("/matyan.{method}")).map_or(0, Vec::len)
    }
}

impl Service<Request<Body>> for Backend {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let backend = self.clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let after = request.headers().get("matyan-after").map(|it| it.to_str().unwrap().to_owned());
            let mut body = request.into_body().collect().await.unwrap().to_bytes();
            let message = body.split_off(5);
            let mut methods = backend.0.lock().unwrap();
            methods.requests.entry(path.clone()).or_default().push(message);
            let is_late = after.is_some() && methods.late.pop_front().unwrap_or_default();
            methods.positions.entry(path.clone()).or_default().push(after.unwrap_or_default());
            if is_late {
                let end = Some(not_yet_applied());
                return Ok(respond(PreparedAnswer { messages: Vec::new(), end, held: None }));
            }
            if let Some(next) = methods.next.get_mut(&path).and_then(VecDeque::pop_front) {
                return Ok(respond(next));
            }
            let prepared = methods.answers.get_mut(&path);
            let prepared = prepared.unwrap_or_else(|| panic!("no answer was set for {path}"));
            let held = prepared.held.take();
            Ok(respond(PreparedAnswer { held, ..prepared.clone() }))
        })
    }
}

fn not_yet_applied() -> Status {
    let details = ErrorDetails::with_error_info("NOT_YET_APPLIED", "matyan", HashMap::new());
    Status::with_error_details(Code::Unavailable, "offset 7 is not applied yet: retry", details)
}

fn respond(prepared: PreparedAnswer) -> Response<Body> {
    let frames = prepared.messages.into_iter().map(|message| {
        let mut framed = BytesMut::new();
        framed.put_u8(0);
        framed.put_u32(message.len() as u32);
        framed.put(message);
        Ok::<_, Infallible>(http_body::Frame::data(framed.freeze()))
    });
    let end = prepared.end;
    let held = prepared.held;
    let last = async move {
        let Some(status) = end else {
            let _held = held;
            return std::future::pending().await;
        };
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers).unwrap();
        Ok(http_body::Frame::trailers(trailers))
    };
    let frames = futures::stream::iter(frames).chain(futures::stream::once(last));
    Response::builder()
        .header("content-type", "application/grpc")
        .body(Body::new(StreamBody::new(frames)))
        .unwrap()
}
