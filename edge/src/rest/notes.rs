//! Notes on runs and experiments: the same operations for two kinds of owners.

use axum::Json;
use matyan_proto::notes::v1 as pb;
use matyan_proto::notes::v1::owner::Kind as OwnerKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{Acknowledgment, Creation, WithETag};
use super::call::Call;
use super::edit_condition::EditCondition;
use super::json_list::{self, JsonStream};
use super::operation::Operation;
use super::shared::{Id, iso};
use crate::error::ApiResult;

pub(crate) fn operations() -> Vec<Operation> {
    let of_runs = operations_of("/runs", "a run", OwnerKind::RunId);
    of_runs
        .into_iter()
        .chain(operations_of("/experiments", "an experiment", OwnerKind::ExperimentId))
        .collect()
}

/// Makes an owner of the id in the path.
type OwnerMaker = fn(String) -> OwnerKind;

fn owner(kind: OwnerMaker, id: String) -> Option<pb::Owner> {
    Some(pb::Owner { kind: Some(kind(id)) })
}

/// The operations for one kind of owner.
fn operations_of(base: &str, noun: &str, kind: OwnerMaker) -> [Operation; 5] {
    let notes = format!("{base}/{{id}}/note");
    let note = format!("{base}/{{id}}/note/{{note_id}}");
    [
        Operation::get(&notes, &format!("List the notes of {noun}"), move |call| list(call, kind)),
        Operation::post(&notes, &format!("Add a note to {noun}"), move |call| create(call, kind)),
        Operation::get(&note, &format!("Get one note of {noun}"), move |call| get(call, kind)),
        Operation::put(&note, &format!("Change a note of {noun}"), move |call| update(call, kind))
            .fails(&["412"]),
        Operation::delete(&note, &format!("Delete a note of {noun}"), move |call| delete(call, kind)),
    ]
}

#[derive(Serialize, JsonSchema)]
struct Note {
    id: String,
    content: String,
    updated_at: String,
}

impl From<pb::Note> for Note {
    fn from(note: pb::Note) -> Self {
        Note { id: note.id, content: note.content, updated_at: iso(note.updated_us) }
    }
}

#[derive(Serialize, JsonSchema)]
struct ListedNote {
    id: String,
    content: String,
    created_at: String,
    #[serde(flatten)]
    owner: NoteOwner,
    updated_at: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum NoteOwner {
    RunHash(String),
    ExperimentId(String),
}

impl From<pb::Note> for ListedNote {
    fn from(note: pb::Note) -> Self {
        let owner = match note.owner.and_then(|owner| owner.kind) {
            Some(OwnerKind::ExperimentId(id)) => NoteOwner::ExperimentId(id),
            Some(OwnerKind::RunId(id)) => NoteOwner::RunHash(id),
            None => NoteOwner::RunHash(String::new()),
        };
        ListedNote {
            id: note.id,
            content: note.content,
            created_at: iso(note.created_us),
            owner,
            updated_at: iso(note.updated_us),
        }
    }
}

#[derive(Serialize, JsonSchema)]
struct CreatedNote {
    id: String,
    created_at: String,
}

#[derive(Deserialize, JsonSchema)]
struct NewNote {
    content: String,
    /// At least 16 random bytes, such as a UUID: a repeated request returns what the first one created.
    #[serde(default)]
    request_id: String,
}

#[derive(Deserialize, JsonSchema)]
struct NoteContent {
    content: String,
}

#[derive(Deserialize, JsonSchema)]
struct NotePath {
    id: String,
    note_id: String,
}

#[derive(Deserialize, JsonSchema)]
struct EditedNote {
    #[serde(flatten)]
    path: NotePath,
    #[serde(flatten)]
    condition: EditCondition,
}

async fn list(call: Call<Id>, kind: OwnerMaker) -> ApiResult<JsonStream<Vec<ListedNote>>> {
    let request = pb::ListRequest { owner: owner(kind, call.parameters.id) };
    let messages = call.services.backend().notes().list(request).await?.into_inner();
    json_list::answer(Vec::new(), messages, |message| {
        Ok(message.notes.into_iter().map(ListedNote::from).collect())
    })
    .await
}

async fn create(call: Call<Id, Json<NewNote>>, kind: OwnerMaker) -> ApiResult<Creation<CreatedNote>> {
    let Json(NewNote { content, request_id }) = call.body;
    let request = pb::CreateRequest { owner: owner(kind, call.parameters.id), content, request_id };
    let note = call.services.backend().notes().create(request).await?.into_inner().note.unwrap_or_default();
    Ok(Creation(CreatedNote { id: note.id, created_at: iso(note.created_us) }))
}

async fn get(call: Call<NotePath>, kind: OwnerMaker) -> ApiResult<WithETag<Note>> {
    let NotePath { id, note_id } = call.parameters;
    let request = pb::GetRequest { owner: owner(kind, id), id: note_id };
    let answer = call.services.backend().notes().get(request).await?.into_inner();
    let note = answer.note.unwrap_or_default();
    Ok(WithETag::of_version(note.updated_us, Json(note.into())))
}

async fn update(call: Call<EditedNote, Json<NoteContent>>, kind: OwnerMaker) -> ApiResult<WithETag<Note>> {
    let EditedNote { path, condition } = call.parameters;
    let Json(NoteContent { content }) = call.body;
    let NotePath { id, note_id } = path;
    let if_updated_us = condition.updated_us()?;
    let request = pb::UpdateRequest { owner: owner(kind, id), id: note_id, content, if_updated_us };
    let answer = call.services.backend().notes().update(request).await?.into_inner();
    let note = answer.note.unwrap_or_default();
    Ok(WithETag::of_version(note.updated_us, Json(note.into())))
}

async fn delete(call: Call<NotePath>, kind: OwnerMaker) -> ApiResult<Json<Acknowledgment>> {
    let NotePath { id, note_id } = call.parameters;
    call.services.backend().notes().delete(pb::DeleteRequest { owner: owner(kind, id), id: note_id }).await?;
    Ok(Acknowledgment::new())
}
