//! The OpenAPI description and a page that lists the operations, both generated from the table
//! of routes.
//! It describes what callers may send, and the statuses and bodies of responses, but not the
//! entries of streams.

use std::fmt::Write;

use http::Method;
use serde_json::{Map, Value, json};

use super::call::{Dialect, TIMEZONE};
use super::response_schema::ResponseSchema;
use super::stream_response::WARNINGS;
use super::table::{BasePath, Input, Operation, Output, Parameter, ParameterKind};

/// Generates the OpenAPI 3.1 description of `operations`.
pub(crate) fn document(operations: &[Operation]) -> Value {
    let mut paths = Map::new();
    for operation in operations {
        for (path, dialect) in operation.paths() {
            let path = documented_path(&path);
            let item = paths.entry(path.clone()).or_insert_with(|| json!({}));
            item[operation.method.as_str().to_lowercase()] = describe(operation, &path, dialect);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Matyan", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": {"Error": error_schema()}},
    })
}

/// Generates an HTML page that lists the operations.
pub(crate) fn page(operations: &[Operation]) -> String {
    let mut rows = String::new();
    for operation in operations {
        for (path, _) in operation.paths() {
            let (method, summary) = (&operation.method, escape(operation.summary));
            // Writing to a string cannot fail.
            let _ = write!(
                rows,
                "<tr><td>{method}</td><td><code>{}</code></td><td>{summary}</td></tr>",
                escape(&documented_path(&path))
            );
        }
    }
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Matyan API</title>\
         <style>body{{font:16px sans-serif;margin:2em}}td{{padding:.2em 1em .2em 0}}</style></head><body>\
         <h1>Matyan API</h1><p>Machine-readable: <a href=\"/openapi.json\">openapi.json</a>. \
         Metrics and params also travel over a WebSocket at <code>/api/v1/ws/runs/{{run_id}}</code>, and every \
         operation is a gRPC method on this port; reflection is on.</p><table>{rows}</table></body></html>"
    )
}

/// The documented form of a path, with a trailing slash. The key of a blob is the rest of its
/// path, where a slash would be part of the key.
fn documented_path(path: &str) -> String {
    match path.contains("{*") {
        true => path.replace("{*", "{"),
        false => format!("{path}/"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn describe(operation: &Operation, path: &str, dialect: Dialect) -> Value {
    let mut description = json!({
        "operationId": operation_id(operation, path),
        "tags": [tag(operation.path)],
        "summary": operation.summary,
        "parameters": parameters(operation, path),
        "responses": responses(operation, dialect),
    });
    match &operation.input {
        Input::None => {}
        Input::Json(schema) => {
            description["requestBody"] =
                json!({"required": true, "content": {"application/json": {"schema": schema.schema()}}});
        }
        Input::Raw => {
            description["requestBody"] =
                json!({"required": true, "content": {"application/octet-stream": {"schema": {}}}});
        }
    }
    description
}

/// Name of the operation in generated clients: the method and the words of the path.
fn operation_id(operation: &Operation, path: &str) -> String {
    let words = path.split(|it: char| !it.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let method = operation.method.as_str().to_lowercase();
    std::iter::once(method.as_str()).chain(words).collect::<Vec<_>>().join("_")
}

/// The first segment, which names the section.
fn tag(path: &str) -> &str {
    path.split('/').find(|segment| !segment.is_empty()).unwrap_or_default()
}

fn parameters(operation: &Operation, path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let in_path =
        names.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    let zone = operation.is_zoned.then(|| {
        json!({
            "name": TIMEZONE,
            "in": "header",
            "description": "time zone in minutes, UTC minus local time: UTC+4 is -240",
            "schema": {"type": "integer", "format": "int32", "default": 0},
        })
    });
    in_path.chain(operation.query.iter().map(query_parameter)).chain(zone).collect()
}

fn query_parameter(parameter: &Parameter) -> Value {
    let mut schema = match parameter.kind {
        ParameterKind::Text => json!({"type": "string"}),
        ParameterKind::Int => json!({"type": "integer", "format": "int64"}),
        ParameterKind::Bool => json!({"type": "boolean"}),
        ParameterKind::Texts => json!({"type": "array", "items": {"type": "string"}}),
    };
    if let Some(default) = parameter.default {
        schema["default"] = serde_json::from_str(default).unwrap_or_else(|_| default.into());
    }
    json!({"name": parameter.name, "in": "query", "required": parameter.required, "schema": schema})
}

fn responses(operation: &Operation, dialect: Dialect) -> Value {
    let content = |media: &str, schema: Value| json!({"description": "success", "content": {(media): {"schema": schema}}});
    let (status, success) = match operation.output {
        Output::Json(schema) => (operation.success, content("application/json", schema.schema())),
        Output::Bytes => (operation.success, content("application/octet-stream", json!({}))),
        Output::SearchResults => {
            let mut results = content("application/octet-stream", json!({}));
            results["headers"] = json!({WARNINGS: {
                "description": "warnings about the query: a JSON array of messages, in ASCII",
                "schema": {"type": "string"},
            }});
            (operation.success, results)
        }
        Output::File => (operation.success, content("*/*", json!({}))),
        Output::Zip => (operation.success, content("application/zip", json!({}))),
        Output::Text => (operation.success, content("text/plain", json!({}))),
        Output::Html => (operation.success, content("text/html", json!({}))),
        Output::Deleted if dialect == Dialect::Aim => {
            (200, content("application/json", ResponseSchema::Null.schema()))
        }
        Output::Nothing | Output::Deleted => {
            (operation.success, json!({"description": "success, without a body"}))
        }
    };
    let error = json!({
        "description": "an error",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    });
    let mut responses = Map::new();
    for status in errors(operation).chain(operation.failures.iter().copied()) {
        responses.insert(status.to_owned(), error.clone());
    }
    if operation.may_be_unready {
        responses.insert("503".to_owned(), success.clone());
    }
    responses.insert(status.to_string(), success);
    Value::Object(responses)
}

/// Statuses of error responses. Operations that call no service cannot fail otherwise.
fn errors(operation: &Operation) -> impl Iterator<Item = &'static str> {
    let common: &[&str] = match operation.base {
        BasePath::Root => &["405"],
        BasePath::Rest | BasePath::RestAndAim => &["400", "404", "405", "409", "413", "422", "503"],
    };
    let for_foreign_pages = (operation.method != Method::GET).then_some("403");
    let for_slow_bodies = matches!(operation.input, Input::Json(_)).then_some("408");
    common.iter().copied().chain(for_foreign_pages).chain(for_slow_bodies)
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["error", "detail", "message"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
            },
            "detail": {},
            "message": {"type": "string"},
        },
    })
}
