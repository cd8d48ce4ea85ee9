//! Turns of large answers. Clients expect all trials that are new to them in one message, so an answer may be as
//! large as its study, and many workers ask at the same moment. Small answers are built at once. A large answer needs
//! a turn, and keeps the turn until its response is sent. So few large answers are in memory, however many workers a
//! study has.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tonic::{Extensions, Status, body::Body};
use tower::Service;

/// Largest answer that needs no turn.
pub(crate) const SMALL_BYTES: usize = 1 << 20;

/// Large answers in memory at the same time. Each takes its size twice while it is encoded.
const LARGE_ANSWERS: usize = 2;

/// The longest time that an answer waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(60);

/// The turns of a port.
#[derive(Clone)]
pub(crate) struct LargeAnswers(Arc<Semaphore>);

impl Default for LargeAnswers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_ANSWERS)))
    }
}

/// The turn of the answer to one request. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct AnswerTurn(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl AnswerTurn {
    /// The turn of a request, which ends with its response.
    pub(crate) fn of_request(extensions: &Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// Waits for the turn, unless the answer has it already.
    pub(crate) async fn take(&self, answers: &LargeAnswers) -> Result<(), Status> {
        if self.0.lock().is_some() {
            return Ok(());
        }
        let waited = timeout(TURN_TIMEOUT, answers.0.clone().acquire_owned()).await;
        let permit = waited.map_err(|_| {
            Status::unavailable("other workers are reading large studies at the moment: try again")
        })?;
        *self.0.lock() = Some(permit.expect("the semaphore is never closed"));
        Ok(())
    }
}

/// A service whose responses keep the turns of their answers until they are sent or dropped.
#[derive(Clone)]
pub struct KeepTurns<S>(S);

impl<S> KeepTurns<S> {
    pub(crate) fn new(service: S) -> Self {
        Self(service)
    }
}

impl<S> Service<Request<Body>> for KeepTurns<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let turn = AnswerTurn::default();
        request.extensions_mut().insert(turn.clone());
        let answer = self.0.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| Body::new(BodyWithTurn { body, _turn: turn }))) })
    }
}

struct BodyWithTurn {
    body: Body,
    _turn: AnswerTurn,
}

impl HttpBody for BodyWithTurn {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    /// Answers a request that already has its turn. A body without bytes would be gone at once.
    async fn answer(answers: LargeAnswers) -> Response<Body> {
        let service = service_fn(move |request: Request<Body>| {
            let answers = answers.clone();
            async move {
                let turn = AnswerTurn::of_request(request.extensions());
                turn.take(&answers).await.expect("the earlier answers end in time");
                turn.take(&answers).await.expect("it has its turn already");
                Ok::<_, Infallible>(Response::new(Body::new(Full::new(Bytes::from_static(b"trials")))))
            }
        });
        let answered = KeepTurns::new(service).oneshot(Request::new(Body::default())).await;
        match answered {
            Ok(response) => response,
            Err(infallible) => match infallible {},
        }
    }

    #[tokio::test]
    async fn a_large_answer_waits_until_an_earlier_response_is_gone() {
        let answers = LargeAnswers::default();
        let first = answer(answers.clone()).await;
        let _second = answer(answers.clone()).await;
        let mut third = Box::pin(answer(answers));
        tokio::select! {
            biased;
            _ = &mut third => panic!("three large answers are in memory"),
            () = std::future::ready(()) => {}
        }
        drop(first);
        third.await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_gets_its_turn_asks_to_try_again() {
        let answers = LargeAnswers::default();
        let _first = answer(answers.clone()).await;
        let _second = answer(answers.clone()).await;
        let refused = AnswerTurn::default().take(&answers).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        assert!(refused.message().contains("try again"), "{refused}");
    }
}
