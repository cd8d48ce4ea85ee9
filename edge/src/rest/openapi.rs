//! The OpenAPI description and a page that lists the operations, both generated from the table
//! of routes.
//! It describes what callers may send, and the statuses and bodies of responses, but not the
//! entries of streams.

use std::fmt::Write;

use http::Method;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::call::{BodySchema, Dialect, HEADERS};
use super::operation::{BasePath, Operation};
use crate::error::ErrorBody;
use crate::html;

/// Name of the extension that says which right an operation needs, as in `matyan.common.v1.Access`.
const RIGHT: &str = "x-matyan-access";

/// Generates the OpenAPI 3.1 description of `operations`.
pub(crate) fn document(operations: &[Operation]) -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let settings = settings.with(|it| it.definitions_path = "/components/schemas".into());
    let mut schemas = settings.into_generator();
    let mut paths = Map::new();
    for operation in operations {
        for (path, dialect) in operation.paths() {
            let path = documented_path(&path);
            let item = paths.entry(path.clone()).or_insert_with(|| json!({}));
            item[operation.method.as_str().to_lowercase()] =
                describe(operation, &path, dialect, &mut schemas);
        }
    }
    Map::from_iter([
        ("openapi".to_owned(), "3.1.0".into()),
        ("info".to_owned(), json!({"title": "Matyan", "version": env!("CARGO_PKG_VERSION")})),
        ("paths".to_owned(), paths.into()),
        ("components".to_owned(), json!({"schemas": schemas.take_definitions(true)})),
    ])
}

/// Generates an HTML page that lists the operations.
pub(crate) fn page(operations: &[Operation]) -> String {
    let mut rows = String::new();
    for operation in operations {
        for (path, _) in operation.paths() {
            let method = &operation.method;
            let summary = html::escape(&operation.summary);
            // Writing to a string cannot fail.
            let _ = write!(
                rows,
                "<tr><td>{method}</td><td><code>{}</code></td><td>{summary}</td></tr>",
                html::escape(&documented_path(&path))
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
    if path.contains("{*") { path.replace("{*", "{") } else { format!("{path}/") }
}

fn describe(operation: &Operation, path: &str, dialect: Dialect, schemas: &mut SchemaGenerator) -> Value {
    let mut description = json!({
        "operationId": operation_id(operation, path),
        "tags": [tag(&operation.path)],
        "summary": operation.summary,
        "parameters": parameters(operation, path),
        "responses": responses(operation, dialect, schemas),
        (RIGHT): operation.access.as_str_name(),
    });
    let (media_type, schema) = match &operation.inputs.body {
        BodySchema::None => return description,
        BodySchema::Json(schema) => ("application/json", schema.as_value().clone()),
        BodySchema::Stream => ("application/octet-stream", json!({})),
    };
    description["requestBody"] = json!({"required": true, "content": {(media_type): {"schema": schema}}});
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
    let parameters = &operation.inputs.parameters;
    parameters
        .members()
        .map(|(name, schema)| {
            let location = match name.as_str() {
                name if HEADERS.contains(&name) => "header",
                name if path.contains(&format!("{{{name}}}")) => "path",
                _ => "query",
            };
            let is_required = parameters.is_required(name);
            let mut described =
                json!({"name": name, "in": location, "required": is_required, "schema": schema});
            if let Some(text) =
                described["schema"].as_object_mut().and_then(|it| it.shift_remove("description"))
            {
                described["description"] = text;
            }
            described
        })
        .collect()
}

fn responses(operation: &Operation, dialect: Dialect, schemas: &mut SchemaGenerator) -> Value {
    let error = json!({
        "description": "an error",
        "content": {"application/json": {"schema": schemas.subschema_for::<ErrorBody<'_>>()}},
    });
    let errors = errors(operation).chain(operation.failures.iter().copied());
    let mut responses: Map<String, Value> = errors.map(|status| (status.to_owned(), error.clone())).collect();
    responses.extend((operation.describe_answers)(dialect, schemas));
    Value::Object(responses)
}

/// Statuses of error responses. Operations that call no service cannot fail otherwise.
fn errors(operation: &Operation) -> impl Iterator<Item = &'static str> {
    let common: &[&str] = match operation.base {
        BasePath::Root => &["405"],
        BasePath::Rest | BasePath::RestAndAim => &["400", "404", "405", "409", "413", "422", "503"],
    };
    let for_foreign_pages = (operation.method != Method::GET).then_some("403");
    let for_slow_bodies = matches!(operation.inputs.body, BodySchema::Json(_)).then_some("408");
    common.iter().copied().chain(for_foreign_pages).chain(for_slow_bodies)
}
