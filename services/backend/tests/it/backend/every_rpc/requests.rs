//! Requests of every rpc, with values chosen by the names of their fields.

use bytes::Bytes;
use matyan_proto::{
    access::v1::Role,
    common::v1::SeriesType,
    export::v1::Format,
    search::v1::{SearchKind, SortField},
    studies::v1::TrialState,
};
use prost::Message as _;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind as FieldKind, MessageDescriptor, MethodDescriptor, Value,
};

use super::Side;

/// A distribution of a param of a trial.
const DISTRIBUTION: &str =
    r#"{"name": "FloatDistribution", "attributes": {"low": 0, "high": 1, "log": false, "step": null}}"#;

/// The beginning of a query whose completions are names of experiments.
const COMPLETED: &str = "run.experiment == '";

/// A request for what a side has, with the ids of another side.
pub(super) fn request(name: &str, method: &MethodDescriptor, ids_of: &Side, round: usize) -> Bytes {
    let mut message = DynamicMessage::new(method.input());
    for field in method.input().fields() {
        let in_oneof = field.containing_oneof();
        if in_oneof.is_some_and(|it| it.fields().next() != Some(field.clone())) {
            continue;
        }
        if let Some(value) = value(name, &field, ids_of, round) {
            let value = if field.is_list() { Value::List(vec![value]) } else { value };
            message.set_field(&field, value);
        }
    }
    message.encode_to_vec().into()
}

/// A message with one field.
fn message_with(message: MessageDescriptor, field: &str, value: Value) -> Option<Value> {
    let mut message = DynamicMessage::new(message);
    message.set_field_by_name(field, value);
    Some(Value::Message(message))
}

/// The value of a field that only calls about studies have.
fn study_value(method: &str, field: &FieldDescriptor) -> Option<Value> {
    let text = |text: &str| Some(Value::String(text.to_owned()));
    match (field.kind(), field.name()) {
        (FieldKind::Uint32, "study_id") => Some(Value::U32(1)),
        (FieldKind::String, "value") => text("1"),
        (FieldKind::Enum(_), "directions" | "kind") => Some(Value::EnumNumber(1)),
        (FieldKind::Enum(_), "state") => Some(Value::EnumNumber(TrialState::Running.into())),
        (FieldKind::Message(message), "param") => {
            message_with(message, "distribution", Value::String(DISTRIBUTION.to_owned()))
        }
        (FieldKind::String, "name") if method.ends_with("/Find") => text("s"),
        _ => None,
    }
}

/// The kind or the name of a document.
fn document_value(field: &FieldDescriptor) -> Option<Value> {
    let text = match (field.kind(), field.name()) {
        (FieldKind::String, "kind") => "kind",
        (FieldKind::String, "name") => "d",
        (FieldKind::String, "new_name") => "renamed",
        _ => return None,
    };
    Some(Value::String(text.to_owned()))
}

/// Parts of a run of every kind.
fn run_parts(message: MessageDescriptor) -> Value {
    let mut parts = DynamicMessage::new(message);
    for part in ["props", "params", "artifacts", "typed_values"] {
        parts.set_field_by_name(part, Value::Bool(true));
    }
    let types = [SeriesType::Metric, SeriesType::Texts].map(|it| Value::EnumNumber(it.into()));
    parts.set_field_by_name("series_types", Value::List(types.into()));
    Value::Message(parts)
}

/// The value of a field; `None` leaves it out.
fn value(method: &str, field: &FieldDescriptor, ids_of: &Side, round: usize) -> Option<Value> {
    let service = method.split('/').next()?;
    let text = |text: &str| Some(Value::String(text.to_owned()));
    let of_service = match service {
        "studies.v1.StudyService" => study_value(method, field),
        "documents.v1.DocumentService" => document_value(field),
        _ => None,
    };
    if of_service.is_some() {
        return of_service;
    }
    match (field.kind(), field.name()) {
        (FieldKind::String, "run_id") if method.ends_with("/ListQuarantinedRuns") => text("parked"),
        (FieldKind::String, "run_id" | "run_ids" | "id_of_run") => text("r"),
        (FieldKind::String, "id" | "ids") => text(ids_of.ids.get(service)?),
        (FieldKind::String, "tag_id") => text(&ids_of.ids["tags.v1.TagService"]),
        (FieldKind::String, "experiment_id") => text(&ids_of.ids["experiments.v1.ExperimentService"]),
        (FieldKind::String, "path" | "artifact_path") => text("a.txt"),
        (FieldKind::String, "uris" | "uri" | "blob_uri") => text(&ids_of.blob_uri),
        (FieldKind::String, "name") if service == "project.v1.ProjectService" => {
            text(&format!("new-{round}"))
        }
        // Names are unique in their service.
        (FieldKind::String, "name" | "app_id" | "type" | "code" | "content") => {
            text(&format!("new {method} {round}"))
        }
        (FieldKind::String, "metric") => text("m"),
        (FieldKind::String, "principal") => text(&format!("p{round}")),
        (FieldKind::Enum(kind), "role") if kind.name() == "Role" => {
            Some(Value::EnumNumber(Role::Viewer.into()))
        }
        (FieldKind::String, "text") if method.ends_with("/Complete") => text(COMPLETED),
        (FieldKind::Uint32, "cursor") if method.ends_with("/Complete") => {
            Some(Value::U32(COMPLETED.len().try_into().unwrap()))
        }
        (FieldKind::Bytes, "source") => Some(Value::Bytes(Bytes::from_static(&[1; 32]))),
        (FieldKind::Message(message), _) if message.name() == "SeriesKey" => {
            message_with(message, "name", Value::String("m".to_owned()))
        }
        (FieldKind::Message(message), _) if message.full_name() == "matyan.notes.v1.Owner" => {
            message_with(message, "run_id", Value::String("r".to_owned()))
        }
        (FieldKind::Message(message), _) if message.name() == "RunParts" => Some(run_parts(message)),
        (FieldKind::Uint64, "idle_s") => Some(Value::U64(1 << 40)),
        (FieldKind::Uint32, "size") => Some(Value::U32(16)),
        (FieldKind::Uint32, "largest_runs" | "count" | "buckets" | "density" | "pixels") => {
            Some(Value::U32(10))
        }
        (FieldKind::Message(message), _) if message.name() == "RunSelection" => {
            let keys = message.get_field_by_name("keys")?;
            let mut selection = DynamicMessage::new(message);
            selection.set_field_by_name("run_id", Value::String("r".to_owned()));
            let key = value(method, &keys, ids_of, round)?;
            selection.set_field(&keys, Value::List(vec![key]));
            Some(Value::Message(selection))
        }
        (FieldKind::Message(message), _) if message.name() == "GroupBy" => {
            message_with(message, "field", Value::EnumNumber(SortField::Experiment.into()))
        }
        (FieldKind::Message(message), "steps") if method.ends_with("/DeleteSteps") => {
            message_with(message, "start", Value::I64(5))
        }
        (FieldKind::Bool, "force") => Some(Value::Bool(true)),
        (FieldKind::Enum(kind), _)
            if kind.name() == "SeriesType" && method.ends_with("SeriesService/List") =>
        {
            Some(Value::EnumNumber(SeriesType::Metric.into()))
        }
        (FieldKind::Enum(kind), _) if kind.name() == "SeriesType" => {
            Some(Value::EnumNumber(SeriesType::Texts.into()))
        }
        (FieldKind::Enum(kind), _) if kind.name() == "Format" => Some(Value::EnumNumber(Format::Csv.into())),
        (FieldKind::Enum(kind), _) if kind.name() == "SearchKind" => {
            Some(Value::EnumNumber(SearchKind::Texts.into()))
        }
        _ => None,
    }
}
