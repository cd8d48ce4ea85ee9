//! Notes on runs and experiments. A note that belongs to another owner than the request names
//! is not found, so that one run's notes cannot be read through another.

use matyan_model::{
    change::change_put,
    entity::{
        Entity, Experiment, Note, NoteOwner, entity_create, entity_delete, entity_get, entity_load,
        entity_put, notes_page, notes_range,
    },
    ids::RunNumber,
    run::RunEdit,
};
use matyan_proto::{
    limits,
    notes::v1::{self as pb, note_service_server::NoteService, owner::Kind},
};
use matyan_store::{Range, Snapshot, Transaction, transact};
use tonic::{Request, Response, Status};

use crate::{
    Backend, Deps,
    call::Call,
    entities::{self, EntityPage, Listing},
    error::{Error, Result},
    stream::ResponseStream,
};

fn view(owner: &pb::Owner, id: String, note: Note) -> pb::Note {
    pb::Note {
        id,
        owner: Some(owner.clone()),
        content: note.content,
        created_us: note.created_us,
        updated_us: note.updated_us,
    }
}

fn kind(owner: &pb::Owner) -> Result<&Kind> {
    owner.kind.as_ref().ok_or_else(|| Error::field("owner", "is missing: name a run or an experiment"))
}

/// The stored form of the owner in a request.
async fn find_owner(deps: &Deps, call: &Call, owner: &pb::Owner) -> Result<NoteOwner> {
    Ok(match kind(owner)? {
        Kind::RunId(run_id) => NoteOwner::Run(deps.find_run(call, run_id).await?.number.0),
        Kind::ExperimentId(id) => {
            entities::get::<Experiment>(deps, call, id).await?;
            NoteOwner::Experiment(id.clone())
        }
    })
}

/// Fails the transaction unless the owner still exists; marks a run that gets a note as
/// changed.
async fn touch_owner(
    deps: &Deps,
    call: &Call,
    transaction: &mut Transaction,
    owner: &pb::Owner,
    stored: &NoteOwner,
) -> Result<()> {
    match stored {
        NoteOwner::Run(number) => {
            let number = RunNumber(*number);
            let edit = RunEdit::load(transaction, call.project, number).await?;
            if edit.is_none_or(|edit| edit.props.pending_delete) {
                let Kind::RunId(run_id) = kind(owner)? else { return Ok(()) };
                return Err(Error::not_found("run", run_id));
            }
            change_put(transaction.batch(), call.project, number, (deps.clock)(), &call.caller);
        }
        NoteOwner::Experiment(id) => {
            let loaded = entity_load::<Experiment>(transaction, call.project, id).await;
            loaded.map_err(entities::entity_error(Experiment::KIND))?;
        }
    }
    Ok(())
}

/// Loads a note that must belong to this owner.
async fn load_owned(transaction: &Transaction, call: &Call, id: &str, owner: &NoteOwner) -> Result<Note> {
    let note: Note =
        entity_load(transaction, call.project, id).await.map_err(entities::entity_error(Note::KIND))?;
    if note.owner == *owner { Ok(note) } else { Err(entities::not_found(Note::KIND, id)) }
}

fn content(text: &str) -> Result<String> {
    entities::bounded_text("content", text.trim(), limits::DOCUMENT_BYTES)
}

fn owner_or_default(owner: Option<pb::Owner>) -> pb::Owner {
    owner.unwrap_or_default()
}

/// The notes of one owner.
struct NoteListing {
    owner: pb::Owner,
    stored: NoteOwner,
}

impl Listing for NoteListing {
    type Entity = Note;
    type View = pb::Note;
    type Answer = pb::ListResponse;

    fn created_us(&self, note: &Note) -> i64 {
        note.created_us
    }

    async fn view(&mut self, _: &Deps, _: &Call, id: String, note: Note) -> Result<Option<pb::Note>> {
        Ok((note.owner == self.stored).then(|| view(&self.owner, id, note)))
    }

    fn answer(&self, notes: Vec<pb::Note>) -> pb::ListResponse {
        pb::ListResponse { notes }
    }

    fn range(&self, call: &Call) -> Range {
        notes_range(call.project, &self.stored)
    }

    async fn page(&self, snapshot: &dyn Snapshot, call: &Call, range: &Range) -> Result<EntityPage<Note>> {
        Ok(notes_page(snapshot, call.project, &self.stored, range).await?)
    }
}

#[tonic::async_trait]
impl NoteService for Backend {
    type ListStream = ResponseStream<pb::ListResponse>;

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let owner = owner_or_default(request.into_inner().owner);
        let stored = match find_owner(&self.deps, &call, &owner).await {
            Ok(stored) => stored,
            // A missing run has no notes; only a missing experiment is an error.
            Err(Error::NotFound { resource: "run", .. }) => {
                return Ok(Response::new(self.respond(async |_| Ok(()))));
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Response::new(self.list_all(call, NoteListing { owner, stored })))
    }

    async fn create(
        &self,
        request: Request<pb::CreateRequest>,
    ) -> Result<Response<pb::CreateResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let request = request.into_inner();
        let content = content(&request.content)?;
        let owner = owner_or_default(request.owner);
        let stored = find_owner(&self.deps, &call, &owner).await?;
        let (id, now) = ((self.deps.new_id)(), (self.deps.clock)());
        let note = Note { created_us: now, updated_us: now, content, owner: stored };
        transact(self.deps.store.as_ref(), async |mut transaction: Transaction| {
            touch_owner(&self.deps, &call, &mut transaction, &owner, &note.owner).await?;
            let made = entity_create(&mut transaction, call.project, &id, &note).await;
            made.map_err(entities::entity_error(Note::KIND))?;
            Ok::<_, Error>((transaction, ()))
        })
        .await?;
        Ok(Response::new(pb::CreateResponse { note: Some(view(&owner, id, note)) }))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::GetResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let request = request.into_inner();
        entities::check_id(Note::KIND, &request.id)?;
        let owner = owner_or_default(request.owner);
        let stored = find_owner(&self.deps, &call, &owner).await?;
        let snapshot = self.deps.store.snapshot().await.map_err(Error::from)?;
        let note: Option<Note> =
            entity_get(snapshot.as_ref(), call.project, &request.id).await.map_err(Error::from)?;
        let note = note.filter(|note| note.owner == stored);
        let note = note.ok_or_else(|| entities::not_found(Note::KIND, &request.id))?;
        Ok(Response::new(pb::GetResponse { note: Some(view(&owner, request.id, note)) }))
    }

    async fn update(
        &self,
        request: Request<pb::UpdateRequest>,
    ) -> Result<Response<pb::UpdateResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let request = request.into_inner();
        entities::check_id(Note::KIND, &request.id)?;
        let content = content(&request.content)?;
        let owner = owner_or_default(request.owner);
        let stored = find_owner(&self.deps, &call, &owner).await?;
        let now = (self.deps.clock)();
        let (note, _) = transact(self.deps.store.as_ref(), async |mut transaction: Transaction| {
            load_owned(&transaction, &call, &request.id, &stored).await?;
            touch_owner(&self.deps, &call, &mut transaction, &owner, &stored).await?;
            let change = |note: &mut Note| {
                note.updated_us = now;
                note.content.clone_from(&content);
            };
            let changed = entity_put(&mut transaction, call.project, &request.id, change).await;
            let note = changed.map_err(entities::entity_error(Note::KIND))?;
            Ok::<_, Error>((transaction, note))
        })
        .await?;
        Ok(Response::new(pb::UpdateResponse { note: Some(view(&owner, request.id, note)) }))
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteRequest>,
    ) -> Result<Response<pb::DeleteResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let request = request.into_inner();
        entities::check_id(Note::KIND, &request.id)?;
        let owner = owner_or_default(request.owner);
        let stored = find_owner(&self.deps, &call, &owner).await?;
        transact(self.deps.store.as_ref(), async |mut transaction: Transaction| {
            load_owned(&transaction, &call, &request.id, &stored).await?;
            touch_owner(&self.deps, &call, &mut transaction, &owner, &stored).await?;
            let deleted = entity_delete::<Note>(&mut transaction, call.project, &request.id).await;
            deleted.map_err(entities::entity_error(Note::KIND))?;
            Ok::<_, Error>((transaction, ()))
        })
        .await?;
        Ok(Response::new(pb::DeleteResponse {}))
    }
}
