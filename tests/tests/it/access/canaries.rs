//! A project with a canary in every text. No answer to a caller without rights in the project contains a canary,
//! whatever the request names, over every rpc and operation, including the protocols of other trackers. An owner of
//! the project sees each canary, so the canaries are where they belong.

mod filling;

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, Request};
use matyan_proto::{DESCRIPTORS, access::v1::Role, common::v1::SeriesType};
use matyan_tests::exact_http::{Answer, ExactClient};
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value,
};

use super::{closed_server::ClosedServer, foreign::ForeignOperation};
use filling::{Canaries, FilledProject};

const FILLED: &str = "vision";
const OWN: &str = "speech";

const CONCURRENCY: usize = 16;

/// Calls that do not end if they are permitted. The backend's own tests watch other projects.
const ENDLESS: [&str; 4] = [
    "/matyan.live.v1.LiveService/Subscribe",
    "/matyan.runs.v1.RunService/Watch",
    "/matyan.search.v1.SearchService/WatchRuns",
    "/matyan.series.v1.SeriesService/Follow",
];

/// The start of a query whose completions are names of experiments.
const COMPLETED: &str = "run.experiment == '";

/// A request without its project and its caller.
#[derive(Clone)]
struct Call {
    method: Method,
    path: String,
    content_type: &'static str,
    body: Bytes,
    /// Whether the request changes nothing.
    is_reading: bool,
}

impl Call {
    fn request(&self, base: &str, project: &str, token: Option<&str>) -> Request<Bytes> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(format!("{base}{}", self.path))
            .header("content-type", self.content_type)
            .header("te", "trailers");
        if !project.is_empty() {
            request = request.header("matyan-project", project);
        }
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.body(self.body.clone()).expect("the request is well-formed")
    }
}

/// Every rpc, with ids of things in the project.
fn rpcs(filled: &FilledProject) -> Vec<Call> {
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("the build writes descriptors");
    let services: Vec<_> = pool.services().collect();
    let methods = services.iter().flat_map(|service| service.methods());
    methods.map(|method| rpc(filled, &method)).filter(|call| !ENDLESS.contains(&call.path.as_str())).collect()
}

fn rpc(filled: &FilledProject, method: &MethodDescriptor) -> Call {
    let service = method.parent_service().full_name().to_owned();
    let path = format!("/{service}/{}", method.name());
    let message = message_of(&path, &method.input(), filled).encode_to_vec();
    let length = u32::try_from(message.len()).expect("the message is small");
    let body = [&[0][..], &length.to_be_bytes(), &message].concat().into();
    // NO_SIDE_EFFECTS
    let options = method.method_descriptor_proto().options.as_ref();
    let is_reading = options.is_some_and(|options| options.idempotency_level == Some(1));
    Call { method: Method::POST, path, content_type: "application/grpc", body, is_reading }
}

/// A request with ids of things in the project.
fn message_of(path: &str, message: &MessageDescriptor, filled: &FilledProject) -> DynamicMessage {
    let mut request = DynamicMessage::new(message.clone());
    for field in message.fields() {
        // Only the first field of a oneof is set.
        if field.containing_oneof().is_some_and(|it| it.fields().next() != Some(field.clone())) {
            continue;
        }
        if let Some(value) = value_of(path, &field, filled) {
            let value = if field.is_list() { Value::List(vec![value]) } else { value };
            request.set_field(&field, value);
        }
    }
    request
}

/// The value of a field; `None` leaves it out.
fn value_of(path: &str, field: &FieldDescriptor, filled: &FilledProject) -> Option<Value> {
    let text = |text: &str| Some(Value::String(text.to_owned()));
    let id_of = |package: &str| filled.ids.get(package).and_then(|id| text(id));
    match (field.kind(), field.name()) {
        (Kind::String, "run_id") if path.ends_with("/ListQuarantinedRuns") => text("parked"),
        (Kind::String, "run_id" | "run_ids" | "id_of_run") => text(filled.run_id),
        (Kind::String, "id" | "ids") => id_of(path.split('.').nth(1)?),
        (Kind::String, "tag_id") => id_of("tags"),
        (Kind::String, "experiment_id") => id_of("experiments"),
        (Kind::String, "app_id") => id_of("apps"),
        (Kind::String, "path" | "artifact_path") => text(filled.artifact),
        (Kind::String, "uris" | "uri" | "blob_uri") => text(&filled.blob_uri),
        (Kind::String, "text") if path.ends_with("/Complete") => text(COMPLETED),
        (Kind::Uint32, "cursor") if path.ends_with("/Complete") => {
            Some(Value::U32(u32::try_from(COMPLETED.len()).ok()?))
        }
        (Kind::Uint32, "size") => Some(Value::U32(16)),
        (Kind::Uint32, "count" | "buckets" | "density" | "pixels") => Some(Value::U32(10)),
        (Kind::Enum(kind), _) if kind.name() == "SeriesType" => {
            let kind =
                if path.ends_with("SeriesService/List") { SeriesType::Metric } else { SeriesType::Texts };
            Some(Value::EnumNumber(kind.into()))
        }
        (Kind::Enum(kind), _) if kind.name() == "SearchKind" || kind.name() == "Format" => {
            kind.values().nth(1).map(|value| Value::EnumNumber(value.number()))
        }
        (Kind::Message(message), _) if message.name() == "SeriesKey" => {
            let name = if path.contains("ObjectService") { "o" } else { "m" };
            let mut key = DynamicMessage::new(message);
            key.set_field_by_name("name", Value::String(name.to_owned()));
            Some(Value::Message(key))
        }
        (Kind::Message(message), _) if message.name() == "RunParts" => {
            let mut parts = DynamicMessage::new(message.clone());
            for field in message.fields().filter(|field| field.kind() == Kind::Bool) {
                parts.set_field(&field, Value::Bool(true));
            }
            let types = [SeriesType::Metric, SeriesType::Texts].map(|it| Value::EnumNumber(it.into()));
            parts.set_field_by_name("series_types", Value::List(types.into()));
            Some(Value::Message(parts))
        }
        (Kind::Message(message), _) if matches!(message.name(), "RunSelection" | "Owner") => {
            Some(Value::Message(message_of(path, &message, filled)))
        }
        _ => None,
    }
}

/// Every REST operation, with ids of things in the project.
async fn operations(closed: &ClosedServer, filled: &FilledProject) -> Vec<Call> {
    let description = Call {
        method: Method::GET,
        path: "/openapi.json".to_owned(),
        content_type: "application/json",
        body: Bytes::new(),
        is_reading: true,
    };
    let request = description.request(&closed.server.query, "", Some(&closed.operator));
    let answer = ExactClient::http2().send(request).await;
    let described: serde_json::Value = serde_json::from_slice(&answer.body).expect("the description is JSON");
    let mut calls = Vec::new();
    for (path, operations) in described["paths"].as_object().expect("a description has paths") {
        for method in operations.as_object().expect("a path has operations").keys() {
            let method: Method = method.to_uppercase().parse().expect("a method is a token");
            let is_reading = method == Method::GET;
            let body: &'static [u8] = if is_reading { b"" } else { b"{}" };
            let body = Bytes::from_static(body);
            // Deleting the project would leave nothing for the other calls.
            if method == Method::DELETE && path == "/api/v1/rest/projects/" {
                continue;
            }
            let path = filled_path(path, filled);
            calls.push(Call { method, path, body, is_reading, ..description.clone() });
        }
    }
    calls
}

/// Every operation of other trackers' protocols, with ids of things in the project.
async fn foreign_operations(closed: &ClosedServer, filled: &FilledProject) -> Vec<Call> {
    let call = |operation: ForeignOperation| {
        let is_reading = operation.is_reading();
        let ForeignOperation { method, path, content_type, body, .. } = operation;
        Call { method, path, content_type, body, is_reading }
    };
    filled.foreign.operations(closed).await.into_iter().map(call).collect()
}

/// The path of an operation with ids of things in the project.
fn filled_path(template: &str, filled: &FilledProject) -> String {
    let mut section = "";
    let mut segments = Vec::new();
    for segment in template.split('/') {
        let id = |package: &str| filled.ids.get(package).map_or("x", String::as_str);
        segments.push(match segment {
            "{uri}" => filled.blob_uri.as_str(),
            "{note_id}" => id("notes"),
            "{tag_id}" => id("tags"),
            parameter if parameter.starts_with('{') => {
                if section == "runs" {
                    filled.run_id
                } else {
                    id(section)
                }
            }
            plain => {
                section = plain;
                plain
            }
        });
    }
    let path = segments.join("/");
    if path.contains("/artifacts/download/") { format!("{path}?path={}", filled.artifact) } else { path }
}

/// Sends all calls. Returns the answers, each with its path.
async fn answers(
    closed: &ClosedServer,
    calls: &[&Call],
    project: &str,
    token: Option<&str>,
) -> Vec<(String, Answer)> {
    let client = ExactClient::http2();
    stream::iter(calls)
        .map(|call| {
            let request = call.request(&closed.server.query, project, token);
            let client = &client;
            let path = format!("{} {}", call.method, call.path);
            async move { (path, client.send(request).await) }
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await
}

/// The canaries in an answer.
fn shown<'a>(canaries: &BTreeSet<&'a str>, answer: &Answer) -> BTreeSet<&'a str> {
    canaries.iter().copied().filter(|canary| answer.contains(canary)).collect()
}

#[tokio::test]
async fn rule_103_no_text_of_a_project_reaches_a_caller_without_rights_in_it() {
    let closed = ClosedServer::up(&[], &[FILLED, OWN]).await;
    let filled = FilledProject::fill(&closed, FILLED).await;
    let foreign = foreign_operations(&closed, &filled).await;
    let calls = [rpcs(&filled), operations(&closed, &filled).await, foreign].concat();
    let canaries: BTreeSet<&str> = filled.canaries.used.iter().map(String::as_str).collect();

    // An owner of the project reads all canaries.
    let owner = closed.invite("owner", Role::Owner, FILLED).await.secret;
    let reading: Vec<&Call> = calls.iter().filter(|call| call.is_reading).collect();
    let mut unseen = canaries.clone();
    for (_, answer) in answers(&closed, &reading, FILLED, Some(&owner)).await {
        for canary in shown(&canaries, &answer) {
            unseen.remove(canary);
        }
    }
    assert!(unseen.is_empty(), "an owner does not see {unseen:?}: make calls that show them");

    let elsewhere = closed.invite("elsewhere", Role::Owner, OWN).await.secret;
    let node = closed.invite("node", Role::Ingest, FILLED).await.secret;
    let everything: Vec<&Call> = calls.iter().collect();
    let mut leaks = Vec::new();
    for (who, token, project) in [
        ("nobody", None, FILLED),
        ("nobody", None, ""),
        ("an owner of another project", Some(&elsewhere), FILLED),
        ("an owner of another project", Some(&elsewhere), OWN),
        ("an owner of another project", Some(&elsewhere), ""),
        ("a node that only sends data", Some(&node), FILLED),
    ] {
        for (path, answer) in answers(&closed, &everything, project, token.map(String::as_str)).await {
            let mut leaked = shown(&canaries, &answer);
            if token == Some(&node) {
                leaked.retain(|canary| !Canaries::is_of_project(canary));
            }
            if !leaked.is_empty() {
                leaks.push(format!("{path} in `{project}` shows {leaked:?} to {who}"));
            }
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}
