//! Tags, and the runs that have them.

use std::collections::HashMap;

use matyan_model::{
    entity::{Entity, Experiment, Tag, entity_get, runs_count},
    keys,
    run::Props,
};
use matyan_proto::{
    limits,
    log::v1::{TagDeleted, control_event::Kind},
    tags::v1::{self as pb, tag_service_server::TagService},
};
use tonic::{Request, Response, Status};

use crate::{
    Backend, Deps,
    call::Call,
    entities::{self, PlainListing, RunCounts, bounded_text},
    error::Result,
    indexed_runs::IndexedRuns,
    stream::ResponseStream,
    view::ended_us,
};

fn view(id: String, tag: Tag, runs: i64) -> pb::Tag {
    pb::Tag {
        id,
        name: tag.name,
        color: tag.color,
        description: tag.description,
        run_count: u32::try_from(runs).unwrap_or_default(),
        archived: tag.archived,
        created_us: Some(tag.created_us),
        updated_us: Some(tag.updated_us),
    }
}

/// The tag's view with its number of runs.
async fn view_with_runs(deps: &Deps, call: &Call, id: &str, tag: Tag) -> Result<pb::Tag> {
    let snapshot = deps.store.snapshot().await?;
    let runs = runs_count(snapshot.as_ref(), call.project, Tag::KIND, id).await?;
    Ok(view(id.to_owned(), tag, runs))
}

/// Names of experiments by id, each read once; deleted ones have none.
#[derive(Default)]
struct ExperimentNames(HashMap<String, Option<String>>);

impl ExperimentNames {
    async fn name(&mut self, deps: &Deps, call: &Call, id: &str) -> Result<Option<String>> {
        if !self.0.contains_key(id) {
            let snapshot = deps.store.snapshot().await?;
            let found: Option<Experiment> = entity_get(snapshot.as_ref(), call.project, id).await?;
            self.0.insert(id.to_owned(), found.map(|experiment| experiment.name));
        }
        Ok(self.0.get(id).cloned().flatten())
    }

    async fn run(&mut self, deps: &Deps, call: &Call, props: Props) -> Result<pb::TagRun> {
        let experiment = match &props.experiment {
            Some(id) => self.name(deps, call, id).await?,
            None => None,
        };
        Ok(pb::TagRun {
            ended_us: ended_us(&props),
            run_id: props.run_id,
            name: props.name,
            experiment,
            created_us: props.created_us,
        })
    }
}

#[tonic::async_trait]
impl TagService for Backend {
    type ListStream = ResponseStream<pb::ListResponse>;
    type ListRunsStream = ResponseStream<pb::ListRunsResponse>;

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let part = request.into_inner().name_contains;
        let counts = RunCounts::read::<Tag>(&self.deps, &call, part).await?;
        let list = PlainListing {
            created_us: |tag: &Tag| tag.created_us,
            view: move |id: String, tag: Tag| {
                let runs = counts.runs(&id, &tag.name)?;
                Some(view(id, tag, runs))
            },
            answer: |tags| pb::ListResponse { tags },
        };
        Ok(Response::new(self.list_all(call, list)))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::GetResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let id = request.into_inner().id;
        let tag = entities::get(&self.deps, &call, &id).await?;
        let tag = view_with_runs(&self.deps, &call, &id, tag).await?;
        Ok(Response::new(pb::GetResponse { tag: Some(tag) }))
    }

    async fn create(
        &self,
        request: Request<pb::CreateRequest>,
    ) -> Result<Response<pb::CreateResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let request = request.into_inner();
        let now = (self.deps.clock)();
        let tag = Tag {
            created_us: now,
            updated_us: now,
            name: entities::required_name("name", &request.name)?,
            color: bounded_text("color", request.color.trim(), limits::NAME_BYTES)?,
            description: bounded_text("description", request.description.trim(), limits::DESCRIPTION_BYTES)?,
            archived: false,
        };
        let id = entities::create(&self.deps, &call, &tag).await?;
        Ok(Response::new(pb::CreateResponse { tag: Some(view(id, tag, 0)) }))
    }

    async fn update(
        &self,
        request: Request<pb::UpdateRequest>,
    ) -> Result<Response<pb::UpdateResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let pb::UpdateRequest { id, name, color, description, archived } = request.into_inner();
        let name = entities::optional_name("name", name.as_deref())?;
        let color = entities::optional_text("color", color, limits::NAME_BYTES)?;
        let description = entities::optional_text("description", description, limits::DESCRIPTION_BYTES)?;
        let now = (self.deps.clock)();
        let changed = entities::update(&self.deps, &call, &id, |tag: &mut Tag| {
            tag.updated_us = now;
            entities::set_if_some(&mut tag.name, name.as_ref());
            entities::set_if_some(&mut tag.color, color.as_ref());
            entities::set_if_some(&mut tag.description, description.as_ref());
            tag.archived = archived.unwrap_or(tag.archived);
        });
        let tag = view_with_runs(&self.deps, &call, &id, changed.await?).await?;
        Ok(Response::new(pb::UpdateResponse { tag: Some(tag) }))
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteRequest>,
    ) -> Result<Response<pb::DeleteResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let id = request.into_inner().id;
        let event = Kind::TagDeleted(TagDeleted { tag_id: id.clone() });
        entities::delete::<Tag>(&self.deps, &call, &id, Some(event)).await?;
        Ok(Response::new(pb::DeleteResponse {}))
    }

    async fn list_runs(
        &self,
        request: Request<pb::ListRunsRequest>,
    ) -> Result<Response<Self::ListRunsStream>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let pb::ListRunsRequest { id, limit, after_run_id } = request.into_inner();
        entities::get::<Tag>(&self.deps, &call, &id).await?;
        let range = keys::index_tag_all(call.project, &id);
        let row = |number| keys::index_tag(call.project, &id, number);
        let mut indexed = IndexedRuns::after(&self.deps, &call, range, &after_run_id, row).await?;
        let deps = self.deps.clone();
        Ok(Response::new(self.respond(async move |sender| {
            let mut left = if limit == 0 { usize::MAX } else { limit as usize };
            let mut names = ExperimentNames::default();
            while left > 0
                && let Some(page) = indexed.next(&deps, &call).await?
            {
                let mut runs = Vec::new();
                // Index rows may be outdated, so the document is checked.
                let own = page.into_iter().filter(|(_, document)| document.props.tags.contains(&id));
                for (_, document) in own.take(left) {
                    runs.push(names.run(&deps, &call, document.props).await?);
                }
                left -= runs.len();
                if !runs.is_empty() {
                    sender.send(pb::ListRunsResponse { runs }).await?;
                }
            }
            Ok(())
        })))
    }
}
