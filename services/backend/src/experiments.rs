//! Experiments, and the runs in them.

use matyan_model::{
    entity::{Entity, Experiment, runs_count},
    keys,
    run::Props,
};
use matyan_proto::{
    experiments::v1::{self as pb, experiment_service_server::ExperimentService},
    limits,
    log::v1::{ExperimentDeleted, control_event::Kind},
};
use tonic::{Request, Response, Status};

use crate::{
    Backend, Deps,
    call::Call,
    entities::{self, PlainListing, RunCounts, bounded_text},
    error::Result,
    indexed_runs::{ActivityHours, IndexedRuns},
    stream::ResponseStream,
    view::ended_us,
};

fn view(id: String, experiment: Experiment, runs: i64) -> pb::Experiment {
    pb::Experiment {
        id,
        name: experiment.name,
        description: experiment.description,
        run_count: u32::try_from(runs).unwrap_or_default(),
        archived: experiment.archived,
        created_us: Some(experiment.created_us),
        updated_us: Some(experiment.updated_us),
    }
}

fn run(props: Props) -> pb::ExperimentRun {
    pb::ExperimentRun {
        ended_us: ended_us(&props),
        run_id: props.run_id,
        name: props.name,
        created_us: props.created_us,
        archived: props.archived,
    }
}

/// The experiment's view with its number of runs.
async fn view_with_runs(
    deps: &Deps,
    call: &Call,
    id: &str,
    experiment: Experiment,
) -> Result<pb::Experiment> {
    let snapshot = deps.store.snapshot().await?;
    let runs = runs_count(snapshot.as_ref(), call.project, Experiment::KIND, id).await?;
    Ok(view(id.to_owned(), experiment, runs))
}

#[tonic::async_trait]
impl ExperimentService for Backend {
    type ListStream = ResponseStream<pb::ListResponse>;
    type ListRunsStream = ResponseStream<pb::ListRunsResponse>;

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let part = request.into_inner().name_contains;
        let counts = RunCounts::read::<Experiment>(&self.deps, &call, part).await?;
        let list = PlainListing {
            created_us: |experiment: &Experiment| experiment.created_us,
            view: move |id: String, experiment: Experiment| {
                let runs = counts.runs(&id, &experiment.name)?;
                Some(view(id, experiment, runs))
            },
            answer: |experiments| pb::ListResponse { experiments },
        };
        Ok(Response::new(self.list_all(call, list)))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::GetResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let id = request.into_inner().id;
        let experiment = entities::get(&self.deps, &call, &id).await?;
        let experiment = view_with_runs(&self.deps, &call, &id, experiment).await?;
        Ok(Response::new(pb::GetResponse { experiment: Some(experiment) }))
    }

    async fn create(
        &self,
        request: Request<pb::CreateRequest>,
    ) -> Result<Response<pb::CreateResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let request = request.into_inner();
        let now = (self.deps.clock)();
        let experiment = Experiment {
            created_us: now,
            updated_us: now,
            name: entities::required_name("name", &request.name)?,
            description: bounded_text("description", &request.description, limits::DESCRIPTION_BYTES)?,
            archived: false,
        };
        let id = entities::create(&self.deps, &call, &experiment).await?;
        Ok(Response::new(pb::CreateResponse { experiment: Some(view(id, experiment, 0)) }))
    }

    async fn update(
        &self,
        request: Request<pb::UpdateRequest>,
    ) -> Result<Response<pb::UpdateResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let pb::UpdateRequest { id, name, description, archived } = request.into_inner();
        let name = entities::optional_name("name", name.as_deref())?;
        let description = entities::optional_text("description", description, limits::DESCRIPTION_BYTES)?;
        let now = (self.deps.clock)();
        let changed = entities::update(&self.deps, &call, &id, |experiment: &mut Experiment| {
            experiment.updated_us = now;
            entities::set_if_some(&mut experiment.name, name.as_ref());
            entities::set_if_some(&mut experiment.description, description.as_ref());
            experiment.archived = archived.unwrap_or(experiment.archived);
        });
        let experiment = view_with_runs(&self.deps, &call, &id, changed.await?).await?;
        Ok(Response::new(pb::UpdateResponse { experiment: Some(experiment) }))
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteRequest>,
    ) -> Result<Response<pb::DeleteResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let id = request.into_inner().id;
        let event = Kind::ExperimentDeleted(ExperimentDeleted { experiment_id: id.clone() });
        entities::delete::<Experiment>(&self.deps, &call, &id, Some(event)).await?;
        Ok(Response::new(pb::DeleteResponse {}))
    }

    async fn list_runs(
        &self,
        request: Request<pb::ListRunsRequest>,
    ) -> Result<Response<Self::ListRunsStream>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let pb::ListRunsRequest { id, limit, after_run_id } = request.into_inner();
        entities::get::<Experiment>(&self.deps, &call, &id).await?;
        let range = keys::index_experiment_all(call.project, &id);
        let row = |number| keys::index_experiment(call.project, &id, number);
        let mut indexed = IndexedRuns::after(&self.deps, &call, range, &after_run_id, row).await?;
        let deps = self.deps.clone();
        Ok(Response::new(self.respond(async move |sender| {
            let mut left = if limit == 0 { usize::MAX } else { limit as usize };
            while left > 0
                && let Some(page) = indexed.next(&deps, &call).await?
            {
                // Index rows may be outdated, so the document is checked.
                let own =
                    page.into_iter().filter(|(_, document)| document.props.experiment.as_ref() == Some(&id));
                let runs: Vec<_> = own.take(left).map(|(_, document)| run(document.props)).collect();
                left -= runs.len();
                if !runs.is_empty() {
                    sender.send(pb::ListRunsResponse { runs }).await?;
                }
            }
            Ok(())
        })))
    }

    async fn activity(
        &self,
        request: Request<pb::ActivityRequest>,
    ) -> Result<Response<pb::ActivityResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let pb::ActivityRequest { id, timezone_offset_min } = request.into_inner();
        entities::get::<Experiment>(&self.deps, &call, &id).await?;
        let mut answer = pb::ActivityResponse::default();
        let mut hours = ActivityHours::new(timezone_offset_min);
        let mut indexed = IndexedRuns::all(keys::index_experiment_all(call.project, &id));
        while let Some(page) = indexed.next(&self.deps, &call).await? {
            for (_, document) in page {
                let props = document.props;
                if props.experiment.as_ref() == Some(&id) {
                    answer.run_count += 1;
                    answer.archived_run_count += u32::from(props.archived);
                    answer.active_run_count += u32::from(props.active);
                    hours.add(props.created_us);
                }
            }
        }
        answer.hours = hours.into_counts();
        Ok(Response::new(answer))
    }
}
