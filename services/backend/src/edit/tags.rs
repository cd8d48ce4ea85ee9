//! Tags, and the runs that have them.

use matyan_model::{
    entity::{Entity, Tag},
    keys,
};
use matyan_proto::{
    limits,
    log::v1::{TagDeleted, control_event::Kind},
    tags::v1::{self as pb, tag_service_server::TagService},
};
use tonic::{Request, Response};

use super::entities::{self, EntitySet, RunCounts, name_contains};
use crate::{
    listing::{IndexedRuns, LinkedRuns, PageEnd, request_digest},
    server::{
        RpcResult, Server,
        audit::audit_resource,
        call::Call,
        convert::{bounded_text, required_name, set_name, set_text},
        deps::Deps,
        error::Result,
        stream::ResponseStream,
    },
    view::{EntityNames, ended_us},
};

/// Tags with their numbers of runs. Lists contain an entity if its name contains `name_part`.
#[derive(Default)]
struct Tags {
    name_part: String,
    runs: RunCounts,
}

impl EntitySet for Tags {
    type Entity = Tag;
    type View = pb::Tag;

    async fn view(&mut self, deps: &Deps, call: &Call, id: String, tag: Tag) -> Result<pb::Tag> {
        Ok(pb::Tag {
            run_count: self.runs.count(deps, call, Tag::KIND, &id).await?,
            id,
            name: tag.name,
            color: tag.color,
            description: tag.description,
            archived: tag.archived,
            created_us: Some(tag.created_us),
            updated_us: Some(tag.updated_us),
        })
    }

    fn is_listed(&self, tag: &Tag) -> bool {
        name_contains(&tag.name, &self.name_part)
    }

    fn deletion(id: &str) -> Option<Kind> {
        Some(Kind::TagDeleted(TagDeleted { tag_id: id.to_owned() }))
    }
}

/// The service of tags.
pub(crate) struct TagApi {
    server: Server,
}

impl TagApi {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }
}

#[tonic::async_trait]
impl TagService for TagApi {
    type ListStream = ResponseStream<pb::ListResponse>;
    type ListRunsStream = ResponseStream<pb::ListRunsResponse>;

    async fn list(&self, request: Request<pb::ListRequest>) -> RpcResult<Self::ListStream> {
        let (call, pb::ListRequest { name_contains: name_part }) = self.server.start_call(request).await?;
        let runs = RunCounts::read_all(&self.server.deps, &call, Tag::KIND).await?;
        let listed = entities::list_entities(&self.server, call, Tags { name_part, runs }, |tags| {
            pb::ListResponse { tags }
        });
        Ok(Response::new(listed))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> RpcResult<pb::GetResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let tag = Some(entities::get_entity(&self.server.deps, &call, Tags::default(), request.id).await?);
        Ok(Response::new(pb::GetResponse { tag }))
    }

    async fn create(&self, request: Request<pb::CreateRequest>) -> RpcResult<pb::CreateResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let now = (self.server.deps.clock)();
        let new = Tag {
            created_us: now,
            updated_us: now,
            name: required_name("name", &request.name)?,
            color: bounded_text("color", request.color.trim(), limits::NAME_BYTES)?,
            description: bounded_text("description", request.description.trim(), limits::DESCRIPTION_BYTES)?,
            archived: false,
        };
        let without_runs = Tags { runs: RunCounts::none(), ..Tags::default() };
        let tag = Some(entities::create_entity(&self.server.deps, &call, without_runs, new).await?);
        Ok(Response::new(pb::CreateResponse { tag }))
    }

    async fn update(&self, request: Request<pb::UpdateRequest>) -> RpcResult<pb::UpdateResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let pb::UpdateRequest { id, name, color, description, archived, if_updated_us } = request;
        let now = (self.server.deps.clock)();
        let change = |tag: &mut Tag| {
            tag.updated_us = now;
            tag.archived = archived.unwrap_or(tag.archived);
            set_name(&mut tag.name, "name", name.as_deref())?;
            set_text(&mut tag.color, "color", color.as_deref(), limits::NAME_BYTES)?;
            set_text(&mut tag.description, "description", description.as_deref(), limits::DESCRIPTION_BYTES)
        };
        let tag = Some(
            entities::update_entity(&self.server.deps, &call, Tags::default(), id, if_updated_us, change)
                .await?,
        );
        Ok(Response::new(pb::UpdateResponse { tag }))
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> RpcResult<pb::DeleteResponse> {
        let (call, request) = self.server.start_call(request).await?;
        audit_resource(&request.id);
        entities::delete_entity(&self.server.deps, &call, Tags::default(), &request.id).await?;
        Ok(Response::new(pb::DeleteResponse {}))
    }

    async fn list_runs(&self, request: Request<pb::ListRunsRequest>) -> RpcResult<Self::ListRunsStream> {
        let (call, pb::ListRunsRequest { id, limit, after_run_id, cursor }) =
            self.server.start_call(request).await?;
        entities::get::<Tag>(&self.server.deps, &call, &id).await?;
        let range = keys::index_tag_all(call.project, &id);
        let row = |number| keys::index_tag(call.project, &id, number);
        let list = request_digest(&[b"tag", id.as_bytes()]);
        let last = PageEnd::of_request(&after_run_id, &cursor, list)?;
        let indexed = IndexedRuns::after(&self.server.deps, &call, range, &last, row).await?;
        let deps = self.server.deps.clone();
        Ok(Response::new(self.server.respond(async move |sender| {
            let mut linked = LinkedRuns::new(indexed, limit, |props| props.tags.contains(&id));
            let mut names = EntityNames::new(&call);
            while let Some(page) = linked.next(&deps, &call).await? {
                let snapshot = deps.store.snapshot().await?;
                let mut runs = Vec::with_capacity(page.len());
                for props in page {
                    let experiment = names.experiment(snapshot.as_ref(), &props).await?;
                    runs.push(pb::TagRun {
                        ended_us: ended_us(&props),
                        run_id: props.run_id,
                        name: props.name,
                        experiment: experiment.map(|experiment| experiment.name),
                        created_us: props.created_us,
                    });
                }
                drop(snapshot);
                sender.send(pb::ListRunsResponse { runs, next_cursor: linked.next_cursor(list) }).await?;
            }
            Ok(())
        })))
    }
}
