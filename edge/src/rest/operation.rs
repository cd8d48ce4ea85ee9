//! The declaration of an operation, which has the parameters, the body, and the answers of its handler.

use axum::response::Response;
use futures::future::BoxFuture;
use http::Method;
use matyan_proto::common::v1::Access;
use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::answer::Answer;
use super::call::{Call, Dialect, Inputs, RequestBody, ValidRequest};
use crate::error::ApiResult;

/// Maximum size of a JSON body of a few names, each with at most some kilobytes.
const SMALL_BODY_BYTES: usize = 64 << 10;

/// Base path of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BasePath {
    /// Under `/`.
    Root,
    /// Under `/api/v1/rest`.
    Rest,
    /// Under `/api/v1/rest`, and also under `/api`.
    RestAndAim,
}

type ResponseFuture = BoxFuture<'static, ApiResult<Response>>;
type DescribeAnswers = fn(Dialect, &mut SchemaGenerator) -> Map<String, Value>;

/// A function that answers a call: `async fn(Call<P, B>) -> ApiResult<A>`.
pub(crate) trait Handler<P, B>: Send + Sync + 'static {
    fn inputs(&self) -> Inputs;

    fn describe_answers(&self) -> DescribeAnswers;

    fn answer(&self, request: ValidRequest) -> ResponseFuture;
}

impl<H, P, B, F, A> Handler<P, B> for H
where
    H: Fn(Call<P, B>) -> F + Clone + Send + Sync + 'static,
    P: DeserializeOwned + JsonSchema + Send + 'static,
    B: RequestBody,
    F: Future<Output = ApiResult<A>> + Send + 'static,
    A: Answer,
{
    fn inputs(&self) -> Inputs {
        Inputs::new::<P, B>()
    }

    fn describe_answers(&self) -> DescribeAnswers {
        A::describe
    }

    fn answer(&self, request: ValidRequest) -> ResponseFuture {
        let handler = self.clone();
        Box::pin(async move { Ok(handler(request.decode().await?).await?.into_response()) })
    }
}

pub(crate) struct Operation {
    pub(crate) base: BasePath,
    pub(crate) method: Method,
    /// Relative to the base, without a trailing slash.
    pub(crate) path: String,
    pub(crate) summary: String,
    pub(crate) inputs: Inputs,
    /// Describes the successful answers by status.
    pub(crate) describe_answers: DescribeAnswers,
    /// Error statuses in addition to those common to all operations.
    pub(crate) failures: &'static [&'static str],
    /// The right of the rpc that the handler calls, which is needed before anything of a request is read. Each
    /// call that the handler makes is checked again, by its own right.
    pub(crate) access: Access,
    handler: Box<dyn Fn(ValidRequest) -> ResponseFuture + Send + Sync>,
}

impl Operation {
    fn new<P, B>(method: Method, path: &str, summary: &str, handler: impl Handler<P, B>) -> Self {
        // Most operations read or edit. Others say so.
        let access = if method == Method::GET { Access::Read } else { Access::Edit };
        Operation {
            base: BasePath::RestAndAim,
            method,
            path: path.to_owned(),
            summary: summary.to_owned(),
            inputs: handler.inputs(),
            describe_answers: handler.describe_answers(),
            failures: &[],
            access,
            handler: Box::new(move |request| handler.answer(request)),
        }
    }

    pub(crate) fn get<P, B>(path: &str, summary: &str, handler: impl Handler<P, B>) -> Self {
        Self::new(Method::GET, path, summary, handler)
    }

    pub(crate) fn post<P, B>(path: &str, summary: &str, handler: impl Handler<P, B>) -> Self {
        Self::new(Method::POST, path, summary, handler)
    }

    pub(crate) fn put<P, B>(path: &str, summary: &str, handler: impl Handler<P, B>) -> Self {
        Self::new(Method::PUT, path, summary, handler)
    }

    pub(crate) fn delete<P, B>(path: &str, summary: &str, handler: impl Handler<P, B>) -> Self {
        Self::new(Method::DELETE, path, summary, handler)
    }

    pub(crate) fn base(self, base: BasePath) -> Self {
        Operation { base, ..self }
    }

    pub(crate) fn fails(self, failures: &'static [&'static str]) -> Self {
        Operation { failures, ..self }
    }

    /// Reports problems of the request as a list in `detail`.
    pub(crate) fn listing_problems(mut self) -> Self {
        self.inputs.lists_problems = true;
        self
    }

    /// Needs another right than most operations with its method.
    pub(crate) fn access(self, access: Access) -> Self {
        Operation { access, ..self }
    }

    /// Limits the JSON body to the size of a few names.
    pub(crate) fn with_small_body(mut self) -> Self {
        self.inputs.max_body_bytes = SMALL_BODY_BYTES;
        self
    }

    /// Whether a call changes nothing, so that its answer may be refused afterwards.
    pub(crate) fn is_read(&self) -> bool {
        self.method == Method::GET || self.access == Access::Read
    }

    pub(crate) async fn answer(&self, request: ValidRequest) -> ApiResult<Response> {
        (self.handler)(request).await
    }

    /// Full paths, each with its dialect.
    pub(crate) fn paths(&self) -> Vec<(String, Dialect)> {
        let bases: &[(&str, Dialect)] = match self.base {
            BasePath::Root => &[("", Dialect::Matyan)],
            BasePath::Rest => &[("/api/v1/rest", Dialect::Matyan)],
            BasePath::RestAndAim => &[("/api/v1/rest", Dialect::Matyan), ("/api", Dialect::Aim)],
        };
        bases.iter().map(|(base, dialect)| (format!("{base}{}", self.path), *dialect)).collect()
    }
}
