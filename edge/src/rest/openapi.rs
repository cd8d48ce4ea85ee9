//! The OpenAPI description and a page that lists the operations, both from the table that makes the routes.
//! It says what a caller may send and which statuses may come back; the forms of answers are described in words only.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::table::{Input, Kind, Operation, Output, Parameter};

/// The description of `operations`, in OpenAPI 3.1.
pub(crate) fn document(operations: &[Operation]) -> Value {
    let mut paths = Map::new();
    for operation in operations {
        for (path, _) in operation.paths() {
            let path = path.replace("{*", "{") + "/";
            let item = paths.entry(path.clone()).or_insert_with(|| json!({}));
            item[operation.method.as_str().to_lowercase()] = describe(operation, &path);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Matyan", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": {"Error": error_schema()}},
    })
}

/// The operations for people.
pub(crate) fn page(operations: &[Operation]) -> String {
    let mut rows = String::new();
    for operation in operations {
        for (path, _) in operation.paths() {
            let (method, summary) = (&operation.method, escape(operation.summary));
            // Writing to a string cannot fail.
            let _ = write!(
                rows,
                "<tr><td>{method}</td><td><code>{}/</code></td><td>{summary}</td></tr>",
                escape(&path)
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

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn describe(operation: &Operation, path: &str) -> Value {
    let mut description = json!({
        "summary": operation.summary,
        "parameters": parameters(operation, path),
        "responses": responses(operation),
    });
    match &operation.input {
        Input::None => {}
        Input::Json(shape) => {
            description["requestBody"] =
                json!({"required": true, "content": {"application/json": {"schema": shape.schema()}}});
        }
        Input::Raw => {
            description["requestBody"] =
                json!({"required": true, "content": {"application/octet-stream": {"schema": {}}}});
        }
    }
    description
}

fn parameters(operation: &Operation, path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let in_path =
        names.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    in_path.chain(operation.query.iter().map(query_parameter)).collect()
}

fn query_parameter(parameter: &Parameter) -> Value {
    let mut schema = match parameter.kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Int => json!({"type": "integer", "format": "int64"}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Texts => json!({"type": "array", "items": {"type": "string"}}),
    };
    if let Some(default) = parameter.default {
        schema["default"] = serde_json::from_str(default).unwrap_or_else(|_| default.into());
    }
    json!({"name": parameter.name, "in": "query", "required": parameter.required, "schema": schema})
}

fn responses(operation: &Operation) -> Value {
    let media = match operation.output {
        Output::Json => Some("application/json"),
        Output::Bytes => Some("application/octet-stream"),
        Output::Zip => Some("application/zip"),
        Output::Text => Some("text/plain"),
        Output::Html => Some("text/html"),
        Output::Nothing => None,
    };
    let success = match media {
        Some(media) => json!({"description": "success", "content": {(media): {"schema": {}}}}),
        None => json!({"description": "success, without a body"}),
    };
    let error = json!({
        "description": "an error",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    });
    let mut responses = json!({(operation.success.to_string()): success});
    for status in ["400", "404", "405", "409", "413", "422", "503"] {
        responses[status] = error.clone();
    }
    responses
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
