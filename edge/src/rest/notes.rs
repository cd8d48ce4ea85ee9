//! Notes on runs and experiments: the same operations for two kinds of owners.

use std::sync::Arc;

use axum::Json;
use axum::response::IntoResponse;
use http::{Method, StatusCode};
use matyan_proto::notes::v1::owner::Kind as OwnerKind;
use matyan_proto::notes::v1::{
    CreateRequest, DeleteRequest, GetRequest, ListRequest, ListResponse, Note, Owner, UpdateRequest,
};
use serde_json::{Value, json};

use super::call::Call;
use super::json_list::{self, JsonItems};
use super::request_schema::{Member, RequestSchema};
use super::response_schema::{DONE, ResponseSchema};
use super::shared::iso;
use super::table::{Answer, Operation};
use crate::error::ApiError;
use crate::services::Services;

const CONTENT: RequestSchema = RequestSchema::Record(&[Member::required("content", RequestSchema::Text)]);

const NOTES: ResponseSchema = ResponseSchema::List(&ResponseSchema::Record(&[
    ("id", ResponseSchema::Text),
    ("content", ResponseSchema::Text),
    ("created_at", ResponseSchema::Text),
    ("run_hash", ResponseSchema::Optional(&ResponseSchema::Text)),
    ("experiment_id", ResponseSchema::Optional(&ResponseSchema::Text)),
    ("updated_at", ResponseSchema::Text),
]));

const CREATED: ResponseSchema =
    ResponseSchema::Record(&[("id", ResponseSchema::Text), ("created_at", ResponseSchema::Text)]);

const NOTE: ResponseSchema = ResponseSchema::Record(&[
    ("id", ResponseSchema::Text),
    ("content", ResponseSchema::Text),
    ("updated_at", ResponseSchema::Text),
]);

/// The kind of owner in a path.
#[derive(Clone, Copy)]
enum NoteOwner {
    Run,
    Experiment,
}

/// Adds the operations for one kind of owner. Handlers are plain functions, so each kind needs
/// its own.
macro_rules! operations_of {
    ($list:ident, $base:literal, $word:literal, $owner:expr) => {
        let notes = concat!($base, "/{id}/note");
        let note = concat!($base, "/{id}/note/{note_id}");
        $list.extend([
            Operation::new(Method::GET, notes, concat!("List the notes of ", $word), |s, call| {
                Box::pin(list(s, call, $owner))
            })
            .answers(&NOTES),
            Operation::new(Method::POST, notes, concat!("Add a note to ", $word), |s, call| {
                Box::pin(create(s, call, $owner))
            })
            .success(201)
            .json(&CONTENT)
            .answers(&CREATED),
            Operation::new(Method::GET, note, concat!("Get one note of ", $word), |s, call| {
                Box::pin(get(s, call, $owner))
            })
            .answers(&NOTE),
            Operation::new(Method::PUT, note, concat!("Change a note of ", $word), |s, call| {
                Box::pin(update(s, call, $owner))
            })
            .json(&CONTENT)
            .answers(&NOTE),
            Operation::new(Method::DELETE, note, concat!("Delete a note of ", $word), |s, call| {
                Box::pin(delete(s, call, $owner))
            })
            .answers(&DONE),
        ]);
    };
}

pub(crate) fn operations() -> Vec<Operation> {
    let mut operations = Vec::new();
    operations_of!(operations, "/runs", "a run", NoteOwner::Run);
    operations_of!(operations, "/experiments", "an experiment", NoteOwner::Experiment);
    operations
}

fn owner_message(call: &Call, owner: NoteOwner) -> Option<Owner> {
    let id = call.path("id");
    let kind = match owner {
        NoteOwner::Run => OwnerKind::RunId(id),
        NoteOwner::Experiment => OwnerKind::ExperimentId(id),
    };
    Some(Owner { kind: Some(kind) })
}

fn content(call: &Call) -> String {
    call.member("content").unwrap_or_default().to_owned()
}

async fn list(services: Arc<Services>, call: Call, owner: NoteOwner) -> Answer {
    let request = ListRequest { owner: owner_message(&call, owner) };
    let messages = services.backend().notes().list(request).await?.into_inner();
    json_list::answer("[", messages, write, "]").await
}

fn write(message: ListResponse, items: &mut JsonItems) -> Result<(), ApiError> {
    for note in message.notes {
        let (key, id) = match note.owner.and_then(|owner| owner.kind) {
            Some(OwnerKind::ExperimentId(id)) => ("experiment_id", id),
            Some(OwnerKind::RunId(id)) => ("run_hash", id),
            None => ("run_hash", String::new()),
        };
        items.push(&json!({
            "id": note.id,
            "content": note.content,
            "created_at": iso(note.created_us),
            (key): id,
            "updated_at": iso(note.updated_us),
        }));
    }
    Ok(())
}

async fn create(services: Arc<Services>, call: Call, owner: NoteOwner) -> Answer {
    let request = CreateRequest { owner: owner_message(&call, owner), content: content(&call) };
    let note = services.backend().notes().create(request).await?.into_inner().note.unwrap_or_default();
    let created = json!({"id": note.id, "created_at": iso(note.created_us)});
    Ok((StatusCode::CREATED, Json(created)).into_response())
}

async fn get(services: Arc<Services>, call: Call, owner: NoteOwner) -> Answer {
    let request = GetRequest { owner: owner_message(&call, owner), id: call.path("note_id") };
    let answer = services.backend().notes().get(request).await?.into_inner();
    Ok(Json(show(&answer.note.unwrap_or_default())).into_response())
}

async fn update(services: Arc<Services>, call: Call, owner: NoteOwner) -> Answer {
    let request = UpdateRequest {
        owner: owner_message(&call, owner),
        id: call.path("note_id"),
        content: content(&call),
    };
    let answer = services.backend().notes().update(request).await?.into_inner();
    Ok(Json(show(&answer.note.unwrap_or_default())).into_response())
}

fn show(note: &Note) -> Value {
    json!({"id": note.id, "content": note.content, "updated_at": iso(note.updated_us)})
}

async fn delete(services: Arc<Services>, call: Call, owner: NoteOwner) -> Answer {
    let request = DeleteRequest { owner: owner_message(&call, owner), id: call.path("note_id") };
    services.backend().notes().delete(request).await?;
    Ok(Json(json!({"status": "OK"})).into_response())
}
