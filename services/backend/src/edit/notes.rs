//! Notes on runs and experiments. A note that belongs to another owner than the request names
//! is not found, so that one run's notes cannot be read through another.

use matyan_model::{
    change::change_put,
    entity::{Experiment, Note, NoteOwner, entity_load, notes_page, notes_range},
    ids::RunNumber,
    run::RunEdit,
};
use matyan_proto::{
    limits,
    notes::v1::{self as pb, note_service_server::NoteService, owner::Kind},
};
use matyan_store::{Range, Snapshot, Transaction};
use tonic::{Request, Response};

use super::entities::{self, EntityPage, EntitySet};
use crate::server::{
    RpcResult, Server,
    audit::audit_resource,
    call::Call,
    convert::bounded_text,
    create_once::CreateOnce,
    deps::Deps,
    error::{Error, Result},
    stream::ResponseStream,
};

/// The notes of one owner.
struct Notes {
    owner: Kind,
    stored: NoteOwner,
}

impl Notes {
    async fn find_owner(deps: &Deps, call: &Call, owner: Option<pb::Owner>) -> Result<Self> {
        let owner = owner.and_then(|owner| owner.kind);
        let owner = owner.ok_or_else(|| Error::field("owner", "is missing: name a run or an experiment"))?;
        let stored = match &owner {
            Kind::RunId(run_id) => NoteOwner::Run(deps.find_run(call, run_id).await?.number.0),
            Kind::ExperimentId(id) => {
                entities::get::<Experiment>(deps, call, id).await?;
                NoteOwner::Experiment(id.clone())
            }
        };
        Ok(Self { owner, stored })
    }
}

impl EntitySet for Notes {
    type Entity = Note;
    type View = pb::Note;

    async fn view(&mut self, _: &Deps, _: &Call, id: String, note: Note) -> Result<pb::Note> {
        Ok(pb::Note {
            id,
            owner: Some(pb::Owner { kind: Some(self.owner.clone()) }),
            content: note.content,
            created_us: note.created_us,
            updated_us: note.updated_us,
        })
    }

    fn contains(&self, note: &Note) -> bool {
        note.owner == self.stored
    }

    fn range(&self, call: &Call) -> Range {
        notes_range(call.project, &self.stored)
    }

    async fn page(&self, snapshot: &dyn Snapshot, call: &Call, range: &Range) -> Result<EntityPage<Note>> {
        Ok(notes_page(snapshot, call.project, &self.stored, range).await?)
    }

    async fn touch_owner(&self, deps: &Deps, call: &Call, transaction: &mut Transaction) -> Result<()> {
        match &self.owner {
            Kind::RunId(run_id) => {
                let NoteOwner::Run(number) = self.stored else { return Ok(()) };
                let number = RunNumber(number);
                let edit = RunEdit::load(transaction, call.project, number).await?;
                if edit.is_none_or(|edit| edit.props.pending_delete) {
                    return Err(Error::not_found("run", run_id));
                }
                change_put(transaction.batch(), call.project, number, (deps.clock)(), &call.caller);
            }
            Kind::ExperimentId(id) => {
                entity_load::<Experiment>(transaction, call.project, id).await?;
            }
        }
        Ok(())
    }
}

fn content(text: &str) -> Result<String> {
    bounded_text("content", text.trim(), limits::DOCUMENT_BYTES)
}

/// The service of notes.
pub(crate) struct NoteApi {
    server: Server,
}

impl NoteApi {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }
}

#[tonic::async_trait]
impl NoteService for NoteApi {
    type ListStream = ResponseStream<pb::ListResponse>;

    async fn list(&self, request: Request<pb::ListRequest>) -> RpcResult<Self::ListStream> {
        let (call, request) = self.server.start_call(request).await?;
        let notes = match Notes::find_owner(&self.server.deps, &call, request.owner).await {
            Ok(notes) => notes,
            // A missing run has no notes; only a missing experiment is an error.
            Err(Error::NotFound { resource: "run", .. }) => {
                return Ok(Response::new(self.server.respond(async |_| Ok(()))));
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Response::new(entities::list_entities(&self.server, call, notes, |notes| pb::ListResponse {
            notes,
        })))
    }

    async fn create(&self, request: Request<pb::CreateRequest>) -> RpcResult<pb::CreateResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let content = content(&request.content)?;
        let once = CreateOnce::new(&request.request_id, &request);
        let notes = Notes::find_owner(&self.server.deps, &call, request.owner).await?;
        let now = (self.server.deps.clock)();
        let new = Note { created_us: now, updated_us: now, content, owner: notes.stored.clone() };
        let note = Some(entities::create_entity_once(&self.server.deps, &call, notes, once, new).await?);
        Ok(Response::new(pb::CreateResponse { note }))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> RpcResult<pb::GetResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let notes = Notes::find_owner(&self.server.deps, &call, request.owner).await?;
        let note = Some(entities::get_entity(&self.server.deps, &call, notes, request.id).await?);
        Ok(Response::new(pb::GetResponse { note }))
    }

    async fn update(&self, request: Request<pb::UpdateRequest>) -> RpcResult<pb::UpdateResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let content = content(&request.content)?;
        let notes = Notes::find_owner(&self.server.deps, &call, request.owner).await?;
        let now = (self.server.deps.clock)();
        let change = |note: &mut Note| {
            note.updated_us = now;
            note.content.clone_from(&content);
            Ok(())
        };
        let note = Some(
            entities::update_entity(
                &self.server.deps,
                &call,
                notes,
                request.id,
                request.if_updated_us,
                change,
            )
            .await?,
        );
        Ok(Response::new(pb::UpdateResponse { note }))
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> RpcResult<pb::DeleteResponse> {
        let (call, request) = self.server.start_call(request).await?;
        audit_resource(&request.id);
        let notes = Notes::find_owner(&self.server.deps, &call, request.owner).await?;
        entities::delete_entity(&self.server.deps, &call, notes, &request.id).await?;
        Ok(Response::new(pb::DeleteResponse {}))
    }
}
