//! The permission of one call: granted before the call reaches its service, and checked again for as long
//! as its response lasts, so that a revoked token ends the calls that were made with it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame};
use matyan_access::is_audited;
use matyan_proto::common::v1::Access;
use matyan_proto::ingest::v1::StreamResponse;
use tonic::Status;
use tonic::body::Body;

use crate::local_frontier::LocalStream;
use crate::methods;
use crate::scope::Scope;

/// Start of the paths of the calls of programs that wait until someone allows them a token.
const LOGIN_PREFIX: &str = "/matyan.access.v1.LoginService/";

/// The path of the call that writes a document. Its service asks for a second right, depending on what is written.
const WRITE_DOCUMENT: &str = "/matyan.documents.v1.DocumentService/Write";

/// A call that its caller may make.
pub(crate) struct Permission {
    /// `None` for a call that needs none.
    held: Option<(Scope, Access)>,
}

/// Ends with the reason once a call is no longer permitted.
pub(crate) type RefusedCall = BoxFuture<'static, Status>;

impl Permission {
    /// Checks a call, and stamps its scope on it.
    pub(crate) async fn check(scope: Option<Scope>, request: &mut Request<Body>) -> Result<Self, Status> {
        let access = methods::access(request.uri().path());
        let Some(scope) = scope else {
            // A transport that was not given the scope of its request must not open a closed server.
            return if access == Some(Access::Public) {
                Ok(Self { held: None })
            } else {
                Err(Status::internal("a call outside of a request"))
            };
        };
        // Unknown methods are the business of the services of an open server.
        let access = match access {
            Some(access) => access,
            None if scope.is_checked() => {
                scope.check(Access::Caller).await?;
                return Err(Status::unimplemented(""));
            }
            None => Access::Caller,
        };
        let caller = match scope.check(access).await {
            Ok(caller) => caller,
            Err(denial) => {
                let path = request.uri().path().to_owned();
                scope.report_denial(&denial, access, &path).await;
                return Err(denial);
            }
        };
        let is_audited = caller.is_some() && is_audited(request.uri().path());
        scope.stamp(request.headers_mut(), access, caller.as_deref());
        if let Some(caller) = caller.as_deref().filter(|_| request.uri().path() == WRITE_DOCUMENT) {
            scope.stamp_rights(request.headers_mut(), caller);
        }
        if is_audited {
            scope.stamp_origin(request.headers_mut());
        } else if scope.is_checked() && request.uri().path().starts_with(LOGIN_PREFIX) {
            scope.stamp_stranger(request.headers_mut());
        }
        Ok(Self { held: caller.is_some().then_some((scope, access)) })
    }

    /// Waits until the permission is lost; `None` if that cannot happen.
    pub(crate) fn refused(self) -> Option<RefusedCall> {
        let (scope, access) = self.held?;
        Some(async move { scope.refused(access).await }.boxed())
    }
}

/// Ends the messages of a response when its call is no longer permitted.
pub(crate) fn limit_permission(response: Response<Body>, refused: Option<RefusedCall>) -> Response<Body> {
    if refused.is_none() {
        return response;
    }
    response.map(|body| Body::new(Permitted::new(body, refused)))
}

/// The answers to a call, which end when the call is no longer permitted.
pub(crate) struct Permitted<T> {
    /// `None` after the call was refused. Dropping it ends the work of the call, or leaves it to the frontier to finish.
    answers: Option<T>,
    /// `None` if the permission cannot be lost.
    refused: Option<RefusedCall>,
}

impl<T> Permitted<T> {
    pub(crate) fn new(answers: T, refused: Option<RefusedCall>) -> Self {
        Permitted { answers: Some(answers), refused }
    }

    /// The answers, as long as the call is permitted; then the reason of the refusal, once; then `None`.
    fn check(&mut self, context: &mut Context<'_>) -> Option<Result<&mut T, Status>> {
        // Checked first: a call that always has answers must end as well.
        if self.answers.is_some()
            && let Some(refused) = &mut self.refused
            && let Poll::Ready(status) = refused.poll_unpin(context)
        {
            self.answers = None;
            return Some(Err(status));
        }
        self.answers.as_mut().map(Ok)
    }
}

impl HttpBody for Permitted<Body> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.check(context) {
            Some(Ok(body)) => Pin::new(body).poll_frame(context),
            Some(Err(status)) => {
                let mut trailers = HeaderMap::new();
                status.add_header(&mut trailers)?;
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.answers.as_ref().is_none_or(HttpBody::is_end_stream)
    }
}

impl Permitted<LocalStream> {
    /// The next answer, or the error that has ended the stream; `None` after the last one.
    pub(crate) fn poll_answer(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamResponse, Status>>> {
        match self.check(context) {
            Some(Ok(stream)) => stream.poll_answer(context),
            Some(Err(status)) => Poll::Ready(Some(Err(status))),
            None => Poll::Ready(None),
        }
    }

    /// Continues the work of the stream without taking an answer.
    pub(crate) fn poll_work(&mut self, context: &mut Context<'_>) {
        if let Some(stream) = &mut self.answers {
            stream.poll_work(context);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use tokio::sync::{mpsc, oneshot};
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn rule_54_a_call_that_belongs_to_no_request_reaches_only_what_is_public() {
        for (rpc, expected) in [
            ("system.v1.SystemService/Version", None),
            ("runs.v1.RunService/Get", Some(Code::Internal)),
            ("ingest.v1.IngestService/Upload", Some(Code::Internal)),
            ("unknown.v1.UnknownService/Get", Some(Code::Internal)),
        ] {
            let mut request = Request::post(format!("/matyan.{rpc}")).body(Body::empty()).unwrap();
            let refused = Permission::check(None, &mut request).await.err();
            assert_eq!(refused.map(|status| status.code()), expected, "{rpc}");
        }
    }

    #[tokio::test]
    async fn a_local_stream_ends_when_its_call_is_refused() {
        let (answers, receiver) = mpsc::channel(1);
        let (guard, dropped) = oneshot::channel::<()>();
        let work = async move {
            let _guard = guard;
            pending::<()>().await;
        };
        let (refuse, refusal) = oneshot::channel();
        let refused = async move { refusal.await.expect("the test refuses the call") }.boxed();
        let mut stream = Permitted::new(LocalStream::new(receiver, work), Some(refused));
        let answer = || Ok(StreamResponse { sequence: 1, ..StreamResponse::default() });
        answers.try_send(answer()).unwrap();
        assert_eq!(poll_fn(|context| stream.poll_answer(context)).await.unwrap().unwrap().sequence, 1);
        answers.try_send(answer()).unwrap();
        refuse.send(Status::unauthenticated("")).unwrap();
        let end = poll_fn(|context| stream.poll_answer(context)).await.unwrap().unwrap_err();
        assert_eq!(end.code(), Code::Unauthenticated);
        assert!(poll_fn(|context| stream.poll_answer(context)).await.is_none());
        dropped.await.unwrap_err();
    }
}
