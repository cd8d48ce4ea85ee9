//! Tags, and the runs that have them.

use std::collections::HashMap;

use matyan_model::{
    entity::{Entity, Experiment, Tag, entity_get, entity_list, runs_count, runs_counts},
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
    Backend, Context,
    call::Call,
    entities::{self, bounded},
    error::{Error, Result},
    experiments::name_contains,
    linked::Linked,
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

/// The tag with its number of runs.
async fn counted(context: &Context, call: &Call, id: &str, tag: Tag) -> Result<pb::Tag> {
    let snapshot = context.store.snapshot().await?;
    let runs = runs_count(snapshot.as_ref(), call.project, Tag::KIND, id).await?;
    Ok(view(id.to_owned(), tag, runs))
}

/// Names of experiments by their ids, each read once; those that are gone have none.
#[derive(Default)]
struct ExperimentNames(HashMap<String, Option<String>>);

impl ExperimentNames {
    async fn name(&mut self, context: &Context, call: &Call, id: &str) -> Result<Option<String>> {
        if !self.0.contains_key(id) {
            let snapshot = context.store.snapshot().await?;
            let found: Option<Experiment> = entity_get(snapshot.as_ref(), call.project, id).await?;
            self.0.insert(id.to_owned(), found.map(|experiment| experiment.name));
        }
        Ok(self.0.get(id).cloned().flatten())
    }

    async fn run(&mut self, context: &Context, call: &Call, props: Props) -> Result<pb::TagRun> {
        let experiment = match &props.experiment {
            Some(id) => self.name(context, call, id).await?,
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
    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<pb::ListResponse>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let part = request.into_inner().name_contains;
        let snapshot = self.context.store.snapshot().await.map_err(Error::from)?;
        let listed = entity_list::<Tag>(snapshot.as_ref(), call.project).await.map_err(Error::from)?;
        let counts = runs_counts(snapshot.as_ref(), call.project, Tag::KIND).await.map_err(Error::from)?;
        let counts: HashMap<String, i64> = counts.into_iter().collect();
        let found = listed.into_iter().filter(|(_, tag)| name_contains(&tag.name, &part));
        let tags = found.map(|(id, tag)| {
            let runs = counts.get(&id).copied().unwrap_or_default();
            view(id, tag, runs)
        });
        Ok(Response::new(pb::ListResponse { tags: tags.collect() }))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::GetResponse>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let id = request.into_inner().id;
        let tag = entities::get(&self.context, &call, &id).await?;
        let tag = counted(&self.context, &call, &id, tag).await?;
        Ok(Response::new(pb::GetResponse { tag: Some(tag) }))
    }

    async fn create(
        &self,
        request: Request<pb::CreateRequest>,
    ) -> Result<Response<pb::CreateResponse>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let request = request.into_inner();
        let now = (self.context.clock)();
        let tag = Tag {
            created_us: now,
            updated_us: now,
            name: entities::name("name", &request.name)?,
            color: bounded("color", request.color.trim(), limits::NAME_BYTES)?,
            description: bounded("description", request.description.trim(), limits::DESCRIPTION_BYTES)?,
            archived: false,
        };
        let id = entities::create(&self.context, &call, &tag).await?;
        Ok(Response::new(pb::CreateResponse { tag: Some(view(id, tag, 0)) }))
    }

    async fn update(
        &self,
        request: Request<pb::UpdateRequest>,
    ) -> Result<Response<pb::UpdateResponse>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let pb::UpdateRequest { id, name, color, description, archived } = request.into_inner();
        let name = entities::new_name("name", name.as_deref())?;
        let color = entities::new_text("color", color, limits::NAME_BYTES)?;
        let description = entities::new_text("description", description, limits::DESCRIPTION_BYTES)?;
        let now = (self.context.clock)();
        let changed = entities::update(&self.context, &call, &id, |tag: &mut Tag| {
            tag.updated_us = now;
            entities::set(&mut tag.name, name.as_ref());
            entities::set(&mut tag.color, color.as_ref());
            entities::set(&mut tag.description, description.as_ref());
            tag.archived = archived.unwrap_or(tag.archived);
        });
        let tag = counted(&self.context, &call, &id, changed.await?).await?;
        Ok(Response::new(pb::UpdateResponse { tag: Some(tag) }))
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteRequest>,
    ) -> Result<Response<pb::DeleteResponse>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let id = request.into_inner().id;
        let event = Kind::TagDeleted(TagDeleted { tag_id: id.clone() });
        entities::delete::<Tag>(&self.context, &call, &id, Some(event)).await?;
        Ok(Response::new(pb::DeleteResponse {}))
    }

    async fn list_runs(
        &self,
        request: Request<pb::ListRunsRequest>,
    ) -> Result<Response<pb::ListRunsResponse>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let pb::ListRunsRequest { id, limit, after_run_id } = request.into_inner();
        entities::get::<Tag>(&self.context, &call, &id).await?;
        let limit = if limit == 0 { usize::MAX } else { limit as usize };
        let range = keys::index_tag_all(call.project, &id);
        let row = |number| keys::index_tag(call.project, &id, number);
        let mut linked = Linked::behind(&self.context, &call, range, &after_run_id, row).await?;
        let (mut runs, mut names) = (Vec::new(), ExperimentNames::default());
        while runs.len() < limit
            && let Some(page) = linked.next(&self.context, &call).await?
        {
            let own = page.into_iter().filter(|(_, document)| document.props.tags.contains(&id));
            for (_, document) in own.take(limit - runs.len()) {
                runs.push(names.run(&self.context, &call, document.props).await?);
            }
        }
        Ok(Response::new(pb::ListRunsResponse { runs }))
    }
}
