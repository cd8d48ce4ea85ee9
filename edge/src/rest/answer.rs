//! Successful answers. The type of an answer also describes it in OpenAPI.

use axum::Json;
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_SECURITY_POLICY, ETAG, HeaderValue};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::call::Dialect;
use super::edit_condition::etag;
use crate::security_headers::DOCS_POLICY;

/// A successful answer of an operation.
pub(crate) trait Answer {
    const STATUS: StatusCode = StatusCode::OK;
    const MEDIA_TYPE: &str = "application/json";

    fn into_response(self) -> Response;

    /// The schema of the body; any value, unless it is JSON.
    fn schema(_: &mut SchemaGenerator) -> Value {
        json!({})
    }

    /// The answers by status, in OpenAPI's notation.
    fn describe(_: Dialect, schemas: &mut SchemaGenerator) -> Map<String, Value> {
        let content = json!({(Self::MEDIA_TYPE): {"schema": Self::schema(schemas)}});
        by_status(Self::STATUS, json!({"description": "success", "content": content}))
    }
}

pub(super) fn by_status(status: StatusCode, description: Value) -> Map<String, Value> {
    Map::from_iter([(status.as_str().to_owned(), description)])
}

impl<T: Serialize + JsonSchema> Answer for Json<T> {
    fn into_response(self) -> Response {
        IntoResponse::into_response(self)
    }

    fn schema(schemas: &mut SchemaGenerator) -> Value {
        schemas.subschema_for::<T>().to_value()
    }
}

/// An answer with an entity tag in its header, if there is one.
pub(crate) struct WithETag<T> {
    pub(crate) etag: Option<HeaderValue>,
    pub(crate) answer: Json<T>,
}

impl<T> WithETag<T> {
    /// An entity, with the time of its last change as its version.
    pub(crate) fn of_version(updated_us: i64, answer: Json<T>) -> Self {
        WithETag { etag: Some(etag(updated_us)), answer }
    }
}

impl<T: Serialize + JsonSchema> Answer for WithETag<T> {
    fn into_response(self) -> Response {
        let mut response = Answer::into_response(self.answer);
        if let Some(etag) = self.etag {
            response.headers_mut().insert(ETAG, etag);
        }
        response
    }

    fn schema(schemas: &mut SchemaGenerator) -> Value {
        Json::<T>::schema(schemas)
    }
}

impl Answer for Html<String> {
    const MEDIA_TYPE: &str = "text/html";

    fn into_response(self) -> Response {
        ([(CONTENT_SECURITY_POLICY, DOCS_POLICY)], self).into_response()
    }
}

/// A new resource.
pub(super) struct Creation<T>(pub(super) T);

impl<T: Serialize + JsonSchema> Answer for Creation<T> {
    const STATUS: StatusCode = StatusCode::CREATED;

    fn into_response(self) -> Response {
        (Self::STATUS, Json(self.0)).into_response()
    }

    fn schema(schemas: &mut SchemaGenerator) -> Value {
        Json::<T>::schema(schemas)
    }
}

/// An answer without a body.
pub(super) struct NoContent;

impl Answer for NoContent {
    const STATUS: StatusCode = StatusCode::NO_CONTENT;

    fn into_response(self) -> Response {
        Self::STATUS.into_response()
    }

    fn describe(_: Dialect, _: &mut SchemaGenerator) -> Map<String, Value> {
        by_status(Self::STATUS, json!({"description": "success, without a body"}))
    }
}

/// No body; null for the bundle of Aim, which parses JSON from every successful answer.
pub(super) struct Deletion(pub(super) Dialect);

impl Answer for Deletion {
    fn into_response(self) -> Response {
        match self.0 {
            Dialect::Matyan => NoContent.into_response(),
            Dialect::Aim => Answer::into_response(Json(())),
        }
    }

    fn describe(dialect: Dialect, schemas: &mut SchemaGenerator) -> Map<String, Value> {
        match dialect {
            Dialect::Matyan => NoContent::describe(dialect, schemas),
            Dialect::Aim => Json::<()>::describe(dialect, schemas),
        }
    }
}

/// Answer to a change of one resource.
#[derive(Serialize, JsonSchema)]
pub(super) struct ChangedResource {
    id: String,
    status: &'static str,
}

impl ChangedResource {
    pub(super) fn new(id: String) -> Json<Self> {
        Json(ChangedResource { id, status: "OK" })
    }
}

/// Answer to a change of several resources, or of none.
#[derive(Serialize, JsonSchema)]
pub(super) struct Acknowledgment {
    status: &'static str,
}

impl Acknowledgment {
    pub(super) fn new() -> Json<Self> {
        Json(Acknowledgment { status: "OK" })
    }
}
