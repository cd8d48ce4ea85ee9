//! Named documents: records of clients that are not runs. Their id is the kind, a slash, and the name, so that
//! they are found without an index, and listed in the order of their names.

use matyan_access::Role;
use matyan_model::{
    entity::{
        Document, Entity, EntityError, entity_create, entity_delete, entity_load, entity_page, entity_put,
    },
    keys,
};
use matyan_proto::{
    documents::v1::{self as pb, document_service_server::DocumentService},
    limits,
    project::v1::QuotaKind,
};
use matyan_store::{Transaction, transact};
use matyan_wire::project_quota::QuotaExceeded;
use prost::Message;
use tonic::{Request, Response};

use crate::{
    edit::entities,
    server::{
        RpcResult, Server,
        audit::audit_resource,
        call::Call,
        convert::check_limit,
        deps::Deps,
        error::{Error, Result},
        quota,
        stream::{MESSAGE_BYTES, ResponseStream, Sender, StreamEnd},
    },
};

/// Longest name of a kind.
const MAX_KIND_BYTES: usize = 64;

/// The beginnings of the kinds of documents that translators of other trackers' protocols keep, such as registries of
/// models. Only a translator knows which changes of them take something away.
const KINDS_OF_TRANSLATORS: [&str; 2] = ["mlflow-", "wandb-"];

/// Checks a kind.
fn check_kind(kind: &str) -> Result<()> {
    let has_valid_bytes =
        kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte));
    if has_valid_bytes && (1..=MAX_KIND_BYTES).contains(&kind.len()) {
        return Ok(());
    }
    Err(Error::field("kind", "must have 1 to 64 letters in lower case, digits, `-` and `_`"))
}

/// The id of a document.
fn document_id(kind: &str, name: &str) -> Result<String> {
    id_of_field(kind, "name", name)
}

/// The id of a document whose name is in this field of a request.
fn id_of_field(kind: &str, field: &'static str, name: &str) -> Result<String> {
    check_kind(kind)?;
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(Error::field(field, "is empty or has control characters"));
    }
    let id = format!("{kind}/{name}");
    check_limit(field, id.len(), limits::NAME_BYTES)?;
    Ok(id)
}

/// The document in the form that callers see.
fn view(id: &str, document: Document) -> pb::Document {
    let (kind, name) = id.split_once('/').unwrap_or((id, ""));
    pb::Document {
        kind: kind.to_owned(),
        name: name.to_owned(),
        content: document.content.into(),
        created_us: document.created_us,
        updated_us: document.updated_us,
    }
}

/// Checks that the project of a call has room for more bytes.
async fn check_quotas(deps: &Deps, transaction: &Transaction, call: &Call) -> Result<()> {
    match quota::exceeded(&deps.quotas, transaction, call).await? {
        Some(exceeded) if exceeded.kind() != QuotaKind::Runs => {
            Err(Error::QuotaExceeded(QuotaExceeded::new(&call.project_name, exceeded)))
        }
        Some(_) | None => Ok(()),
    }
}

async fn write(deps: &Deps, call: &Call, request: &pb::WriteRequest) -> Result<i64> {
    let id = document_id(&request.kind, &request.name)?;
    check_limit("content", request.content.len(), limits::NAMED_DOCUMENT_BYTES)?;
    if request.deletes {
        call.check_role(Role::Editor, "deleting a part of a document")?;
    }
    let is_of_translator = KINDS_OF_TRANSLATORS.iter().any(|start| request.kind.starts_with(start));
    let counts_as_deletion = request.deletes || is_of_translator && !call.is_translated;
    let now = (deps.clock)();
    let content = request.content.to_vec();
    let new = Document { created_us: now, updated_us: now, content, is_counted: true };
    let (updated_us, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let project = call.project;
        let found = match entity_load::<Document>(&transaction, project, &id).await {
            Ok(found) => Some(found),
            Err(EntityError::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let version = found.as_ref().map_or(0, |found| found.updated_us);
        if version != 0 && request.if_updated_us != Some(0) {
            call.check_role(Role::Writer, "replacing a document")?;
            if counts_as_deletion {
                call.check_role(Role::Editor, "replacing a document of another tracker's protocol")?;
            }
        }
        entities::check_unchanged(Document::KIND.name(), &id, version, request.if_updated_us)?;
        if found.is_none_or(|found| new.content.len() > found.content.len()) {
            check_quotas(deps, &transaction, call).await?;
        }
        if version == 0 {
            entity_create(&mut transaction, project, &id, &new).await?;
            return Ok::<_, Error>((transaction, now));
        }
        if counts_as_deletion {
            audit_resource(format_args!("{} {}", request.kind, request.name));
        }
        let replace = |document: &mut Document| {
            document.updated_us = now;
            document.content.clone_from(&new.content);
            document.is_counted = true;
            Ok::<_, Error>(())
        };
        let written = entity_put(&mut transaction, project, &id, replace).await?;
        Ok((transaction, written.updated_us))
    })
    .await?;
    Ok(updated_us)
}

/// Moves a document to another id. Returns the document.
async fn rename(deps: &Deps, call: &Call, request: &pb::RenameRequest) -> Result<pb::Document> {
    let pb::RenameRequest { kind, name, new_name, if_updated_us } = request;
    let id = document_id(kind, name)?;
    let new_id = id_of_field(kind, "new_name", new_name)?;
    let now = (deps.clock)();
    let (renamed, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let project = call.project;
        let mut document: Document = entity_load(&transaction, project, &id).await?;
        entities::check_unchanged(Document::KIND.name(), &id, document.updated_us, *if_updated_us)?;
        match entity_load::<Document>(&transaction, project, &new_id).await {
            Err(EntityError::NotFound { .. }) => {}
            Ok(_) => {
                return Err(Error::AlreadyExists { resource: Document::KIND.name(), name: new_name.clone() });
            }
            Err(error) => return Err(error.into()),
        }
        // Callers recognize a version by its time, which increases even if clocks do not.
        document.updated_us = document.updated_us.saturating_add(1).max(now);
        document.is_counted = true;
        entity_delete::<Document>(&mut transaction, project, &id).await?;
        entity_create(&mut transaction, project, &new_id, &document).await?;
        Ok::<_, Error>((transaction, document))
    })
    .await?;
    Ok(view(&new_id, renamed))
}

async fn delete(deps: &Deps, call: &Call, request: &pb::DeleteRequest) -> Result<()> {
    let id = document_id(&request.kind, &request.name)?;
    transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let found: Document = entity_load(&transaction, call.project, &id).await?;
        entities::check_unchanged(Document::KIND.name(), &id, found.updated_us, request.if_updated_us)?;
        entity_delete::<Document>(&mut transaction, call.project, &id).await?;
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(())
}

/// Sends the documents of a list, page by page, each page from its own snapshot: a slow client may read for
/// longer than a snapshot lasts.
async fn send(
    deps: &Deps,
    call: &Call,
    request: &pb::ListRequest,
    sender: &Sender<pb::ListResponse>,
) -> Result<(), StreamEnd> {
    let prefix = format!("{}/{}", request.kind, request.name_prefix);
    let mut rest = Some(keys::entities_with_prefix(call.project, Document::KIND, &prefix));
    let mut documents = Vec::new();
    let mut bytes = 0;
    while let Some(range) = rest.take() {
        let snapshot = deps.store.snapshot().await.map_err(Error::from)?;
        let (page, next) =
            entity_page::<Document>(snapshot.as_ref(), call.project, &range).await.map_err(Error::from)?;
        drop(snapshot);
        rest = next;
        for (id, document) in page {
            let document = view(&id, document);
            bytes += document.encoded_len();
            documents.push(document);
            if bytes >= MESSAGE_BYTES {
                sender.send(pb::ListResponse { documents: std::mem::take(&mut documents) }).await?;
                bytes = 0;
            }
        }
    }
    sender.send(pb::ListResponse { documents }).await
}

/// The service of named documents.
pub(crate) struct DocumentApi {
    server: Server,
}

impl DocumentApi {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }
}

#[tonic::async_trait]
impl DocumentService for DocumentApi {
    type ListStream = ResponseStream<pb::ListResponse>;

    async fn get(&self, request: Request<pb::GetRequest>) -> RpcResult<pb::GetResponse> {
        let (call, pb::GetRequest { kind, name }) = self.server.start_call(request).await?;
        let id = document_id(&kind, &name)?;
        let document: Document = entities::get(&self.server.deps, &call, &id).await?;
        Ok(Response::new(pb::GetResponse { document: Some(view(&id, document)) }))
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> RpcResult<Self::ListStream> {
        let (call, request) = self.server.start_call(request).await?;
        check_kind(&request.kind)?;
        check_limit("name_prefix", request.name_prefix.len(), limits::NAME_BYTES)?;
        let deps = self.server.deps.clone();
        Ok(Response::new(
            self.server.respond(async move |sender| send(&deps, &call, &request, &sender).await),
        ))
    }

    async fn write(&self, request: Request<pb::WriteRequest>) -> RpcResult<pb::WriteResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let updated_us = write(&self.server.deps, &call, &request).await?;
        Ok(Response::new(pb::WriteResponse { updated_us }))
    }

    async fn rename(&self, request: Request<pb::RenameRequest>) -> RpcResult<pb::RenameResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let document = Some(rename(&self.server.deps, &call, &request).await?);
        Ok(Response::new(pb::RenameResponse { document }))
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> RpcResult<pb::DeleteResponse> {
        let (call, request) = self.server.start_call(request).await?;
        audit_resource(format_args!("{} {}", request.kind, request.name));
        delete(&self.server.deps, &call, &request).await?;
        Ok(Response::new(pb::DeleteResponse {}))
    }
}
