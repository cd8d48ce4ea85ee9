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
use super::form::{DONE, Form};
use super::json_list::{self, Items};
use super::shape::{Member, Shape};
use super::shared::iso;
use super::table::{Answer, Operation};
use crate::error::ApiError;
use crate::services::Services;

const CONTENT: Shape = Shape::Record(&[Member::required("content", Shape::Text)]);

const NOTES: Form = Form::List(&Form::Record(&[
    ("id", Form::Text),
    ("content", Form::Text),
    ("created_at", Form::Text),
    ("run_hash", Form::Optional(&Form::Text)),
    ("experiment_id", Form::Optional(&Form::Text)),
    ("updated_at", Form::Text),
]));

const CREATED: Form = Form::Record(&[("id", Form::Text), ("created_at", Form::Text)]);

const NOTE: Form = Form::Record(&[("id", Form::Text), ("content", Form::Text), ("updated_at", Form::Text)]);

/// The kind of owner in a path.
#[derive(Clone, Copy)]
enum Of {
    Run,
    Experiment,
}

/// Adds the operations for one kind of owner. Handlers are plain functions, so each kind needs
/// its own.
macro_rules! operations_of {
    ($list:ident, $base:literal, $word:literal, $of:expr) => {
        let notes = concat!($base, "/{id}/note");
        let note = concat!($base, "/{id}/note/{note_id}");
        $list.extend([
            Operation::new(Method::GET, notes, concat!("List the notes of ", $word), |s, call| {
                Box::pin(list(s, call, $of))
            })
            .answers(&NOTES),
            Operation::new(Method::POST, notes, concat!("Add a note to ", $word), |s, call| {
                Box::pin(create(s, call, $of))
            })
            .success(201)
            .json(&CONTENT)
            .answers(&CREATED),
            Operation::new(Method::GET, note, concat!("Get one note of ", $word), |s, call| {
                Box::pin(get(s, call, $of))
            })
            .answers(&NOTE),
            Operation::new(Method::PUT, note, concat!("Change a note of ", $word), |s, call| {
                Box::pin(update(s, call, $of))
            })
            .json(&CONTENT)
            .answers(&NOTE),
            Operation::new(Method::DELETE, note, concat!("Delete a note of ", $word), |s, call| {
                Box::pin(delete(s, call, $of))
            })
            .answers(&DONE),
        ]);
    };
}

pub(crate) fn operations() -> Vec<Operation> {
    let mut operations = Vec::new();
    operations_of!(operations, "/runs", "a run", Of::Run);
    operations_of!(operations, "/experiments", "an experiment", Of::Experiment);
    operations
}

fn owner(call: &Call, of: Of) -> Option<Owner> {
    let id = call.path("id");
    let kind = match of {
        Of::Run => OwnerKind::RunId(id),
        Of::Experiment => OwnerKind::ExperimentId(id),
    };
    Some(Owner { kind: Some(kind) })
}

fn content(call: &Call) -> String {
    call.member("content").unwrap_or_default().to_owned()
}

async fn list(services: Arc<Services>, call: Call, of: Of) -> Answer {
    let request = ListRequest { owner: owner(&call, of) };
    let messages = services.backend().notes.clone().list(request).await?.into_inner();
    json_list::answer("[", messages, write, "]").await
}

fn write(message: ListResponse, items: &mut Items) -> Result<(), ApiError> {
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

async fn create(services: Arc<Services>, call: Call, of: Of) -> Answer {
    let request = CreateRequest { owner: owner(&call, of), content: content(&call) };
    let note = services.backend().notes.clone().create(request).await?.into_inner().note.unwrap_or_default();
    let created = json!({"id": note.id, "created_at": iso(note.created_us)});
    Ok((StatusCode::CREATED, Json(created)).into_response())
}

async fn get(services: Arc<Services>, call: Call, of: Of) -> Answer {
    let request = GetRequest { owner: owner(&call, of), id: call.path("note_id") };
    let answer = services.backend().notes.clone().get(request).await?.into_inner();
    Ok(Json(show(&answer.note.unwrap_or_default())).into_response())
}

async fn update(services: Arc<Services>, call: Call, of: Of) -> Answer {
    let request =
        UpdateRequest { owner: owner(&call, of), id: call.path("note_id"), content: content(&call) };
    let answer = services.backend().notes.clone().update(request).await?.into_inner();
    Ok(Json(show(&answer.note.unwrap_or_default())).into_response())
}

fn show(note: &Note) -> Value {
    json!({"id": note.id, "content": note.content, "updated_at": iso(note.updated_us)})
}

async fn delete(services: Arc<Services>, call: Call, of: Of) -> Answer {
    let request = DeleteRequest { owner: owner(&call, of), id: call.path("note_id") };
    services.backend().notes.clone().delete(request).await?;
    Ok(Json(json!({"status": "OK"})).into_response())
}
